"""Right answers to B7's exercises in other idioms: the grader must pass each."""

import heapq
import math

import numpy as np

from chapters.exact.mdp import MDP


def q_update__in_loops(q, step, alpha, gamma):
    for i, (s, a, r, s2, end) in enumerate(zip(*step)):
        target = r if end else r + gamma * max(q[i, s2])
        q[i, s, a] = (1 - alpha) * q[i, s, a] + alpha * target


def q_update__where(q, step, alpha, gamma):
    obs, actions, rewards, next_obs, terminated = step
    i = np.arange(q.shape[0])
    rest = np.where(terminated, 0.0, gamma * np.max(q[i, next_obs], axis=-1))
    error = rewards + rest - q[i, obs, actions]
    np.add.at(q, (i, obs, actions), alpha * error)


def q_update__flat(q, step, alpha, gamma):
    obs, actions, rewards, next_obs, terminated = step
    R, S, A = q.shape
    places = (np.arange(R) * S + obs) * A + actions
    best = q.max(axis=2)[np.arange(R), next_obs]
    old = q.reshape(-1)[places]
    q.reshape(-1)[places] = old + alpha * (rewards + gamma * best * ~terminated - old)


def prioritised_sweeping__all_errors(mdp, theta):
    q = np.zeros(mdp.R.shape)
    order = []
    while True:
        values = np.where(mdp.terminal, 0.0, q.max(axis=1))
        errors = mdp.R + mdp.gamma * mdp.P @ values - q
        pair = np.unravel_index(np.abs(errors).argmax(), q.shape)
        if abs(errors[pair]) <= theta:
            return q, order
        q[pair] += errors[pair]
        order.append((int(pair[0]), int(pair[1])))


def prioritised_sweeping__dictionary(mdp, theta):
    num_states, num_actions = mdp.R.shape
    q = np.zeros((num_states, num_actions))
    line = {(s, a): abs(mdp.R[s, a]) for s in range(num_states) for a in range(num_actions)}
    order = []
    while True:
        pair = max(line, key=line.get)
        if line[pair] <= theta:
            return q, order
        s, a = pair
        order.append(pair)

        def target(s, a):
            return mdp.R[s, a] + mdp.gamma * sum(
                mdp.P[s, a, t] * q[t].max() for t in range(num_states) if not mdp.terminal[t]
            )

        q[s, a] = target(s, a)
        line[pair] = 0.0
        for before in line:
            if mdp.P[before][s] > 0:
                line[before] = abs(target(*before) - q[before])


def prioritised_sweeping__leads_to(mdp, theta):
    leads_to = {s: [] for s in range(len(mdp.R))}
    for s, a, t in zip(*np.nonzero(mdp.P)):
        leads_to[int(t)].append((int(s), int(a)))
    q = np.zeros_like(mdp.R)
    values = np.zeros(len(q))

    def size(pair):
        return abs(mdp.R[pair] + mdp.gamma * np.dot(mdp.P[pair], values) - q[pair])

    heap = [(-size((s, a)), s, a) for s in range(q.shape[0]) for a in range(q.shape[1])]
    heapq.heapify(heap)
    order = []
    while heap:
        size_then, s, a = heapq.heappop(heap)
        if -size_then > size((s, a)) + 1e-15 or size((s, a)) <= theta:
            continue
        q[s, a] = mdp.R[s, a] + mdp.gamma * np.dot(mdp.P[s, a], values)
        order.append((s, a))
        if not mdp.terminal[s] and values[s] != q[s].max():
            values[s] = q[s].max()
            for before in leads_to[s]:
                heapq.heappush(heap, (-size(before), *before))
    return q, order


def counted_model__in_loops(obs, actions, rewards, next_obs, terminated, num_states, num_actions, gamma):
    P = np.zeros((num_states, num_actions, num_states))
    R = np.zeros((num_states, num_actions))
    N = np.zeros((num_states, num_actions))
    ends = np.zeros(num_states, dtype=bool)
    for s, a, r, t, end in zip(obs, actions, rewards, next_obs, terminated):
        N[s, a] += 1
        R[s, a] += (r - R[s, a]) / N[s, a]
        P[s, a] *= (N[s, a] - 1) / N[s, a]
        P[s, a, t] += 1 / N[s, a]
        if end:
            ends[t] = True
    return MDP(P, R, ends, gamma)


def counted_model__bincount(obs, actions, rewards, next_obs, terminated, num_states, num_actions, gamma):
    pairs = obs * num_actions + actions
    counts = np.bincount(pairs * num_states + next_obs, minlength=num_states**2 * num_actions)
    counts = counts.reshape(num_states, num_actions, num_states)
    sums = np.bincount(pairs, rewards, num_states * num_actions).reshape(num_states, num_actions)
    tries = counts.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        P, R = np.nan_to_num(counts / tries[..., None]), np.nan_to_num(sums / tries)
    return MDP(P=P, R=R, terminal=np.isin(np.arange(num_states), next_obs[terminated]), gamma=gamma)


def counted_model__one_hot(obs, actions, rewards, next_obs, terminated, num_states, num_actions, gamma):
    s, a, t = np.eye(num_states)[obs], np.eye(num_actions)[actions], np.eye(num_states)[next_obs]
    tries = np.einsum("ns,na->sa", s, a).clip(min=1)
    P = np.einsum("ns,na,nt->sat", s, a, t) / tries[:, :, None]
    R = np.einsum("ns,na,n->sa", s, a, rewards) / tries
    return MDP(P, R, (t * terminated[:, None]).sum(axis=0) > 0, gamma)


def waiting_time__root(value, kappa, gamma):
    root = (value - gamma * value) / kappa
    return root * root


def waiting_time__power(value, kappa, gamma):
    return math.pow(value * (1.0 - gamma), 2) / kappa**2


class Memory__dictionaries:
    def __init__(self, shape):
        self.num_actions = shape[2]
        self.models = [{} for _ in range(shape[0])]

    def store(self, step, time):
        for model, s, a, r, t, end in zip(self.models, *step):
            model[int(s), int(a)] = (float(r), int(t), bool(end), time)

    def imagine(self, n, time, kappa, rng):
        steps = []
        for _ in range(n):
            rows = []
            for model in self.models:
                s = rng.choice(sorted({s for s, _ in model}))
                tried = [a for a in range(self.num_actions) if kappa > 0 or (s, a) in model]
                a = rng.choice(tried)
                r, t, end, last = model.get((s, a), (0.0, s, False, 0))
                rows.append((s, a, r + kappa * math.sqrt(time - last), t, end))
            steps.append(tuple(map(np.array, zip(*rows))))
        return steps


class Memory__one_table:
    """Reward, successor, end and time of each pair side by side."""

    def __init__(self, shape):
        self.outcome = np.zeros((*shape, 4))
        self.outcome[..., 1] = np.arange(shape[1])[None, :, None]

    def store(self, step, time):
        obs, actions, *rest = step
        table = self.outcome[np.arange(len(obs)), obs]
        table[np.arange(len(obs)), actions] = np.stack([*rest, np.full(len(obs), time)], axis=1)
        self.outcome[np.arange(len(obs)), obs] = table

    def imagine(self, n, time, kappa, rng):
        tried = self.outcome[..., 3] > 0
        for _ in range(n):
            met = tried.any(axis=2)
            obs = np.where(met, rng.random(met.shape), -1.0).argmax(axis=1)
            agents = np.arange(len(obs))
            free = tried[agents, obs] if kappa == 0 else np.ones_like(tried[agents, obs])
            actions = np.where(free, rng.random(free.shape), -1.0).argmax(axis=1)
            rewards, following, ends, last = self.outcome[agents, obs, actions].T
            rewards = rewards + kappa * (time - last) ** 0.5
            yield obs, actions, rewards, following.astype(int), ends.astype(bool)
