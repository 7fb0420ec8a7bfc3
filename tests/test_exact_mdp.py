"""Exact values of processes given as arrays, by linear programming and by hand; and what is refused."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from chapters.A_foundations.checks.A3 import near, refused, restarting, some_mdp
from chapters.exact import mdp as exact
from chapters.utils.edits import Edit, edited

TURNS = ((0, 0.5), (1, 0.25), (-1, 0.25))  # the quarter turns of a floor with slip 0.5
STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))


def check_grid_mdp(grid_mdp):
    """Every (state, action) of an uneven grid, followed by hand; and what must hold of any grid."""
    grid = ("..G#", "P#..", "...T")
    mdp = grid_mdp(grid, 0.7, slip=0.5, step_reward=-0.1, bump_reward=-0.3)
    rewards, flat = {"G": 1.0, "P": -1.0, "T": 0.0}, "".join(grid)
    assert mdp.gamma == 0.7
    assert mdp.P.shape == (12, 4, 12)
    np.testing.assert_array_equal(mdp.terminal, [symbol in "GPT#" for symbol in flat])
    for s, a in itertools.product(range(12), range(4)):
        P, R = np.zeros(12), 0.0
        for turn, chance in TURNS:
            down, right = STEPS[(a + turn) % 4]
            row, column = divmod(s, 4)
            row, column = row + down, column + right
            free = row in range(3) and column in range(4) and grid[row][column] != "#"
            landing = 4 * row + column if free else s
            P[landing] += chance
            R += chance * (-0.1 + (0 if free else -0.3) + rewards.get(flat[landing], 0.0))
        if flat[s] in "GPT#":
            P, R = np.eye(12)[s], 0.0
        near(mdp.P[s, a], P)
        near(mdp.R[s, a], R)
    sure = grid_mdp(("S.",), 1.0)
    np.testing.assert_array_equal(sure.P[0].argmax(axis=1), [0, 1, 0, 0])  # only "right" moves


def check_reaching(reaching):
    """0 -> 1 -> 2, and 3 by itself: who can come to whom."""
    chain = np.zeros((4, 4))
    chain[0, 1] = chain[1, 2] = 0.5
    chain[3, 3] = 1.0
    for goal, expected in ((2, [1, 1, 1, 0]), (1, [1, 1, 0, 0]), (0, [1, 0, 0, 0]), (3, [0, 0, 0, 1])):
        np.testing.assert_array_equal(reaching(chain, np.arange(4) == goal), np.array(expected, dtype=bool))


def check_where_it_ends(where_it_ends):
    """A walled-in cell, a world that pays for ever, and one that pays behind its end."""
    walled = exact.grid_mdp(("..#.", "G.##"), gamma=1.0)
    anywhere = np.full((8, 4), 0.25)
    np.testing.assert_array_equal(np.flatnonzero(where_it_ends(walled, anywhere)), [2, 3, 4, 6, 7])
    dear = exact.grid_mdp(("..#.", "G.##"), gamma=1.0, step_reward=-1.0)
    assert refused(lambda: where_it_ends(dear, anywhere))
    np.testing.assert_array_equal(where_it_ends(dear._replace(gamma=0.9), anywhere), dear.terminal)
    back_and_forth = np.eye(4)[[1, 3, 0, 0, 0, 0, 0, 0]]  # between cells 0 and 1 for ever, for nothing
    assert where_it_ends(walled, back_and_forth).all()
    assert refused(lambda: where_it_ends(dear, back_and_forth))
    rng, mdp = some_mdp(0, gamma=1.0)
    policy = rng.dirichlet(np.ones(3), size=6)
    np.testing.assert_array_equal(where_it_ends(restarting(mdp), policy), mdp.terminal)
    assert where_it_ends(restarting(mdp._replace(R=0.0 * mdp.R)), policy).all()  # paid behind an end: never
    for scale in (1e-8, 1.0, 1e8):  # 0.1 + 0.2 - 0.3 is rounding: nothing is paid on average
        fair = exact.MDP(np.ones((1, 3, 1)), scale * np.array([[0.1, 0.2, -0.3]]), np.zeros(1, bool), 1.0)
        assert where_it_ends(fair, np.full((1, 3), 1 / 3)).all()
        assert refused(lambda: where_it_ends(fair, np.array([[0.3, 0.3, 0.4]])))  # noqa: B023
    leaking = np.zeros((2, 1, 2))
    leaking[0, 0], leaking[1, 0, 1] = (1.0, 1e-17), 1.0
    leaking = exact.MDP(leaking, np.array([[-1.0], [0.0]]), np.array([False, True]), 1.0)
    assert refused(lambda: where_it_ends(leaking, np.ones((2, 1))))


CHECKS = {
    name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")
}
WRONG = (
    Edit("grid_mdp", "(-1, slip / 2)):", "(2, slip / 2)):", "slips backwards instead of sideways"),
    Edit(
        "grid_mdp",
        "((0, 1.0 - slip), (1, slip / 2), (-1, slip / 2))",
        "((0, 1.0 - 2 * slip), (1, slip), (-1, slip))",
        "slips with twice the probability",
    ),
    Edit("grid_mdp", "cells.flat[next_s], 0.0)", "cells.flat[s], 0.0)", "pays for the cell it leaves"),
    Edit("grid_mdp", "        if terminal[s]:\n", "        if False:\n", "ends are not absorbing"),
    Edit(
        "grid_mdp",
        "s // columns + move[0], s % columns + move[1]",
        "s // columns + move[1], s % columns + move[0]",
        "rows and columns swapped",
    ),
    Edit(
        "grid_mdp", "P[s, a, next_s] += probability", "P[s, a, next_s] = probability", "outcomes overwritten"
    ),
    Edit("grid_mdp", "bump_reward * blocked", "bump_reward * 0", "bumps are free"),
    Edit("grid_mdp", '["#", *EXIT_REWARD]', "[*EXIT_REWARD]", "walls are floor"),
    Edit("reaching", "chain @ goal", "chain.T @ goal", "backwards"),
    Edit("reaching", "goal | (chain", "(chain", "forgets where it was"),
    Edit("reaching", "        if (goal == before).all():\n", "        if True:\n", "one step only"),
    Edit("where_it_ends", "if mdp.gamma < 1.0:", "if mdp.gamma <= 1.0:", "no look at gamma = 1"),
    Edit("where_it_ends", "mdp.terminal | ~reaching", "mdp.terminal & ~reaching", "walled-in cells go on"),
    Edit("where_it_ends", "chain * ~mdp.terminal, paid", "chain, paid", "looks behind the ends"),
    Edit("where_it_ends", "> ROUNDING * parts.shape[1] * np.abs(parts).max(axis=1)", "> 0", "pays rounding"),
    Edit("where_it_ends", "np.where(chain > ROUNDING, chain, 0.0)", "chain", "ends by rounding"),
    Edit("where_it_ends", "if not reaching(chain, over).all()", "if False", "never refuses"),
    Edit("where_it_ends", "if not reaching(chain, over).all()", "if True", "always refuses"),
)


@pytest.mark.parametrize("name", CHECKS)
def test_function_meets_its_definition(name):
    CHECKS[name](getattr(exact, name))


@pytest.mark.parametrize("edit", WRONG, ids=lambda edit: f"{edit.function}: {edit.says}")
def test_check_rejects_the_edit(edit):
    wrong = edited(exact, edit)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        CHECKS[edit.function](getattr(wrong, edit.function))


def best_by_linear_programming(mdp):
    """The smallest V with V >= R + gamma P V for every action: no backup, no policy."""
    S, A = mdp.R.shape
    going_on = ~mdp.terminal
    rows = mdp.gamma * mdp.P * going_on - np.eye(S)[:, None]  # [S, A, S]
    keep = np.repeat(going_on, A)
    found = linprog(np.ones(S), rows.reshape(-1, S)[keep], -mdp.R.reshape(-1)[keep], bounds=(None, None),
                    A_eq=np.eye(S)[mdp.terminal], b_eq=np.zeros(mdp.terminal.sum()))  # fmt: skip
    return found.x


@pytest.mark.parametrize("gamma", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_policy_iteration_finds_what_linear_programming_finds(seed, gamma):
    _, mdp = some_mdp(seed, gamma=gamma)
    mdp = mdp._replace(R=mdp.R - 3.0 * ~mdp.terminal[:, None])  # ends are welcome
    V, policy, _ = exact.policy_iteration(mdp)
    near(V, best_by_linear_programming(mdp), 1e-7)
    near(exact.evaluate_exactly(mdp, policy), V, 1e-9)


@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_grids_too(slip):
    mdp = exact.grid_mdp(("...G", ".#.P", "S..."), gamma=1.0, slip=slip, step_reward=-0.04)
    near(exact.policy_iteration(mdp)[0], best_by_linear_programming(mdp), 1e-7)


def test_a_walled_in_cell_has_no_value_and_hinders_nobody():
    V, policy, _ = exact.policy_iteration(exact.grid_mdp(("..#.", "G.##"), gamma=1.0))
    near(V, [1, 1, 0, 0, 0, 1, 0, 0])
    near(policy[3], np.full(4, 0.25))


@pytest.mark.parametrize("step_reward", [0.1, 0.001])
def test_a_world_in_which_waiting_pays_is_refused(step_reward):
    mdp = exact.grid_mdp(("...G", ".#.P", "S..."), gamma=1.0, slip=0.2, step_reward=step_reward)
    with pytest.raises(RuntimeError, match="does every episode end"):
        exact.policy_iteration(mdp)


def test_policy_iteration_gives_up_after_its_bound(monkeypatch):
    monkeypatch.setattr(exact, "MAX_EVALUATIONS", 1)
    with pytest.raises(RuntimeError, match="still improving"):
        exact.policy_iteration(exact.grid_mdp(("...G",), gamma=0.9, step_reward=-1.0))
