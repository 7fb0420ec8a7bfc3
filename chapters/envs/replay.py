"""What B4 taught about learning from the past, for the lessons after it: a memory, and slow copies."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


# same-as: B4.ReplayBuffer
class ReplayBuffer:
    """A ring of transitions in NumPy (lin1992replay)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_added = 0
        self.arrays: dict[str, np.ndarray] = {}  # [capacity, ...] each, made by the first `add`

    def __len__(self) -> int:
        return min(self.num_added, self.capacity)

    def add(self, **step: np.ndarray) -> None:
        """Store one array [N, ...] under each name; the oldest transitions make room."""
        num_new = len(step["obs"])
        slots = (self.num_added + np.arange(num_new)) % self.capacity
        for name, values in step.items():
            if name not in self.arrays:
                self.arrays[name] = np.zeros((self.capacity, *values.shape[1:]), values.dtype)
            self.arrays[name][slots] = values
        self.num_added += num_new

    def sample(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """`size` transitions, each drawn from all that are stored with the same probability."""
        drawn = rng.integers(len(self), size=size)  # [B]
        return {name: torch.from_numpy(array[drawn]) for name, array in self.arrays.items()}


# same-as: B4.move_average
@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, rate: float) -> None:
    """Move the weights of `average` towards those of `network`; rate 1 copies (polyak1992averaging)."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), rate)
