"""GRPO on D5's sums with one thing changed at a time: group size, beta, division by the standard deviation.

    python days/Day03/study.py            run what is missing from results.json, then write the table and the figure
    python days/Day03/study.py --report   only write the table and the figure
"""

from __future__ import annotations

import copy
import dataclasses
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np
from experiment import command, difference, heed_signals, save, table, values

RESULTS, FIGURE = HERE / "results.json", HERE / "study.png"
SEEDS, NUM_UPDATES, NUM_SAMPLES = range(3), 80, 4
AS_IN_D5 = "G 8, beta 0.02, divided"
SETTINGS = {  # 256 answers in every update
    AS_IN_D5: {},
    "G 2": {"group_size": 2, "num_prompts": 128},
    "G 4": {"group_size": 4, "num_prompts": 64},
    "G 16": {"group_size": 16, "num_prompts": 16},
    "beta 0": {"beta": 0.0},
    "beta 0.2": {"beta": 0.2},
    "not divided": {"divide": False},
    "not divided, beta 0": {"divide": False, "beta": 0.0},
}
METRICS = {
    "sampled": "sampled accuracy",
    "greedy": "greedy accuracy",
    "entropy": "entropy (nats a token)",
    "silent": "groups without spread",
}


def train(seed: int, changes: dict) -> dict[str, float]:
    """One run: accuracies on all held-out sums at the end, and the share of groups that taught nothing."""
    from chapters.D_rlhf import D5_grpo_verifiable_rewards as lesson
    from chapters.text import tasks
    from chapters.text.grpo import informative
    from chapters.text.models import load_model
    from chapters.text.recipes import arithmetic_recipe
    from chapters.utils import RunLog
    from chapters.utils.seeding import seed_everything

    seed_everything(seed)
    cfg = dataclasses.replace(lesson.Config(seed=seed, num_updates=NUM_UPDATES), **changes)
    base, tokenizer = load_model("tiny", arithmetic_recipe(cfg.pretrain_steps))
    _, task = tasks.sums_task(tokenizer)
    _, test = tasks.sums_task(tokenizer, held_out=True)
    silent = []

    def watched(rows, completion_ids):
        rewards = task.score(rows, completion_ids)
        silent.append(1.0 - float(informative(rewards.view(-1, cfg.group_size)).float().mean()))
        return rewards

    policy = copy.deepcopy(base).requires_grad_(True)
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(Path(folder) / "run", "Day03")
        lesson.train(policy, base, task._replace(score=watched), cfg, log, "study")
        log.close()
    right, entropy = tasks.count_right(policy, test, NUM_SAMPLES, seed)
    return {
        "sampled": float(np.mean(right)) / NUM_SAMPLES,
        "greedy": float(np.mean(tasks.count_right(tasks.greedy(policy), test, 1, seed)[0])),
        "entropy": entropy,
        "silent": float(np.mean(silent)),
    }


def block(results: dict) -> str:
    """What stands in the README between the marks."""
    others = list(SETTINGS)[1:]
    lines = [table(results, METRICS), "", f"Sampled accuracy minus that of *{AS_IN_D5}*, paired by seed. The intervals"]
    lines += [f"are wide enough for all {len(others)} comparisons together (Bonferroni, 95 %):", ""]
    lines += [f"* {name}: {difference(results, name, AS_IN_D5, 'sampled', len(others))}" for name in others]
    return "\n".join(lines)


def draw(results: dict) -> None:
    """A row a setting, a dot a seed."""
    from chapters.utils import plotting

    figure, ax = plotting.new_figure(width=7.6, height=4.4)
    rows = {name: values(results, name, "sampled") for name in SETTINGS}
    plotting.dot_rows(ax, rows, [plotting.BLUE, *[plotting.ORANGE] * (len(rows) - 1)])
    ax.axvline(values(results, AS_IN_D5, "sampled").mean(), **plotting.REFERENCE)
    ax.set(xlabel=f"sampled accuracy on held-out sums after {NUM_UPDATES} updates", xlim=(0, 1))
    ax.set_title("One thing changed at a time; a dot is a seed")
    save(figure, FIGURE)


def main() -> None:
    arms = {name: lambda seed, changes=changes: train(seed, changes) for name, changes in SETTINGS.items()}
    command(RESULTS, arms, SEEDS, block, draw)


if __name__ == "__main__":
    heed_signals()
    main()
