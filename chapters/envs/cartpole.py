"""CartPole-v1, many at once in NumPy: the same dynamics as gymnasium's, one array operation for all.

Gymnasium has a batched CartPole too, but it resets on the *next* step and hands out no final observation,
so that a time limit cannot be bootstrapped from it. This one resets in the same step. The tests hold it to
gymnasium's single environment, step by step.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5
FORCE, SECONDS_PER_STEP = 10.0, 0.02
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360
TOTAL_MASS, POLE_MASS_LENGTH = CART_MASS + POLE_MASS, POLE_MASS * HALF_LENGTH


class BatchedCartPole(gym.vector.VectorEnv):
    """`num_envs` cart-poles (barto1983neuronlike) with same-step autoreset.

    Observations [N, 4] float32: position, velocity, angle, angular velocity. Actions [N] in {0, 1}.
    Reward 1 a step. Terminated past 2.4 m or 12 degrees; truncated after `max_episode_steps`.
    """

    def __init__(self, num_envs: int, max_episode_steps: int = 500) -> None:
        self.metadata = {**self.metadata, "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        high = np.array([2 * X_LIMIT, np.inf, 2 * ANGLE_LIMIT, np.inf], dtype=np.float32)
        self.single_observation_space = gym.spaces.Box(-high, high, dtype=np.float32)
        self.single_action_space = gym.spaces.Discrete(2)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-0.05, 0.05, size=(self.num_envs, 4))  # [N, 4]
        self.elapsed = np.zeros(self.num_envs, dtype=int)  # [N] steps since the episode began
        return self.state.astype(np.float32), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        _, x_dot, theta, theta_dot = self.state.T
        force = np.where(np.asarray(actions) == 1, FORCE, -FORCE)
        cos, sin = np.cos(theta), np.sin(theta)
        push = (force + POLE_MASS_LENGTH * np.square(theta_dot) * sin) / TOTAL_MASS
        theta_acc = (GRAVITY * sin - cos * push) / (
            HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * np.square(cos) / TOTAL_MASS)
        )
        x_acc = push - POLE_MASS_LENGTH * theta_acc * cos / TOTAL_MASS
        derivative = np.stack([x_dot, x_acc, theta_dot, theta_acc], axis=1)
        self.state = self.state + SECONDS_PER_STEP * derivative  # explicit Euler, as in gymnasium
        self.elapsed += 1

        terminated = (np.abs(self.state[:, 0]) > X_LIMIT) | (np.abs(self.state[:, 2]) > ANGLE_LIMIT)
        truncated = self.elapsed >= self.max_episode_steps
        obs = self.state.astype(np.float32)
        infos: dict[str, Any] = {}
        done = terminated | truncated
        if done.any():
            infos = {"final_obs": obs.copy(), "_final_obs": done}
            self.state[done] = self.np_random.uniform(-0.05, 0.05, size=(int(done.sum()), 4))
            self.elapsed[done] = 0
            obs[done] = self.state[done]
        return obs, np.ones(self.num_envs), terminated, truncated, infos


def linear_returns(policies: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The return [N] of one episode from each of `starts` [N, 4], pushed to the right where w·s > 0.

    policies: w of each, [N, 4]. No row depends on the others: alone or among many, the digits are the same.
    """
    envs = BatchedCartPole(len(starts))
    envs.reset(seed=0)
    obs = envs.state = np.array(starts, dtype=float)
    returns, alive = np.zeros(len(starts)), np.ones(len(starts), dtype=bool)
    while alive.any():
        obs, _, terminated, truncated, _ = envs.step(((obs * policies).sum(axis=1) > 0).astype(int))
        returns += alive
        alive &= ~(terminated | truncated)
    return returns
