"""Right answers to B1's exercises in other idioms: the grader must pass each."""

import numpy as np


def q_learning_target__float_mask(reward, next_row, terminated, gamma):
    return reward + gamma * max(next_row) * (1.0 - terminated)


def q_learning_target__early_return(reward, next_row, terminated, gamma):
    if terminated:
        return reward
    best = next_row[0]
    for value in next_row[1:]:
        if value > best:
            best = value
    return reward + gamma * best


def q_learning_target__in_numpy(reward, next_row, terminated, gamma):
    return float(reward + np.where(terminated, 0.0, gamma * np.max(next_row)))


def sarsa_target__float_mask(reward, next_row, next_action, terminated, gamma):
    return reward + gamma * (1 - int(terminated)) * next_row[next_action]


def sarsa_target__not(reward, next_row, next_action, terminated, gamma):
    value = next_row[next_action] if not terminated else 0.0
    return gamma * value + reward


def sarsa_target__in_numpy(reward, next_row, next_action, terminated, gamma):
    return reward + gamma * np.asarray(next_row)[next_action] * (not terminated)


def td_update__average(value, target, visits, alpha, alpha_power):
    step = alpha * visits ** (-alpha_power)
    return (1 - step) * value + step * target


def td_update__power(value, target, visits, alpha, alpha_power):
    return value + alpha * (target - value) / pow(visits, alpha_power)


def td_update__in_numpy(value, target, visits, alpha, alpha_power):
    step = alpha / np.power(float(visits), alpha_power)
    return value + step * (target - value)


def epsilon_greedy__randrange(row, epsilon, rng):
    if rng.random() < epsilon:
        return rng.randrange(len(row))
    top = max(row)
    return rng.choice([action for action in range(len(row)) if row[action] == top])


def epsilon_greedy__else(row, epsilon, rng):
    best = [action for action, value in enumerate(row) if value == max(row)]
    everything = list(range(len(row)))
    return rng.choice(best if rng.random() >= epsilon else everything)


def epsilon_greedy__in_numpy(row, epsilon, rng):
    if rng.random() < epsilon:
        return rng.randint(0, len(row) - 1)
    values = np.asarray(row)
    return int(rng.choice(np.flatnonzero(values == values.max()).tolist()))
