"""Checks of lesson A3's functions against definitions written out in loops and sums."""

import itertools

import jax
import numpy as np

from chapters.exact.mdp import MDP
from chapters.utils.edits import Edit


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
    return rng, MDP(P, R, terminal, gamma)


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
    """The value, or several, as sums of discounted rewards over a long horizon, with no backup in them."""
    chain = np.einsum("...sa,sat->...st", policy, mdp.P)
    where, total, rewards = np.eye(chain.shape[-1]), 0.0, (policy * mdp.R).sum(axis=-1)[..., None]
    for t in range(horizon):  # ends give no reward, so they need no special treatment here
        total = total + mdp.gamma**t * (where @ rewards)[..., 0]
        where = where @ chain
    return total


def best_by_enumeration(mdp):
    S, A = mdp.R.shape
    choices = np.array(list(itertools.product(range(A), repeat=S)))
    return value_by_powers(mdp, np.eye(A)[choices], 400).max(axis=0)


def small_mdp(seed, gamma=0.8):
    return some_mdp(seed, gamma, num_states=5, num_actions=2)[1]


def near(value, expected, tolerance=1e-10):
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance)


def refused(call):
    """Whether a call ends in a RuntimeError."""
    try:
        call()
    except RuntimeError:
        return True
    return False


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
        policy = rng.dirichlet(np.ones(3), size=6)
        V = value_by_powers(mdp, policy)
        near(evaluate_exactly(mdp, policy), V, 1e-9)
        near(evaluate_exactly(restarting(mdp), policy)[1:-1], V[1:-1], 1e-9)
    rng, mdp = some_mdp(9, gamma=1.0)
    always = mdp._replace(terminal=np.zeros(6, dtype=bool))
    always = always._replace(R=always.R + 1.0)
    policy = rng.dirichlet(np.ones(3), size=6)
    assert refused(lambda: evaluate_exactly(always, policy)), (
        "rewards that are paid for ever must be reported"
    )


def check_stopping_gap(stopping_gap):
    """The promise is kept exactly in the worst case: one state that pays 1 for ever."""
    for gamma in (0.1, 0.5, 0.9, 0.99):
        gap, V = stopping_gap(gamma, 1e-3), 0.0
        assert gap > 0.0, f"gamma {gamma}: no change is ever below {gap}"
        while abs(1.0 + gamma * V - V) > gap:
            V = 1.0 + gamma * V
        after = 1.0 + gamma * V
        assert abs(after - 1 / (1 - gamma)) <= 1e-3 * (1 + 1e-9), f"gamma {gamma}: stops too early"
        assert abs(V - 1 / (1 - gamma)) > 1e-3 * 0.999, f"gamma {gamma}: stops later than needed"
    gap = stopping_gap(1.0, 1e-3)
    assert 0.0 < gap < 1e-3, f"gamma 1 promises nothing; section 3 says what to take in place of {gap}"


def check_iterate(iterate):
    """A backup whose iterates are known: V -> V / 2 + 1 from V = 4 is 2 + 2 / 2^k after k sweeps."""
    start = np.array([4.0, 2.0])
    V, sweeps = iterate(lambda V: V / 2 + 1, start, gap=2.0**-10)
    assert sweeps == 11  # sweep k moves the first entry by 2 / 2^k, so 2^-10 is met at k = 11
    near(V, [2 + 2 / 2**11, 2.0])
    np.testing.assert_array_equal(start, [4.0, 2.0])
    endless = refused(lambda: iterate(lambda V: V + 1, start, gap=0.5))
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
    for scale in (1e-9, 1e9):  # a tie is a tie in any unit, and so is a difference
        near(greedy_policy(scale * np.array([[1.0, 1.0 + 1e-6]])), [[0, 1]])
        near(greedy_policy(scale * np.array([[1.0, 1.0 + 1e-13]])), [[0.5, 0.5]])


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
    same = MDP(np.full((S, A, S), 1 / S), np.ones((S, A)), np.zeros(S, dtype=bool), 0.5)
    V, policy, evaluations = policy_iteration(same)
    near(V, np.full(S, 2.0))
    near(policy, np.full((S, A), 0.5))
    assert evaluations == 1
    mdp = small_mdp(8)
    _, best, _ = policy_iteration(mdp)
    for scale in (1e-8, 1e8):  # other units, the same policy
        V, policy, _ = policy_iteration(mdp._replace(R=scale * mdp.R))
        near(policy, best)
        near(V / scale, best_by_enumeration(mdp), 1e-9)


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


def check_solve_with_jax(solve_with_jax):
    for seed in range(3):
        mdp = small_mdp(seed, gamma=0.95)
        V = solve_with_jax(mdp, 1e-6)
        assert V.dtype == np.float64
        near(V, best_by_enumeration(mdp), 1e-6)
    # a debt of 1e9 is paid back but for 1, which 32 bits round away
    P = np.eye(3)[[1, 2, 2]][:, None]
    debt = MDP(P, np.array([[1 - 0.5e9], [1e9], [0.0]]), np.array([False, False, True]), gamma=0.5)
    near(solve_with_jax(debt, 1e-6), [1.0, 1e9, 0.0], 1e-6)
    assert not jax.config.jax_enable_x64  # the switch is local


PRINTED = ("example_3_5_random", "example_3_5_best", "example_4_1_random", "world_4x3_best")
BEST = ("example_3_5_best", "world_4x3_best")

EDITS = {
    "no_gamma": Edit(
        function="q_from_v",
        old="mdp.R + mdp.gamma * (mdp.P",
        new="mdp.R + (mdp.P",
        says="the future counts in full: without an end the values grow for ever",
        fails=PRINTED,
    ),
    "wrong_sign": Edit(
        function="q_from_v",
        old="mdp.R + mdp.gamma * (mdp.P",
        new="mdp.R - mdp.gamma * (mdp.P",
        says="the future is subtracted",
        fails=PRINTED,
    ),
    "no_mask": Edit(
        function="q_from_v",
        old="(V * ~mdp.terminal)",
        new="V",
        says="an end keeps whatever value was guessed for it; from a guess of 0, nobody notices",
    ),
    "axes_swapped": Edit(
        function="q_from_v",
        old="(mdp.P @ (V",
        new="(mdp.P.transpose(2, 1, 0) @ (V",
        says="sums over where one came from instead of where one goes",
        fails=("example_3_5_best", "example_4_1_random", "world_4x3_best"),
    ),
    "policy_ignored": Edit(
        function="policy_backup",
        old="(policy * q_from_v(mdp, V)).sum(axis=1)",
        new="q_from_v(mdp, V).mean(axis=1)",
        says="averages over the actions as if every policy were the random one",
    ),
    "max_for_mean": Edit(
        function="policy_backup",
        old="(policy * q_from_v(mdp, V)).sum(axis=1)",
        new="q_from_v(mdp, V).max(axis=1)",
        says="gives each policy the value of the best one",
        fails=("example_4_1_random",),
    ),
    "mean_for_max": Edit(
        function="optimality_backup",
        old="q_from_v(mdp, V).max(axis=1)",
        new="q_from_v(mdp, V).mean(axis=1)",
        says="averages where it should choose: the random policy's value",
        fails=BEST,
    ),
    "min_for_max": Edit(
        function="optimality_backup",
        old="q_from_v(mdp, V).max(axis=1)",
        new="q_from_v(mdp, V).min(axis=1)",
        says="chooses the worst action",
        fails=PRINTED,
    ),
    "max_over_states": Edit(
        function="optimality_backup",
        old="q_from_v(mdp, V).max(axis=1)",
        new="q_from_v(mdp, V).max(axis=0)",
        says="chooses the best state for each action",
        fails=PRINTED,
    ),
    "solve_without_gamma": Edit(
        function="evaluate_exactly",
        old="- mdp.gamma * P_policy",
        new="- P_policy",
        says="solves for the undiscounted sum",
        fails=("example_3_5_random",),
    ),
    "solve_wrong_sign": Edit(
        function="evaluate_exactly",
        old="- mdp.gamma * P_policy",
        new="+ mdp.gamma * P_policy",
        says="solves for the future subtracted",
        fails=("example_3_5_random",),
    ),
    "solve_transposed": Edit(
        function="evaluate_exactly",
        old='"sa,sat->st"',
        new='"sa,sat->ts"',
        says="solves with the moves run backwards",
        fails=("example_3_5_random",),
    ),
    "solve_without_mask": Edit(
        function="evaluate_exactly",
        old=", mdp.P) * going_on",
        new=", mdp.P)",
        says="goes on after an end",
    ),
    "endless_unnoticed": Edit(
        function="evaluate_exactly",
        old="~where_it_ends(mdp, policy)",
        new="~mdp.terminal",
        says="solves a system without a solution where rewards are paid for ever",
    ),
    "rewards_of_random_policy": Edit(
        function="evaluate_exactly",
        old="(policy * mdp.R).sum(axis=1)",
        new="mdp.R.mean(axis=1)",
        says="rewards as if every policy were the random one",
    ),
    "change_for_error": Edit(
        function="stopping_gap",
        old="tolerance * (1.0 - gamma) / max(gamma, 1e-12)",
        new="tolerance",
        says="takes the last change for the error that is left",
    ),
    "factor_upside_down": Edit(
        function="stopping_gap",
        old="(1.0 - gamma) / max(gamma, 1e-12)",
        new="gamma / (1.0 - gamma)",
        says="stops the sooner, the more the future counts",
    ),
    "one_sweep": Edit(
        function="iterate",
        old="        if np.abs(V - old).max() <=",
        new="        if True or np.abs(V - old).max() <=",
        says="stops after one sweep",
        fails=("example_3_5_best", "example_4_1_random", "world_4x3_best"),
    ),
    "smallest_change": Edit(
        function="iterate",
        old="np.abs(V - old).max() <=",
        new="np.abs(V - old).min() <=",
        says="stops as soon as one state has settled",
        fails=("example_3_5_best", "example_4_1_random", "world_4x3_best"),
    ),
    "signed_change": Edit(
        function="iterate",
        old="np.abs(V - old).max() <=",
        new="(V - old).max() <=",
        says="takes falling values for settled ones",
        fails=("example_4_1_random",),
    ),
    "sweep_too_few": Edit(
        function="iterate",
        old="            return V, sweep\n",
        new="            return old, sweep\n",
        says="returns the value before the last sweep",
    ),
    "best_for_policy": Edit(
        function="evaluate_iteratively",
        old="lambda V: policy_backup(mdp, policy, V)",
        new="lambda V: optimality_backup(mdp, V)",
        says="evaluates the best policy instead of the given one",
        fails=("example_4_1_random",),
    ),
    "evaluation_stops_early": Edit(
        function="evaluate_iteratively",
        old="gap = stopping_gap(mdp.gamma, tolerance)",
        new="gap = 1e3 * tolerance",
        says="stops before the promise is kept",
    ),
    "worst_action": Edit(
        function="greedy_policy",
        old="Q.max(axis=1, keepdims=True) - Q",
        new="Q - Q.min(axis=1, keepdims=True)",
        says="takes the worst action",
    ),
    "first_tie_only": Edit(
        function="greedy_policy",
        old="best = shortfall <= TIE * np.abs(Q).max()",
        new="best = np.eye(Q.shape[1])[Q.argmax(axis=1)]",
        says="keeps the first of equally good actions only",
    ),
    "ties_broken_by_rounding": Edit(
        function="greedy_policy",
        old="shortfall <= TIE * np.abs(Q).max()",
        new="shortfall <= 0.0",
        says="lets rounding decide between equally good actions",
    ),
    "absolute_tie": Edit(
        function="greedy_policy",
        old="TIE * np.abs(Q).max()",
        new="TIE",
        says="measures ties in units of the reward: with large ones rounding decides, and turns never end",
    ),
    "weights_not_normalised": Edit(
        function="greedy_policy",
        old="best / best.sum(axis=1, keepdims=True)",
        new="best * 1.0",
        says="probabilities that sum to the number of ties",
    ),
    "one_improvement": Edit(
        function="policy_iteration",
        old="if not policy[greedy <= 0.0].any():",
        new="if True:",
        says="stops after one turn",
    ),
    "content_too_soon": Edit(
        function="policy_iteration",
        old="if not policy[greedy <= 0.0].any():",
        new="if policy[greedy > 0.0].any():",
        says="stops when any weight is on a best action",
    ),
    "value_of_random_policy": Edit(
        function="value_iteration",
        old="lambda V: optimality_backup(mdp, V)",
        new="lambda V: q_from_v(mdp, V).mean(axis=1)",
        says="sweeps for the random policy's value",
        fails=BEST,
    ),
    "control_stops_early": Edit(
        function="value_iteration",
        old="gap = stopping_gap(mdp.gamma, tolerance)",
        new="gap = 0.1",
        says="stops while the values still move visibly",
        fails=BEST,
    ),
    "jax_in_32_bits": Edit(
        function="solve_with_jax",
        old="jax.enable_x64(True)",
        new="jax.enable_x64(False)",
        says="32 bits: the last digits never settle",
    ),
    "jax_mean_for_max": Edit(
        function="solve_with_jax",
        old="lambda V: optimality_backup(mdp, V)",
        new="lambda V: q_from_v(mdp, V).mean(axis=1)",
        says="compiles the random policy's backup",
    ),
    "jax_stops_early": Edit(
        function="solve_with_jax",
        old="np.zeros(len(mdp.R)), stopping_gap(mdp.gamma, tolerance))",
        new="np.zeros(len(mdp.R)), 0.1)",
        says="stops while the values still move visibly",
    ),
}
