"""Planted errors: a lesson's own source with one edit, to see that a test notices.

A test that no wrong program can fail proves nothing. So each check is also run against the lesson with one
thing wrong in it: a sign, a mask, an index. The edit is a piece of the lesson's source and its replacement;
if the lesson changes and the piece is no longer there, planting fails loudly.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import types
from typing import Any


def plant(lesson: types.ModuleType, old: str, new: str) -> types.ModuleType:
    """A copy of the module `lesson` in which the source text `old` reads `new`.

    `old` must occur exactly once, so that an edit is never silently lost or made in two places.
    Raises ValueError otherwise.
    """
    source = inspect.getsource(lesson)
    if (count := source.count(old)) != 1:
        raise ValueError(f"{old!r} occurs {count} times in {lesson.__name__}, expected once")
    name = f"{lesson.__name__}__planted"
    filename = f"<{name}: {old!r} -> {new!r}>"
    edited = source.replace(old, new)
    module = types.ModuleType(name)
    module.__file__ = lesson.__file__
    sys.modules[name] = module  # dataclasses look their module up by name
    linecache.cache[filename] = (len(edited), None, edited.splitlines(keepends=True), filename)
    exec(compile(edited, filename, "exec"), module.__dict__)
    return module


def function_checks(checks: types.ModuleType) -> dict[str, Any]:
    """The checks of a module by the name of the function each one takes: `check_gae` checks `gae`."""
    found = inspect.getmembers(checks, inspect.isfunction)
    return {
        name.removeprefix("check_"): check
        for name, check in found
        if name.startswith("check_") and check.__module__ == checks.__name__
    }
