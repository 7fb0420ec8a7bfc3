"""Named edits: every wrong or different version of a lesson is an edit of the right one.

A lesson carries no switch for what would happen without one of its parts. The part's source text is replaced
instead, in a copy of the lesson, and the copy is an ordinary module that can be trained, measured and shown
as a diff. One table of edits, `EDITS` in `checks/<ID>.py`, serves the tests (each check must reject the edits
of its function), the ablations of the evidence, `rl break`, and the grader of the exercises.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import linecache
import sys
import types
from dataclasses import dataclass


class EditError(ValueError):
    """An edit that no longer fits its lesson; the message says which, and why."""


@dataclass(frozen=True)
class Edit:
    """A piece of a lesson's source, and what stands in its place in the other version."""

    function: str
    """The function whose behaviour changes: its check must reject the edit."""
    old: str
    """The piece, as it stands in the lesson: exactly once inside the function, or else in the whole file."""
    new: str
    """What replaces it."""
    says: str
    """What the other version is or does, in one line: "bootstraps through a terminal state"."""
    fails: tuple[str, ...] = ()
    """The claims of the lesson's `main` that then fail in a full run; none where only a check can notice."""


def edited(lesson: types.ModuleType, *edits: Edit) -> types.ModuleType:
    """A copy of the module `lesson` with the edits made in it; the lesson itself stays as it is.

    Raises EditError if a piece does not occur exactly once, so that no edit is ever lost in silence, or if
    the outcome is no Python.
    """
    source = edited_source(inspect.getsource(lesson), *edits)
    says = "; ".join(edit.says for edit in edits)
    name = f"{lesson.__name__}__edited"
    filename = f"<{name}: {says}>"
    module = types.ModuleType(name, lesson.__doc__)
    module.__file__ = lesson.__file__
    module.__package__ = lesson.__package__
    sys.modules[name] = module  # dataclasses look their module up by name
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    try:
        code = compile(source, filename, "exec")
    except SyntaxError as error:
        raise EditError(
            f"{says!r}: the edited source is no Python (line {error.lineno}: {error.msg})"
        ) from None
    exec(code, module.__dict__)
    return module


def edited_source(source: str, *edits: Edit) -> str:
    """The text of a lesson with the edits made. Raises EditError as `edited` does."""
    for edit in edits:
        start, end = _place(source, edit)
        body = source[start:end]
        if (count := body.count(edit.old)) != 1:
            raise EditError(f"{edit.says!r}: {edit.old!r} occurs {count} times, expected exactly once")
        source = source[:start] + body.replace(edit.old, edit.new) + source[end:]
    return source


def diff(source: str, *edits: Edit, name: str = "lesson") -> str:
    """The edits as a unified diff of the lesson's text, with two lines of context."""
    lines = difflib.unified_diff(
        source.splitlines(),
        edited_source(source, *edits).splitlines(),
        name,
        "; ".join(edit.says for edit in edits),
        lineterm="",
        n=2,
    )
    return "\n".join(lines)


@functools.lru_cache(maxsize=4)  # a lesson has thirty edits and ten functions, and is parsed once for all
def statements(source: str) -> list[ast.stmt]:
    """A module's text, parsed: its top-level statements, which the caller must leave as they are."""
    return ast.parse(source).body


def _place(source: str, edit: Edit) -> tuple[int, int]:
    """(start, end) of the text in which the piece is looked for: the function if it is there, else all."""
    found = [node for node in statements(source) if getattr(node, "name", None) == edit.function]
    lines = source.splitlines(keepends=True)
    for node in found:
        start = sum(map(len, lines[: node.lineno - 1]))
        end = start + sum(map(len, lines[node.lineno - 1 : node.end_lineno]))
        if edit.old in source[start:end]:
            return start, end
    return 0, len(source)
