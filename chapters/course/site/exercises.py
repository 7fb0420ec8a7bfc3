"""The exercises on a lesson's page: below each task its hints, one at a time, and its solution, folded."""

from __future__ import annotations

import ast
import functools
import re

from chapters.course import catalog, practice, tables
from chapters.course.grading import tasks_for
from chapters.course.site.names import as_block, escaped
from chapters.exercises import Exercise

EQUATION = re.compile(r"^equation \(([\w.']+)\) (.+)$")
LANGUAGE = {True: "pycon", False: "python"}


def with_help(text: str) -> str:
    """A lesson's text whose exercises have hints and solutions beside them."""

    def block(found: re.Match) -> str:
        item = catalog.find(found["id"])
        return found[1] + tables.exercise_list(item, functools.partial(help_for, item)) + found[3]

    return tables.EXERCISES.sub(block, text)


def help_for(item: catalog.Item, name: str, exercise: Exercise) -> str:
    """Hints and solution of an exercise, as Markdown; of a question only hints, its answer stands there."""
    if not (exercise.functions or exercise.solution):
        return "".join(_hints(item, name)) if exercise.hints else ""
    tasks, parts = tasks_for(item, name), []
    for function, task in tasks.items():
        if len(tasks) > 1:
            parts.append(f"\n`{function}`:\n")
        parts += [*_hints(item, function), _folded("Solution", _fenced(practice.source_of(task)))]
    return "".join(parts)


def _hints(item: catalog.Item, name: str) -> list[str]:
    steps = practice.hints(item, name)
    return [_folded(f"Hint {i} of {len(steps)}", step_text(step)) for i, step in enumerate(steps, 1)]


def _folded(title: str, text: str) -> str:
    return f'\n<details class="help"><summary>{title}</summary>\n\n{text.strip()}\n\n</details>\n'


def _fenced(source: str) -> str:
    return f"```{LANGUAGE[source.startswith('>>> ')]}\n{source.strip()}\n```\n"


def step_text(step: str) -> str:
    """A hint as Markdown: equations are set, code is code, the rest are plain words."""
    label, colon, line = step.partition("the first line: ")
    if colon and not label:
        return f"The first line:\n\n{_fenced(line)}"
    if step.startswith(">>> ") or is_code(step):
        return _fenced(step)
    parts, words = [], []
    for line in [*step.splitlines(), ""]:
        found = EQUATION.match(line)
        section = line.startswith("it belongs to section")
        if words and (found or section or not line.strip()):
            parts.append(as_block(f"<p>{escaped(' '.join(words))}</p>"))
            words = []
        if found:
            parts.append(f"\n({found[1]}): ${found[2]}$\n")
        elif line.strip():
            words.append(f"It{line.strip()[2:]}." if section else line.strip())
    return "\n".join(parts)


def is_code(text: str) -> bool:
    """Whether a hint is Python, and more than a word."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    return not all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Name) for node in tree.body)
