"""A3's evidence: random processes solved in every way there is, turning points in print, and the cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import jax
import numpy as np
from jaxtyping import Float

from chapters.A_foundations import A3_mdp_and_bellman as lesson
from chapters.envs.maps import value_map
from chapters.exact import published
from chapters.exact.mdp import MDP, grid_mdp
from chapters.utils import RunLog, in_range, plotting

STEP_REWARDS = (-2.0, -0.5, -0.04, -0.01)
MAZE = (
    ".....#......",
    ".###.#.####.",
    ".#........#.",
    ".#.#####.##.",
    ".#.....#....",
    ".#####.####.",
    ".......#G...",
)


@dataclass(frozen=True)
class Config:
    """The random processes, and the sizes at which speed is measured."""

    num_mdps: Annotated[int, in_range(1, 10_000)] = 40
    """How many random processes the methods must agree on."""
    num_states: Annotated[int, in_range(2, 1000)] = 30
    """S: states of each random process."""
    num_actions: Annotated[int, in_range(2, 100)] = 4
    """A: actions of each random process."""
    max_gamma: Annotated[float, in_range(0.0, 0.999)] = 0.99
    """The random processes draw their discount between half of this and this."""
    largest: Annotated[int, in_range(16, 4096)] = 1024
    """Speed is measured on 16, 32, 64, ... states up to this."""


SMOKE = {"num_mdps": 3, "num_states": 10, "largest": 32}


def random_mdp(rng: np.random.Generator, num_states: int, num_actions: int, gamma: float) -> MDP:
    """Random transitions and rewards; the last state is terminal."""
    P = rng.dirichlet(np.full(num_states, 0.3), size=(num_states, num_actions))  # [S, A, S] a few likely ones
    R = rng.normal(size=(num_states, num_actions))
    P[-1], R[-1] = 0.0, 0.0
    P[-1, :, -1] = 1.0
    return MDP(P, R, np.arange(num_states) == num_states - 1, gamma)


def best_of_all_policies(mdp: MDP) -> Float[np.ndarray, " S"]:
    """The highest value of each state over all deterministic policies, by trying them all."""
    num_states, num_actions = mdp.R.shape
    choices = product(range(num_actions), repeat=num_states)
    policies = (np.eye(num_actions)[list(choice)] for choice in choices)
    return np.max([lesson.evaluate_exactly(mdp, policy) for policy in policies], axis=0)


# Value iteration as one program


def value_iteration_jax(
    mdp: MDP, gap: float | jax.Array
) -> tuple[Float[jax.Array, " S"], jax.Array, jax.Array]:
    """(optimal value, last change, number of sweeps): value iteration, loop included, for JAX to compile.

    A loop whose number of rounds is not known in advance is written as while_loop(condition, body, state).
    """

    def unfinished(state: tuple) -> jax.Array:
        V, change, sweeps = state
        return (change > gap) & (change > 1e-15 * abs(V).max()) & (sweeps < lesson.MAX_SWEEPS)

    def sweep(state: tuple) -> tuple:
        V, _, sweeps = state
        new = lesson.optimality_backup(mdp, V)
        return new, abs(new - V).max(), sweeps + 1

    return jax.lax.while_loop(unfinished, sweep, (mdp.R[:, 0] * 0.0, np.inf, 0))


def solve_in_one_program(mdp: MDP, tolerance: float) -> Float[np.ndarray, " S"]:
    """The optimal value by compiled value iteration in 64 bits."""
    gap = lesson.stopping_gap(mdp.gamma, tolerance)
    with jax.enable_x64(True):
        V, change, sweeps = map(np.asarray, jax.jit(value_iteration_jax)(mdp, gap))
    if sweeps == lesson.MAX_SWEEPS and change > max(gap, 1e-15 * np.abs(V).max()):
        raise RuntimeError(
            f"still moving after {sweeps:,} sweeps: does every episode end, or is gamma far enough below 1?"
        )
    return V


# Random processes


def errors_on(mdp: MDP, policy: np.ndarray, tolerance: float) -> dict[str, float]:
    """How far the ways of solving a process are apart."""
    evaluated, _ = lesson.evaluate_iteratively(mdp, policy, tolerance)
    best, best_policy, _ = lesson.policy_iteration(mdp)
    iterated, _ = lesson.value_iteration(mdp, tolerance)
    return {
        "evaluation": np.abs(evaluated - lesson.evaluate_exactly(mdp, policy)).max(),
        "control": max(
            np.abs(iterated - best).max(),
            np.abs(lesson.evaluate_exactly(mdp, best_policy) - best).max(),
        ),
        "jax": np.abs(solve_in_one_program(mdp, tolerance) - iterated).max(),
    }


def contraction_ratio(
    backup: Callable[[np.ndarray], np.ndarray], gamma: float, U: np.ndarray, V: np.ndarray
) -> float:
    """The left side of A3's eq. (7) over its right side."""
    return float(np.abs(backup(U) - backup(V)).max() / (gamma * np.abs(U - V).max()))


def worst_ratio(mdp: MDP, policy: np.ndarray, U: np.ndarray, V: np.ndarray) -> float:
    """The largest contraction ratio of both backups, from a random pair of guesses and from a shifted one."""
    backups = (
        lambda guess: lesson.optimality_backup(mdp, guess),
        lambda guess: lesson.policy_backup(mdp, policy, guess),
    )
    pairs = ((U, V), (U, U + 1.0))
    return max(contraction_ratio(backup, mdp.gamma, *pair) for backup in backups for pair in pairs)


def agreement(cfg: lesson.Config, extra: Config, log: RunLog) -> dict[str, float]:
    """The largest error of each kind over all random processes."""
    rng = np.random.default_rng(cfg.seed)
    worst = dict.fromkeys(("evaluation", "control", "jax", "contraction", "enumerated"), 0.0)
    for index in log.track(range(extra.num_mdps), "random processes"):
        gamma = rng.uniform(extra.max_gamma / 2, extra.max_gamma)
        mdp = random_mdp(rng, extra.num_states, extra.num_actions, gamma)
        policy = rng.dirichlet(np.ones(extra.num_actions), size=extra.num_states)  # [S, A]
        _, _, evaluations = lesson.policy_iteration(mdp)
        _, sweeps = lesson.value_iteration(mdp, cfg.tolerance)
        log.write(index, gamma=gamma, sweeps=sweeps, evaluations=evaluations)

        U, V = rng.normal(scale=10.0, size=(2, extra.num_states))
        small = random_mdp(rng, 5, 3, gamma)
        errors = errors_on(mdp, policy, cfg.tolerance)
        errors["contraction"] = worst_ratio(mdp, policy, U, V)
        enumerated = best_of_all_policies(small)
        errors["enumerated"] = np.abs(enumerated - lesson.policy_iteration(small)[0]).max()
        worst = {name: max(worst[name], float(errors[name])) for name in worst}
    return worst


def claim_agreement(log: RunLog, worst: dict[str, float]) -> None:
    """Every answer is found in at least two ways, and they agree."""
    said = {
        "evaluation": (
            "evaluation: the linear solve and the iteration agree",
            "equation (4), stopping rule (5)",
        ),
        "control": ("control: policy iteration and value iteration agree", "(3) has one solution"),
        "enumerated": ("trying all 243 policies of a small process finds no better", "enumeration"),
        "jax": ("compiled JAX in 64 bits agrees with NumPy", "one backup, two backends"),
    }
    for name, (statement, source) in said.items():
        log.claim(name, statement, worst[name], at_most=1e-8, source=source, always=True)
    log.claim(
        "contraction",
        "a backup brings any two guesses closer, by gamma at least",
        worst["contraction"],
        at_most=1 + 1e-9,
        unit="times gamma",
        source="puterman1994, proposition 6.2.4, and 1e-9 for rounding",
        always=True,
    )


# The slippery world


def count_turns() -> int:
    """At how many of the step rewards in print the best policy of the 4x3 world changes."""
    turns = 0
    for reward in published.TURNING_POINTS:
        _, below, _ = lesson.policy_iteration(published.world_4x3(reward - 1e-4))
        _, above, _ = lesson.policy_iteration(published.world_4x3(reward + 1e-4))
        turns += bool((below != above).any())
    return turns


def draw_rewards(log: RunLog) -> None:
    """What the price of a step does to the best policy."""
    figure, axes = plotting.new_figure(1, len(STEP_REWARDS), width=3.6, height=3.3)
    for ax, reward in zip(axes, STEP_REWARDS):
        V, policy, _ = lesson.policy_iteration(published.world_4x3(reward))
        title = f"step reward {reward:g}".replace("-", "−")
        value_map(ax, published.WORLD_4X3, V, policy, title=title)
    log.figure(figure, "rewards")


# How the error falls, and how long it takes


def draw_convergence(log: RunLog) -> None:
    """Error after each sweep of value iteration, and after each evaluation of policy iteration."""
    mdp = published.example_3_5()
    best, _, _ = lesson.policy_iteration(mdp)
    V, swept = np.zeros_like(best), []
    for _ in range(150):
        swept.append(np.abs(V - best).max())
        V = lesson.optimality_backup(mdp, V)
    policy, improved = np.full(mdp.R.shape, 0.25), []
    for _ in range(5):
        evaluated = lesson.evaluate_exactly(mdp, policy)
        improved.append(max(np.abs(evaluated - best).max(), 1e-14))
        policy = lesson.greedy_policy(lesson.q_from_v(mdp, evaluated))
    bound = swept[0] * mdp.gamma ** np.arange(150)

    figure, ax = plotting.new_figure()
    ax.semilogy(swept, label="value iteration, k sweeps", linewidth=4)
    ax.semilogy(range(1, 6), improved, "o-", color=plotting.ORANGE, label="policy iteration, k evaluations")
    ax.semilogy(bound, label="bound γᵏ · first error", **plotting.REFERENCE)
    ax.set(xlabel="k", ylabel="largest error of a value", title="5x5 grid: error of the value")
    ax.legend()
    log.figure(figure, "convergence")


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of the fastest of at least three calls; of more, if they are quick."""
    times = []
    while len(times) < 3 or sum(times) < 0.1:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def time_solvers(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Seconds until solved to `tolerance`, against the number of states."""
    rng = np.random.default_rng(cfg.seed)
    num_states = 16
    while num_states <= extra.largest:
        mdp = random_mdp(rng, num_states, extra.num_actions, gamma=0.9)
        start = time.perf_counter()
        solve_in_one_program(mdp, cfg.tolerance)  # the first call for each shape compiles
        first = time.perf_counter() - start
        log.write(
            num_states,
            value_iteration_numpy_seconds=seconds(lambda: lesson.value_iteration(mdp, cfg.tolerance)),  # noqa: B023
            value_iteration_jax_seconds=seconds(lambda: solve_in_one_program(mdp, cfg.tolerance)),  # noqa: B023
            policy_iteration_numpy_seconds=seconds(lambda: lesson.policy_iteration(mdp)),  # noqa: B023
            jax_first_call_seconds=first,
        )
        num_states *= 2


def draw_speed(log: RunLog) -> None:
    """On few states NumPy spends its time between the operations and compiled JAX does not; on many, both
    wait for memory. Policy iteration needs few rounds, but the linear solve in each grows as S^3.
    """
    figure, ax = plotting.new_figure()
    for name, label, style in (
        ("value_iteration_numpy", "value iteration, NumPy", "o-"),
        ("value_iteration_jax", "value iteration, JAX compiled", "s-"),
        ("policy_iteration_numpy", "policy iteration, NumPy", "^-"),
        ("jax_first_call", "JAX, first call (compiles)", ":"),
    ):
        ax.loglog(*log.series(f"{name}_seconds"), style, label=label)
    ax.set(xlabel="states", ylabel="seconds until solved", title="Cost of an exact solution")
    ax.legend()
    log.figure(figure, "speed")


def film(log: RunLog) -> None:
    """Value iteration on a slippery maze, a frame a sweep: value spreads from the goal."""
    from matplotlib import colormaps

    mdp = grid_mdp(MAZE, gamma=0.95, slip=0.2)
    symbols = np.array([list(row) for row in MAZE])  # [rows, columns]
    V, frames = np.zeros(len(mdp.R)), []
    for _ in range(45):
        shown = np.where(symbols == "G", 1.0, V.reshape(symbols.shape))
        picture = (colormaps["viridis"](shown)[..., :3] * 255).astype(np.uint8)  # [rows, columns, 3]
        picture[symbols == "#"] = 90
        frames.append(picture.repeat(24, axis=0).repeat(24, axis=1))
        V = lesson.optimality_backup(mdp, V)
    log.film(frames + frames[-1:] * 20, fps=10)


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    log.claim(
        "turning_points",
        "the 4x3 world's best policy turns at the four step rewards in the book",
        count_turns(),
        at_least=4,
        unit="of 4",
        source="russellnorvig2021aima, figure 16.2",
        always=True,
    )
    claim_agreement(log, agreement(cfg, extra, log))
    time_solvers(cfg, extra, log)
    draw_speed(log)
    draw_convergence(log)
    draw_rewards(log)
    film(log)
