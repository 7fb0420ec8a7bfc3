"""Right answers to A3's exercises in other idioms: the grader must pass each."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from chapters.A_foundations.A3_mdp_and_bellman import (
    MAX_EVALUATIONS,
    MAX_SWEEPS,
    TIE,
    evaluate_exactly,
    greedy_policy,
    iterate,
    optimality_backup,
    policy_backup,
    q_from_v,
    stopping_gap,
    where_it_ends,
)


def q_from_v__in_loops(mdp, V):
    S, A = mdp.R.shape
    Q = np.zeros((S, A))
    for s in range(S):
        for a in range(A):
            Q[s, a] = mdp.R[s, a]
            for n in range(S):
                if not mdp.terminal[n]:
                    Q[s, a] += mdp.gamma * mdp.P[s, a, n] * V[n]
    return Q


def q_from_v__where(mdp, V):
    later = np.where(mdp.terminal, 0.0, V)
    return mdp.R + mdp.gamma * np.einsum("sat,t->sa", mdp.P, later)


def q_from_v__float_mask(mdp, V):
    going_on = 1.0 - mdp.terminal.astype(float)
    return (mdp.P * going_on * V).sum(axis=-1) * mdp.gamma + mdp.R


def policy_backup__einsum(mdp, policy, V):
    return np.einsum("sa,sa->s", policy, q_from_v(mdp, V))


def policy_backup__in_loops(mdp, policy, V):
    Q = q_from_v(mdp, V)
    values = []
    for s in range(len(Q)):
        values.append(sum(chance * worth for chance, worth in zip(policy[s], Q[s])))
    return np.array(values)


def policy_backup__through_the_chain(mdp, policy, V):
    R_policy = np.sum(policy * mdp.R, axis=1)
    P_policy = np.sum(policy[:, :, None] * mdp.P, axis=1)
    P_policy[:, mdp.terminal] = 0.0
    return R_policy + mdp.gamma * P_policy @ V


def optimality_backup__amax(mdp, V):
    return np.amax(q_from_v(mdp, V), axis=-1)


def optimality_backup__in_loops(mdp, V):
    return np.array([max(row) for row in q_from_v(mdp, V)])


def optimality_backup__action_by_action(mdp, V):
    later = np.where(mdp.terminal, 0.0, V)
    best = np.full(len(V), -np.inf)
    for a in range(mdp.R.shape[1]):
        best = np.maximum(best, mdp.R[:, a] + mdp.gamma * mdp.P[:, a] @ later)
    return best


def evaluate_exactly__zero_columns(mdp, policy):
    P_policy = (policy[:, :, None] * mdp.P).sum(axis=1)
    P_policy[:, where_it_ends(mdp, policy)] = 0.0
    R_policy = np.einsum("sa,sa->s", policy, mdp.R)
    return np.linalg.inv(np.identity(len(P_policy)) - mdp.gamma * P_policy) @ R_policy


def evaluate_exactly__in_loops(mdp, policy):
    S, A = mdp.R.shape
    over = where_it_ends(mdp, policy)
    system, paid = np.eye(S), np.zeros(S)
    for s, a in itertools.product(range(S), range(A)):
        paid[s] += policy[s, a] * mdp.R[s, a]
        for n in range(S):
            if not over[n]:
                system[s, n] -= mdp.gamma * policy[s, a] * mdp.P[s, a, n]
    return np.linalg.solve(system, paid)


def evaluate_exactly__by_doubling(mdp, policy):
    rewards = (policy * mdp.R).sum(axis=1)
    moves = mdp.gamma * np.einsum("sa,sat->st", policy, np.where(mdp.terminal, 0.0, mdp.P))
    V = rewards
    for _ in range(50):  # V sums the first 2^k rewards, `moves` leads 2^k steps on
        V = V + moves @ V
        moves = moves @ moves
        if (moves @ np.abs(rewards) <= 1e-14 * np.abs(rewards).max()).all():
            return V
    raise RuntimeError("rewards are paid for ever")


def stopping_gap__early_return(gamma, tolerance):
    if gamma == 0:
        return np.inf
    if gamma == 1:
        return tolerance / 1000
    return tolerance * (1 - gamma) / gamma


def stopping_gap__one_over_gamma(gamma, tolerance):
    return 1e-3 * tolerance if gamma >= 1.0 else (1.0 / max(gamma, 1e-9) - 1.0) * tolerance


def stopping_gap__factor(gamma, tolerance):
    factor = 0.001
    if gamma < 1:
        factor = np.divide(1 - gamma, np.maximum(gamma, 1e-10))
    return float(factor * tolerance)


def iterate__while(backup, V, gap):
    sweeps = 0
    while sweeps < MAX_SWEEPS:
        new = backup(V)
        sweeps += 1
        change = np.max(np.abs(new - V))
        V = new
        if change <= gap or change <= 1e-15 * np.max(np.abs(V)):
            return V, sweeps
    raise RuntimeError("no end in sight")


def iterate__all(backup, V, gap):
    for sweep in itertools.count(1):
        before = V
        V = backup(before)
        if np.all(np.abs(before - V) <= max(gap, 1e-15 * np.abs(V).max())):
            return V, sweep
        if sweep == MAX_SWEEPS:
            raise RuntimeError("the values keep moving")


def iterate__norm(backup, V, gap):
    sweep, change = 0, np.inf
    while change > gap:
        if sweep >= MAX_SWEEPS:
            raise RuntimeError(f"no end after {sweep} sweeps")
        old = np.array(V)
        V = backup(V)
        sweep += 1
        change = np.linalg.norm(V - old, ord=np.inf)
    return V, sweep


def evaluate_iteratively__named_backup(mdp, policy, tolerance):
    def backup(V):
        return policy_backup(mdp, policy, V)

    return iterate(backup, np.zeros(mdp.R.shape[0]), stopping_gap(mdp.gamma, tolerance))


def evaluate_iteratively__own_loop(mdp, policy, tolerance):
    V = np.zeros(len(mdp.terminal))
    gap = stopping_gap(mdp.gamma, tolerance)
    for sweep in range(1, MAX_SWEEPS + 1):
        new = np.sum(policy * q_from_v(mdp, V), axis=1)
        if np.abs(new - V).max() <= gap:
            return new, sweep
        V = new
    raise RuntimeError("still moving")


def evaluate_iteratively__partial(mdp, policy, tolerance):
    start = np.zeros_like(mdp.R[:, 0])
    V, sweeps = iterate(
        functools.partial(policy_backup, mdp, policy), start, stopping_gap(mdp.gamma, tolerance)
    )
    return V, sweeps


def greedy_policy__isclose(Q):
    best = np.isclose(Q, Q.max(axis=1, keepdims=True), rtol=0.0, atol=TIE * np.abs(Q).max())
    return best / np.count_nonzero(best, axis=1)[:, None]


def greedy_policy__in_loops(Q):
    policy = np.zeros(Q.shape)
    slack = TIE * max(abs(value) for row in Q for value in row)
    for s, row in enumerate(Q):
        best = [a for a, value in enumerate(row) if value >= max(row) - slack]
        for a in best:
            policy[s, a] = 1 / len(best)
    return policy


def greedy_policy__float_mask(Q):
    by_state = Q.T  # [A, S]
    limit = by_state.max(axis=0) - TIE * np.abs(Q).max()
    best = (by_state >= limit).astype(float)
    return (best / best.sum(axis=0)).T


def policy_iteration__until_equal(mdp):
    S, A = mdp.R.shape
    policy = np.ones((S, A)) / A
    for count in range(MAX_EVALUATIONS):
        V = evaluate_exactly(mdp, policy)
        better = greedy_policy(q_from_v(mdp, V))
        if np.array_equal(better, policy):
            return V, policy, count + 1
        policy = better
    raise RuntimeError("still improving")


def policy_iteration__nothing_to_gain(mdp):
    policy = np.full_like(mdp.R, 1.0 / mdp.R.shape[1])
    evaluations = 0
    while evaluations < MAX_EVALUATIONS:
        V = evaluate_exactly(mdp, policy)
        evaluations += 1
        Q = q_from_v(mdp, V)
        if (Q.max(axis=1) - V <= TIE * np.abs(Q).max()).all():  # eq. (3)
            return V, greedy_policy(Q), evaluations
        policy = greedy_policy(Q)
    raise RuntimeError("too many evaluations")


def value_iteration__named_backup(mdp, tolerance):
    def backup(V):
        return optimality_backup(mdp, V)

    V, sweeps = iterate(backup, V=np.zeros(len(mdp.P)), gap=stopping_gap(mdp.gamma, tolerance))
    return V, sweeps


def value_iteration__own_loop(mdp, tolerance):
    V, sweeps = np.zeros(len(mdp.R)), 0
    change, gap = np.inf, stopping_gap(mdp.gamma, tolerance)
    while change > gap:
        if sweeps == MAX_SWEEPS:
            raise RuntimeError("still moving")
        new = np.max(q_from_v(mdp, V), axis=1)
        change, V, sweeps = np.abs(new - V).max(), new, sweeps + 1
    return V, sweeps


def value_iteration__partial(mdp, tolerance):
    backup = functools.partial(optimality_backup, mdp)
    return iterate(backup, np.zeros_like(mdp.terminal, dtype=float), stopping_gap(mdp.gamma, tolerance))


def solve_with_jax__decorator(mdp, tolerance):
    with jax.enable_x64(True):
        P, R, ends = jnp.asarray(mdp.P), jnp.asarray(mdp.R), jnp.asarray(mdp.terminal)

        @jax.jit
        def backup(V):
            return jnp.max(R + mdp.gamma * P @ jnp.where(ends, 0.0, V), axis=1)

        V, _ = iterate(backup, jnp.zeros(len(R)), stopping_gap(mdp.gamma, tolerance))
        return np.array(V)


def solve_with_jax__while_loop(mdp, tolerance):
    gap = stopping_gap(mdp.gamma, tolerance)

    def moving(state):
        V, old, sweep = state
        return (jnp.abs(V - old).max() > gap) & (sweep < MAX_SWEEPS)

    def sweep_once(state):
        V, _, sweep = state
        return optimality_backup(mdp, V), V, sweep + 1

    with jax.enable_x64(True):
        start = jnp.zeros(len(mdp.R))
        V, _, sweeps = jax.lax.while_loop(moving, sweep_once, (start, start + jnp.inf, 0))
        if sweeps == MAX_SWEEPS:
            raise RuntimeError("still moving")
        return np.asarray(V)


def shaped_rewards__in_loops(mdp, potential):
    S, A = mdp.R.shape
    phi = [0.0 if mdp.terminal[s] else potential[s] for s in range(S)]
    shaped = mdp.R.copy()
    for s in range(S):
        if mdp.terminal[s]:
            continue
        for a in range(A):
            later = sum(mdp.P[s, a, n] * phi[n] for n in range(S))
            shaped[s, a] += mdp.gamma * later - phi[s]
    return shaped


def shaped_rewards__float_mask(mdp, potential):
    phi = potential * (1 - mdp.terminal)
    return mdp.R + mdp.gamma * np.einsum("sat,t->sa", mdp.P, phi) - phi.reshape(-1, 1)


def shaped_rewards__as_a_lookahead(mdp, potential):
    without = mdp._replace(R=np.zeros_like(mdp.R))
    phi = np.where(mdp.terminal, 0.0, potential)
    return mdp.R + q_from_v(without, phi) - phi[:, np.newaxis]


def sweep_in_place__in_loops(mdp, V):
    values = list(V)
    S, A = mdp.R.shape
    for s in range(S):
        worth = []
        for a in range(A):
            later = sum(mdp.P[s, a, n] * values[n] for n in range(S) if not mdp.terminal[n])
            worth.append(mdp.R[s, a] + mdp.gamma * later)
        values[s] = max(worth)
    return np.array(values)


def sweep_in_place__whole_backups(mdp, V):
    out = np.array(V, dtype=float)
    for s in range(len(out)):
        out[s] = optimality_backup(mdp, out)[s]
    return out


def sweep_in_place__old_and_new(mdp, V):
    later = np.where(mdp.terminal, 0.0, V)  # what each state counts for in the sums
    found = np.empty(len(V))
    for s, ended in enumerate(mdp.terminal):
        found[s] = np.max(mdp.R[s] + mdp.gamma * np.dot(mdp.P[s], later))
        later[s] = 0.0 if ended else found[s]
    return found
