"""What you have done so far, read from `runs/`."""

from __future__ import annotations

import json
from pathlib import Path

from chapters.course.catalog import Item

STATUSES = ("passed", "failed", "interrupted", "crashed", "running", "refused")


def runs_of(lesson: str, root: Path) -> list[tuple[Path, dict]]:
    """(folder, run.json) of every readable run of a lesson, oldest first."""
    found = []
    for path in sorted((root / lesson).glob("*/run.json"), key=lambda path: path.stat().st_mtime):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(run, dict) and run.get("status") in STATUSES:
            found.append((path.parent, run))
    return found


def own_status(item: Item, root: Path) -> str:
    """ "passed" once a full run did; else the status of the latest run, "smoke only", or ""."""
    runs = [run for _, run in runs_of(item.id, root)]
    full = [run["status"] for run in runs if not run.get("smoke")]
    if "passed" in full:
        return "passed"
    if full:
        return full[-1]
    return "smoke only" if runs else ""
