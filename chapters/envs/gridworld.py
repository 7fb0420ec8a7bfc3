"""A slippery grid world: walls, a goal, a pit, and a floor on which the agent sometimes slides sideways.

`GridWorld` is one such world, `BatchedGridWorld` many in one NumPy program.

The default map is the 4x3 world of Russell and Norvig (russellnorvig2010aima, chapter 17), whose optimal
values are published. Lesson A3 writes the same world down as arrays, lesson A4 checks that the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

MAP = ("...G", ".#.P", "S...")
"""S start, G goal (+1), P pit (-1), T an end without reward, # wall, . floor."""
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Actions 0 to 3 as (row step, column step): up, right, down, left."""
EXIT_REWARD = {"G": 1.0, "P": -1.0, "T": 0.0}
COLOURS = {"#": (70, 70, 70), "G": (0, 158, 115), "P": (213, 94, 0), "T": (160, 160, 160)}
FLOOR, AGENT, LINE, CELL = (245, 245, 245), (0, 114, 178), (205, 205, 205), 48


class GridWorld(gym.Env):
    """Reach the goal, avoid the pit.

    Observation: the number of the agent's cell, row * columns + column. Action: up, right, down, left.
    With probability `slip` the agent moves at a right angle to its action, half the time to either side;
    a move into a wall or off the map leaves it where it is. Every step gives `step_reward`, and the step
    into an end adds that end's reward. Terminated on an end; the time limit comes from the registration.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 — gymnasium's own form

    def __init__(
        self,
        grid: Sequence[str] = MAP,
        slip: float = 0.2,
        step_reward: float = -0.04,
        render_mode: str | None = None,
    ) -> None:
        if not 0.0 <= slip <= 1.0:
            raise ValueError(f"slip {slip} is no probability (allowed: 0 to 1)")
        self.grid, self.slip, self.step_reward, self.render_mode = tuple(grid), slip, step_reward, render_mode
        self.rows, self.columns = len(grid), len(grid[0])
        self.start = "".join(grid).index("S")
        self.observation_space = gym.spaces.Discrete(self.rows * self.columns)
        self.action_space = gym.spaces.Discrete(len(MOVES))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)  # seeds self.np_random, the only source of chance here
        self.cell = self.start
        return self.cell, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict]:
        direction, chance = int(action), self.np_random.random()
        if chance < self.slip:
            direction = (direction + (1 if chance < self.slip / 2 else -1)) % 4  # a quarter turn
        self.cell = self._neighbour(self.cell, direction)
        symbol = self._symbol(self.cell)
        reward = self.step_reward + EXIT_REWARD.get(symbol, 0.0)
        return self.cell, reward, symbol in EXIT_REWARD, False, {}

    def render(self) -> str | np.ndarray | None:
        if self.render_mode == "ansi":
            rows = [list(row) for row in self.grid]
            rows[self.cell // self.columns][self.cell % self.columns] = "@"
            return "\n".join("".join(row) for row in rows)
        if self.render_mode == "rgb_array":
            return self._picture()
        return None

    def _symbol(self, cell: int) -> str:
        return self.grid[cell // self.columns][cell % self.columns]

    def _neighbour(self, cell: int, direction: int) -> int:
        """The cell one step in `direction`, or `cell` itself if that is a wall or off the map."""
        row, column = cell // self.columns + MOVES[direction][0], cell % self.columns + MOVES[direction][1]
        inside = 0 <= row < self.rows and 0 <= column < self.columns
        return row * self.columns + column if inside and self.grid[row][column] != "#" else cell

    def _picture(self) -> np.ndarray:
        """[rows * CELL, columns * CELL, 3] uint8: coloured cells, the agent as a disc."""
        picture = np.empty((self.rows * CELL, self.columns * CELL, 3), dtype=np.uint8)
        y, x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2  # [CELL, CELL] distances from a cell's centre
        for cell in range(self.rows * self.columns):
            tile = np.full((CELL, CELL, 3), COLOURS.get(self._symbol(cell), FLOOR), dtype=np.uint8)
            tile[0, :] = tile[:, 0] = LINE
            if cell == self.cell:
                tile[x**2 + y**2 < (0.32 * CELL) ** 2] = AGENT
            top, left = cell // self.columns * CELL, cell % self.columns * CELL
            picture[top : top + CELL, left : left + CELL] = tile
        return picture


class BatchedGridWorld(gym.vector.VectorEnv):
    """`num_envs` times GridWorld in NumPy (same moves, rewards and ends), with same-step autoreset.

    gymnasium's vector environment is a Python loop and saves nothing. Here random numbers, moves, rewards and
    resets are array operations, and a table says where each move leads: one call moves all the worlds.
    """

    def __init__(
        self,
        num_envs: int,
        grid: Sequence[str] = MAP,
        slip: float = 0.2,
        step_reward: float = -0.04,
        max_episode_steps: int = 50,
    ) -> None:
        world = GridWorld(grid, slip)
        self.num_envs, self.slip, self.step_reward = num_envs, slip, step_reward
        self.max_episode_steps = max_episode_steps
        self.metadata = {**self.metadata, "autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        cells = "".join(grid)
        self.start = world.start
        directions = range(len(MOVES))
        self.landing = np.array(  # [S, 4] where each direction leads
            [[world._neighbour(cell, direction) for direction in directions] for cell in range(len(cells))]
        )
        self.exit_reward = np.array([EXIT_REWARD.get(symbol, 0.0) for symbol in cells])  # [S]
        self.ends = np.array([symbol in EXIT_REWARD for symbol in cells])  # [S]
        self.single_observation_space = world.observation_space
        self.single_action_space = world.action_space
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cells = np.full(self.num_envs, self.start)  # [N]
        self.elapsed = np.zeros(self.num_envs, dtype=np.int64)  # [N] steps since the episode began
        return self.cells.copy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        chance = self.np_random.random(self.num_envs)
        turn = (chance < self.slip / 2).astype(int) - ((chance >= self.slip / 2) & (chance < self.slip))
        self.cells = self.landing[self.cells, (actions + turn) % 4]
        self.elapsed += 1
        rewards = self.step_reward + self.exit_reward[self.cells]
        terminated = self.ends[self.cells]
        truncated = self.elapsed >= self.max_episode_steps
        done = terminated | truncated
        infos = {}
        if done.any():
            infos = {"final_obs": self.cells, "_final_obs": done}
            self.cells = np.where(done, self.start, self.cells)
            self.elapsed[done] = 0
        return self.cells.copy(), rewards, terminated, truncated, infos
