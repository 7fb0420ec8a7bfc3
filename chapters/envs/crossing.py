"""A road to cross, many agents at once: five rows of five cells, three of them lanes in which cars go round.

An observation is a picture of two planes, flattened: where the agent stands, and where the cars are.
"""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np

ROAD = (".....", "<c...", ">.c..", "<...c", ".....")
"""The far side, three lanes and the near side. `<` and `>` say which way the cars `c` of a lane go; a sign's
cell is empty at first."""
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1), (0, 0))
"""Actions 0 to 4 as (row step, column step): up, right, down, left, stay."""


def cars(road: Sequence[str]) -> np.ndarray:
    """Where the cars are at each phase, as [columns, rows, columns] bool: after a round all is as before."""
    columns = len(road[0])
    now = np.array([[symbol == "c" for symbol in row] for row in road])  # [rows, columns]
    phases = np.zeros((columns, *now.shape), dtype=bool)
    for phase in range(columns):
        for row, lane in enumerate(road):
            phases[phase, row] = np.roll(now[row], {"<": -phase, ">": phase}.get(lane[0], 0))
    return phases


class Crossing(gym.vector.VectorEnv):
    """`num_envs` agents, each of which must get from the near side to the far one.

    With probability `slip` a random action is taken in place of the chosen one. First the agent moves (the
    edges hold it back), then all cars move by a cell; whoever is where a car is then has lost. The far side
    pays 1, a crash nothing; both terminate. After `max_episode_steps` an episode is truncated. It begins in a
    random cell of the near side, at a random phase of the cars.
    """

    def __init__(
        self, num_envs: int, road: Sequence[str] = ROAD, slip: float = 0.1, max_episode_steps: int = 50
    ) -> None:
        self.num_envs, self.slip, self.max_episode_steps = num_envs, slip, max_episode_steps
        self.metadata = {**self.metadata, "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.cars = cars(road)  # [columns, rows, columns]
        self.rows, self.columns = self.cars.shape[1:]
        self.pictures = np.zeros((self.rows * self.columns**2, 2 * self.rows * self.columns), np.float32)
        for state in range(len(self.pictures)):
            cell, phase = divmod(state, self.columns)
            self.pictures[state, cell] = 1.0
            self.pictures[state, self.rows * self.columns :] = self.cars[phase].ravel()
        self.single_observation_space = gym.spaces.Box(0.0, 1.0, self.pictures.shape[1:], np.float32)
        self.single_action_space = gym.spaces.Discrete(len(MOVES))
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    @property
    def states(self) -> np.ndarray:
        """[N] the number of each agent's state: (row * columns + column) * columns + phase."""
        return (self.row * self.columns + self.column) * self.columns + self.phase

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.row, self.column, self.phase, self.elapsed = np.zeros((4, self.num_envs), dtype=np.int64)
        self._begin(np.ones(self.num_envs, dtype=bool))
        return self.pictures[self.states], {}

    def _begin(self, where: np.ndarray) -> None:
        places = self.np_random.integers(self.columns, size=(2, self.num_envs))
        self.row = np.where(where, self.rows - 1, self.row)
        self.column = np.where(where, places[0], self.column)
        self.phase = np.where(where, places[1], self.phase)
        self.elapsed = np.where(where, 0, self.elapsed)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        slips = self.np_random.random(self.num_envs) < self.slip
        taken = np.where(slips, self.np_random.integers(len(MOVES), size=self.num_envs), actions)
        down, right = np.array(MOVES)[taken].T
        self.row = np.clip(self.row + down, 0, self.rows - 1)
        self.column = np.clip(self.column + right, 0, self.columns - 1)
        self.phase = (self.phase + 1) % self.columns
        self.elapsed += 1
        crashed = self.cars[self.phase, self.row, self.column]
        arrived = self.row == 0
        rewards = arrived.astype(float)
        terminated = arrived | crashed
        truncated = self.elapsed >= self.max_episode_steps
        done = terminated | truncated
        infos = {}
        if done.any():
            infos = {"final_obs": self.pictures[self.states], "_final_obs": done}
            self._begin(done)
        return self.pictures[self.states], rewards, terminated, truncated, infos
