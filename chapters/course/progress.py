"""What you have done so far, read from `runs/`."""

from __future__ import annotations

import contextlib
import json
import platform
from datetime import datetime
from pathlib import Path

from chapters.course.catalog import Item
from chapters.utils.claims import Claim

STATUSES = ("passed", "failed", "interrupted", "crashed", "running", "refused", "lost")
UNREADABLE = (OSError, ValueError, RecursionError)
"""What reading a file of JSON that someone edited or a disk damaged can raise."""
DIGITS = 25
"""Whole numbers of more digits become floating-point ones: all that is done with numbers here knows these."""


def read_json(path: Path) -> object:
    """The content of a JSON file. Raises one of UNREADABLE."""
    return json.loads(path.read_text(encoding="utf-8-sig"), parse_int=_whole)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS else float(digits)


def runs_of(lesson: str, root: Path) -> list[tuple[Path, dict]]:
    """(folder, run.json) of every readable run of a lesson, the one that was written last at the end."""
    found = []
    with contextlib.suppress(OSError):  # of a folder that cannot be read, or of a name that none can have
        for path in (root / lesson).glob("*/run.json"):
            run = read_run(path.parent)
            if run and run.get("status") in STATUSES:
                with contextlib.suppress(OSError):
                    found.append((path.stat().st_mtime, path.parent, run))
    return [(folder, run) for _, folder, run in sorted(found, key=lambda entry: entry[:2])]


def read_run(folder: Path) -> dict | None:
    """run.json of a run folder; None if it is missing, torn or not what a run writes.

    A run that says it is running though its process is gone was killed: its status is "lost".
    """
    try:
        run = read_json(folder / "run.json")
    except UNREADABLE:
        return None
    if not isinstance(run, dict):
        return None
    if run.get("status") == "running" and _is_gone(run.get("process")):
        run["status"] = "lost"
    return run


def _is_gone(process: object) -> bool:
    """Whether a process of this machine has ended; False where that cannot be told."""
    import psutil

    if not isinstance(process, dict) or process.get("host") != platform.node():
        return False
    try:
        since = psutil.Process(process["pid"]).create_time()
        return abs(since - process["since"]) > 10.0  # seconds: else its number was given to another
    except psutil.NoSuchProcess:
        return True
    except (KeyError, OSError, OverflowError, TypeError, ValueError, psutil.Error):
        return False


def only_numbers(rows: list[tuple]) -> list[tuple[int, float]]:
    """The (step, value) pairs of a metric whose two sides are numbers that a float can hold."""
    kept = []
    for step, value in rows:
        with contextlib.suppress(OverflowError):
            if all(isinstance(number, int | float) and float(number) is not None for number in (step, value)):
                kept.append((step, value))
    return kept


def full_runs(lesson: str, root: Path) -> list[tuple[Path, dict]]:
    """The runs that came to their end and were no smoke runs, in the order in which they were started."""
    ended = [entry for entry in runs_of(lesson, root) if entry[1]["status"] in ("passed", "failed")]
    return sorted((entry for entry in ended if not entry[1].get("smoke")), key=lambda entry: started(*entry))


def started(folder: Path, run: dict) -> datetime:
    """When a run was started: by its run.json, else by its folder's name, else by its oldest file."""
    with contextlib.suppress(ValueError):
        return moment(run.get("started"))
    with contextlib.suppress(ValueError):
        return datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").astimezone()
    oldest = min(path.lstat().st_mtime for path in folder.iterdir())  # lstat: a link may lead nowhere
    return datetime.fromtimestamp(oldest).astimezone()


def moment(text: object) -> datetime:
    """A time like 2026-11-20T09:30:00+01:00; without a zone, this machine's. ValueError if it is none."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time like 2026-11-20T09:30:00") from None


def claims_of_run(folder: Path) -> dict[str, Claim]:
    """The claims of a run by name; what cannot be read as a claim is left out."""
    try:
        records = read_json(folder / "claims.json")
    except UNREADABLE:
        return {}
    claims = {}
    for fields in records if isinstance(records, list) else []:
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            claim = Claim.from_dict(fields)
            claim.holds, claim.bound  # noqa: B018  a value or bound that is no number raises here
            claims[claim.name] = claim
    return claims


def is_partial(item: Item, folder: Path) -> bool:
    """Whether a run left out claims that the lesson makes, as `--bug none` does in E3."""
    from chapters.course import ledger

    made = claims_of_run(folder)
    try:
        book = ledger.load(item)
    except (FileNotFoundError, ledger.LedgerError):
        return False
    own = {name for name, entry in book["claims"].items() if not entry.get("evidence")}
    return bool(made) and not own <= made.keys()


def own_status(item: Item, root: Path) -> str:
    """ "passed" once a full run did, or "partial" if each of those left claims out; else the latest status.

    "smoke only" where there was nothing else, "" where there was nothing.
    """
    runs = runs_of(item.id, root)
    full = [(folder, run["status"]) for folder, run in runs if not run.get("smoke")]
    passed = [folder for folder, status in full if status == "passed"]
    if passed:
        return "partial" if all(is_partial(item, folder) for folder in passed) else "passed"
    if full:
        return full[-1][1]
    return "smoke only" if runs else ""
