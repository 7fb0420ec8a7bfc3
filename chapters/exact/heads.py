"""What can be read from features by one linear layer: softmax regression, whose loss has one lowest value."""

from __future__ import annotations

from collections.abc import Callable

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


def _standardised(inputs: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Float[np.ndarray, "M F1"]:
    return np.column_stack([(np.asarray(inputs, dtype=float) - mean) / spread, np.ones(len(inputs))])


def later_half(x: np.ndarray) -> np.ndarray:
    """Rows of the second half of the recordings [T, N, ...]: those that a head is measured on."""
    x = np.asarray(x)
    return x[:, x.shape[1] // 2 :].reshape(-1, *x.shape[2:])


def read(inputs: Float[np.ndarray, "T N F"], targets: Float[np.ndarray, "T N K"]) -> Float[np.ndarray, "M K"]:
    """Log-probabilities that a head gives on the second half of the recordings, fitted to the first half."""
    inputs, targets = np.asarray(inputs), np.asarray(targets)
    half = inputs.shape[1] // 2
    told = [x[:, :half].reshape(-1, x.shape[2]) for x in (inputs, targets)]
    return fit_head(*told)(later_half(inputs))


def share_named(
    said: Float[np.ndarray, "M S"], states: Int[np.ndarray, "T N"], beliefs: Float[np.ndarray, "T N S"]
) -> float:
    """How often what `read` said names the true state, per time that the belief's best guess does."""
    truth, best = later_half(states), later_half(beliefs).argmax(axis=1)
    return float((said.argmax(axis=1) == truth).mean() / (best == truth).mean())
