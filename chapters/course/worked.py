"""The worked examples of a lesson: a few numbers by hand, which the grader tries first when a check fails."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import re
from collections.abc import Callable

import numpy as np

from chapters.course.parts import Task
from chapters.course.spying import OverTime, Paper, as_exceptions, within

SECONDS = 3.0
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks_of(task: Task) -> list[str]:
    """The examples in order: those of the lesson, or of the exercise beyond it."""
    if task.exercise:
        text = f"{task.exercise.task}\n\n{inspect.getdoc(task.right) or ''}\n"
    else:
        text = task.item.path.read_text(encoding="utf-8")
    parts = re.split(r'^\s*(?:```.*|r?""".*)$', text, flags=re.MULTILINE)
    return [inspect.cleandoc(part) for part in parts if re.search(r"^\s*>>> ", part, re.MULTILINE)]


def example_of(task: Task) -> str:
    """The first example that calls the function, or ""."""
    return next((block for block in blocks_of(task) if calls(task.name, block)), "")


def calls(name: str, text: str) -> bool:
    """Whether the function is called in a piece of Python."""
    return bool(re.search(rf"\b{name}\(", text))


def by_hand(task: Task, own: Callable, names: dict) -> dict[str, str]:
    """The first line of the worked examples that comes out otherwise: asked, expected, found; else nothing.

    `names` are those of the learner's file; `own` is the learner's function.
    """
    blocks = blocks_of(task)
    last = max((number for number, block in enumerate(blocks) if calls(task.name, block)), default=-1)
    scope = {**vars(task.home), **names, task.name: own}
    try:
        with within(SECONDS):
            for block in blocks[: last + 1]:
                for example in doctest.DocTestParser().get_examples(block):
                    found = outcome(example.source, scope)
                    if calls(task.name, example.source) and example.want and not agree(example.want, found):
                        asked = " ".join(example.source.split())
                        return {"asked": asked, "expected": example.want.strip(), "found": found.strip()}
    except OverTime:
        pass
    return {}


def outcome(source: str, scope: dict) -> str:
    """What Python's prompt would answer."""
    printed = Paper()
    try:
        with contextlib.redirect_stdout(printed), as_exceptions():
            exec(compile(source, "<worked example>", "single"), scope)
    except (Exception, SystemExit) as error:
        return f"stops with {type(error).__name__}: {words_of(error)}".rstrip(": ")
    return printed.getvalue()


def words_of(error: BaseException) -> str:
    """What an error says, in one line that any terminal can show; nothing if it fails to say it."""
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:  # a learner's own
        return ""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def agree(want: str, found: str) -> bool:
    """The same text, or numbers that differ by rounding."""
    if doctest.OutputChecker().check_output(want, found, FLAGS):
        return True
    try:
        return bool(np.allclose(ast.literal_eval(want.strip()), ast.literal_eval(found.strip()), atol=1e-5))
    except (ValueError, SyntaxError, TypeError):
        return False
