"""What can be earned by who does not see everything: the best blind policy, and a T-maze solved three ways.

The T-maze is that of `chapters/envs/tmaze.py` for one door, written down anew: its signs, each true with
probability `accuracy`, a corridor, the junction. (What hangs there about other doors tells nothing of
this one, as the posters do not.) What an agent that remembers knows of the hidden side is a *belief*: the
chance of "right" given the signs it has seen. Signs stand where they are, so looking twice tells nothing.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from jaxtyping import Float

ACTIONS = ("forward", "left", "right")


def best_without(joint: Float[np.ndarray, "S A"]) -> float:
    """The most that a policy earns which sees only the row: in each, it takes the likeliest right action.

    joint: chance [what is seen, right action]; the reward is 1 for the right action, 0 for any other.
    """
    if not math.isclose(joint.sum(), 1.0, rel_tol=1e-9):
        raise ValueError(f"chances must sum to 1, found {joint.sum():.6g}")
    return float(joint.max(axis=1).sum())


def belief(num_left: int, num_right: int, accuracy: float) -> float:
    """The chance that the side is right, given so many signs for each side, by Bayes' rule."""
    right = accuracy**num_right * (1.0 - accuracy) ** num_left
    left = accuracy**num_left * (1.0 - accuracy) ** num_right
    return right / (right + left)


def belief_optimum(
    num_signs: int, accuracy: float, delay: int, bump: float = -0.1, limit: int | None = None
) -> float:
    """The highest expected return there is, by dynamic programming on beliefs, backward in time.

    limit: steps after which an episode is cut off; None for three times the way through.
    """
    junction = num_signs + delay
    limit = 3 * (junction + 1) if limit is None else limit

    def seen(place: int, num_left: int, num_right: int, left: int) -> float:
        """Value before the sign at `place`, if there is one, has been read."""
        if place >= num_signs:
            return value(place, num_left, num_right, left)
        right = belief(num_left, num_right, accuracy)
        shows_right = right * accuracy + (1.0 - right) * (1.0 - accuracy)
        return shows_right * value(place, num_left, num_right + 1, left) + (1.0 - shows_right) * value(
            place, num_left + 1, num_right, left
        )

    @functools.cache
    def value(place: int, num_left: int, num_right: int, left: int) -> float:
        if left == 0:
            return 0.0
        stays = bump + value(place, num_left, num_right, left - 1)
        if place < junction:
            return max(stays, seen(place + 1, num_left, num_right, left - 1))
        right = belief(num_left, num_right, accuracy)
        return max(stays, right, 1.0 - right)

    return seen(0, 0, 0, limit)


def majority(num_signs: int, accuracy: float) -> float:
    """How often most of the signs are true; of a tie, half the time."""
    total = 0.0
    for true in range(num_signs + 1):
        chance = math.comb(num_signs, true) * accuracy**true * (1.0 - accuracy) ** (num_signs - true)
        total += chance * (1.0 if 2 * true > num_signs else 0.5 if 2 * true == num_signs else 0.0)
    return total


def best_memoryless(
    num_signs: int, accuracy: float, delay: int, bump: float = -0.1, limit: int | None = None
) -> float:
    """The highest expected return of a policy that acts on what it sees now alone: all 81 are tried.

    One action for each of four things to see: a sign left, a sign right, the corridor, the junction. Chance
    does not help: wherever such a policy turns, either side is right half the time.
    """
    limit = 3 * (num_signs + delay + 1) if limit is None else limit
    worlds = []
    for side in (0, 1):
        for signs in itertools.product((0, 1), repeat=num_signs):
            true = sum(sign == side for sign in signs)
            chance = 0.5 * accuracy**true * (1.0 - accuracy) ** (num_signs - true)
            worlds.append((chance, side, [*signs, *[2] * delay, 3]))
    policies = itertools.product(range(len(ACTIONS)), repeat=4)
    return max(
        sum(chance * _walk(policy, side, cells, bump, limit) for chance, side, cells in worlds)
        for policy in policies
    )


def _walk(policy: tuple[int, ...], side: int, cells: list[int], bump: float, limit: int) -> float:
    """Return of a fixed policy in one maze: `cells` is what is seen in each place."""
    place, earned = 0, 0.0
    for _ in range(limit):
        action = policy[cells[place]]
        if place == len(cells) - 1 and action > 0:
            return earned + float(action - 1 == side)
        if action == 0 and place < len(cells) - 1:
            place += 1
        else:
            earned += bump
    return earned
