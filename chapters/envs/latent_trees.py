"""Trees of latents, many side by side in NumPy: what a search in a learned model needs besides its rules.

Which moves a search tries, and what it makes of what it finds, is the lesson's (E8). Here is what holds the
nodes, and the way down to a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

Path = list[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Each step down: (trees, nodes, moves)."""


class LatentModel(torch.nn.Module):
    """A model of three functions in torch, as a search asks it, in NumPy and without gradients.

    Who inherits has `represent(planes)`, `dynamics(latents, actions)` -> (latents, logits of the chance that
    the move won) and `predict(latents)` -> (logits of moves, values).
    """

    @torch.no_grad()
    def look(self, planes: np.ndarray) -> tuple[np.ndarray, ...]:
        """(latents, logits, values) of boards."""
        latents = self.represent(torch.from_numpy(planes))
        return tuple(part.numpy() for part in (latents, *self.predict(latents)))

    @torch.no_grad()
    def imagine(self, latents: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """(latents, rewards, logits, values) one move on."""
        after, paid = self.dynamics(torch.from_numpy(latents), torch.from_numpy(actions))
        return tuple(part.numpy() for part in (after, torch.sigmoid(paid), *self.predict(after)))


class Known(NamedTuple):
    """What N trees know of a node each."""

    logits: Float[np.ndarray, "N A"]
    visits: Float[np.ndarray, "N A"]
    totals: Float[np.ndarray, "N A"]
    """What the visits of each move have brought in sum, to the player to move there."""
    values: Float[np.ndarray, " N"]
    """The network's guess."""


class Tree:
    """What N searches side by side know: the root at node 0, then a node for each simulation."""

    def __init__(self, latents: np.ndarray, num_nodes: int, num_actions: int) -> None:
        shape = (len(latents), num_nodes)
        self.latents = np.zeros((*shape, latents.shape[1]), dtype=latents.dtype)
        self.latents[:, 0] = latents
        self.rewards, self.values = np.zeros((2, *shape))  # of the move that led there; to who moves there
        self.children = np.full((*shape, num_actions), -1)  # the node behind a move; -1: none yet
        self.logits, self.visits, self.totals = np.zeros((3, *self.children.shape))

    def known(self, rows: Int[np.ndarray, " N"], nodes: Int[np.ndarray, " N"]) -> Known:
        """Of one node of each tree of `rows`."""
        return Known(*(of[rows, nodes] for of in (self.logits, self.visits, self.totals, self.values)))

    def walk(self, actions: Int[np.ndarray, " N"], choose: Callable[[Known], Int[np.ndarray, " N"]]) -> Path:
        """From all roots, first by these moves and then by `choose`, to something new."""
        rows = np.arange(len(actions))
        nodes, path = np.zeros_like(rows), []
        while len(rows):
            path.append((rows, nodes, actions))
            after = self.children[rows, nodes, actions]
            rows, nodes = rows[after >= 0], after[after >= 0]
            actions = choose(self.known(rows, nodes))
        return path

    def grow(self, path: Path, new: int, model) -> Float[np.ndarray, " N"]:
        """Imagine the last move of each path; node `new` is what it leads to. Returns the values there."""
        every = np.arange(len(self.latents))
        nodes, actions = np.zeros((2, len(every)), dtype=int)
        for rows, at, chosen in path:  # what comes later on a path overwrites what came before
            nodes[rows], actions[rows] = at, chosen
        found = model.imagine(self.latents[every, nodes], actions)
        self.latents[:, new], self.rewards[:, new], self.logits[:, new], self.values[:, new] = found
        self.children[every, nodes, actions] = new
        return self.values[:, new]


def normalised(latents: Float[torch.Tensor, "*N D"]) -> Float[torch.Tensor, "*N D"]:
    """Latents over the root of their mean square and 0.001, lest they grow from move to move.

    The small number stands *inside* the root: so the slope at 0, where a latent can begin, is finite.
    """
    return latents * torch.rsqrt((latents**2).mean(dim=-1, keepdim=True) + 1e-3)


def softmax(logits: Float[np.ndarray, "N A"]) -> Float[np.ndarray, "N A"]:
    """Chances from logits, row by row."""
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True)
