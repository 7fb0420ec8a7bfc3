"""Every mistake: all named edits of all lessons, each with what it does, what then fails, and its diff."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from chapters.course import breaking, catalog
from chapters.course.catalog import Item
from chapters.course.parts import edits_of, exercises_of
from chapters.course.site.names import (
    MISTAKES,
    PROVEN,
    anchor_to,
    as_block,
    escaped,
    filters,
    lesson_choices,
    lesson_link,
    name_of,
)
from chapters.utils.edits import Edit, diff

COMMAND = re.compile(r"`rl break ([A-E]\d+) ([a-z]\w*)`")
COLOURS = {"+": "gi", "-": "gd"}
"""Pygments' names for what was put in and what was taken out."""
INTRODUCTION = """# Every mistake

Each function of a lesson can be got wrong in many ways, and most of them train all the same. Here is every
one that has a name: what the wrong version does, which of the lesson's claims then fail in a full run, and
the lines that differ. `rl break C3 no_min` runs one beside the right lesson. Where no claim is named, only
a check of the function notices it: a learner that is wrong in this way looks well.
"""


def named(item: Item) -> Iterator[tuple[str, Edit, str]]:
    """(name, edit, its diff) of every mistake of a lesson, then of its exercises."""
    for name, edit in edits_of(item).items():
        yield name, edit, breaking.diff_of(item, edit)
    for exercise in exercises_of(item).values():
        source = inspect.getsource(inspect.getmodule(exercise.solution)) if exercise.edits else ""
        for name, edit in exercise.edits.items():
            yield name, edit, diff(source, edit, name="exercise")


def entry(item: Item, name: str, edit: Edit, changed: str) -> str:
    """A mistake, as HTML: a line, and its diff folded away."""
    fails = ", ".join(anchor_to(MISTAKES, PROVEN, f"{item.id}.{claim}", claim) for claim in edit.fails)
    told = f"fails: {fails}" if fails else "only a check notices it"
    lines = [
        f'<span class="{COLOURS.get(line[:1], "x")}">{html.escape(line) or " "}</span>'
        for line in changed.splitlines()[2:]
    ]
    return (
        f'<details class="entry" id="{item.id}.{name}" data-lesson="{item.id}"><summary>{escaped(edit.says)} '
        f"<code>{name}</code> in <code>{html.escape(edit.function)}</code></summary><p>{told}</p>"
        f'<div class="highlight"><pre>{"&#10;".join(lines)}</pre></div></details>'
    )


def page() -> str:
    """The page, as Markdown."""
    parts = [INTRODUCTION, filters(lesson=lesson_choices())]
    for item in catalog.lessons():
        entries = as_block(*(entry(item, *one) for one in named(item)))
        parts += [f"## {item.id} · {item.title}\n", lesson_link(item, MISTAKES), entries]
    return "\n".join(parts)


def linked_commands(text: str, path: Path) -> str:
    """A text in which `rl break C3 no_min` leads to that mistake."""
    here = name_of(path)

    def lead(found: re.Match) -> str:
        label = f"<code>rl break {found[1]} {found[2]}</code>"
        return anchor_to(here, MISTAKES, f"{found[1]}.{found[2]}", label)

    return COMMAND.sub(lead, text)
