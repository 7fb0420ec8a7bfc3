"""What a learner can log about itself so that `rl diagnose` can read it: torch tensors in, numbers out.

`chapters/diagnosis/rules.py` lists the names and what each must be; E3 shows where in a learner they belong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def gae_residual(
    advantages: Tensor, rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor,
    truncated: Tensor, gamma: float, gae_lambda: float,
) -> Tensor:  # fmt: skip
    """How far advantages [T, N] are from GAE's identity, A_t - gamma lambda (1 - done_t) A_{t+1} = delta_t.

    `next_values[t]` is the value of the true successor; terminated and truncated are the environment's own.
    """
    later = advantages.roll(-1, 0)
    later[-1] = 0.0  # the sum ends with the batch
    td_error = advantages - gamma * gae_lambda * later * ~(terminated | truncated)
    return td_error - (rewards + gamma * next_values * ~terminated - values)


def gaps(residual: Tensor, unit: Tensor, terminated: Tensor, truncated: Tensor) -> dict[str, float]:
    """A residual's mean size, in units, within episodes, at time limits, at true ends (if any)."""
    places = {
        "inside": ~(terminated | truncated),
        "truncated": truncated & ~terminated,
        "terminated": terminated,
    }
    size = residual.abs() / unit if unit > 0 else residual.abs()
    return {f"gap_{place}": size[where].mean().item() for place, where in places.items() if where.any()}


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 for a perfect critic, negative for one that is worse than a constant; 0 if nothing varies."""
    spread = returns.var(correction=0)
    known = spread > 0 and _vary(returns)
    return (1.0 - (returns - values).var(correction=0) / spread).item() if known else 0.0


def alignment(surprise: Tensor, log_ratio: Tensor) -> float:
    """Correlation of how much better it went than expected with how much likelier it became.

    0 if either is the same everywhere.
    """
    known = _vary(surprise) and _vary(log_ratio)
    surprise, log_ratio = (values.double() - values.double().mean() for values in (surprise, log_ratio))
    norms = surprise.norm() * log_ratio.norm()
    return (surprise @ log_ratio / norms).item() if known and norms > 0 else 0.0


def _vary(values: Tensor) -> bool:
    """Whether they differ, whatever their size: of equal ones the mean leaves nothing but rounding."""
    return bool((values != values.flatten()[:1]).any())


def repeat_gap(rows: dict[str, list[tuple[int, float]]], again: dict[str, list[tuple[int, float]]]) -> float:
    """How far a repetition is from a run, summed over all that both logged: 0 if everything is seeded."""
    pairs = [pair for name in again for pair in zip(rows.get(name, ()), again[name])]
    differences = [abs(first - second) for (_, first), (_, second) in pairs]
    return sum(number for number in differences if number == number)  # what is no number on both is no news


def note(rows: dict[str, list[tuple[int, float]]], step: int, **values: float) -> None:
    """Add to a run's metrics."""
    for name, value in values.items():
        number = value.item() if hasattr(value, "item") else value
        rows.setdefault(name, []).append((step, float(number)))
