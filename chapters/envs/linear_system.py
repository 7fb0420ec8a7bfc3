"""A linear system with a quadratic cost, many at once in NumPy: its best policy is known in closed form.

The closed form is in `chapters/exact/lqr.py`. It never terminates: a time limit cuts it.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float


class BatchedLinearSystem(gym.vector.VectorEnv):
    """`num_envs` systems x' = A x + B u that pay -(x'Q x + u'R u), with same-step autoreset.

    Observations [N, S] float32 are the states, which begin uniformly within `spread` of 0. Actions [N, U] are
    clipped to `max_action`, which is so far out that no sensible policy goes there.
    """

    def __init__(
        self,
        num_envs: int,
        A: Float[np.ndarray, "S S"],
        B: Float[np.ndarray, "S U"],
        Q: Float[np.ndarray, "S S"],
        R: Float[np.ndarray, "U U"],
        spread: float = 2.0,
        max_action: float = 50.0,
        max_episode_steps: int = 20,
    ) -> None:
        self.metadata = {**self.metadata, "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self.A, self.B, self.Q, self.R = A, B, Q, R
        self.spread, self.max_action = spread, max_action
        num_states, num_actions = B.shape
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (num_states,), np.float32)
        self.single_action_space = gym.spaces.Box(-max_action, max_action, (num_actions,), np.float32)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = self._first(self.num_envs)  # [N, S]
        self.elapsed = np.zeros(self.num_envs, dtype=int)  # [N] steps since the episode began
        return self.observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        x, u = self.state, np.clip(actions, -self.max_action, self.max_action)
        rewards = -((x @ self.Q * x).sum(axis=1) + (u @ self.R * u).sum(axis=1))
        self.state = x @ self.A.T + u @ self.B.T
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
        return self.np_random.uniform(-self.spread, self.spread, size=(count, len(self.A)))

    def observe(self) -> np.ndarray:
        return self.state.astype(np.float32)
