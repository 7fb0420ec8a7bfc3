"""The learning goals name what exists, and `rl goals` tells which of them one's own runs meet."""

import pytest

from chapters.course import cli, goals
from chapters.course.catalog import find, items
from chapters.course.parts import exercises_of

FIRST, SECOND = "B1/20260101-000000-seed0", "B1/20260102-000000-seed0"
GOALS = """# Goals

## B · Values

- [ ] I can solve the small lake (claim `B1.success_4x4`)
- [ ] I can solve both lakes
  of different size (claims `B1.success_4x4`, `B1.success_8x8`)
- [x] I can do exercise two (exercise `B1.2`)
* [ ] I can answer (exercises `A1.1`, `A1.3`).

## C · Policies

- [ ] I can do both (claims `B1.success_4x4`, `C3.gae_gap`)
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    path = tmp_path / "goals.md"
    path.write_text(GOALS, encoding="utf-8")
    monkeypatch.setattr(cli, "GOALS", path)
    return path


def states(path, course) -> list[tuple[str, str]]:
    return [goals.state(goal, course.runs) for goal in goals.load(path)]


# The course's own file


def test_every_goal_of_the_course_is_tied_to_what_exists():
    found = goals.load()
    assert goals.faults(found) == []
    assert len({goal.text for goal in found}) == len(found)


def test_every_lesson_and_note_has_a_goal():
    tied = {lesson for goal in goals.load() for lesson, _ in goal.names}
    assert {item.id for item in items() if item.kind in ("py", "md")} <= tied


@pytest.mark.parametrize(
    ("item", "count"), [("A1", 3), ("A3", 5), ("B0", 5), ("C2", 3), ("C4", 5), ("A0", 0)]
)
def test_exercises_are_counted(item, count):
    assert goals.exercises(find(item)) == count


# Which goals are met


def test_before_any_run(course, page):
    words = [word for word, _ in states(page, course)]
    assert words == ["not yet", "not yet", "ticked", "yours to judge", "not yet"]
    code, out, err = course.rl("goals")
    assert (code, err) == (0, "")
    assert "B · Values: 2 not yet, 1 ticked, 1 yours to judge" in out
    assert "C · Policies: 1 not yet" in out
    assert "I can solve both lakes of different size" in out
    assert "no full run of B1 yet: rl run B1" in out


def test_a_run_meets_a_goal(course, page):
    course.run(FIRST, {"success_4x4": 0.6, "success_8x8": 0.1}, status="failed")
    told = states(page, course)
    assert told[0] == ("met", FIRST)
    assert told[1] == ("not yet", f"success_8x8 = 0.1, needs ≥ 0.5 ({FIRST})")
    assert told[4] == ("not yet", "no full run of C3 yet: rl run C3")
    course.run("C3/20260101-000000-seed0", {"gae_gap": 0.7})
    assert states(page, course)[4] == ("met", f"{FIRST}, C3/20260101-000000-seed0")


def test_all_claims_of_a_lesson_come_from_one_run(course, page):
    course.run(FIRST, {"success_4x4": 0.6, "success_8x8": 0.1})
    course.run(SECOND, {"success_4x4": 0.3, "success_8x8": 0.6})
    assert states(page, course)[1] == ("not yet", f"success_4x4 = 0.3, needs ≥ 0.5 ({SECOND})"), "the nearest"


@pytest.mark.parametrize("fields", [{"smoke": True}, {"status": "interrupted"}, {"status": "crashed"}])
def test_only_full_runs_count(course, page, fields):
    course.run(FIRST, {"success_4x4": 0.6}, **fields)
    assert states(page, course)[0][0] == "not yet"


def test_odd_values_meet_nothing(course, page):
    folder = course.run(FIRST, {"success_4x4": None})
    assert states(page, course)[0] == ("not yet", f"success_4x4 = nan, needs ≥ 0.5 ({FIRST})")
    for content in ("", "[", "null", '{"a": 1}', '[{"name": "success_4x4", "value": "much", "at_least": 0}]'):
        (folder / "claims.json").write_text(content)
        assert states(page, course)[0] == (
            "not yet",
            "no run of B1 measured success_4x4: rl run B1 --evidence",
        )


@pytest.mark.parametrize(
    ("bound", "value", "gap"),
    [({"at_least": 1.0}, 0.7, 0.3), ({"at_most": 1.0}, 1.2, 0.2), ({"near": (1.0, 0.1)}, 0.5, 0.4)],
)
def test_distance_from_a_bound(bound, value, gap):
    from chapters.utils.claims import Claim

    assert goals._gap(Claim("a", "A.", value, **bound)) == pytest.approx(gap)


# Mistakes in the file


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("`B1.success_4x4`)", "`B1.banana`)", "line 5: no claim B1.banana (there are: "),
        ("`C3.gae_gap`", "`C3.faster_than_sb3_zoo`", "line 13: C3.faster_than_sb3_zoo is made over all"),
        ("`C3.gae_gap`", "`C2.gae_gap`", "line 13: no lesson 'C2'"),
        ("`C3.gae_gap`", "`C3`", "line 13: no claim C3. (there are"),
        ("`B1.2`", "`B1.9`", "line 8: no exercise B1.9 (B1 has 4)"),
        ("`B1.2`", "`B1.x`", "line 8: no exercise B1.x"),
        ("`B1.2`", "`Z1.2`", "line 8: no lesson 'Z1'"),
        (" (claim `B1.success_4x4`)\n", "\n", "line 5: ends in no (claim `B1.name`)"),
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(course, page, old, new, says):
    """The goals are shown all the same."""
    page.write_text(text := GOALS.replace(old, new, 1), encoding="utf-8")
    code, out, err = course.rl("goals")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert "I can answer" in out
    assert page.read_text(encoding="utf-8") == text


def test_a_file_that_cannot_be_read_is_one_line(course, page):
    page.write_bytes("- [ ] größer".encode("latin-1"))
    assert "it is not UTF-8" in course.refused("goals")
    page.write_text("# Nothing here\n")
    assert "no goal in it" in course.refused("goals")
    page.unlink()
    assert "No such file" in course.refused("goals")
    page.mkdir()
    assert "cannot be read" in course.refused("goals")


def test_the_file_is_never_written(course, page):
    course.run(FIRST, {"success_4x4": 0.6, "success_8x8": 0.6})
    before = page.stat()
    course.rl("goals")
    assert page.stat().st_mtime_ns == before.st_mtime_ns
    assert page.read_text(encoding="utf-8") == GOALS


def test_a_run_that_left_claims_out_is_partial(course):
    """In status, list and next; and the goal of a claim that never ran stays open."""
    from chapters.course import catalog, ledger
    from chapters.course.progress import own_status

    lesson = catalog.find("E3")
    own = {name: 1.0 for name, entry in ledger.load(lesson)["claims"].items() if not entry.get("evidence")}
    left_out = next(iter(own))
    some = {name: value for name, value in own.items() if name != left_out}
    course.run("E3/20260101-000000-seed0", some)
    assert own_status(lesson, course.runs) == "partial"
    for command in ("list", "status"):
        (line,) = [line for line in course.rl(command)[1].splitlines() if line.strip().startswith("E3 ")]
        assert line.endswith("partial")
    goal = goals.Goal(1, "", "I can", False, "claim", (("E3", left_out),))
    assert goals.state(goal, course.runs)[0] == goals.NOT_YET
    course.run("E3/20260102-000000-seed0", own)
    assert own_status(lesson, course.runs) == "passed"


def test_an_exercise_is_done_when_all_its_functions_passed():
    item = find("C3")
    table = list(exercises_of(item).values())
    number = next(i for i, one in enumerate(table, 1) if one.functions)
    functions = [f"C3.{name}" for name in table[number - 1].functions]
    book = {name: {"passed": "20260101"} for name in functions}
    assert goals._done("C3", str(number), book)
    assert not goals._done("C3", str(number), {name: {"failed": "20260101"} for name in functions})
    assert not goals._done("C3", "x", book)
    assert not goals._done("B1", "1", book)
    beyond = next(i for i, one in enumerate(table, 1) if one.solution and not one.functions)
    solved = {f"C3.{table[beyond - 1].solution.__name__}": {"passed": "20260101"}}
    assert goals._done("C3", str(beyond), solved)
    assert not goals._done("C3", str(beyond), book)
    bug = str(len(table) + 1)
    assert goals._done("C3", bug, {"C3.bug": {"found": "20260101"}})
    assert not goals._done("C3", bug, book)
