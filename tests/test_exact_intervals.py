"""The interval for a median: its coverage by enumeration, by simulation, and on what the course recorded."""

import itertools

import numpy as np
import pytest
from scipy import stats

from chapters.course import ledger
from chapters.course.catalog import lessons
from chapters.exact.intervals import median_interval, median_ranks

RECORDED = [item for item in lessons() if item.ledger.exists()]


@pytest.mark.parametrize("n", [*range(1, 15), 20, 32, 64])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_ranks_by_the_binomial_distribution(n, confidence):
    rank, coverage = median_ranks(n, confidence)

    def covers(k):
        return stats.binom.cdf(n - k, n, 0.5) - stats.binom.cdf(k - 1, n, 0.5)

    assert coverage == pytest.approx(covers(rank), abs=1e-12)
    assert coverage >= confidence or rank == 1
    assert rank + 1 > n // 2 or covers(rank + 1) < confidence  # no narrower one covers enough


@pytest.mark.parametrize(("n", "rank", "coverage"), [(3, 1, 0.75), (5, 1, 0.9375), (9, 2, 0.9609)])
def test_ranks_by_hand(n, rank, coverage):
    assert median_ranks(n) == (rank, pytest.approx(coverage, abs=1e-4))


def test_ends_are_the_values_of_these_ranks():
    values = np.array([3.0, 9.0, 1.0, 7.0, 5.0, 2.0, 8.0, 4.0, 6.0, 0.0])
    assert median_interval(values).tolist() == [1.0, 8.0]
    assert median_interval(values[:5]).tolist() == [1.0, 9.0]
    assert median_interval(np.array([4.0])).tolist() == [4.0, 4.0]
    both = median_interval(np.stack([values, -values]))
    assert both.tolist() == [[1.0, -8.0], [8.0, -1.0]]


@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy"])
def test_the_median_is_covered_as_often_as_said_whatever_the_distribution(draw):
    rng = np.random.default_rng(0)
    median = {"normal": 0.0, "exponential": np.log(2), "standard_cauchy": 0.0}[draw]
    for n in (5, 10):
        low, high = median_interval(getattr(rng, draw)(size=(40_000, n)))
        covered = ((low <= median) & (median <= high)).mean()
        assert covered == pytest.approx(median_ranks(n)[1], abs=0.006)


@pytest.mark.parametrize("item", RECORDED, ids=lambda item: item.id)
def test_it_covers_the_median_of_all_that_the_course_recorded(item):
    """Each list of recorded seeds taken for a whole distribution, with all draws of five from it."""
    for _, records in ledger.claims_of(ledger.load(item)):
        values = np.array([claim.value for claim in records], dtype=float)
        if np.isnan(values).any():
            continue
        median = np.median(values)
        kinds, counts = np.unique(np.sign(values - median), return_counts=True)
        drawn = np.array(list(itertools.product(range(len(kinds)), repeat=5)))
        low, high = median_interval(kinds[drawn])
        covered = ((low <= 0) & (high >= 0)) @ np.prod(counts[drawn] / len(values), axis=1)
        assert covered >= median_ranks(5)[1] - 1e-9
