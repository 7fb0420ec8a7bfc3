"""The same files and graders as the submission, on this machine: D5's GRPO trains the small model of sums.

    python days/Day01/train_here.py            run what is missing from results.json, then write the table and the figure
    python days/Day01/train_here.py --report   only write the table and the figure

Two arms that differ in the grader alone. Accuracy is always that of the exact check, on the validation file.
"""

from __future__ import annotations

import copy
import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np
import rft
from experiment import command, difference, heed_signals, save, table

RESULTS, FIGURE = HERE / "results.json", HERE / "graders.png"
SEEDS, NUM_UPDATES, EVERY, NUM_SAMPLES, HALF_WAY = range(5), 120, 10, 16, 0.5
ARMS = {"exact check": "string_check", "exact and digits": "multi"}
METRICS = {
    "before": "sampled accuracy before",
    "updates": f"updates until it is {HALF_WAY:g}",
    "after": "sampled accuracy after",
    "greedy": "greedy accuracy after",
}


def make_task(tokenizer, items: list[dict], grader: dict):
    """D5's task from a file's items: the model reads the last line of the message, the grader the whole item."""
    import torch

    from chapters.envs.arithmetic import ANSWER_TOKENS
    from chapters.text.tasks import Task

    prompts = [item["messages"][-1]["content"].splitlines()[-1] for item in items]
    encoded = tokenizer(prompts, return_tensors="pt", padding=True)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id

    def text(ids: list[int]) -> str:
        """What stands before the end token; special tokens that were written stay visible."""
        return tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)

    def score(rows: torch.Tensor, completion_ids: torch.Tensor) -> torch.Tensor:
        pairs = zip(rows.tolist(), completion_ids.tolist())
        return torch.tensor([rft.grade(grader, items[row], text(ids)) for row, ids in pairs])

    return Task(encoded["input_ids"], encoded["attention_mask"], end, pad, ANSWER_TOKENS, score)


def train(seed: int, grader_name: str) -> dict[str, float]:
    """One run: accuracies on the validation file by the exact check, before, meanwhile and after."""
    from chapters.D_rlhf import D5_grpo_verifiable_rewards as lesson
    from chapters.text import tasks
    from chapters.text.models import load_model
    from chapters.text.recipes import arithmetic_recipe
    from chapters.utils import RunLog
    from chapters.utils.seeding import seed_everything

    seed_everything(seed)
    cfg = lesson.Config(seed=seed, num_updates=NUM_UPDATES)
    base, tokenizer = load_model("tiny", arithmetic_recipe(cfg.pretrain_steps))
    exact, grader = (rft.read_grader(rft.GRADERS / f"{name}.json") for name in ("string_check", grader_name))
    task = make_task(tokenizer, rft.read_lines(rft.DATA / "training.jsonl"), grader)
    test = make_task(tokenizer, rft.read_lines(rft.DATA / "validation.jsonl"), exact)

    def accuracy(policy, num_samples: int) -> float:
        return float(np.mean(tasks.count_right(policy, test, num_samples, seed)[0])) / num_samples

    curve = {0: accuracy(base, NUM_SAMPLES)}

    def watch(policy, step: int) -> None:
        if step % EVERY == 0:
            curve[step] = accuracy(policy, NUM_SAMPLES)

    policy = copy.deepcopy(base).requires_grad_(True)
    with tempfile.TemporaryDirectory() as folder:
        log = RunLog(Path(folder) / "run", "Day01")
        lesson.train(policy, base, task, cfg, log, "here", watch)
        log.close()
    reached = next((step for step, value in curve.items() if value >= HALF_WAY), NUM_UPDATES + EVERY)
    points = {f"at_{step}": value for step, value in curve.items()}
    return {
        "before": curve[0],
        "after": curve[NUM_UPDATES],
        "greedy": accuracy(tasks.greedy(policy), 1),
        "updates": reached,
        **points,
    }


def block(results: dict) -> str:
    """What stands in the README between the marks."""
    lines = [table(results, METRICS), "", "Exact and digits minus the exact check alone, paired by seed:", ""]
    for metric in ("updates", "after", "greedy"):
        lines.append(f"* {METRICS[metric]}: {difference(results, *reversed(ARMS), metric)}")
    return "\n".join(lines)


def draw(results: dict) -> None:
    """Accuracy against updates: a line a seed, the mean thick."""
    from chapters.utils import plotting

    figure, ax = plotting.new_figure(width=7.0, height=4.4)
    for arm, colour in zip(ARMS, (plotting.BLUE, plotting.ORANGE)):
        runs = [results[arm][seed] for seed in sorted(results[arm], key=int)]
        steps = sorted(int(found[1]) for name in runs[0] if (found := re.fullmatch(r"at_(\d+)", name)))
        curves = np.array([[run[f"at_{step}"] for step in steps] for run in runs])
        ax.plot(steps, curves.T, color=colour, linewidth=0.7, alpha=0.5)
        ax.plot(steps, curves.mean(0), color=colour, linewidth=2.6, label=f"grader: {arm}")
    ax.axhline(HALF_WAY, label="half of the answers right", **plotting.REFERENCE)
    ax.set(xlabel="update (256 answers each)", ylabel="sampled accuracy, exact check", ylim=(0, 1))
    ax.set_title("Held-out sums; thin lines are seeds")
    ax.legend(loc="lower right")
    save(figure, FIGURE)


def main() -> None:
    arms = {arm: lambda seed, name=name: train(seed, name) for arm, name in ARMS.items()}
    command(RESULTS, arms, SEEDS, block, draw)


if __name__ == "__main__":
    heed_signals()
    main()
