"""E11's evidence: (1) against rollouts, no way back, open rewards, the error of weights from samples."""

from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np

from chapters.E_practice import E11_imitation_and_inverse as lesson
from chapters.E_practice.checks.E11 import EDITS
from chapters.exact.finite_horizon import feature_covariances, gain_share, plan
from chapters.exact.gardens import NEW, OLD, World, demonstrate
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

NUM_DEMOS = (100, 300, 1000, 3000)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
SIGNS = {"h": "home", "m": "mud", "w": "water", "#": "wall", ".": ""}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_repeats: Annotated[int, in_range(2, 10_000)] = 100
    """Batches of demonstrations of each size, from which weights are inferred."""


SMOKE = {"num_repeats": 2}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 1))  # not the draws of the lesson itself
    claim_costs(cfg, log)
    claim_no_way_back(cfg, log)
    claim_open_rewards(log, rng)
    claim_changed_garden(log)
    claim_errors(extra, log, rng)
    draw_all([log.metrics], log)
    draw_gardens(log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    metrics = [run["metrics"] for run in runs]
    lesson.draw(metrics, log)
    draw_all(metrics, log)


# The road


def claim_costs(cfg: lesson.Config, log: RunLog) -> None:
    shares = [
        lesson.expected_cost(error, recovery, horizon) / (error * horizon**2)
        for error, recovery, horizon in product((1e-4, 0.01, 0.3, 1.0), (0.0, 0.5, 1.0), lesson.HORIZONS)
    ]
    log.claim(
        "cloning_bound",
        "no driver who errs with chance eps on the road costs more than eps T^2",
        max(shares),
        at_most=1.0,
        unit="largest cost / bound",
        source="ross2010efficient, theorem 2.1",
        always=True,
    )
    gaps = []
    for name in ("clone", "dagger"):
        found, errors, exact = (log.series(f"{what}_{name}")[1] for what in ("cost", "stderr", "exact"))
        gaps += [abs(x - y) / max(error, 1 / cfg.num_measured) for x, error, y in zip(found, errors, exact)]
    log.claim(
        "rollouts_agree",
        "measured costs scatter about (1) as their standard errors say",
        max(gaps),
        at_most=4.0,
        unit="standard errors, largest of ten differences",
        source="central limit theorem: 3 at one in forty runs",
    )


def claim_no_way_back(cfg: lesson.Config, log: RunLog) -> None:
    """DAgger where nothing leads back on to the road."""
    stuck = edited(lesson, EDITS["no_way_back"])
    costs = []
    for horizon in lesson.HORIZONS:
        rng = np.random.default_rng((cfg.seed, 2, horizon))
        num_episodes = cfg.num_measured // horizon
        policy = stuck.dagger(horizon, cfg, rng)
        cost = stuck.drive(policy, num_episodes, horizon, cfg.fog, rng)[2].mean()
        costs.append(max(cost, 1 / num_episodes))
        log.write(horizon, cost_stuck=costs[-1])
    log.claim(
        "no_way_back_slope",
        "where nothing leads back, DAgger's cost grows as the square too",
        np.polyfit(np.log(lesson.HORIZONS), np.log(costs), 1)[0],
        near=(2.0, 0.1),
        unit="slope, log-log",
        source="ross2011dagger: what one mistake costs is then T itself",
    )


# What behaviour leaves open


def claim_open_rewards(log: RunLog, rng: np.random.Generator) -> None:
    old, expert = log.kept["old"], log.kept["expert"]
    rewards = lesson.rewards_of(old, log.kept["wishes"])
    gaps, sizes = [], []
    for _ in range(5):
        potential = rng.normal(size=(len(rewards) + 1, len(old.P)))
        potential[-1] = 0.0
        other = lesson.shaped(old.P, rewards, potential)
        gaps.append(np.abs(lesson.soft_plan(old.P, other)[1] - expert).max())
        sizes.append(np.abs(other - rewards).mean())
    log.write(0, shaping_size=np.mean(sizes))
    exactly = {"unit": "largest difference of a probability", "always": True}
    log.claim(
        "shaping_gap",
        "rewards shaped by random potentials have the same soft policy",
        max(gaps),
        at_most=1e-9,
        source="ng1999shaping; eq. (6)",
        **exactly,
    )
    by_log = lesson.soft_plan(old.P, np.log(expert))[1]
    log.claim(
        "log_policy_gap",
        "the reward log pi explains the gardener exactly as well as the gardener's wishes do",
        np.abs(by_log - expert).max(),
        at_most=1e-9,
        source="eq. (6) with the soft values as potential",
        **exactly,
    )
    cells = old._replace(features=np.eye(len(old.P)))  # a weight for each cell
    curvature, _ = feature_covariances(old.P, expert, cells.features, old.start)
    levels = np.linalg.eigvalsh(curvature)
    log.claim(
        "open_directions",
        "with a weight for each cell, L is level in one direction: all weights may rise together",
        np.sum(levels < 1e-9 * levels.max()),
        near=(1.0, 0.0),
        unit="eigenvalues of L's curvature that are 0",
        source="exact curvature; every episode lands as often",
        always=True,
    )


def claim_changed_garden(log: RunLog) -> None:
    """What is gained in the changed garden by planning, by copying, and by planning for the copy's reward."""
    new, wishes, expert = (log.kept[name] for name in ("new", "wishes", "expert"))
    rewards = lesson.rewards_of(new, wishes)
    found = {"reward": log.kept["planned"], "clone": expert, "log_policy": plan(new.P, np.log(expert))[1]}
    for name, policy in found.items():
        log.write(0, **{f"share_{name}": gain_share(new.P, rewards, new.start, policy)})
    for name, says in (
        ("clone", "in the changed garden planning for the weights gains more than a perfect copy does"),
        ("log_policy", "and more than a plan for log pi, which explained the gardener as well"),
    ):
        log.claim(
            f"gain_over_{name}",
            says,
            log.last("share_reward") - log.last(f"share_{name}"),
            at_least=0.0,
            unit="of the best plan's gain, difference",
            source="exact values of both",
        )


# Weights from samples


def claim_errors(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    old, wishes, expert = (log.kept[name] for name in ("old", "wishes", "expert"))
    recovered = lesson.soft_plan(old.P, lesson.rewards_of(old, lesson.recover(log.kept["counts"], old)))[1]
    log.claim(
        "policy_gap",
        "from exact counts the gardener's policy comes back",
        np.abs(recovered - expert).max(),
        at_most=1e-5,
        unit="largest difference of a probability",
        source="the gardener's own policy",
        always=True,
    )
    curvature, covariance = feature_covariances(old.P, expert, old.features, old.start)
    turned = np.linalg.solve(curvature, np.linalg.solve(curvature, covariance).T)
    foretold = np.sqrt(np.trace(turned))  # times one over the root of N
    log.write(0, likelihood_saves=np.trace(turned) / np.trace(np.linalg.inv(curvature)))
    shape = (extra.num_repeats, NUM_DEMOS[-1])
    states, _ = demonstrate(old, expert, shape[0] * shape[1], rng)
    collected = old.features[states[1:]].sum(axis=0).reshape(*shape, -1)  # [M, N, K]
    ratios, errors = [], []
    for num in NUM_DEMOS:
        counts = collected[:, :num].mean(axis=1)
        misses = np.array([lesson.recover(one, old, ridge=1 / num) - wishes for one in counts])
        errors.append(np.sqrt((misses**2).sum(axis=1).mean()))
        ratios.append(errors[-1] / (foretold / np.sqrt(num)))
        log.write(num, weights_error=errors[-1], weights_foretold=foretold / np.sqrt(num))
    log.claim(
        "error_slope",
        "weights from N demonstrations miss by one over the root of N",
        np.polyfit(np.log(NUM_DEMOS), np.log(errors), 1)[0],
        near=(-0.5, 0.1),
        unit="slope, log-log",
        source="central limit theorem",
        seeds="9/10",
    )
    log.claim(
        "error_foretold",
        "from 3,000 demonstrations they miss by what the exact covariances foretell",
        ratios[-1],
        near=(1.0, 0.2),
        unit="measured / foretold",
        source="delta method; 100 batches scatter by up to 7 %",
        seeds="9/10",
    )


# Figures


def draw_all(runs: list[dict], log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=7.2)
    rows = np.array([run["weights_error"] for run in runs])  # [runs, sizes, (N, error)]
    plotting.seed_band(ax, rows[0, :, 0], rows[:, :, 1], "measured", plotting.BLUE)
    foretold = np.array([run["weights_foretold"] for run in runs])
    ax.plot(
        rows[0, :, 0],
        np.median(foretold[:, :, 1], axis=0),
        label="foretold by exact covariances (median)",
        **plotting.REFERENCE,
    )
    ax.set(xscale="log", yscale="log", xlabel="demonstrations N", ylabel="length of the weights' error")
    ax.set_xticks(NUM_DEMOS, [f"{num:,}" for num in NUM_DEMOS])
    ax.set_xticks([], minor=True)
    ax.set_yticks((0.03, 0.1, 0.3), ("0.03", "0.1", "0.3"))
    ax.set_yticks([], minor=True)
    ax.set_title("Weights from samples")
    ax.legend()
    log.figure(figure, "error")


def draw_gardens(log: RunLog) -> None:
    """Three maps: where the gardener is watched, a plan for the weights, and the copy."""
    old, new, wishes, expert = (log.kept[name] for name in ("old", "new", "wishes", "expert"))
    planned = log.kept["planned"]
    figure, axes = plotting.new_figure(1, 3, width=4.0, height=4.4)
    for ax, grid, world, policy, title in (
        (axes[0], OLD, old, expert, "Old garden, watched"),
        (axes[1], NEW, new, planned, f"New, planned: {100 * log.last('share_reward'):.0f} %"),
        (axes[2], NEW, new, expert, f"New, copied: {100 * log.last('share_clone'):.0f} %"),
    ):
        draw_garden(ax, grid, world, wishes, policy[0], title)
    log.figure(figure, "gardens")


def draw_garden(
    ax, grid: tuple[str, ...], world: World, wishes: np.ndarray, policy: np.ndarray, title: str
) -> None:
    """Cells coloured by what landing there pays, named, with the likeliest move of each."""
    cells = np.array([list(row) for row in grid])
    paid = (world.features @ wishes).reshape(cells.shape)
    paid[cells == "#"] = np.nan
    best = policy >= policy.max(axis=1, keepdims=True) - 1e-9
    arrows = np.empty(cells.shape, dtype=object)
    for index, symbol in np.ndenumerate(cells):
        cell = int(np.ravel_multi_index(index, cells.shape))
        arrows[index] = [] if symbol == "#" else list(np.flatnonzero(best[cell]))
    labels = [[SIGNS[symbol] for symbol in row] for row in grid]
    plotting.grid_map(ax, paid, arrows, arrows=MOVES, labels=labels, title=title)
