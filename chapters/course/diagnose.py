"""`rl diagnose`: find a run folder, read its metrics, say what is wrong with it. The rules are in utils."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from chapters.course import catalog
from chapters.course.progress import only_numbers, runs_of
from chapters.diagnosis.rules import CATALOGUE, DIAGNOSTICS, diagnose, learners_of, not_logged, renamed
from chapters.utils.lesson import UsageError
from chapters.utils.runlog import read_metrics

WAYS = "give a run's folder, LESSON/FOLDER under runs/, or a lesson's id"


def run_folder(run: str, runs: Path) -> Path:
    """The folder that `run` means: a path, `E3/20261120-093000-seed0`, or a lesson's latest run."""
    try:
        for folder in (Path(run), runs / run):
            if (folder / "metrics.jsonl").is_file():
                return folder
    except OSError as error:  # a name that is too long, a folder above that cannot be entered
        raise UsageError(f"{run[:80]}: cannot be read ({error.strerror}; {WAYS})") from None
    try:
        item = catalog.find(run, kinds=("py",))
    except KeyError:
        what = "has no metrics.jsonl" if Path(run).is_dir() or (runs / run).is_dir() else "is no run"
        raise UsageError(f"{run} {what} ({WAYS})") from None
    folders = [folder for folder, _ in runs_of(item.id, runs) if (folder / "metrics.jsonl").is_file()]
    if not folders:
        raise UsageError(f"no run of {item.id} to diagnose yet: rl run {item.id}")
    return folders[-1]


def metrics_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The run's metrics; what is no number in a file edited by hand is left out."""
    try:
        found = read_metrics(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{folder}/metrics.jsonl cannot be read (each line: a step and numbers)") from None
    return {name: only_numbers(rows) for name, rows in found.items()}


def report(folder: Path) -> Iterator[str]:
    """The lines of a diagnosis, the strongest suspect first; one part for each learner in the run."""
    learners = learners_of(metrics_of(folder))
    yield f"{folder.parent.name}/{folder.name}"
    if not learners:
        yield "nothing to go on: this run logged none of the diagnostics"
    for learner, metrics in learners.items():
        logged = len(DIAGNOSTICS) - len(not_logged(metrics))
        head = f"{learner}: " if learner else ""
        findings = diagnose(metrics)
        if not findings:
            yield f"{head}no alarm ({logged} of {len(DIAGNOSTICS)} diagnostics logged)"
        for rank, found in enumerate(findings, start=1):
            entry = CATALOGUE[found.bug]
            yield f"{head}{rank}. {found.bug} ({found.score:.2f}): {entry.what}"
            yield f"   {found.evidence}"
            if entry.probe:
                yield f"   probe: {entry.probe}"
    everything = {name: rows for metrics in learners.values() for name, rows in renamed(metrics).items()}
    if missing := not_logged(everything):
        yield "not logged, and so not judged:"
        yield from textwrap.wrap(", ".join(missing), 100, initial_indent="   ", subsequent_indent="   ")
