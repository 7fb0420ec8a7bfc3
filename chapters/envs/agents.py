"""An actor and a critic for an environment's spaces, with a policy head for the kind of its actions.

All that a policy gradient asks of a policy is to sample an action and to say how likely a given one is. A
head answers both; what the network's outputs mean is its business. Acting is NumPy, since it needs no
gradient; judging is torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.utils import lesson
from chapters.utils.lesson import UsageError
from chapters.utils.networks import in_numpy, tanh_mlp

Vector = Float[Tensor, " B"]


class CategoricalHead(nn.Module):
    """Discrete actions: the outputs [A] are logits."""

    def __init__(self, space: gym.spaces.Discrete) -> None:
        super().__init__()
        self.num_outputs = int(space.n)
        self.first = int(space.start)

    def sample(self, logits: Float[np.ndarray, "N A"], rng: np.random.Generator) -> Int[np.ndarray, " N"]:
        """The largest of logit plus Gumbel noise is distributed as the softmax: no normalising, no loop."""
        return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)

    def judge(self, logits: Float[Tensor, "B A"], actions: Int[Tensor, " B"]) -> tuple[Vector, Vector]:
        """(log-probability of each action, entropy)."""
        log_probs = logits.log_softmax(dim=-1)
        entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
        return log_probs.gather(1, actions.unsqueeze(1)).squeeze(1), entropy

    def likeliest(self, logits: Float[np.ndarray, "N A"]) -> Int[np.ndarray, " N"]:
        """The mode."""
        return logits.argmax(axis=1)

    def applied(self, actions: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """What the environment is given: counted from the space's own first action."""
        return actions + self.first


class GaussianHead(nn.Module):
    """Continuous actions: the outputs [A] are means; the logarithms of the widths are learned beside them."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        (self.num_outputs,) = space.shape
        self.low, self.high = space.low, space.high
        self.log_std = nn.Parameter(torch.zeros(self.num_outputs))

    def sample(self, mean: Float[np.ndarray, "N A"], rng: np.random.Generator) -> Float[np.ndarray, "N A"]:
        """Mean plus noise of the learned width."""
        std = np.exp(self.log_std.detach().numpy())
        return (mean + std * rng.standard_normal(mean.shape)).astype(np.float32)

    def judge(self, mean: Float[Tensor, "B A"], actions: Float[Tensor, "B A"]) -> tuple[Vector, Vector]:
        """(log-density of each action, entropy): sums over the numbers of an action."""
        deviation = (actions - mean) / self.log_std.exp()
        log_prob = -(0.5 * deviation**2 + self.log_std + 0.5 * math.log(2 * math.pi)).sum(dim=-1)
        entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        return log_prob, entropy.expand(len(mean))

    def likeliest(self, mean: Float[np.ndarray, "N A"]) -> Float[np.ndarray, "N A"]:
        """The mode."""
        return mean

    def applied(self, actions: Float[np.ndarray, "N A"]) -> Float[np.ndarray, "N A"]:
        """What the environment is given: clipped to the space's bounds, and only there.

        Not rescaled: a policy that starts around 0 with a width of 1 hardly tries a range like [0, 10] unless
        the environment is wrapped in gymnasium's RescaleAction(env, -1, 1).
        """
        return actions.clip(self.low, self.high)


def head_for(space: gym.Space) -> CategoricalHead | GaussianHead:
    """The head for an action space. Raises UsageError for spaces that have none."""
    if isinstance(space, gym.spaces.Discrete):
        return CategoricalHead(space)
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        return GaussianHead(space)
    raise UsageError(f"actions of {space}: only Discrete, or a Box of one dimension, has a policy head here")


def units_of(space: gym.Space) -> Float[np.ndarray, " D"]:
    """What to divide observations by to make them at most 1: their bounds, or 1 if one of those is missing.

    Raises UsageError if observations are no vectors.
    """
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise UsageError(f"observations of {space}: only vectors, a Box of one dimension, are known here")
    largest = np.maximum(np.abs(space.low), np.abs(space.high))
    if (largest < 1e6).all():
        return np.where(largest > 0, largest, 1).astype(largest.dtype)
    return np.ones_like(largest)


def centre_of(space: gym.Space) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"]]:
    """(middle, half width) of each number of an action. Raises UsageError unless all have limits."""
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.is_bounded():
        return (space.high + space.low) / 2, (space.high - space.low) / 2
    raise UsageError(f"actions of {space}: only a bounded Box of one dimension has limits to keep to")


def check_minibatches(cfg: Any) -> None:
    """Who normalises in a minibatch needs two transitions: one has no spread. UsageError if one is alone."""
    if not all(hasattr(cfg, name) for name in ("num_envs", "num_steps", "minibatch_size")):
        return
    size = cfg.num_envs * cfg.num_steps
    if cfg.minibatch_size == 1 or size % cfg.minibatch_size == 1:
        told = f"--minibatch-size {cfg.minibatch_size} leaves a minibatch of one of {size} transitions"
        raise UsageError(f"{told} (allowed: 2 and more in each, --num-envs times --num-steps in all)")


lesson.CHECKS.append(check_minibatches)


class ActorCritic(nn.Module):
    """Two small networks, nothing shared between them: the actor's outputs for the head, and a value."""

    def __init__(self, envs: gym.vector.VectorEnv, hidden: int = 64) -> None:
        super().__init__()
        self.obs_unit = units_of(envs.single_observation_space)  # [D]: the networks see numbers up to 1
        self.head = head_for(envs.single_action_space)
        sizes = [len(self.obs_unit), hidden, hidden]
        self.actor = tanh_mlp([*sizes, self.head.num_outputs], last_gain=0.01)  # at first it prefers nothing
        self.critic = tanh_mlp([*sizes, 1], last_gain=1.0)

    def judge(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probability of `actions`, entropy), [B] each; `obs` in the networks' units."""
        return self.head.judge(self.actor(obs), actions)

    def value(self, obs: Tensor) -> Tensor:
        """The critic's estimate of each state, [..., D] -> [...]; `obs` in the networks' units."""
        return self.critic(obs).squeeze(-1)

    def greedy(self) -> Callable[[np.ndarray], np.ndarray]:
        """The likeliest action, as a function from an environment's observations to what it is given."""
        actor = in_numpy(self.actor)
        return lambda obs: self.head.applied(self.head.likeliest(actor(obs / self.obs_unit)))
