"""Find the bug: a function of a lesson with one of its named mistakes in it, to be found and mended.

Which one it is stands nowhere in words until it is found: `practice/progress.json` has a digest of its name.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import random
from collections.abc import Iterator
from pathlib import Path

from chapters.course import grading, practice, shown
from chapters.course.catalog import ROOT, Item
from chapters.course.grading import DEFINITIONS, Grade, last_definitions, parsed
from chapters.course.parts import Task, lesson_of, tasks_of
from chapters.course.spying import OverTime, within
from chapters.course.telling import equations_of, report
from chapters.course.worked import example_of
from chapters.utils.edits import Edit, diff
from chapters.utils.files import write_atomic
from chapters.utils.lesson import UsageError

MAX_LINES = 40
"""A longer function is reading, not finding."""
SECONDS = 3.0


def path_of(item: Item, folder: Path) -> Path:
    """Where the bug of a lesson stands."""
    return folder / f"{item.id}_bug.py"


def candidates(item: Item) -> dict[str, tuple[Task, Edit]]:
    """The mistakes that can be set: only their own function changes, is short, and gives no name away."""
    found = {}
    for task in tasks_of(item).values():
        for name, edit in task.edits.items() if not task.exercise else ():
            text = wrong_text(task, edit)
            if text and len(text.splitlines()) <= MAX_LINES and name not in text:
                found[name] = (task, edit)
    return found


def wrong_text(task: Task, edit: Edit) -> str:
    """The function with the mistake in it; "" if something else in the lesson changes, too."""
    text = definitions(inspect.getsource(task.home))[task.name]
    return text.replace(edit.old, edit.new) if text.count(edit.old) == 1 else ""


@functools.cache
def definitions(source: str) -> dict[str, str]:
    """The text of every function and class of a module, decorators included."""
    lines = source.splitlines()
    nodes = [node for node in ast.parse(source).body if isinstance(node, DEFINITIONS)]
    return {node.name: "\n".join(lines[practice.first_line(node) - 1 : node.end_lineno]) for node in nodes}


def is_rejected(task: Task, edit: Edit) -> bool:
    """Whether the check refuses it, and soon: what does not end is no fun to look for."""
    try:
        with within(SECONDS):
            task.check(task.wrong(edit))
    except OverTime:
        return False
    except Exception:
        return True
    return False


def digest(item: Item, name: str) -> str:
    """What stands for a mistake that is not found yet."""
    return hashlib.sha256(f"{item.id} {name}".encode()).hexdigest()[:16]


def open_one(item: Item, entry: dict) -> str:
    """The name of the mistake that is being looked for, or ""."""
    known = (name for name in candidates(item) if digest(item, name) == entry.get("open"))
    return next(known, "")


def found_ones(entry: dict) -> dict[str, str]:
    """{name of a mistake that was found: date}."""
    found = entry.get("found")
    return found if isinstance(found, dict) else {}


def choose(item: Item, found: dict[str, str]) -> str:
    """A mistake at random that was not found yet; once all were, any."""
    names = list(candidates(item))
    random.shuffle(names)
    for name in sorted(names, key=lambda name: name in found):
        if is_rejected(*candidates(item)[name]):
            return name
    raise UsageError(f"{item.id} has no mistake that fits: rl break {item.id} lists what there is")


def write(item: Item, folder: Path) -> tuple[Path, str]:
    """Set a bug; returns its file and a line about it. One that is not found yet stays, with its file."""
    path = path_of(item, folder)
    with shown.changing(folder) as book:
        entry = book.setdefault(f"{item.id}.bug", {})
        name = open_one(item, entry)
        if name and path.exists():
            return path, f"there is one to be found yet: rl grade {item.id}.bug"
        found = found_ones(entry)
        name = name or choose(item, found)
        with practice.put_aside(path) if path.exists() else contextlib.nullcontext() as aside:
            write_atomic(path, text_of_bug(item, *candidates(item)[name]))
        entry["open"] = digest(item, name)
    said = f"a mistake in {candidates(item)[name][0].name}; mend it, then: rl grade {item.id}.bug"
    if found:
        said += f" ({len(found)} of {len(candidates(item))} were found so far)"
    return path, said + (f"; the last one is now {aside.name}" if aside else "")


def text_of_bug(item: Item, task: Task, edit: Edit) -> str:
    """The file: what to do, what the function should compute, and the function."""
    equations = "\n\n".join(f"$${equation.partition(' ')[2]}$$" for equation in equations_of(task))
    where = item.path.relative_to(ROOT)
    return (
        f'# %% [markdown]\nr"""\n# {item.id} · Find the bug\n\n'
        "One thing in this function is not as it is in the lesson, and it is wrong. Find it without looking\n"
        f"there (`{where}`),\nand mend it here; then `rl grade {item.id}.bug`.\n"
        + (f"\n{equations}\n" if equations else "")
        + f'"""\n\n{practice.imports(item)}\n\n# %%\n{wrong_text(task, edit)}\n'
    )


def grade(item: Item, path: Path, folder: Path) -> tuple[list[Grade], list[str]]:
    """Grade a mended function; returns the grade, and what is to be said.

    Raises UsageError if the file cannot be graded.
    """
    source = grading.text_of(path)
    defined = last_definitions(parsed(source, str(path)))
    name = open_one(item, shown.read(folder).get(f"{item.id}.bug", {}))
    here = [candidates(item)[name][0].name] if name else [one for one in tasks_of(item) if one in defined]
    if not here or here[0] not in defined:
        missing = here[0] if here else "function of the lesson"
        raise UsageError(f"{path}: there is no {missing} in it (rl exercise {item.id}.bug writes one)")
    (one,) = grades = grading.graded(item, source, here[0], str(path))
    edit = candidates(item)[name][1] if name else None
    lines = list(report(item, grades, path, but=edit.says if edit else ""))
    if edit is None:
        lines.append(f"none was being looked for: rl exercise {item.id}.bug sets one")
    elif one.state == "passed":
        lines += found_lines(item, name, edit)
        with shown.changing(folder) as book:
            entry = book.setdefault(f"{item.id}.bug", {})
            entry["found"] = {**found_ones(entry), name: shown.today()}
            entry.pop("open", None)
    elif is_untouched(defined[here[0]], candidates(item)[name]):
        lines.append("it stands as it was written: nothing is mended yet")
    return grades, lines


def is_untouched(node: ast.stmt, bug: tuple[Task, Edit]) -> bool:
    """Whether a function is still the one with the mistake."""
    return ast.dump(node) == ast.dump(ast.parse(wrong_text(*bug)).body[0])


def found_lines(item: Item, name: str, edit: Edit) -> list[str]:
    """Which mistake it was."""
    fails = f" Claims that it fails: {', '.join(edit.fails)}." if edit.fails else ""
    return [f"found: {edit.says}.{fails}", f"rl break {item.id} {name} runs it beside the right lesson."]


def hints(item: Item, folder: Path) -> list[str]:
    """What the function should do; an example by hand; the line. Raises UsageError if none is open."""
    task, edit = _open(item, folder)[1]
    idea = "\n".join(
        [ast.get_docstring(practice.node_of(task)) or "", *map("equation {}".format, equations_of(task))]
    )
    by_hand = example_of(task)
    return [step for step in (idea.strip(), by_hand, f"look at: {first_change(task, edit)}") if step]


def first_change(task: Task, edit: Edit) -> str:
    """The first line of the wrong function that the right one does not have."""
    right = {line.strip() for line in definitions(inspect.getsource(task.home))[task.name].splitlines()}
    lines: Iterator[str] = (line.strip() for line in wrong_text(task, edit).splitlines())
    return next((line for line in lines if line not in right), "what is missing")


def next_hint(item: Item, folder: Path) -> tuple[list[str], int]:
    """(the hints shown so far and one more, how many there are), counted for each bug."""
    steps = hints(item, folder)
    with shown.changing(folder) as book:
        entry = book[f"{item.id}.bug"]
        asked = entry.get("hints") if isinstance(entry.get("hints"), dict) else {}
        number = min(shown.count(asked, entry["open"]) + 1, len(steps))
        entry["hints"] = {entry["open"]: number}
    return steps[:number], len(steps)


def solution(item: Item, folder: Path) -> str:
    """What the mistake is, as a diff from the right function. Raises UsageError if none is open."""
    name, (_, edit) = _open(item, folder)
    changes = diff(inspect.getsource(lesson_of(item)), edit, name=item.path.name)
    return f"{changes}\n\n{edit.says} (rl break {item.id} {name})"


def give_up(item: Item, folder: Path) -> None:
    """The open one is no longer looked for; it was not found, and may come again."""
    with shown.changing(folder) as book:
        book.setdefault(f"{item.id}.bug", {}).pop("open", None)


def _open(item: Item, folder: Path) -> tuple[str, tuple[Task, Edit]]:
    name = open_one(item, shown.read(folder).get(f"{item.id}.bug", {}))
    if not name:
        raise UsageError(f"no bug of {item.id} is being looked for: rl exercise {item.id}.bug sets one")
    return name, candidates(item)[name]
