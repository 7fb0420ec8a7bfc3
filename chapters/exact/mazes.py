"""How long the best way to an end is: for those who go straight, and for those who also step at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from chapters.exact.mdp import MDP, grid_mdp, policy_iteration


def fewest_steps(mdp: MDP, epsilon: float = 0.0) -> Float[np.ndarray, " S"]:
    """Expected steps to an end under the best policy that takes any action with probability `epsilon`.

    To explore is to slip: the best policy that explores is the best one in a world in which any action is,
    with probability `epsilon`, replaced by a random one, and each step costs 1. RuntimeError if some state
    has no way to an end.
    """
    slipping = (1 - epsilon) * mdp.P + epsilon * mdp.P.mean(axis=1, keepdims=True)  # [S, A, S]
    cost = np.where(mdp.terminal, 0.0, -1.0)[:, None] * np.ones_like(mdp.R)
    return -policy_iteration(MDP(slipping, cost, mdp.terminal, gamma=1.0))[0]


def steps_from_start(grid: Sequence[str], epsilon: float = 0.0) -> float:
    """The same from the start S of a maze without slip."""
    return float(fewest_steps(grid_mdp(grid, gamma=1.0), epsilon)["".join(grid).index("S")])
