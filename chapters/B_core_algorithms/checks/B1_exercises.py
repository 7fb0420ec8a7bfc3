"""Exercises of B1: its functions, and what goes beyond them."""

import random

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def expected_sarsa_target(
    reward: float, next_row: list[float], terminated: bool, gamma: float, epsilon: float
) -> float:
    """What expected SARSA moves towards, eq. (E1); `next_row` holds the action values of the next state."""
    if terminated:
        return reward
    mean = sum(next_row) / len(next_row)
    return reward + gamma * ((1 - epsilon) * max(next_row) + epsilon * mean)


def check_expected_sarsa_target(expected_sarsa_target):
    rng = random.Random(1)
    rows = [[rng.gauss(0, 1) for _ in range(rng.randint(1, 5))] for _ in range(30)]
    rows += [[2.0, 2.0, -1.0], [0.0, 0.0]]  # ties: the best actions share what is not explored
    for row in rows:
        reward, gamma, epsilon = rng.gauss(0, 1), rng.random(), rng.random()
        best = [action for action in range(len(row)) if row[action] == max(row)]
        worth = 0.0
        for action, value in enumerate(row):
            chance = epsilon / len(row) + (1 - epsilon) * (action in best) / len(best)  # eq. (6)
            worth += chance * value
        for terminated, future in ((True, 0.0), (False, gamma * worth)):
            found = expected_sarsa_target(reward, list(row), terminated, gamma, epsilon)
            assert abs(found - (reward + future)) < 1e-9


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the two targets, (2) and (4), and the choice between exploring and exploiting, (6).
""",
        minutes=20,
        difficulty="easy",
        functions=("q_learning_target", "sarsa_target", "epsilon_greedy"),
    ),
    "optimism": Exercise(
        title="Optimism",
        task="""
Start the table at 1 and fix epsilon at 0.1. Why does this explore?
""",
        minutes=20,
        difficulty="medium",
        answer="""
An untried action promises certain success, which no tried one does. So it is tried, until its value has come
down: the agent seeks out what it does not know, and needs no random steps for it.
""",
    ),
    "expected_sarsa_target": Exercise(
        title="Expected SARSA",
        task=r"""
SARSA waits for one action of its $\varepsilon$-greedy policy $\pi$. *Expected SARSA* takes the mean over all
that it might choose:

$$y = r + \gamma\,(1 - \text{terminated}) \sum_{a'} \pi(a' \mid s')\, Q(s', a') \tag{E1}$$

Write this target, with the $\pi$ of (6).
Which of the two paths on the cliff will it choose?
""",
        minutes=15,
        difficulty="easy",
        solution=expected_sarsa_target,
        check=check_expected_sarsa_target,
        hints=(
            "With chance epsilon any action, all equally likely; else the best one. Weigh the values so.",
            "With epsilon = 0 it is Q-learning's target; with epsilon = 1 the plain mean of the row.",
            "if terminated: return reward",
        ),
        edits={
            "plain_mean": Edit(
                function="expected_sarsa_target",
                old="((1 - epsilon) * max(next_row) + epsilon * mean)",
                new="mean",
                says="takes the mean over all actions, as if the agent always explored",
            ),
            "greedy_only": Edit(
                function="expected_sarsa_target",
                old="((1 - epsilon) * max(next_row) + epsilon * mean)",
                new="max(next_row)",
                says="takes the maximum, as if the agent never explored: Q-learning",
            ),
            "shares_swapped": Edit(
                function="expected_sarsa_target",
                old="(1 - epsilon) * max(next_row) + epsilon * mean",
                new="epsilon * max(next_row) + (1 - epsilon) * mean",
                says="explores with probability 1 - epsilon",
            ),
            "past_the_end": Edit(
                function="expected_sarsa_target",
                old="if terminated:",
                new="if False:",
                says="bootstraps through a terminal state",
            ),
        },
        answer="""
The detour: like SARSA's, its table describes the policy that explores. Only the noise of the next action is
gone.
""",
    ),
}
