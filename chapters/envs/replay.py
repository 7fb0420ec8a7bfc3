"""What B4 taught about learning from the past, for the lessons after it: a memory, and slow copies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
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


class SumTree:
    """Draws places by their weights (schaul2016prioritized); node k has the children 2k and 2k + 1."""

    def __init__(self, capacity: int) -> None:
        self.num_leaves = 1 << (capacity - 1).bit_length()  # a power of two
        self.sums = np.zeros(2 * self.num_leaves)

    def set(self, places: Int[np.ndarray, " K"], weights: Float[np.ndarray, " K"]) -> None:
        """New weights; all sums above them follow."""
        nodes = places + self.num_leaves
        self.sums[nodes] = weights
        while nodes[0] > 1:
            nodes = nodes // 2
            self.sums[nodes] = self.sums[2 * nodes] + self.sums[2 * nodes + 1]

    def find(self, numbers: Float[np.ndarray, " K"]) -> Int[np.ndarray, " K"]:
        """The places in which numbers below the total fall if all weights are laid end to end."""
        nodes = np.ones(len(numbers), dtype=int)
        while nodes[0] < self.num_leaves:
            left = self.sums[2 * nodes]
            right = (numbers >= left) & (self.sums[2 * nodes + 1] > 0)  # rounding leads to no empty place
            numbers = numbers - right * left
            nodes = 2 * nodes + right
        return nodes - self.num_leaves


class PrioritisedReplay(ReplayBuffer):
    """The ring with a sum tree beside it, which says what is drawn; B6 teaches both functions.

    priority(surprise [K]) gives weights to draw by, importance(chances [K], num_stored, beta) those of
    gradients.
    """

    def __init__(self, capacity: int, priority: Callable, importance: Callable) -> None:
        super().__init__(capacity)
        self.tree, self.priority, self.importance = SumTree(capacity), priority, importance
        self.highest = 1.0

    def add(self, **step: np.ndarray) -> None:
        """What is new is drawn first: it gets the highest priority that ever was."""
        slots = (self.num_added + np.arange(len(step["obs"]))) % self.capacity
        super().add(**step)
        self.tree.set(slots, np.full(len(slots), self.highest))

    def draw(self, size: int, beta: float, rng: np.random.Generator) -> tuple[np.ndarray, Tensor, dict]:
        """(places [B], weights [B], transitions), one from each of `size` equal parts of the total.

        The weights are divided by the largest that any stored transition has.
        """
        total, weights = self.tree.sums[1], self.tree.sums[self.tree.num_leaves :]
        places = self.tree.find((np.arange(size) + rng.random(size)) / size * total)
        chances = np.append(weights[places], weights[: len(self)].min()) / total
        corrections = self.importance(chances, len(self), beta)
        batch = {name: torch.from_numpy(array[places]) for name, array in self.arrays.items()}
        return places, torch.from_numpy(corrections[:-1] / corrections[-1]).float(), batch

    def learn(self, places: np.ndarray, surprise: np.ndarray) -> None:
        """How much each transition surprises now, after a step of learning."""
        weights = self.priority(surprise.clip(min=0.0))
        self.highest = max(self.highest, float(weights.max()))
        self.tree.set(places, weights)


# same-as: B4.move_average
@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, rate: float) -> None:
    """Move the weights of `average` towards those of `network`; rate 1 copies (polyak1992averaging)."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), rate)
