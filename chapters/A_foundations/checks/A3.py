"""Checks of lesson A3's functions against definitions written out in loops and sums."""

import itertools
import sys

import jax
import numpy as np

from chapters.utils.edits import Edit

TURNS = ((0, 0.5), (1, 0.25), (-1, 0.25))  # the quarter turns of a floor with slip 0.5
STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))


def some_mdp(seed, gamma=0.9, num_states=6, num_actions=3):
    """Random arrays with two terminal states that lead only to themselves with reward 0."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    R = rng.normal(size=(num_states, num_actions))
    terminal = np.zeros(num_states, dtype=bool)
    terminal[[0, num_states - 1]] = True
    for s in np.flatnonzero(terminal):
        P[s], R[s] = 0.0, 0.0
        P[s, :, s] = 1.0
    return rng, world(P, R, terminal, gamma)


def world(P, R, terminal, gamma):
    """The arrays under the names the lesson uses."""
    from chapters.A_foundations.A3_mdp_and_bellman import MDP

    return MDP(P, R, terminal, gamma)


def in_the_terms_of(function, mdp):
    """`mdp` as the class that the module of `function` calls MDP: a copy in another lesson has its own."""
    return getattr(sys.modules.get(function.__module__), "MDP", type(mdp))(*mdp)


def lookahead(mdp, V):
    """Equation (2), in loops."""
    S, A = mdp.R.shape
    Q = np.zeros((S, A))
    for s, a in itertools.product(range(S), range(A)):
        future = sum(mdp.P[s, a, n] * V[n] for n in range(S) if not mdp.terminal[n])
        Q[s, a] = mdp.R[s, a] + mdp.gamma * future
    return Q


def restarting(mdp):
    """The same process, except that from its ends one could go on to state 1, for a reward of 7.

    Nothing comes after an end, so nobody outside the ends may notice.
    """
    P, R = mdp.P.copy(), mdp.R.copy()
    P[mdp.terminal] = np.eye(len(P))[1]
    R[mdp.terminal] = 7.0
    return mdp._replace(P=P, R=R)


def value_by_powers(mdp, policy, horizon=2500):
    """The value as the sum of discounted rewards over a long horizon, with no backup in it."""
    chain = np.einsum("sa,sat->st", policy, mdp.P)
    where, total, rewards = np.eye(len(chain)), 0.0, (policy * mdp.R).sum(axis=1)
    for t in range(horizon):  # ends give no reward, so they need no special treatment here
        total = total + mdp.gamma**t * where @ rewards
        where = where @ chain
    return total


def best_by_enumeration(mdp):
    S, A = mdp.R.shape
    choices = itertools.product(range(A), repeat=S)
    return np.max([value_by_powers(mdp, np.eye(A)[list(c)], 400) for c in choices], axis=0)


def small_mdp(seed, gamma=0.8):
    return some_mdp(seed, gamma, num_states=5, num_actions=2)[1]


def near(value, expected, tolerance=1e-10):
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)


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


def check_q_from_v(q_from_v):
    for seed in range(5):
        rng, mdp = some_mdp(seed, gamma=rng_gamma(seed))
        V = rng.normal(size=6)  # not zero at the ends
        near(q_from_v(mdp, V), lookahead(mdp, V))


def rng_gamma(seed):
    return (0.9, 1.0, 0.5, 0.99, 0.1)[seed % 5]


def check_policy_backup(policy_backup):
    for seed in range(5):
        rng, mdp = some_mdp(seed, gamma=rng_gamma(seed))
        V, policy = rng.normal(size=6), rng.dirichlet(np.ones(3), size=6)
        Q = lookahead(mdp, V)
        near(policy_backup(mdp, policy, V), [sum(policy[s, a] * Q[s, a] for a in range(3)) for s in range(6)])


def check_optimality_backup(optimality_backup):
    for seed in range(5):
        rng, mdp = some_mdp(seed, gamma=rng_gamma(seed))
        V = rng.normal(size=6)
        near(optimality_backup(mdp, V), [max(row) for row in lookahead(mdp, V)])


def check_evaluate_exactly(evaluate_exactly):
    for seed in range(4):
        rng, mdp = some_mdp(seed, gamma=(0.9, 1.0, 0.5, 0.95)[seed])
        mdp = in_the_terms_of(evaluate_exactly, mdp)
        policy = rng.dirichlet(np.ones(3), size=6)
        V = value_by_powers(mdp, policy)
        near(evaluate_exactly(mdp, policy), V, 1e-9)
        near(evaluate_exactly(restarting(mdp), policy)[1:-1], V[1:-1], 1e-9)


def check_stopping_gap(stopping_gap):
    """The promise is kept exactly in the worst case: one state that pays 1 for ever."""
    for gamma in (0.1, 0.5, 0.9, 0.99):
        gap, V = stopping_gap(gamma, 1e-3), 0.0
        while abs(1.0 + gamma * V - V) > gap:
            V = 1.0 + gamma * V
        after = 1.0 + gamma * V
        assert abs(after - 1 / (1 - gamma)) <= 1e-3 * (1 + 1e-9)  # close enough,
        assert abs(V - 1 / (1 - gamma)) > 1e-3 * 0.999  # and not a sweep later than needed
    assert 0.0 < stopping_gap(1.0, 1e-3) < 1e-3


def check_iterate(iterate):
    """A backup whose iterates are known: V -> V / 2 + 1 from V = 4 is 2 + 2 / 2^k after k sweeps."""
    start = np.array([4.0, 2.0])
    V, sweeps = iterate(lambda V: V / 2 + 1, start, gap=2.0**-10)
    assert sweeps == 11  # sweep k moves the first entry by 2 / 2^k, so 2^-10 is met at k = 11
    near(V, [2 + 2 / 2**11, 2.0])
    np.testing.assert_array_equal(start, [4.0, 2.0])
    endless = False
    try:
        iterate(lambda V: V + 1, start, gap=0.5)
    except RuntimeError:
        endless = True
    assert endless, "a value that never settles must be reported"


def check_evaluate_iteratively(evaluate_iteratively):
    for seed in range(4):
        rng, mdp = some_mdp(seed, gamma=(0.9, 1.0, 0.5, 0.95)[seed])
        policy = rng.dirichlet(np.ones(3), size=6)
        V, sweeps = evaluate_iteratively(mdp, policy, 1e-6)
        near(V, value_by_powers(mdp, policy), 1e-6)
        assert sweeps > 1
        V, _ = evaluate_iteratively(restarting(mdp), policy, 1e-6)
        near(V[1:-1], value_by_powers(mdp, policy)[1:-1], 1e-6)


def check_greedy_policy(greedy_policy):
    Q = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, -1.0], [0.0, 0.0, 0.0], [-3.0, -2.0, -2.0 - 1e-13]])
    near(greedy_policy(Q), [[0, 1, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0.5, 0.5]])
    near(greedy_policy(np.array([[1.0, 1.0 + 1e-6]])), [[0, 1]])


def check_policy_iteration(policy_iteration):
    for seed in range(5):
        mdp = small_mdp(seed)
        V, policy, evaluations = policy_iteration(mdp)
        best = best_by_enumeration(mdp)
        near(V, best, 1e-9)
        near(value_by_powers(mdp, policy), best, 1e-9)
        near(policy_iteration(restarting(mdp))[0][1:-1], best[1:-1], 1e-9)
        assert 1 <= evaluations <= 2**3 + 1  # no policy comes twice (2 actions in 3 states)
    # every action as good as any other: the random policy is optimal at once, and all ties stay
    S, A = 3, 2
    same = world(np.full((S, A, S), 1 / S), np.ones((S, A)), np.zeros(S, dtype=bool), 0.5)
    V, policy, evaluations = policy_iteration(same)
    near(V, np.full(S, 2.0))
    near(policy, np.full((S, A), 0.5))
    assert evaluations == 1


def check_value_iteration(value_iteration):
    for seed in range(5):
        mdp = small_mdp(seed)
        V, _ = value_iteration(mdp, 1e-6)
        best = best_by_enumeration(mdp)
        near(V, best, 1e-6)
        near(value_iteration(restarting(mdp), 1e-6)[0][1:-1], best[1:-1], 1e-6)
    _, mdp = some_mdp(7, gamma=1.0)
    V, _ = value_iteration(mdp._replace(R=mdp.R - 5.0 * ~mdp.terminal[:, None]), 1e-6)  # ends are welcome
    assert (V[[0, 5]] == 0).all()


def check_contraction_ratio(contraction_ratio):
    """On a chain of one state the ratio is 1; behind an end it is 0; else as defined."""
    one = world(np.ones((1, 2, 1)), np.zeros((1, 2)), np.zeros(1, dtype=bool), 0.9)
    near(contraction_ratio(one, None, np.array([1.0]), np.array([-2.0])), 1.0)
    near(contraction_ratio(one._replace(terminal=np.ones(1, dtype=bool)), None, np.ones(1), -np.ones(1)), 0.0)
    for seed in range(5):
        rng, mdp = some_mdp(seed, gamma=rng_gamma(seed))
        U, V = rng.normal(size=(2, 6))
        policy = rng.dirichlet(np.ones(3), size=6)
        Qu, Qv = lookahead(mdp, U), lookahead(mdp, V)
        below = mdp.gamma * max(abs(U - V))
        near(contraction_ratio(mdp, None, U, V), max(abs(Qu.max(1) - Qv.max(1))) / below)
        near(contraction_ratio(mdp, policy, U, V), max(abs((policy * (Qu - Qv)).sum(1))) / below)


def check_value_iteration_jax(value_iteration_jax):
    for seed in range(3):
        mdp = small_mdp(seed)
        with jax.enable_x64(True):
            V, sweeps = value_iteration_jax(mdp, 1e-9)
            V, sweeps = np.asarray(V), int(sweeps)
        assert V.dtype == np.float64
        near(V, best_by_enumeration(mdp), 1e-8)
        assert sweeps > 5


def check_solve_with_jax(solve_with_jax):
    for seed in range(3):
        mdp = small_mdp(seed, gamma=0.95)
        V = solve_with_jax(mdp, 1e-6)
        assert V.dtype == np.float64
        near(V, best_by_enumeration(mdp), 1e-6)
    assert not jax.config.jax_enable_x64  # the switch is local


def check_cells_as_printed(cells_as_printed):
    V = np.array([1.04, -0.26, 3.0, 7.0])
    assert cells_as_printed(V, "1.0 -0.3 3.0 7.0") == 4
    assert cells_as_printed(V, "1.1 -0.2 3.0 nan") == 1
    assert cells_as_printed(V, "1.04 -0.3 3.0 7.0") == 3  # two decimals now, as the first entry has
    assert cells_as_printed(np.array([-14.0000001, 2.4]), "-14. 2.") == 2


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


EDITS = {
    "slips_backwards_instead_sideways": Edit(
        function="grid_mdp",
        old="(-1, slip / 2)):",
        new="(2, slip / 2)):",
        says="slips backwards instead of sideways",
    ),
    "slips_twice_probability": Edit(
        function="grid_mdp",
        old="((0, 1.0 - slip), (1, slip / 2), (-1, slip / 2))",
        new="((0, 1.0 - 2 * slip), (1, slip), (-1, slip))",
        says="slips with twice the probability",
    ),
    "pays_cell_leaves": Edit(
        function="grid_mdp",
        old="cells.flat[next_s], 0.0)",
        new="cells.flat[s], 0.0)",
        says="pays for the cell it leaves",
    ),
    "ends_are_not_absorbing": Edit(
        function="grid_mdp",
        old="        if terminal[s]:\n",
        new="        if False:\n",
        says="ends are not absorbing",
    ),
    "rows_columns_swapped": Edit(
        function="grid_mdp",
        old="s // columns + move[0], s % columns + move[1]",
        new="s // columns + move[1], s % columns + move[0]",
        says="rows and columns swapped",
    ),
    "last_outcome_overwrites_others": Edit(
        function="grid_mdp",
        old="P[s, a, next_s] += probability",
        new="P[s, a, next_s] = probability",
        says="last outcome overwrites the others",
    ),
    "gamma_missing": Edit(
        function="q_from_v",
        old="mdp.R + mdp.gamma * (mdp.P",
        new="mdp.R + (mdp.P",
        says="gamma missing",
    ),
    "wrong_sign": Edit(
        function="q_from_v",
        old="mdp.R + mdp.gamma * (mdp.P",
        new="mdp.R - mdp.gamma * (mdp.P",
        says="wrong sign",
    ),
    "bootstraps_through_terminal_state": Edit(
        function="q_from_v",
        old="(V * ~mdp.terminal)",
        new="V",
        says="bootstraps through a terminal state",
    ),
    "axes_p_swapped": Edit(
        function="q_from_v",
        old="(mdp.P @ (V",
        new="(mdp.P.transpose(2, 1, 0) @ (V",
        says="axes of P swapped",
    ),
    "ignores_policy": Edit(
        function="policy_backup",
        old="(policy * q_from_v(mdp, V)).sum(axis=1)",
        new="q_from_v(mdp, V).mean(axis=1)",
        says="ignores the policy",
    ),
    "takes_maximum": Edit(
        function="policy_backup",
        old="(policy * q_from_v(mdp, V)).sum(axis=1)",
        new="q_from_v(mdp, V).max(axis=1)",
        says="takes the maximum",
    ),
    "mean_maximum": Edit(
        function="optimality_backup",
        old="q_from_v(mdp, V).max(axis=1)",
        new="q_from_v(mdp, V).mean(axis=1)",
        says="mean for maximum",
    ),
    "minimum": Edit(
        function="optimality_backup",
        old="q_from_v(mdp, V).max(axis=1)",
        new="q_from_v(mdp, V).min(axis=1)",
        says="minimum",
    ),
    "maximum_over_states": Edit(
        function="optimality_backup",
        old="q_from_v(mdp, V).max(axis=1)",
        new="q_from_v(mdp, V).max(axis=0)",
        says="maximum over states",
    ),
    "evaluate_exactly_gamma_missing": Edit(
        function="evaluate_exactly",
        old="- mdp.gamma * P_policy",
        new="- P_policy",
        says="gamma missing",
    ),
    "evaluate_exactly_wrong_sign": Edit(
        function="evaluate_exactly",
        old="- mdp.gamma * P_policy",
        new="+ mdp.gamma * P_policy",
        says="wrong sign",
    ),
    "transposed": Edit(
        function="evaluate_exactly",
        old='"sa,sat->st"',
        new='"sa,sat->ts"',
        says="transposed",
    ),
    "ends_not_masked": Edit(
        function="evaluate_exactly",
        old=", mdp.P) * ~mdp.terminal",
        new=", mdp.P)",
        says="ends not masked",
    ),
    "rewards_not_weighted_policy": Edit(
        function="evaluate_exactly",
        old="(policy * mdp.R).sum(axis=1)",
        new="mdp.R.mean(axis=1)",
        says="rewards not weighted by the policy",
    ),
    "stops_early_change_taken": Edit(
        function="stopping_gap",
        old="tolerance * (1.0 - gamma) / max(gamma, 1e-12)",
        new="tolerance",
        says="stops early: the change taken for the error",
    ),
    "factor_upside_down": Edit(
        function="stopping_gap",
        old="(1.0 - gamma) / max(gamma, 1e-12)",
        new="gamma / (1.0 - gamma)",
        says="factor upside down",
    ),
    "stops_after_one_sweep": Edit(
        function="iterate",
        old="    if np.abs(V - old).max() <= gap:\n",
        new="    if True:\n",
        says="stops after one sweep",
    ),
    "smallest_change_largest": Edit(
        function="iterate",
        old="np.abs(V - old).max() <= gap",
        new="np.abs(V - old).min() <= gap",
        says="smallest change for the largest",
    ),
    "signed_change": Edit(
        function="iterate",
        old="np.abs(V - old).max() <= gap",
        new="(V - old).max() <= gap",
        says="signed change",
    ),
    "returns_value_before_last": Edit(
        function="iterate",
        old="            return V, sweep\n",
        new="            return old, sweep\n",
        says="returns the value before the last sweep",
    ),
    "best_action_policy_s": Edit(
        function="evaluate_iteratively",
        old="lambda V: policy_backup(mdp, policy, V)",
        new="lambda V: optimality_backup(mdp, V)",
        says="the best action for the policy's",
    ),
    "stops_early": Edit(
        function="evaluate_iteratively",
        old="gap = stopping_gap(mdp.gamma, tolerance)",
        new="gap = 1e3 * tolerance",
        says="stops early",
    ),
    "worst_action": Edit(
        function="greedy_policy",
        old="Q.max(axis=1, keepdims=True) - Q",
        new="Q - Q.min(axis=1, keepdims=True)",
        says="worst action",
    ),
    "first_ties_only": Edit(
        function="greedy_policy",
        old="best = shortfall <= TIE",
        new="best = np.eye(Q.shape[1])[Q.argmax(axis=1)]",
        says="first of the ties only",
    ),
    "rounding_breaks_ties": Edit(
        function="greedy_policy",
        old="best = shortfall <= TIE",
        new="best = shortfall <= 0",
        says="rounding breaks ties",
    ),
    "not_normalised": Edit(
        function="greedy_policy",
        old="best / best.sum(axis=1, keepdims=True)",
        new="best * 1.0",
        says="not normalised",
    ),
    "stops_after_one_improvement": Edit(
        function="policy_iteration",
        old="if not policy[greedy <= 0.0].any():",
        new="if True:",
        says="stops after one improvement",
    ),
    "stops_when_any_weight": Edit(
        function="policy_iteration",
        old="if not policy[greedy <= 0.0].any():",
        new="if policy[greedy > 0.0].any():",
        says="stops when any weight is on a best action",
    ),
    "random_policy_s_value": Edit(
        function="value_iteration",
        old="lambda V: optimality_backup(mdp, V)",
        new="lambda V: q_from_v(mdp, V).mean(axis=1)",
        says="the random policy's value",
    ),
    "value_iteration_stops_early": Edit(
        function="value_iteration",
        old="np.zeros(len(mdp.R)), stopping_gap(mdp.gamma, tolerance)",
        new="np.zeros(len(mdp.R)), 0.1",
        says="stops early",
    ),
    "contraction_ratio_gamma_missing": Edit(
        function="contraction_ratio",
        old="/ (mdp.gamma * np.abs(U - V).max())",
        new="/ np.abs(U - V).max()",
        says="gamma missing",
    ),
    "compares_one_state": Edit(
        function="contraction_ratio",
        old="np.abs(backup(U) - backup(V)).max()",
        new="np.abs(backup(U) - backup(V))[0]",
        says="compares one state",
    ),
    "always_optimal_backup": Edit(
        function="contraction_ratio",
        old=" if policy is None else policy_backup(mdp, policy, values)",
        new="",
        says="always the optimal backup",
    ),
    "value_iteration_jax_mean_maximum": Edit(
        function="value_iteration_jax",
        old="new = optimality_backup(mdp, V)",
        new="new = q_from_v(mdp, V).mean(axis=1)",
        says="mean for maximum",
    ),
    "value_iteration_jax_stops_after_one_sweep": Edit(
        function="value_iteration_jax",
        old="return (state[1] > gap) &",
        new="return (state[1] == np.inf) &",
        says="stops after one sweep",
    ),
    "e_32_bits": Edit(
        function="solve_with_jax",
        old="jax.enable_x64(True)",
        new="jax.enable_x64(False)",
        says="32 bits",
    ),
    "solve_jax_stops_early": Edit(
        function="solve_with_jax",
        old="(mdp, stopping_gap(mdp.gamma, tolerance))\n        return",
        new="(mdp, 0.1)\n        return",
        says="stops early",
    ),
    "whole_numbers_only": Edit(
        function="cells_as_printed",
        old="np.round(V, decimals)",
        new="np.round(V)",
        says="whole numbers only",
    ),
    "cuts_instead_rounding": Edit(
        function="cells_as_printed",
        old="np.round(V, decimals)",
        new="np.trunc(V * 10**decimals) / 10**decimals",
        says="cuts instead of rounding",
    ),
    "end_pays": Edit(
        function="random_mdp",
        old="P[-1], R[-1] = 0.0, 0.0",
        new="P[-1] = 0.0",
        says="the end pays",
    ),
    "end_leads": Edit(
        function="random_mdp",
        old="    P[-1, :, -1] = 1.0\n",
        new="    P[-1, :, 0] = 1.0\n",
        says="the end leads on",
    ),
    "mean_over_policies": Edit(
        function="best_of_all_policies",
        old="np.max([evaluate_exactly",
        new="np.mean([evaluate_exactly",
        says="mean over policies",
    ),
    "worst_policy": Edit(
        function="best_of_all_policies",
        old="np.max([evaluate_exactly",
        new="np.min([evaluate_exactly",
        says="worst policy",
    ),
}
