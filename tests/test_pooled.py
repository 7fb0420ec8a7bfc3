"""What lessons claim over all recorded seeds together, from runs that are written down here.

Figures are left out, since they need everything that a run writes.
"""

import numpy as np
import pytest
from matplotlib.figure import Figure
from spies import race

from chapters.B_core_algorithms.evidence import B0, B2
from chapters.C_policy_gradients.evidence import C3, C8
from chapters.D_rlhf.evidence import D13, D16
from chapters.E_practice.evidence import E3
from chapters.utils import RunLog


def empty(*_, **__):
    """In the place of what draws."""
    return Figure(figsize=(1, 1))


@pytest.fixture
def claimed(tmp_path, monkeypatch):
    """The claims of an evidence module over runs of which only the metrics are given: {name: value}."""

    def of(evidence, metrics, without=()):
        for name in without:
            where, _, what = name.rpartition(".")
            monkeypatch.setattr(getattr(evidence, where) if where else evidence, what, empty)
        log = RunLog(tmp_path, evidence.__name__[-3:].strip("."))
        evidence.summarise([{"seed": i, "metrics": one} for i, one in enumerate(metrics)], log)
        log.close()
        return {claim.name: claim.value for claim in log.claims}

    return of


def test_the_slope_of_the_regret_is_the_mean_of_the_seeds_in_the_last_decade(claimed):
    metrics = [{"slope_thompson": [(10, a), (100, b)]} for a, b in ((5.0, 0.5), (7.0, 0.75), (0.0, 2.5))]
    without = ("lesson.draw", "draw_testbed", "draw_slope", "draw_order")
    assert claimed(B0, metrics, without) == {"thompson_slope_pooled": 1.25}


@pytest.mark.parametrize("slope", [-0.5, -0.25])
def test_the_slope_of_the_error_is_that_of_its_geometric_mean(claimed, slope):
    """Lucky at first or at last: two seeds that err in opposite ways leave the slope as it is."""
    n = np.array([1e2, 1e3, 1e4])
    metrics = [
        {"blackjack_error": [*zip(n, 3.0 * n**slope * luck)]}
        for luck in (np.array([4.0, 1.0, 0.5]), np.array([0.25, 1.0, 2.0]))
    ]
    assert claimed(B2, metrics, ("lesson.draw",))["error_slope_pooled"] == pytest.approx(slope)


def test_a_library_that_never_gets_there_counts_as_if_it_had_at_its_end(claimed):
    """Ours after 3, 6 and 9 seconds; rl-zoo's after 40 each; at our settings never, stopped after 12."""
    metrics = [
        race("ours", [500] * 3, [pace, 2 * pace, 3 * pace])
        | race("sb3_zoo", [0, 500, 500, 500], [10, 20, 30, 40])
        | race("sb3_ours", [500, 500, 0], [4, 8, 12])
        | race("one_batch", [500, 0, 500, 500, 500], [1, 2, 3, 4, 5])
        for pace in (1, 2, 3)
    ]
    found = claimed(C3, metrics, ("draw_ablation", "claim_stage", "draw_stage"))
    expected = {"faster_than_sb3_zoo": 40 / 6, "faster_than_sb3_ours": 2.0, "several_passes": 500 / 300}
    assert found == pytest.approx(expected)


def test_two_workers_by_the_wall_and_rllib_beside_ours(claimed):
    """By the wall 1, 2 and 3 times as fast: divided in each seed, so that a slow machine weighs no more."""
    metrics = [
        {
            "ray_one_wall_seconds": [(0, one)],
            "ray_two_wall_seconds": [(0, two)],
            "ours_ppo_cpu_seconds": [(0, 2.0)],
            "rllib_ppo_cpu_seconds": [(0, 6.0)],
            "ours_impala_cpu_seconds": [(0, 5.0)],
            "rllib_impala_cpu_seconds": [(0, 20.0)],
            **{
                f"{who}_return": [(0, 475.0)]
                for who in ("ours_ppo", "rllib_ppo", "ours_impala", "rllib_impala")
            },
            **{f"{name}_seconds": [(0, 1.0)] for name in C8.COSTS},
        }
        for one, two in ((100.0, 100.0), (10.0, 5.0), (30.0, 10.0))
    ]
    found = claimed(C8, metrics, ("draw_model", "draw_race"))
    assert found == {"two_workers_wall": 2.0, "faster_ppo": 3.0, "faster_impala": 4.0}


def taught(grpo, student, own, teachers):
    """Both racers: (when sampled answers meet the bar, CPU seconds a step); the student's distances."""
    metrics = {"exposed_all_own": [(0, own)], "exposed_all_teachers": [(0, teachers)]}
    for name, (at, pace) in (("grpo", grpo), ("student", student)):
        shares = [D13.BAR - 0.1, D13.BAR - 0.01, D13.BAR, 0.9]
        steps = [at - 2, at - 1, at, at + 1]
        metrics[f"{name}_sampled"] = [*zip(steps, shares)]
        metrics[f"{name}_cpu_seconds"] = [(step, pace * step) for step in steps]
    return metrics


def test_grpo_over_the_student_with_a_teacher_is_the_median_of_seeds(claimed):
    metrics = [
        taught((40, 1.0), (10, 2.0), own=3.0, teachers=1.0),
        taught((60, 1.0), (10, 2.0), own=4.0, teachers=2.0),
        taught((20, 1.0), (10, 4.0), own=1.0, teachers=2.0),
    ]
    found = claimed(D13, metrics, ("draw_race",))
    expected = {"grpo_updates_over_taught": 4.0, "grpo_cpu_seconds_over_taught": 2.0, "exposure": 2.0}
    assert found == expected


def test_more_pairs_less_fewer_at_the_largest_n(claimed):
    metrics = [
        {"best_of_n_gold_1": [(1, 9.0), (64, most)], "best_of_n_gold_16": [(1, 0.0), (64, fewest)]}
        for most, fewest in ((3.0, 1.0), (5.0, 4.5), (1.0, 2.0))
    ]
    without = ("draw_overoptimization",)
    assert claimed(D16, metrics, without) == {"data_under_pressure": 0.5}


def test_a_diagnosis_is_right_where_the_planted_bug_is_named_first(claimed, monkeypatch):
    """Rows: what was planted (first: nothing); columns: what was named first (first: nothing)."""
    named = np.array([[5, 1, 0], [0, 3, 1], [0, 0, 4]])
    usual = np.array([[6, 0, 0], [2, 2, 0], [0, 2, 2]])
    monkeypatch.setattr(E3.zoo, "report", lambda *_: {"named": named, "usual": usual})
    assert claimed(E3, [{}]) == {"pooled_named": 7 / 8, "worth_logging": 7 / 8 - 4 / 8, "pooled_alarms": 1}
