"""Small worlds whose values are in print: their arrays, and the tables as the books print them.

* Example 3.5 of Sutton and Barto (suttonbarto2018): a 5x5 grid with two teleports, discount 0.9.
* Example 4.1 there: a 4x4 grid with an end in two corners, -1 a step, no discount.
* The 4x3 world of Russell and Norvig: its values in the third edition (russellnorvig2010aima), the step
  rewards at which its best policy changes in the fourth (russellnorvig2021aima).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from chapters.exact.mdp import MDP, grid_mdp

GRID_5X5 = (".....",) * 5
GRID_4X4 = ("T...", "....", "....", "...T")
WORLD_4X3 = ("...G", ".#.P", "S...")
TURNING_POINTS = (-1.6497, -0.7311, -0.4526, -0.0274)
"""Step rewards at which the best policy of the 4x3 world changes: russellnorvig2021aima, figure 16.2."""


class Table(NamedTuple):
    """Values as a book prints them."""

    world: str
    """What they are the values of."""
    source: str
    """The book and its figure."""
    text: str
    """The values, a cell of the grid each, with the printed number of decimals; nan where there is none."""

    @property
    def num_values(self) -> int:
        """How many values the table holds."""
        return len(self.text.split()) - self.text.count("nan")

    def num_equal(self, V: Float[np.ndarray, " S"]) -> int:
        """How many values, rounded as in the table, read the same there."""
        printed = np.array(self.text.split(), dtype=float)  # [S]
        decimals = len(self.text.split()[0].partition(".")[2])
        return int((np.round(V, decimals) == printed).sum())


TABLES = {
    "example_3_5_random": Table(
        "5x5 grid, random policy",
        "suttonbarto2018, figure 3.2",
        """
         3.3  8.8  4.4  5.3  1.5
         1.5  3.0  2.3  1.9  0.5
         0.1  0.7  0.7  0.4 -0.4
        -1.0 -0.4 -0.4 -0.6 -1.2
        -1.9 -1.3 -1.2 -1.4 -2.0
        """,
    ),
    "example_3_5_best": Table(
        "5x5 grid, best policy",
        "suttonbarto2018, figure 3.5",
        """
        22.0 24.4 22.0 19.4 17.5
        19.8 22.0 19.8 17.8 16.0
        17.8 19.8 17.8 16.0 14.4
        16.0 17.8 16.0 14.4 13.0
        14.4 16.0 14.4 13.0 11.7
        """,
    ),
    "example_4_1_random": Table(
        "4x4 grid, random policy",
        "suttonbarto2018, figure 4.1",
        """
          0. -14. -20. -22.
        -14. -18. -20. -20.
        -20. -20. -18. -14.
        -22. -20. -14.   0.
        """,
    ),
    "world_4x3_best": Table(
        "slippery 4x3 world, best policy",
        "russellnorvig2010aima, figure 17.3",
        """
        0.812 0.868 0.918 nan
        0.762 nan   0.660 nan
        0.705 0.655 0.611 0.388
        """,
    ),
}


def example_3_5() -> MDP:
    """The grid with two teleports: cell 1 (A) pays 10 and leads to 21, cell 3 (B) pays 5 and leads to 13."""
    mdp = grid_mdp(GRID_5X5, gamma=0.9, bump_reward=-1.0)
    for cell, landing, reward in ((1, 21, 10.0), (3, 13, 5.0)):
        mdp.P[cell] = 0.0
        mdp.P[cell, :, landing] = 1.0
        mdp.R[cell] = reward
    return mdp


def example_4_1() -> MDP:
    """The grid with an end in two corners."""
    return grid_mdp(GRID_4X4, gamma=1.0, step_reward=-1.0)


def world_4x3(step_reward: float = -0.04) -> MDP:
    """The slippery world with goal and pit."""
    return grid_mdp(WORLD_4X3, gamma=1.0, slip=0.2, step_reward=step_reward)
