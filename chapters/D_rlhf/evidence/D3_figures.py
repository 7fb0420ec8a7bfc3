"""D3's figure: accuracy and calibration of what was learnt from pairs, ours beside TRL's."""

from __future__ import annotations

from typing import Any

import numpy as np

from chapters.utils import plotting

SIZES = {
    16: (plotting.ORANGE, "1/16 of the pairs"),
    4: (plotting.PURPLE, "1/4"),
    1: (plotting.BLUE, "all pairs"),
}


def draw_reward_model(runs: list[dict]) -> Any:
    """Three panels over one or several runs: medians, with the range over runs as a band."""
    figure, axes = plotting.new_figure(1, 3, width=5.4, height=4.4)
    _accuracy(axes[0], runs)
    _reliability(axes[1], runs)
    _table(axes[2], runs)
    return figure


def _line(ax: Any, runs: list[dict], x: str, y: str, label: str = "", **look: Any) -> None:
    """Median over runs of metric y against that of metric x ("" for its step), with y's range."""
    values = np.array([[value for _, value in run["metrics"][y]] for run in runs])
    steps = [[step if x == "" else value for step, value in run["metrics"][x or y]] for run in runs]
    middle = np.median(steps, axis=0)
    ax.plot(middle, np.median(values, axis=0), label=label, **look)
    if len(runs) > 1:
        ax.fill_between(
            middle, values.min(axis=0), values.max(axis=0), color=look["color"], alpha=0.15, linewidth=0
        )


def _median(runs: list[dict], name: str) -> float:
    return float(np.median([run["metrics"][name][-1][1] for run in runs]))


def _accuracy(ax: Any, runs: list[dict]) -> None:
    ax.axhline(_median(runs, "bayes_ceiling"), label="Bayes ceiling", **plotting.REFERENCE)
    ax.axhline(0.5, color="grey", linestyle=":", label="a coin")
    _line(ax, runs, "", "accuracy", "same number of steps", color=plotting.BLUE, marker="o")
    sizes = [step for step, _ in runs[0]["metrics"]["accuracy"]]
    ax.set(xscale="log", xlabel="labelled pairs", ylabel="accuracy on held-out pairs", ylim=(0.48, 0.9))
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.set_title("More pairs")
    ax.legend(loc="center right")


def _reliability(ax: Any, runs: list[dict]) -> None:
    ax.plot([0, 1], [0, 1], label="calibrated", **plotting.REFERENCE)
    for share, (color, label) in SIZES.items():
        _line(ax, runs, f"forecast_{share}", f"truth_{share}", label, color=color, marker="o", markersize=4)
    ax.set(xlabel="forecast: the first text wins", ylabel="true probability", title="Reliability")
    ax.legend(loc="upper left", fontsize=10)


def _table(ax: Any, runs: list[dict]) -> None:
    """Ours beside TRL's: medians over runs; memory lies in the claims, being no number of the lesson."""
    rows = {"accuracy": "accuracy", "calibration error": "ece", "slope": "slope"}
    rows["CPU seconds"] = "train_cpu_seconds"
    cells = [[f"{_median(runs, prefix + name):.3g}" for prefix in ("", "trl_")] for name in rows.values()]
    ratio = np.median([run["claims"]["trl_megabytes"] for run in runs])
    cells.append(["1", f"{ratio:.2f}"])
    ax.axis("off")
    table = ax.table(
        cells, rowLabels=[*rows, "memory, ours = 1"], colLabels=["ours", "TRL"], bbox=(0.45, 0.1, 0.55, 0.75),
    )  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(13)
    for cell in table.get_celld().values():
        cell.set_edgecolor("lightgrey")
    ax.set_title("Same pairs, steps and first weights")
