"""The graders graded, a part of it: `rl dev check-exercises` does all of it, which takes minutes."""

import dataclasses

import pytest

from chapters.course import graders, grading, tables
from chapters.course.catalog import ROOT, find, lessons
from chapters.course.parts import exercises_of, tasks_of
from chapters.utils.edits import Edit

PART = {
    "A3": ("sweep_in_place",),
    "B1": ("q_learning_target", "sarsa_target", "td_update"),
    "C3": ("gae", "normalise", "clipped_surrogate", "approx_kl", "clipped_value_loss"),
    "D4": ("dpo_loss", "gradient_weight", "ipo_loss", "sequence_log_probs"),
}
CASES = [(find(lesson), name) for lesson, names in PART.items() for name in names]
GAE = tasks_of(find("C3"))["gae"]


@pytest.mark.parametrize(("item", "name"), CASES, ids=[f"{item.id}-{name}" for item, name in CASES])
def test_right_answers_pass_and_each_mistake_is_named(item, name):
    found = graders.examine(tasks_of(item)[name])
    assert found.faults == []
    assert found.variants >= 3
    assert found.named == found.edits > 0


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_exercises_are_as_exercises_should_be(item):
    assert graders.strays(item) == []
    for task in tasks_of(item).values():
        assert graders.is_open(task), task.name


def test_a_grader_that_passes_a_mistake_is_noticed():
    harmless = Edit("gae", "torch.zeros_like(rewards)\n", "rewards * 0.0\n", "does nothing wrong")
    found = graders.examine(dataclasses.replace(GAE, edits={"harmless": harmless}))
    assert found.faults == ["harmless passes"]


def test_a_grader_that_refuses_what_is_right_is_noticed():
    def check(gae):
        raise AssertionError("no")

    found = graders.examine(dataclasses.replace(GAE, check=check, edits={}))
    assert "the right one is refused: no" in found.faults


def test_what_is_wrong_in_the_gradient_alone_is_shown_and_named():
    task = tasks_of(find("D15"))["expected_loss"]
    edit = task.edits["sampling_differentiated"]
    grade = grading.grade_one(task, task.wrong(edit))
    assert grade.looks_like == [edit.says]
    expected, found = (grade.example[key].split(", with slope ") for key in ("expected", "found"))
    assert expected[0] == found[0]
    assert expected[1] != found[1]


def test_an_answer_that_comes_bit_by_bit_or_in_words_is_compared_too():
    tasks = tasks_of(find("D6"))
    for name, mistake in (("minibatches", "on_top"), ("label", "no_luck")):
        grade = grading.grade_one(tasks[name], tasks[name].wrong(tasks[name].edits[mistake]))
        assert grade.looks_like == [tasks[name].edits[mistake].says]


def test_what_is_not_named_needs_a_reason(monkeypatch):
    monkeypatch.setattr(graders.grading, "named_mistakes", lambda *_: [])
    found = graders.examine(GAE)
    assert found.unnamed.keys() == GAE.edits.keys()
    assert "past_the_end is not named, and no reason is given" in found.faults


def test_the_command_says_what_it_found(course, monkeypatch, tmp_path):
    monkeypatch.setattr(graders, "PLACE", tmp_path / "graders.json")
    monkeypatch.setattr(graders, "tasks_of", lambda item: {"gae": GAE})
    monkeypatch.setattr("chapters.course.parts.tasks_of", lambda item: {"gae": GAE})
    monkeypatch.setattr(graders, "strays", lambda item: [])
    code, out, _ = course.rl("dev", "check-exercises", "C3", "--record")
    assert (code, out) == (
        0,
        f"C3: 1 functions, 3 variants, {len(GAE.edits)} of {len(GAE.edits)} mistakes named\n",
    )
    assert graders.load()["C3"]["named"] == len(GAE.edits)
    assert f"| all | | | {len(GAE.edits)} | {len(GAE.edits)}, 100% |" in graders.table()
    assert "no lesson 'Z9'" in course.refused("dev", "check-exercises", "Z9")


def test_what_was_recorded_is_published():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert tables.GRADERS.search(text)
    book = graders.load()
    assert graders.share(book) >= 0.9
    for entry in book.values():
        assert entry["named"] + len(entry["unnamed"]) <= entry["edits"]
        assert all(entry["unnamed"].values()), "each has a reason"


def test_every_lesson_has_exercises_beyond_it():
    """Or its table is still to be written: then it has none at all."""
    for item in lessons():
        if table := exercises_of(item):
            assert any(one.solution or one.functions for one in table.values()), item.id
