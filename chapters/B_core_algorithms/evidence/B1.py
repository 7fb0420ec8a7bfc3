"""B1's evidence: step sizes, discounts, ties, and both learners on the cliff, against exact answers."""

import os
from dataclasses import dataclass, replace
from typing import Annotated

import gymnasium as gym
import numpy as np
from jaxtyping import Int

from chapters.B_core_algorithms import B1_tabular_q_learning as lesson
from chapters.B_core_algorithms.checks.B1 import EDITS
from chapters.exact.time_limits import (
    Table,
    best_return,
    expected_return,
    greedy_policy,
    read_model,
    value_iteration,
    with_exploration,
)
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

LAKE_ARROWS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # (row, column) step of left, down, right, up
GAMMAS = (0.9, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999)
ENDLESS = 10_000  # steps after which hardly any policy is still on the ice
DRY_EPISODES = 2000  # of a run on the lake that is not slippery, about


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_dry_runs: Annotated[int, in_range(2, 1000)] = 5
    """Runs of the first-maximum agent on the lake that is not slippery."""


SMOKE = {}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    study_discounts(log)
    study_step_size(cfg, log)
    study_ties(cfg, log)
    study_dry_lake(cfg, extra, log)
    study_cliff(cfg, log)
    draw_step_sizes([log.metrics], cfg.alpha_power, log)
    draw_tables(log.kept["lakes"], log)
    draw_cliff(log.kept["cliff"], log)
    if not log.smoke:  # rendering costs more than a whole smoke run
        film_lake(log.kept["lakes"]["8x8"], cfg, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: the learning curves as bands."""
    metrics = [run["metrics"] for run in runs]
    lesson.draw(metrics, log)
    draw_step_sizes(metrics, runs[0]["config"]["alpha_power"], log)


# Discounts: exact policies, nothing is learned


def study_discounts(log: RunLog) -> None:
    """Exact policies of several discounts on the 8x8 lake, with and without the clock."""
    env = lesson.make_lake("8x8")
    optimum = best_return(env)
    clocked, patient = {}, {}
    for gamma in GAMMAS:
        policy = greedy_policy(value_iteration(read_model(env), gamma))
        clocked[gamma] = expected_return(env, policy)
        patient[gamma] = expected_return(env, policy, horizon=ENDLESS)
        horizon = round(1 / (1 - gamma))
        log.write(horizon, success_clocked=clocked[gamma], success_patient=patient[gamma])
    log.claim(
        "gamma_099_stops_short",
        "with gamma 0.99 even the exact policy stays below 95 % of the 8x8 optimum",
        clocked[0.99] / optimum,
        at_most=0.95,
        unit="share of optimum",
        source="exact policy evaluation, eq. (7)",
        always=True,
    )
    log.claim(
        "gamma_099_gambles",
        "why: it falls into a hole in a tenth of its episodes, however long they may last",
        patient[0.99],
        at_most=0.9,
        unit="success rate, no clock",
        source="exact policy evaluation, eq. (7)",
        always=True,
    )
    log.claim(
        "gamma_0999_never_falls",
        "the exact policy for gamma 0.999 never falls; it only runs out of time",
        patient[0.999],
        near=(1.0, 1e-3),
        unit="success rate, no clock",
        source="exact policy evaluation, eq. (7)",
        always=True,
    )
    draw_discounts(optimum, log)


# The step size


def study_step_size(cfg: lesson.Config, log: RunLog) -> None:
    """The 4x4 lake again, with the sample mean as step size."""
    env = lesson.make_lake("4x4")
    mean = replace(cfg, alpha_power=1.0)
    q, tables, _ = lesson.learn(env, mean, cfg.steps_4x4, cfg.gamma, cfg.epsilon_end, anneal=True)
    for step, table in tables:
        log.write(step, success_4x4_mean=expected_return(env, greedy_policy(table)))
    exact = value_iteration(read_model(env), cfg.gamma)[0].max()
    log.claim(
        "start_value",
        "the 4x4 table's value of the start is close to value iteration's",
        log.kept["lakes"]["4x4"][0].max() / exact,
        near=(1.0, 0.1),
        unit="learned / exact",
        source="value iteration, eq. (1)",
        seeds="9/10",
    )
    log.claim(
        "start_value_mean",
        "with the sample mean (p = 1) not half of that value arrives in as many steps",
        q[0].max() / exact,
        at_most=0.5,
        unit="learned / exact",
        source="evendar2003learning: exponentially slow in 1/(1 - gamma)",
        seeds="9/10",
    )


# Ties


def untaught_chance(env: gym.Env, epsilon: float, naive: bool) -> float:
    """Exact chance of success in one episode while the table is still all zero."""
    zeros = np.zeros_like(read_model(env).rewards)
    policy = greedy_policy(zeros)  # every action is a best one
    if naive:
        first = np.eye(zeros.shape[1])[zeros.argmax(axis=1)]
        policy = with_exploration(first, epsilon)
    return expected_return(env, policy)


def study_ties(cfg: lesson.Config, log: RunLog) -> None:
    """The first maximum against random ties on the 8x8 lake."""
    lake = lesson.make_lake("8x8")
    at_random = untaught_chance(lake, cfg.epsilon, naive=False)
    naively = untaught_chance(lake, cfg.epsilon, naive=True)
    log.write(0, first_success_random=at_random, first_success_naive=naively)
    log.claim(
        "ties_chance",
        "random ties raise an untaught agent's chance to reach the 8x8 goal over a thousandfold",
        at_random / naively,
        at_least=1000,
        unit="ratio of chances in one episode",
        source="exact policy evaluation, eq. (7)",
        always=True,
    )
    naive = edited(lesson, EDITS["first_maximum"])
    _, _, episodes = naive.learn(lake, cfg, cfg.steps_ties, cfg.gamma, cfg.epsilon)
    log.claim(
        "naive_argmax_goals",
        "at a fixed epsilon of 0.1 the first maximum never reaches the 8x8 goal",
        sum(gain for _, gain in episodes),
        at_most=0,
        unit="goals",
        source=f"eq. (7): a chance of {naively:.0e} an episode",
        seeds="9/10",
    )


def study_dry_lake(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Even without slipping: constant step size, fixed exploration, some 2,000 episodes of the small lake."""
    dry = gym.make("FrozenLake-v1", is_slippery=False, disable_env_checker=True)
    settings = replace(cfg, alpha=0.8, alpha_power=0.0)
    num_steps = cfg.steps_ties // 2
    naive = edited(lesson, EDITS["first_maximum"])
    all_zero = 0
    for run in range(extra.num_dry_runs):
        trial = replace(settings, seed=extra.num_dry_runs * cfg.seed + run)
        q, _, _ = naive.learn(dry, trial, num_steps, gamma=0.95, epsilon=0.1)
        all_zero += not q.any()
    all_fail = (1 - untaught_chance(dry, 0.1, naive=True)) ** DRY_EPISODES
    log.claim(
        "example_table",
        "on a 4x4 lake that is not even slippery the first maximum ends with a table of zeros",
        all_zero,
        at_least=extra.num_dry_runs - 1,
        unit=f"of {extra.num_dry_runs} runs",
        source=f"eq. (7): all {DRY_EPISODES:,} episodes fail in {all_fail:.1%} of runs",
        seeds="9/10",
    )
    q, _, _ = lesson.learn(dry, settings, num_steps, gamma=0.95, epsilon=0.1)
    log.claim(
        "example_repaired",
        "with random ties and nothing else changed it always reaches that goal",
        expected_return(dry, greedy_policy(q)),
        at_least=1 - 1e-9,
        unit="success rate",
        source="exact policy evaluation, eq. (7)",
        seeds="9/10",
    )


# The cliff


def study_cliff(cfg: lesson.Config, log: RunLog) -> None:
    """What both learners earn while they explore, and where their greedy policies walk."""
    env = gym.make("CliffWalking-v1")
    greedy = {name: expected_return(env, greedy_policy(q), 100) for name, q in log.kept["cliff"].items()}
    log.write(cfg.steps_cliff, greedy_sarsa=greedy["sarsa"])
    log.claim(
        "q_learning_online",
        "Q-learning's online return is that of exploring around the shortest path",
        log.last("late_q_learning"),
        near=(log.last("exact_online_q_learning"), 5.0),
        unit="return",
        source="exact policy evaluation, eq. (7)",
        seeds="9/10",
    )
    log.claim(
        "sarsa_online",
        "SARSA's is close to the best of all policies that explore at this rate",
        log.last("late_sarsa"),
        near=(log.last("exact_online_sarsa"), 5.0),
        unit="return",
        source="the time-dependent optimum among policies that explore, exact",
        seeds="9/10",
    )
    log.claim(
        "q_learning_greedy_path",
        "Q-learning's greedy path is the shortest there is: 13 steps",
        greedy["q_learning"],
        near=(-13.0, 1e-9),
        unit="return",
        source="suttonbarto2018, example 6.6",
        seeds="9/10",
    )
    log.claim(
        "sarsa_greedy_path",
        "SARSA's greedy path is longer",
        greedy["sarsa"],
        at_most=-15.0,
        unit="return within 100 steps",  # its noisy table can make the greedy walk circle for ever
        source="suttonbarto2018, example 6.6",
        seeds="9/10",
    )


def greedy_path(q: Table, limit: int = 30) -> Int[np.ndarray, "T 2"]:
    """(row, column) of the cells that the greedy policy visits on the cliff, in at most `limit` steps."""
    env = gym.make("CliffWalking-v1")
    path, terminated = [env.reset()[0]], False
    while not terminated and len(path) <= limit:
        obs, _, terminated, _, _ = env.step(int(q[path[-1]].argmax()))
        path.append(obs)
    return np.stack(np.divmod(path, 12), axis=1)


# Figures


def draw_discounts(optimum: float, log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=7.2)
    ax.plot(*log.series("success_patient"), "o-", color=plotting.ORANGE, label="exact policy, no clock")
    ax.plot(*log.series("success_clocked"), "o-", color=plotting.BLUE, label="exact policy, 200 steps")
    ax.axhline(optimum, label=f"time-dependent optimum, 200 steps: {optimum:.3f}", **plotting.REFERENCE)
    ax.set(xscale="log", ylim=(0.65, 1.03), title="A short horizon gambles (8x8 lake)", ylabel="success rate")
    ax.set_xlabel("horizon of the discount, 1/(1 − gamma), in steps")
    ax.legend(loc="lower right")
    log.figure(figure, "gamma")


def draw_step_sizes(runs: list[dict], alpha_power: float, log: RunLog) -> None:
    """The 4x4 lake with two step sizes, from the metrics of one run or of several."""
    figure, ax = plotting.new_figure(width=7.2)
    for metric, label, color in (
        ("success_4x4", f"step size 1/n^{alpha_power:g}", plotting.BLUE),
        ("success_4x4_mean", "step size 1/n", plotting.ORANGE),
    ):
        rows = np.array([run[metric] for run in runs])  # [runs, points, (step, value)]
        plotting.seed_band(ax, rows[0, :, 0] / 1000, rows[:, :, 1], label, color)
    optimum = best_return(lesson.make_lake("4x4"))
    ax.axhline(optimum, label=f"time-dependent optimum {optimum:.3f}", **plotting.REFERENCE)
    ax.set(title="A mean never forgets (4x4 lake)", xlabel="thousand steps", ylabel="exact success rate")
    ax.set_ylim(0, 1)
    ax.legend(loc="upper right")
    log.figure(figure, "steps")


def draw_tables(tables: dict[str, Table], log: RunLog) -> None:
    """Heat maps of the lakes' tables with the greedy actions as arrows."""
    figure, axes = plotting.new_figure(1, 2, width=7.2, height=6.4)
    for ax, (size, q) in zip(axes, tables.items()):
        letters = lesson.make_lake(size).unwrapped.desc.astype(str)  # [rows, columns] of S F H G
        ends = np.isin(letters, ("H", "G"))
        values = np.where(letters == "G", 1.0, q.max(axis=1).reshape(letters.shape))
        labels = np.where(ends, letters, np.char.mod("%.2f", values))
        actions = np.where(ends, -1, q.argmax(axis=1).reshape(letters.shape))
        plotting.grid_map(ax, values, actions, arrows=LAKE_ARROWS, labels=labels, title=f"FrozenLake {size}")
    figure.colorbar(axes[1].images[0], ax=axes, label="max Q(s, a): discounted chance of success", shrink=0.8)
    log.figure(figure, "tables")


def draw_cliff(tables: dict[str, Table], log: RunLog) -> None:
    """The greedy paths of both learners."""
    figure, ax = plotting.new_figure(width=7.2, height=3.6)
    ground = np.zeros((4, 12))
    ground[3, 1:11] = 1  # the cliff
    ax.pcolormesh(ground, cmap="Greys", vmax=2.5, edgecolors="lightgrey", linewidth=0.5)
    for name, label, color in (
        ("q_learning", "Q-learning", plotting.BLUE),
        ("sarsa", "SARSA", plotting.ORANGE),
    ):
        rows, columns = greedy_path(tables[name]).T + 0.5
        length = f"{len(rows) - 1} steps" if len(rows) <= 30 else "circles"
        ax.plot(columns, rows, "o-", color=color, markersize=4, label=f"{label}: {length}")
    for column, text in ((0.5, "start"), (6, "cliff: −100"), (11.5, "goal")):
        ax.text(column, 3.8, text, ha="center", va="center", fontsize=11)
    ax.set(title="Greedy paths", xticks=[], yticks=[], ylim=(4, -1), aspect="equal")
    ax.legend(loc="upper center", ncols=2)
    log.figure(figure, "cliff")


def film_lake(q: Table, cfg: lesson.Config, log: RunLog) -> None:
    """One greedy episode on the 8x8 lake, whatever its end."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory: no screen needed
    env = gym.make("FrozenLake8x8-v1", render_mode="rgb_array")
    obs, _ = env.reset(seed=cfg.seed)
    frames, done = [env.render()], False
    while not done:
        obs, _, terminated, truncated, _ = env.step(int(q[obs].argmax()))
        done = terminated or truncated
        frames.append(env.render())
    log.film(frames, fps=12)
