"""A ring of 12 cells seen through noise: one colour for several cells, and now and then a wrong one.

The agent steps to the left or to the right and sometimes stays where it is. It sees the colour of its cell,
not the cell. Landing at home pays 1. The tables (`ring`) are all there is to know: what can be known from
colours is then exact (`chapters/exact/beliefs.py`). `RingWorld-v0` is the same world for gymnasium.

Beside it, the ring as a picture: a ball on the rim of 8 x 8 pixels, hidden now and then, and a wallpaper in
the middle that has nothing to do with it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float, Int

LEFT, RIGHT = range(2)
"""What can be done."""
COLOURS = (0, 0, 1, 0, 2, 1, 1, 2, 0, 2, 2, 1)
"""The colour of each cell."""
NUM_CELLS, NUM_COLOURS = 12, 3
WRONG_COLOUR, SLIP, HOME = 0.05, 0.1, 0
"""Chance to see another colour, chance to stay, the cell that pays."""
END = 1 / 32
"""Chance that an episode of a recording gives way to a new one, before each step."""
RIM = ((0, 0), (0, 1), (0, 2), (0, 3), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1), (3, 0), (2, 0), (1, 0))
"""Where the cells lie in a picture of 4 x 4 blocks, clockwise; a block is 2 x 2 pixels."""


class HiddenWorld(NamedTuple):
    """The tables of a world whose states are not seen; their meaning is that of `exact/beliefs.py`."""

    P: Float[np.ndarray, "S A S"]
    emission: Float[np.ndarray, "S O"]
    start: Float[np.ndarray, " S"]
    rewards: Float[np.ndarray, "S A"]


class Recording(NamedTuple):
    """What happened, time first: `actions[t]` is done after `obs[t]`; `first[t]` begins an episode."""

    states: Int[np.ndarray, "T N"]
    obs: Int[np.ndarray, "T N"]
    actions: Int[np.ndarray, "T N"]
    first: Bool[np.ndarray, "T N"]


class Batch(NamedTuple):
    """A recording as networks get it: one-hot rows, 1 where an episode begins, and chance made beforehand."""

    obs: Float[np.ndarray, "T N D"]
    actions: Float[np.ndarray, "T N A"]
    first: Float[np.ndarray, "T N"]
    gumbel: Float[np.ndarray, "T N G C"]
    """What makes the largest log-probability a draw, once it is added."""


def ring(wrong_colour: float = WRONG_COLOUR, slip: float = SLIP) -> HiddenWorld:
    """The ring, seen as colours; it begins in any cell."""
    emission = np.full((NUM_CELLS, NUM_COLOURS), wrong_colour / (NUM_COLOURS - 1))
    emission[np.arange(NUM_CELLS), COLOURS] = 1.0 - wrong_colour
    return _world(emission, slip)


def hidden_ball(hidden: float = 0.3, slip: float = SLIP) -> HiddenWorld:
    """The ring, seen as a ball: the observation is its cell, or, with chance `hidden`, nothing: 12."""
    emission = np.column_stack([(1.0 - hidden) * np.eye(NUM_CELLS), np.full(NUM_CELLS, hidden)])
    return _world(emission, slip)


def _world(emission: Float[np.ndarray, "S O"], slip: float) -> HiddenWorld:
    cells = np.arange(NUM_CELLS)
    P = np.zeros((NUM_CELLS, 2, NUM_CELLS))
    for action, step in ((LEFT, -1), (RIGHT, 1)):
        P[cells, action, (cells + step) % NUM_CELLS] += 1.0 - slip
        P[cells, action, cells] += slip
    return HiddenWorld(P, emission, np.full(NUM_CELLS, 1.0 / NUM_CELLS), P[:, :, HOME].copy())


def draw(chances: Float[np.ndarray, "N K"], rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """One number for each row, with the row's chances."""
    edges = chances.cumsum(axis=1)
    edges[:, -1] = 1.0  # not a rounding error less
    return (rng.random((len(chances), 1)) >= edges).sum(axis=1)


def record(
    world: HiddenWorld, num_steps: int, num_envs: int, end: float, rng: np.random.Generator
) -> Recording:
    """Worlds in which actions are drawn evenly, and an episode gives way to a new one with chance `end`."""
    actions = rng.integers(world.P.shape[1], size=(num_steps, num_envs))
    first = rng.random((num_steps, num_envs)) < end
    first[0] = True
    states = np.zeros_like(actions)
    obs = np.zeros_like(actions)
    chances = np.tile(world.start, (num_envs, 1))
    for t in range(num_steps):
        if t:
            chances = np.where(first[t][:, None], world.start, world.P[states[t - 1], actions[t - 1]])
        states[t] = draw(chances, rng)
        obs[t] = draw(world.emission[states[t]], rng)
    return Recording(states, obs, actions, first)


def as_batch(
    recording: Recording, world: HiddenWorld, code: tuple[int, int], rng: np.random.Generator
) -> Batch:
    """What is observed and done, one-hot; `code` are the groups and classes that are drawn at each step."""
    obs, actions = (np.eye(size, dtype=np.float32) for size in (world.emission.shape[1], world.P.shape[1]))
    uniform = rng.random((*recording.obs.shape, *code), dtype=np.float32)
    gumbel = -np.log(-np.log(np.clip(uniform, 1e-7, 1 - 1e-6)))
    return Batch(obs[recording.obs], actions[recording.actions], recording.first.astype(np.float32), gumbel)


def pictures(obs: Int[np.ndarray, "*B"], wallpaper: Bool[np.ndarray, "*B 16"]) -> Float[np.ndarray, "*B 64"]:
    """8 x 8 pixels, 0 or 1: the ball's block on the rim, if it is seen, and the wallpaper in the middle."""
    image = np.zeros((*obs.shape, 8, 8), dtype=np.float32)
    for cell, (row, column) in enumerate(RIM):
        image[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = (obs == cell)[..., None, None]
    image[..., 2:6, 2:6] = wallpaper.reshape(*wallpaper.shape[:-1], 4, 4)
    return image.reshape(*obs.shape, 64)


class RingWorld(gym.Env):
    """The ring for gymnasium: observation a colour, reward 1 for landing at home, no end of its own."""

    metadata = {"render_modes": []}  # noqa: RUF012 — gymnasium's own form

    def __init__(self) -> None:
        self.world = ring()
        self.observation_space = gym.spaces.Discrete(NUM_COLOURS)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.cell = int(draw(self.world.start[None], self.np_random)[0])
        return self._obs(), {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict]:
        self.cell = int(draw(self.world.P[self.cell, int(action)][None], self.np_random)[0])
        return self._obs(), float(self.cell == HOME), False, False, {}

    def _obs(self) -> int:
        return int(draw(self.world.emission[self.cell][None], self.np_random)[0])
