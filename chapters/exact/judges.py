"""What a judge says of pairs of listed answers, and the truth behind it.

A table of wins [M, M] has the chance that the judge takes answer a, the row, for better than answer b.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Square = Float[np.ndarray, "M M"]
Chances = Float[np.ndarray, " M"]


def sigmoid(log_odds):
    """Chances from log-odds, numbers or arrays, without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(log_odds))


# same-as: B8.corrected_rate
def corrected_rate(observed, sensitivity, specificity):
    """The true win rates behind observed ones: numbers, or arrays by group (rogan1978estimating)."""
    return (observed + specificity - 1) / (sensitivity + specificity - 1)


def win_rate(wins: Square, pairs: Square) -> float:
    """Mean of `wins` over pairs that are drawn in proportion to `pairs`; their scale does not matter."""
    return float((pairs * wins).sum() / pairs.sum())


def tilted(kinds: Float[np.ndarray, "M F"], tilt: Float[np.ndarray, " F"]) -> Chances:
    """Probabilities in proportion to exp(kinds @ tilt): a writer who favours some features."""
    scores = kinds @ tilt
    odds = np.exp(scores - scores.max())
    return odds / odds.sum()


def kl_from_even(probs: Chances) -> float:
    """Divergence in nats from the policy that writes all M answers alike."""
    kept = probs[probs > 0]
    return float((kept * np.log(kept)).sum() + np.log(len(probs)))


def at_divergence(scores: Float[np.ndarray, " M"], kl: float) -> Chances:
    """The policy in proportion to exp(scores / beta) that lies `kl` nats from the even one, by bisection.

    Of all policies so near it has the highest expected score (korbak2022bayesian). Where `kl` is more than it
    takes to write nothing but the best answers, such a policy comes back.
    """
    low, high = -15.0, 15.0  # log of 1 / beta
    for _ in range(60):
        middle = (low + high) / 2
        near = kl_from_even(tilted(scores[:, None], np.exp([middle]))) < kl
        low, high = (middle, high) if near else (low, middle)
    return tilted(scores[:, None], np.exp([low]))


def logistic_fit(
    inputs: Float[np.ndarray, "B F"],
    chances: Float[np.ndarray, " B"],
    weights: Float[np.ndarray, " B"],
    ridge: float = 1e-9,
) -> Float[np.ndarray, " F"]:
    """The coefficients by which sigmoid(inputs @ coefficients) is the likeliest forecast of `chances`.

    Newton's method, 30 steps of at most 1. The ridge, a weight of half the coefficients squared in the mean
    loss, keeps at 0 what no input tells.
    """
    found = np.zeros(inputs.shape[1])
    weights = weights / weights.sum()
    for _ in range(30):
        forecast = sigmoid(inputs @ found)
        slope = inputs.T @ (weights * (chances - forecast)) - ridge * found
        bend = (inputs.T * (weights * forecast * (1 - forecast))) @ inputs + ridge * np.eye(len(found))
        step = np.linalg.solve(bend, slope)
        found = found + step * min(1.0, 1.0 / max(1e-12, float(np.abs(step).max())))
    return found
