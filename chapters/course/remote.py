"""Lessons as Ray's tasks, on a cluster of this machine's own or on one that is there already.

A task is a lesson's command line; it returns the run's folder, file by file, through Ray's object store. Ray
runs a task again elsewhere when its node dies: a run depends on its flags alone, so it comes out the same.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chapters import cluster
from chapters.course import ledger
from chapters.course.catalog import Item, find
from chapters.utils.files import write_atomic

RETRIES = 5
"""How often Ray may run a task again whose node or worker has died."""
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
"""Threads decide the order of sums, and so the last digits: one, wherever a run is made."""


@dataclass(frozen=True)
class Place:
    """Where runs are made: processes here, or Ray."""

    on: str = "local"
    address: str = ""
    """Of a cluster that is there; without one, one is started here and ended again."""
    jobs: int = 0
    """Runs at a time; 0 is one for each core."""

    @property
    def num_jobs(self) -> int:
        return self.jobs or os.cpu_count() or 1


@dataclass(frozen=True)
class Ended:
    """A task that has ended: what the run left, or why it broke."""

    files: dict[str, bytes]
    used: dict[str, float]
    broke: str = ""

    def unpack(self, folder: Path) -> Path:
        """The run's folder, written anew."""
        for name, content in self.files.items():
            write_atomic(folder / name, content)
        return folder


def environment() -> dict[str, str]:
    """What a run finds around it, the same everywhere; a cluster's own variables are not its business."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | ONE_THREAD


def run_one(lesson: str, flags: list[str]) -> Ended:
    """One run in a process of its own: what a task does, on whatever machine."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            used = ledger.run_process(find(lesson), flags, Path(scratch), env=environment())
        except ledger.RecordError as error:
            return Ended({}, {}, str(error))
        folder = next(Path(scratch).glob("*/*/"))
        return Ended({path.name: path.read_bytes() for path in folder.iterdir()}, used)


def each(item: Item, commands: dict[Any, list[str]], place: Place) -> Iterator[tuple[Any, Ended]]:
    """(key, what came of its command) as the tasks end. Raises UsageError without Ray or a cluster."""
    ray = cluster.load(own=not place.address)
    at_once = place.jobs or len(commands)
    with cluster.joined(place.address) if place.address else cluster.nodes(place.num_jobs):
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(run_one)
        queue = iter(commands.items())
        waiting: dict[Any, Any] = {}
        while True:
            while len(waiting) < at_once and (following := next(queue, None)):
                key, flags = following
                waiting[task.remote(item.id, flags)] = key
            if not waiting:
                return
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            key = waiting.pop(done)
            try:
                ended = ray.get(done)
            except ray.exceptions.RayError as error:
                ended = Ended({}, {}, str(error).strip())
            yield key, ended


def each_seed(item: Item, seeds: list[int], place: Place, scratch: Path) -> Iterator[tuple[int, dict]]:
    """(seed, its run with all evidence) as `ledger.record` takes them. Raises RecordError if one breaks."""
    flags = ["--evidence"] if item.evidence.exists() else []
    commands = {seed: ["--seed", str(seed), *flags] for seed in seeds}
    with contextlib.closing(each(item, commands, place)) as ended:
        for seed, one in ended:
            if one.broke:
                raise ledger.RecordError(one.broke)
            yield seed, ledger.read_back(one.unpack(scratch / f"full-{seed}"), one.used)
