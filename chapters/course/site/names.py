"""The pages of the site by name, and links between them."""

from __future__ import annotations

import functools
import html
import os
import re
from pathlib import Path

from chapters.course import catalog
from chapters.course.catalog import CHAPTERS, ROOT

BIBLIOGRAPHY = CHAPTERS / "references.bib"
PROVEN, MISTAKES, FIGURES, ORDERS = "proven", "mistakes", "figures", "orders"
"""Names of the pages that are made of no one file."""


@functools.cache
def page_files() -> tuple[Path, ...]:
    """The files that a reader reads, in their order."""
    found = [ROOT / "README.md", *(item.path for item in catalog.items()), CHAPTERS / "NOTATION.md"]
    for folder in ("planning", "days", "benchmarks"):
        files = (ROOT / folder).rglob("*.md")
        found += sorted(files, key=lambda path: (path.parent, path.name != "README.md"))
    return (*found, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")


def name_of(path: Path) -> str:
    """The name of a file's page, without a suffix: "chapters/B_core_algorithms/B1_tabular_q_learning"."""
    inside = path.relative_to(ROOT)
    if path == ROOT / "README.md":
        return "index"
    if path in page_files() or path == BIBLIOGRAPHY:
        return inside.with_suffix("").as_posix()
    return f"source/{inside.as_posix()}"


def relative(name: str, here: str) -> str:
    """The way from one page to another."""
    return os.path.relpath(name, os.path.dirname(here) or ".").replace(os.sep, "/")


def anchor_to(here: str, page: str, anchor: str, label: str, title: str = "") -> str:
    """A link as HTML, from one page to a place in another that no heading marks."""
    told = f' title="{html.escape(title, quote=True)}"' if title else ""
    return f'<a class="to" href="{relative(page, here)}.html#{anchor}"{told}>{label}</a>'


def item_in_plan(here: str, item: catalog.Item, plan: str, rel: str = "") -> str:
    """A link as HTML to a lesson or note, whose page then keeps to the order of a plan."""
    how = f' rel="{rel}"' if rel else ""
    place = f"{relative(name_of(item.path), here)}.html?plan={plan}"
    return f'<a href="{place}"{how}>{item.id} · {escaped(item.title)}</a>'


def escaped(text: str) -> str:
    """A plain text as HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=True))


def as_block(*lines: str) -> str:
    """HTML that Markdown leaves alone: no line of it is empty."""
    return "\n" + "\n".join(line for text in lines for line in text.split("\n") if line.strip()) + "\n"


def filters(**choices: dict[str, str]) -> str:
    """A form that filters the entries of a page, by words and by what their data say: {value: its text}."""
    lists = [
        f'<label>{name} <select name="{name}"><option value="">all</option>'
        + "".join(f'<option value="{value}">{escaped(text)}</option>' for value, text in options.items())
        + "</select></label>"
        for name, options in choices.items()
    ]
    words = '<label>words <input type="search" name="words"></label>'
    return as_block(
        '<form class="filters" role="search">', *lists, words, '<output aria-live="polite"></output></form>'
    )


def lesson_choices() -> dict[str, str]:
    """The lessons, to choose from."""
    return {item.id: f"{item.id} · {item.title}" for item in catalog.lessons()}


def lesson_link(item: catalog.Item, here: str) -> str:
    """A line that leads from a page to a lesson."""
    return f"[The lesson]({relative(name_of(item.path), here)}.md)\n"
