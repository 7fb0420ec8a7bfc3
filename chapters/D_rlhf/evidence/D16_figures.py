"""D16's figure: gold and proxy against the strength of the optimiser, three ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from chapters.utils import plotting

SIZES = {
    16: (plotting.ORANGE, "1/16 of the pairs"),
    4: (plotting.PURPLE, "1/4"),
    1: (plotting.BLUE, "all pairs"),
}
WORLDS = {
    "few": (plotting.ORANGE, "100 pairs"),
    "many": (plotting.BLUE, "1,000 pairs"),
    "ensemble": (plotting.PURPLE, "lowest of 5, 100 pairs each"),
    "sees": (plotting.GREEN, "100 pairs, sees repeats"),
}
DASHED = {"linestyle": "--", "linewidth": 1.6}


def draw_overoptimization(runs: list[dict]) -> Any:
    """Three panels over one or several runs: medians, with the range over runs as a band."""
    figure, axes = plotting.new_figure(1, 3, width=5.4, height=4.4)
    _choice(axes[0], runs)
    _gradient(axes[1], runs)
    _token_world(axes[2], runs)
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


def _choice(ax: Any, runs: list[dict]) -> None:
    ax.plot([], [], color="black", label="gold")
    ax.plot([], [], color="black", label="promised by the proxy", **DASHED)
    for share, (color, label) in SIZES.items():
        _line(ax, runs, "", f"best_of_n_gold_{share}", label, color=color)
        _line(ax, runs, "", f"best_of_n_proxy_{share}", color=color, **DASHED)
    ax.set_xscale("log", base=2)
    ax.set(xlabel="n: the best of n texts", ylabel="reward gained", title="Reviews: choose")
    ax.set_ylim(bottom=-1.3)
    ax.legend(loc="lower right", fontsize=10, ncol=2)


def _gradient(ax: Any, runs: list[dict]) -> None:
    """A dot for each update of each run; the axis of reward is linear around 0 and logarithmic beyond."""
    for run in runs:
        numbers = {name: [v for _, v in run["metrics"][f"rloo_{name}"]] for name in ("kl", "proxy", "gold")}
        kl = np.maximum(numbers["kl"], 0.02)
        first = run is runs[0]
        look = {"linestyle": "", "alpha": 0.8 if len(runs) == 1 else 0.4}
        label = "promised by the proxy of all pairs" if first else None
        ax.plot(kl, numbers["proxy"], "o", markerfacecolor="none", color=plotting.ORANGE, label=label, **look)
        ax.plot(
            kl,
            numbers["gold"],
            "o",
            color=plotting.BLUE,
            markersize=5,
            label="gold" if first else None,
            **look,
        )
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=2.0)
    ax.set_yticks([-20, -10, -5, -2, -1, 0, 1, 2], ["-20", "-10", "-5", "-2", "-1", "0", "1", "2"])
    ax.axhline(0.0, color="grey", linewidth=0.8)
    ax.set(xlabel="KL from the reference, nats (log)", ylabel="reward (log beyond ±2)")
    ax.set_title("Reviews: train the policy")
    ax.legend(loc="lower left", fontsize=10)


def _token_world(ax: Any, runs: list[dict]) -> None:
    for kind, (color, label) in WORLDS.items():
        _line(ax, runs, f"token_{kind}_kl", f"token_{kind}_gold", label, color=color)
    _line(ax, runs, "token_many_kl", "token_many_proxy", "1,000: promised", color=plotting.BLUE, **DASHED)
    ax.set(xlabel="KL from the reference, nats", ylabel="gold reward, exact", title="Token world: exactly")
    ax.legend(loc="best", fontsize=10)
