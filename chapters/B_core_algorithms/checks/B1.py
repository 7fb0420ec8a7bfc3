"""B1's functions against definitions written out in loops and sums, and its named edits."""

import random
from collections import Counter

import numpy as np

from chapters.utils.edits import Edit


def check_q_learning_target(function):
    rng = random.Random(0)
    for _ in range(15):
        row = [rng.gauss(0, 1) for _ in range(rng.randint(1, 5))]
        reward, gamma = rng.gauss(0, 1), rng.random()
        assert function(reward, row, True, gamma) == reward
        assert abs(function(reward, row, False, gamma) - (reward + gamma * sorted(row)[-1])) < 1e-12


def check_sarsa_target(function):
    rng = random.Random(0)
    for _ in range(15):
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


EDITS = {
    "wrong_sign_of_bootstrap": Edit(
        function="q_learning_target",
        old="reward + gamma * max(next_row)",
        new="reward - gamma * max(next_row)",
        says="subtracts the value of the next state",
    ),
    "undiscounted": Edit(
        function="q_learning_target",
        old="reward + gamma * max(next_row)",
        new="reward + max(next_row)",
        says="leaves gamma out: what comes later counts in full",
    ),
    "bootstraps_past_the_end": Edit(
        function="q_learning_target",
        old="return reward if terminated else reward + gamma * max",
        new="return reward + gamma * max",
        says="bootstraps through a terminal state; harmless where, as on the lakes, its row stays 0",
    ),
    "terminated_upside_down": Edit(
        function="q_learning_target",
        old="return reward if terminated else reward + gamma * max",
        new="return reward if not terminated else reward + gamma * max",
        says="bootstraps at the end of the world and nowhere else",
        fails=(
            "time_limit_bootstraps",
            "success_4x4",
            "success_8x8",
        ),
    ),
    "first_action": Edit(
        function="q_learning_target",
        old="gamma * max(next_row)",
        new="gamma * next_row[0]",
        says="bootstraps from the first action, not the best",
    ),
    "sarsa_takes_maximum": Edit(
        function="sarsa_target",
        old="gamma * next_row[next_action]",
        new="gamma * max(next_row)",
        says="the maximum in place of the next action: Q-learning by another name",
        fails=("sarsa_earns_more_online",),
    ),
    "sarsa_wrong_sign": Edit(
        function="sarsa_target",
        old="reward + gamma * next_row[next_action]",
        new="reward - gamma * next_row[next_action]",
        says="subtracts the value of the next action",
    ),
    "sarsa_undiscounted": Edit(
        function="sarsa_target",
        old="reward + gamma * next_row[next_action]",
        new="reward + next_row[next_action]",
        says="leaves gamma out: what comes later counts in full",
    ),
    "sarsa_past_the_end": Edit(
        function="sarsa_target",
        old="return reward if terminated else reward + gamma * next_row",
        new="return reward + gamma * next_row",
        says="bootstraps through a terminal state",
    ),
    "sarsa_other_action": Edit(
        function="sarsa_target",
        old="next_row[next_action]",
        new="next_row[next_action - 1]",
        says="the value of another action than the one taken: an index off by one",
    ),
    "moves_away": Edit(
        function="td_update",
        old="(target - value)  # eq. (3)",
        new="(value - target)",
        says="moves away from the target",
        fails=(
            "time_limit_bootstraps",
            "success_4x4",
            "success_8x8",
        ),
    ),
    "step_size_never_falls": Edit(
        function="td_update",
        old="alpha / visits**alpha_power",
        new="alpha",
        says="the step size never falls: at 1 an entry is whatever its last target was",
        fails=(
            "success_4x4",
            "success_8x8",
        ),
    ),
    "one_update_too_many": Edit(
        function="td_update",
        old="alpha / visits**alpha_power",
        new="alpha / (visits + 1) ** alpha_power",
        says="counts one update too many, so that the first target is not taken whole",
    ),
    "first_maximum": Edit(
        function="epsilon_greedy",
        old="if row.count(best) == 1:",
        new="if True:",
        says="the first of several best actions always wins, as with np.argmax",
        fails=("random_ties_goals",),
    ),
    "explores_when_it_should_not": Edit(
        function="epsilon_greedy",
        old="if rng.random() < epsilon:\n        return int",
        new="if rng.random() > epsilon:\n        return int",
        says="explores with probability 1 - epsilon",
    ),
    "never_explores_last_action": Edit(
        function="epsilon_greedy",
        old="* len(row))  # rng",
        new="* (len(row) - 1))  # rng",
        says="never explores the last action",
        fails=(
            "success_4x4",
            "success_8x8",
        ),
    ),
    "worst_action": Edit(
        function="epsilon_greedy",
        old="best = max(row)",
        new="best = min(row)",
        says="exploits the worst action",
    ),
    "merged": Edit(
        function="learn",
        old="q_learning_target(reward, q[next_obs], terminated, gamma)",
        new="q_learning_target(reward, q[next_obs], terminated or truncated, gamma)",
        says="Q-learning takes a time limit for the end of the world",
        fails=("time_limit_bootstraps",),
    ),
    "sarsa_merged": Edit(
        function="learn",
        old="next_action, terminated, gamma)",
        new="next_action, terminated or truncated, gamma)",
        says="SARSA takes a time limit for the end of the world",
    ),
    "swapped_algorithms": Edit(
        function="learn",
        old="if sarsa:",
        new="if not sarsa:",
        says="each algorithm uses the other's target",
        fails=("sarsa_earns_more_online",),
    ),
    "wrong_row": Edit(
        function="learn",
        old="q[obs][action] = td_update",
        new="q[next_obs][action] = td_update",
        says="writes the update into the next state's row",
    ),
    "sarsa_previous_action": Edit(
        function="learn",
        old="sarsa_target(reward, q[next_obs], next_action",
        new="sarsa_target(reward, q[next_obs], action",
        says="bootstraps from the action that was just taken, in the next state",
    ),
    "present_maximum": Edit(
        function="learn",
        old="q_learning_target(reward, q[next_obs], t",
        new="q_learning_target(reward, q[obs], t",
        says="bootstraps from the present state's row, not the next one's",
    ),
    "forgets_the_count": Edit(
        function="learn",
        old="visits[obs][action] += 1",
        new="visits[obs][action] = 1",
        says="every update counts as the first: the step size never falls",
    ),
    "start_lost": Edit(
        function="learn",
        old="            obs, _ = env.reset()\n",
        new="            _, _ = env.reset()\n",
        says="forgets where the next episode starts",
    ),
}
