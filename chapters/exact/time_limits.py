"""What a policy earns before the clock runs out, exactly, in gymnasium's small text worlds.

It is read off their own transition tables, which no learner is ever shown. With `k` steps left before the
time limit,

    v_k(s) = sum over a of pi(a|s) [R(s, a) + sum over s' of P(s'|s, a) v_{k-1}(s')],  v_0 = 0,

so v_H is the expected return within H steps; with the best action in place of the mean over the policy it is
the *time-dependent optimum*, the best that anyone can do who may also look at the clock.
"""

from __future__ import annotations

from typing import NamedTuple

import gymnasium as gym
import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, " S"]
Table = Float[np.ndarray, "S A"]

TOLERANCE = 1e-10
"""Value iteration stops where no value changes by more than this part of itself."""
ROUNDING = 1e-15
"""Part of the largest value below which a change is none."""
TIE = 1e-9
"""Actions count as equally good if they differ by at most this part of the largest value."""
MAX_SWEEPS = 300_000
"""Sweeps that value iteration makes before it gives up."""


class Model(NamedTuple):
    """An environment's dynamics as arrays."""

    transitions: Float[np.ndarray, "S A S"]
    """Probabilities; terminal successors are left out, so a row sums to 1 minus the chance of ending."""
    rewards: Table
    """Expected rewards."""
    start: Values
    """Distribution of the first state."""


def read_model(env: gym.Env) -> Model:
    """The model of a gymnasium toy-text environment."""
    table = env.unwrapped.P
    transitions = np.zeros((len(table), len(table[0]), len(table)))  # [S, A, S]
    rewards = np.zeros(transitions.shape[:2])  # [S, A]
    for state, actions in table.items():
        for action, outcomes in actions.items():
            for probability, successor, reward, terminated in outcomes:
                rewards[state, action] += probability * reward
                transitions[state, action, successor] += probability * (not terminated)
    return Model(transitions, rewards, np.asarray(env.unwrapped.initial_state_distrib, dtype=float))


def value_iteration(model: Model, gamma: float) -> Table:
    """The optimal action values without a time limit. Raises RuntimeError if they do not settle."""
    q = np.zeros_like(model.rewards)
    for _ in range(MAX_SWEEPS):
        updated = model.rewards + gamma * model.transitions @ q.max(axis=1)
        sizes = np.abs(updated)
        if (np.abs(updated - q) <= np.maximum(TOLERANCE * sizes, ROUNDING * sizes.max())).all():
            return updated
        q = updated
    raise RuntimeError(
        f"values still move after {MAX_SWEEPS:,} sweeps: does every episode end, or gamma < 1?"
    )


def greedy_policy(q: Table) -> Table:
    """Probabilities of the policy that takes a best action, ties (up to rounding) with equal chance."""
    best = q >= q.max(axis=1, keepdims=True) - TIE * np.abs(q).max()
    return best / best.sum(axis=1, keepdims=True)


def with_exploration(policy: Table, epsilon: float) -> Table:
    """The policy that takes any action at all with probability `epsilon`, and else follows `policy`."""
    return (1 - epsilon) * policy + epsilon / policy.shape[1]


def value_within(model: Model, policy: Table, horizon: int) -> Values:
    """Expected undiscounted return of `policy` from each state within `horizon` steps."""
    values = np.zeros(len(model.rewards))
    for _ in range(horizon):
        values = (policy * (model.rewards + model.transitions @ values)).sum(axis=1)
    return values


def best_within(model: Model, horizon: int, epsilon: float = 0.0) -> Values:
    """The time-dependent optimum; with `epsilon` > 0 among policies that explore at that rate."""
    values = np.zeros(len(model.rewards))
    for _ in range(horizon):
        q = model.rewards + model.transitions @ values  # [S, A]
        values = (1 - epsilon) * q.max(axis=1) + epsilon * q.mean(axis=1)
    return values


def expected_return(env: gym.Env, policy: Table, horizon: int | None = None) -> float:
    """Expected undiscounted return of an episode under `policy`, within the environment's own time limit."""
    model = read_model(env)
    return float(model.start @ value_within(model, policy, horizon or env.spec.max_episode_steps))


def best_return(env: gym.Env, horizon: int | None = None, epsilon: float = 0.0) -> float:
    """The time-dependent optimum of an episode, within the environment's own time limit."""
    model = read_model(env)
    return float(model.start @ best_within(model, horizon or env.spec.max_episode_steps, epsilon))


def exploring_returns(env: gym.Env, epsilon: float, horizon: int) -> tuple[float, float]:
    """Returns within `horizon` steps of an undiscounted world, by two ways to explore at rate `epsilon`.

    First the policy that is optimal *without* exploring, with exploration added: where Q-learning ends. Then
    the best of all policies that explore at this rate: what SARSA strives for.
    """
    optimal = greedy_policy(value_iteration(read_model(env), gamma=1.0))
    around_optimum = expected_return(env, with_exploration(optimal, epsilon), horizon)
    return around_optimum, best_return(env, horizon, epsilon)
