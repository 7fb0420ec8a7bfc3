"""`rl break`: what it lists, shows, runs and says; what it refuses."""

import re
import types

import numpy as np
import pytest

from chapters.course import breaking
from chapters.course.catalog import find
from chapters.course.parts import edits_of
from chapters.utils.claims import Claim
from chapters.utils.edits import Edit

LESSON = "B2"
EDIT = next(name for name, edit in edits_of(find(LESSON)).items() if edit.fails)


def claim(name, value):
    return Claim(name, "It is high.", value, at_least=0.5)


def comparison(right: dict, broken: dict | None, fails=()):
    logs = [types.SimpleNamespace(claims=[claim(*c) for c in made.items()]) for made in (right, broken or {})]
    edit = Edit("f", "a", "b", "says", fails)
    return breaking.Comparison(edit, logs[0], logs[1] if broken is not None else None, "ValueError: no")


def test_list_names_every_edit(course):
    code, out, _ = course.rl("break", LESSON)
    assert code == 0
    for name, edit in edits_of(find(LESSON)).items():
        assert name in out
        assert edit.says in out


def test_an_unknown_edit_is_refused_in_one_line(course):
    assert "has no edit 'bogus' (there are: " in course.refused("break", LESSON, "bogus")


def test_a_negative_seed_is_refused(course):
    assert "seed" in course.refused("break", LESSON, EDIT, "--seed", "-1")


def test_a_smoke_break_shows_the_diff_and_both_runs(course):
    code, out, err = course.rl("break", LESSON, EDIT, "--smoke")
    assert code == 0, err
    edit = edits_of(find(LESSON))[EDIT]
    assert edit.old.strip().splitlines()[0] in out
    assert "right" in out
    assert "broken" in out
    assert list(course.runs.glob(f"break/broken/{LESSON}/*/{LESSON}_{EDIT}.png"))
    assert not list(course.runs.glob(f"{LESSON}/*")), "a broken run is none of the learner's own"


def test_an_edit_that_no_longer_fits_fails_in_one_line(course, monkeypatch):
    item = find(LESSON)
    monkeypatch.setitem(edits_of(item), EDIT, Edit("f", "this text is nowhere", "", "says"))
    code, _, err = course.rl("break", LESSON, EDIT, "--smoke")
    assert code == 1
    assert err.count("\n") == 1
    assert "occurs 0 times" in err


def test_ctrl_c_ends_in_one_line(course, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(breaking, "compare", interrupted)
    code, _, err = course.rl("break", LESSON, EDIT)
    assert code == 130
    assert err.count("\n") <= 1


class TestWhatFails:
    def test_a_claim_that_no_longer_holds(self):
        assert comparison({"x": 1.0, "y": 1.0}, {"x": 0.0, "y": 1.0}).failed() == ["x"]

    def test_a_claim_that_failed_before_does_not_count(self):
        assert comparison({"x": 0.0}, {"x": 0.0}).failed() == []

    def test_a_claim_that_is_not_made_any_more(self):
        assert comparison({"x": 1.0}, {}).failed() == ["x"]

    def test_a_lesson_that_stops_fails_every_claim(self):
        found = comparison({"x": 1.0, "y": 1.0}, None, fails=("x",))
        assert found.failed() == ["x", "y"]
        assert found.surprises() == []
        assert "the broken lesson stops: ValueError: no" in list(breaking.report(found))

    def test_a_prediction_that_did_not_come_true_is_said(self):
        found = comparison({"x": 1.0}, {"x": 1.0}, fails=("x",))
        assert found.surprises() == ["x"]
        assert "predicted and not seen: x" in list(breaking.report(found))

    def test_what_the_right_lesson_misses_too_is_no_surprise(self):
        """As in a smoke run, where nobody has learned enough."""
        found = comparison({"x": 0.1, "y": 1.0}, {"x": 0.0, "y": 0.0}, fails=("x", "y"))
        assert (found.failed(), found.surprises(), found.untold()) == (["y"], [], ["x"])
        lines = list(breaking.report(found))
        assert lines[-1].startswith("predicted, but this run cannot tell: x")
        assert "as its line predicts" not in lines
        found = comparison({"x": 0.1, "y": 1.0}, {"x": 0.0, "y": 1.0}, fails=("x", "y"))
        assert "predicted and not seen: y" in list(breaking.report(found))

    def test_a_failure_that_was_not_predicted_is_not_called_predicted(self):
        assert "its line predicts no claim" in list(breaking.report(comparison({"x": 1.0}, {"x": 0.0})))[-1]
        assert (
            "as its line predicts: no claim" in list(breaking.report(comparison({"x": 1.0}, {"x": 1.0})))[-1]
        )


@pytest.mark.parametrize("name", list(edits_of(find("C3")))[:3])
def test_the_check_says_why(name):
    item = find("C3")
    assert "rejects it" in breaking.verdict_of_check(item, edits_of(item)[name])


class TestWhatDiffersIsSaid:
    """Also where the check only asserts, or leaves it to a library to say."""

    @pytest.mark.parametrize(
        ("lesson", "edit", "said"),
        [
            ("C3", "value_added", r"\[0, 0\]: \S+ expected, \S+ found"),  # an array
            ("C7", "past_the_end", r"answer 1 of 2, \[0, 0\]: \S+ expected, \S+ found"),  # one of several
            ("C9", "not_relative", r"answer 2 of 2: 0\.98 expected, 1\.96 found"),
            ("C9", "nothing_follows", r"\[0, 1\]: \S+ expected, \S+ found"),  # for "Not equal to tolerance"
            ("B7", "bonus_for_all", "action 2 in state 1 is imagined to pay"),  # a check's own words stay
        ],
    )
    def test_by_the_first_number(self, lesson, edit, said):
        item = find(lesson)
        told = breaking.verdict_of_check(item, edits_of(item)[edit])
        assert re.search(f"rejects it: AssertionError: {said}", told), told

    def test_what_is_no_number_is_left_to_the_example(self):
        assert breaking.first_part((1.0, "a"), (1.0, "b")) == ""
        assert breaking.first_part((np.zeros(2),), (np.zeros(3),)) == ""
        assert breaking.first_part((1.0,), (1.0,)) == ""
        assert breaking.first_part((1.0, np.array([2.0, 5.0])), (1.0, np.array([2.0, 4.0]))) == (
            "answer 2 of 2, [1]: 4.0 expected, 5.0 found"
        )
