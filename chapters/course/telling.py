"""What `rl grade` says: in words for a learner, or as a dictionary for a program."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from chapters.course.catalog import Item
from chapters.course.grading import Grade
from chapters.course.parts import Task, tasks_of

TAG = re.compile(r"\$\$(.+?)\\tag\{(E?\d+)\}\s*\$\$", re.DOTALL)
CITED = re.compile(r"eqs?\. \((E?\d+)\)(?:(?:,| and| to) \((E?\d+)\))*")


def equations_of(task: Task) -> list[str]:
    """The equations that a function cites, as the lesson or the exercise writes them: "(1) x = y"."""
    source = inspect.getsource(task.right)
    numbers = {number for match in CITED.finditer(source) for number in match.groups() if number}
    tagged = _tagged(task.exercise.task) if task.exercise else ()
    tagged += _tagged(task.item.path.read_text(encoding="utf-8"))
    return list(dict.fromkeys(equation for number, equation in tagged if number in numbers))


@functools.lru_cache(maxsize=8)  # each of a lesson's functions looks for its own
def _tagged(text: str) -> tuple[tuple[str, str], ...]:
    """(number, "(number) equation") of each equation of a text that has a number."""
    return tuple((number, f"({number}) {' '.join(body.split())}") for body, number in TAG.findall(text))


def report(item: Item, grades: list[Grade], path: Path, but: str = "") -> Iterator[str]:
    """What `rl grade` prints. The mistake `but` is not named: it is to be found."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    tasks = tasks_of(item)
    yield f"{path} ({digest})"
    width = max(len(grade.function) for grade in grades)
    for grade in grades:
        took = f"  {grade.seconds:.2f} s" if grade.state != "not begun" else ""
        yield f"  {grade.function:<{width}}  {grade.state}{took}"
        if grade.said:
            yield f"      {grade.said}"
        if grade.state == "failed":
            yield from (f"      {line}" for line in _reasons(tasks[grade.function], grade, but))
        yield from (f"      {remark}" for remark in grade.remarks)
        if grade.state == "passed":
            yield f"      {_worth(tasks[grade.function])}"
    done = sum(grade.state == "passed" for grade in grades)
    yield f"{done} of {len(grades)} passed"


def _reasons(task: Task, grade: Grade, but: str) -> Iterator[str]:
    """Why it failed: the worked example, the smallest input, the equation, the mistake that it looks like."""
    if grade.by_hand:
        yield f"the worked example: {grade.by_hand['asked']}"
        yield f"  by hand:  {grade.by_hand['expected']}"
        yield f"  yours:    {grade.by_hand['found']}"
    if grade.example:
        yield "the smallest input of the check on which it differs:"
        yield from (f"  {what + ':':<10}{text}" for what, text in grade.example.items())
    yield from (f"equation {equation}" for equation in equations_of(task))
    lines = [line for line in grade.looks_like if line != but]
    if len(lines) == 1:
        yield f"looks like: {lines[0]}"
        if grade.inputs > 1:
            yield f"  (a version with this mistake gives your answers on all {grade.inputs} inputs)"
    elif lines:
        yield f"looks like one of these, which give your answers on all {grade.inputs or 1} inputs:"
        yield from (f"  {line}" for line in lines)
    elif not grade.looks_like and task.edits:
        yield f"looks like none of the {len(task.edits)} known mistakes of this function"


def _worth(task: Task) -> str:
    """What a pass says: the known mistakes that this version does not make."""
    count = len(task.edits)
    mistakes = "its one known mistake" if count == 1 else f"none of its {count} known mistakes"
    where = f" (`rl break {task.item.id}` lists them)" if not task.exercise else ""
    return f"it makes {'not ' if count == 1 else ''}{mistakes}{where}" if count else "it does as it should"


def as_dict(item: Item, grades: list[Grade], path: Path) -> dict:
    """The same for programs (`--json`)."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"lesson": item.id, "file": str(path), "sha256": digest, "functions": list(map(asdict, grades))}
