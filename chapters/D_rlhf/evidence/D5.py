"""D5's evidence: the gradient of the first loss, pass@k, the family on the sums, and TRL's GRPOTrainer."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch

from chapters.D_rlhf import D5_grpo_verifiable_rewards as lesson
from chapters.D_rlhf.checks.D5 import EDITS
from chapters.D_rlhf.evidence import D5_trl
from chapters.text import tasks
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

ROWS: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "no division": {"divide": False},
    "beta 0": {"beta": 0.0},
    "GSPO's ratio": {"ratio": "sequence"},
    **{name: settings for name, settings in lesson.FAMILY.items() if name != "GRPO"},
}
"""What is trained for the same number of updates: one change each, then what the papers have."""


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_samples: Annotated[int, in_range(2, 10_000)] = 64
    """Answers to each held-out sum for pass@k."""
    num_family_updates: Annotated[int, in_range(1, 100_000)] = 50
    """Updates of each member of the family."""


SMOKE = {"num_samples": 8, "num_family_updates": 1}


def key(name: str) -> str:
    """A metric's name from a label."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def claim_first_gradient(log: RunLog) -> None:
    """The gradient of the first loss, as autograd finds it, beside (7)."""
    batch, policy, found = (log.kept[name] for name in ("first_batch", "first_policy", "first_gradient"))
    log_probs = tasks.log_probs_of(policy, batch)
    means = log_probs.sum(dim=1) / batch["completion_mask"].sum(dim=1)  # [B]
    by_hand = -(batch["advantages"] * means).mean()  # its gradient is (7)
    (expected,) = torch.autograd.grad(by_hand, policy.table)
    log.claim(
        "first_gradient_gap",
        "the gradient of the first loss is minus the mean of advantage times gradient of log-probability",
        ((found - expected).norm() / expected.norm()).item(),
        at_most=1e-10,
        unit="of its norm",
        source="(4) at ratio 1",
        always=True,
        seeds="10/10",
    )


def claim_before(log: RunLog) -> None:
    """Where the base starts: something to learn, and something to learn from."""
    for how, target in (("greedy", 0.3), ("sampled", 0.17)):
        log.claim(
            f"{how}_before",
            f"before training the base is right now and then, {how}",
            log.series(f"ours_{how}")[1][0],
            near=(target, 0.15),
            unit="share of held-out sums",
            source="the course's bar",
        )


def claim_more_tries(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """pass@k and entropy, before and after."""
    for name, policy in {"before": log.kept["base"], "after": log.kept["policy"]}.items():
        num_correct, entropy = tasks.count_right(policy, log.kept["held_out"], extra.num_samples, cfg.seed)
        log.write(0, **{f"entropy_{name}": entropy})
        for power in range(extra.num_samples.bit_length()):
            k = 2**power
            log.write(k, **{f"pass_{name}": tasks.pass_at_k(num_correct, extra.num_samples, k)})
    log.claim(
        "entropy_ratio",
        "the policy ends surer of itself: entropy of a token after training, over that before",
        log.last("entropy_after") / log.last("entropy_before"),
        at_most=1.0,
        unit="times",
        source="the base model, same prompts",
    )
    gains = [
        after - before for after, before in zip(log.series("pass_after")[1], log.series("pass_before")[1])
    ]
    log.claim(
        "gain_at_one_over_many",
        "training gains more for one try than for many: gain in pass@1 less gain in pass@k at the largest k",
        gains[0] - gains[-1],
        at_least=0.0,
        unit="share of held-out sums",
        source="yue2025reasoning",
    )


def train_family(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Each row of the family from the same base, with the same seed, for the same number of updates."""
    base, num = log.kept["base"], extra.num_family_updates
    for name, settings in ROWS.items():
        module = edited(lesson, EDITS["dynamic_sampling"]) if name == "DAPO" else lesson
        changed = replace(cfg, num_updates=num, **settings)
        watch = tasks.accuracy_watcher(f"family_{key(name)}", log.kept["held_out"], num, cfg.seed, log, num)
        policy = copy.deepcopy(base).requires_grad_(True)
        module.train(policy, base, log.kept["task"], changed, log, f"family_{key(name)}", watch)


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_first_gradient(log)
    claim_before(log)
    if cfg.model == "tiny":  # the recorded bounds are of this model
        D5_trl.compare(cfg, log)
        train_family(cfg, extra, log)
    claim_more_tries(cfg, extra, log)
    if cfg.model == "tiny":
        draw_family([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figure over all seeds."""
    draw_family(runs, log)


def last(run: dict, metric: str) -> float:
    """A run's latest value of a metric."""
    return run["metrics"][metric][-1][1]


def draw_family(runs: Sequence[dict], log: RunLog) -> None:
    """pass@k and accuracy against CPU seconds of the first run; the family with a dot for each run."""
    figure, (tries, race, family) = plotting.new_figure(1, 3, width=5.4, height=4.4)
    metrics = runs[0]["metrics"]
    for name, colour in (("after", plotting.BLUE), ("before", "grey")):
        label = f"{name}, entropy {last(runs[0], f'entropy_{name}'):.2f} nats a token"
        tries.plot(*zip(*metrics[f"pass_{name}"]), "o-", color=colour, label=label)
    ticks = [k for k, _ in metrics["pass_after"]]
    tries.set(xlabel="k, answers to each sum", ylabel="pass@k", xscale="log", ylim=(0, 1.04))
    tries.set_xticks(ticks, [str(k) for k in ticks])
    tries.minorticks_off()
    tries.set_title("One try gains most")
    tries.legend(loc="lower right")

    for name, colour, label in (("ours", plotting.BLUE, "ours"), ("trl", plotting.ORANGE, "TRL")):
        seconds = [value for _, value in metrics[f"{name}_cpu_seconds"]]
        for how, line in (("greedy", "-"), ("sampled", ":")):
            shares = [value for _, value in metrics[f"{name}_{how}"]]
            race.plot(seconds, shares, line, color=colour, label=f"{label}, {how}")
    race.axhline(0.9, label="bar for greedy", **plotting.REFERENCE)
    race.set(xlabel="CPU seconds of training", ylabel="held-out sums right", ylim=(0, 1.02))
    race.set_title("Beside TRL, same steps")
    race.legend(loc="lower right")

    rows = {name: [last(run, f"family_{key(name)}_sampled") for run in runs] for name in ROWS}
    colours = [plotting.BLUE, *[plotting.ORANGE] * 3, *[plotting.GREEN] * len(rows)]
    plotting.dot_rows(family, rows, colours)
    num = metrics["family_grpo_sampled"][-1][0]
    family.set(xlabel=f"held-out sums right after {num} updates, sampled", title="One change; one paper")
    log.figure(figure, "family")
