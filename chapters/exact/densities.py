"""Whether what a policy calls its density is one: the chances of all actions add up to 1."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

HANGING_STILL = (-1.0, 0.0, 0.0)  # Pendulum's observation: cosine, sine, speed


def total_chance(
    agent: Any, squash: Callable, log_prob: Callable, obs: Sequence = HANGING_STILL, num_points: int = 20_001
) -> float:
    """A stochastic actor's density, summed over all actions of one state (each a single number).

    agent: has `actor`, from observations to [1, B, 2] means and log widths, and `limit` [1].
    squash: (raw, limit) to actions. log_prob: (raw, mean, log_std, limit) to their log-densities.
    """
    outputs = agent.actor(torch.from_numpy(np.asarray([obs], dtype=np.float32)))[0].detach()
    mean, log_std = outputs.expand(num_points, 2).chunk(2, dim=-1)
    raw = mean + log_std.exp() * torch.linspace(-12.0, 12.0, num_points).unsqueeze(1)
    actions = squash(raw.double(), agent.limit.double()).squeeze(1)
    density = log_prob(raw, mean, log_std, agent.limit).exp()
    return float(torch.trapezoid(density.double(), actions))
