"""`rl diagnose`: find a log, read it, say what is wrong with its learners. The rules are in `diagnosis`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from chapters.course import catalog
from chapters.course.progress import runs_of
from chapters.diagnosis import files as logs
from chapters.diagnosis.logs import ADVICE, LONG, NEEDS, everything, judged, suspects
from chapters.diagnosis.names import Learner, is_known, learners_of, shown, unread
from chapters.diagnosis.rules import not_logged
from chapters.utils.lesson import UsageError
from chapters.utils.runlog import read_metrics

WAYS = f"give a run's folder, LESSON/FOLDER under runs/, a lesson's id, or a log: {logs.FORMS}"
WIDTH = 100
"""Letters of a line of a list."""
MOST = 12
"""Names that are listed of those that say nothing to the rules."""


def run_folder(run: str, runs: Path) -> Path:
    """The log that `run` means: a path, `E3/20261120-093000-seed0`, or a lesson's latest run.

    A folder of a run of ours stands for itself, everything else for the file in it.
    """
    try:
        for place in (Path(run), runs / run):
            if run and (found := logs.find(place)):
                return found.parent if found.name == "metrics.jsonl" else found
    except OSError as error:  # a name that is too long, a folder above that cannot be entered
        raise UsageError(f"{_in_a_line(run)}: cannot be read ({error.strerror}; {WAYS})") from None
    try:
        item = catalog.find(run, kinds=("py",))
    except KeyError:
        what = "holds no log that is known" if _is_folder(run, runs) else "is no run and no log"
        raise UsageError(f"{_in_a_line(run)} {what} ({WAYS})") from None
    folders = [folder for folder, _ in runs_of(item.id, runs) if (folder / "metrics.jsonl").is_file()]
    if not folders:
        raise UsageError(f"no run of {item.id} to diagnose yet: rl run {item.id}")
    return folders[-1]


def _is_folder(run: str, runs: Path) -> bool:
    try:
        return Path(run).is_dir() or (runs / run).is_dir()
    except (OSError, ValueError):
        return False


def _in_a_line(name: str) -> str:
    """A name that came from outside, as a message can hold it."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} letters)"


def log_of(path: Path) -> logs.Log:
    """The log at a path that `run_folder` gave."""
    if (path / "metrics.jsonl").is_file():
        return logs.Log("metrics.jsonl", metrics_of(path))
    return logs.read(path)


def metrics_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """A run's metrics; what is no number in a file edited by hand is left out."""
    try:
        found = read_metrics(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{folder}/metrics.jsonl cannot be read (each line: a step and numbers)") from None
    metrics = {}
    for name, rows in found.items():
        numbers = ((step, logs.as_number(value)) for step, value in rows if logs.as_number(step) is not None)
        metrics[name] = [(step, number) for step, number in numbers if number is not None]
    return metrics


def report(path: Path) -> Iterator[str]:
    """The lines of a diagnosis, the strongest suspect first; one part for each learner in the log."""
    log = log_of(path)
    learners = learners_of(log.metrics)
    yield f"{_in_a_line(path.parent.name)}/{_in_a_line(path.name)} ({log.source})"
    if not learners:
        empty = [name for name, rows in log.metrics.items() if not rows and is_known(name)]
        why = f"{shown(empty[0])} holds no number" if empty else "no name in it is known"
        yield f"nothing to go on: {why}; log these: {', '.join(ADVICE[''])}"
    for learner in learners:
        yield from _of(learner)
    for learner in learners:
        yield from _recognised(learner)
    if rest := unread(log.metrics, learners):
        more = f" and {len(rest) - MOST} more" if len(rest) > MOST else ""
        text = f"not used: {', '.join(map(shown, rest[:MOST]))}{more}"
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="   ")
    if learners and (missing := _missing(learners)):
        yield "not logged, and so not judged:"
        yield from textwrap.wrap(", ".join(missing), WIDTH, initial_indent="   ", subsequent_indent="   ")


def _of(learner: Learner) -> Iterator[str]:
    """A learner's suspects, or what their absence means."""
    head = f"{shown(learner.name)}: " if learner.name else ""
    could = judged(learner)
    findings = suspects(learner)
    if not findings and not could:
        yield f"{head}nothing to go on: log these, often: {', '.join(ADVICE[learner.kind])}"
    elif not findings:
        shows = f"of {len({bug for bug, _, _ in NEEDS})} faults this log could have shown {len(could)}"
        longest = max(map(len, learner.metrics.values()))
        short = f"too little to judge: {longest} {'row' if longest == 1 else 'rows'}, a course needs {LONG}"
        yield f"{head}{'no alarm' if longest >= LONG else short} ({shows})"
        seen = "; ".join(f"{bug} by {', '.join(names)}" for bug, names in could.items())
        yield from textwrap.wrap(seen, WIDTH, initial_indent="   ", subsequent_indent="   ")
    for rank, found in enumerate(findings, start=1):
        entry = everything(found.bug)
        yield f"{head}{rank}. {found.bug} ({found.score:.2f}): {entry.what}"
        yield f"   {found.evidence}"
        if entry.probe:
            yield f"   probe: {entry.probe}"


def _recognised(learner: Learner) -> Iterator[str]:
    """What was read as what."""
    pairs = [
        ours if source == ours else f"{ours} = {shown(source)}" for ours, source in learner.sources.items()
    ]
    kind = f" ({learner.kind} learner)" if learner.kind else ""
    who = f" of {shown(learner.name)}" if learner.name else ""
    text = f"recognised{who}{kind}: {', '.join(pairs)}"
    yield from textwrap.wrap(text, WIDTH, subsequent_indent="   ")


def _missing(learners: list[Learner]) -> list[str]:
    """The diagnostics that a learner could have logged and none did."""
    everybody = {name: rows for learner in learners for name, rows in learner.metrics.items()}
    wanted = {name for learner in learners for name in learner.wanted()}
    return [name for name in not_logged(everybody) if name in wanted]
