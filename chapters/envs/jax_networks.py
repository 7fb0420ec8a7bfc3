"""Actor and critic as one vector of weights, the optimiser's arithmetic on it, and minibatches' orders.

Twelve arrays that lie end to end in one make clipping and Adam a few lines on one array, with twelve times
fewer operations to compile and to start. `networks` and `forward` take torch tensors too, so that the same
weights can be tried in both.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from chapters.envs.jax_worlds import World
from chapters.utils import UsageError

Array = Any  # a JAX or NumPy array, or a torch tensor
Number = Float[jax.Array, ""] | float
Shapes = list[tuple[int, int, float]]  # of layers: inputs, outputs, gain at the start


def layer_shapes(world: World, hidden: int = 64) -> Shapes:
    """The actor's three layers, then the critic's."""
    body = [(world.obs_dim, hidden, math.sqrt(2)), (hidden, hidden, math.sqrt(2))]
    return [*body, (hidden, world.num_actions, 0.01), *body, (hidden, 1, 1.0)]


def networks(theta: Array, shapes: Shapes) -> tuple[list, list]:
    """(actor, critic), each a list of (weight [inputs, outputs], bias [outputs]).

    Cut by `split`, whose gradient is one concatenation; that of a slice is a whole vector, mostly zeros.
    """
    sizes = [size for inputs, outputs, _ in shapes for size in (inputs * outputs, outputs)]
    in_jax = isinstance(theta, jax.Array | np.ndarray)
    parts = jnp.split(theta, np.cumsum(sizes)[:-1]) if in_jax else theta.split(sizes)
    pairs = zip(parts[::2], parts[1::2])
    layers = [(weight.reshape(shape[:2]), bias) for shape, (weight, bias) in zip(shapes, pairs)]
    return layers[:3], layers[3:]


def orthogonal_start(key: Key[jax.Array, ""], shapes: Shapes) -> Float[jax.Array, " P"]:
    """Orthogonal weights and zero biases; the policy's last layer nearly zero."""
    noise = jax.random.normal(key, (sum(inputs * outputs for inputs, outputs, _ in shapes),))
    parts, start = [], 0
    for inputs, outputs, gain in shapes:
        tall = noise[start : start + inputs * outputs].reshape(max(inputs, outputs), min(inputs, outputs))
        q, r = jnp.linalg.qr(tall)
        q = q * jnp.sign(jnp.diagonal(r))  # or the rotations would not be uniformly distributed
        parts += [gain * (q if inputs >= outputs else q.T).ravel(), jnp.zeros(outputs)]
        start += inputs * outputs
    return jnp.concatenate(parts)


def forward(layers: list, obs: Array) -> Array:
    """Linear layers with tanh between them, [..., D] -> [..., outputs]."""
    tanh = jnp.tanh if isinstance(obs, jax.Array | np.ndarray) else type(obs).tanh
    for weight, bias in layers[:-1]:
        obs = tanh(obs @ weight + bias)
    return obs @ layers[-1][0] + layers[-1][1]


def categorical(
    logits: Float[jax.Array, "*B A"], actions: Int[jax.Array, "*B"]
) -> tuple[Float[jax.Array, "*B"], Float[jax.Array, "*B"]]:
    """(log-probability of each action, entropy)."""
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(axis=-1)
    return jnp.take_along_axis(log_probs, actions[..., None], axis=-1)[..., 0], entropy


class Moments(NamedTuple):
    """What Adam remembers: running means of the gradient and of its square."""

    mean: Float[Array, " P"]
    square: Float[Array, " P"]


class Learner(NamedTuple):
    """What one update hands to the next: weights, what Adam remembers, where the environments stand."""

    theta: Float[Array, " P"]
    moments: Moments
    obs: Float[Array, "N D"]
    elapsed: Int[Array, " N"]
    """Steps since each environment's episode began."""


def adam_step(
    theta: Float[jax.Array, " P"],
    gradient: Float[jax.Array, " P"],
    moments: Moments,
    k: Int[Array, ""] | int,
    learning_rate: Number,
) -> tuple[Float[jax.Array, " P"], Moments]:
    """(new weights, new moments) of gradient step k = 1, 2, ... (kingma2015adam); nothing changes in place.

    Both moments start at zero and would at first be too small: what their weights sum to makes up for it.
    """
    mean = 0.9 * moments.mean + 0.1 * gradient
    square = 0.999 * moments.square + 0.001 * gradient**2
    change = mean / (1 - 0.9**k) / (jnp.sqrt(square / (1 - 0.999**k)) + 1e-5)
    return theta - learning_rate * change, Moments(mean, square)


def clip_norm(gradient: Float[jax.Array, " P"], max_grad_norm: float) -> Float[jax.Array, " P"]:
    """The gradient, no longer than `max_grad_norm`."""
    norm = jnp.sqrt((gradient**2).sum())
    return gradient * jnp.minimum(1.0, max_grad_norm / (norm + 1e-6))


def shuffles(key: Key[jax.Array, ""], num_epochs: int, size: int) -> Int[jax.Array, "E size"]:
    """For each pass a random order of `size` rows.

    Sorts integers that carry chance in their high bits and the row's number in the low ones.
    """
    num_low = (size - 1).bit_length()  # bits a row's number needs
    chance = jax.random.bits(key, (num_epochs, size)) >> num_low << num_low
    return (jnp.sort(chance | jnp.arange(size, dtype=chance.dtype)) & (2**num_low - 1)).astype(int)


def check_sizes(cfg: Any) -> None:
    """Shapes are compiled in: what does not divide is refused, by a UsageError."""
    for name, size, part in (
        ("--num-envs times --num-steps", cfg.batch_size, cfg.minibatch_size),
        ("--eval-every", cfg.eval_every, cfg.batch_size),
        ("--num-env-steps", cfg.num_env_steps, cfg.eval_every),
    ):
        if size % part:
            raise UsageError(f"{name} is {size}, which must be a multiple of {part}")
