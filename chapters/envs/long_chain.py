"""Doors in a row, where random steps get nowhere: one action leads on, the other ends all for a small pay."""

from __future__ import annotations

import gymnasium as gym
import numpy as np


class LongChain(gym.vector.VectorEnv):
    """`num_envs` agents in a chain of `length` states; each begins in the first one.

    Action 0 ends the episode and pays `pay`. Action 1 leads to the next state, for nothing; in the last state
    it ends the episode and pays 1. Observations are one-hot. Nothing is random and nothing is truncated. Who
    tosses a coin at each step comes to the end with chance 1 / 2^length.
    """

    def __init__(self, num_envs: int, length: int, pay: float = 0.02) -> None:
        self.num_envs, self.length, self.pay = num_envs, length, pay
        self.metadata = {**self.metadata, "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.pictures = np.eye(length, dtype=np.float32)
        self.single_observation_space = gym.spaces.Box(0.0, 1.0, (length,), np.float32)
        self.single_action_space = gym.spaces.Discrete(2)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.num_arrivals = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.place = np.zeros(self.num_envs, dtype=np.int64)
        return self.pictures[self.place], {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        arrived = (actions == 1) & (self.place == self.length - 1)
        terminated = (actions == 0) | arrived
        rewards = np.where(actions == 0, self.pay, arrived.astype(float))
        self.num_arrivals += int(arrived.sum())
        infos = {}
        if terminated.any():
            infos = {"final_obs": self.pictures[self.place], "_final_obs": terminated}
        self.place = np.where(terminated, 0, self.place + 1)
        return self.pictures[self.place], rewards, terminated, np.zeros_like(terminated), infos
