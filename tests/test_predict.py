"""Predictions: written whole or not at all, scored by the right run, never lost."""

import json
import math
import os
import pty
import signal
import sys
import time
from datetime import datetime, timedelta

import pytest

from chapters.course import ledger, predictions
from chapters.course.catalog import ROOT, find, lessons
from chapters.course.predictions import Prediction, brier, load, probability, save, score

NOW = datetime(2026, 1, 1, 12).astimezone()
LATER, EARLIER = "20260101-130000-seed0", "20260101-110000-seed0"


def predict(course, claims: dict, when=NOW, lesson="B1", **fields):
    return save(Prediction(lesson, when, claims, **fields), course.days)


def scores(course):
    found, problems = load(course.days)
    assert problems == []
    return score(found, course.runs)


# Writing one down


def test_options_become_a_plain_file(course):
    code, out, err = course.rl(
        *("predict", "b1", "--all", "0.9", "--claim", "success_4x4=60%", "--seed", 7, "--note", "größer")
    )
    assert (code, err) == (0, "")
    own = [claim for claim, _ in ledger.claims_of(ledger.load(find("B1"))) if not claim.evidence]
    assert len(own) <= 5, "what the evidence measures is not asked for"
    assert f"{len(own)} of {len(own)} claims predicted" in out
    assert "rl run B1 --seed 7" in out
    (path,) = (course.days / "predictions").iterdir()
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert (fields["lesson"], fields["seed"], fields["note"]) == ("B1", 7, "größer")
    assert set(fields["claims"]) == {claim.name for claim in own}
    assert fields["claims"]["success_4x4"] == 0.6
    assert set(fields["claims"].values()) == {0.6, 0.9}
    assert abs(datetime.fromisoformat(fields["predicted"]) - datetime.now().astimezone()) < timedelta(
        minutes=1
    )


def test_what_was_measured_is_not_shown():
    """Statement and bound come from the ledger, the value does not reach the screen."""
    said = []

    def ask(text: str) -> str:
        said.append(text)
        return ""

    claims = predictions.claims_ahead(find("B1"))
    assert predictions.ask_each(claims, ask, said.append) == {}
    shown = "\n".join(said)
    assert all(claim.bound in shown and claim.name in shown for claim in claims)
    assert f"{next(c.value for c in claims if c.name == 'success_4x4'):.3g}" not in shown


def test_a_wrong_answer_is_asked_again_and_an_empty_one_passed_over():
    answers = iter(["banana", "700", "nan", "0.8", "", "100%"])
    claims = predictions.claims_ahead(find("B1"))[:3]
    said = []
    chosen = predictions.ask_each(claims, lambda _: next(answers), said.append)
    assert chosen == {claims[0].name: 0.8, claims[2].name: 1.0}
    assert sum("is not a probability (allowed: 0 to 1, or 0% to 100%)" in line for line in said) == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" .5 ", 0.5),
        ("80%", 0.8),
        ("5 %", 0.05),
        ("80", 0.8),
        ("100", 1.0),
        ("2", 0.02),
        ("01", 1.0),
    ],
)
def test_probabilities(text, value):
    assert math.isclose(probability(text), value)


@pytest.mark.parametrize(
    "text", ["", "%", "-0.1", "1.01", "1.5", "101", "-80", "8e1", "101%", "nan", "inf", "half", "0,5"]
)
def test_no_probabilities(text):
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        probability(text)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["B99", "--all", "0.5"], "no lesson 'B99' (there are: A3,"),
        (["C2", "--all", "0.5"], "C2 is a note to read"),
        (["B1", "--all", "700"], "'700' is not a probability (allowed: 0 to 1"),
        (["B1", "--claim", "success_4x4=-1"], "'-1' is not a probability"),
        (["B1", "--claim", "success_4x4"], "not of the form NAME=0.8"),
        (
            ["B1", "--claim", "banana=0.5"],
            "--claim banana: no such claim (there are: time_limit_bootstraps, ",
        ),
        (["B1", "--claim", "success_4x4=0.1", "--claim", "success_4x4=0.2"], "success_4x4 is given twice"),
        (["B1", "--seed", "-1", "--all", "0.5"], "--seed"),
        (["B1", "--seed", "x", "--all", "0.5"], "--seed"),
        (["--all", "0.5"], "rl predict LESSON"),
        (["B1"], "no terminal to ask in: state --claim NAME=0.8 or --all 0.9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_writes_nothing(course, arguments, says):
    assert says in course.refused("predict", *arguments)
    assert not course.days.exists()


def test_a_folder_that_cannot_be_written_is_one_line(course):
    course.days.write_text("not a folder")
    assert "cannot write there" in course.refused("predict", "B1", "--all", "0.5")


def test_a_lesson_without_a_ledger_cannot_be_predicted(tmp_path):
    from chapters.course.catalog import Item

    lesson = Item("B1", "py", tmp_path / "B1_new.py")
    with pytest.raises(predictions.JournalError, match="never recorded"):
        predictions.claims_ahead(lesson)
    lesson.results.mkdir()
    for broken in ("", "[]", '{"claims": {"a": {}}, "runs": []}'):
        lesson.ledger.write_text(broken)
        with pytest.raises(predictions.JournalError, match="cannot be read"):
            predictions.claims_ahead(lesson)


@pytest.mark.parametrize("accident", ["\x03", "signal"])
def test_ctrl_c_in_the_middle_keeps_the_answers(tmp_path, accident):
    """In a terminal of its own: two answers, then Ctrl-C (or SIGINT)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ["RL_DAYS"] = str(tmp_path / "days")
        os.execv(
            sys.executable,
            [sys.executable, "-c", "from chapters.course.cli import main; main()", "predict", "B1"],
        )
    seen = b""
    for step in (b"0.9\n", b"0.8\n", None):
        while seen.count(b"Probability") < {b"0.9\n": 1, b"0.8\n": 2, None: 3}[step]:
            seen += os.read(terminal, 4096)
        if step:
            os.write(terminal, step)
    deadline, ended = time.monotonic() + 20, (0, 0)
    while ended[0] == 0 and time.monotonic() < deadline:
        # again, as a person would: one that comes just before the program waits for input is seen late
        if accident == "signal":
            os.kill(pid, signal.SIGINT)
        else:
            os.write(terminal, accident.encode())
        for _ in range(50):
            if ended[0] == 0:
                ended = os.waitpid(pid, os.WNOHANG)
                time.sleep(0.02)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(ended[1]) == 130
    (made,), problems = load(tmp_path / "days")
    assert problems == []
    asked = predictions.open_ones(predictions.claims_ahead(find("B1")))
    assert made.claims == {asked[0].name: 0.9, asked[1].name: 0.8}


def test_only_what_is_open_is_asked():
    """Not what must always hold; unless a lesson has nothing else."""
    for lesson in lessons():
        claims = predictions.claims_ahead(lesson)
        asked = predictions.open_ones(claims)
        assert 1 <= len(asked) <= 5, lesson.id
        assert not any(claim.always for claim in asked) or all(claim.always for claim in claims)


def test_many_at_once_are_all_kept(course):
    """Same lesson, same second."""
    paths = {predict(course, {"a": 0.5}) for _ in range(20)}
    assert len(paths) == 20
    assert len(load(course.days)[0]) == 20


# Scoring


def test_brier_is_the_mean_square(course):
    predict(course, {"a": 0.9, "b": 0.2, "c": 0.5})
    course.run(f"B1/{LATER}", {"a": 0.6, "b": 0.1, "c": 0.4})
    mean, count = brier(scores(course))
    assert count == 3
    assert math.isclose(mean, (0.1**2 + 0.2**2 + 0.5**2) / 3)


def test_always_half_scores_a_quarter(course):
    predict(course, {"a": 0.5, "b": 0.5})
    course.run(f"B1/{LATER}", {"a": 0.6, "b": 0.1})
    assert brier(scores(course))[0] == predictions.COIN


def test_status_shows_the_score(course):
    assert "Predictions" not in course.rl("status")[1]
    predict(course, {"a": 0.9})
    assert "Predictions: 1 waits for a full run" in course.rl("status")[1]
    course.run(f"B1/{LATER}", {"a": 0.6})
    assert (
        "mean Brier score 0.010 over 1 claims (0 is best; always 50 % scores 0.25)" in course.rl("status")[1]
    )


@pytest.mark.parametrize(
    "fields",
    [{"smoke": True}, {"status": "crashed"}, {"status": "interrupted"}, {"status": "running"}],
    ids=lambda fields: str(*fields.values()),
)
def test_what_is_no_full_run_does_not_count(course, fields):
    predict(course, {"a": 0.9})
    course.run(f"B1/{LATER}", {"a": 0.1}, **fields)
    assert scores(course)[0].run is None
    course.run("B1/20260101-140000-seed0", {"a": 0.6})
    assert math.isclose(brier(scores(course))[0], 0.01)


def test_a_run_before_or_of_another_lesson_does_not_count(course):
    predict(course, {"a": 0.9})
    course.run(f"B1/{EARLIER}", {"a": 0.6})
    course.run(f"B4/{LATER}", {"a": 0.6})
    (entry,) = scores(course)
    assert (entry.run, entry.knew) == (None, True)


def test_a_run_that_was_started_before_and_ended_after_does_not_count(course):
    course.run(f"B1/{LATER}", {"a": 0.6}, started="2026-01-01T11:59:59+00:00")
    predict(course, {"a": 0.9}, when=datetime.fromisoformat("2026-01-01T12:00:00+00:00"))
    assert scores(course)[0].run is None


def test_the_first_run_after_it_counts_even_if_a_claim_failed(course):
    predict(course, {"a": 0.9})
    course.run("B1/20260101-140000-seed0", {"a": 0.6})
    course.run(f"B1/{LATER}", {"a": 0.1}, status="failed")
    assert scores(course)[0].run.name == LATER
    assert math.isclose(brier(scores(course))[0], 0.81)


def test_a_seed_waits_for_its_run(course):
    predict(course, {"a": 0.9}, seed=7)
    course.run(f"B1/{LATER}", {"a": 0.1})
    assert scores(course)[0].run is None
    course.run("B1/20260101-140000-seed7", {"a": 0.6}, seed=7)
    assert scores(course)[0].run.name == "20260101-140000-seed7"


def test_of_two_predictions_the_later_counts_claim_by_claim(course):
    predict(course, {"a": 0.0, "b": 0.7})
    predict(course, {"a": 1.0}, when=NOW + timedelta(minutes=5))
    course.run(f"B1/{LATER}", {"a": 0.6, "b": 0.6})
    first, second = scores(course)
    assert (set(first.outcomes), set(second.outcomes)) == ({"b"}, {"a"})
    assert math.isclose(brier([first, second])[0], 0.3**2 / 2)
    assert "the rest replaced by a later one" in course.rl("predict")[1]


def test_predictions_before_the_first_run_are_told_apart(course):
    predict(course, {"a": 0.9})
    course.run(f"B1/{LATER}", {"a": 0.6})
    predict(course, {"a": 0.5}, when=NOW + timedelta(hours=2))
    course.run("B1/20260101-150000-seed0", {"a": 0.6})
    assert [entry.knew for entry in scores(course)] == [False, True]
    assert "0.130 over 2 claims" in (out := course.rl("status")[1])
    assert "0.010 over the 1 made before a first run" in out


def test_claims_that_vanished_are_named(course):
    predict(course, {"a": 0.9, "old": 0.9})
    course.run(f"B1/{LATER}", {"a": 0.6})
    (entry,) = scores(course)
    assert (set(entry.outcomes), entry.gone) == ({"a"}, ("old",))
    assert "not claimed by the run: old" in course.rl("predict")[1]


def test_a_run_of_a_part_decides_only_until_there_is_a_whole_one(course):
    predict(course, {"a": 0.9, "b": 0.8})
    course.run(f"B1/{LATER}", {"a": 0.9})
    assert scores(course)[0].gone == ("b",)
    course.run("B1/20260101-140000-seed0", {"a": 0.9, "b": 0.1})
    (decided,) = scores(course)
    assert decided.outcomes == {"a": (0.9, True), "b": (0.8, False)}
    assert decided.gone == ()


def test_lessons_that_vanished_wait(course):
    predict(course, {"a": 0.9}, lesson="Z9")
    assert "1 waits for a full run" in course.rl("status")[1]


def test_the_list_says_where_it_was_furthest_off(course):
    predict(course, {"a": 0.9, "b": 0.95})
    course.run(f"B1/{LATER}", {"a": 0.6, "b": 0.1}, status="failed")
    out = course.rl("predict")[1]
    assert "1 of 2 claims held; furthest off: b at 0.95" in out
    assert f"(B1/{LATER})" in out


def test_who_has_run_a_lesson_is_told(course):
    arguments = ("predict", "B1", "--all", "0.9")
    assert "before" not in course.rl(*arguments)[1]
    course.run(f"B1/{EARLIER}", {"a": 0.6})
    assert "You have run B1 before" in course.rl(*arguments)[1]


def test_no_predictions_yet(course):
    assert "rl predict LESSON" in course.rl("predict")[1]


# Hand-edited files


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b'{"lesson": "B1"', "delimiter"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe{", "can't decode"),
        (b'{"predicted": "2026-01-01", "claims": {}}', "'lesson' is missing"),
        (b'{"lesson": "B1", "predicted": "2026-01-01", "claims": [0.5]}', "'claims' is missing or not of"),
        (
            b'{"lesson": "B1", "predicted": "2026-01-01", "claims": {"a": 1.5}}',
            "claim 'a': 1.5 is not a prob",
        ),
        (b'{"lesson": "B1", "predicted": "2026-01-01", "claims": {"a": "0.5"}}', "is not a probability"),
        (b'{"lesson": "B1", "predicted": "2026-01-01", "claims": {"a": NaN}}', "is not a probability"),
        (b'{"lesson": "B1", "predicted": "2026-01-01", "claims": {"a": true}}', "is not a probability"),
        (b'{"lesson": "B1", "predicted": "yesterday", "claims": {"a": 1}}', "is not a time like"),
        (b'{"lesson": "B1", "predicted": "0001-01-01", "claims": {"a": 1}}', ""),
        (b'{"lesson": "B1", "claims": {"a": 1}}', "is not a time like"),
        (b'{"lesson": "B1", "predicted": "2026-01-01", "seed": "x", "claims": {}}', "seed 'x'"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_a_malformed_file_is_named_and_left_alone(course, content, says):
    predict(course, {"a": 0.9})
    course.run(f"B1/{LATER}", {"a": 0.6})
    bad = course.days / "predictions" / "20260101-000000-B1.json"
    bad.write_bytes(content)
    for command in ("status", "predict"):
        code, out, err = course.rl(command)
        assert code == 0
        assert "over 1 claims" in out
        if says:
            assert err.count("\n") == 1
            assert str(bad) in err
            assert says in err
    assert course.rl("predict", "B1", "--all", "0.5")[0] == 0
    assert bad.read_bytes() == content


def test_an_edited_file_counts_as_edited(course):
    path = predict(course, {"a": 0.0})
    course.run(f"B1/{LATER}", {"a": 0.6})
    path.write_text('﻿{"lesson": "B1", "predicted": "2026-01-01T12:00", "claims": {"a": 1}, "mine": "note"}')
    assert brier(scores(course)) == (0.0, 1)
