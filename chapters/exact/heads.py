"""What can be read from features: by one linear layer (softmax regression, whose loss has one lowest
value), or by one that has a hidden layer before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax

RIDGE = 1e-5
"""Weight of the squared weights: keeps them finite where classes can be told apart without error."""


def fit_head(
    inputs: Float[np.ndarray, "M F"], targets: Float[np.ndarray, "M K"], max_steps: int = 100
) -> Callable[[Float[np.ndarray, "L F"]], Float[np.ndarray, "L K"]]:
    """Softmax regression by L-BFGS: a function from inputs to log-probabilities.

    targets: one-hot, or any distribution. Inputs are brought to mean 0 and spread 1 first.
    """
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-3
    rows = _standardised(inputs, mean, spread).astype(np.float32)  # half the time of double precision
    targets = targets.astype(np.float32)
    shape = rows.shape[1], targets.shape[1]

    def loss(flat: Float[np.ndarray, " P"]) -> tuple[float, Float[np.ndarray, " P"]]:
        log_probs = log_softmax(rows @ flat.reshape(shape).astype(np.float32), axis=1)
        slope = rows.T @ (np.exp(log_probs) - targets) / len(rows)
        value = -float((targets * log_probs).sum(axis=1).mean()) + RIDGE / 2 * flat @ flat
        return float(value), slope.ravel() + RIDGE * flat

    found = minimize(
        loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": max_steps}
    )
    weights = found.x.reshape(shape)
    return lambda x: log_softmax(_standardised(x, mean, spread) @ weights, axis=1)


def fit_net(
    inputs: Float[np.ndarray, "M F"], targets: Float[np.ndarray, "M K"], max_steps: int = 100, width: int = 32
) -> Callable[[Float[np.ndarray, "L F"]], Float[np.ndarray, "L K"]]:
    """`fit_head` with a hidden layer of `width` tanh units; its first weights are the same at each call."""
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-3
    rows = _standardised(inputs, mean, spread).astype(np.float32)
    targets = targets.astype(np.float32)
    (num_rows, num_inputs), num_targets = rows.shape, targets.shape[1]

    def layers(flat: Float[np.ndarray, " P"]) -> tuple[np.ndarray, np.ndarray]:
        enter, leave = np.split(flat, [num_inputs * width])
        return enter.reshape(num_inputs, width), leave.reshape(width + 1, num_targets)

    def loss(flat: Float[np.ndarray, " P"]) -> tuple[float, Float[np.ndarray, " P"]]:
        enter, leave = layers(flat.astype(np.float32))
        hidden = _with_one(np.tanh(rows @ enter))
        log_probs = log_softmax(hidden @ leave, axis=1)
        errors = (np.exp(log_probs) - targets) / num_rows
        back = rows.T @ ((errors @ leave.T) * (1.0 - hidden**2))[:, :-1]
        slope = np.concatenate([back.ravel(), (hidden.T @ errors).ravel()])
        value = -float((targets * log_probs).sum(axis=1).mean()) + RIDGE / 2 * flat @ flat
        return float(value), slope + RIDGE * flat

    start = np.random.default_rng(0).normal(size=num_inputs * width) / num_inputs**0.5
    start = np.concatenate([start, np.zeros((width + 1) * num_targets)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": max_steps})
    enter, leave = layers(found.x)

    def head(x: Float[np.ndarray, "L F"]) -> Float[np.ndarray, "L K"]:
        return log_softmax(_with_one(np.tanh(_standardised(x, mean, spread) @ enter)) @ leave, axis=1)

    return head


def _standardised(inputs: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Float[np.ndarray, "M F1"]:
    return _with_one((np.asarray(inputs, dtype=float) - mean) / spread)


def _with_one(x: Float[np.ndarray, "M F"]) -> Float[np.ndarray, "M F1"]:
    """A bias as one more input."""
    return np.column_stack([x, np.ones(len(x), dtype=x.dtype)])


def later_half(x: np.ndarray) -> np.ndarray:
    """Rows of the second half of the recordings [T, N, ...]: those that a head is measured on."""
    x = np.asarray(x)
    return x[:, x.shape[1] // 2 :].reshape(-1, *x.shape[2:])


def read(
    inputs: Float[Any, "T N F"], targets: Float[np.ndarray, "T N K"], fit: Callable = fit_head
) -> Float[np.ndarray, "M K"]:
    """Log-probabilities that a head gives on the second half of the recordings, fitted to the first half."""
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    half = inputs.shape[1] // 2
    told = [x[:, :half].reshape(-1, x.shape[2]) for x in (inputs, targets)]
    return fit(*told)(later_half(inputs))


def share_named(
    said: Float[np.ndarray, "M S"], states: Int[np.ndarray, "T N"], beliefs: Float[np.ndarray, "T N S"]
) -> float:
    """How often what `read` said names the true state, per time that the belief's best guess does."""
    truth, best = later_half(states), later_half(beliefs).argmax(axis=1)
    return float((said.argmax(axis=1) == truth).mean() / (best == truth).mean())
