"""How wrong a policy's value can be in a model of the world: a bound, and a model that meets it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from chapters.exact.mdp import MDP


def total_variation(P: Float[np.ndarray, "*S T"], other: Float[np.ndarray, "*S T"]) -> float:
    """The largest distance between corresponding rows: half the sum of absolute differences."""
    return float(0.5 * np.abs(P - other).sum(axis=-1).max())


def coupling_bound(model_error: float, max_reward: float, gamma: float) -> float:
    """How much a policy's value in the model may miss its value in the world; some model does.

    Rewards are known and between 0 and `max_reward`; the model's rows are at most `model_error` away in total
    variation. Two walks, drawn so as to agree as long as can be, part at step t with chance
    (1 - e)^(t-1) e at worst.
    """
    chance_to_part = gamma * model_error / (1 - gamma * (1 - model_error))  # discounted
    return chance_to_part * max_reward / (1 - gamma)


def simulation_bound(model_error: float, max_reward: float, gamma: float) -> float:
    """The same with the simpler denominator, (1) of note E2 (kearns2002simulation)."""
    return gamma * model_error * max_reward / (1 - gamma) ** 2


def breaking_world(chance: float, max_reward: float, gamma: float) -> MDP:
    """State 0 pays the maximum at each step; with this chance a step it breaks, and state 1 pays nothing."""
    P = np.array([[[1 - chance, chance]], [[0.0, 1.0]]])  # [2, 1, 2]
    return MDP(P, np.array([[max_reward], [0.0]]), np.zeros(2, dtype=bool), gamma)
