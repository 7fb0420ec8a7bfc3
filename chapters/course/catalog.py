"""What the course consists of, found by file name and read as text: no lesson is ever imported here."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

CHAPTERS = Path(__file__).resolve().parents[1]
ROOT = CHAPTERS.parent
EXTRAS = {"scale": "ray"}
"""Extras of pyproject.toml that a lesson cannot run without, and by which package one knows them."""
ITEM = re.compile(r"^(?P<id>[A-E]\d+)_\w+\.(?P<kind>py|md|sh)$")


@dataclass(frozen=True)
class Item:
    """A lesson (`py`), a note (`md`) or the set-up script (`sh`)."""

    id: str
    kind: str
    path: Path

    @functools.cached_property
    def text(self) -> str:
        """The header: a lesson's docstring, a note's whole text."""
        source = self.path.read_text(encoding="utf-8")
        if self.kind != "py":
            return source
        # not by parsing: a learner who has just broken a lesson can still list the course
        found = re.search(r'^r?"""\n(.*?)"""', source, re.DOTALL | re.MULTILINE)
        return found.group(1) if found else ""

    @property
    def title(self) -> str:
        """The heading without its id: "Tabular Q-learning"."""
        heading = re.search(r"^#+ +(?:[A-E]\d+ *[·:.] *)?(.+)$", self.text, re.MULTILINE)
        return heading.group(1).strip() if heading else self.path.stem

    @property
    def question(self) -> str:
        """The sentence after **Question.**"""
        found = re.search(r"\*\*Question\.\*\*\s+(.+?)(?:\n\s*\n|$)", self.text, re.DOTALL)
        return " ".join(found.group(1).split()) if found else ""

    @property
    def budgets(self) -> tuple[float, float] | None:
        """Seconds that (the lesson, the lesson and all its evidence) may take, from the **Time.** line."""
        pattern = (
            r"\*\*Time(?: budget)?\.\*\*\s+(?:At most )?(\d+) s on 2 cores(?:; with all evidence (\d+) s)?\."
        )
        found = re.search(pattern, self.text)
        if not found:
            return None
        own = float(found.group(1))
        return own, float(found.group(2) or own)

    @property
    def extra(self) -> str:
        """The optional extra that it cannot run without, from the **Extra.** line; "" for nearly all."""
        found = re.search(r"\*\*Extra\.\*\*\s+`(\w+)`", self.text)
        return found[1] if found else ""

    @property
    def lacks(self) -> str:
        """Why it cannot run here; "" if it can."""
        package = EXTRAS.get(self.extra, "")
        if not package or importlib.util.find_spec(package):
            return ""
        how = f"uv sync --inexact --compile-bytecode --extra {self.extra}"
        return f"{self.id} needs the extra `{self.extra}` ({how})"

    @property
    def module(self) -> str:
        """Dotted name to import a lesson by."""
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)

    @property
    def chapter(self) -> str:
        return self.id[0]

    @property
    def results(self) -> Path:
        return self.path.parent / "results"

    @property
    def evidence(self) -> Path:
        """Where the lesson's evidence stands, if it has any."""
        return self.path.parent / "evidence" / f"{self.id}.py"

    @property
    def ledger(self) -> Path:
        return self.results / f"{self.id}.json"


def items() -> list[Item]:
    """Everything numbered in the chapter folders, in order of study."""
    folders = [folder for folder in CHAPTERS.glob("[A-E]_*") if folder.is_dir()]
    found = [Item(*numbered) for folder in folders for numbered in _numbered(folder, (*os.listdir(folder),))]
    return sorted(found, key=lambda item: (item.chapter, int(item.id[1:])))


@functools.lru_cache(maxsize=16)  # `rl goals` asks a hundred times
def _numbered(folder: Path, names: tuple[str, ...]) -> list[tuple[str, str, Path]]:
    """(id, kind, path) of what is numbered among the files of a folder."""
    return [(match["id"], match["kind"], folder / match[0]) for match in map(ITEM.match, names) if match]


def lessons() -> list[Item]:
    """The items that run."""
    return [item for item in items() if item.kind == "py"]


def find(item_id: str, kinds: tuple[str, ...] = ("py", "md", "sh")) -> Item:
    """The item called `item_id` (any case). Raises KeyError with what is allowed."""
    candidates = [item for item in items() if item.kind in kinds]
    for item in candidates:
        if item.id.lower() == item_id.lower():
            return item
    raise KeyError(f"no lesson {item_id!r} (there are: {', '.join(item.id for item in candidates)})")
