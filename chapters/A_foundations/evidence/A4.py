"""A4's evidence: whether the program is A3's world and keeps its promises, what mistakes cost, and speed."""

import warnings
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation
from jaxtyping import Float, Int

from chapters.A_foundations import A4_gymnasium_environments as lesson
from chapters.envs import make_envs
from chapters.envs.gridworld import MAP, BatchedGridWorld
from chapters.exact.mdp import MDP, grid_mdp, policy_iteration
from chapters.exact.published import world_4x3
from chapters.utils import CpuClock, RunLog, in_range, plotting

SIZES = (1, 8, 64, 512)
"""Environments side by side when speed is measured."""


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    speed_steps: Annotated[int, in_range(100, 10_000_000)] = 40_000
    """Environment steps for each measurement of speed."""


SMOKE = {"speed_steps": 500}


# Is the program the world that the arrays say?


def count_transitions(
    obs: Int[np.ndarray, "*batch"],
    actions: Int[np.ndarray, "*batch"],
    next_obs: Int[np.ndarray, "*batch"],
    num_states: int,
    num_actions: int,
) -> Int[np.ndarray, "S A S"]:
    """How often each action in each state led to each state."""
    counts = np.zeros((num_states, num_actions, num_states), dtype=np.int64)
    np.add.at(counts, (obs, actions, next_obs), 1)  # unlike counts[...] += 1, repeats add up
    return counts


def chi_square_p_value(counts: Int[np.ndarray, "S A S"], P: Float[np.ndarray, "S A S"]) -> float:
    """How probable counts this far from `P` are, if `P` is right. Pairs with too few visits are left out.

    Of n(s, a) visits to a pair about n(s, a) P(s' | s, a) end in s'. Pearson's statistic, the sum over all
    outcomes of (count - expected)^2 / expected, then follows the chi-square law, with one degree of freedom
    less than there are outcomes, summed over the pairs. That the samples come from a chain rather than from
    independent throws does no harm (billingsley1961). One transition with P = 0 settles the matter.
    """
    from scipy.stats import chi2

    if counts[P == 0].any():
        return 0.0  # something impossible happened
    expected = counts.sum(axis=2, keepdims=True) * P  # [S, A, S]
    possible = P > 0
    # the usual rule: the chi-square law needs five expected visits of each outcome
    enough = np.where(possible, expected, np.inf).min(axis=2) >= 5  # [S, A]
    cells = possible & enough[:, :, None]
    statistic = np.sum((counts - expected)[cells] ** 2 / expected[cells])
    degrees = cells.sum() - enough.sum()
    return float(chi2.sf(statistic, degrees)) if degrees else 1.0


def p_value(batch: lesson.Batch, mdp: MDP) -> float:
    """Of the counts in a batch, if the world is `mdp`."""
    counts = count_transitions(batch.obs, batch.actions, batch.next_obs, *mdp.R.shape)
    return chi_square_p_value(counts, mdp.P)


def claim_transitions(cfg: lesson.Config, log: RunLog, native: lesson.Batch) -> None:
    """The program against the arrays."""
    mdp, batch = log.kept["mdp"], log.kept["batch"]
    fits, fits_natively = p_value(batch, mdp), p_value(native, mdp)
    log.write(cfg.num_steps * cfg.num_envs, p_value_loop=fits)
    log.write(cfg.num_steps * cfg.num_envs, p_value_native=fits_natively)
    off = grid_mdp(MAP, cfg.gamma, slip=1.1 * cfg.slip)
    log.claim(
        "transitions",
        "the program's transitions fit A3's P",
        fits,
        at_least=0.001,
        unit="p-value",
        source="chi-square test; a right P falls below once in 1000 seeds",
        seeds="9/10",
    )
    log.claim(
        "native_transitions",
        "the vector-native program's transitions fit A3's P",
        fits_natively,
        at_least=0.001,
        unit="p-value",
        source="chi-square test; a right P falls below once in 1000 seeds",
        seeds="9/10",
    )
    log.claim(
        "power",
        "the same test rejects a slip probability a tenth off",
        p_value(batch, off),
        at_most=0.001,
        unit="p-value",
        source="the level of the test above",
        seeds="9/10",
    )


# Promises that hold exactly or not at all


def complaints() -> int:
    """How many promises `check_env` finds broken."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_env(gym.make("GridWorld-v0").unwrapped)
        except Exception as error:  # check_env raises whatever it stumbled over
            print(f"check_env: {error}")
            return 1
    return len(caught)


def one_hot_differences() -> int:
    """Entries in which the lesson's wrapper and gymnasium's show the cells differently."""
    ours, theirs = (wrapper(gym.make("GridWorld-v0")) for wrapper in (lesson.OneHot, FlattenObservation))
    return sum(int((ours.observation(s) != theirs.observation(s)).sum()) for s in range(12))


def seed_differences(num_envs: int, num_steps: int, seed: int) -> int:
    """Steps in which a vector environment and single ones, seeded by hand, show different things."""
    batch = lesson.collect(make_envs("GridWorld-v0", num_envs), num_steps, seed)
    different = 0
    for i in range(num_envs):
        env = gym.make("GridWorld-v0")
        obs, _ = env.reset(seed=seed + i)
        for t in range(num_steps):
            different += int(obs != batch.obs[t, i])
            obs, _, terminated, truncated, _ = env.step(batch.actions[t, i])
            if terminated or truncated:
                obs, _ = env.reset()
    return different


def parity_differences(num_envs: int, num_steps: int, seed: int) -> int:
    """Entries in which the vector-native world and gymnasium's loop over ours differ, without slipping."""
    options = {"slip": 0.0, "max_episode_steps": 12}
    native = lesson.collect(BatchedGridWorld(num_envs, **options), num_steps, seed)
    loop = lesson.collect(make_envs("GridWorld-v0", num_envs, **options), num_steps, seed)
    return sum(int((ours != theirs).sum()) for ours, theirs in zip(native, loop))


def claim_contract(cfg: lesson.Config, log: RunLog) -> None:
    """check_env, wrapper, seeds, parity."""
    steps = min(cfg.num_steps, 200)
    log.claim(
        "check_env",
        "check_env has nothing to complain about",
        complaints(),
        at_most=0,
        unit="complaints",
        source="gymnasium's own checker",
        always=True,
    )
    log.claim(
        "one_hot",
        "our one-hot wrapper equals gymnasium's FlattenObservation",
        one_hot_differences(),
        at_most=0,
        unit="differ",
        source="gymnasium.wrappers.FlattenObservation",
        always=True,
    )
    log.claim(
        "seeds",
        "environment i of a vector seeded s replays one seeded s + i",
        seed_differences(4, steps, cfg.seed),
        at_most=0,
        unit="differ",
        source="gymnasium's rule",
        always=True,
    )
    log.claim(
        "native_parity",
        "without slip, the vector-native world repeats the single one",
        parity_differences(8, steps, cfg.seed),
        at_most=0,
        unit="differ",
        source="GridWorld-v0, step by step",
        always=True,
    )


# What the mistakes cost


def claim_mistakes(log: RunLog) -> None:
    """What arrives in the wrong place when an episode ends, and what that does to the values."""
    mdp, batch, next_step = log.kept["mdp"], log.kept["batch"], log.kept["next_step"]
    impossible = mdp.P[batch.obs, batch.actions, batch.returned_obs] == 0
    log.claim(
        "wrong_successors",
        "taking obs for the successor is impossible under P, at every terminated step",
        np.mean(impossible[batch.terminated]),
        at_least=1.0,
        unit="of ends",
        source="P",
        always=True,
    )
    ended = (next_step.terminated | next_step.truncated)[:-1]  # [T - 1, N] whose next step is a reset
    dummy = (next_step.rewards[1:] == 0) & (next_step.returned_obs[1:] == lesson.START)
    log.claim(
        "dummies",
        "next-step autoreset adds a dummy transition after each end",
        np.mean(dummy[ended]),
        at_least=1.0,
        unit="of ends",
        source="gymnasium's AutoresetMode",
        always=True,
    )
    for name, statement in (
        ("obs", "obs taken for the successor: the values are wrong"),
        ("dummies", "dummy transitions kept: the values are wrong"),
    ):
        log.claim(
            f"value_{name}",
            statement,
            log.last(f"off_{name}"),
            at_least=8.0,
            unit="std. errors",
            source="twice the bound of the right way",
            seeds="9/10",
        )


# How fast


def steps_per_second(env: gym.Env | gym.vector.VectorEnv, num_steps: int) -> float:
    """Environment steps per CPU second under random actions; the best of three rounds."""
    num_envs = getattr(env, "num_envs", None)
    calls = max(num_steps // (num_envs or 1), 20)
    actions = np.random.default_rng(0).integers(4, size=(calls, num_envs) if num_envs else calls)
    env.reset(seed=0)
    rates = []
    for _ in range(3):
        clock = CpuClock()
        with clock:
            for action in actions:
                _, _, terminated, truncated, _ = env.step(action)
                if num_envs is None and (terminated or truncated):
                    env.reset()
        rates.append(actions.size / max(clock.seconds, 1e-9))
    return max(rates)


def measure_speed(extra: Config, log: RunLog) -> None:
    """Steps per second of one environment, a loop over many, and many in one program."""
    single = steps_per_second(gym.make("GridWorld-v0"), extra.speed_steps)
    for num_envs in SIZES:
        log.write(
            num_envs,
            single_steps_per_second=single,
            sync_steps_per_second=steps_per_second(make_envs("GridWorld-v0", num_envs), extra.speed_steps),
            native_steps_per_second=steps_per_second(BatchedGridWorld(num_envs), extra.speed_steps),
        )
    _, sync = log.series("sync_steps_per_second")
    _, native = log.series("native_steps_per_second")
    log.claim(
        "native_speed",
        "64 worlds in one NumPy program outrun a loop over 64",
        native[2] / sync[2],
        at_least=4.0,
        unit="times faster",
        timed=True,
        source="one NumPy call for all against a Python call for each",
    )


def draw_speed(log: RunLog) -> None:
    """The loop is slower than one alone, whatever N. The NumPy version pays once for each call, so at N = 1
    it is no better, and from there its speed grows almost in proportion to N.
    """
    figure, ax = plotting.new_figure()
    ax.loglog(SIZES, log.series("native_steps_per_second")[1], "o-", label="vector-native (NumPy)")
    ax.loglog(SIZES, log.series("sync_steps_per_second")[1], "s-", label="SyncVectorEnv (a loop)")
    ax.axhline(log.last("single_steps_per_second"), label="one environment", **plotting.REFERENCE)
    ax.set(xlabel="environments side by side", ylabel="steps per CPU second", title="GridWorld: speed")
    ax.set_xticks(SIZES, [str(size) for size in SIZES])
    ax.legend()
    log.figure(figure, "speed")


def film(cfg: lesson.Config, log: RunLog) -> None:
    """A3's best policy at play; where the disc leaves the arrow's way, it slipped."""
    _, policy, _ = policy_iteration(world_4x3())
    best = policy.argmax(axis=1)  # [S]
    env = gym.make("GridWorld-v0", render_mode="rgb_array", slip=cfg.slip)
    obs, _ = env.reset(seed=cfg.seed)
    frames = [env.render()]
    for _ in range(40):
        obs, _, terminated, truncated, _ = env.step(best[obs])
        frames.append(env.render())
        if terminated or truncated:
            frames += [frames[-1]] * 2
            obs, _ = env.reset()
            frames.append(env.render())
    log.film(frames, fps=4)


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    native = BatchedGridWorld(cfg.num_envs, slip=cfg.slip, max_episode_steps=cfg.time_limit)
    claim_contract(cfg, log)
    claim_transitions(cfg, log, lesson.collect(native, cfg.num_steps, cfg.seed))
    claim_mistakes(log)
    measure_speed(extra, log)
    draw_speed(log)
    film(cfg, log)
