"""The race: seconds to a threshold, time spent on evaluations left out, and B4's verdict over seeds."""

import math
import time

import pytest

from chapters.B_core_algorithms import B4_dqn_from_scratch as lesson
from chapters.B_core_algorithms.evidence.B4_race import Scores, first_crossing
from chapters.utils import RunLog


def race(name, returns, seconds):
    return {
        f"{name}_return": list(enumerate(returns)),
        f"{name}_cpu_seconds": list(enumerate(seconds)),
    }


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([10, 475, 500, 20], (2.0, 2 / 3)),
        ([500, 500, 500, 500], (1.0, 1.0)),
        ([10, 20, 30, 474.9], (math.inf, 0.0)),
        ([10, 20, 30, 480], (4.0, 1.0)),
    ],
)
def test_first_crossing(returns, expected):
    assert first_crossing(race("x", returns, [1.0, 2.0, 3.0, 4.0]), "x", 475.0) == pytest.approx(expected)


def test_scores_leave_evaluations_out_and_keep_the_best(tmp_path):
    def burn(seconds):
        start = time.process_time()
        while time.process_time() - start < seconds:
            pass

    def score(network):
        burn(0.2)
        return network["score"]

    log = RunLog(tmp_path, "B4")
    scores, network = Scores("x", score, log), {"score": 0}
    for step, value in enumerate((5, 9, 2)):
        network["score"] = value
        scores.measure(step, network)
    log.close()
    assert scores.seconds < 0.1, "three evaluations of 0.2 s were counted"
    assert (scores.best_return, scores.best, scores.last) == (9, {"score": 9}, {"score": 2})
    assert log.series("x_return")[1] == [5, 9, 2]


def test_summary_is_a_ratio_of_medians_and_favours_the_library(tmp_path):
    """A library's run that never crosses counts as if it had at its end; one of ours counts as infinite."""
    runs = []
    for ours, theirs in (([500, 500], [0, 500]), ([0, 500], [0, 0]), ([0, 0], [500, 500])):
        metrics = {}
        for name in lesson.LABELS:
            metrics |= race(
                name, theirs if name == "sb3" else ours, [4.0, 8.0] if name == "sb3" else [1.0, 2.0]
            )
        runs.append({"seed": len(runs), "config": {}, "metrics": metrics, "claims": {}})
    log = RunLog(tmp_path, "B4")
    lesson.summarise(runs, log)
    log.close()
    (claim,) = log.claims
    assert claim.value == pytest.approx(2.0 / 8.0)  # median of (1, 2, inf) over median of (8, 8, 4)
    assert claim.timed
    assert [path.name for path in log.figures] == ["B4.png"]
