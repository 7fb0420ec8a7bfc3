"""Each public function of a lesson meets its definition, and its check rejects planted errors.

The checks stand beside the lessons, in `chapters/*/checks/`. A check takes the function under test as its
argument, so it can also grade a learner's own version.
"""

import importlib
import inspect

import pytest

from chapters.course.catalog import lessons
from chapters.course.planting import function_checks, plant


def checks_of(item):
    """The module of a lesson's checks; it imports no lesson."""
    return importlib.import_module(f"{item.module.rpartition('.')[0]}.checks.{item.id}")


def load(item):
    """(lesson, its checks)."""
    return importlib.import_module(item.module), checks_of(item)


CHECKED = [item for item in lessons() if (item.path.parent / "checks" / f"{item.id}.py").exists()]
CASES = [(item, name) for item in CHECKED for name in function_checks(checks_of(item))]
PLANTED = [
    (item, name, error)
    for item in CHECKED
    for name, errors in checks_of(item).PLANTED.items()
    for error in errors
]


@pytest.mark.parametrize(("item", "name"), CASES, ids=[f"{item.id}-{name}" for item, name in CASES])
def test_function_meets_its_definition(item, name):
    lesson, checks = load(item)
    function_checks(checks)[name](getattr(lesson, name))


@pytest.mark.parametrize(
    ("item", "name", "error"), PLANTED, ids=[f"{item.id}-{name}-{error}" for item, name, error in PLANTED]
)
def test_check_rejects_planted_error(item, name, error):
    lesson, checks = load(item)
    old, new = checks.PLANTED[name][error]
    wrong = plant(lesson, old, new)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        function_checks(checks)[name](getattr(wrong, name))


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_every_check_has_a_planted_error(item):
    lesson, checks = load(item)
    named = function_checks(checks)
    assert named, f"{item.id} has no checks"
    assert set(checks.PLANTED) == set(named), "each check needs a planted error, and each error a check"
    for name in named:
        assert inspect.isfunction(getattr(lesson, name)) or inspect.isclass(getattr(lesson, name))
