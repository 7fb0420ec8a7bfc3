"""Checks of lesson B1's functions against definitions written out in loops, sums and enumerations."""

import itertools
import random
from collections import Counter

import gymnasium as gym
import numpy as np

from chapters.utils.edits import Edit


def some_model(seed, num_states=3, num_actions=2):
    """A random world in which every step ends the episode with a chance between 0 and 1."""
    from chapters.B_core_algorithms.B1_tabular_q_learning import Model

    rng = np.random.default_rng(seed)
    with_end = rng.dirichlet(np.ones(num_states + 1), size=(num_states, num_actions))  # last column: the end
    start = rng.dirichlet(np.ones(num_states))
    return rng, Model(with_end[:, :, :num_states], rng.normal(size=(num_states, num_actions)), start)


def walk_sum(model, policy_at, state, step, horizon):
    """Expected return from `state` by following every possible trajectory; policy_at(step)[s, a]."""
    if step == horizon:
        return 0.0
    total = 0.0
    for action, chance in enumerate(policy_at(step)[state]):
        total += chance * model.rewards[state, action]
        for successor, probability in enumerate(model.transitions[state, action]):
            total += chance * probability * walk_sum(model, policy_at, successor, step + 1, horizon)
    return total


class TableWorld(gym.Env):
    """An environment that is only its table: two states, two actions, outcomes that name a state twice."""

    P = {  # noqa: RUF012 — the shape gymnasium gives it
        0: {0: [(0.25, 0, 2, False), (0.5, 1, -4, False), (0.25, 0, 6, False)], 1: [(1.0, 1, 3, True)]},
        1: {0: [(0.7, 1, 1, True), (0.3, 1, 1, False)], 1: [(0.5, 0, 0, False), (0.5, 1, 8, True)]},
    }
    initial_state_distrib = np.array([0.75, 0.25])


def check_read_model(function):
    model = function(TableWorld())
    expected = [[[0.5, 0.5], [0.0, 0.0]], [[0.0, 0.3], [0.5, 0.0]]]
    np.testing.assert_allclose(model.transitions, expected, atol=1e-12)
    np.testing.assert_allclose(model.rewards, [[0.0, 3.0], [1.0, 4.0]], atol=1e-12)
    np.testing.assert_allclose(model.start, [0.75, 0.25])


def check_value_iteration(function):
    """The best of all deterministic policies, each solved as a linear system."""
    for seed, gamma in ((0, 0.9), (1, 0.5), (2, 0.99)):
        _, model = some_model(seed, num_states=4, num_actions=3)
        states = np.arange(4)
        best = np.full(4, -np.inf)
        for actions in itertools.product(range(3), repeat=4):
            chain = model.transitions[states, list(actions)]
            best = np.maximum(
                best, np.linalg.solve(np.eye(4) - gamma * chain, model.rewards[states, list(actions)])
            )
        expected = [
            [model.rewards[s, a] + gamma * model.transitions[s, a] @ best for a in range(3)] for s in states
        ]
        np.testing.assert_allclose(function(model, gamma), expected, atol=1e-7)


def check_greedy_policy(function):
    q = np.array([[1.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-5.0, -2.0, -3.0, -9.0]])
    q[0, 2] += 1e-13  # rounding does not break a tie
    expected = [[0, 0.5, 0.5, 0], [0.25] * 4, [0, 1, 0, 0]]
    np.testing.assert_allclose(function(q), expected)


def check_evaluate_exactly(function):
    """The sum over all trajectories, for several horizons: one step too few or too many shows."""
    for seed, horizon in itertools.product(range(3), (0, 1, 2, 4)):
        rng, model = some_model(seed)
        policy = rng.dirichlet(np.ones(2), size=3)
        expected = [walk_sum(model, lambda step: policy, s, 0, horizon) for s in range(3)]  # noqa: B023
        np.testing.assert_allclose(function(model, policy, horizon), expected, atol=1e-12)


def check_best_within(function):
    """The best of all policies that may choose differently at every step, exploring at rate epsilon."""
    for seed, epsilon in ((0, 0.0), (1, 0.0), (2, 0.3), (3, 1.0)):
        _, model = some_model(seed, num_states=2)
        for horizon in (1, 3):
            best = np.full(2, -np.inf)
            for choice in itertools.product(range(2), repeat=2 * horizon):
                actions = np.reshape(choice, (horizon, 2))
                plan = (1 - epsilon) * np.eye(2)[actions] + epsilon / 2  # [horizon, S, A]
                values = [walk_sum(model, plan.__getitem__, s, 0, horizon) for s in range(2)]
                best = np.maximum(best, values)
            np.testing.assert_allclose(function(model, horizon, epsilon), best, atol=1e-12)


def check_q_learning_target(function):
    rng = random.Random(0)
    for _ in range(50):
        row = [rng.gauss(0, 1) for _ in range(rng.randint(1, 5))]
        reward, gamma = rng.gauss(0, 1), rng.random()
        assert function(reward, row, True, gamma) == reward
        assert abs(function(reward, row, False, gamma) - (reward + gamma * sorted(row)[-1])) < 1e-12


def check_sarsa_target(function):
    rng = random.Random(0)
    for _ in range(50):
        row = [rng.gauss(0, 1) for _ in range(rng.randint(2, 5))]
        reward, gamma, action = rng.gauss(0, 1), rng.random(), rng.randrange(len(row))
        assert function(reward, row, action, True, gamma) == reward
        assert abs(function(reward, row, action, False, gamma) - (reward + gamma * row[action])) < 1e-12


def check_td_update(function):
    """With power 1 the running mean of the targets; with power 0 their exponential average."""
    rng = random.Random(0)
    targets = [rng.gauss(3, 1) for _ in range(20)]
    mean, smooth, root = 7.0, 7.0, 7.0
    for visits, target in enumerate(targets, start=1):
        mean = function(mean, target, visits, 1.0, 1.0)
        smooth = function(smooth, target, visits, 0.2, 0.0)
        root = function(root, target, visits, 0.8, 0.5)
        assert abs(mean - sum(targets[:visits]) / visits) < 1e-12
    expected = 7.0 * 0.8**20 + sum(0.2 * 0.8 ** (19 - i) * target for i, target in enumerate(targets))
    assert abs(smooth - expected) < 1e-12
    expected = 7.0
    for visits, target in enumerate(targets, start=1):
        share = 0.8 / visits**0.5
        expected = (1 - share) * expected + share * target
    assert abs(root - expected) < 1e-12


def frequencies(function, row, epsilon, draws=10_000):
    """How often `function` picks each action."""
    rng = random.Random(0)
    counts = Counter(function(row, epsilon, rng) for _ in range(draws))
    return [counts[action] / draws for action in range(len(row))]


def check_epsilon_greedy(function):
    """Frequencies within four standard errors, with one best action, with two, and with a row of zeros."""
    cases = [
        ([1.0, 3.0, 3.0, 0.0], 0.4, [0.1, 0.4, 0.4, 0.1]),
        ([-1.0, -5.0, -2.0], 0.3, [0.8, 0.1, 0.1]),
        ([0.0, 0.0, 0.0, 0.0], 0.1, [0.25, 0.25, 0.25, 0.25]),
        ([0.0, 2.0], 0.0, [0.0, 1.0]),
        ([0.0, 2.0, 1.0], 1.0, [1 / 3, 1 / 3, 1 / 3]),
    ]
    for row, epsilon, expected in cases:
        np.testing.assert_allclose(frequencies(function, row, epsilon), expected, atol=0.02)


def check_naive_epsilon_greedy(function):
    """The fault it is there to show: the first of several best actions always wins."""
    found = frequencies(function, [1.0, 3.0, 3.0, 0.0], 0.4)
    np.testing.assert_allclose(found, [0.1, 0.7, 0.1, 0.1], atol=0.02)


EDITS = {
    "keeps_terminal_successors": Edit(
        function="read_model",
        old="probability * (not terminated)",
        new="probability",
        says="keeps terminal successors",
    ),
    "drops_successors_go": Edit(
        function="read_model",
        old="(not terminated)",
        new="terminated",
        says="drops the successors that go on",
    ),
    "forgets_probability_reward": Edit(
        function="read_model",
        old="rewards[state, action] += probability * reward",
        new="rewards[state, action] += reward",
        says="forgets the probability of a reward",
    ),
    "overwrites_successor_named_twice": Edit(
        function="read_model",
        old="transitions[state, action, successor] +=",
        new="transitions[state, action, successor] =",
        says="overwrites a successor named twice",
    ),
    "forgets_discount": Edit(
        function="value_iteration",
        old="model.rewards + gamma * model.transitions",
        new="model.rewards + model.transitions",
        says="forgets the discount",
    ),
    "minimum_maximum": Edit(
        function="value_iteration",
        old="model.transitions @ q.max(axis=1)",
        new="model.transitions @ q.min(axis=1)",
        says="minimum for maximum",
    ),
    "stops_too_soon": Edit(
        function="value_iteration",
        old="updated - q).max() < tolerance",
        new="updated - q).max() > tolerance",
        says="stops too soon",
    ),
    "rounding_breaks_ties": Edit(
        function="greedy_policy",
        old="q.max(axis=1, keepdims=True) - 1e-9",
        new="q.max(axis=1, keepdims=True)",
        says="rounding breaks ties",
    ),
    "weights_instead_probabilities": Edit(
        function="greedy_policy",
        old="best / best.sum(axis=1, keepdims=True)",
        new="best * 1.0",
        says="weights instead of probabilities",
    ),
    "one_step_too_few": Edit(
        function="evaluate_exactly",
        old="range(horizon):\n        values = (policy",
        new="range(horizon - 1):\n        values = (policy",
        says="one step too few",
    ),
    "one_step_too_many": Edit(
        function="evaluate_exactly",
        old="range(horizon):\n        values = (policy",
        new="range(horizon + 1):\n        values = (policy",
        says="one step too many",
    ),
    "wrong_sign_reward": Edit(
        function="evaluate_exactly",
        old="(policy * (model.rewards + model.transitions",
        new="(policy * (-model.rewards + model.transitions",
        says="wrong sign of the reward",
    ),
    "ignores_policy": Edit(
        function="evaluate_exactly",
        old="(policy * (model.rewards",
        new="(0.5 * (model.rewards",
        says="ignores the policy",
    ),
    "best_within_one_step_too_few": Edit(
        function="best_within",
        old="range(horizon):\n        q = model",
        new="range(horizon - 1):\n        q = model",
        says="one step too few",
    ),
    "average_maximum": Edit(
        function="best_within",
        old="(1 - epsilon) * q.max(axis=1)",
        new="(1 - epsilon) * q.mean(axis=1)",
        says="average for maximum",
    ),
    "explores_sum_not_mean": Edit(
        function="best_within",
        old="epsilon * q.mean(axis=1)",
        new="epsilon * q.sum(axis=1)",
        says="explores by the sum, not the mean",
    ),
    "wrong_sign_bootstrap": Edit(
        function="q_learning_target",
        old="reward + gamma * max(next_row)",
        new="reward - gamma * max(next_row)",
        says="wrong sign of the bootstrap",
    ),
    "bootstraps_through_terminal_state": Edit(
        function="q_learning_target",
        old="return reward if terminated else reward + gamma * max",
        new="return reward + gamma * max",
        says="bootstraps through a terminal state",
    ),
    "terminated_upside_down": Edit(
        function="q_learning_target",
        old="return reward if terminated else reward + gamma * max",
        new="return reward if not terminated else reward + gamma * max",
        says="terminated upside down",
    ),
    "bootstraps_from_first_action": Edit(
        function="q_learning_target",
        old="gamma * max(next_row)",
        new="gamma * next_row[0]",
        says="bootstraps from the first action",
    ),
    "maximum_next_action": Edit(
        function="sarsa_target",
        old="gamma * next_row[next_action]",
        new="gamma * max(next_row)  #",
        says="maximum for the next action",
    ),
    "sarsa_target_wrong_sign_bootstrap": Edit(
        function="sarsa_target",
        old="reward + gamma * next_row[next_action]",
        new="reward - gamma * next_row[next_action]",
        says="wrong sign of the bootstrap",
    ),
    "sarsa_target_bootstraps_through_terminal_state": Edit(
        function="sarsa_target",
        old="return reward if terminated else reward + gamma * next_row",
        new="return reward + gamma * next_row",
        says="bootstraps through a terminal state",
    ),
    "index_off_one": Edit(
        function="sarsa_target",
        old="next_row[next_action]",
        new="next_row[next_action - 1]",
        says="index off by one",
    ),
    "wrong_sign_td_error": Edit(
        function="td_update",
        old="(target - value)  # eq. (5)",
        new="(value - target)",
        says="wrong sign of the TD error",
    ),
    "step_size_never_shrinks": Edit(
        function="td_update",
        old="alpha / visits**alpha_power",
        new="alpha",
        says="step size never shrinks",
    ),
    "counts_one_update_too": Edit(
        function="td_update",
        old="alpha / visits**alpha_power",
        new="alpha / (visits + 1) ** alpha_power",
        says="counts one update too many",
    ),
    "first_maximum_argmax": Edit(
        function="epsilon_greedy",
        old="if row.count(best) == 1:",
        new="if True:",
        says="first-maximum argmax",
    ),
    "explores_when_should_not": Edit(
        function="epsilon_greedy",
        old="if rng.random() < epsilon:\n        return int",
        new="if rng.random() > epsilon:\n        return int",
        says="explores when it should not",
    ),
    "never_explores_last_action": Edit(
        function="epsilon_greedy",
        old="* len(row))  # rng",
        new="* (len(row) - 1))  # rng",
        says="never explores the last action",
    ),
    "epsilon_greedy_minimum_maximum": Edit(
        function="epsilon_greedy",
        old="best = max(row)",
        new="best = min(row)",
        says="minimum for maximum",
    ),
    "naive_epsilon_greedy_minimum_maximum": Edit(
        function="naive_epsilon_greedy",
        old="row.index(max(row))",
        new="row.index(min(row))",
        says="minimum for maximum",
    ),
}
