"""How far a model's branches stray from Pendulum itself, and how far they could at most.

Two states are compared by the angle between them and the difference of their speeds, the latter in a unit in
which one step of the world pulls no two states more than `STRETCH` times as far apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from chapters.exact import pendulum

PUSH = 15.0 * pendulum.SECONDS
"""How much speed a step adds for each unit of the angle's sine."""
SPEED_UNIT = math.sqrt(PUSH / pendulum.SECONDS)
"""Radians a second that count as much as a radian: then the step's slope is a symmetric matrix."""
Pairs = Float[np.ndarray, "B 2"]


def slope(cosine: float) -> Float[np.ndarray, "2 2"]:
    """The Jacobian of a step in (angle, speed / SPEED_UNIT) at an angle of this cosine, speeds uncut."""
    faster = PUSH * cosine / SPEED_UNIT
    return np.array([[1.0 + pendulum.SECONDS * PUSH * cosine, pendulum.SECONDS * SPEED_UNIT], [faster, 1.0]])


STRETCH = float(np.linalg.norm(slope(1.0), 2))
"""The largest slope in any direction: that of the upright pendulum.

The largest singular value is convex in the matrix, so it is largest at one end, cosine 1 or -1; to cut the
speed at its limit brings two states nearer, never further apart.
"""


def states_of(obs: Float[np.ndarray, "B 3"]) -> Pairs:
    """(angle, speed) of observations in units of their bounds; off the circle, the nearest angle on it."""
    return np.stack([np.arctan2(obs[:, 1], obs[:, 0]), obs[:, 2] * pendulum.MAX_SPEED], axis=1)


def distance(some: Pairs, others: Pairs) -> Float[np.ndarray, " B"]:
    """Between states, in radians; angles the short way round."""
    turned = (some[:, 0] - others[:, 0] + math.pi) % (2 * math.pi) - math.pi
    return np.hypot(turned, (some[:, 1] - others[:, 1]) / SPEED_UNIT)


class Strays(NamedTuple):
    """What is measured along branches, a row for each step."""

    strayed: Float[np.ndarray, "k B"]
    """Radians from where the same actions have led in the world."""
    missed: Float[np.ndarray, "k B"]
    """Radians by which this step alone missed, begun from where the branch was."""
    apart: Float[np.ndarray, "k B"]
    """The members' disagreement about this step."""


def follow(
    predict: Callable, disagreement: Callable, act: Callable, starts: Float[Tensor, "B 3"], length: int
) -> Strays:
    """Branches off `starts` in the model, and the same actions in the world.

    predict(obs, actions) -> (next_obs [C, B, 3], rewards [C, B]); at each step a member drawn at random is
    believed. disagreement(next_obs) -> [B]; act(obs) -> actions [B, 1].
    """
    obs, real, rows = starts, states_of(starts.double().numpy()), []
    numbers = torch.arange(len(starts))
    for _ in range(length):
        actions = act(obs)
        said, _ = predict(obs, actions)
        which = torch.randint(len(said), (len(starts),))
        torque = actions.double().numpy()[:, 0]
        here = pendulum.step(*states_of(obs.double().numpy()).T, torque)
        there = pendulum.step(*real.T, torque)
        real = np.stack(there[:2], axis=1)
        obs = said[which, numbers]
        now = states_of(obs.double().numpy())
        missed = distance(now, np.stack(here[:2], axis=1))
        rows.append((distance(now, real), missed, disagreement(said).double().numpy()))
    return Strays(*(np.array(column) for column in zip(*rows)))


def returns(
    predict: Callable, greedy: Callable, states: Pairs, num_steps: int = pendulum.HORIZON
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    """(what episodes of a policy pay in the model, believing the members' mean; what they pay in the world).

    greedy(obs [B, 3] as the world gives them) -> torques [B, 1].
    """
    units = np.array([1.0, 1.0, pendulum.MAX_SPEED])

    def seen(states: Pairs) -> np.ndarray:
        return np.stack([np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1]], axis=1)

    obs, dreamed, lived = seen(states) / units, np.zeros(len(states)), np.zeros(len(states))
    for _ in range(num_steps):
        inputs = (torch.from_numpy(x.astype(np.float32)) for x in (obs, greedy(obs * units)))
        next_obs, rewards = (said.mean(dim=0).double().numpy() for said in predict(*inputs))
        obs, dreamed = next_obs, dreamed + rewards
        *there, paid = pendulum.step(*states.T, greedy(seen(states))[:, 0].astype(float))
        states, lived = np.stack(there, axis=1), lived + paid
    return dreamed, lived
