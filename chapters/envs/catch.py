"""Catch a ball that hides: a small picture, of which no single one tells where the ball will land.

Six rows of five pixels. A ball falls a row a step and a column to the left or to the right, and bounces off
the walls; a paddle in the last row moves a column a step. Before the ball lands it is hidden for two rows. An
episode is five steps and then ends (`terminated`): reward 1 if the ball is caught, -1 if it is missed. After
bsuite's Catch (osband2020bsuite), where the ball falls straight and is always seen.

Whoever remembers can catch every ball: the way is known from the second picture on, four steps are left then,
and no column is further than four from another. So the highest return is 1.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float, Int

ROWS, COLUMNS = 6, 5
HIDDEN = (3, 4)
"""Rows in which the ball is not seen."""
NUM_STEPS = ROWS - 1
"""Steps of an episode."""
LEFT, STAY, RIGHT = range(3)
"""What can be done."""


def ball_column(
    first: Int[np.ndarray, "*B"], direction: Int[np.ndarray, "*B"], row: Int[np.ndarray, "*B"] | int
) -> Int[np.ndarray, "*B"]:
    """Where a ball is that began in column `first` and goes to the side, -1 or 1, bouncing off both walls."""
    period = 2 * (COLUMNS - 1)
    unfolded = (first + direction * row) % period  # 0 .. 7: there and back
    return np.minimum(unfolded, period - unfolded)


def picture(
    row: Int[np.ndarray, "*B"], ball: Int[np.ndarray, "*B"], paddle: Int[np.ndarray, "*B"]
) -> Float[np.ndarray, "*B 30"]:
    """Pixels, row by row: 1 where the paddle is and where the ball is, if it is seen."""
    pixels = np.zeros((*row.shape, ROWS * COLUMNS), dtype=np.float32)
    seen = ~np.isin(row, HIDDEN)
    np.put_along_axis(pixels, ((ROWS - 1) * COLUMNS + paddle)[..., None], 1.0, axis=-1)
    at = (row * COLUMNS + ball)[..., None]
    there = np.take_along_axis(pixels, at, axis=-1)
    np.put_along_axis(pixels, at, np.maximum(there, seen[..., None]).astype(np.float32), axis=-1)
    return pixels


def all_starts() -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, " S"], Int[np.ndarray, " S"]]:
    """(first column of the ball, its direction, column of the paddle) of every way to begin, all alike."""
    grids = np.meshgrid(np.arange(COLUMNS), np.array([-1, 1]), np.arange(COLUMNS), indexing="ij")
    first, direction, paddle = (grid.ravel() for grid in grids)
    return first, direction, paddle


class BatchedCatch(gym.vector.VectorEnv):
    """`num_envs` games with same-step autoreset.

    Observations [N, 30 x num_frames] float32: the last `num_frames` pictures, the oldest first; before an
    episode's first picture there is nothing, 0. Actions [N]: 0 left, 1 stay, 2 right.
    """

    def __init__(self, num_envs: int, num_frames: int = 1) -> None:
        self.metadata = {**self.metadata, "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.num_envs, self.num_frames = num_envs, num_frames
        size = num_frames * ROWS * COLUMNS
        self.single_observation_space = gym.spaces.Box(0.0, 1.0, shape=(size,), dtype=np.float32)
        self.single_action_space = gym.spaces.Discrete(3)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.row = np.zeros(self.num_envs, dtype=int)
        self.first, self.direction, self.paddle = (self.row.copy() for _ in range(3))
        self.frames = np.zeros((self.num_envs, self.num_frames, ROWS * COLUMNS), dtype=np.float32)
        self._begin(np.arange(self.num_envs))
        return self._obs(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        self.paddle = np.clip(self.paddle + np.asarray(actions) - STAY, 0, COLUMNS - 1)
        self.row = self.row + 1
        terminated = self.row == ROWS - 1
        caught = ball_column(self.first, self.direction, self.row) == self.paddle
        rewards = np.where(terminated, np.where(caught, 1.0, -1.0), 0.0)
        self.frames[:, :-1] = self.frames[:, 1:]
        self._show(slice(None))
        obs, infos = self._obs(), {}
        if terminated.any():
            infos = {"final_obs": obs.copy(), "_final_obs": terminated}
            self._begin(np.flatnonzero(terminated))
            obs = self._obs()
        return obs, rewards, terminated, np.zeros(self.num_envs, dtype=bool), infos

    def _begin(self, which: np.ndarray) -> None:
        self.row[which] = 0
        self.first[which] = self.np_random.integers(COLUMNS, size=len(which))
        self.direction[which] = self.np_random.choice([-1, 1], size=len(which))
        self.paddle[which] = self.np_random.integers(COLUMNS, size=len(which))
        self.frames[which] = 0.0
        self._show(which)

    def _show(self, which: np.ndarray | slice) -> None:
        ball = ball_column(self.first, self.direction, self.row)
        self.frames[which, -1] = picture(self.row, ball, self.paddle)[which]

    def _obs(self) -> Float[np.ndarray, "N D"]:
        return self.frames.reshape(self.num_envs, -1).copy()


class EveryStart(BatchedCatch):
    """A game for each way to begin: one episode of each, and a mean over them is exact."""

    def __init__(self, num_frames: int = 1) -> None:
        super().__init__(len(all_starts()[0]), num_frames)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.first, self.direction, self.paddle = all_starts()
        self._show(np.arange(self.num_envs))
        return self._obs(), {}


class HiddenCatch(gym.Env):
    """One game, for gymnasium."""

    metadata = {"render_modes": []}  # noqa: RUF012 — gymnasium's own form

    def __init__(self, num_frames: int = 1) -> None:
        self.games = BatchedCatch(1, num_frames)
        self.observation_space = self.games.single_observation_space
        self.action_space = self.games.single_action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self.games.reset(seed=seed)[0][0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, rewards, terminated, _, infos = self.games.step(np.array([action]))
        seen = infos["final_obs"] if terminated[0] else obs
        return seen[0], float(rewards[0]), bool(terminated[0]), False, {}
