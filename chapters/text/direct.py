"""Losses on pairs of whole answers: D4 shows them, later lessons import them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


# same-as: D4.ipo_loss
def ipo_loss(
    log_ratios: Float[Tensor, "B 2"], labels: Float[Tensor, " B"], beta: float
) -> Float[Tensor, " B"]:
    """Squared distance of the log-ratios' difference from the margin that is asked for."""
    gap = log_ratios[:, 0] - log_ratios[:, 1]
    target = 1 / (2 * beta)
    return labels * (gap - target) ** 2 + (1 - labels) * (gap + target) ** 2
