"""C6's evidence: parity and a race with a library, a world whose answers are known, flattery, a cheetah."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from chapters.C_policy_gradients import C6_sac_td3 as lesson
from chapters.C_policy_gradients.evidence.C6_cheetah import cheetah, compare_cheetah, draw_cheetah
from chapters.C_policy_gradients.evidence.C6_linear import draw_flattery, draw_linear, flattery, soft_policy
from chapters.C_policy_gradients.evidence.C6_sb3 import claim_parity, race
from chapters.exact import pendulum
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.evaluation import crossing

PUBLISHED_REGRET = pendulum.MEAN_OPTIMUM + 157.0 + 2 * 3.2
"""What the optimum earns more than rl-zoo's SAC, -157.0 in 750 episodes, and two standard errors."""


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_linear_steps: Annotated[int, in_range(64, 10_000_000)] = 32_000
    """Environment steps of SAC on the linear system."""
    num_noisy_steps: Annotated[int, in_range(256, 10_000_000)] = 16_000
    """Environment steps of each learner on the linear system with noisy rewards."""
    num_sb3_steps: Annotated[int, in_range(1, 10_000_000)] = 2000
    """Environment steps that Stable-Baselines3's SAC has at most; `benchmarks/` lets it finish."""
    num_cheetah_steps: Annotated[int, in_range(2, 40_000)] = 20_000
    """Environment steps of TD3 on HalfCheetah."""


SMOKE = {"num_linear_steps": 320, "num_noisy_steps": 320, "num_sb3_steps": 124, "num_cheetah_steps": 40}


def claim_policy(cfg: lesson.Config, log: RunLog) -> None:
    """What SAC and TD3 earn beside the optimum."""
    regret = {
        name: lesson.score(pendulum.optimal_policy, cfg, 20_000)
        - lesson.score(log.kept[name].greedy, cfg, 20_000)
        for name in ("sac", "td3")
    }
    for name, value in regret.items():
        log.claim(
            f"{name}_regret",
            f"{name.upper()} is as near to the computed optimum, from the same starts, as published runs are",
            value,
            at_most=PUBLISHED_REGRET,
            unit="less than the optimum, mean return of 100 episodes",
            source="raffin2020zoo for SAC, against the optimum's mean; two standard errors allowed",
        )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_policy(cfg, log)
    claim_parity(cfg, log)
    draw_linear(soft_policy(extra.num_linear_steps, cfg, log), log)
    flattery(extra.num_noisy_steps, cfg, log)
    race(extra.num_sb3_steps, cfg, log)
    cheetah(extra.num_cheetah_steps, cfg, log)
    runs = [{"metrics": log.metrics}]
    draw_flattery(runs, log)
    draw_cheetah(runs, log)


def seconds_to_goal(runs: list[dict], name: str) -> np.ndarray:
    """CPU seconds until -200 is sustained in each run; infinite if it never was."""
    return np.array([crossing(run["metrics"], name, lesson.GOAL)[0] for run in runs])


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: seconds against Stable-Baselines3, and the figures."""
    # a run of theirs that is stopped before it got there counts as if it had: a bound against our claim
    lasts = [run["metrics"]["sb3_cpu_seconds"][-1][1] for run in runs]
    theirs = np.minimum(seconds_to_goal(runs, "sb3"), lasts)
    log.claim(
        "seconds_of_sb3",
        "SAC sustains -200 on Pendulum in a quarter of the CPU seconds of Stable-Baselines3's, or less",
        np.median(seconds_to_goal(runs, "sac")) / np.median(theirs),
        at_most=0.25,
        unit="of theirs, medians; at most that, as theirs are stopped early",
        source="stable-baselines3 at rl-zoo's settings in the same runs, one thread each",
        timed=True,
    )
    compare_cheetah(runs, log)
    draw_regret(runs, log)
    draw_flattery(runs, log)
    draw_cheetah(runs, log)


def draw_regret(runs: list[dict], log: RunLog) -> None:
    """The lesson's figure over all seeds."""
    figure, ax = plotting.new_figure(width=8.0)
    best = np.array([run["metrics"]["best_return"][0][1] for run in runs])
    for name, color in zip(lesson.RECIPES, (plotting.GREEN, plotting.ORANGE, plotting.BLUE)):
        curves = np.array(
            [run["metrics"][f"{name}_return"] for run in runs]
        )  # [runs, checks, (step, return)]
        regret = np.maximum(best[:, None] - curves[:, :, 1], 1.0)
        plotting.seed_band(ax, curves[0, :, 0], regret, name.upper(), color)
    ax.axhline(best.mean() - lesson.GOAL, label="a return of -200", **plotting.REFERENCE)
    ax.set(
        xlabel="environment steps",
        ylabel="regret to the optimum (log scale)",
        title="Pendulum",
        yscale="log",
    )
    ax.legend(fontsize=10)
    log.figure(figure)
