"""Grid worlds drawn as maps, what each cell is worth and where a policy goes; scores by task and by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from chapters.envs.gridworld import EXIT_REWARD, MOVES
from chapters.utils import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def forgetting_maps(runs: Sequence[dict], tasks: str, titles: dict[str, str], num_tasks: int = 3) -> Figure:
    """A matrix for each remedy, scores by task (columns) after each task (rows): medians over runs.

    runs: metrics of runs, with `<tasks>_<remedy>_<task>` written once after each task. titles: by remedy.
    """
    figure, axes = plotting.new_figure(1, len(titles), width=3.3, height=3.7)
    numbers = [str(task + 1) for task in range(num_tasks)]
    for ax, (remedy, title) in zip(axes, titles.items()):
        scores = np.array([[run[f"{tasks}_{remedy}_{task}"] for task in range(num_tasks)] for run in runs])
        plotting.grid_map(ax, np.median(scores[..., 1], axis=0).T, title=title)  # [runs, task, when, 2]
        ax.images[0].set_clim(0.0, 1.0)
        ax.set_xticks(range(num_tasks), numbers)
        ax.set_yticks(range(num_tasks), numbers)
        ax.set_xlabel("score on task")
    axes[0].set_ylabel("after learning task")
    return figure
