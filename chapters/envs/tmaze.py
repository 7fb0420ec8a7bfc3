"""A T-maze with several doors (after bakker2002lstm): signs at the entrance say which way each of them opens.

A door opens to the left or to the right. Each has a sign, and the signs hang in any order in the first cells;
each is true with probability `accuracy`. Then comes a corridor of `delay` cells, each with a poster that
means nothing, then a junction with one of the doors. An episode ends (`terminated`) with a turn there: reward
1 for the side to which this door opens, 0 for the other. Anything else but walking forward is a bump: the
agent stays where it is, and pays. A time limit stops who never arrives (`truncated`).

What is seen is a number: signs first (2 x door + side), then posters, then doors at the junction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

FORWARD, LEFT, RIGHT = range(3)
"""What can be done."""
NUM_DOORS, NUM_POSTERS, ACCURACY = 4, 4, 0.9
BUMP = -0.1
"""Reward of a step that leads nowhere."""
PATIENCE = 3
"""The time limit, in times of the way through the longest maze."""


class TMaze:
    """A batch of mazes, stepped together. What is over stays over: its rewards are 0, its flags stay up."""

    def __init__(
        self,
        num_envs: int,
        delays: tuple[int, int],
        rng: np.random.Generator,
        num_doors: int = NUM_DOORS,
        accuracy: float = ACCURACY,
    ) -> None:
        self.num_envs, self.delays, self.rng = num_envs, delays, rng
        self.num_doors, self.accuracy = num_doors, accuracy
        self.posters_from = 2 * num_doors
        self.doors_from = self.posters_from + NUM_POSTERS
        self.num_obs = self.doors_from + num_doors
        self.limit = PATIENCE * (num_doors + delays[1] + 1)

    def reset(self) -> Int[np.ndarray, " B"]:
        """New mazes, each with a delay drawn evenly from `delays`, ends included; returns the first obs."""
        num, rng = self.num_envs, self.rng
        self.sides = rng.integers(0, 2, size=(num, self.num_doors))  # 0 left, 1 right
        self.door = rng.integers(0, self.num_doors, size=num)
        delay = rng.integers(self.delays[0], self.delays[1] + 1, size=num)
        true = rng.random((num, self.num_doors)) < self.accuracy
        self.told = np.where(true, self.sides, 1 - self.sides)  # what the sign of each door says
        self.order = rng.permuted(np.tile(np.arange(self.num_doors), (num, 1)), axis=1)
        self.posters = rng.integers(self.posters_from, self.doors_from, size=(num, max(self.delays[1], 1)))
        self.junction = self.num_doors + delay
        self.place = np.zeros(num, dtype=np.int64)
        self.num_steps = 0
        self.terminated = np.zeros(num, dtype=bool)
        self.truncated = np.zeros(num, dtype=bool)
        return self.obs()

    @property
    def signs(self) -> Int[np.ndarray, "B D"]:
        """The signs in the order in which they hang."""
        return 2 * self.order + np.take_along_axis(self.told, self.order, axis=1)

    def obs(self) -> Int[np.ndarray, " B"]:
        """What each agent sees where it stands."""
        rows, first = np.arange(self.num_envs), self.num_doors
        sign = self.signs[rows, np.minimum(self.place, first - 1)]
        poster = self.posters[rows, np.clip(self.place - first, 0, self.posters.shape[1] - 1)]
        beyond = np.where(self.place == self.junction, self.doors_from + self.door, poster)
        return np.where(self.place < first, sign, beyond)

    def opens(self) -> Int[np.ndarray, " B"]:
        """The side to which the door at the junction opens: 0 left, 1 right."""
        return self.sides[np.arange(self.num_envs), self.door]

    def belief(self, door: int) -> Float[np.ndarray, " B"]:
        """The chance that a door opens to the right, given its sign."""
        return np.where(self.told[:, door] == 1, self.accuracy, 1.0 - self.accuracy)

    def asked(self, obs: Int[np.ndarray, " B"]) -> Bool[np.ndarray, " B"]:
        """Where a door is seen, so that a turn leads somewhere."""
        return obs >= self.doors_from

    def step(
        self, actions: Int[np.ndarray, " B"]
    ) -> tuple[
        Int[np.ndarray, " B"], Float[np.ndarray, " B"], Bool[np.ndarray, " B"], Bool[np.ndarray, " B"]
    ]:  # fmt: skip
        """(obs, rewards, terminated, truncated) after one action in each maze."""
        running = ~(self.terminated | self.truncated)
        there = self.place == self.junction
        walks = running & ~there & (actions == FORWARD)
        turns = running & there & (actions != FORWARD)
        bumps = running & ~walks & ~turns
        rewards = np.where(turns & (actions == LEFT + self.opens()), 1.0, np.where(bumps, BUMP, 0.0))
        self.place = self.place + walks
        self.num_steps += 1
        self.terminated = self.terminated | turns
        if self.num_steps >= self.limit:
            self.truncated = self.truncated | (running & ~turns)
        return self.obs(), rewards, self.terminated, self.truncated


@torch.no_grad()
def right_turns(policy: Any, delays: Sequence[int], seed: int, num_orders: int = 4) -> list[float]:
    """Chance of the right turn after each delay: mean over all doors and all that the four signs can say.

    policy: `write(obs, memory)` returns the memory, None before it; `act(obs, memory)` the log-probabilities
    of left and right. The order of the signs and the posters are drawn at random, `num_orders` times.
    """
    maze = TMaze(16 * num_orders, (1, 1), np.random.default_rng(seed))
    maze.reset()
    maze.told = np.arange(maze.num_envs)[:, None] >> np.arange(maze.num_doors) & 1
    memory, found = None, []
    for sign in maze.signs.T:
        memory = policy.write(torch.from_numpy(sign), memory)
    for walked in range(max(delays) + 1):
        if walked in delays:
            chances = []
            for door in range(maze.num_doors):
                seen = torch.full((maze.num_envs,), maze.doors_from + door)
                turns = policy.act(seen, memory).double().softmax(dim=1).numpy()
                right = maze.belief(door)
                chances.append((right * turns[:, 1] + (1.0 - right) * turns[:, 0]).mean())
            found.append(float(np.mean(chances)))
        poster = maze.rng.integers(maze.posters_from, maze.doors_from, size=maze.num_envs)
        memory = policy.write(torch.from_numpy(poster), memory)
    return found


def measured(policy: Any, delay: int, seed: int) -> dict[str, float]:
    """Chance of the right turn in corridors of one length, for a run's log."""
    return {"chance": right_turns(policy, [delay], seed)[0]}
