"""A lesson's checked functions as exercises: what is asked for, and the check on a learner's version."""

from __future__ import annotations

import ast
import contextlib
import io
import types
from pathlib import Path

from chapters.course.catalog import Item
from chapters.course.parts import checks_of, function_checks
from chapters.utils.lesson import UsageError


def check_of(item: Item, name: str):
    """The check of a function. Raises UsageError with the functions that have one."""
    checks = function_checks(checks_of(item))
    if name not in checks:
        raise UsageError(f"{item.id} has no exercise {name!r} (there are: {', '.join(checks)})")
    return checks[name]


def task(item: Item, name: str) -> str:
    """The function's signature and docstring with its body to be written, and how to check it."""
    check_of(item, name)
    source = item.path.read_text(encoding="utf-8")
    node = next(n for n in ast.parse(source).body if getattr(n, "name", None) == name)
    lines = source.splitlines()
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = first.end_lineno if documented else first.lineno - 1
    stub = "\n".join([*lines[node.lineno - 1 : start], "    ...  # yours"])
    return (
        f"{stub}\n\nWrite it in a file of your own, with the lesson's imports, and check it:\n"
        f"  rl exercise {item.id}.{name} FILE\n"
        f"The lesson explains it: {item.path.name}, equation by equation."
    )


def grade(item: Item, name: str, file: Path) -> tuple[bool, str]:
    """(whether the learner's function passes the lesson's check, what to say of it).

    The file is run inside a copy of the lesson's names, so it may use what the lesson defines. Raises
    UsageError if it cannot be read, is no Python, or has no such function.
    """
    from chapters.course.parts import lesson_of

    check = check_of(item, name)
    try:
        code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{file}: is no Python ({error})") from None
    lesson = lesson_of(item)
    module = types.ModuleType(lesson.__name__)
    module.__dict__.update({key: value for key, value in vars(lesson).items() if key != name})
    module.__dict__["__name__"] = lesson.__name__
    try:
        exec(code, module.__dict__)
    except Exception as error:
        raise UsageError(
            f"{file}: stops with {type(error).__name__}: {' '.join(str(error).split())}"
        ) from None
    if not callable(own := module.__dict__.get(name)):
        raise UsageError(f"{file}: defines no function {name!r}")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            check(own)
    except Exception as error:
        said = " ".join(str(error).split())[:300] or "a value differs from the definition"
        return False, f"{item.id}.{name}: not yet. {type(error).__name__}: {said}"
    return True, f"{item.id}.{name}: passed the lesson's check"
