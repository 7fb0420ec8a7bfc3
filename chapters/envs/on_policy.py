"""What C1 and C3 taught about learning from one's own policy's steps, for the lessons after them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Grid = Float[Tensor, "T N"]  # a number for each step and environment
Flags = Bool[Tensor, "T N"]


# same-as: C3.gae
def gae(
    rewards: Grid, values: Grid, next_values: Grid, terminated: Flags, truncated: Flags,
    gamma: float, gae_lambda: float,
) -> Grid:  # fmt: skip
    """Advantages; `next_values[t]` is V of the true successor, also at an end (schulman2016gae)."""
    deltas = rewards + gamma * next_values * ~terminated - values
    goes_on = ~(terminated | truncated)
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[0])  # [N]
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * gae_lambda * running * goes_on[t]
        advantages[t] = running
    return advantages


# same-as: C3.approx_kl
def approx_kl(ratio: Float[Tensor, "*B"]) -> Float[Tensor, ""]:
    """How far a policy has moved since the samples were drawn, from their probability ratios."""
    return ((ratio - 1.0) - ratio.log()).mean()
