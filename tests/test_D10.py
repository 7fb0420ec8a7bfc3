"""D10's learners in small, and what is wrong once edited."""

from dataclasses import replace

import pytest

from chapters.D_rlhf import D10_grounding_and_memory as lesson
from chapters.D_rlhf.checks.D10 import EDITS
from chapters.utils import RunLog
from chapters.utils.edits import edited


@pytest.fixture
def cfg():
    return replace(lesson.Config(), batch_size=96, imitation_updates=40, rl_updates=30)


def test_a_seer_learns_and_an_edited_one_does_not(cfg, tmp_path):
    log = RunLog(tmp_path, "D10")
    lesson.train_seer(cfg, log, "right")
    assert log.last("right_success") > 0.5
    for name in ("eyes_shut", "rows_mixed"):
        edited(lesson, EDITS[name]).train_seer(replace(cfg, rl_updates=1), log, name)
    log.close()
    assert log.last("eyes_shut_success") < 0.2


def test_a_retrieval_that_is_written_and_never_read_learns_nothing(cfg, tmp_path):
    log = RunLog(tmp_path, "D10")
    short = replace(cfg, batch_size=64, imitation_updates=50, rl_updates=1, longest_delay=2)
    lesson.train_walker(lesson.Retrieval, short, log, "right")
    edited(lesson, EDITS["memory_unread"]).train_walker(
        lesson.Walker, replace(short, imitation_updates=5), log, "x"
    )
    log.close()
    assert log.last("right_chance") > 0.6
    assert log.last("x_chance") <= 0.5 + 1e-9
