"""The graders graded (`rl dev check-exercises`): what they must pass, refuse and name.

For each function that a learner can write: its stub is "not begun", the right one passes, right ones in other
idioms pass (`checks/<ID>_variants.py`, functions named `<function>__<idiom>`), and each named edit fails and
is named. An edit that no grader can tell from another stands in `UNNAMED` of the same file, with the reason.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chapters.course import grading, practice
from chapters.course.catalog import ITEM, ROOT, Item, lessons
from chapters.course.parts import Task, exercises_of, tasks_of
from chapters.course.progress import read_json
from chapters.utils.files import write_json

PLACE = ROOT / "chapters" / "exercises" / "graders.json"
"""What was found last, by lesson: `rl dev check-exercises --record` writes it, `rl tables` shows it."""


@dataclass
class Examined:
    """What was found of one function."""

    function: str
    edits: int = 0
    named: int = 0
    unnamed: dict[str, str] = field(default_factory=dict)
    """Edits that are not named, and why they cannot be; "" where nobody has said."""
    variants: int = 0
    faults: list[str] = field(default_factory=list)


def variants_of(item: Item) -> types.ModuleType | None:
    """`checks/<ID>_variants.py`, if it is there."""
    path = item.path.parent / "checks" / f"{item.id}_variants.py"
    if not path.exists():
        return None
    return importlib.import_module(f"{item.module.rpartition('.')[0]}.checks.{path.stem}")


def examine(task: Task) -> Examined:
    """Put everything to the grader of one function that it must judge rightly."""
    found = Examined(task.name, edits=len(task.edits))
    if not is_open(task):
        found.faults.append("its stub is taken for a beginning")
    grade = grading.grade_one(task, task.right)
    if grade.state != "passed":
        found.faults.append(f"the right one is refused: {grade.said}")
    variants = variants_of(task.item)
    for name in idioms(variants, task.name):
        found.variants += 1
        grade = grade_variant(task, variants, name)
        if grade.state != "passed" or grade.remarks:
            found.faults.append(f"{name} is refused: {grade.said or '; '.join(grade.remarks)}")
    known = getattr(variants, "UNNAMED", {})
    for name, edit in task.edits.items():
        with contextlib.redirect_stdout(io.StringIO()):
            grade = grading.grade_one(task, task.wrong(edit))
        if grade.state != "failed":
            found.faults.append(f"{name} passes")
        elif edit.says in grade.looks_like:
            found.named += 1
        else:
            found.unnamed[name] = known.get(name, "")
            if name not in known:
                found.faults.append(f"{name} is not named, and no reason is given")
    return found


def is_open(task: Task) -> bool:
    """Whether the stub that a learner is given counts as not begun."""
    (node,) = ast.parse(practice.stub(inspect.getsource(task.home), practice.node_of(task))).body
    return grading.is_stub(node)


def idioms(variants: types.ModuleType | None, function: str) -> list[str]:
    """The variants of a function by name."""
    return [name for name in vars(variants) if name.startswith(f"{function}__")] if variants else []


def grade_variant(task: Task, variants: types.ModuleType, name: str) -> grading.Grade:
    """Grade a variant as a learner's file would be: by its text, among the lesson's names."""
    text = f"{inspect.getsource(variants)}\n\n{task.name} = {name}\n"
    (grade,) = grading.graded(task.item, text, task.name, Path(variants.__file__).name)
    return grade


def strays(item: Item) -> list[str]:
    """Exercises that are not as an exercise should be, whatever the graders say."""
    found = []
    path = item.path.parent / "checks" / f"{item.id}_exercises.py"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for name in re.findall(r"chapters\.[A-E]_\w+[. ](?:import )?(\w+)", text):
        match = ITEM.match(f"{name}.py")
        if match and (match["id"][0], int(match["id"][1:])) > (item.id[0], int(item.id[1:])):
            found.append(f"its exercises need a later lesson, {match['id']}")
    for name, one in exercises_of(item).items():
        if one.solution and (not one.check or not one.edits):
            found.append(f"{name} has a solution and no {'check' if not one.check else 'named mistake'}")
        if one.solution and len(one.hints) != 3:
            found.append(f"{name} has {len(one.hints)} hints, not 3")
    variants = [name for name in vars(variants_of(item) or types) if "__" in name.strip("_")]
    found += [
        f"{name} is a variant of nothing" for name in variants if name.split("__")[0] not in tasks_of(item)
    ]
    known = {name for task in tasks_of(item).values() for name in task.edits}
    found += [
        f"UNNAMED has {name!r}, which is no edit"
        for name in getattr(variants_of(item), "UNNAMED", {})
        if name not in known
    ]
    return found


def summary(found: list[Examined]) -> dict:
    """What is kept of a lesson."""
    return {
        "functions": len(found),
        "variants": sum(one.variants for one in found),
        "edits": sum(one.edits for one in found),
        "named": sum(one.named for one in found),
        "unnamed": {name: reason for one in found for name, reason in one.unnamed.items()},
    }


def record(item: Item, found: list[Examined]) -> None:
    """Keep what was found of a lesson in the small file that the table is made from."""
    book = load()
    book[item.id] = summary(found)
    write_json(PLACE, {lesson.id: book[lesson.id] for lesson in lessons() if lesson.id in book})


def load() -> dict[str, dict]:
    """What was found of each lesson; nothing if it was never kept."""
    return read_json(PLACE) if PLACE.exists() else {}


def share(book: dict[str, dict]) -> float:
    """The share of named edits that are named rightly."""
    edits = sum(entry["edits"] for entry in book.values())
    return sum(entry["named"] for entry in book.values()) / edits if edits else 0.0


def report(item: Item, found: list[Examined]) -> Iterator[str]:
    """What `rl dev check-exercises` prints of a lesson."""
    told = summary(found)
    yield (
        f"{item.id}: {told['functions']} functions, {told['variants']} variants, "
        f"{told['named']} of {told['edits']} mistakes named"
    )
    for one in found:
        yield from (f"  {one.function}: {fault}" for fault in one.faults)
        yield from (
            f"  {one.function}: {name} is not named: {why}" for name, why in one.unnamed.items() if why
        )


def table() -> str:
    """The block of CONTRIBUTING."""
    book = load()
    if not book:
        return "\nNot recorded yet: `rl dev check-exercises --record`.\n\n"
    lines = [
        "",
        "| lesson | functions | right ones in other idioms | mistakes | named |",
        "|---|---|---|---|---|",
    ]
    for lesson, entry in book.items():
        cells = (lesson, entry["functions"], entry["variants"], entry["edits"], entry["named"])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    edits = sum(entry["edits"] for entry in book.values())
    named = sum(entry["named"] for entry in book.values())
    lines.append(f"| all | | | {edits} | {named}, {share(book):.0%} |")
    reasons = [(lesson, *pair) for lesson, entry in book.items() for pair in entry["unnamed"].items()]
    lines += ["", *(f"* {lesson}.`{name}`: {why or 'no reason given yet'}" for lesson, name, why in reasons)]
    return "\n".join(lines).rstrip() + "\n\n"
