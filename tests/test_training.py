"""`rl grade B1 --train`: the lesson learns with the learner's functions, and says what holds."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from chapters.course import practice, training
from chapters.course.catalog import ROOT, find, lessons
from chapters.course.parts import tasks_of

B1 = find("B1")


def whole(item=B1):
    """A learner's file with every function of the lesson in it, all of them right."""
    names = [name for name, task in tasks_of(item).items() if not task.exercise]
    texts = [practice.solution(item, name).partition("\n\nequation")[0] for name in names]
    return practice.head(item) + "\n\n" + "\n\n\n".join(texts) + "\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(whole())
    return path


def test_right_functions_solve_the_probes_and_hold_the_claims(course, file, tmp_path):
    code, out, _ = course.rl("grade", "B1", file, "--train", "--smoke")
    assert code == 0
    assert "checks: 4 of 4 functions pass" in out
    for probe in training.SHOWS:
        assert (f"✓ {probe}: {training.SHOWS[probe]}" in out) == (probe != "CutShort")
    assert "✓ time_limit_bootstraps: a reward of 1" in out
    assert "claims of B1 that hold with your functions: 1 of 1" in out
    assert list(course.runs.glob("practice/B1/*/claims.json"))
    assert not list(course.runs.glob("B1/*")), "it is no run of the lesson's own code"
    assert not (tmp_path / "practice" / "progress.json").exists(), "a smoke run shows nothing"


def test_a_wrong_function_is_seen_on_the_probes(course, file):
    text = file.read_text()
    begin = text.index("def q_learning_target")
    wrong = text[:begin] + text[begin:].replace("terminated else", "False else", 1)
    assert wrong != text
    file.write_text(wrong)
    code, out, _ = course.rl("grade", "B1", file, "--train", "--smoke", "--json")
    assert code == 1
    found = json.loads(out.splitlines()[-1])
    assert not found["holds"]
    assert [one["state"] for one in found["functions"]].count("failed") == 1
    assert not all(one["holds"] for one in found["probes"])


def test_a_function_that_stops_is_told_with_its_line(course, file):
    text = file.read_text()
    file.write_text(text + "def td_update(*a):\n    return 1 / 0\n")
    code, out, _ = course.rl("grade", "B1", file, "--train", "--smoke")
    line = text.count("\n") + 2
    assert code == 1
    assert f"stops with ZeroDivisionError: division by zero, line {line}" in out


def test_a_function_that_ends_the_process_is_told(course, file):
    text = file.read_text()
    file.write_text(text + "def epsilon_greedy(row, epsilon, rng):\n    import os\n    os._exit(0)\n")
    code, out, _ = course.rl("grade", "B1", file, "--train", "--smoke")
    assert code == 1
    assert "it stops with RuntimeError: os._exit(0) would end rl itself, line" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("grade", "B1.td_update", "--train"), "--train takes a whole lesson, once: rl grade B1 --train"),
        (("grade", "B1", "--train", "--watch"), "--train takes a whole lesson"),
        (("grade", "B1", "--smoke"), "go with --train"),
        (("grade", "B1", "--train"), "no such file"),
    ],
)
def test_wrong_usage_is_one_line(course, arguments, says):
    assert says in course.refused(*arguments)


def test_what_is_not_begun_is_named(course):
    course.rl("exercise", "B1.td_update")
    said = course.refused("grade", "B1", "--train")
    assert "not begun: q_learning_target, sarsa_target, td_update, epsilon_greedy" in said


def test_a_full_run_is_kept(tmp_path):
    found = training.Trained([], claims=[], enforced=[])
    training.keep(B1, found, True, tmp_path)
    assert not (tmp_path / "progress.json").exists()
    training.keep(B1, found, False, tmp_path)
    entry = json.loads((tmp_path / "progress.json").read_text())["B1.train"]
    assert entry["held"] == []
    assert "passed" in entry


def test_ctrl_c_ends_it_in_one_line(file, tmp_path):
    code = "import sys; sys.argv[0] = 'rl'; from chapters.course.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "grade", "B1", str(file), "--train"],
        cwd=ROOT,
        env={**os.environ, "RL_RUNS": str(tmp_path / "runs"), "RL_PRACTICE": str(tmp_path / "practice")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("training on"):
            break
    while not list(tmp_path.glob("runs/practice/B1/*/run.json")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.count("interrupted") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_probes_are_told_in_words(item):
    if (item.path.parent / "checks" / f"{item.id}_probes.py").exists():
        probes = importlib.import_module(f"{item.module.rpartition('.')[0]}.checks.{item.id}_probes")
        assert probes.ALLOWED.keys() == probes.ANSWERS.keys() <= training.SHOWS.keys()
