"""The mazes of Sutton and Barto's chapter on planning, many agents at once; two of them change on the way.

Every step pays 0, the step onto the goal 1. Nothing slips, and no clock runs. (suttonbarto2018, examples 8.1
to 8.4.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chapters.envs.gridworld import BatchedGridWorld

MAZE = (".......#G", "..#....#.", "S.#....#.", "..#......", ".....#...", ".........")
"""Example 8.1: the shortest way has 14 steps."""
GAP_RIGHT = ("........G", ".........", ".........", "########.", ".........", "...S.....")
"""A wall with a gap on the right: 10 steps."""
GAP_LEFT = ("........G", ".........", ".........", ".########", ".........", "...S.....")
"""The same wall with its gap on the left: 16 steps. Example 8.2 turns the one into the other."""
BOTH_GAPS = ("........G", ".........", ".........", ".#######.", ".........", "...S.....")
"""A gap on either side: 10 steps again. Example 8.3 opens it in the wall that had one on the left."""
NO_LIMIT = 10**9


class Mazes(BatchedGridWorld):
    """`num_envs` copies of a maze; after `change_after` steps it looks like `later`.

    An agent that stands where there is a wall from then on walks out of it as out of any cell.
    """

    def __init__(
        self, num_envs: int, grid: Sequence[str], later: Sequence[str] | None = None, change_after: int = 0
    ) -> None:
        super().__init__(num_envs, grid, slip=0.0, step_reward=0.0, max_episode_steps=NO_LIMIT)
        self.change_after = change_after
        self.now = self.landing  # [S, 4] where each move leads
        self.later = self.now if later is None else BatchedGridWorld(1, later, slip=0.0).landing

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self.steps = 0
        return super().reset(seed=seed, options=options)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        self.landing = self.now if self.steps < self.change_after else self.later
        self.steps += 1
        return super().step(actions)


def finer(grid: Sequence[str], factor: int) -> tuple[str, ...]:
    """The maze with each cell cut into factor x factor cells; start and goal stay one cell, a corner.

    >>> finer(("S#", ".G"), 2)
    ('..##', 'S.##', '...G', '....')
    """
    rows = []
    for row in grid:
        floor = "".join(symbol * factor if symbol == "#" else "." * factor for symbol in row)
        top, bottom = list(floor), list(floor)
        for column, symbol in enumerate(row):
            if symbol == "G":
                top[(column + 1) * factor - 1] = "G"
            if symbol == "S":
                bottom[column * factor] = "S"
        if factor == 1:
            rows.append(row)
            continue
        rows += ["".join(top), *[floor] * (factor - 2), "".join(bottom)]
    return tuple(rows)
