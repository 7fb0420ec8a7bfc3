"""D12's evidence: every kind and size of mismatch, staleness, length, a policy that can write anything.

All of it is computed by listing every text. Only the processes are timed.
"""

import copy
import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from chapters.D_rlhf import D12_stale_samples as lesson
from chapters.D_rlhf.evidence.D12_processes import LAGS, WAIT, processes
from chapters.envs.token_world import TokenWorld, token_world
from chapters.text import tasks
from chapters.text.charts import draw_shortfalls
from chapters.text.serving import AdaptedPolicy, Server, share
from chapters.text.tasks import log_probs_of
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.optim import Adam

RULE = {"source": "enumeration of all texts"}
EXACT = {"noise": 0.0, "temperature": 1.0, "rounding": "float64"}
"""A server that computes as the trainer does."""
NOISES = (0.0, 0.1, 0.25, 0.5, 1.0)
TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0)
OFFSETS = (0.0, 8.0, 32.0, 128.0)
"""Added to every logit, which changes no policy, before the server rounds to bfloat16."""
MISMATCHES = {  # where learners are followed to their end, beside the lesson's own
    "temperature 0.7": {"noise": 0.0, "temperature": 0.7},
}
AGES = (0, 1, 2, 4, 8, 16, 32)  # updates between the policy that wrote and the one that learns
END_LAG = 16
LENGTHS = (1, 2, 3, 4, 5, 6)
SIX = ("none", "token", "sequence", "sequence_truncated", "sequence_masked", "clip")  # drawn as curves
PASSES = {  # several passes over stale texts -> (label, changes)
    "decoupled": ("decoupled, sequence weights", {"weighting": "sequence"}),
    "around_trainer": ("clip around the trainer, no weights", {"weighting": "none"}),
    "around_sampler": ("clip around the sampler", {"weighting": "none", "proximal": "sampler"}),
}
LOOKS = {
    "none": plotting.ORANGE,
    "token": plotting.SKY,
    "sequence": plotting.BLUE,
    "sequence_truncated": plotting.GREEN,
    "sequence_masked": plotting.PURPLE,
    "clip": plotting.RED,
}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_timed_updates: Annotated[int, in_range(1, 100_000)] = 30
    """Updates at each lag with a sampler in a process of its own."""
    num_passes: Annotated[int, in_range(1, 100)] = 4
    """Passes over each batch where the clip is compared."""
    lag_of_passes: Annotated[int, in_range(0, 1000)] = 16
    """Age of the texts there, in batches."""
    num_updates_of_passes: Annotated[int, in_range(1, 100_000)] = 40
    """Batches there."""


SMOKE = {"num_timed_updates": 2, "num_updates_of_passes": 2, "lag_of_passes": 1}


def key(name: str) -> str:
    """A metric's name from a label."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def mismatches(cfg: lesson.Config, log: RunLog) -> None:
    """Bias and spread of each estimator against noise, temperature and rounding, midway to the best adapter.

    Steps are the size of the mismatch: noise and temperature in hundredths, what is added to each logit.
    """
    world, midway = log.kept["world"], log.kept["midway"]
    exact = dataclasses.replace(cfg, **EXACT)
    cases = [("noise", value, {"noise": value}) for value in NOISES]
    cases += [("temperature", value, {"temperature": value}) for value in TEMPERATURES]
    cases += [("rounding", value, {"rounding": "bfloat16"}) for value in OFFSETS]
    for kind, value, changes in cases:
        policy = shifted(midway, value) if kind == "rounding" else midway
        step = round(value if kind == "rounding" else 100 * value)
        for name in lesson.LABELS:
            changed = dataclasses.replace(exact, **changes, **lesson.settings(name))
            bias, spread = lesson.bias_and_spread(world, policy, policy, changed)
            log.write(step, **{f"{kind}_bias_{name}": bias, f"{kind}_spread_{name}": spread})


def shifted(policy: AdaptedPolicy, offset: float) -> AdaptedPolicy:
    """The same policy with `offset` added to every logit."""
    found = copy.deepcopy(policy)
    with torch.no_grad():
        found.reference.table += offset
    return found


def mean_square(world: TokenWorld, policy: torch.nn.Module, cfg: lesson.Config) -> float:
    """Mean squared norm of one text's estimate under the server's texts."""
    batch = tasks.every_completion(world)
    with torch.no_grad():
        sampler = log_probs_of(Server(policy, world, cfg), batch)
    mean, variance = lesson.moments(policy, sampler, batch, world, cfg)
    return variance + mean.square().sum().item()


def claim_caps(cfg: lesson.Config, log: RunLog) -> None:
    """A cap never raises the mean square, whatever the cap and the mismatch."""
    world, midway = log.kept["world"], log.kept["midway"]
    worst = 0.0
    for changes in ({}, *MISMATCHES.values()):
        changed = dataclasses.replace(cfg, **changes)
        uncut = mean_square(world, midway, dataclasses.replace(changed, weighting="sequence"))
        for kind, cap in itertools.product(("truncated", "masked"), (1.0, 2.0, 5.0)):
            cut = dataclasses.replace(changed, weighting=f"sequence_{kind}", cap=cap)
            worst = max(worst, mean_square(world, midway, cut) / uncut)
    log.claim(
        "cap_second_moment",
        "a cap on a text's ratio, truncated or masked, never raises the mean square of its estimate",
        worst,
        at_most=1.0 + 1e-12,
        unit="of the mean square without a cap",
        source="no weight is larger than before, and a text's tokens share it",
        always=True,
        seeds="5/5",
    )


def ages(cfg: lesson.Config, log: RunLog) -> None:
    """Bias and spread of each estimator against the age of the texts; step: updates."""
    world = log.kept["world"]
    exact = dataclasses.replace(cfg, **EXACT)
    tables = climb(world, exact, max(AGES))
    trainer, whole, clipped = tables[-1], [], []
    for age in AGES:
        older = tables[len(tables) - 1 - age]
        for name in lesson.LABELS:
            changed = dataclasses.replace(exact, **lesson.settings(name))
            bias, spread = lesson.bias_and_spread(world, trainer, older, changed)
            log.write(age, **{f"age_bias_{name}": bias, f"age_spread_{name}": spread})
        whole.append(log.last("age_bias_sequence"))
        clipped += [log.last(f"age_bias_{name}") for name in ("none", "clip") if age > 0]
        kl, _ = divergence(world, trainer, Server(older, world, exact))
        log.write(age, age_kl=kl)
    rule = {"unit": "of the exact gradient's norm", "always": True, "seeds": "5/5"}
    log.claim(
        "stale_bias",
        "weighed by the whole text's ratio, texts of any age give the exact gradient at the first pass",
        max(whole),
        at_most=1e-9,
        **RULE,
        **rule,
    )
    log.claim(
        "stale_clip",
        "a clip corrects no old text: around the trainer or the sampler, it leaves a bias at every age",
        min(clipped),
        at_least=1e-6,
        source="a thousand times what rounding may leave of stale_bias",
        **rule,
    )


def climb(world: TokenWorld, cfg: lesson.Config, num_updates: int) -> list[AdaptedPolicy]:
    """The policies that Adam passes on the exact gradient of E[r] - beta KL, the reference first."""
    policy = AdaptedPolicy(world)
    optimizer, passed = Adam([policy.table], lr=0.5 * cfg.learning_rate), [copy.deepcopy(policy)]
    for _ in range(num_updates):
        optimizer.zero_grad()
        (-world.objective(world.log_probs(policy), cfg.beta)).backward()
        optimizer.step()
        passed.append(copy.deepcopy(policy))
    return passed


def divergence(world: TokenWorld, trainer: torch.nn.Module, server: Server) -> tuple[float, float]:
    """(KL(trainer || sampler) in nats a text, mean squared ratio of a text under the sampler)."""
    batch = tasks.every_completion(world)
    with torch.no_grad():
        ours = log_probs_of(trainer, batch).sum(dim=1)
        theirs = log_probs_of(server, batch).sum(dim=1)
    kl = (ours.exp() * (ours - theirs)).sum() / world.num_prompts
    return kl.item(), (2 * ours - theirs).exp().sum().item() / world.num_prompts


def ends(cfg: lesson.Config, log: RunLog) -> None:
    """Where learners end with other mismatches, with old texts, and with a policy that can write anything."""
    world, best = log.kept["world"], log.kept["best"]
    for label, changes in MISMATCHES.items():
        for name in lesson.LABELS:
            changed = dataclasses.replace(cfg, lag=0, **changes, **lesson.settings(name))
            end, _ = lesson.exact_end(world, changed)
            log.write(0, **{f"end_{key(label)}_{name}": share(world, end, best, cfg.beta)})
    log.claim(
        "end_clip",
        "on a noisy server's texts a clip around the sampler, too, ends elsewhere, and lower",
        log.last("end_clip"),
        at_most=0.999,
        unit="of the best adapter's objective",
        seeds="4/5",
        **RULE,
    )
    shares = []
    # what a step may be falls with the age of what it is taken on: half as large, twice as many
    slower = {"lag": END_LAG, "learning_rate": cfg.learning_rate / 2, "num_updates": 2 * cfg.num_updates}
    for name in lesson.LABELS:
        changed = dataclasses.replace(cfg, **{**EXACT, **lesson.settings(name), **slower})
        end, _ = lesson.exact_end(world, changed)
        shares.append(share(world, end, best, cfg.beta))
        log.write(0, **{f"end_age_{name}": shares[-1]})
    log.claim(
        "stale_ends",
        "with texts of 16 updates ago from an exact server, and small steps, all end at the best adapter",
        min(shares),
        at_least=0.99,
        unit="of the best adapter's objective",
        source="at rest the old policy is the new one, and every ratio 1",
        seeds="4/5",
    )
    gaps = []
    for name in ("none", "sequence_masked"):
        changed = dataclasses.replace(cfg, lag=0, **lesson.settings(name))
        end, _ = lesson.exact_end(world, changed, world.reference(torch.float64))
        gaps.append(world.gap_closed(world.log_probs(end), cfg.beta))
        log.write(0, **{f"end_table_{name}": gaps[-1]})
    log.claim(
        "table_end",
        "without weights, a policy that can write every distribution still ends at the exact optimum",
        gaps[0],
        at_least=0.99,
        unit="of the gap to the exact optimum",
        source="there (5) is the same for all texts: every advantage is 0",
        seeds="4/5",
    )


def passes(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """The expected update in several passes over stale texts: with weights and a clip, or a clip alone."""
    world, best, batch = log.kept["world"], log.kept["best"], tasks.every_completion(log.kept["world"])
    mask = batch["completion_mask"]
    for name, (_, changes) in PASSES.items():
        changed = dataclasses.replace(cfg, **EXACT, **changes, lag=extra.lag_of_passes)
        policy = AdaptedPolicy(world)
        optimizer = Adam([policy.table], lr=0.5 * cfg.learning_rate)
        passed: deque[torch.nn.Module] = deque(maxlen=extra.lag_of_passes + 1)
        for i in range(extra.num_updates_of_passes):
            log.write(i, **{f"passes_{name}": share(world, policy, best, cfg.beta)})
            passed.append(copy.deepcopy(policy))
            with torch.no_grad():
                old, sampler = (log_probs_of(one, batch) for one in (policy, passed[0]))
            probs = sampler.sum(dim=1).exp() / world.num_prompts
            worth = lesson.penalised(world.rewards.flatten(), old, batch["ref_log_probs"], cfg.beta)
            groups = (probs * worth).view(world.num_prompts, -1).sum(dim=1) * world.num_prompts
            judged = worth - groups.repeat_interleave(len(world.completion_ids))
            proximal = old if changed.proximal == "trainer" else sampler
            for _ in range(extra.num_passes):
                now = log_probs_of(policy, batch)
                losses = lesson.surrogate(now, proximal, sampler, judged, mask, changed) * mask
                optimizer.zero_grad()
                (probs[:, None] * losses).sum().backward()
                optimizer.step()
        log.write(extra.num_updates_of_passes, **{f"passes_{name}": share(world, policy, best, cfg.beta)})


def lengths(cfg: lesson.Config, log: RunLog) -> None:
    """What the ratio of a whole text costs as texts get longer; step: tokens at most."""
    margins = []
    for length in LENGTHS:
        world = token_world(cfg.seed, **{**lesson.WORLD, "length": length})
        policy = AdaptedPolicy(world)
        kl, square = divergence(world, policy, Server(policy, world, cfg))
        margins.append(square / math.exp(kl))
        log.write(length, length_kl=kl, length_square=square)
        for name in SIX:
            changed = dataclasses.replace(cfg, **lesson.settings(name))
            _, spread = lesson.bias_and_spread(world, policy, policy, changed)
            log.write(length, **{f"length_spread_{name}": spread})
    log.claim(
        "square_above_kl",
        "the mean square of a text's ratio is at least e to the divergence of trainer from sampler",
        min(margins),
        at_least=1.0 - 1e-12,
        unit="times e to the KL divergence of a text, smallest of six lengths",
        source="Jensen's inequality",
        always=True,
        seeds="5/5",
    )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    mismatches(cfg, log)
    claim_caps(cfg, log)
    ages(cfg, log)
    ends(cfg, log)
    passes(cfg, extra, log)
    lengths(cfg, log)
    processes(dataclasses.replace(cfg, num_updates=extra.num_timed_updates, group_size=8), log)
    draw_mismatches(log)
    draw_ages(log)
    draw_cost(log)
    draw_ends([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figure over all seeds."""
    draw_ends(runs, log)


# Figures


def draw_mismatches(log: RunLog) -> None:
    """Bias and spread against noise, bias against temperature and against rounding."""
    figure, axes = plotting.new_figure(2, 2, width=6.2, height=4.4)
    (bias, spread), (warm, rounded) = axes
    panels = (
        (bias, "noise_bias", 100, "standard deviation of the noise on the server's logits"),
        (spread, "noise_spread", 100, "standard deviation of the noise on the server's logits"),
        (warm, "temperature_bias", 100, "temperature of the server"),
        (rounded, "rounding_bias", 1, "added to all logits before they become bfloat16"),
    )
    for ax, metric, scale, xlabel in panels:
        for name in SIX:
            steps, values = log.series(f"{metric}_{name}")
            look = {"color": LOOKS[name], "marker": "o", "label": lesson.LABELS[name]}
            ax.plot([step / scale for step in steps], values, **look)
        ax.set(xlabel=xlabel, ylabel="bias / norm of the exact gradient", ylim=(-0.03, None))
    warm.set_xscale("log")
    warm.set_xticks(TEMPERATURES, [f"{value:g}" for value in TEMPERATURES])
    warm.minorticks_off()
    spread.set(ylabel="standard deviation / same norm", ylim=(0.0, None))
    spread.legend(loc="upper left", fontsize=10)
    titles = "Bias, by noise", "Spread of one text's estimate", "Bias, by temperature", "Bias, by rounding"
    for ax, title in zip(axes.flat, titles):
        ax.set_title(title)
    log.figure(figure, "mismatch")


def draw_ages(log: RunLog) -> None:
    """Bias and spread against the age of the texts; several passes over old texts."""
    figure, (bias, spread, chart) = plotting.new_figure(1, 3, width=5.4, height=4.6)
    for name in SIX:
        look = {"color": LOOKS[name], "marker": "o", "label": lesson.LABELS[name]}
        bias.plot(*log.series(f"age_bias_{name}"), **look)
        spread.plot(*log.series(f"age_spread_{name}"), **look)
    for ax in (bias, spread):
        ax.set_xlabel("age of the texts (updates)")
    bias.set(ylabel="bias / norm of the exact gradient", title="Bias, by age")
    spread.set(ylabel="standard deviation / same norm", title="Spread of one text's estimate")
    bias.legend(loc="upper left", fontsize=10)
    colours = (plotting.BLUE, plotting.ORANGE, plotting.RED)
    for (name, (label, _)), colour in zip(PASSES.items(), colours):
        chart.plot(*log.series(f"passes_{name}"), color=colour, label=label)
    chart.axhline(1.0, label="the best adapter", **plotting.REFERENCE)
    chart.set(xlabel="batches learnt from, each 16 batches old", ylabel="objective / the best adapter's")
    chart.set_title("Four passes over each batch")
    chart.legend(loc="lower right", fontsize=10)
    log.figure(figure, "stale")


def draw_cost(log: RunLog) -> None:
    """What length costs a text's ratio; what age brings in updates a second."""
    figure, (square, spread, rate) = plotting.new_figure(1, 3, width=5.4, height=4.6)
    square.plot(*log.series("length_square"), "o-", label="mean square of a text's ratio")
    tokens, kl = log.series("length_kl")
    square.plot(
        tokens, [math.exp(value) for value in kl], label="e to the KL divergence", **plotting.REFERENCE
    )
    square.set(xlabel="tokens of a text, at most", title="A text's ratio, by length")
    square.set_ylabel("mean square under the sampler")
    square.legend(loc="upper left", fontsize=10)
    for name in SIX:
        spread.plot(*log.series(f"length_spread_{name}"), "o-", color=LOOKS[name], label=lesson.LABELS[name])
    spread.set(xlabel="tokens of a text, at most", title="Spread of one text's estimate")
    spread.set_ylabel("deviation / the exact gradient's norm")
    spread.legend(loc="upper left", fontsize=10)
    rate.plot(*log.series("process_updates_per_second"), "o", label="measured, wall clock")
    rate.plot(*log.series("possible_updates_per_second"), "-", label="if only the waits took time")
    rate.axhline(1.0 / WAIT, label="limit: neither side ever idle", **plotting.REFERENCE)
    rate.set(xlabel="lag (updates)", ylabel="updates a second", title="A second process as the sampler")
    rate.set_xticks(LAGS)
    rate.set_ylim(bottom=0)
    rate.legend(loc="lower right", fontsize=10)
    log.figure(figure, "cost")


def draw_ends(runs: Sequence[dict], log: RunLog) -> None:
    """Where each learner ends, a dot for each run: two mismatches, and old texts."""
    figure, axes = plotting.new_figure(1, 3, width=5.6, height=4.6)
    panels = {
        "Noise 0.5": "end_{}",
        "Temperature 0.7": "end_temperature_0_7_{}",
        f"Exact, {END_LAG} updates old": "end_age_{}",
    }
    colours = [LOOKS.get(name, plotting.YELLOW) for name in lesson.LABELS]
    for ax, (title, metric) in zip(axes, panels.items()):
        rows = {
            label: [run["metrics"][metric.format(name)][-1][1] for run in runs]
            for name, label in lesson.LABELS.items()
        }
        draw_shortfalls(ax, rows, colours)
        ax.set_title(title)
    axes[0].legend(loc="lower left", fontsize=10)
    for ax in axes[1:]:
        ax.set_yticklabels([])
    log.figure(figure, "ends")
