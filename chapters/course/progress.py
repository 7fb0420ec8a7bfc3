"""What you have done so far, read from `runs/`."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path

from chapters.course.catalog import Item
from chapters.utils.claims import Claim

STATUSES = ("passed", "failed", "interrupted", "crashed", "running", "refused")


def runs_of(lesson: str, root: Path) -> list[tuple[Path, dict]]:
    """(folder, run.json) of every readable run of a lesson, the one that was written last at the end."""
    found = []
    for path in (root / lesson).glob("*/run.json"):
        run = read_run(path.parent)
        if run and run.get("status") in STATUSES:
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime, path.parent, run))
    return [(folder, run) for _, folder, run in sorted(found, key=lambda entry: entry[:2])]


def read_run(folder: Path) -> dict | None:
    """run.json of a run folder; None if it is missing, torn or not what a run writes."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) else None


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
    return datetime.fromtimestamp(min(path.stat().st_mtime for path in folder.iterdir())).astimezone()


def moment(text: object) -> datetime:
    """A time like 2026-11-20T09:30:00+01:00; without a zone, this machine's. ValueError if it is none."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time like 2026-11-20T09:30:00") from None


def claims_of_run(folder: Path) -> dict[str, Claim]:
    """The claims of a run by name; what cannot be read as a claim is left out."""
    try:
        records = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    claims = {}
    for fields in records if isinstance(records, list) else []:
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            claim = Claim.from_dict(fields)
            claim.holds, claim.bound  # noqa: B018  a value or bound that is no number raises here
            claims[claim.name] = claim
    return claims


def own_status(item: Item, root: Path) -> str:
    """ "passed" once a full run did; else the status of the latest run, "smoke only", or ""."""
    runs = [run for _, run in runs_of(item.id, root)]
    full = [run["status"] for run in runs if not run.get("smoke")]
    if "passed" in full:
        return "passed"
    if full:
        return full[-1]
    return "smoke only" if runs else ""
