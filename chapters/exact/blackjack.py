"""Blackjack solved exactly: no hand is played.

The rules are those of `chapters/envs/blackjack.py`, gymnasium's with `natural=False, sab=False`.
Cards come from an infinite deck, so a hand is described by two things alone: its *hard* sum, in which every
ace counts 1, and whether it holds an ace. A hand only grows. Solved in order of falling sums, every hand
that one more card leads to has been solved before, and no equation needs a second look:

    dealer:  P(score | hand) = sum over cards of P(card) P(score | hand + card); 17 or more stands
    stick:   Q(s, stick) = sum over scores k of P(k | dealer's card) sign(sum - k)
    hit:     Q(s, hit) = sum over cards of P(card) V(s + card), with V = -1 above 21

Tables have the shape `SHAPE`, indexed [usable ace, dealer's card, player's sum], as in the environment.
"""

import functools

import numpy as np
from jaxtyping import Float, Int

STICK, HIT = 0, 1
SHAPE = (2, 11, 22)
PLAYED = np.s_[:, 1:, 12:]
"""The 200 states in which there is something to decide: sums from 12 to 21."""
DECK = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10)
"""One card of each rank; jack, queen and king count 10."""
LOST = -1.0


def score(hard: int, ace: bool) -> int:
    """What a hand counts: one ace counts 11 where that does not exceed 21."""
    return hard + 10 if ace and hard + 10 <= 21 else hard


@functools.cache
def dealer_scores(hard: int, ace: bool) -> Float[np.ndarray, "22"]:
    """Chance of each final score (0: bust) of a dealer who holds this hand."""
    total = score(hard, ace)
    if total > 21:
        return np.eye(22)[0]
    if total >= 17:
        return np.eye(22)[total]
    drawn = [dealer_scores(hard + card, ace or card == 1) for card in DECK]
    return np.mean(drawn, axis=0)


def stick_values(total: int) -> Float[np.ndarray, "11"]:
    """Expected reward of sticking on `total`, for each card that the dealer may show (0 is unused)."""
    values = np.zeros(11)
    for showing in range(1, 11):
        chances = dealer_scores(showing, showing == 1)
        values[showing] = chances @ np.sign(total - np.arange(22))
    return values


def solve_blackjack(policy: Int[np.ndarray, "2 11 22"] | None = None) -> Float[np.ndarray, "2 2 11 22"]:
    """Exact Q[action, state] of `policy`, or of the optimal policy if none is given."""
    q = np.zeros((2, *SHAPE))
    values = np.full((32, 2, 11), LOST)  # [hard sum, holds an ace, dealer's card]; above 21 it is lost
    for hard in range(21, 1, -1):
        for ace in (0, 1):
            total = score(hard, bool(ace))
            usable = int(total != hard)
            stick = stick_values(total)
            hit = np.mean([values[hard + card, ace | (card == 1)] for card in DECK], axis=0)
            q[STICK, usable, :, total] = stick
            q[HIT, usable, :, total] = hit
            if policy is None:
                values[hard, ace] = np.maximum(stick, hit)
            else:
                values[hard, ace] = np.where(policy[usable, :, total] == HIT, hit, stick)
    return q


@functools.cache
def optimal_values() -> Float[np.ndarray, "2 11 22"]:
    """Expected reward in each state under the best policy."""
    return solve_blackjack().max(axis=0)


def policy_values(policy: Int[np.ndarray, "2 11 22"]) -> Float[np.ndarray, "2 11 22"]:
    """Expected reward in each state under `policy`."""
    q = solve_blackjack(policy)
    return np.where(policy == HIT, q[HIT], q[STICK])


def policy_loss(policy: Int[np.ndarray, "2 11 22"]) -> float:
    """Reward per hand that `policy` gives away, with hands that start in any of the 200 states."""
    return float((optimal_values() - policy_values(policy))[PLAYED].mean())
