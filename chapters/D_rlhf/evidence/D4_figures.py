"""The pictures of D4's evidence: labels, a far world, cost beside TRL, and what the model writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chapters.utils import plotting

if TYPE_CHECKING:
    from chapters.utils.runlog import RunLog

LABELS = {
    "soft": "soft labels",
    "uniform": "soft, uniform pairs",
    "sampled": "sampled labels, fresh pairs",
    "fixed_once": "20,000 fixed pairs, seen once",
    "fixed_twice": "seen twice",
    "fixed": "seen twenty times",
    "hard": "hard labels",
    "smoothed": "hard, smoothed by 0.1",
    "ipo": "IPO, hard labels",
    "mean": "mean over tokens",
    "along": "reference trains along",
}
TRAINERS = {"ours": "ours", "trl": "TRL", "trl_precomputed": "TRL, reference\ncomputed first"}


def last(metrics: dict, name: str) -> float:
    """The latest value of a metric of one run."""
    return metrics[name][-1][1]


def draw_labels(runs: list[dict], log: RunLog) -> None:
    """Share of the gap closed and distance from the reference for each kind of label, a dot for each run."""
    figure, (gaps, distances) = plotting.new_figure(1, 2, width=7.2, height=5.0)
    colors = [plotting.BLUE] * 3 + [plotting.ORANGE] * 3 + [plotting.RED] * 2 + [plotting.PURPLE] * 3
    rows = {label: [last(run, f"token_gap_{name}") for run in runs] for name, label in LABELS.items()}
    plotting.dot_rows(gaps, {label: np.clip(values, -0.3, 1.0) for label, values in rows.items()}, colors)
    gaps.axvline(0.95, **plotting.REFERENCE)
    gaps.set(
        xlim=(-0.35, 1.05), xlabel="share of the gap to the optimum closed\n(-0.3 and below at the edge)"
    )
    gaps.set_title("Where each kind of label leads")
    rows = {
        label: [last(run, f"token_kl_{name}") / last(run, "token_optimum_kl") for run in runs]
        for name, label in LABELS.items()
    }
    plotting.dot_rows(distances, rows, colors)
    distances.axvline(1.0, **plotting.REFERENCE)
    distances.set(xlabel="KL from the reference, in units of the optimum's", title="How far it leads")
    distances.set_yticklabels([])
    log.figure(figure, "labels")


def draw_far(log: RunLog) -> None:
    """The share of the gap closed on the way, in this world and in one whose optimum lies far away."""
    figure, ax = plotting.new_figure(width=7.0, height=4.0)
    for suffix, end, color in (("soft", "", plotting.BLUE), ("far", "_far", plotting.RED)):
        kl = log.last(f"token_optimum_kl{end}")
        steps, gaps = log.series(f"token_gap_{suffix}")
        ax.plot(steps, gaps, color=color, label=f"optimum {kl:.1f} nats away")
    ax.axhline(0.95, **plotting.REFERENCE)
    ax.set(xlabel="gradient steps (each round ends at a step size of 0)", ylabel="share of the gap closed")
    ax.set(ylim=(0.0, 1.05), title="How long soft labels take")
    ax.legend(loc="lower right")
    log.figure(figure, "far")


def draw_trl(found: dict, costs: dict, log: RunLog) -> None:
    """What TRL needs for the same."""
    figure, ax = plotting.new_figure(width=7.0, height=3.6)
    seconds = [costs[name][0] for name in TRAINERS]
    ax.barh(list(TRAINERS.values()), seconds, color=[plotting.BLUE, *[plotting.ORANGE] * 2])
    for row, name in enumerate(TRAINERS):
        text = f" {costs[name][0]:.1f} s, {costs[name][1]:,.0f} MB\n"
        text += f" wins {found[name]['win_rate']:.2f}, KL {found[name]['kl']:.1f}"
        ax.text(costs[name][0], row, text, va="center", fontsize=11)
    ax.set(xlim=(0, 1.6 * max(seconds)), ylim=(2.6, -0.6), xlabel="CPU seconds of training")
    ax.set_title("Beside TRL, on the same pairs")
    ax.grid(axis="y", visible=False)
    log.figure(figure, "trl")


def draw_samples(texts: dict[str, list[str]], log: RunLog, num: int = 7) -> None:
    """What is written after the same prompts, before and after."""
    figure, axes = plotting.new_figure(len(texts), 1, width=9.0, height=0.28 * num + 0.5)
    for ax, (title, written) in zip(axes, texts.items()):
        ax.axis("off")
        ax.set_title(title, loc="left")
        for row, text in enumerate(written[:num]):
            short = text if len(text) < 100 else text[:97] + " …"
            ax.text(0.0, 1 - (row + 0.5) / num, short, family="monospace", fontsize=10, va="center")
    log.figure(figure, "samples")
