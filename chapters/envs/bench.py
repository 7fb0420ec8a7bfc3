"""Cart-poles that somebody else's controller drives, some of them miswired, and the log that they leave."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from chapters.envs.replay import ReplayBuffer
from chapters.envs.vector import make_envs, true_next_obs

CONTROLLER = np.array([0.1, 0.3, 1.0, 0.5])
"""Pushes to the right where this times the observation is positive: 500 steps from every usual start."""
ANYWHERE = np.array([1.2, 1.0, 0.1, 1.0])
"""How far from 0 position, velocity, angle and angular velocity may be where an attempt begins."""
NUM_MACHINES = 10
WRONG_IF_GOOD, WRONG_IF_MISWIRED = 0.05, 0.8


def machines(num_good: int) -> Float[np.ndarray, " N"]:
    """How often each of the ten does the opposite of what is good, if so many are wired rightly."""
    return np.where(np.arange(NUM_MACHINES) < num_good, WRONG_IF_GOOD, WRONG_IF_MISWIRED)


def record(
    wrong: Float[np.ndarray, " N"], num_steps: int, seed: int, anywhere: bool = False, envs: Any = None
) -> ReplayBuffer:
    """`num_steps` transitions of N machines; machine i does the opposite with chance wrong[i].

    A log has obs, actions, rewards, next_obs and terminated: a time limit is no end, and the successor is the
    true one. anywhere: attempts begin within ANYWHERE, not upright in the middle. envs: BatchedCartPole, if
    not the usual one.
    """
    rng = np.random.default_rng((seed, 1))
    envs = make_envs("CartPole-v1", len(wrong)) if envs is None else envs
    obs, _ = envs.reset(seed=seed)
    log, begins = ReplayBuffer(num_steps), np.ones(len(wrong), dtype=bool)
    for _ in range(num_steps // len(wrong)):
        if anywhere and begins.any():
            envs.state[begins] = rng.uniform(-ANYWHERE, ANYWHERE, size=(int(begins.sum()), 4))
            obs = envs.state.astype(np.float32)
        good = obs @ CONTROLLER > 0
        actions = np.where(rng.random(len(wrong)) < wrong, ~good, good).astype(int)
        next_obs, rewards, terminated, truncated, infos = envs.step(actions)
        begins = terminated | truncated
        log.add(
            obs=obs,
            actions=actions,
            rewards=rewards.astype(np.float32),
            next_obs=true_next_obs(next_obs, begins, infos),
            terminated=terminated,
        )
        obs = next_obs
    return log
