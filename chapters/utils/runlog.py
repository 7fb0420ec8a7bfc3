"""What a run leaves behind: its configuration, metrics, claims and figures, in one folder."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from chapters.utils.claims import Claim
from chapters.utils.errors import UsageError
from chapters.utils.files import gif_bytes, jsonable, write_atomic, write_json
from chapters.utils.progress import track


class RunLog:
    """Collects what a lesson measures and keeps it on disk while the lesson runs.

    `folder` receives `metrics.jsonl` (one line a `write`), `claims.json` and the figures; `run_lesson` adds
    `config.json` and `run.json`. Metrics whose name ends in `_seconds` or `_per_second` are timings: they
    are left out wherever two runs are compared number by number.
    """

    options: Any = None  # the flags of a run that `execute` started

    def __init__(self, folder: Path, lesson: str, *, smoke: bool = False, trackers: Iterable = ()) -> None:
        self.folder, self.lesson, self.smoke = folder, lesson, smoke
        self.claims: list[Claim] = []
        self.figures: list[Path] = []
        self.metrics: dict[str, list[tuple[int, float]]] = {}
        self.kept: dict[str, Any] = {}
        self.in_evidence = False
        self.num_rows = 0
        self._trackers = list(trackers)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "metrics.jsonl").open("a", encoding="utf-8")

    def write(self, step: int, **metrics: float) -> None:
        """Record metrics at `step` (any count that only grows: updates, episodes, environment steps)."""
        values = {name: float(value) for name, value in metrics.items()}
        for name, value in values.items():
            self.metrics.setdefault(name, []).append((int(step), value))
        self._file.write(json.dumps({"step": int(step), **jsonable(values)}) + "\n")
        self.num_rows += 1
        for tracker in list(self._trackers):
            try:
                tracker.write(int(step), values)
            except Exception as error:  # a broken tracker never stops a run
                print(f"tracker stopped: {error}", file=sys.stderr)
                self._trackers.remove(tracker)

    def rows(self) -> bytes:
        """What was written so far, as `metrics.jsonl` holds it."""
        self._file.flush()
        return (self.folder / "metrics.jsonl").read_bytes()

    def rewind(self, rows: bytes) -> None:
        """Go back to the `rows` of a run that was stopped, in place of what was written since the start."""
        self._file.truncate(0)
        self.metrics, self.num_rows = {}, 0
        for row in map(json.loads, rows.splitlines()):
            self.write(row.pop("step"), **{name: math.nan if x is None else x for name, x in row.items()})

    def keep(self, **things: Any) -> None:
        """Hand what `main` made at some cost (a trained policy, its data) to the evidence, in `log.kept`."""
        self.kept.update(things)

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """(steps, values) written under `name`. Raises UsageError if nothing was: the settings allow none."""
        if name not in self.metrics:
            told = f"no {name}: the run ended before its first check"
            raise UsageError(f"{told} (allowed: a longer run, or one that is checked more often)")
        steps, values = zip(*self.metrics[name])
        return list(steps), list(values)

    def last(self, name: str) -> float:
        """The latest value of a metric, NaN before the first."""
        return self.metrics[name][-1][1] if name in self.metrics else math.nan

    def claim(self, name: str, statement: str, value: float, **bound: Any) -> Claim:
        """Record a measured value against its bound: one of at_least, at_most, near=(target, tolerance).

        Further keywords: unit, source, seeds="4/5", always=False, timed=False (see `Claim`).
        """
        if any(claim.name == name for claim in self.claims):
            raise ValueError(f"claim {name!r} is made twice")
        numbers = {key: float(bound[key]) for key in ("at_least", "at_most") if bound.get(key) is not None}
        if bound.get("near") is not None:
            numbers["near"] = tuple(float(number) for number in bound["near"])
        claim = Claim(name, statement, float(value), evidence=self.in_evidence, **{**bound, **numbers})
        self.claims.append(claim)
        write_json(self.folder / "claims.json", [claim.to_dict() for claim in self.claims])
        return claim

    def figure(self, figure: Any, name: str = "") -> Path:
        """Save a matplotlib figure as `<lesson>.png` or `<lesson>_<name>.png`; shown too in a notebook."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})  # same picture, same bytes
        return self._picture(buffer.getvalue(), f"{name}.png" if name else ".png")

    def film(self, frames: Iterable[Any], name: str = "film", fps: int = 25) -> Path:
        """Save frames [H, W, 3] uint8 as an endless GIF, `<lesson>_<name>.gif`."""
        return self._picture(gif_bytes(frames, fps), f"{name}.gif")

    def track(self, steps: Iterable, unit: str, show: str | None = None) -> Iterator:
        """Iterate over `steps` under a progress bar that shows their rate and the metric called `show`."""
        return track(steps, self.lesson, unit, (lambda: (show, self.last(show))) if show else None)

    def close(self) -> None:
        """Flush to disk; further writes are an error."""
        self._file.close()
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception as error:
                print(f"tracker stopped: {error}", file=sys.stderr)

    def _picture(self, data: bytes, ending: str) -> Path:
        stem = self.lesson if ending.startswith(".") else f"{self.lesson}_"
        path = self.folder / f"{stem}{ending}"
        write_atomic(path, data)
        self.figures.append(path)
        if "ipykernel" in sys.modules:
            from IPython.display import Image, display

            display(Image(data))
        return path


def is_timing(metric: str) -> bool:
    """Whether a metric measures time or memory, and so differs from run to run."""
    return metric.endswith(("_seconds", "_per_second", "_megabytes"))


def read_metrics(folder: Path, num_rows: int | None = None) -> dict[str, list[tuple[int, float]]]:
    """The metrics of a run folder, or of its first rows; a line torn by a kill is skipped, null is NaN."""
    metrics: dict[str, list[tuple[int, float]]] = {}
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines[:num_rows]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step = row.pop("step")
        for name, value in row.items():
            metrics.setdefault(name, []).append((step, math.nan if value is None else value))
    return metrics


def new_run_folder(root: Path, lesson: str, seed: int) -> Path:
    """`root/B1/20261120-093000-seed0`, or with -2, -3, ... behind it if that is taken."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}"
    for suffix in ["", *(f"-{count}" for count in range(2, 1000))]:
        folder = root / lesson / f"{stem}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{root / lesson / stem} and 998 more")
