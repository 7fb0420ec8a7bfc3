"""PPO and DPO on one task, with one budget and the same seeds: warm reviews from the small model.

    python days/Day02/compare.py            run what is missing from results.json, then write the table and the figure
    python days/Day02/compare.py --report   only write the table and the figure

Budget: NUM_TEXTS texts of the reference or the policy are scored. PPO scores its own, a batch at a time. DPO is given the
same number at once, in pairs, and learns from the pairs whose scores differ.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiment import command, difference, heed_signals, save, table, values

HERE = Path(__file__).resolve().parent
RESULTS, FIGURE = HERE / "results.json", HERE / "ppo_and_dpo.png"
SEEDS, NUM_TEXTS, NUM_TOKENS, NUM_EVAL_TEXTS = range(5), 2304, 20, 560
METRICS = {
    "sentiment": "sentiment (at most 3)",
    "win_rate": "wins against the base",
    "kl": "KL (nats)",
    "perplexity": "perplexity under the base",
    "distinct": "distinct texts",
    "cpu_seconds": "CPU seconds",
}


def run_ppo(seed: int) -> dict[str, float]:
    """D2's PPO at its defaults; sampling and scoring are part of its time."""
    from chapters.D_rlhf import D2_rlhf_llm_with_pytorch as lesson
    from chapters.text.ppo import PolicyWithValue
    from chapters.text.tasks import reviews_task

    def train(lm, log):
        cfg = lesson.Config(seed=seed)
        cfg = dataclasses.replace(cfg, num_updates=NUM_TEXTS // cfg.num_prompts)
        policy = PolicyWithValue(copy.deepcopy(lm.model)).requires_grad_(True)
        lesson.train(policy, lm.model, reviews_task(lm.tokenizer, NUM_TOKENS), cfg, log, "ppo")
        return policy

    return measured(seed, train)


def run_dpo(seed: int, num_epochs: int = 2) -> dict[str, float]:
    """D4's DPO, by default with its own two passes; writing the pairs is part of its time."""
    from chapters.D_rlhf import D4_direct_preference_optimization as lesson
    from chapters.text.pairs import review_pairs

    def train(lm, log):
        cfg = lesson.Config(seed=seed, num_epochs=num_epochs)
        pairs = lesson.add_reference(review_pairs(lm, NUM_TEXTS // 4, NUM_TOKENS, seed), lm.model)
        policy = copy.deepcopy(lm.model).requires_grad_(True)
        return lesson.train(policy, pairs, cfg, log)

    return measured(seed, train)


def measured(seed: int, train) -> dict[str, float]:
    """Train, with the clock running, and judge fresh texts as D4 does."""
    from chapters.text.models import load_model
    from chapters.text.pairs import judge
    from chapters.text.recipes import review_recipe
    from chapters.utils import CpuClock, RunLog
    from chapters.utils.seeding import seed_everything

    seed_everything(seed)
    lm = load_model("tiny", review_recipe())
    with tempfile.TemporaryDirectory() as folder:
        log, clock = RunLog(Path(folder) / "run", "Day02"), CpuClock()
        with clock:
            policy = train(lm, log)
        log.close()
    found, _ = judge(policy, lm, NUM_EVAL_TEXTS, NUM_TOKENS, seed)
    return {**found, "cpu_seconds": clock.seconds}


LONGER = "DPO, 16 passes (added afterwards)"
ARMS = {"PPO (D2)": run_ppo, "DPO (D4)": run_dpo, LONGER: lambda seed: run_dpo(seed, num_epochs=16)}
PLANNED = list(ARMS)[:2]


def block(results: dict) -> str:
    """What stands in the README between the marks."""
    lines = [table(results, METRICS), "", "PPO minus DPO, paired by seed:", ""]
    for metric in ("sentiment", "win_rate", "kl", "cpu_seconds"):
        lines.append(f"* {METRICS[metric]}: {difference(results, *PLANNED, metric)}")
    return "\n".join(lines)


def draw(results: dict) -> None:
    """Sentiment against KL, a dot for each seed."""
    from chapters.utils import plotting

    figure, ax = plotting.new_figure(width=7.0, height=4.6)
    for arm, colour in zip(ARMS, (plotting.BLUE, plotting.ORANGE, plotting.GREEN)):
        ax.plot(values(results, arm, "kl"), values(results, arm, "sentiment"), "o", color=colour, markersize=8, label=arm)
    ax.axhline(3.0, label="the most that counts", **plotting.REFERENCE)
    ax.set(xlabel="KL from the reference (nats a text)", ylabel="mean sentiment of fresh texts", xlim=(0, None), ylim=(0, 3.2))
    ax.set_title(f"{NUM_TEXTS} scored texts, a dot is a seed")
    ax.legend(loc="lower right")
    save(figure, FIGURE)


def main() -> None:
    command(RESULTS, ARMS, SEEDS, block, draw)


if __name__ == "__main__":
    heed_signals()
    main()
