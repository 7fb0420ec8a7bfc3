"""A long run that was stopped goes on: what its loops change is saved now and then, whole or not at all.

A lesson's loop counts with `resumable` in place of `log.track`, and names what it changes:

    for i in resumable(log, cfg.num_updates, "updates", (policy, optimizer, rng, generator)):

`rl run D5 … --resume RUN` then starts the lesson again; its loop goes on where RUN saved last, and ends with
the same weights, to the bit, as a run that was never stopped. Each loop has a file `checkpoint-*.safetensors`
in the run's folder. It holds models, optimisers, all generators, the metrics so far, and of which run it is.
Parameters that are frozen, as beside an adapter, are looked at and not saved: they do not change.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chapters.utils import RunLog, UsageError, lesson
from chapters.utils.files import jsonable
from chapters.utils.optim import Adam

FORMAT = "training state 1"
SHARE = 20
"""A state is saved at most so often that saving takes one part in so many of the time."""
_locks: dict[Path, Any] = {}
"""Of the run folders that this process writes to: it holds them until it ends, however it ends."""


def resumable(
    log: RunLog, num_steps: int, unit: str, state: Sequence[Any], show: str | None = None
) -> Iterator[int]:
    """Count from 0, or from where a stopped run was, to `num_steps`, under the log's progress bar.

    unit: what is counted; it names the loop, and no other loop of a run may have the same. state: all that
    the loop changes: modules, `Adam`, generators of torch and NumPy, tensors. They are restored in place.
    The global generators, and the metrics, come along by themselves. A library that trains in a loop of its
    own is one step of a loop of one: it is gone back to when it has ended, and not in its midst.
    """
    steps = log.track(range(num_steps), unit, show)
    if log.options is None or log.in_evidence:  # no run of its own
        yield from steps
        return
    if unit in (units := vars(log).setdefault("loops", set())):
        raise ValueError(f"two loops of one run are called {unit!r}")
    units.add(unit)
    loop = Loop(log, unit, state, num_steps)
    done = loop.load() if log.options.resume else 0
    for step in steps:
        if step >= done:
            yield step
            loop.save(step + 1, log.options.save_every)


class Loop:
    """The file of one training loop."""

    def __init__(self, log: RunLog, unit: str, state: Sequence[Any], num_steps: int) -> None:
        self.log, self.num_steps = log, num_steps
        self.path = (
            log.folder / f"checkpoint-{re.sub(r'[^a-z0-9]+', '-', unit.lower()).strip('-')}.safetensors"
        )
        self.random = [one for one in state if isinstance(one, np.random.Generator)]
        self.generators = [one for one in state if isinstance(one, torch.Generator)]
        every = _tensors(state)
        self.tensors = {name: one for name, one in every.items() if not _frozen(one)}
        begun = {**every, **self._generators()}
        self.said = {
            "format": FORMAT,
            "run": _said_of(log.folder),
            "begun": f"{_digest(begun)} {_digest_of_file(log.folder)} {num_steps}",
        }
        self.saved, self.cost = time.monotonic(), 0.0

    def save(self, done: int, every: float) -> None:
        """Write the file if it is time: beside its place first, then renamed, so that it is always whole.

        At its end a loop that has a file saves once more, so that nobody goes through it again.
        """
        now = time.monotonic()
        soon = now - self.saved < max(every, SHARE * self.cost if every else 0.0)
        if soon and not (done == self.num_steps and self.path.exists()):
            return
        from safetensors.torch import save_file

        _lock(self.log.folder)
        tensors = {**self.tensors, **self._generators(), "rows": _bytes(self.log.rows())}
        told = {"done": done, "numpy": [one.bit_generator.state for one in self.random], **_globals()}
        meta = {**self.said, "told": json.dumps(told), "digest": _digest(tensors)}
        beside = self.path.with_name(f".{self.path.name}")
        save_file({name: one.detach().contiguous() for name, one in tensors.items()}, beside, meta)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self.saved = time.monotonic()
        self.cost = self.saved - now

    def load(self) -> int:
        """Restore what was saved, and return how many steps were done; 0 if this loop saved nothing yet."""
        if not self.path.exists():
            return 0
        meta, tensors = read(self.path)
        if meta["begun"] != self.said["begun"]:
            raise _refusal(self.path, "it began from other weights, data or settings than this run")
        rows = tensors.pop("rows").numpy().tobytes()
        told = json.loads(meta["told"])
        with torch.no_grad():
            for name, one in self.tensors.items():
                one.copy_(tensors[name])
        for number, one in enumerate(self.generators):
            one.set_state(tensors[f"generator.{number}"])
        for one, its in zip(self.random, told["numpy"]):
            one.bit_generator.state = its
        _restore_globals(told, tensors["generator.torch"])
        self.log.rewind(rows)
        return told["done"]

    def _generators(self) -> dict[str, Tensor]:
        """The states of torch's generators: ours, then the global one."""
        states = {f"generator.{number}": one.get_state() for number, one in enumerate(self.generators)}
        return {**states, "generator.torch": torch.get_rng_state()}


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(what a file says of itself, its tensors). Raises UsageError if it is damaged or not one of ours."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            if meta.get("format") != FORMAT:
                raise _refusal(path, "it was not written here")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _refusal(path, f"it is damaged ({' '.join(str(error).split())[:100]})") from None
    if _digest(tensors) != meta.get("digest"):
        raise _refusal(path, "it is damaged (its numbers are not those that were written)")
    return meta, tensors


def find_run(given: Path, lesson_id: str, config: dict) -> Path:
    """The folder of the run to go on with. Raises UsageError, one line, if it cannot be."""
    folder = given if given.is_dir() else lesson.RUNS / given
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        theirs, status = run["lesson"], run["status"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise UsageError(
            f"--resume {given}: no folder of a run (allowed: one like D5/20261120-093000-seed0)"
        ) from None
    if theirs != lesson_id:
        raise UsageError(f"--resume {given}: a run of {theirs}, not of {lesson_id}")
    if status in ("passed", "failed"):
        raise UsageError(f"--resume {given}: it came to its end ({status})")
    now = jsonable(config)
    for name in now:
        if name not in before or before[name] != now[name]:
            told = f"it ran with {_flag(name)} {before.get(name)}, this is {now[name]}"
            raise UsageError(f"--resume {given}: {told} (allowed: the same settings)")
    files = sorted(folder.glob("checkpoint-*.safetensors"))
    if not files:
        told = "it had saved nothing yet (--save-every says how often it does)"
        raise UsageError(f"--resume {given}: {told}")
    _lock(folder)
    for path in files:
        meta, _ = read(path)
        if meta["run"] != _said_of(folder):
            raise _refusal(path, "it belongs to another run")
    (folder / "metrics.jsonl").unlink(missing_ok=True)  # the files hold what was measured by then
    return folder


lesson.RESUMERS.append(find_run)


def _tensors(state: Sequence[Any]) -> dict[str, Tensor]:
    """Every tensor that changes, by a name; one that a model uses twice stands once."""
    found: dict[str, Tensor] = {}
    for number, thing in enumerate(state):
        if isinstance(thing, nn.Module):
            named = thing.state_dict(keep_vars=True).items()
        elif isinstance(thing, Adam):
            lists = {"means": thing.means, "squares": thing.squares, "steps": thing.steps}
            named = [(f"{name}.{i}", one) for name, ones in lists.items() for i, one in enumerate(ones)]
        elif isinstance(thing, Tensor):
            named = [("value", thing)]
        elif isinstance(thing, torch.Generator | np.random.Generator):
            continue
        else:
            raise TypeError(f"{type(thing).__name__}: no way to save it is known here")
        for name, one in named:
            if not any(one is other for other in found.values()):
                found[f"{number}.{name}"] = one
    return found


def _frozen(one: Tensor) -> bool:
    return isinstance(one, nn.Parameter) and not one.requires_grad


def _globals() -> dict[str, Any]:
    """Python's and NumPy's global generators, which libraries may draw from."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {"python": random.getstate(), "global_numpy": [name, keys.tolist(), *rest]}


def _restore_globals(told: dict[str, Any], of_torch: Tensor) -> None:
    version, state, after = told["python"]
    random.setstate((version, tuple(state), after))
    np.random.set_state(tuple(told["global_numpy"]))  # noqa: NPY002
    torch.set_rng_state(of_torch)


def _digest(tensors: dict[str, Tensor]) -> str:
    """A checksum of names, types, shapes and numbers."""
    total = 0
    for name, one in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {one.dtype} {list(one.shape)}".encode(), total)
        total = zlib.crc32(one.detach().contiguous().reshape(-1).view(torch.uint8).numpy(), total)
    return f"{total:08x}"


def _digest_of_file(folder: Path) -> str:
    """A checksum of the file of preferences that a run learns from, if it does."""
    path = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("pairs")
    return f"{zlib.crc32(Path(path).read_bytes()):08x}" if path else "-"


def _said_of(folder: Path) -> str:
    """What tells a run from others, to stand in its files: lesson and settings."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("evidence", None)
    return json.dumps([run["lesson"], config])


def _bytes(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())


def _lock(folder: Path) -> None:
    """Hold a run's folder. Raises UsageError if another process does, as it still runs."""
    from filelock import FileLock, Timeout

    folder = folder.resolve()
    if folder not in _locks:
        lock = FileLock(folder / ".running.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"--resume {folder}: it is still running") from None
        _locks[folder] = lock


def _refusal(path: Path, why: str) -> UsageError:
    return UsageError(f"{path}: cannot go on from it: {why} (allowed: without --resume, from the start)")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
