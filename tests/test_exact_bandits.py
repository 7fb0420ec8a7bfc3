"""What theory says of bandits, against sums over outcomes, likelihood ratios and closed forms."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from chapters.exact import bandits
from chapters.utils.edits import Edit, edited


def check_kl(module):
    """The sum over the two outcomes; nothing where p never goes, infinite where only q never goes."""
    for p, q in ((0.5, 0.25), (0.25, 0.5), (0.9, 0.1), (0.3, 0.3)):
        outcomes = ((p, q), (1 - p, 1 - q))
        expected = sum(a * math.log(a / b) for a, b in outcomes)
        assert math.isclose(module.bernoulli_kl(p, q), expected, abs_tol=1e-12)
    for p, q, expected in ((0.0, 0.0, 0), (1.0, 1.0, 0), (0.0, 0.5, math.log(2)), (1.0, 0.5, math.log(2))):
        assert module.bernoulli_kl(p, q) == pytest.approx(expected)
    for p, q in ((0.5, 1.0), (0.5, 0.0), (0.0, 1.0), (1.0, 0.0)):
        assert module.bernoulli_kl(p, q) == math.inf


def check_kl_of_near_arms(module):
    """Against 60 digits: of two terms that are nearly opposite 16 digits leave rounding only."""
    with localcontext() as digits:
        digits.prec = 60
        for p, q in (
            (0.5 - 1e-9, 0.5),
            (0.3, 0.3 - 2e-12),
            (0.999, 0.9990001),
            (1e-5, 1.0001e-5),
            (0.3, 0.3029),
        ):
            outcomes = ((Decimal(p), Decimal(q)), (1 - Decimal(p), 1 - Decimal(q)))
            expected = float(sum(a * (a / b).ln() for a, b in outcomes))
            assert math.isclose(module.bernoulli_kl(p, q), expected, rel_tol=1e-12)
    assert module.bernoulli_kl(0.0, 1e-300) == 1e-300
    assert module.lai_robbins((1e-300, 0.0)) == 1.0


def check_lai_robbins(module):
    def kl(p, q):
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    assert math.isclose(module.lai_robbins((0.5, 0.25)), 0.25 / kl(0.25, 0.5))
    assert math.isclose(module.lai_robbins((0.2, 0.9, 0.6)), 0.7 / kl(0.2, 0.9) + 0.3 / kl(0.6, 0.9))
    assert math.isclose(module.lai_robbins((0.0, 0.5)), 0.5 / math.log(2))


def check_lai_robbins_at_the_edges(module):
    """Equal arms cost nothing; nor, in the limit, does an arm that one failure tells from a sure one."""
    assert module.lai_robbins((0.4, 0.4)) == 0
    assert module.lai_robbins((0.4,)) == 0
    assert module.lai_robbins((1.0, 0.5)) == 0
    assert module.lai_robbins((1.0, 0.5, 0.0)) == 0


def check_auer_bound(module):
    bounds = module.auer_bound((0.9, 0.6, 0.9, 0.5), np.array([1.0, 100.0]))
    for bound, plays in zip(bounds, (1.0, 100.0)):
        exploring = 8 * math.log(plays) / 0.3 + 8 * math.log(plays) / 0.4
        assert math.isclose(bound, exploring + (1 + math.pi**2 / 3) * 0.7, rel_tol=1e-12)


def check_auer_bound_of_equal_arms(module):
    for means in ((0.4, 0.4), (0.4,)):
        bound = module.auer_bound(means, np.array([1.0, 10.0, 100.0]))
        assert np.shape(bound) == (3,)
        assert not bound.any()


def check_hypercube_bound(module):
    """Against the proof: with one sign turned, P(wrong half of the plays) >= exp(-KL) / 4 on average.

    Half of T plays wrong cost T / 2 times at least the gap 1/sqrt(T), for each of d signs; KL is
    T (2 gap)^2 / 2.
    """
    for num_features, num_plays in ((1, 1), (3, 64), (5, 10_000)):
        gap = 1 / math.sqrt(num_plays)
        kl = num_plays * (2 * gap) ** 2 / 2
        expected = num_features * math.exp(-kl) / 4 * num_plays / 2 * gap
        assert math.isclose(module.hypercube_bound(num_features, np.array([float(num_plays)]))[0], expected)


def check_log_slope(module):
    plays = np.arange(1, 2001)
    assert math.isclose(module.log_slope(3.0 + 1.7 * np.log(plays), 20, 2000), 1.7, rel_tol=1e-12)


def check_expected_maximum(module):
    assert math.isclose(module.expected_maximum(2), 1 / math.sqrt(math.pi), rel_tol=1e-8)  # closed forms
    assert math.isclose(module.expected_maximum(3), 1.5 / math.sqrt(math.pi), rel_tol=1e-8)
    sample = np.random.default_rng(11).standard_normal((100_000, 10)).max(axis=1)
    assert abs(module.expected_maximum(10) - sample.mean()) < 5 * sample.std() / math.sqrt(100_000)


CHECKS = [check for name, check in globals().items() if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.filterwarnings("error")
def test_answers(check):
    check(bandits)


def test_a_likelihood_ratio_falls_by_kl_a_pull():
    """What the aside of B0 says of KL: ln(likelihood as good / likelihood as it is), per pull on average."""
    rng = np.random.default_rng(0)
    p, q = 0.25, 0.5
    rewards = rng.random(100_000) < p
    ratios = np.where(rewards, math.log(q / p), math.log((1 - q) / (1 - p)))
    error = ratios.std() / math.sqrt(len(ratios))
    assert abs(ratios.mean() + bandits.bernoulli_kl(p, q)) < 4 * error


WRONG = {
    "arguments swapped": ("bernoulli_kl", "rel_entr(p, q)", "rel_entr(q, p)", check_kl),
    "one outcome": ("bernoulli_kl", " + rel_entr(1 - p, 1 - q)", "", check_kl),
    "near arms like all others": ("bernoulli_kl", "abs(gap) < 0.01", "abs(gap) < 0.0", check_kl_of_near_arms),
    "a term of the series": ("_above_log", "range(2, 11)", "range(3, 11)", check_kl_of_near_arms),
    "KL the wrong way round": (
        "lai_robbins", "bernoulli_kl(mean, best)", "bernoulli_kl(best, mean)", check_lai_robbins,
    ),
    "gap missing": ("lai_robbins", "(best - mean) / bernoulli_kl", "1 / bernoulli_kl", check_lai_robbins),
    "divides by zero": (
        "bernoulli_kl",
        "rel_entr(p, q) + rel_entr(1 - p, 1 - q)",
        "p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))",
        check_lai_robbins_at_the_edges,
    ),
    "gap multiplied": ("auer_bound", "(8 / gaps)", "(8 * gaps)", check_auer_bound),
    "constant term": ("auer_bound", "1 + np.pi**2 / 3", "np.pi**2 / 3", check_auer_bound),
    "the best arm counted": (
        "auer_bound", "gaps = gaps[gaps > 0]", "gaps = gaps + 1e-3", check_auer_bound_of_equal_arms,
    ),
    "shape lost": (
        "auer_bound",
        "(8 / gaps).sum() * np.log(num_plays)",
        "sum(8 * np.log(num_plays) / gap for gap in gaps)",
        check_auer_bound_of_equal_arms,
    ),
    "no root": ("hypercube_bound", "np.sqrt(num_plays)", "num_plays", check_hypercube_bound),
    "another constant": ("hypercube_bound", "/ 8", "/ 4", check_hypercube_bound),
    "index off by one": ("log_slope", "regret[start - 1]", "regret[start]", check_log_slope),
    "one arm too few": (
        "expected_maximum",
        "norm.cdf(x) ** (num_arms - 1)",
        "norm.cdf(x) ** num_arms",
        check_expected_maximum,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("function", "old", "new", "check"), WRONG.values(), ids=WRONG)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_version_is_noticed(function, old, new, check):
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion, a shape or a crash: each is a rejection
        check(edited(bandits, Edit(function, old, new, "wrong")))
