"""Lesson A3 as a whole: what its text says happens, happens."""

import numpy as np
import pytest

from chapters.A_foundations import A3_mdp_and_bellman as lesson
from chapters.course.planting import plant


def random_policy(mdp):
    return np.full(mdp.R.shape, 1.0 / mdp.R.shape[1])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mdp.R + mdp.gamma * (mdp.P", "mdp.R + (mdp.P"),
        ("q_from_v(mdp, V).max(axis=1)", "q_from_v(mdp, V).mean(axis=1)"),
        ("np.zeros(len(mdp.R)), stopping_gap(mdp.gamma, tolerance)", "np.zeros(len(mdp.R)), 1.0"),
        ("bump_reward * blocked", "bump_reward * 0"),
    ],
    ids=["gamma missing", "mean for maximum", "stops early", "bumps are free"],
)
def test_printed_values_expose_a_wrong_solver(old, new):
    mdp = lesson.example_3_5()
    best, _ = lesson.value_iteration(mdp, 1e-9)
    assert lesson.cells_as_printed(best, lesson.EXAMPLE_3_5_BEST) == 25
    wrong = plant(lesson, old, new)
    wrong.MAX_SWEEPS = 500  # without a discount the values grow for ever
    try:
        found, _ = wrong.value_iteration(wrong.example_3_5(), 1e-9)
    except RuntimeError:
        return
    if "bump" in old:  # the best policy never bumps; the random one does
        mdp = wrong.example_3_5()
        found = wrong.evaluate_exactly(mdp, random_policy(mdp))
        assert lesson.cells_as_printed(found, lesson.EXAMPLE_3_5_RANDOM) < 25
    else:
        assert lesson.cells_as_printed(found, lesson.EXAMPLE_3_5_BEST) < 25


def test_without_the_mask_the_first_guess_of_an_end_never_goes_away():
    """The breakage in section 8."""
    broken, mdp = plant(lesson, "(V * ~mdp.terminal)", "V"), lesson.world_4x3()
    best, _ = lesson.value_iteration(mdp, 1e-9)

    def solve(module, guess):
        return module.iterate(lambda V: module.optimality_backup(mdp, V), guess, 1e-12)[0]

    floor = ~mdp.terminal
    np.testing.assert_allclose(solve(broken, np.zeros(12)), best, atol=1e-8)
    np.testing.assert_allclose(solve(broken, np.ones(12))[floor], best[floor] + 1.0, atol=1e-8)
    np.testing.assert_allclose(solve(lesson, np.ones(12))[floor], best[floor], atol=1e-8)


def test_a_process_without_end_or_discount_is_reported():
    """Exercise 2."""
    mdp = lesson.example_3_5()._replace(gamma=1.0)
    lesson_with_patience = plant(lesson, "MAX_SWEEPS = 100_000", "MAX_SWEEPS = 1_000")
    with pytest.raises(RuntimeError, match="does every episode end"):
        lesson_with_patience.value_iteration(mdp, 1e-9)


def test_ties_are_all_kept():
    """In the 5x5 grid every action is best on the two cells that teleport."""
    _, policy, _ = lesson.policy_iteration(lesson.example_3_5())
    np.testing.assert_allclose(policy[[1, 3]], 0.25)
    np.testing.assert_allclose(policy[5], [0.5, 0.5, 0.0, 0.0])  # up or right
