"""Each public function of a lesson meets its definition, and its check rejects the named edits of it.

The checks stand beside the lessons, in `chapters/*/checks/`. A check takes the function under test as its
argument, so it can also grade a learner's own version.
"""

import inspect
import re

import pytest

from chapters.course.catalog import ROOT, lessons
from chapters.course.parts import checks_of, edits_of, evidence_of, function_checks, lesson_of
from chapters.utils.edits import Edit, EditError, diff, edited, edited_source

CASES = [(item, name) for item in lessons() for name in function_checks(checks_of(item))]
CHECKED_EDITS = [
    (item, name)
    for item in lessons()
    for name, edit in edits_of(item).items()
    if edit.function in function_checks(checks_of(item))
]


def names(cases):
    return [f"{item.id}-{name}" for item, name in cases]


@pytest.mark.parametrize(("item", "name"), CASES, ids=names(CASES))
def test_function_meets_its_definition(item, name):
    function_checks(checks_of(item))[name](getattr(lesson_of(item), name))


@pytest.mark.parametrize(("item", "name"), CHECKED_EDITS, ids=names(CHECKED_EDITS))
def test_check_rejects_the_edit(item, name):
    edit = edits_of(item)[name]
    wrong = edited(lesson_of(item), edit)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        function_checks(checks_of(item))[edit.function](getattr(wrong, edit.function))


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_every_check_has_an_edit_to_reject(item):
    lesson, named = lesson_of(item), function_checks(checks_of(item))
    assert named, f"{item.id} has no checks"
    assert set(named) <= {edit.function for edit in edits_of(item).values()}
    for name in named:
        assert inspect.isfunction(getattr(lesson, name)) or inspect.isclass(getattr(lesson, name))


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_every_edit_fits_its_lesson_and_something_notices_it(item):
    """A check of its function, a claim that it fails, or a test of the whole learner that names it."""
    source = item.path.read_text(encoding="utf-8")
    test = ROOT / "tests" / f"test_{item.id}.py"
    tested = test.read_text(encoding="utf-8") if test.exists() else ""
    checked = function_checks(checks_of(item))
    evidence = inspect.getsource(evidence_of(item)) if evidence_of(item) else ""
    for name, edit in edits_of(item).items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert edited_source(source, edit) != source
        noticed = edit.function in checked or edit.fails or f'"{name}"' in tested + evidence
        assert noticed, f"{item.id}: nothing notices {name!r}"


class TestEdits:
    def edit(self, **changes):
        return Edit(**{"function": "f", "old": "a + b", "new": "a - b", "says": "subtracts"} | changes)

    SOURCE = "def f(a, b):\n    return a + b\n\n\ndef g(a, b):\n    return a + b\n"

    def test_only_the_named_function_changes(self):
        assert edited_source(self.SOURCE, self.edit()) == self.SOURCE.replace("a + b", "a - b", 1)

    def test_a_piece_that_is_not_there_fails_loudly(self):
        with pytest.raises(EditError, match="occurs 0 times"):
            edited_source(self.SOURCE, self.edit(old="a * b"))

    def test_a_piece_that_is_there_twice_fails_loudly(self):
        with pytest.raises(EditError, match="occurs 2 times"):
            edited_source(self.SOURCE, self.edit(function="h"))

    def test_edits_are_made_one_after_the_other(self):
        both = edited_source(self.SOURCE, self.edit(), self.edit(function="g", new="b"))
        assert both == "def f(a, b):\n    return a - b\n\n\ndef g(a, b):\n    return b\n"

    def test_what_is_no_python_fails_in_one_line(self):
        with pytest.raises(EditError, match="is no Python") as refused:
            edited(lesson_of(lessons()[0]), Edit("", "import numpy as np", "import (", "nonsense"))
        assert "\n" not in str(refused.value)

    def test_a_diff_has_two_lines_of_context(self):
        source = "".join(f"x{i} = {i}\n" for i in range(9))
        told = diff(source, Edit("", "x4 = 4", "x4 = 5", "says five")).splitlines()
        assert told[1].endswith("says five")
        assert told[3:] == [" x2 = 2", " x3 = 3", "-x4 = 4", "+x4 = 5", " x5 = 5", " x6 = 6"]

    def test_a_traceback_through_an_edited_lesson_shows_the_edited_line(self):
        item = lessons()[0]
        edit = next(edit for edit in edits_of(item).values() if edit.function in vars(lesson_of(item)))
        shown = inspect.getsource(getattr(edited(lesson_of(item), edit), edit.function))
        assert shown != inspect.getsource(getattr(lesson_of(item), edit.function))
        assert edit.new.strip().splitlines()[0] in shown
