"""Parts of recurrent networks in JAX that lessons share: layers, a gated recurrent unit, categorical codes.

Weights are a dictionary with a (matrix, bias) for each layer's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from chapters.envs.jax_networks import Moments, adam_step, clip_norm
from chapters.utils import RunLog

Arrays = Array | np.ndarray
Layer = tuple[Arrays, Arrays]
Weights = dict[str, Layer]
FAST = {"xla_backend_optimization_level": 1}
"""How to compile a recurrent model: in two thirds of the time, and it runs as fast."""
AT_ONCE = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""How to compile one for a few steps: in a fifth of the time of that, and it runs more slowly."""


def how_to_compile(num_updates: int) -> dict[str, Any]:
    return FAST if num_updates > 50 else AT_ONCE


class Models(NamedTuple):
    """K models that are trained side by side, and what their optimiser remembers."""

    theta: Float[Array, "K P"]
    average: Float[Array, "K P"]
    """Running averages of the weights."""
    moments: Moments
    k: Int[Array, ""] | int
    """Updates so far."""


def random_layers(rng: np.random.Generator, sizes: dict[str, Sequence[int]]) -> Weights:
    """A layer for each name, from its (inputs, outputs): normal weights over the root of inputs, no bias."""
    return {
        name: (
            (rng.normal(size=(inputs, outputs)) / inputs**0.5).astype(np.float32),
            np.zeros(outputs, dtype=np.float32),
        )
        for name, (inputs, outputs) in sizes.items()
    }


def linear(layer: Layer, x: Float[Arrays, "*B I"]) -> Float[Arrays, "*B O"]:
    return x @ layer[0] + layer[1]


def gru(weights: Weights, h: Float[Arrays, "N H"], x: Float[Arrays, "N X"]) -> Float[Arrays, "N H"]:
    """The next memory of a gated recurrent unit (cho2014gru), in the form that libraries compute.

    Layers `input` and `memory` lead to three parts each, in this order: reset, keep, new.
    """
    x_reset, x_keep, x_new = jnp.split(linear(weights["input"], x), 3, axis=1)
    h_reset, h_keep, h_new = jnp.split(linear(weights["memory"], h), 3, axis=1)
    keep = jax.nn.sigmoid(x_keep + h_keep)
    return keep * h + (1.0 - keep) * jnp.tanh(x_new + jax.nn.sigmoid(x_reset + h_reset) * h_new)


def train(
    objective: Callable,
    start: Weights,
    choices: Float[np.ndarray, "K J"],
    draw: Callable[[int, np.random.Generator], Any],
    cfg: Any,
    log: RunLog,
    measure: Callable[[list[Weights], int], None] = lambda models, step: None,
    num_rounds: int = 3,
) -> list[Weights]:
    """K models side by side from the same first weights, on the same batches and with the same chance.

    objective(weights, average, choice, batch, cfg) is the loss of one model, whose row of `choices` says
    which of the objectives is its own. draw: so many new recordings, arrays [T, N, ...]. cfg: seed,
    num_updates, batch_size, learning_rate (Adam's, falling to 0 over the second half; gradients are no longer
    than 1), rate (of the running average). `measure` is called after each of `num_rounds` rounds.
    """
    rng, choices = np.random.default_rng(cfg.seed), np.asarray(choices, dtype=np.float32)
    theta = np.tile(np.concatenate([x.ravel() for x in jax.tree.leaves(start)]), (len(choices), 1))
    models = Models(theta, theta, Moments(0 * theta, 0 * theta), 0)
    sizes = tuple((name, weight.shape) for name, (weight, _) in start.items())
    learn = _learner(objective, replace(cfg, seed=0), sizes)
    U, B = cfg.num_updates // num_rounds, cfg.batch_size
    for call in log.track(range(num_rounds), "rounds"):
        new = draw(U * B, rng)
        batches = jax.tree.map(lambda x: np.moveaxis(x.reshape(len(x), U, B, *x.shape[2:]), 1, 0), new)
        done = call * U + np.arange(U)
        fall = np.minimum(1.0, 2.0 * (1.0 - done / cfg.num_updates))
        steps = cfg.learning_rate * np.minimum(1.0, (done + 1) / 50) * fall
        models, _ = learn(models, batches, steps.astype(np.float32), choices)
        measure(apart(models, start), (call + 1) * U)
    return apart(models, start)


def apart(models: Models, like: Weights) -> list[Weights]:
    """The weights of each model, as layers."""
    leaves, tree = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    return [
        jax.tree.unflatten(tree, [x.reshape(leaf.shape) for x, leaf in zip(np.split(theta, ends), leaves)])
        for theta in np.asarray(models.theta)
    ]


@cache
def _learner(objective: Callable, cfg: Any, sizes: tuple[tuple[str, tuple[int, int]], ...]) -> Callable:
    """Compiled once: (models, batches, step sizes [U], choices) to (models after U updates, losses)."""
    unravel = ravel_pytree({name: (np.zeros(size), np.zeros(size[1])) for name, size in sizes})[1]

    def loss(theta, average, choice, batch):
        return objective(unravel(theta), unravel(average), choice, batch, cfg)

    def update(choices, models, x):
        batch, learning_rate = x
        slopes = jax.vmap(jax.value_and_grad(loss), in_axes=(0, 0, 0, None))
        losses, gradient = slopes(models.theta, models.average, choices, batch)
        gradient = jax.vmap(clip_norm, in_axes=(0, None))(gradient, 1.0)
        step = jax.vmap(adam_step, in_axes=(0, 0, 0, None, None))
        theta, moments = step(models.theta, gradient, models.moments, models.k + 1, learning_rate)
        average = (1.0 - cfg.rate) * models.average + cfg.rate * theta
        return Models(theta, average, moments, models.k + 1), losses

    @partial(jax.jit, compiler_options=how_to_compile(cfg.num_updates))
    def learn(models, batches, learning_rates, choices):
        return lax.scan(partial(update, choices), models, (batches, learning_rates))

    return learn
