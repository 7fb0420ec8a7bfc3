"""Right answers to B2's exercises in other idioms: the grader must pass each."""

import numpy as np

from chapters.B_core_algorithms.B2_monte_carlo_methods import discounted_returns, n_step_parts
from chapters.exact.random_walk import walk_values


def discounted_returns__in_place(rewards, gamma):
    returns = rewards.copy()
    for t in range(len(returns) - 2, -1, -1):
        returns[t] += gamma * returns[t + 1]
    return returns


def discounted_returns__matrix(rewards, gamma):
    steps = np.arange(len(rewards))
    ahead = steps[None, :] - steps[:, None]  # [T, T] how many steps later
    return np.where(ahead >= 0, float(gamma) ** np.maximum(ahead, 0), 0.0) @ rewards


def discounted_returns__by_definition(rewards, gamma):
    T, N = rewards.shape
    returns = np.zeros((T, N))
    for t in range(T):
        for i in range(N):
            returns[t, i] = sum(gamma ** (k - t) * rewards[k, i] for k in range(t, T))
    return returns


def discounted_returns__stacked(rewards, gamma):
    found = []
    following = 0.0
    for row in rewards[::-1]:
        following = row + gamma * following
        found.append(following)
    return np.stack(found[::-1])


def first_visits__sets(states):
    mask = np.zeros(states.shape, dtype=bool)
    for i in range(states.shape[1]):
        seen = {-1}
        for t, state in enumerate(states[:, i].tolist()):
            mask[t, i] = state not in seen
            seen.add(state)
    return mask


def first_visits__unique(states):
    mask = np.zeros_like(states, dtype=bool)
    for i, episode in enumerate(states.T):
        _, first = np.unique(episode, return_index=True)
        mask[first, i] = True
    return mask & (states != -1)


def first_visits__all_pairs(states):
    same = states[:, None] == states[None, :]  # [T, T, N]
    earlier = np.tri(len(states), k=-1, dtype=bool)[:, :, None]
    return ~(same & earlier).any(axis=1) & (states >= 0)


def visit_sums__add_at(states, returns, counted, num_states):
    sums = np.zeros((3, num_states))
    where, what = states[counted], returns[counted]
    np.add.at(sums[0], where, 1)
    np.add.at(sums[1], where, what)
    np.add.at(sums[2], where, what**2)
    return sums


def visit_sums__in_loops(states, returns, counted, num_states):
    number, total, squares = [0] * num_states, [0.0] * num_states, [0.0] * num_states
    for place in np.ndindex(states.shape):
        if counted[place]:
            state, value = states[place], returns[place]
            number[state] += 1
            total[state] += value
            squares[state] += value * value
    return np.array([number, total, squares])


def visit_sums__float_mask(states, returns, counted, num_states):
    at = (states.ravel() == np.arange(num_states)[:, None]) * counted.ravel().astype(float)  # [S, T N]
    values = returns.ravel()
    return np.stack([at.sum(axis=1), at @ values, at @ values**2])


def n_step_parts__windows(rewards, lengths, n, gamma):
    T, N = rewards.shape
    padded = np.concatenate([rewards, np.zeros((n, N))])
    sums = sum(gamma**i * padded[i : i + T] for i in range(n))
    last = np.arange(T)[:, None] + n
    return sums, np.where(last < lengths[None, :], gamma**n, 0.0)


def n_step_parts__in_loops(rewards, lengths, n, gamma):
    sums, weights = np.zeros_like(rewards), np.zeros_like(rewards)
    for i, length in enumerate(lengths):
        for t in range(length):
            sums[t, i] = sum(gamma ** (k - t) * rewards[k, i] for k in range(t, min(t + n, length)))
            if t + n < length:
                weights[t, i] = gamma**n
    return sums, weights


def n_step_parts__rolled(rewards, lengths, n, gamma):
    following = discounted_returns(rewards, gamma)
    left = lengths - np.arange(len(rewards)).reshape(-1, 1)  # [T, N] rewards still to come
    beyond = np.roll(np.vstack([following, np.zeros((n, rewards.shape[1]))]), -n, axis=0)[: len(rewards)]
    factor = gamma**n
    return following - factor * beyond, factor * (left > n).astype(float)


def n_step_td__run_by_run(episodes, n, alphas, num_states):
    truth = walk_values(num_states)
    num_runs = episodes[0][2].size
    errors = np.zeros((len(episodes), len(alphas), num_runs))
    for a, alpha in enumerate(alphas):
        for run in range(num_runs):
            V = np.zeros(num_states + 2)
            for e, (states, rewards, lengths) in enumerate(episodes):
                end = lengths[run]
                for t in range(end):
                    stop = min(t + n, end) if n > 0 else end
                    target = rewards[t:stop, run].sum()
                    if stop < end:
                        target += V[states[stop, run]]
                    V[states[t, run]] += alpha * (target - V[states[t, run]])
                errors[e, a, run] = np.sqrt(np.mean((V[1:-1] - truth) ** 2))
    return errors


def n_step_td__states_first(episodes, n, alphas, num_states):
    num_runs = episodes[0][0].shape[1]
    runs, rates = np.arange(num_runs), np.asarray(alphas)
    V = np.zeros((num_states + 2, num_runs, len(rates)))
    truth = np.reshape(walk_values(num_states), (-1, 1, 1))
    errors = []
    for states, rewards, lengths in episodes:
        T = len(rewards)
        ahead = T if n == 0 else n
        sums, weights = n_step_parts(rewards, lengths, n=ahead, gamma=1.0)
        for t in range(T):
            going_on = (lengths > t)[:, None]
            later = V[states[t + ahead], runs] if t + ahead <= T else 0.0
            target = sums[t, :, None] + weights[t, :, None] * later
            old = V[states[t], runs]
            V[states[t], runs] = np.where(going_on, (1 - rates) * old + rates * target, old)
        errors.append(np.sqrt(np.square(V[1:-1] - truth).mean(axis=0)).T)
    return np.array(errors)


def lambda_returns__td_errors(rewards, values, gamma, lam):
    deltas = rewards + gamma * np.append(values[1:], 0.0) - values
    found = np.zeros(len(rewards))
    total = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        total = deltas[t] + gamma * lam * total
        found[t] = values[t] + total
    return found


def lambda_returns__extended(rewards, values, gamma, lam):
    T = len(rewards)
    V, G = np.zeros(T + 1), np.zeros(T + 1)  # the last place is the terminal state
    V[:T] = values
    for t in reversed(range(T)):
        G[t] = rewards[t] + gamma * ((1 - lam) * V[t + 1] + lam * G[t + 1])
    return G[:-1]


def lambda_returns__every_n(rewards, values, gamma, lam):
    found = []
    for t in range(len(rewards)):
        left = len(rewards) - t
        sum_of_rewards, mixture = 0.0, 0.0
        for n in range(1, left):
            sum_of_rewards += gamma ** (n - 1) * rewards[t + n - 1]
            mixture += (1 - lam) * lam ** (n - 1) * (sum_of_rewards + gamma**n * values[t + n])
        sum_of_rewards += gamma ** (left - 1) * rewards[-1]
        found.append(mixture + lam ** (left - 1) * sum_of_rewards)
    return np.array(found)


def weighted_estimates__in_loops(returns, ratios):
    estimates = np.zeros(len(returns))
    total = weight = 0.0
    for i, (g, w) in enumerate(zip(returns, ratios)):
        total += w * g
        weight += w
        if weight > 0:
            estimates[i] = total / weight
    return estimates


def weighted_estimates__updates(returns, ratios):
    found = []
    estimate, weight = 0.0, 0.0
    for g, w in zip(returns, ratios):
        weight += w
        if w > 0:
            estimate += w / weight * (g - estimate)
        found.append(estimate)
    return np.array(found)


def weighted_estimates__where(returns, ratios):
    weights = np.cumsum(ratios)
    none_yet = weights == 0
    return np.where(none_yet, 0.0, np.cumsum(ratios * returns) / np.where(none_yet, 1.0, weights))


def weighted_estimates__triangle(returns, ratios):
    seen = np.tri(len(returns))
    with np.errstate(invalid="ignore"):
        return np.nan_to_num((seen @ (ratios * returns)) / (seen @ ratios))
