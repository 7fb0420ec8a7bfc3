"""`rl exercise C3.bug`: one mistake, unnamed until it is found, and not chosen twice."""

import json
import re

import pytest

from chapters.course import bugs
from chapters.course.catalog import find, lessons
from chapters.course.parts import tasks_of
from chapters.course.practice import solution

C3 = find("C3")


@pytest.fixture
def bug(course, tmp_path, monkeypatch):
    """The bug `no_min` set in clipped_surrogate: its file."""
    monkeypatch.setattr(bugs.random, "shuffle", lambda names: names.sort(key=lambda name: name != "no_min"))
    code, out, _ = course.rl("exercise", "C3.bug")
    assert code == 0
    assert "a mistake in clipped_surrogate; mend it" in out
    return tmp_path / "practice" / "C3_bug.py"


def mended(item, name):
    return solution(item, name).partition("\n\nequation")[0]


def test_the_mistake_stands_nowhere_in_words(bug):
    edit = tasks_of(C3)["clipped_surrogate"].edits["no_min"]
    for path in (bug, bug.with_name("progress.json")):
        assert "no_min" not in path.read_text()
        assert edit.says not in path.read_text()
    assert "torch.min" not in bug.read_text()
    compile(bug.read_text(), str(bug), "exec")


def test_grading_does_not_name_it_until_it_is_found(course, bug):
    says = tasks_of(C3)["clipped_surrogate"].edits["no_min"].says
    code, out, _ = course.rl("grade", "C3.bug")
    assert code == 1
    assert says not in out
    assert "nothing is mended yet" in out
    text = bug.read_text()
    bug.write_text(text.replace("clipped * advantages", "ratio * advantages"))
    assert "looks like: no clip" in course.rl("grade", bug)[1], "another mistake is named"
    bug.write_text(text[: text.index("def clipped")] + mended(C3, "clipped_surrogate"))
    code, out, _ = course.rl("grade", "C3.bug")
    assert code == 0
    assert f"found: {says}." in out
    book = json.loads(bug.with_name("progress.json").read_text())
    assert list(book["C3.bug"]["found"]) == ["no_min"]
    assert re.search(r"C3: 0 of \d+ functions, 1 bug found", course.rl("status")[1])


def test_an_unfinished_one_is_kept_and_a_finished_one_makes_room(course, bug):
    mine = bug.read_text() + "# mine\n"
    bug.write_text(mine)
    assert "there is one to be found yet" in course.rl("exercise", "C3.bug")[1]
    assert bug.read_text() == mine
    bug.unlink()
    assert "a mistake in clipped_surrogate" in course.rl("exercise", "C3.bug")[1], "the same, written again"
    bug.write_text(mended(C3, "clipped_surrogate"))
    course.rl("grade", "C3.bug")
    out = course.rl("exercise", "C3.bug")[1]
    assert "1 of " in out
    assert "the last one is now C3_bug.before-1.py" in out
    assert bug.with_name("C3_bug.before-1.py").read_text() == mended(C3, "clipped_surrogate")


def test_none_comes_twice_until_all_were_found(monkeypatch):
    few = dict(list(bugs.candidates(C3).items())[:3])
    monkeypatch.setattr(bugs, "candidates", lambda item: few)
    found = {}
    for _ in few:
        found[bugs.choose(C3, found)] = "today"
    assert found.keys() == few.keys()
    assert bugs.choose(C3, found) in few


def test_hints_and_the_answer(course, bug):
    shown = [course.rl("hint", "C3.bug")[1] for _ in range(3)]
    assert "PPO's objective of each transition" in shown[0]
    assert ">>> " in shown[1]
    assert "look at: return clipped * advantages" in shown[2]
    code, out, _ = course.rl("solution", "C3.bug", "--yes")
    assert code == 0
    assert "+    return clipped * advantages" in out
    assert "no bug of C3 is being looked for" in course.refused("solution", "C3.bug")
    assert "no bug of C3 is being looked for" in course.refused("hint", "C3.bug")


def test_a_file_without_its_book_is_graded_all_the_same(course, bug):
    bug.with_name("progress.json").unlink()
    bug.write_text(mended(C3, "clipped_surrogate"))
    code, out, _ = course.rl("grade", "C3.bug")
    assert code == 0
    assert "none was being looked for" in out


def test_a_file_without_the_function_is_refused(course, bug):
    bug.write_text("x = 1\n")
    assert "there is no clipped_surrogate in it" in course.refused("grade", "C3.bug")


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_every_lesson_has_mistakes_to_set(item):
    found = bugs.candidates(item)
    assert len(found) >= 3
    for name, (task, edit) in found.items():
        text = bugs.text_of_bug(item, task, edit)
        assert name not in bugs.wrong_text(task, edit)
        assert edit.says not in text
        compile(text, name, "exec")
