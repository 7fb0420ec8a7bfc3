"""Gardens as arrays: cells of a few colours, a slippery floor, and walks that somebody shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from chapters.exact.mdp import grid_mdp

COLOURS = "hmw"
"""Home, mud, water: a feature each. Other letters are floor, and # is a wall."""
OLD = ("...wh", ".m.w.", ".m...", ".mmm.", ".....")
"""Where the gardener is watched."""
NEW = ("..m..", "..#..", "h.#ww", "..#m.", "..m..")
"""The same colours elsewhere, and a wall."""


class World(NamedTuple):
    """A decision process without a reward, whose states have features."""

    P: Float[np.ndarray, "S A S"]
    """P[s, a, s2]: the chance that action a in state s leads to s2."""
    features: Float[np.ndarray, "S K"]
    """What landing in a state counts as."""
    start: Float[np.ndarray, " S"]
    """The chances of the first state."""


def garden(grid: Sequence[str], slip: float = 0.1) -> World:
    """A3's grid and its four moves; one feature for each colour; every free cell may be the first."""
    cells = np.array(list("".join(grid)))  # [S]
    features = np.stack([cells == colour for colour in COLOURS], axis=1).astype(float)
    free = cells != "#"
    return World(grid_mdp(grid, gamma=1.0, slip=slip).P, features, free / free.sum())


def _draw(chances: Float[np.ndarray, "N M"], rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """One place of each row, with the row's chances."""
    reach = chances.cumsum(axis=1)
    return (rng.random((len(chances), 1)) * reach[:, -1:] >= reach).sum(axis=1)


def demonstrate(
    world: World, policy: Float[np.ndarray, "T S A"], num_demos: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "T1 N"], Int[np.ndarray, "T N"]]:
    """(states, actions) of so many episodes of a policy that looks at the clock."""
    states, actions = [rng.choice(len(world.start), size=num_demos, p=world.start)], []
    for step in policy:
        actions.append(_draw(step[states[-1]], rng))
        states.append(_draw(world.P[states[-1], actions[-1]], rng))
    return np.array(states), np.array(actions)
