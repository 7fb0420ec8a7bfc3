"""Grid worlds drawn as maps: what each cell is worth, and where a policy goes from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from chapters.envs.gridworld import EXIT_REWARD, MOVES
from chapters.utils import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIGNS = {"#": "wall", "G": "goal +1", "P": "pit −1", "T": "end"}


def value_map(
    ax: Axes,
    grid: Sequence[str],
    values: np.ndarray,
    policy: np.ndarray | None = None,
    *,
    names: dict[int, str] | None = None,
    title: str = "",
    decimals: int = 2,
) -> None:
    """The values [S] of a grid's cells; with a policy [S, A], an arrow for each action that it takes.

    An end is coloured by the reward for entering it, a wall not at all. `names` are written into cells, above
    their values.
    """
    symbols = np.array([list(row) for row in grid])  # [rows, columns]
    shown = np.array(values, dtype=float).reshape(symbols.shape)
    labels = np.empty(symbols.shape, dtype=object)
    arrows = np.empty(symbols.shape, dtype=object)
    for index, symbol in np.ndenumerate(symbols):
        cell = int(np.ravel_multi_index(index, symbols.shape))
        name = (names or {}).get(cell, "")
        labels[index] = SIGNS.get(symbol) or f"{name}\n{shown[index]:.{decimals}f}".strip()
        arrows[index] = [] if symbol in SIGNS or policy is None else list(np.flatnonzero(policy[cell]))
        if symbol in SIGNS:
            shown[index] = EXIT_REWARD.get(symbol, np.nan)
    plotting.grid_map(ax, shown, None if policy is None else arrows, arrows=MOVES, labels=labels, title=title)
