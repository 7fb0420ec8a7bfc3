"""A progress bar on a terminal, plain lines elsewhere, silence in a notebook or a test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

SECONDS_BETWEEN_LINES = 10.0


def track(
    steps: Iterable, label: str, unit: str, show: Callable[[], tuple[str, float]] | None = None
) -> Iterator:
    """Yield from `steps` (something with a length) and show how far along it is."""
    total = len(steps)  # type: ignore[arg-type]
    quiet = "ipykernel" in sys.modules or "PYTEST_CURRENT_TEST" in os.environ
    if quiet:
        yield from steps
    elif sys.stderr.isatty():
        yield from _bar(steps, total, label, unit, show)
    else:
        yield from _lines(steps, total, label, unit, show)


def _metric(show: Callable[[], tuple[str, float]] | None) -> str:
    if show is None:
        return ""
    name, value = show()
    return f"{name} {value:.4g}" if value == value else ""  # NaN: nothing measured yet


def _pace(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 1.0 else f"{1.0 / rate:,.0f} s each"


def _bar(steps: Iterable, total: int, label: str, unit: str, show) -> Iterator:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metric]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, metric="", rate=unit)
        start = shown = time.monotonic()
        for done, step in enumerate(steps, start=1):
            yield step
            now = time.monotonic()
            if now - shown > 0.1:
                shown = now
                rate = f"{unit} ({_pace(done / (now - start))})"
                progress.update(task, completed=done, metric=_metric(show), rate=rate)


def _lines(steps: Iterable, total: int, label: str, unit: str, show) -> Iterator:
    start = shown = time.monotonic()
    for done, step in enumerate(steps, start=1):
        yield step
        now = time.monotonic()
        if now - shown > SECONDS_BETWEEN_LINES:
            shown = now
            rate = done / (now - start)
            left = (total - done) / rate
            more = f", {left:.0f} s left" if done < total else ""
            line = f"{label}: {done:,}/{total:,} {unit}, {_pace(rate)}{more}, {_metric(show)}"
            print(line.rstrip(", "), file=sys.stderr, flush=True)
