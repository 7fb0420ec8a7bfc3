"""Study plans: they name what exists, their hours are computed, and `rl next` and `rl status` follow them."""

import json
import re

import pytest

from chapters.course import plans, tables
from chapters.course.catalog import ROOT, find, items
from chapters.course.parts import exercises_of

PLANS = plans.load()
TOML = """
[short]
title = "Short"
why = "for tests"
[[short.days]]
name = "first"
items = ["A1", "B1", "Z9"]
[[short.days]]
name = "second"
items = ["C2", "A3"]
also = "rest"
"""

each_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: plan.id)


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A small plan in place of the course's."""
    path = tmp_path / "plans.toml"
    path.write_text(TOML)
    monkeypatch.setattr(plans, "PLACE", path)
    monkeypatch.setattr(plans.load, "__defaults__", (path,))
    return path


# The course's own plans


def test_there_are_four():
    assert list(PLANS) == ["weekend", "language-models", "five-days", "six-weeks"]


@each_plan
def test_a_plan_keeps_to_what_a_lesson_asks_for_before_it(plan):
    """What stands under "Before this" comes earlier, if the plan has it; the longest has all of it."""
    for place, item_id in enumerate(plan.items):
        found = re.search(r"\*\*Before this:\*\*(.*?)\*\*", plans.find(item_id).text, re.DOTALL)
        for before in re.findall(r"\b[A-E]\d+\b", found[1] if found else ""):
            earlier = plan.items[:place]
            assert before in earlier or before not in plan.items, f"{item_id} before {before}"
            assert before in earlier or plan.id != "six-weeks", f"{item_id} without {before}"


@pytest.mark.parametrize("plan", ["weekend", "language-models"])
def test_preferences_come_after_reward_models(plan):
    """D4 asks for D3: a plan that has the one has the other."""
    assert {"D1", "D3", "D4"} <= set(PLANS[plan].items)


@each_plan
def test_every_item_of_a_plan_exists(plan):
    assert [item_id for item_id in plan.items if not plans.find(item_id)] == []


@each_plan
def test_no_item_comes_twice_and_each_day_has_some(plan):
    assert len(plan.items) == len(set(plan.items))
    assert all(day.items for day in plan.days)


@each_plan
def test_every_day_but_the_last_has_something_to_run(plan):
    """Notes count as read when a later lesson is passed: a day of notes alone would never be today's."""
    for day in plan.days[:-1]:
        assert "py" in [plans.find(item_id).kind for item_id in day.items], day.name


def test_the_longest_plan_holds_the_whole_course():
    assert {item.id for item in items()} <= set(PLANS["six-weeks"].items)


def test_longer_plans_take_longer():
    def hours(plan):
        return sum(sum(plans.day_minutes(day)) for day in plan.days) / 60

    weekend, _, week, weeks = (hours(plan) for plan in PLANS.values())
    assert weekend < week < weeks


# Hours


def test_minutes_are_words_and_the_ledgers_seconds():
    from chapters.course import ledger

    read, run = plans.minutes("B1")
    assert run * 60 == pytest.approx(ledger.times(ledger.load(find("B1")))[1])
    before, generated = find("B1").path.read_text().split("<!-- results: B1 -->")
    after = generated.split("<!-- /results -->")[1]
    words = len([word for word in (before + after).split() if re.search(r"\w", word)])
    assert read * plans.WORDS_A_MINUTE == pytest.approx(words, abs=2)  # words that only the marks part
    assert plans.minutes("A0") == plans.minutes("Z9") == (0.0, 0.0)
    assert plans.minutes("A1")[1] == 0.0


def test_generated_results_are_not_read(tmp_path, monkeypatch):
    from chapters.course.catalog import Item

    path = tmp_path / "A9_note.md"
    path.write_text("one two\n<!-- results: B1 -->\n| many | more | words |\n<!-- /results -->\nthree - |\n")
    monkeypatch.setattr(plans, "find", lambda _: Item("A9", "md", path))
    assert plans.minutes("A9")[0] * plans.WORDS_A_MINUTE == pytest.approx(3)


@pytest.mark.parametrize("content", [None, "", "[]", '{"runs": []}'])
def test_a_lesson_without_a_ledger_counts_with_its_budget(tmp_path, monkeypatch, content):
    from chapters.course.catalog import Item

    path = tmp_path / "B9_new.py"
    path.write_text('r"""\n# B9 · New\n\n**Time budget.** 120 s on 2 cores.\n"""\n')
    if content is not None:
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "B9.json").write_text(content)
    monkeypatch.setattr(plans, "find", lambda _: Item("B9", "py", path))
    assert plans.minutes("B9")[1] == 2.0


@pytest.mark.parametrize(
    ("total", "words"),
    [(0, "–"), (0.1, "1 min"), (4.4, "4 min"), (12, "10 min"), (50, "50 min"), (53, "1 h"), (100, "1.75 h")],
)
def test_durations(total, words):
    assert plans.duration(total) == words


def test_the_readme_shows_the_plans():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.PLANS.search(text)
    for plan in PLANS.values():
        assert f"`rl plan {plan.id}`" in text
        assert f"<summary>{plan.title}</summary>" in text


def test_the_block_marks_what_is_planned(short):
    block = tables.plan_tables(ROOT / "README.md")
    assert "Z9 *(planned)*" in block
    assert "[A1](chapters/A_foundations/A1_introduction_to_rl_concepts.md)" in block
    assert "| second |" in block
    assert "| rest |" in block


# Following a plan


def test_without_a_plan_all_are_listed(course):
    code, out, _ = course.rl("plan")
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()] == list(PLANS)


def test_next_and_status_follow_the_plan(course, short):
    assert course.rl("plan", "short")[0] == 0
    assert json.loads((course.days / "plan.json").read_text())["plan"] == "short"
    _, out, err = course.rl("next")
    assert err == ""
    assert "Short, day 1 of 2: first" in out
    assert "A1 (read), B1 not run yet, Z9 (planned)" in out
    assert out.index("read  A1") < out.index("run   B1")
    course.run("B1/20260101-000000-seed0")
    out = course.rl("next")[1]
    assert "Short, day 2 of 2: second" in out
    assert "read  C2" in out
    assert "run   A3" in out
    assert "A1 " not in out
    out = course.rl("status")[1]
    assert "first: 1 of 2 lessons passed" in out
    assert re.search(r"  Z9 +\(planned\)", out)
    assert "today: second: 0 of 1 lessons passed" in out
    assert "beside the plan: 0 of" in out
    course.run("A3/20260101-000000-seed0")
    assert "You have passed every lesson of the plan short" in course.rl("next")[1]
    assert "today" not in course.rl("status")[1]


def test_a_plan_is_shown_and_dropped(course, short):
    course.rl("plan", "short")
    out = course.rl("plan")[1]
    assert " 1 first (reading " in out
    assert "A1 (read), B1 not run yet, Z9 (planned)" in out
    assert "and: rest" in out
    assert "rl plan short" in course.rl("plan", "none")[1]
    assert not (course.days / "plan.json").exists()
    assert "run   A3" in course.rl("next")[1]
    assert "Chapter A: " in course.rl("status")[1]
    assert course.rl("plan", "none")[0] == 0, "once more is no mistake"


def test_notes_at_the_end_are_still_shown(course, short):
    short.write_text(TOML.replace('["C2", "A3"]', '["A3", "C2"]'))
    course.rl("plan", "short")
    for lesson in ("B1", "A3"):
        course.run(f"{lesson}/20260101-000000-seed0")
    out = course.rl("next")[1]
    assert "read  C2" in out
    assert "You have passed every lesson" in out


# Wrong input, edited files


def test_wrong_names_and_folders_are_one_line(course):
    said = course.refused("plan", "banana")
    assert "no plan 'banana' (there are: weekend, language-models, five-days, six-weeks; or none)" in said
    assert not course.days.exists()
    course.days.write_text("not a folder")
    assert "cannot write there" in course.refused("plan", "weekend")
    assert course.rl("next")[0] == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b'{"plan": 3}', b'{"plan": "banana"}', b'{"plan": ["weekend"]}', b"\xff"],
)
def test_a_choice_that_cannot_be_read_is_told_and_passed_over(course, content):
    course.days.mkdir()
    (course.days / "plan.json").write_bytes(content)
    for command in ("next", "status"):
        code, out, err = course.rl(command)
        assert (code, err.count("\n")) == (0, 1)
        assert "plan.json" in err
        assert "A3" in out
    assert "plan.json" in course.refused("plan")
    assert course.rl("plan", "weekend")[0] == 0
    assert course.rl("next")[2] == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[short",
        b"short = 3",
        b"[short]\ntitle = 'x'",
        b"[short]\ntitle = 'x'\ndays = 3",
        b"[short]\ntitle = 'x'\ndays = [3]",
        b"[short]\ntitle = 'x'\ndays = [{name = 'a'}]",
        b"[short]\ntitle = 'x'\ndays = [{name = 'a', items = 3}]",
        b"[short]\ntitle = 'x'\ndays = [{name = 'a', items = [3]}]",
        b"[short]\ntitle = 'x'\ndays = []",
        b"\xff\xfe",
    ],
)
def test_plans_that_cannot_be_read_are_one_line(course, short, content):
    course.rl("plan", "short")
    short.write_bytes(content)
    assert str(short) in course.refused("plan", "short")
    code, out, err = course.rl("next")
    assert (code, err.count("\n")) == (0, 1)
    assert "run   A3" in out


def test_exercises_take_their_minutes_and_the_bug_ten():
    """Read from the text of the table; here against the table itself."""
    given = [exercise.minutes for exercise in exercises_of(find("A3")).values()]
    assert plans.exercise_minutes("A3") == sum(given) + 10
    assert plans.exercise_minutes("A1") == 0.0, "a note has none"
