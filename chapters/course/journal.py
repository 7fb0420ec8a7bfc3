"""The learning log: one folder a day, plain Markdown, readable and editable without this tool."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

from chapters.course.catalog import Item
from chapters.course.progress import runs_of
from chapters.utils.claims import Claim
from chapters.utils.files import write_atomic
from chapters.utils.runlog import read_metrics

DAY = re.compile(r"^Day(\d+)$")
TEMPLATE = """# Day {number:02d} · {date}

**Hypothesis.** What do I expect, and why? (Write it before the run.)

## Set-up

What I change, what I keep, how many seeds.

## Result

## What surprised me

## Lessons learned

## Next
"""


class JournalError(Exception):
    """Nothing to log, or nowhere to log it; the message is one line."""


def days(root: Path) -> list[Path]:
    """The day folders, in order of their number."""
    if not root.exists():
        return []
    found = [(int(match[1]), path) for path in root.iterdir() if (match := DAY.match(path.name))]
    return [path for _, path in sorted(found)]


def new_day(root: Path) -> Path:
    """Start the next day: `DayNN/README.md` from the template. Returns its path."""
    existing = days(root)
    number = int(DAY.match(existing[-1].name)[1]) + 1 if existing else 1
    readme = root / f"Day{number:02d}" / "README.md"
    readme.parent.mkdir(parents=True)  # fails, rather than overwrites, if it is there
    write_atomic(readme, TEMPLATE.format(number=number, date=time.strftime("%Y-%m-%d")))
    return readme


def log_run(item: Item, root: Path, runs: Path) -> Path:
    """Append a lesson's latest run to the latest day, its figures copied beside it. Returns the README."""
    if not (existing := days(root)):
        raise JournalError("no day to log to yet: start one with `rl day new`")
    if not (finished := runs_of(item.id, runs)):
        raise JournalError(f"no run of {item.id} to log yet: `rl run {item.id}`")
    folder, run = finished[-1]
    readme = existing[-1] / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else f"# {existing[-1].name}\n"
    marker = f"<!-- run: {item.id}/{folder.name} -->"
    if marker in text:
        raise JournalError(f"{existing[-1].name} has this run already ({item.id}/{folder.name})")
    for figure in _figures(folder):
        temporary = existing[-1] / f".{figure.name}"
        shutil.copyfile(figure, temporary)
        os.replace(temporary, existing[-1] / f"{folder.name}-{figure.name}")
    write_atomic(readme, f"{text.rstrip()}\n\n{marker}\n{_entry(item, folder, run)}")
    return readme


def _figures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".gif"))


def _entry(item: Item, folder: Path, run: dict) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    claims = folder / "claims.json"
    records = json.loads(claims.read_text(encoding="utf-8")) if claims.exists() else []
    kind = "smoke run" if run.get("smoke") else "run"
    lines = [f"### {item.id} · {item.title}: {kind} {run['status']} in {run.get('seconds', 0):.0f} s", ""]
    lines += ["Config: " + ", ".join(f"`{key}={value}`" for key, value in config.items()) + ".", ""]
    if records:
        lines += ["| claim | value | bound | holds |", "|---|---|---|---|"]
        for claim in map(Claim.from_dict, records):
            verdict = "yes" if claim.holds else "**no**"
            value = f"{claim.value:.4g} {claim.unit}".strip()
            lines.append(f"| {claim.statement} | {value} | {claim.bound} | {verdict} |")
        lines.append("")
    if metrics := read_metrics(folder):
        last = (f"{name} {rows[-1][1]:.4g}" for name, rows in metrics.items())
        lines += ["Last metrics: " + ", ".join(last) + ".", ""]
    lines += [f"![{path.stem}]({folder.name}-{path.name})\n" for path in _figures(folder)]
    return "\n".join(lines).rstrip() + "\n"
