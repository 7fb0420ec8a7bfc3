"""Book-keeping of E3: counting what a diagnosis named, and drawing it. The lesson says what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chapters.diagnosis.pictures import words
from chapters.E_practice.evidence import E3_foreign as foreign
from chapters.utils import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chapters.utils.runlog import RunLog

Rows = dict[str, list[tuple[int, float]]]
Pair = tuple[str, str]  # learner, bug; "none" is no bug
TITLES = {"named": "All diagnostics", "usual": "The usual curves alone"}


def counts(runs: Sequence[dict], pairs: Sequence[Pair], names: Sequence[str]) -> dict[str, Any]:
    """[planted, named first] over all runs, by all diagnostics ("named") and by the usual ones.

    runs: the metrics of each seed, with `named_<learner>_<bug>` the number in `names` of the first suspect.
    """
    import numpy as np

    tables = {kind: np.zeros((len(names), len(names)), dtype=int) for kind in TITLES}
    for kind, table in tables.items():
        for learner, bug in pairs:
            for metrics in runs:
                table[names.index(bug), int(metrics[f"{kind}_{learner}_{bug}"][-1][1])] += 1
    return tables


def first_suspect(findings: Sequence[Any], names: Sequence[str]) -> int:
    """The first suspect, as its number in `names`; 0 if there is none."""
    return names.index(findings[0].bug) if findings else 0


def share_right(table: Any) -> float:
    """Of the runs with a bug, those whose bug was named first."""
    return table.diagonal()[1:].sum() / table[1:].sum()


def false_alarms(table: Any) -> int:
    """Runs without a bug in which one was named."""
    return int(table[0, 1:].sum())


def misses(
    values: Sequence[float], actions: Sequence[int], answers: tuple[dict, dict], gamma: float, scale: float
) -> bool:
    """Whether a value is off a probe's exact one by over a fifth of the largest, or an action is wrong."""
    exact = [scale * value(gamma) for value in answers[0].values()]
    far = [abs(found - right) > 0.2 * max(map(abs, exact)) for found, right in zip(values, exact)]
    return any(far) or list(actions[len(exact) :]) != list(answers[1].values())


def cells(ax: Axes, table: Any, rows: Sequence[str], columns: Sequence[str], texts: Any, cmap: str) -> None:
    """A table [rows, columns] of shares as a map, with a text in each cell."""
    ax.imshow(table, cmap=cmap, vmin=0, vmax=1.4, aspect="auto")
    for row, line in enumerate(texts):
        for column, text in ((column, text) for column, text in enumerate(line) if text):
            ax.text(column, row, text, ha="center", va="center", fontsize=10)
    ax.set_xticks(range(len(columns)), columns, rotation=55, ha="right", rotation_mode="anchor", fontsize=11)
    ax.set_yticks(range(len(rows)), rows, fontsize=11)
    ax.grid(False)


def report(
    runs: Sequence[dict], healthy: Sequence[Pair], pairs: Sequence[Pair], names: Sequence[str], log: RunLog
) -> dict[str, Any]:
    """Draw what was planted against what was named first, and what the bugs cost; returns the counts."""
    tables = counts(runs, [*healthy, *pairs], names)
    log.figure(confusion(tables, names, foreign_counts(runs)), "confusion")
    log.figure(cost(runs, pairs, names[1:]), "cost")
    return tables


def foreign_counts(runs: Sequence[dict]) -> dict[Pair, list[int]]:
    """(learner, bug) of each other library's run that was made -> how often each suspect was named first."""
    found = {}
    for learner, bug in foreign.PAIRS:
        if (name := f"named_{learner}_{bug}") in runs[0]:
            first = [int(metrics[name][-1][1]) for metrics in runs]
            found[learner, bug] = [first.count(number) for number in range(len(foreign.FIRST))]
    return found


def confusion(tables: dict[str, Any], names: Sequence[str], others: dict[Pair, list[int]]) -> Figure:
    """Counts [planted, named first] for each way of looking, and below in other libraries' logs."""
    import numpy as np

    figure, grid = plotting.new_figure(2, len(tables), width=8.2, height=5.5)
    layout = figure.add_gridspec(2, 1, height_ratios=[7.4, 2.0 + 0.28 * len(others)])
    for ax in grid.flat:
        ax.remove()
    axes = layout[0].subgridspec(1, len(tables)).subplots()
    labels = ["nothing", *(words(name) for name in names[1:])]
    for ax, (kind, table) in zip(axes, tables.items()):
        cells(
            ax, table / table.sum(axis=1, keepdims=True), labels, labels, np.where(table, table, ""), "Blues"
        )
        ax.set(xlabel="named first", ylabel="planted")
        ax.set_title(f"{TITLES[kind]}: {share_right(table):.0%} of the bugs")
    ax = figure.add_subplot(layout[1])
    table = np.array([*others.values()])
    planted = {bug for _, bug in others}
    shown = [i for i, name in enumerate(foreign.FIRST) if name in planted or table[:, i].any()]
    rows = [f"{words(learner)}: {words(bug)}" for learner, bug in others]
    columns = ["nothing", *(words(foreign.FIRST[i]) for i in shown[1:])]
    table = table[:, shown]
    cells(ax, table / table.sum(axis=1, keepdims=True), rows, columns, np.where(table, table, ""), "Blues")
    ax.set_xticks(range(len(columns)), columns, rotation=0, ha="center")
    ax.set(xlabel="named first", ylabel="planted")
    ax.set_title("Logs of Stable-Baselines3 and TRL, faults that their own curves can show")
    return figure


def cost(runs: Sequence[dict], pairs: Sequence[Pair], bugs: Sequence[str]) -> Figure:
    """The final score of each broken run as a share of the healthy one's of its seed, a dot a run."""
    figure, ax = plotting.new_figure(width=8.6, height=5.8)
    shares: dict[Pair, list[float]] = {}
    for learner, bug in pairs:
        broken, right = ([run[f"result_{learner}_{kind}"][-1][1] for run in runs] for kind in (bug, "none"))
        shares[learner, bug] = [a / max(b, 0.1) for a, b in zip(broken, right)]
    for column, learner in enumerate(dict.fromkeys(learner for learner, _ in pairs)):
        found = {bug: values for (who, bug), values in shares.items() if who == learner}
        points = [(value, bugs.index(bug)) for bug, values in found.items() for value in values]
        x = [min(max(value, -0.1), 1.3) for value, _ in points]
        y = [row + 0.2 * (column - 1.5) for _, row in points]
        ax.plot(x, y, "o", color=plotting.COLOURS[column], label=words(learner), markersize=5, alpha=0.8)
    ax.axvline(1.0, **plotting.REFERENCE)
    ax.set_yticks(range(len(bugs)), [words(bug) for bug in bugs])
    ax.set(ylim=(len(bugs) - 0.4, -0.6), xlim=(-0.15, 1.35), title="How silent is it?")
    ax.set_xlabel("final greedy score, as a share of the healthy run's\n(text: of the way to the optimum)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def probes(failed: dict[tuple[str, str], Sequence[bool]], names: Sequence[str]) -> Figure:
    """Who fails where."""
    import numpy as np

    figure, ax = plotting.new_figure(width=8.0, height=7.4)
    rows = [f"{words(learner)}: {words(bug)}" for learner, bug in failed]
    texts = [["fails" if bad else "" for bad in row] for row in failed.values()]
    columns = [name.removeprefix("Probe").removesuffix("-v0") for name in names]
    cells(ax, np.array([*failed.values()], dtype=float), rows, columns, texts, "Oranges")
    ax.set(xlabel="probe environment", title="Who fails where?")
    return figure
