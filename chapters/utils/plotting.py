"""One plot style: readable at half width, safe for colour-blind eyes, references drawn in.

numpy and matplotlib are imported by the functions that use them, so that `rl list` need not wait for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chapters.utils.runlog import RunLog

# Okabe and Ito's palette, told apart with every common form of colour blindness
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
RED = "#D55E00"
SKY = "#56B4E9"
YELLOW = "#F0E442"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)
REFERENCE = {"color": "black", "linestyle": "--", "linewidth": 1.2}
"""How an optimum, a bound or a threshold is drawn: `ax.axhline(475, label="solved", **REFERENCE)`."""
STYLE = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 110,
    "image.cmap": "viridis",
}


def new_figure(
    nrows: int = 1, ncols: int = 1, *, width: float = 6.4, height: float = 4.2
) -> tuple[Figure, Any]:
    """(figure, axes) in the course's style; `width` and `height` are inches for one panel.

    Made without pyplot: no window, no global state, nothing to close.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({**STYLE, "axes.prop_cycle": cycler(color=COLOURS)})
    figure = Figure(figsize=(width * ncols, height * nrows))
    return figure, figure.subplots(nrows, ncols)


def seed_band(ax: Axes, x: Sequence, curves: Any, label: str, color: str = BLUE) -> None:
    """Median of `curves` [seeds, len(x)] as a line, their range (min to max) as a band."""
    import numpy as np

    curves = np.atleast_2d(np.asarray(curves, dtype=float))
    ax.plot(x, np.median(curves, axis=0), color=color, label=f"{label} (median, range of {len(curves)})")
    ax.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.2, linewidth=0)


def dot_rows(ax: Axes, rows: dict[str, Sequence[float]], colors: Sequence[str]) -> None:
    """A row for each label: a dot for each value, a bar at the median, and in words how many are infinite."""
    import numpy as np

    for row, (values, color) in enumerate(zip(rows.values(), colors)):
        values = np.asarray(values, dtype=float)
        finite = values[np.isfinite(values)]
        heights = row + (0.2 * np.linspace(-1, 1, len(finite)) if len(finite) > 1 else 0.0)
        ax.plot(finite, np.broadcast_to(heights, finite.shape), "o", color=color, markersize=5, alpha=0.8)
        if np.isfinite(np.median(values)):
            ax.plot([np.median(values)] * 2, [row - 0.36, row + 0.36], color="black", linewidth=2.5)
        if len(finite) < len(values):
            text = f" {len(values) - len(finite)} of {len(values)} never"
            ax.text(1.0, row, text, va="center", color=RED, fontsize=10, transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlim=(0, None), ylim=(len(rows) - 0.4, -0.6))
    ax.grid(axis="y", visible=False)


def bar_rows(ax: Axes, values: dict[str, float], colors: Sequence[str]) -> None:
    """A horizontal bar for each label, from the top, with its value written behind it."""
    ax.barh(list(values), list(values.values()), color=colors)
    for row, value in enumerate(values.values()):
        ax.text(value, row, f" {value:.2g}", va="center")
    ax.set(xlim=(0, 1.2 * max(values.values())), ylim=(len(values) - 0.4, -0.6))
    ax.grid(axis="y", visible=False)


def learning_curve(
    log: RunLog,
    metric: str,
    *,
    threshold: float | None = None,
    title: str = "",
    xlabel: str = "update",
    ylabel: str | None = None,
) -> None:
    """Save the figure of one metric of this run against its steps, with the threshold drawn in."""
    figure, ax = new_figure()
    ax.plot(*log.series(metric), label="this run")
    if threshold is not None:
        ax.axhline(threshold, label=f"threshold {threshold:g}", **REFERENCE)
    ax.set(xlabel=xlabel, ylabel=ylabel or metric.replace("_", " "), title=title)
    ax.legend()
    log.figure(figure)


def grid_map(
    ax: Axes,
    values: Any,
    actions: Any = None,
    *,
    arrows: Sequence[tuple[int, int]] = (),
    labels: Any = None,
    title: str = "",
    colorbar: str = "",
) -> None:
    """A value map [rows, columns] with an arrow for each action and a text in each cell.

    actions: [rows, columns] of action numbers, or of collections of them (ties); negative or empty draws
    none. arrows: (row step, column step) of each action. labels: [rows, columns] of texts, default the
    values.
    """
    import numpy as np

    values = np.asarray(values, dtype=float)
    image = ax.imshow(values)
    ax.set(xticks=[], yticks=[], title=title)
    ax.grid(False)
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if value < middle else "black"  # legible on both ends of viridis
        text = f"{value:.2f}" if labels is None else labels[row][column]
        ax.text(
            column,
            row + (0.3 if actions is not None else 0),
            text,
            ha="center",
            va="center",
            color=ink,
            fontsize=9,
        )
        if actions is None:
            continue
        for action in np.atleast_1d(actions[row][column]):
            if action >= 0:
                down, right = arrows[int(action)]
                start, end = (column, row - 0.1), (column + 0.32 * right, row - 0.1 + 0.32 * down)
                ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": ink, "lw": 1.5})
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label=colorbar, shrink=0.8)
