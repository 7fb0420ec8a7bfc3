"""Read what other libraries write: CSV, JSON, JSONL, TensorBoard's event files, W&B's offline runs.

Every reader gives `{name: [(step, value), ...]}` by the file's own names; `chapters/diagnosis/names.py` says
what they mean. What is torn at its end is read up to there; what cannot be read at all is a UsageError.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import math
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from chapters.utils.lesson import UsageError

Metrics = dict[str, list[tuple[int, float]]]
STEPS = ("step", "global_step", "_step", "train/global_step", "time/total_timesteps", "total_timesteps",
         "timesteps", "num_timesteps", "iteration", "update", "episode", "epoch")  # fmt: skip
"""Columns that say where a row stands, the first that is there; else its number does."""
FORMS = "metrics.jsonl, progress.csv, progress.json, trainer_state.json, *.csv, *.jsonl, TensorBoard or W&B"
DEPTH = 5
"""Levels of nested records that are read as a/b/c."""


@dataclass(frozen=True)
class Log:
    """What a file or a folder held."""

    source: str
    """What was read, in words."""
    metrics: Metrics


def find(path: Path) -> Path | None:
    """The log that a file or a folder means, or None; a folder of TensorBoard's stands for its files.

    Raises OSError for a name that is too long and for a folder that may not be entered.
    """
    try:
        if path.is_file():
            return path
        if not path.is_dir():
            return None
        for name in ("metrics.jsonl", "trainer_state.json", "progress.csv", "progress.json"):
            if (path / name).is_file():
                return path / name
        checkpoints = sorted(path.glob("checkpoint-*/trainer_state.json"), key=_number_of)
        if checkpoints:
            return checkpoints[-1]
        offline = sorted(path.glob("offline-run-*/*.wandb"))
        if offline:
            return offline[-1]
        for pattern in ("*tfevents*", "*.wandb", "*.csv", "*.jsonl"):
            found = sorted(path.glob(pattern))
            if found and pattern == "*tfevents*":
                return path
            if len(found) == 1:
                return found[0]
    except ValueError:  # a NUL in the name
        return None
    return None


def _number_of(path: Path) -> int:
    digits = path.parent.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() and len(digits) < 20 else -1


def read(path: Path) -> Log:
    """The log at `path`, as `find` gave it. Raises UsageError, one line, if it cannot be read."""
    try:
        if path.is_dir():
            return Log("TensorBoard", _tensorboard(sorted(path.glob("*tfevents*"))))
        if "tfevents" in path.name:
            return Log("TensorBoard", _tensorboard([path]))
        ending = path.suffix.lower()
        if ending == ".wandb":
            return Log("a W&B run", _wandb(path))
        if ending in (".csv", ".tsv"):
            return Log("CSV", _csv(path))
        if ending in (".json", ".jsonl", ".ndjson"):
            return _json(path)
    except (OSError, ValueError, RecursionError, OverflowError, csv.Error) as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UsageError(f"{path} cannot be read ({reason})") from None
    raise UsageError(f"{path} is of no kind that is known ({FORMS})")


def as_number(value: Any) -> float | None:
    """A logged value as a number, given as a string too; None if it is none."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # an integer of hundreds of digits
            return None
    return None


class Rows:
    """Collects rows of names and values."""

    def __init__(self) -> None:
        self.metrics: Metrics = {}
        self.count = 0

    def add(self, row: dict[str, Any]) -> None:
        """One row; its step is a column of it, or else its number."""
        step = self.count
        for name in STEPS:
            if name in row and (found := as_number(row[name])) is not None and math.isfinite(found):
                step = int(found)
                break
        self.count += 1
        for name, value in row.items():
            if name in STEPS:
                continue
            if isinstance(value, dict):
                self._nested(step, name, value, DEPTH)
            elif (number := as_number(value)) is not None:
                self.metrics.setdefault(name, []).append((step, number))
            else:
                self.metrics.setdefault(name, [])

    def _nested(self, step: int, name: str, record: dict[str, Any], depth: int) -> None:
        for key, value in record.items():
            if isinstance(value, dict) and depth:
                self._nested(step, f"{name}/{key}", value, depth - 1)
            elif (number := as_number(value)) is not None:
                self.metrics.setdefault(f"{name}/{key}", []).append((step, number))


def _text(path: Path) -> IO[str]:
    """A file's text: in UTF-16 where its first bytes show that, as spreadsheets write it, else in UTF-8."""
    with path.open("rb") as file:
        start = file.read(2)
    wide = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = wide.get(start, "utf-16-le" if start.endswith(b"\0") else "utf-8-sig")
    return path.open(encoding=encoding, errors="replace", newline="")


def _csv(path: Path) -> Metrics:
    """A table with its names in the first line; empty cells are not logged.

    Before it there may be comments; the names may come again, and others, where a run was taken up anew.
    """
    rows = Rows()
    with _text(path) as file:
        plain = (line.replace("\0", "") for line in file)
        head, first = _head(plain)
        mark = max("\t;,|", key=head.count)
        if mark not in head:
            mark = " "
        lines = csv.reader(itertools.chain([head, *first], plain), delimiter=mark, skipinitialspace=True)
        names = _names(next(lines, []))
        if not names or all(as_number(name) is not None for name in names):
            raise ValueError("the first line does not name the columns")
        comma = mark != "," and _has_decimal_commas(path)
        for cells in lines:
            if {*cells} & {*names} - {""} and all(as_number(cell) is None for cell in cells):
                names = _names(cells)
                continue
            cells = [cell.replace(",", ".") for cell in cells] if comma else cells
            rows.add({name: cell for name, cell in zip(names, cells) if cell and name})
    return rows.metrics


def _head(lines: Iterator[str]) -> tuple[str, list[str]]:
    """The line that names the columns, and what was read behind it: names may stand in the last comment."""
    comment = ""
    for line in lines:
        if line.startswith("#"):
            comment = line.lstrip("# ")
        elif line.strip() and not line.startswith("sep="):
            numbers = all(as_number(cell) is not None for cell in re.split(r"[\t;,|\s]+", line.strip()))
            return (comment, [line]) if comment and numbers else (line, [])
    return "", []


def _names(cells: list[str]) -> list[str]:
    """Names of columns. Raises ValueError for two of the same name: which of them counts?"""
    names = [cell.strip() for cell in cells]
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"two columns are called {name}")
    return names


def _has_decimal_commas(path: Path) -> bool:
    """Whether numbers are written as 0,5: then nowhere in the table as 0.5."""
    with _text(path) as file:
        return not any(re.search(r"\d\.\d", line) for line in file)


def _json(path: Path) -> Log:
    """A trainer's state, a list of records, a record of columns, or a record a line."""
    rows = Rows()
    with _text(path) as file:
        first = next((line for line in file if line.strip()), "")
        try:
            one_a_line = isinstance(json.loads(first), dict)
        except RecursionError:  # a record nested too deep is left out like a torn one
            one_a_line = first.startswith("{")
        except ValueError:
            one_a_line = False
        more = one_a_line and any(line.strip() for line in file)
        file.seek(0)
        source, records = ("JSON lines", _lines(file)) if more else _whole(file.read())
        for record in records:
            if not isinstance(record, dict):
                raise ValueError("its records are no names with values")
            rows.add(record)
    return Log(source, rows.metrics)


def _whole(text: str) -> tuple[str, Iterator[Any]]:
    """The records of one JSON value; or of lines, of which the first is torn."""
    try:
        whole = json.loads(text.removeprefix("\ufeff"))
    except ValueError:
        found = list(_lines(text.splitlines()))
        if not found:
            raise
        return "JSON lines", iter(found)
    if isinstance(whole, dict) and "log_history" in whole:
        source, whole = "a trainer's state (transformers, TRL)", whole["log_history"]
    elif isinstance(whole, dict) and any(isinstance(column, list) for column in whole.values()):
        columns = {name: column for name, column in whole.items() if isinstance(column, list)}
        source, whole = (
            "JSON, by columns",
            [
                {name: column[i] for name, column in columns.items() if i < len(column)}
                for i in range(max(map(len, columns.values())))
            ],
        )
    else:
        source = "JSON"
    return source, iter(whole if isinstance(whole, list) else [whole])


def _lines(lines: Iterable[str]) -> Iterator[dict]:
    """The records among lines, one each; a line that is torn, or is something else, is left out."""
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _tensorboard(paths: list[Path]) -> Metrics:
    """Scalars of event files, framed as TensorBoard frames them; its own reader is fifty times slower."""
    from tensorboard.compat.proto.event_pb2 import Event

    metrics: Metrics = {}
    for path in paths:
        for record in _frames(path):
            try:
                event = Event.FromString(record)
            except Exception:  # of protobuf's own kind: what follows is damaged
                break
            for value in event.summary.value:
                if (number := _scalar(value)) is not None:
                    metrics.setdefault(value.tag, []).append((event.step, number))
    return metrics


def _frames(path: Path) -> Iterator[bytes]:
    """The records of a file of TFRecords: length (8 bytes), checksum (4), record, checksum (4)."""
    with path.open("rb") as file:
        size = path.stat().st_size
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            if length > size:
                return
            record = file.read(length)
            if len(record) < length or len(file.read(4)) < 4:
                return
            yield record


def _scalar(value: Any) -> float | None:
    """A summary's number, as old and as new writers store it."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    if kind != "tensor" or len(value.tensor.tensor_shape.dim):
        return None
    tensor = value.tensor
    for stored in (tensor.float_val, tensor.double_val, tensor.int_val, tensor.int64_val):
        if len(stored) == 1:
            return float(stored[0])
    if tensor.dtype == 1 and len(tensor.tensor_content) == 4:
        return struct.unpack("<f", tensor.tensor_content)[0]
    if tensor.dtype == 2 and len(tensor.tensor_content) == 8:
        return struct.unpack("<d", tensor.tensor_content)[0]
    return None


def _wandb(path: Path) -> Metrics:
    """The history of an offline run: LevelDB's log format around wandb's own records."""
    try:
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError:
        raise ValueError("wandb is not installed; it defines the format") from None

    rows = Rows()
    for data in _leveldb(path.read_bytes()):
        try:
            record = Record.FromString(data)
        except Exception:  # of protobuf's own kind: what follows is damaged
            break
        if record.WhichOneof("record_type") != "history":
            continue
        row = {}
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            try:
                row[name] = json.loads(item.value_json) if item.value_json else _typed(item)
            except (ValueError, RecursionError):
                continue
        row.setdefault("_step", record.history.step.num)
        if "step" in row:  # as a run of ours counts; `_step` counts its rows
            row.pop("_step")
        rows.add(row)
    return rows.metrics


def _typed(item: Any) -> Any:
    """The value of a history item that newer versions store by its type."""
    kind = next((name for name in ("integer", "number", "text") if _has(item, name)), None)
    return getattr(item, kind) if kind else None


def _has(item: Any, name: str) -> bool:
    try:
        return item.HasField(name)
    except ValueError:
        return False


def _leveldb(data: bytes) -> Iterator[bytes]:
    """Records out of blocks of 32 KiB: checksum (4 bytes), length (2), kind (1), part of a record."""
    place, parts = 7, b""  # behind the file's own header
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        part = data[place + 7 : place + 7 + length]
        if len(part) < length or kind not in (1, 2, 3, 4):
            return
        place += 7 + length
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):
            yield parts
            parts = b""
