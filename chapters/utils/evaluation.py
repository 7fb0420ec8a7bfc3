"""How good is a policy, and how sure are we?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def sustained(returns: list[float], threshold: float, in_a_row: int = 3) -> int | None:
    """Index of the check that completes the first `in_a_row` at or above the threshold; None if none does."""
    run = 0
    for i, value in enumerate(returns):
        run = run + 1 if value >= threshold else 0
        if run == in_a_row:
            return i
    return None


def crossing(metrics: dict, name: str, threshold: float) -> tuple[float, float]:
    """(CPU seconds, steps) until the threshold was known to be sustained; infinite if it never was.

    metrics: as the run log keeps them, with `<name>_return` and `<name>_cpu_seconds` written at each check.
    """
    at = sustained([value for _, value in metrics.get(f"{name}_return", [])], threshold)
    if at is None:
        return float("inf"), float("inf")
    step, seconds = metrics[f"{name}_cpu_seconds"][at]
    return seconds, step


def bootstrap_interval(
    values: Any, statistic: Callable | None = None, *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of `statistic` (default: the mean) over `values` [n], by scipy.

    With fewer than two different values there is nothing to resample: both ends are then the statistic.
    """
    import numpy as np
    from scipy.stats import bootstrap

    # BCa corrects bias and skew, but breaks down on statistics that take few distinct values (a median)
    method = "BCa" if statistic is None else "percentile"
    statistic = statistic or np.mean
    values = np.asarray(values, dtype=float)
    point = float(statistic(values))
    if len(np.unique(values)) < 2:
        return point, point
    interval = bootstrap(
        (values,), statistic, confidence_level=confidence, method=method, rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(interval.low), float(interval.high)
