"""`practice/progress.json`: what you have written, found and asked for. A plain file, which may be edited.

{"C3.gae": {"failed": 2, "hints": 1, "passed": "2026-11-27"}, "C3.bug": {"found": {"no_min": "2026-11-27"}}}
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from chapters.course.catalog import Item, lessons
from chapters.course.grading import Grade
from chapters.course.journal import JournalError, locked
from chapters.course.parts import tasks_of
from chapters.course.progress import UNREADABLE, read_json
from chapters.utils.files import write_json
from chapters.utils.lesson import UsageError

Book = dict[str, dict]


def read(folder: Path) -> Book:
    """What was shown. What is no part of such a file is left out, and kept in a copy, with a word.

    Raises UsageError where the file may not be read: that says nothing of what is in it.
    """
    path = folder / "progress.json"
    try:
        found = read_json(path)
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except UNREADABLE:
        found = None
    if not isinstance(found, dict):
        aside = _free(path.with_suffix(".damaged"))
        os.replace(path, aside)
        print(f"{path}: was damaged, is now {aside.name}; what you pass is counted anew", file=sys.stderr)
        return {}
    book = {name: entry for name, entry in found.items() if isinstance(entry, dict)}
    if left_out := [name for name in found if name not in book]:
        aside = _free(path.with_suffix(".damaged"))
        aside.write_bytes(path.read_bytes())
        write_json(path, book)
        print(f"{path}: no entry is {', '.join(left_out)[:80]}; a copy is in {aside.name}", file=sys.stderr)
    return book


def _free(path: Path) -> Path:
    """The path, or the first of its numbered neighbours at which nothing stands."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in range(2, 10_000))
    return next(place for place in (path, *numbered) if not place.exists())


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[Book]:
    """The book, to be changed by one at a time; it is written whole, or stays as it was."""
    try:
        with locked(folder):
            for leftover in folder.glob(".progress.json.*"):  # of a write that was killed: we hold the lock
                leftover.unlink(missing_ok=True)
            book = read(folder)
            before = {name: dict(entry) for name, entry in book.items()}
            yield book
            if book != before:
                write_json(folder / "progress.json", book)
    except JournalError as error:
        raise UsageError(str(error)) from None


def count(entry: dict, what: str) -> int:
    """A number of an entry; 0 where someone wrote something else."""
    number = entry.get(what, 0)
    return number if isinstance(number, int) and number > 0 else 0


def passed(book: Book, item: Item, name: str) -> bool:
    """Whether the learner's own version of a function has passed."""
    return "passed" in book.get(f"{item.id}.{name}", {})


def today() -> str:
    """The date as it is written into the book."""
    return time.strftime("%Y-%m-%d")


def keep(item: Item, grades: list[Grade], folder: Path) -> None:
    """Add grades to what was shown: a pass stays, failures are counted until then."""
    with changing(folder) as book:
        for grade in grades:
            if grade.state == "not begun":
                continue
            entry = book.setdefault(f"{item.id}.{grade.function}", {})
            if grade.state == "passed":
                entry.setdefault("passed", today())
            elif "passed" not in entry:
                entry["failed"] = count(entry, "failed") + 1


def status_lines(folder: Path) -> list[str]:
    """What you have written yourself, a line for each lesson that was begun."""
    book, lines = read(folder), []
    for item in lessons():
        if not any(name.partition(".")[0] == item.id for name in book):
            continue
        names = list(tasks_of(item))
        own = [f"{sum(passed(book, item, name) for name in names)} of {len(names)} functions"]
        if bugs := book.get(f"{item.id}.bug", {}).get("found"):
            own.append(f"{len(bugs)} {'bug' if len(bugs) == 1 else 'bugs'} found")
        trained = book.get(f"{item.id}.train", {}).get("held")
        if isinstance(trained, list):
            own.append(
                f"trained with: {len(trained)} {'claim holds' if len(trained) == 1 else 'claims hold'}"
            )
        lines.append(f"{item.id}: {', '.join(own)}")
    return lines
