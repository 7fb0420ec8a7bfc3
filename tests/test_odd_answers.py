"""Answers of learners that are odd as programs: each is graded or refused in words, and nothing hangs."""

import os
import subprocess
import sys

import pytest
from test_exercise import GAE, grade_of

from chapters.course import grading


@pytest.mark.parametrize("code", ["0", "3", "'bye'"])
def test_a_function_that_ends_the_program_has_failed(code, course, tmp_path):
    """And whoever grades it goes on, here and in a program: exit code 0 would say that it passes."""
    own = tmp_path / "own.py"
    own.write_text(f"def gae(rewards, *rest):\n    raise SystemExit({code})\n")
    code, out, err = course.rl("grade", "C3.gae", own)
    assert code == 1, err
    assert "gae  failed" in out
    assert "stops with SystemExit" in out


SPEECHLESS = """
class Speechless(Exception):
    def __str__(self):
        raise ValueError

def gae(*a):
    raise Speechless
"""
INSIDE = "if True:\n" + "".join(f"    {line}\n" for line in GAE.splitlines())
ODD = [
    (SPEECHLESS, "failed", "stops with Speechless, line 7"),
    ("def gae(*a):\n    raise ValueError('\\x1b[31m')", "failed", "stops with ValueError: ?[31m, line 2"),
    ("async def gae(*a):\n    return a[0]", "failed", "returns a coroutine"),
    (f"{GAE}\ndel gae\n", "not begun", ""),
    (INSIDE, "passed", ""),
    (INSIDE.replace("if True:", "try:") + "finally:\n    pass\n", "passed", ""),
]


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize(("source", "state", "words"), ODD)
def test_odd_ways_to_write_a_function(source, state, words):
    grade = grade_of(source)
    assert grade.state == state, grade.said
    assert words in grade.said


def test_a_mark_at_the_beginning_and_too_deep_a_nest(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(GAE, encoding="utf-8-sig")
    assert grade_of(grading.text_of(own)).state == "passed"
    with pytest.raises(grading.UsageError, match="nested too deep"):
        grade_of("x = " + "-" * 100_000 + "1")


def test_nobody_waits_for_a_thread_that_a_learners_file_starts(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(f"import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n{GAE}")
    given = [
        sys.executable,
        "-c",
        "from chapters.course.cli import main; main()",
        "grade",
        "C3.gae",
        str(own),
    ]
    env = {**os.environ, "RL_PRACTICE": str(tmp_path)}
    done = subprocess.run(given, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 passed" in done.stdout
