"""What stands beside a lesson, found by name: its evidence, its checks, its named edits, its exercises."""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass

from chapters.course.catalog import Item
from chapters.exercises import Exercise
from chapters.utils.edits import Edit, edited


@dataclass(frozen=True, eq=False)
class Task:
    """A function to write that a check grades: one of the lesson, or one of an exercise beyond it."""

    item: Item
    name: str
    home: types.ModuleType
    """The module with the right function in it, which the edits are edits of."""
    check: Callable[[Callable], None]
    edits: dict[str, Edit]
    exercise: Exercise | None = None
    """The exercise, if it goes beyond the lesson."""
    constant: bool = False
    """Its answer is a constant to whoever learns from it: no gradient needs to flow."""

    @property
    def right(self) -> Callable:
        """The function as it should be."""
        return getattr(self.home, self.name)

    @property
    def is_class(self) -> bool:
        """Whether a class is asked for, as a network is one."""
        return inspect.isclass(self.right)

    def wrong(self, edit: Edit) -> Callable:
        """The function with a named mistake in it."""
        return getattr(edited(self.home, edit), self.name)


def lesson_of(item: Item) -> types.ModuleType:
    """The lesson itself, imported."""
    return importlib.import_module(item.module)


def checks_of(item: Item) -> types.ModuleType:
    """`checks/<ID>.py`. Raises FileNotFoundError if the lesson has none."""
    return _beside(item, "checks")


def evidence_of(item: Item) -> types.ModuleType | None:
    """`evidence/<ID>.py`, or None if the lesson has none."""
    return _beside(item, "evidence") if item.evidence.exists() else None


def edits_of(item: Item) -> dict[str, Edit]:
    """The named edits of a lesson: every wrong or different version of it that has a name."""
    return checks_of(item).EDITS


def exercises_of(item: Item) -> dict[str, Exercise]:
    """The exercises of a lesson, in their order; none if `checks/<ID>_exercises.py` is not there."""
    path = item.path.parent / "checks" / f"{item.id}_exercises.py"
    if not path.exists():
        return {}
    return importlib.import_module(f"{item.module.rpartition('.')[0]}.checks.{path.stem}").EXERCISES


def tasks_of(item: Item) -> dict[str, Task]:
    """Every function that a learner can write and have graded: the lesson's, then those beyond it."""
    lesson, edits = lesson_of(item), edits_of(item)
    checks = function_checks(checks_of(item))
    constant = getattr(checks_of(item), "CONSTANT", ())
    found = {}
    for name in sorted(checks, key=list(vars(lesson)).index):
        own = {key: edit for key, edit in edits.items() if edit.function == name}
        found[name] = Task(item, name, lesson, checks[name], own, constant=name in constant)
    for exercise in exercises_of(item).values():
        if exercise.solution and exercise.check:
            name = exercise.solution.__name__
            home = importlib.import_module(exercise.solution.__module__)
            found[name] = Task(item, name, home, exercise.check, exercise.edits, exercise, name in constant)
    return found


def function_checks(checks: types.ModuleType) -> dict[str, Callable]:
    """The checks of a module by the name of the function each one takes: `check_gae` checks `gae`."""
    found = inspect.getmembers(checks, inspect.isfunction)
    return {
        name.removeprefix("check_"): check
        for name, check in found
        if name.startswith("check_") and check.__module__ == checks.__name__
    }


def _beside(item: Item, folder: str) -> types.ModuleType:
    path = item.path.parent / folder / f"{item.id}.py"
    if not path.exists():
        raise FileNotFoundError(path)
    return importlib.import_module(f"{item.module.rpartition('.')[0]}.{folder}.{item.id}")
