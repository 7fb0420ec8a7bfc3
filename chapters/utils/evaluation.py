"""How good is a policy, and how sure are we?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def evaluate(
    policy: Callable[[Any], Any],
    env_id: str = "",
    *,
    episodes: int = 100,
    seed: int,
    envs: Any = None,
    **env_kwargs: Any,
) -> np.ndarray:
    """Undiscounted returns [episodes] of one whole episode in each of `episodes` parallel environments.

    One episode each, rather than the first so many to finish, because the latter favours short ones.
    `policy` maps a batch of observations [episodes, ...] to a batch of actions (numpy or torch).
    Choose a `seed` that training did not use. `envs` are used in place of new ones, one episode in each.
    """
    import numpy as np

    from chapters.utils.envs import make_envs

    envs = make_envs(env_id, episodes, **env_kwargs) if envs is None else envs
    obs, _ = envs.reset(seed=seed)
    returns = np.zeros(envs.num_envs)
    running = np.ones(envs.num_envs, dtype=bool)
    while running.any():
        obs, rewards, terminated, truncated, _ = envs.step(np.asarray(policy(obs)))
        returns[running] += rewards[running]
        running &= ~(terminated | truncated)
    envs.close()
    return returns


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
