"""The best that can be done on Pendulum-v1, by dynamic programming on a grid of angles and speeds.

The model, its 200-step limit and the costs are written out here, and a test holds them to gymnasium's. With
k steps left,

    v_k(s) = max over torques u of r(s, u) + gamma v_{k-1}(f(s, u)),  v_0 = 0.

Between the points of the grid values are bilinear. With the 200 steps of an episode left one more step no
longer changes them, so one table serves at all times: `optimal_policy` looks a step ahead in it. What that
policy earns in the environment itself is the *computed optimum*: a policy earns it, so the best earns no
less; a finer grid adds less than 1. `optimum` is its mean over all starts. For all this `gamma` is 1. With a
smaller one `optimal_policy` is the best for that discount, and `optimum` what it earns, counted without: so
much even a perfect learner loses by looking less far ahead.

The regret of a policy is measured from the same starts, since they differ more than policies do:

    best = evaluate(optimal_policy, "Pendulum-v1", episodes=100, seed=seed)
    regret = (best - evaluate(policy, "Pendulum-v1", episodes=100, seed=seed)).mean()  # the same starts
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from jaxtyping import Float

MAX_SPEED, MAX_TORQUE, SECONDS = 8.0, 2.0, 0.05
HORIZON = 200
MEAN_OPTIMUM = -137.8
"""What the computed optimum earns on average over where an episode may begin; a test recomputes it."""
Values = Float[np.ndarray, "angles speeds"]
Points = Float[np.ndarray, "*N"]


def step(angle: Points, speed: Points, torque: Points | float) -> tuple[Points, Points, Points]:
    """(next angle, next speed, reward); angle 0 is upright, and angles may leave [-pi, pi)."""
    off_upright = (angle + math.pi) % (2 * math.pi) - math.pi
    reward = -(off_upright**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * SECONDS, -MAX_SPEED, MAX_SPEED)
    return angle + speed * SECONDS, speed, reward


def corners(angle: Points, speed: Points, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(flat indices [4, ...] of the grid points around each state, their weights); the circle closes."""
    num_angles, num_speeds = shape
    along = (angle / (2 * math.pi) % 1.0) * num_angles  # grid angles: 0, 360/num_angles, ... degrees
    across = (speed + MAX_SPEED) / (2 * MAX_SPEED) * (num_speeds - 1)
    left = np.floor(along).astype(int)
    low = np.clip(np.floor(across).astype(int), 0, num_speeds - 2)
    a, b = along - left, across - low
    left, right = left % num_angles, (left + 1) % num_angles
    indices = np.stack([row * num_speeds + column for row in (left, right) for column in (low, low + 1)])
    return indices, np.stack([(1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b])


@cache
def optimal_values(
    horizon: int = HORIZON,
    num_angles: int = 360,
    num_speeds: int = 321,
    num_torques: int = 5,
    gamma: float = 1.0,
) -> Values:
    """v_horizon on the grid: angles from 0 to 2 pi (without it), speeds from -8 to 8."""
    from scipy.sparse import csr_matrix

    shape = num_angles, num_speeds
    angle, speed = np.meshgrid(
        np.arange(num_angles) * 2 * math.pi / num_angles,
        np.linspace(-MAX_SPEED, MAX_SPEED, num_speeds),
        indexing="ij",
    )
    rewards, moves = [], []  # of each torque: [S], and the weights of its successors [S, S]
    for torque in np.linspace(-MAX_TORQUE, MAX_TORQUE, num_torques):
        *state, reward = step(angle.ravel(), speed.ravel(), float(torque))
        indices, weights = corners(*state, shape)
        starts = np.arange(0, weights.size + 1, 4)
        moves.append(csr_matrix((weights.T.ravel(), indices.T.ravel(), starts), shape=(reward.size,) * 2))
        rewards.append(reward)
    values = np.zeros(angle.size)
    for _ in range(horizon):
        values = np.max([reward + gamma * (move @ values) for reward, move in zip(rewards, moves)], axis=0)
    return values.reshape(shape)


def value_at(values: Values, angle: Points, speed: Points) -> Points:
    """Values between the points of the grid."""
    indices, weights = corners(angle, speed, values.shape)
    return (weights * values.ravel()[indices]).sum(axis=0)


def optimal_policy(
    obs: Float[np.ndarray, "N 3"], num_torques: int = 41, gamma: float = 1.0
) -> Float[np.ndarray, "N 1"]:
    """The torques of the computed optimum, from Pendulum-v1's observations (cosine, sine, speed)."""
    torques = np.linspace(-MAX_TORQUE, MAX_TORQUE, num_torques)
    angle, speed = np.arctan2(obs[:, 1], obs[:, 0])[:, None], obs[:, 2:]
    shape = len(obs), num_torques
    *state, reward = step(*(np.broadcast_to(x, shape).astype(float) for x in (angle, speed, torques)))
    q = reward + gamma * value_at(optimal_values(gamma=gamma), *state)  # [N, torques]
    return torques[q.argmax(axis=1)][:, None]


@cache
def optimum(num_torques: int = 41, gamma: float = 1.0) -> float:
    """The computed optimum: what `optimal_policy` earns an episode, in the mean over Pendulum-v1's starts.

    These, any angle at a speed up to 1, are a lattice of 120 x 10 here, each in the middle of its cell.
    """
    angles, speeds = ((np.arange(n) + 0.5) * 2 / n - 1 for n in (120, 10))  # within -1 and 1
    angle, speed = (x.ravel() for x in np.meshgrid(math.pi * angles, speeds, indexing="ij"))
    earned = np.zeros(angle.size)
    for _ in range(HORIZON):
        obs = np.stack([np.cos(angle), np.sin(angle), speed], axis=1)
        angle, speed, reward = step(angle, speed, optimal_policy(obs, num_torques, gamma)[:, 0])
        earned += reward
    return float(earned.mean())
