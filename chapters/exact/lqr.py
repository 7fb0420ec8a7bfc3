"""The linear-quadratic regulator: a linear system, a quadratic cost, and everything about it in closed form.

State x and action u move by x' = A x + B u and pay the reward r = -(x'Q x + u'R u); a reward k steps later
counts gamma^k. The best policy is linear, u = -K x, and its value is -x'P x. With the entropy of the policy
added to each reward, weighted by a temperature alpha, the best policy is a Gaussian around the same -K x,
with the same covariance in every state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

States, Actions, Numbers = Float[np.ndarray, "N S"], Float[np.ndarray, "N U"], Float[np.ndarray, " N"]
Square, Gain, Covariance = Float[np.ndarray, "S S"], Float[np.ndarray, "U S"], Float[np.ndarray, "U U"]
MAX_SWEEPS = 100_000


class LQR(NamedTuple):
    """A linear system and its costs."""

    A: Square
    B: Float[np.ndarray, "S U"]
    Q: Square
    R: Covariance
    gamma: float


class Quadratic(NamedTuple):
    """The value function -x'P x + constant."""

    P: Square
    constant: float

    def __call__(self, states: States) -> Numbers:
        return self.constant - np.einsum("ni,ij,nj->n", states, self.P, states)


def double_integrator(dt: float = 0.1, r: float = 0.1, gamma: float = 0.99) -> LQR:
    """A mass on a line, pushed: position and speed, which cost as much as they are off 0."""
    A, B = np.array([[1.0, dt], [0.0, 1.0]]), np.array([[0.0], [dt]])
    return LQR(A, B, np.eye(2), r * np.eye(1), gamma)


def mass_on_a_line() -> LQR:
    """The same mass, each push held for half a second: a rough grip, and so more to lose by a wrong gain."""
    A, B = np.array([[1.0, 0.5], [0.0, 1.0]]), np.array([[0.125], [0.5]])
    return LQR(A, B, np.diag([1.0, 0.1]), 0.5 * np.eye(1), gamma=0.9)


def curvature(system: LQR, P: Square) -> Covariance:
    """R + gamma B'P B: how steeply the value of an action falls around the best one."""
    return system.R + system.gamma * system.B.T @ P @ system.B


def best_gain(system: LQR, P: Square) -> Gain:
    """K, if the rest of the future is worth -x'P x."""
    return system.gamma * np.linalg.solve(curvature(system, P), system.B.T @ P @ system.A)


def riccati(system: LQR) -> Square:
    """P of the best policy, by value iteration. Raises RuntimeError if it does not settle.

    One sweep is one more step to go: P of the best last k steps becomes that of the best k + 1.
    """
    P = np.zeros_like(system.Q)
    for _ in range(MAX_SWEEPS):
        if np.abs(P).max() > 1e100:
            break
        K = best_gain(system, P)
        closed = system.A - system.B @ K
        updated = system.Q + K.T @ system.R @ K + system.gamma * closed.T @ P @ closed
        if np.abs(updated - P).max() <= 1e-14 * np.abs(updated).max():
            return updated
        P = updated
    raise RuntimeError("the values of this system do not settle: can its actions hold it?")


def soft_covariance(system: LQR, P: Square, alpha: float) -> Covariance:
    """Of the soft-optimal Gaussian: alpha/2 (R + gamma B'P B)^-1."""
    return alpha / 2 * np.linalg.inv(curvature(system, P))


def entropy(covariance: Covariance) -> float:
    """Of a Gaussian; minus infinity if it has no width in some direction."""
    with np.errstate(divide="ignore"):
        return 0.5 * float(np.linalg.slogdet(2 * np.pi * np.e * covariance)[1])


def evaluate_exactly(
    system: LQR, K: Gain, covariance: Covariance | None = None, alpha: float = 0.0
) -> Quadratic:
    """The value of the policy N(-K x, covariance), each reward with alpha times its entropy added.

    Without a covariance it is deterministic. Raises RuntimeError if the value is not finite.
    """
    A, B, Q, R, gamma = system
    closed = A - B @ K
    if gamma * np.abs(np.linalg.eigvals(closed)).max() ** 2 >= 1:
        raise RuntimeError("under this gain the cost grows faster than the discount shrinks it")
    size = len(A)
    # P = Q + K'R K + gamma closed'P closed, as a linear system for the entries of P
    onward = np.eye(size**2) - gamma * np.kron(closed.T, closed.T)
    P = np.linalg.solve(onward, (Q + K.T @ R @ K).ravel()).reshape(size, size)
    if covariance is None:
        return Quadratic(P, 0.0)
    bonus = alpha * entropy(covariance) if alpha else 0.0
    a_step = bonus - np.trace(curvature(system, P) @ covariance)  # E[u'(R + gamma B'P B) u] around the mean
    return Quadratic(P, float(a_step) / (1 - gamma))


def q_values(system: LQR, value: Quadratic, states: States, actions: Actions) -> Numbers:
    """The value of an action, followed by a policy of the given value."""
    A, B, Q, R, gamma = system
    cost = np.einsum("ni,ij,nj->n", states, Q, states) + np.einsum("ni,ij,nj->n", actions, R, actions)
    return gamma * value(states @ A.T + actions @ B.T) - cost
