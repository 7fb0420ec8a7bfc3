"""What theory says of bandits: how small regret can be, how large UCB1's may be, what the best arm pays."""

import math

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad
from scipy.special import rel_entr
from scipy.stats import norm


def bernoulli_kl(p: float, q: float) -> float:
    """KL(Bernoulli(p) || Bernoulli(q)) in nats; infinite where q rules out what p may do.

    Where p is near q its two terms are nearly opposite, and their sum is rounding: a series gives it.
    """
    if p == 0.0 and q < 1.0:
        return 0.0 - math.log1p(-q)  # 1 - q would lose a small q
    gap = q - p
    if 0.0 < p < 1.0 and abs(gap) < 0.01 * min(p, 1 - p):
        return p * _above_log(gap / p) + (1 - p) * _above_log(-gap / (1 - p))
    return float(rel_entr(p, q) + rel_entr(1 - p, 1 - q))  # rel_entr(x, y) is x ln(x / y), 0 where x = 0


def _above_log(x: float) -> float:
    """x - ln(1 + x) for a small x, by its series: x^2 / 2 - x^3 / 3 + ..."""
    return sum((-x) ** k / k for k in range(2, 11))


def lai_robbins(means: tuple[float, ...]) -> float:
    """The limit of regret / ln T on Bernoulli arms for the best of all rules that are good on every bandit.

    Sum of gap / KL over the worse arms (lai1985asymptotically). An arm that a single reward can tell from the
    best one (infinite KL) adds nothing.
    """
    best = max(means)
    worse = [mean for mean in means if mean < best]
    return float(sum((best - mean) / bernoulli_kl(mean, best) for mean in worse))


def auer_bound(means: tuple[float, ...], num_plays: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """UCB1's regret after `num_plays` plays (each at least 1) is at most this (auer2002finite, theorem 1)."""
    gaps = max(means) - np.array(means)  # [K]
    gaps = gaps[gaps > 0]
    return (8 / gaps).sum() * np.log(num_plays) + (1 + np.pi**2 / 3) * gaps.sum()


def hypercube_bound(
    num_features: int, num_plays: float | Float[np.ndarray, " T"]
) -> float | Float[np.ndarray, " T"]:
    """No rule's mean regret is smaller over the linear bandits with every sign of their parameters.

    Arms in [-1, 1]^d, parameters +-1/sqrt(T), noise N(0, 1) (lattimore2020bandit, theorem 24.1).
    """
    return math.exp(-2) / 8 * num_features * np.sqrt(num_plays)


def log_slope(regret: Float[np.ndarray, " T"], start: int | np.integer, stop: int | np.integer) -> float:
    """Slope of the regret after 1, 2, ... plays against ln T, from `start` plays to `stop` > `start`."""
    return float((regret[stop - 1] - regret[start - 1]) / np.log(stop / start))


def expected_maximum(num_arms: int) -> float:
    """E of the largest of `num_arms` standard normal numbers, by numerical integration."""
    return quad(lambda x: x * num_arms * norm.pdf(x) * norm.cdf(x) ** (num_arms - 1), -12, 12)[0]
