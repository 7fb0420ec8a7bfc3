"""The audit: what intervals of five seeds cover on every quantity that the course recorded.

B8_recorded.json keeps the values of each ledger at the time of B8's recording, for each claim that varies and
is no timing, so that later recordings do not move B8's numbers. This module, run as a script (`python -m`),
writes it anew. Each list is taken for a whole distribution, from which five seeds are drawn with replacement:
its mean and median are then known.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from chapters.B_core_algorithms import B8_evaluating_agents as lesson
from chapters.utils import write_atomic

RECORDED = Path(__file__).with_name("B8_recorded.json")
CHAPTERS = Path(__file__).resolve().parents[2]
NUM_DRAWN = 5


def collect(chapters: Path = CHAPTERS) -> dict[str, list[float]]:
    """{"B1.success_4x4": values over its recorded seeds} from every ledger but B8's own."""
    found = {}
    for path in sorted(chapters.glob("*/results/*.json")):
        book = json.loads(path.read_text(encoding="utf-8"))
        for name in book["claims"] if path.stem != "B8" else ():
            records = [run["claims"][name] for run in book["runs"]]
            values = [record["value"] for record in records]
            if any(record.get("timed") for record in records) or None in values or len({*values}) < 2:
                continue
            found[f"{path.stem}.{name}"] = [float(f"{value:.6g}") for value in values]
    return {name: values for name, values in found.items() if len({*values}) > 1}


def populations() -> list[Float[np.ndarray, " N"]]:
    """The lists in B8_recorded.json."""
    return [np.array(values) for values in json.loads(RECORDED.read_text(encoding="utf-8")).values()]


def median_coverage(population: Float[np.ndarray, " N"], n: int = NUM_DRAWN) -> float:
    """Exact chance that the lesson's interval for the median of n draws holds the population's median.

    It misses if fewer than k draws lie at or below the median, or fewer than k at or above it. Both at once
    cannot be while k is at most n/2.
    """
    rank, _ = lesson.median_ranks(n)
    median = np.median(population)
    shares = ((population <= median).mean(), (population >= median).mean())
    return 1 - sum(
        math.comb(n, i) * share**i * (1 - share) ** (n - i) for share in shares for i in range(rank)
    )


def multisets(N: int, n: int) -> tuple[Int[np.ndarray, "K n"], Float[np.ndarray, " K"]]:
    """Every way to draw n of N with replacement, order apart, and its chance."""
    drawn = np.array(list(itertools.combinations_with_replacement(range(N), n)))
    counts = (drawn[:, :, None] == np.arange(N)).sum(axis=1)  # [K, N]
    factorials = np.array([math.factorial(i) for i in range(n + 1)])
    return drawn, factorials[n] / factorials[counts].prod(axis=1) / float(N) ** n


def t_coverage(population: Float[np.ndarray, " N"], n: int = NUM_DRAWN) -> float:
    """Exact chance that Student's interval of n draws holds the population's mean."""
    drawn, chances = multisets(len(population), n)
    low, high = lesson.t_interval(population[drawn])
    mean, rounding = population.mean(), 1e-9 * np.ptp(population)
    return float(chances[(low <= mean + rounding) & (mean - rounding <= high)].sum())


def bca_interval(
    values: Float[np.ndarray, "R n"], resamples: Int[np.ndarray, "B n"], confidence: float = 0.95
) -> Float[np.ndarray, "2 R"]:
    """Exercise 2's interval for many experiments at once; of equal values both ends are that value."""
    n, mean = values.shape[1], values.mean(axis=1, keepdims=True)
    counts = (resamples[:, :, None] == np.arange(n)).sum(axis=1)
    means = np.sort(values @ counts.T / n, axis=1)  # [R, B]
    B = means.shape[1]
    rounding = 1e-12 * np.abs(values).max(axis=1, keepdims=True)
    below = ((means < mean - rounding).mean(axis=1) + (means <= mean + rounding).mean(axis=1)) / 2
    z_0 = stats.norm.ppf(below.clip(0.5 / B, 1 - 0.5 / B))
    d = (values - mean) / (n - 1)
    squares = (d**2).sum(axis=1) ** 1.5
    a = np.divide((d**3).sum(axis=1), 6 * squares, out=np.zeros(len(d)), where=squares > 0)
    ends = []
    for alpha in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = z_0 + stats.norm.ppf(alpha)
        place = stats.norm.cdf(z_0 + z / (1 - a * z)) * (B - 1)
        low = np.floor(place).astype(int)
        under, over = (means[np.arange(len(means)), i] for i in (low, np.minimum(low + 1, B - 1)))
        ends.append(under + (place - low) * (over - under))
    return np.stack(ends)


def bootstrap_coverage(
    population: Float[np.ndarray, " N"], num_samples: int, num_resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Shares of five draws whose (percentile, BCa) interval holds the population's mean."""
    values = rng.choice(population, size=(num_samples, NUM_DRAWN))
    resamples = rng.integers(NUM_DRAWN, size=(num_resamples, NUM_DRAWN))
    mean, rounding = population.mean(), 1e-9 * np.ptp(population)
    shares = []
    for interval in (lesson.percentile_interval, bca_interval):
        low, high = interval(values, resamples)
        shares.append(float(((low <= mean + rounding) & (mean - rounding <= high)).mean()))
    return shares[0], shares[1]


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(values)}" for name, values in collect().items())
    write_atomic(RECORDED, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
