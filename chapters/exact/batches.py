"""What is known of a batch of transitions: its episodes, and how far its values may be off by chance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from chapters.exact.mdp import MDP


def episode_steps(done: Bool[np.ndarray, "T N"]) -> Int[np.ndarray, "T N"]:
    """The number of each step within its episode, from 1."""
    steps = np.ones(done.shape, dtype=np.int64)
    for t in range(1, len(done)):
        steps[t] = np.where(done[t - 1], 1, steps[t - 1] + 1)
    return steps


def standard_errors(
    mdp: MDP,
    V: Float[np.ndarray, " S"],
    obs: Int[np.ndarray, "*batch"],
    rewards: Float[np.ndarray, "*batch"],
    next_obs: Int[np.ndarray, "*batch"],
    terminated: Bool[np.ndarray, "*batch"],
) -> Float[np.ndarray, " S"]:
    """Standard error of each state's value, solved from counted transitions of the random policy.

    `V` is its true value. With n_s visits of a state, sigma_s^2 the variance of one target there, and
    M = I - gamma P (ends masked), Cov(V) = M^-1 diag(sigma_s^2 / n_s) M^-T in a large batch (mannor2007bias).
    """
    targets = rewards + mdp.gamma * ~terminated * V[next_obs]
    squares = np.square(targets - V[obs])
    visits = np.maximum(np.bincount(obs.ravel(), minlength=len(V)), 1)  # [S]
    variance = np.bincount(obs.ravel(), weights=squares.ravel(), minlength=len(V)) / visits  # [S]
    inverse = np.linalg.inv(np.eye(len(V)) - mdp.gamma * mdp.P.mean(axis=1) * ~mdp.terminal)
    return np.sqrt(np.diag(inverse @ np.diag(variance / visits) @ inverse.T))
