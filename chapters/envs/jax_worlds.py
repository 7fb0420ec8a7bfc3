"""Environments as pure functions of arrays, for learners that are compiled whole; CartPole is one of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int, Key


class World(NamedTuple):
    """An environment whose observation is its whole state, as pure functions on N copies."""

    reset: Callable  # uniform random numbers [N, D] -> first observations [N, D]
    step: Callable  # observations [N, D] and actions [N] -> (next observations, rewards, terminated)
    time_limit: int
    obs_dim: int
    num_actions: int


def cartpole_reset(uniform: Float[jax.Array, "N 4"]) -> Float[jax.Array, "N 4"]:
    """Everything nearly at rest: between -0.05 and 0.05."""
    return 0.1 * uniform - 0.05


def cartpole_step(
    obs: Float[jax.Array, "N 4"], actions: Int[jax.Array, " N"]
) -> tuple[Float[jax.Array, "N 4"], Float[jax.Array, " N"], Bool[jax.Array, " N"]]:
    """Cart and pole 0.02 s later (barto1983neuronlike, with gymnasium's constants)."""
    _, x_dot, theta, theta_dot = obs.T
    force = jnp.where(actions == 1, 10.0, -10.0)
    cos, sin = jnp.cos(theta), jnp.sin(theta)
    push = (force + 0.05 * theta_dot**2 * sin) / 1.1  # in all 1.1 kg; 0.05: the pole's mass times half length
    theta_acc = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    x_acc = push - 0.05 * theta_acc * cos / 1.1
    next_obs = obs + 0.02 * jnp.stack([x_dot, x_acc, theta_dot, theta_acc], axis=1)
    terminated = (jnp.abs(next_obs[:, 0]) > 2.4) | (jnp.abs(next_obs[:, 2]) > math.radians(12))
    return next_obs, jnp.ones_like(x_dot), terminated


CARTPOLE = World(cartpole_reset, cartpole_step, time_limit=500, obs_dim=4, num_actions=2)


class Transition(NamedTuple):
    """One step of N environments; stacked by a scan, a rollout [T, N, ...]."""

    obs: Float[jax.Array, "*T N D"]
    actions: Int[jax.Array, "*T N"]
    rewards: Float[jax.Array, "*T N"]
    next_obs: Float[jax.Array, "*T N D"]
    terminated: Bool[jax.Array, "*T N"]
    truncated: Bool[jax.Array, "*T N"]


class Batch(NamedTuple):
    """What a learner's passes learn from, a row per transition; constant, whatever the weights do next."""

    obs: Float[jax.Array, "*B D"]
    actions: Int[jax.Array, "*B"]
    old_log_probs: Float[jax.Array, "*B"]
    advantages: Float[jax.Array, "*B"]
    returns: Float[jax.Array, "*B"]


def env_step(
    world: World,
    obs: Float[jax.Array, "N D"],
    elapsed: Int[jax.Array, " N"],
    actions: Int[jax.Array, " N"],
    uniform: Float[jax.Array, "N D"],
) -> tuple[Transition, Float[jax.Array, "N D"], Int[jax.Array, " N"]]:
    """(what happened, observations to act on next, steps since their episodes began).

    An episode that ended starts anew in the same step: a first observation is made for every environment, and
    `where` picks. The transition keeps the true successor, whatever is acted on next.
    """
    next_obs, rewards, terminated = world.step(obs, actions)
    elapsed = elapsed + 1
    truncated = elapsed >= world.time_limit
    done = terminated | truncated
    transition = Transition(obs, actions, rewards, next_obs, terminated, truncated)
    return transition, jnp.where(done[:, None], world.reset(uniform), next_obs), jnp.where(done, 0, elapsed)


def greedy_return(
    world: World, logits_of: Callable, key: Key[jax.Array, ""], num_episodes: int
) -> Float[jax.Array, ""]:
    """Mean undiscounted return of whole episodes with the likeliest action by `logits_of(obs)` [N, A]."""

    def step(carry, _):  # all run to the time limit; what comes after an end does not count
        obs, alive, total = carry
        obs, rewards, terminated = world.step(obs, logits_of(obs).argmax(axis=1))
        return (obs, alive & ~terminated, total + rewards * alive), None

    obs = world.reset(jax.random.uniform(key, (num_episodes, world.obs_dim)))
    start = (obs, jnp.ones(num_episodes, dtype=bool), jnp.zeros(num_episodes))
    return lax.scan(step, start, length=world.time_limit)[0][2].mean()
