"""Random actions now and then: what B0 and B1 taught, for the learners after them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


# same-as: B0.epsilon_greedy
def epsilon_greedy(
    q_values: Float[np.ndarray, "N A"], epsilon: float, rng: np.random.Generator
) -> Int[np.ndarray, " N"]:
    """A uniformly random action with probability `epsilon`, else a best one, ties broken at random."""
    num_envs, num_actions = q_values.shape
    is_best = q_values == q_values.max(axis=1, keepdims=True)
    greedy = np.where(is_best, rng.random(q_values.shape), -1.0).argmax(axis=1)
    explore = rng.random(num_envs) < epsilon
    return np.where(explore, rng.integers(num_actions, size=num_envs), greedy)


def falling(step: int, num_steps: int, end: float) -> float:
    """The share of random actions at `step`: from 1 in a line to `end` after `num_steps`, then no lower.

    >>> [falling(step, 1000, 0.1) for step in (0, 500, 1000, 2000)]
    [1.0, 0.55, 0.1, 0.1]
    """
    return max(end, 1.0 - (1.0 - end) * step / num_steps)
