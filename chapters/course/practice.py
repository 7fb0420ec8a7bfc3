"""`practice/`: functions to be written by the learner, their hints and their solutions.

A practice file is a script and, through jupytext, a notebook. It is the learner's own: what stands in it is
never changed, only what is missing is added at its end.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

from chapters.course import shown
from chapters.course.catalog import ROOT, Item
from chapters.course.grading import DEFINITIONS, parsed, tasks_for, text_of
from chapters.course.parts import Task, exercises_of, lesson_of
from chapters.course.telling import equations_of
from chapters.course.worked import example_of
from chapters.exercises import Exercise
from chapters.utils.edits import statements
from chapters.utils.files import write_atomic
from chapters.utils.lesson import UsageError

WIDTH = 100


def path_of(item: Item, folder: Path) -> Path:
    """Where a lesson's practice file stands."""
    return folder / f"{item.id}.py"


def write(item: Item, folder: Path, name: str = "") -> tuple[Path, list[str]]:
    """Write the stubs of a lesson, or of one exercise; returns the file and the functions that were added.

    Raises UsageError if there is no such exercise, or if the file that is there is no Python.
    """
    tasks = tasks_for(item, name)
    path = path_of(item, folder)
    text = text_of(path) if path.exists() else head(item)
    there = {node.name for node in parsed(text, str(path)).body if isinstance(node, DEFINITIONS)}
    added = [function for function in tasks if function not in there]
    if added or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = text if text.endswith("\n") else text + "\n"
        write_atomic(path, text + "".join(cell(tasks[function]) for function in added))
    return path, added


@contextlib.contextmanager
def put_aside(path: Path) -> Iterator[Path]:
    """Rename a practice file to the first free name beside it, and back if nothing could take its place."""
    names = (path.with_name(f"{path.stem}.before-{number}{path.suffix}") for number in range(1, 10_000))
    aside = next(place for place in names if not place.exists())
    os.replace(path, aside)
    try:
        yield aside
    except BaseException:
        if not path.exists():
            os.replace(aside, path)
        raise


@contextlib.contextmanager
def reset(item: Item, path: Path, name: str) -> Iterator[Path]:
    """Make stubs again of a lesson's functions, or of those of one exercise; gives where the copy is.

    Raises UsageError if there is no such exercise, or if single functions cannot be told apart.
    """
    tasks = tasks_for(item, name)
    text = text_of(path)
    kept = ""
    if name:
        lines = text.splitlines(keepends=True)
        nodes = [node for node in parsed(text, str(path)).body if isinstance(node, DEFINITIONS)]
        for node in reversed([node for node in nodes if node.name in tasks]):
            task = tasks[node.name]
            body = stub(inspect.getsource(task.home), node_of(task))
            lines[first_line(node) - 1 : node.end_lineno] = [body + "\n"]
        kept = "".join(lines)
    with put_aside(path) as aside:
        if kept:
            write_atomic(path, kept)
        yield aside


def node_of(task: Task) -> ast.FunctionDef | ast.ClassDef:
    """The right function, parsed."""
    body = statements(inspect.getsource(task.home))
    return next(node for node in body if isinstance(node, DEFINITIONS) and node.name == task.name)


def first_line(node: ast.FunctionDef | ast.ClassDef) -> int:
    """Where a definition begins, decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def imports(item: Item) -> str:
    """The lesson's imports and names of shapes."""
    source = item.path.read_text(encoding="utf-8")
    lines = source.splitlines()
    kept = [
        "\n".join(lines[node.lineno - 1 : node.end_lineno])  # with the comment behind it
        for node in statements(source)
        if isinstance(node, (ast.Import, ast.ImportFrom)) or is_alias(node)
    ]
    return "# %%\nfrom __future__ import annotations\n" + "\n".join(kept) + "\n"


def head(item: Item) -> str:
    """Title, how to grade, and the imports."""
    return (
        f'# %% [markdown]\nr"""\n# {item.id} · {item.title}: yours\n\n'
        f"Write each body in place of `...`, with the lesson beside you: `{item.path.relative_to(ROOT)}`.\n"
        f"`rl grade {item.id}` says what passes and what a mistake looks like; `--watch` at each save.\n"
        f'"""\n\n{imports(item)}'
    )


def is_alias(node: ast.stmt) -> bool:
    """Whether a statement names kinds of array: `Grid, Mask = Float[Tensor, "T N"], Bool[Tensor, "T N"]`."""
    if not isinstance(node, ast.Assign):
        return False
    kinds = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
    return all(isinstance(kind, ast.Subscript) for kind in kinds)


def cell(task: Task) -> str:
    """What is asked, signature and docstring, and a body to be written."""
    source = inspect.getsource(task.home)
    if task.exercise:
        number = list(exercises_of(task.item).values()).index(task.exercise) + 1
        above = f"## {task.item.id}.{number} · {task.exercise.title}\n\n{task.exercise.task.strip()}"
    else:
        above = "\n\n".join(f"$${equation.partition(' ')[2]}$$" for equation in equations_of(task))
    text = f'\n\n# %% [markdown]\nr"""\n{above}\n"""\n' if above else "\n"
    needed = "".join(f"{line}\n" for line in imports_of(task)) if task.exercise else ""
    return f"{text}\n# %%\n{needed}{chr(10) * 2 if needed else ''}{stub(source, node_of(task))}\n"


def imports_of(task: Task) -> list[str]:
    """The imports and names of shapes that a function beyond the lesson needs and the lesson's file lacks."""
    source = inspect.getsource(task.home)
    used = {node.id for node in ast.walk(node_of(task)) if isinstance(node, ast.Name)}
    lesson = lesson_of(task.item)
    needed = []
    for node in statements(source):
        if isinstance(node, ast.ImportFrom) and node.module != lesson.__name__:
            names = [one for one in node.names if (one.asname or one.name) in used - set(vars(lesson))]
            if names:
                needed.append(f"from {node.module} import {', '.join(map(ast.unparse, names))}")
        elif isinstance(node, ast.Import):
            names = [one for one in node.names if (one.asname or one.name) in used - set(vars(lesson))]
            needed += [f"import {ast.unparse(one)}" for one in names]
        elif is_alias(node) and {ast.unparse(one) for one in node.targets} & used - set(vars(lesson)):
            needed.append(ast.get_source_segment(source, node))
    return needed


def stub(source: str, node: ast.FunctionDef | ast.ClassDef) -> str:
    """Decorators, signature and docstring; of a class, those of each method."""
    lines = source.splitlines()
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        parts = [signature(lines, node)] + [stub(source, method) for method in methods]
        return "\n\n".join(parts)
    return f"{signature(lines, node)}\n{' ' * (node.col_offset + 4)}...  # yours"


def signature(lines: list[str], node: ast.FunctionDef | ast.ClassDef) -> str:
    """The lines down to the docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    end = first.end_lineno if documented else first.lineno - 1
    return "\n".join(lines[first_line(node) - 1 : end])


# Hints and solutions


def question_of(item: Item, name: str) -> Exercise | None:
    """The exercise that a name or number stands for, if it is a question with nothing to write."""
    exercises = exercises_of(item)
    if name.isdecimal() and 1 <= int(name) <= len(exercises):
        name = list(exercises)[int(name) - 1]
    found = exercises.get(name)
    return found if found and not (found.functions or found.solution) else None


def solution(item: Item, name: str) -> str:
    """The right function and the equations that it stands for; of a question, the answer.

    Raises UsageError if there is no such exercise.
    """
    if question := question_of(item, name):
        return question.answer.strip()
    if not name:
        raise UsageError(f"name one function: {item.id}.{next(iter(tasks_for(item, '')))}, say")
    return "\n\n\n".join(map(solution_of, tasks_for(item, name).values()))


def solution_of(task: Task) -> str:
    """A right function as it stands there, its equations, and why it is so."""
    equations = [f"equation {equation}" for equation in equations_of(task)]
    answer = task.exercise.answer.strip() if task.exercise else ""
    return "\n".join([source_of(task), "", *equations, *([answer] if answer else [])])


def source_of(task: Task) -> str:
    """A right function as it stands there."""
    node = node_of(task)
    return "\n".join(inspect.getsource(task.home).splitlines()[first_line(node) - 1 : node.end_lineno])


def hints(item: Item, name: str) -> list[str]:
    """The hints of an exercise, or three steps towards a function of the lesson.

    These are what it stands for, an example by hand, and how its body begins. Raises UsageError if there is
    no such exercise, or if it is several functions. A lesson without an example of a function gives two.
    """
    if question := question_of(item, name):
        return [_folded(hint) for hint in question.hints]
    if not name:
        raise UsageError(f"name one function: {item.id}.{next(iter(tasks_for(item, '')))}, say")
    tasks = tasks_for(item, name)
    if len(tasks) > 1:
        raise UsageError(f"{item.id}.{name} is several functions: name one of {', '.join(tasks)}")
    (task,) = tasks.values()
    if task.exercise and task.exercise.hints:
        return [_folded(hint) for hint in task.exercise.hints]
    node, source = node_of(task), inspect.getsource(task.home)
    above = [line for line in source.splitlines()[: node.lineno] if line.startswith("## ")]
    section = f"it belongs to section {above[-1].lstrip('# ')}" if above else ""
    equations = [f"equation {equation}" for equation in equations_of(task)]
    idea = "\n".join([ast.get_docstring(node) or "", *equations, section])
    body = node.body[1:] if ast.get_docstring(node) else node.body
    first = ast.get_source_segment(source, body[0]) if body else ""
    begins = "the first line: " + first.splitlines()[0] if first else ""
    return [step.strip() for step in (idea, example_of(task), begins) if step.strip()]


def _folded(hint: str) -> str:
    """A hint in lines that fit a terminal; code of several lines stays as it is."""
    return hint.strip() if "\n" in hint.strip() else "\n".join(textwrap.wrap(hint, WIDTH)) or hint


def next_hint(item: Item, name: str, folder: Path) -> tuple[list[str], int]:
    """(the hints shown so far and one more, how many there are); how many were shown is kept."""
    steps = hints(item, name)
    if not steps:
        raise UsageError(f"{item.id}.{name} has no hint (rl solution {item.id}.{name} answers it)")
    key = next(iter(tasks_for(item, name))) if not question_of(item, name) else name
    with shown.changing(folder) as book:
        entry = book.setdefault(f"{item.id}.{key}", {})
        entry["hints"] = min(shown.count(entry, "hints") + 1, len(steps))
    return steps[: entry["hints"]], len(steps)
