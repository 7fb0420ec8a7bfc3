"""Right answers to E11's exercises in other idioms: the grader must pass each."""

import math

import numpy as np

from chapters.E_practice.E11_imitation_and_inverse import BACK, FOG, OFF, drive, fit, rewards_of, soft_plan

UNNAMED: dict[str, str] = {}


def expected_cost__closed_form(error, recovery, horizon):
    rate = error + recovery  # how fast the chain forgets where it began
    if rate == 0:
        return 0.0
    share = error / rate
    return share * sum(1 - (1 - rate) ** t for t in range(horizon))


def expected_cost__matrix(error, recovery, horizon):
    chain = np.array([[1 - error, error], [recovery, 1 - recovery]])
    row, total = np.array([1.0, 0.0]), 0.0
    for _ in range(horizon):
        total += row[1]
        row = row @ chain
    return float(total)


def dagger__counts(horizon, cfg, rng):
    obs, labels, _ = drive(None, cfg.num_labels // horizon, horizon, cfg.fog, rng)
    policy = fit(obs, labels)
    for _ in range(cfg.num_rounds - 1):
        more = drive(policy, cfg.num_labels // horizon, horizon, cfg.fog, rng)
        obs, labels = np.append(obs, more[0]), np.append(labels, more[1])
        policy = fit(obs, labels)
    return policy


def chances__loops(policy, fog):
    wrong = [(1 - fog) * float(policy[bend] != bend) + fog * float(policy[FOG] != bend) for bend in range(2)]
    return sum(wrong) / 2, 1.0 if policy[OFF] == BACK else 0.0


def fit__bincount(obs, labels):
    table = np.bincount(3 * obs + labels, minlength=12).reshape(4, 3)
    table[table.sum(axis=1) == 0] = np.bincount(labels, minlength=3)
    return table.argmax(axis=1)


def drive__one_by_one(policy, num_episodes, horizon, fog, rng):
    obs, labels = np.zeros((horizon, num_episodes), dtype=int), np.zeros((horizon, num_episodes), dtype=int)
    costs = np.zeros(num_episodes)
    for i in range(num_episodes):
        off = False
        for t in range(horizon):
            bend = int(rng.random() < 0.5)
            seen = OFF if off else FOG if rng.random() < fog else bend
            right = BACK if off else bend
            action = right if policy is None else int(policy[seen])
            obs[t, i], labels[t, i] = seen, right
            costs[i] += off
            off = action != right
    return obs.ravel(), labels.ravel(), costs


def clone__long(horizon, cfg, rng):
    rounds = [drive(None, cfg.num_labels // horizon, horizon, cfg.fog, rng) for _ in range(cfg.num_rounds)]
    return fit(np.concatenate([one[0] for one in rounds]), np.concatenate([one[1] for one in rounds]))


def rewards_of__einsum(world, weights, num_steps=12):
    paid = np.einsum("san,nk,k->sa", world.P, world.features, weights)
    return np.repeat(paid[None], num_steps, axis=0)


def soft_plan__shifted(P, rewards):
    T, S, _ = rewards.shape
    V, policy = np.zeros((T + 1, S)), []
    for t in range(T - 1, -1, -1):
        Q = rewards[t] + np.einsum("san,n->sa", P, V[t + 1])
        top = Q.max(axis=1, keepdims=True)
        weights = np.exp(Q - top)
        V[t] = top[:, 0] + np.log(weights.sum(axis=1))
        policy.insert(0, weights / weights.sum(axis=1, keepdims=True))
    return V, np.array(policy)


def soft_plan__logaddexp(P, rewards):
    V = np.zeros((len(rewards) + 1, rewards.shape[1]))
    policy = np.empty_like(rewards)
    for t in range(len(rewards))[::-1]:
        Q = rewards[t] + P.dot(V[t + 1])
        V[t] = np.logaddexp.reduce(Q, axis=-1)
        policy[t] = np.exp(Q - V[t, :, np.newaxis])
    return V, policy


def occupancies__chain(P, policy, start):
    rows, found = np.array(start, dtype=float), []
    for step in policy:
        found.append(np.diag(rows) @ step)
        rows = rows @ (step[:, :, None] * P).sum(axis=1)
    return np.stack(found)


def occupancies__loops(P, policy, start):
    T, S, A = policy.shape
    d = np.zeros((T, S, A))
    for t in range(T):
        for s in range(S):
            here = (
                start[s] if t == 0 else sum(d[t - 1, x, a] * P[x, a, s] for x in range(S) for a in range(A))
            )
            d[t, s] = here * policy[t, s]
    return d


def feature_counts__backwards(world, policy):
    g = np.zeros(world.features.shape)
    for step in policy[::-1]:
        g = np.einsum("sa,sak->sk", step, world.P @ (world.features + g))
    return world.start @ g


def dual__features_to_come(weights, counts, world, ridge=0.0):
    V, policy = soft_plan(world.P, rewards_of(world, weights))
    g = np.zeros(world.features.shape)
    for step in policy[::-1]:
        g = np.einsum("sa,sak->sk", step, world.P @ (world.features + g))
    height = np.dot(weights, counts) - np.dot(world.start, V[0]) - 0.5 * ridge * np.sum(weights**2)
    return float(height), counts - world.start @ g - ridge * weights


def recover__newton(counts, world, ridge=0.0):
    def gradient(weights):
        _, policy = soft_plan(world.P, rewards_of(world, weights))
        return counts - feature_counts__backwards(world, policy) - ridge * weights

    weights = np.zeros(len(counts))
    for _ in range(30):
        here = gradient(weights)
        sides = [
            (gradient(weights + row) - gradient(weights - row)) / 2e-5 for row in 1e-5 * np.eye(len(counts))
        ]
        step = np.linalg.solve(np.array(sides), here)
        weights = weights - step * min(1.0, 1.0 / max(np.abs(step).max(), 1e-12))
    return weights


def shaped__einsum(P, rewards, potential):
    if not np.all(potential[-1] == 0):
        raise ValueError("what is left at the end would be a reward")
    return rewards + np.einsum("san,tn->tsa", P, potential[1:]) - potential[:-1, :, None]


def likelihood_gradient__by_state(world, policy, states, actions):
    T, N = actions.shape
    g = [np.zeros(world.features.shape)]
    G = []
    for step in policy[::-1]:
        G.insert(0, np.einsum("san,nk->sak", world.P, world.features + g[0]))
        g.insert(0, (step[:, :, None] * G[0]).sum(axis=1))
    total = np.zeros(world.features.shape[1])
    for i in range(N):
        for t in range(T):
            total += G[t][states[t, i], actions[t, i]] - g[t][states[t, i]]
    return total / N


def likelihood_gradient__counted(world, policy, states, actions):
    counts = np.zeros(policy.shape)
    for t in range(len(policy)):
        np.add.at(counts[t], (states[t], actions[t]), 1 / actions.shape[1])
    surplus = counts - counts.sum(axis=2, keepdims=True) * policy  # [T, S, A]
    g, total = np.zeros(world.features.shape), 0.0
    for t in range(len(policy) - 1, -1, -1):
        G = world.P @ (world.features + g)
        total = total + np.einsum("sa,sak->k", surplus[t], G)
        g = np.einsum("sa,sak->sk", policy[t], G)
    return total


def expected_cost__running(error, recovery, horizon):
    on, off, costs = 1.0, 0.0, []
    for _ in range(horizon):
        costs.append(off)
        on, off = on * (1 - error) + off * recovery, on * error + off * (1 - recovery)
    return math.fsum(costs)
