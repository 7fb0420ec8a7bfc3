"""Exact distributions of returns: of chains that end, and of a coin that is tossed for ever."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Outcome(NamedTuple):
    """What a step may bring."""

    chance: float
    reward: float
    next_state: int
    """A later state, or the number of states: then the chain has ended."""


Chain = list[list[Outcome]]
"""The outcomes of a step from each state; they add up to 1."""

DICE = [
    [Outcome(0.5, 1.0, 1), Outcome(0.5, 0.0, 2)],
    [Outcome(0.3, 2.0, 2), Outcome(0.7, -1.0, 3)],
    [Outcome(0.6, 1.0, 3), Outcome(0.4, -1.0, 5)],
    [Outcome(0.5, 3.0, 4), Outcome(0.5, 0.0, 4)],
    [Outcome(0.8, -1.0, 5), Outcome(0.2, 2.0, 5)],
]
"""Five states, whole rewards; from the first the returns without a discount lie between -3 and 9."""


def return_distributions(chain: Chain, gamma: float) -> list[dict[float, float]]:
    """What the return of each state may be, and how likely each value is; the last entry is the end's."""
    found: list[dict[float, float]] = [{} for _ in chain] + [{0.0: 1.0}]
    for state in reversed(range(len(chain))):
        for chance, reward, next_state in chain[state]:
            if next_state <= state:
                raise ValueError(f"state {state} leads back to {next_state}: this chain need not end")
            for value, share in found[next_state].items():
                total = round(reward + gamma * value, 12)  # equal sums are one value
                found[state][total] = found[state].get(total, 0.0) + chance * share
    return found


def cdf(distribution: dict[float, float], x: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The chance of a value of at most x, for each x."""
    values, chances = np.array(list(distribution)), np.array(list(distribution.values()))
    return (chances * (values <= x[:, None])).sum(axis=1)


def uniform_cdf(x: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The same for the coin that pays 0 or 1/2 at each toss, discounted by 1/2: uniform between 0 and 1.

    The return's binary digits are the tosses.
    """
    return np.clip(x, 0.0, 1.0)
