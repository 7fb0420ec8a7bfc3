"""The pictures of D14's evidence: lengths under control, and what each kind of pairs closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chapters.utils import plotting

if TYPE_CHECKING:
    from chapters.utils.runlog import RunLog

LENGTHS = {
    "reference": "reference",
    "optimum": "optimum, no bonus",
    "biased": "DPO",
    "normalised": "length-normalised",
    "simpo": "SimPO",
    "balanced": "DPO, balanced pairs",
}
PAIRS = {
    "once": "fixed pairs, one pass",
    "twice": "two passes",
    "often": "twenty passes",
    "few": "own pairs, as many labels",
    "fresh": "reference's fresh pairs",
    "online": "own pairs, as many steps",
}


def last(metrics: dict, name: str) -> float:
    """The latest value of a metric of one run."""
    return metrics[name][-1][1]


def draw_lengths(runs: list[dict], log: RunLog) -> None:
    """Expected length at each end, and the share of the gap closed, a dot for each run."""
    figure, (lengths, gaps) = plotting.new_figure(1, 2, width=7.2, height=4.2)
    colors = ["grey", "black", plotting.RED, plotting.GREEN, plotting.ORANGE, plotting.BLUE]
    for ax, start, xlabel in (
        (lengths, "length", "expected length (tokens)"),
        (gaps, "length_gap", "share of the gap to the optimum closed"),
    ):
        rows = {label: [last(run, f"{start}_{name}") for run in runs] for name, label in LENGTHS.items()}
        plotting.dot_rows(ax, rows, colors)
        ax.set(xlabel=xlabel)
    lengths.set(xlim=(1.0, 6.0), title="A judge who likes length")
    gaps.set(xlim=(-0.5, 1.05), title="What that costs")
    gaps.axvline(1.0, **plotting.REFERENCE)
    gaps.set_yticklabels([])
    log.figure(figure, "lengths")


def draw_pairs(runs: list[dict], log: RunLog) -> None:
    """The share of the gap closed by each kind of pairs, a dot for each run."""
    figure, ax = plotting.new_figure(width=7.6, height=4.2)
    colors = [plotting.RED] * 3 + [plotting.BLUE, plotting.ORANGE, plotting.BLUE]
    rows = {label: [last(run, f"token_gap_{name}") for run in runs] for name, label in PAIRS.items()}
    plotting.dot_rows(ax, rows, colors)
    ax.axvline(1.0, **plotting.REFERENCE)
    ax.set(xlim=(-0.15, 1.05), xlabel="share of the gap to the optimum closed", title="Which pairs")
    log.figure(figure, "pairs")


def draw_ensembles(runs: list[dict], log: RunLog) -> None:
    """True reward when one reward model or five are maximised, harder and harder; median and range."""
    figure, ax = plotting.new_figure(width=7.0, height=4.2)
    strengths = [value for _, value in runs[0]["ensemble_strength"]]
    for name, label, color in (
        ("one", "one model, 100 pairs", "black"),
        ("same", "worst of five, the same 100", plotting.BLUE),
        ("more", "worst of five, 500 pairs", plotting.GREEN),
    ):
        curves = [[value for _, value in run[f"ensemble_{name}"]] for run in runs]
        plotting.seed_band(ax, strengths, curves, label, color)
    ax.set(xscale="log", xlabel="how hard the reward model is maximised (1/β, log)", ylabel="true reward")
    ax.set_title("Several reward models")
    ax.legend(loc="upper left")
    log.figure(figure, "ensembles")
