"""Pendulum-v1, many at once in NumPy: the same dynamics as gymnasium's, one array operation for all.

It never terminates: after 200 steps a time limit cuts it. The tests hold it to gymnasium's single
environment, step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

GRAVITY, MASS, LENGTH = 10.0, 1.0, 1.0
MAX_SPEED, MAX_TORQUE, SECONDS_PER_STEP = 8.0, 2.0, 0.05
FIRST_ANGLE, FIRST_SPEED = np.pi, 1.0  # an episode begins anywhere on the circle, slowly


class BatchedPendulum(gym.vector.VectorEnv):
    """`num_envs` pendulums with same-step autoreset.

    Observations [N, 3] float32: cosine and sine of the angle (0 is upright), angular velocity. Actions
    [N, 1]: the torque, clipped to [-2, 2]. Reward: minus the squares of angle, speed and torque, weighted.
    """

    def __init__(self, num_envs: int, max_episode_steps: int = 200) -> None:
        self.metadata = {**self.metadata, "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        high = np.array([1.0, 1.0, MAX_SPEED], dtype=np.float32)
        self.single_observation_space = gym.spaces.Box(-high, high, dtype=np.float32)
        self.single_action_space = gym.spaces.Box(-MAX_TORQUE, MAX_TORQUE, shape=(1,), dtype=np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = self._first(self.num_envs)  # [N, 2] angle, angular velocity
        self.elapsed = np.zeros(self.num_envs, dtype=int)  # [N] steps since the episode began
        return self.observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        angle, speed = self.state.T
        torque = np.clip(np.asarray(actions)[:, 0], -MAX_TORQUE, MAX_TORQUE)
        off_upright = (angle + np.pi) % (2 * np.pi) - np.pi
        rewards = -(off_upright**2 + 0.1 * speed**2 + 0.001 * torque**2)

        push = 3 * GRAVITY / (2 * LENGTH) * np.sin(angle) + 3.0 / (MASS * LENGTH**2) * torque
        speed = np.clip(speed + push * SECONDS_PER_STEP, -MAX_SPEED, MAX_SPEED)
        self.state = np.stack([angle + speed * SECONDS_PER_STEP, speed], axis=1)
        self.elapsed += 1

        truncated = self.elapsed >= self.max_episode_steps
        obs = self.observe()
        infos: dict[str, Any] = {}
        if truncated.any():
            infos = {"final_obs": obs.copy(), "_final_obs": truncated}
            self.state[truncated] = self._first(int(truncated.sum()))
            self.elapsed[truncated] = 0
            obs = self.observe()
        return obs, rewards, np.zeros(self.num_envs, dtype=bool), truncated, infos

    def _first(self, count: int) -> np.ndarray:
        high = np.array([FIRST_ANGLE, FIRST_SPEED])
        return self.np_random.uniform(-high, high, size=(count, 2))

    def observe(self) -> np.ndarray:
        angle, speed = self.state.T
        return np.stack([np.cos(angle), np.sin(angle), speed], axis=1).astype(np.float32)


class DiscretePendulum(BatchedPendulum):
    """The same for learners of discrete actions that know no units: five torques, and small numbers.

    Observations [N, 3] float32 are at most 1: the angular velocity counts in units of its limit. Actions [N]
    0 to 4: the torques -2, -1, 0, 1, 2. Rewards are a tenth of Pendulum-v1's.
    """

    TORQUES = np.linspace(-MAX_TORQUE, MAX_TORQUE, 5)
    PART_OF_REWARD = 0.1

    def __init__(self, num_envs: int, max_episode_steps: int = 200) -> None:
        super().__init__(num_envs, max_episode_steps)
        self.single_observation_space = gym.spaces.Box(-1.0, 1.0, shape=(3,), dtype=np.float32)
        self.single_action_space = gym.spaces.Discrete(len(self.TORQUES))
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        obs, rewards, *ends, infos = super().step(self.TORQUES[actions][:, None])
        return obs, self.PART_OF_REWARD * rewards, *ends, infos

    def observe(self) -> np.ndarray:
        return super().observe() / np.array([1.0, 1.0, MAX_SPEED], dtype=np.float32)


def film_pendulums(policies: dict[str, Callable], num_steps: int = 160) -> list[np.ndarray]:
    """Frames [150, 150 * policies, 3]: each policy, by name, from hanging down; every second step."""
    films = []
    for name, policy in policies.items():
        envs, frames = BatchedPendulum(1), []
        envs.reset(seed=0)
        envs.state[:] = (np.pi, 0.1)
        for _ in range(num_steps):
            frames.append(draw_pendulum(envs.state[0, 0], name))
            envs.step(policy(envs.observe()))
        films.append(frames[::2])
    return [np.concatenate(row, axis=1) for row in zip(*films)]


def draw_pendulum(angle: float, title: str = "", size: int = 150) -> np.ndarray:
    """One pendulum as a picture [size, size, 3]; angle 0 is upright. Drawn twice as large, then shrunk."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (2 * size, 2 * size), "white")
    pen, length = ImageDraw.Draw(picture), 0.7 * size
    tip = (size - length * np.sin(angle), 1.1 * size - length * np.cos(angle))
    pen.line([(size, 1.1 * size), tip], fill="#D55E00", width=size // 8)
    for (x, y), radius, ink in ((tip, size / 16, "#D55E00"), ((size, 1.1 * size), size / 24, "black")):
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=ink)
    pen.text((size // 10, size // 20), title, fill="black", font_size=size // 6)
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
