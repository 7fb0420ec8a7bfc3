"""Lesson A3 as a whole: what its text says happens, happens; and the evidence's own functions are right."""

import jax
import numpy as np
import pytest

from chapters.A_foundations import A3_mdp_and_bellman as lesson
from chapters.A_foundations.checks.A3 import (
    EDITS,
    best_by_enumeration,
    check_value_iteration,
    near,
    small_mdp,
    some_mdp,
)
from chapters.A_foundations.checks.A3_exercises import shaped_rewards, sweep_in_place
from chapters.A_foundations.evidence import A3 as evidence
from chapters.exact import published
from chapters.exact.mdp import grid_mdp
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited


def random_policy(mdp):
    return np.full(mdp.R.shape, 1.0 / mdp.R.shape[1])


# What the text says


@pytest.mark.parametrize("name", ["no_gamma", "mean_for_max", "control_stops_early"])
def test_printed_values_expose_a_wrong_solver(name):
    table = published.TABLES["example_3_5_best"]
    best, _ = lesson.value_iteration(published.example_3_5(), 1e-9)
    assert table.num_equal(best) == 25
    wrong = edited(lesson, EDITS[name])
    wrong.MAX_SWEEPS = 500  # without a discount the values grow for ever
    try:
        found, _ = wrong.value_iteration(published.example_3_5(), 1e-9)
    except RuntimeError:
        return
    assert table.num_equal(found) < 25


def test_without_the_mask_the_first_guess_of_an_end_never_goes_away():
    """The breakage of section 7."""
    broken, mdp = edited(lesson, EDITS["no_mask"]), published.world_4x3()
    best, _ = lesson.value_iteration(mdp, 1e-9)

    def solve(module, guess):
        return module.iterate(lambda V: module.optimality_backup(mdp, V), guess, 1e-12)[0]

    floor = ~mdp.terminal
    np.testing.assert_allclose(solve(broken, np.zeros(12)), best, atol=1e-8)
    np.testing.assert_allclose(solve(broken, np.ones(12))[floor], best[floor] + 1.0, atol=1e-8)
    np.testing.assert_allclose(solve(lesson, np.ones(12))[floor], best[floor], atol=1e-8)


@pytest.mark.parametrize("world", [published.example_3_5()._replace(gamma=1.0), published.world_4x3(0.1)])
def test_where_no_answer_is_finite_every_solver_says_so(world, monkeypatch):
    """Exercise A3.2; and a world in which waiting pays."""
    monkeypatch.setattr(lesson, "MAX_SWEEPS", 1_000)
    for solve in (lesson.value_iteration, lesson.solve_with_jax, evidence.solve_in_one_program):
        with pytest.raises(RuntimeError, match="does every episode end"):
            solve(world, 1e-9)
    with pytest.raises(RuntimeError, match="does every episode end"):
        lesson.policy_iteration(world)


def test_a_small_reward_for_ever_is_no_finite_value():
    """Its sum looks still between two sweeps; the linear solve and the backup say the same."""
    mdp = grid_mdp(["..G"], gamma=1.0, step_reward=1e-13)
    upwards = np.eye(4)[[0, 0, 0]]  # against the wall, for ever
    for solve in (lesson.evaluate_exactly, lambda *known: lesson.evaluate_iteratively(*known, 1e-9)):
        with pytest.raises(RuntimeError, match="some value is not finite"):
            solve(mdp, upwards)


def test_a_discount_too_near_1_is_named_beside_episodes_without_an_end(monkeypatch):
    monkeypatch.setattr(lesson, "MAX_SWEEPS", 1_000)
    mdp = grid_mdp(["..G"], gamma=0.99999, step_reward=1.0)
    for solve in (lesson.value_iteration, evidence.solve_in_one_program):
        with pytest.raises(RuntimeError, match="or is gamma far enough below 1"):
            solve(mdp, 1e-9)


def test_a_shift_is_what_a_backup_shrinks_least():
    """The ratio reaches 1 where U = V + constant and no end is near."""
    mdp = published.example_3_5()
    V = np.random.default_rng(0).normal(size=25)
    near(evidence.contraction_ratio(lambda guess: lesson.optimality_backup(mdp, guess), 0.9, V + 3.0, V), 1.0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8])
def test_rewards_of_any_scale(scale):
    """Ties and settled values are measured by the values: -1 a step, and its answer, times the scale."""
    grid = ["......"] * 5 + [".....G"]
    mdp = grid_mdp(grid, gamma=0.9, slip=0.2, step_reward=-1.0)
    mdp = mdp._replace(R=mdp.R * scale)
    V, policy, evaluations = lesson.policy_iteration(mdp)
    one, one_policy, _ = lesson.policy_iteration(mdp._replace(R=mdp.R / scale))
    np.testing.assert_allclose(V, one * scale, rtol=1e-9)
    np.testing.assert_allclose(policy, one_policy)
    assert evaluations < 20
    swept, _ = lesson.value_iteration(mdp, 1e-9 * max(scale, 1.0))
    np.testing.assert_allclose(swept, V, rtol=1e-8, atol=1e-8)
    lesson.value_iteration(mdp, 1e-9)  # comes to an end, whatever is promised


def test_a_huge_price_of_a_step_is_no_trouble():
    grid = ["......"] * 5 + [".....G"]
    V, _, _ = lesson.policy_iteration(grid_mdp(grid, gamma=0.9, slip=0.2, step_reward=-1e8))
    one, _, _ = lesson.policy_iteration(grid_mdp(grid, gamma=0.9, slip=0.2, step_reward=-1.0))
    goal, _, _ = lesson.policy_iteration(grid_mdp(grid, gamma=0.9, slip=0.2, step_reward=0.0))
    near(V / 1e8, one - goal, 1e-7)  # of the goal's reward nothing is to be seen


def test_policy_iteration_gives_up_after_its_bound(monkeypatch):
    monkeypatch.setattr(lesson, "MAX_EVALUATIONS", 1)
    with pytest.raises(RuntimeError, match="still improving"):
        lesson.policy_iteration(published.example_3_5())


@pytest.mark.parametrize("seed", range(3))
def test_shaping_moves_every_value_by_the_potential_and_no_choice(seed):
    """Section 6, equation (8)."""
    rng, mdp = some_mdp(seed)
    potential = rng.normal(size=6) * ~mdp.terminal
    gain = mdp.gamma * mdp.P @ potential - potential[:, None]
    other = mdp._replace(R=mdp.R + gain * ~mdp.terminal[:, None])
    policy = rng.dirichlet(np.ones(3), size=6)
    near(lesson.evaluate_exactly(other, policy), lesson.evaluate_exactly(mdp, policy) - potential)
    near(lesson.policy_iteration(other)[1], lesson.policy_iteration(mdp)[1])


def test_the_perfect_potential_leaves_nothing_to_earn():
    """Exercise A3.3."""
    corridor = grid_mdp(["..G"], gamma=0.9)
    potential = lesson.value_iteration(corridor, 1e-9)[0]
    near(potential, [0.9, 1.0, 0.0])
    left = shaped_rewards(corridor, potential)
    near(left[:2].max(axis=1), [0.0, 0.0])
    near(left[1, 3], -0.19)


def test_in_place_needs_as_many_sweeps_as_its_exercise_says():
    """Exercise A3.4."""

    def sweeps(mdp, backup):
        V, count = lesson.iterate(lambda V: backup(mdp, V), np.zeros(len(mdp.R)), 1e-9 * (1 - 0.9) / 0.9)
        near(V, lesson.policy_iteration(mdp)[0], 1e-9)
        return count

    grid = published.example_3_5()
    assert [sweeps(grid, backup) for backup in (sweep_in_place, lesson.optimality_backup)] == [50, 241]
    assert sweeps(grid_mdp(["G......."], gamma=0.9), sweep_in_place) == 2
    for backup in (sweep_in_place, lesson.optimality_backup):
        assert sweeps(grid_mdp([".......G"], gamma=0.9), backup) == 8


@pytest.mark.parametrize("seed", range(3))
def test_a_greedy_turn_is_nowhere_worse(seed):
    """The policy improvement theorem, equation (6)."""
    rng, mdp = some_mdp(seed)
    policy = rng.dirichlet(np.ones(3), size=6)
    V = lesson.evaluate_exactly(mdp, policy)
    better = lesson.greedy_policy(lesson.q_from_v(mdp, V))
    assert (lesson.evaluate_exactly(mdp, better) >= V - 1e-12).all()


def test_ties_are_all_kept():
    """In the 5x5 grid every action is best on the two cells that teleport."""
    _, policy, _ = lesson.policy_iteration(published.example_3_5())
    np.testing.assert_allclose(policy[[1, 3]], 0.25)
    np.testing.assert_allclose(policy[5], [0.5, 0.5, 0.0, 0.0])  # up or right


# The evidence


def check_random_mdp(random_mdp):
    mdp = random_mdp(np.random.default_rng(0), 7, 3, 0.9)
    assert mdp.P.shape == (7, 3, 7)
    assert mdp.gamma == 0.9
    near(mdp.P.sum(axis=2), np.ones((7, 3)))
    assert (mdp.P >= 0).all()
    np.testing.assert_array_equal(mdp.terminal, [False] * 6 + [True])
    near(mdp.P[6, :, 6], np.ones(3))
    near(mdp.R[6], np.zeros(3))
    assert (mdp.R[:6] != 0).all()


def check_best_of_all_policies(best_of_all_policies):
    for seed in range(2):
        mdp = small_mdp(seed)
        near(best_of_all_policies(mdp), best_by_enumeration(mdp), 1e-9)


def check_value_iteration_jax(value_iteration_jax):
    for seed in range(3):
        mdp = small_mdp(seed)
        with jax.enable_x64(True):
            V, change, sweeps = map(np.asarray, value_iteration_jax(mdp, 1e-9))
        assert V.dtype == np.float64
        near(V, best_by_enumeration(mdp), 1e-8)
        assert change <= 1e-9
        assert sweeps > 5


def check_solve_in_one_program(solve_in_one_program):
    for seed in range(3):
        mdp = small_mdp(seed, gamma=0.95)
        V = solve_in_one_program(mdp, 1e-6)
        assert V.dtype == np.float64
        near(V, best_by_enumeration(mdp), 1e-6)
    assert not jax.config.jax_enable_x64  # the switch is local


def check_contraction_ratio(contraction_ratio):
    """Of backups whose ratio is known: a constant has none, halving has a half, whatever the guesses."""
    rng = np.random.default_rng(0)
    for gamma in (0.5, 0.9, 1.0):
        U, V = rng.normal(size=(2, 6))
        near(contraction_ratio(lambda guess: 0.0 * guess, gamma, U, V), 0.0)
        near(contraction_ratio(lambda guess: 3.0 + guess / 2, gamma, U, V), 0.5 / gamma)
        near(contraction_ratio(lambda guess: 1.0 - guess, gamma, U, V), 1.0 / gamma)  # no sign
        moved = np.array([0.0, 0.0, 0.0, -3.0, 2.0, 1.0])
        first = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
        near(contraction_ratio(lambda guess: guess * first, gamma, V + moved, V), 1.0 / gamma)  # noqa: B023
        near(contraction_ratio(lambda guess: guess * (1 - first), gamma, V + moved, V), 2 / 3 / gamma)  # noqa: B023


def check_worst_ratio(worst_ratio):
    """At least the ratio of a shift, which is 1 without an end; and the largest of all four."""
    rng, mdp = some_mdp(0)
    mdp = mdp._replace(terminal=np.zeros(6, dtype=bool))
    policy = rng.dirichlet(np.ones(3), size=6)
    U, V = rng.normal(size=(2, 6))
    near(worst_ratio(mdp, policy, U, V), 1.0)
    _, mdp = some_mdp(1)
    ratios = [
        evidence.contraction_ratio(backup, mdp.gamma, U, other)
        for backup in (
            lambda guess: lesson.optimality_backup(mdp, guess),
            lambda guess: lesson.policy_backup(mdp, policy, guess),
        )
        for other in (V, U + 1.0)
    ]
    near(worst_ratio(mdp, policy, U, V), max(ratios))


def check_count_turns(count_turns):
    assert count_turns() == 4


CHECKS = {
    name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")
}
del CHECKS["value_iteration"]  # the lesson's
WRONG = (
    Edit("random_mdp", "P[-1], R[-1] = 0.0, 0.0", "P[-1] = 0.0", "the end pays"),
    Edit("random_mdp", "P[-1, :, -1] = 1.0", "P[-1, :, 0] = 1.0", "the end leads on"),
    Edit("best_of_all_policies", "np.max([", "np.min([", "the worst policy"),
    Edit(
        "value_iteration_jax",
        "lesson.optimality_backup(mdp, V)",
        "lesson.q_from_v(mdp, V).mean(axis=1)",
        "mean",
    ),
    Edit("value_iteration_jax", "return (change > gap) &", "return (change == np.inf) &", "one sweep"),
    Edit("solve_in_one_program", "jax.enable_x64(True)", "jax.enable_x64(False)", "32 bits"),
    Edit("solve_in_one_program", "(mdp, gap))", "(mdp, 0.1))", "stops early"),
    Edit("contraction_ratio", "/ (gamma * np.abs(U - V).max())", "/ np.abs(U - V).max()", "no gamma"),
    Edit(
        "contraction_ratio",
        "np.abs(backup(U) - backup(V)).max()",
        "np.abs(backup(U) - backup(V))[0]",
        "one state",
    ),
    Edit("worst_ratio", "return max(", "return min(", "the best ratio"),
    Edit("worst_ratio", "(U, U + 1.0))", "(V, U))", "no shift"),
    Edit(
        "count_turns", "published.world_4x3(reward - 1e-4)", "published.world_4x3(reward + 1e-4)", "one side"
    ),
)


@pytest.mark.parametrize("name", CHECKS)
def test_function_of_the_evidence_meets_its_definition(name):
    CHECKS[name](getattr(evidence, name))


@pytest.mark.parametrize("edit", WRONG, ids=lambda edit: f"{edit.function}: {edit.says}")
def test_its_check_rejects_a_wrong_one(edit):
    wrong = getattr(edited(evidence, edit), edit.function)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        CHECKS[edit.function](wrong)


def test_value_iteration_in_one_program_is_value_iteration():
    check_value_iteration(lambda mdp, tolerance: (evidence.solve_in_one_program(mdp, tolerance), 0))


@pytest.mark.parametrize("off", [-1.0, 1.0])
def test_values_that_another_way_finds_lower_or_higher_are_errors_alike(off, tmp_path, monkeypatch):
    right = evidence.best_of_all_policies
    monkeypatch.setattr(evidence, "best_of_all_policies", lambda mdp: right(mdp) + off)
    log = RunLog(tmp_path, "A3")
    worst = evidence.agreement(lesson.Config(), evidence.Config(num_mdps=2), log)
    log.close()
    assert worst["enumerated"] == pytest.approx(1.0)
    assert max(worst["evaluation"], worst["control"], worst["jax"]) < 1e-5
