"""Every episode of a small decision process, each with its probability, and the exact gradient of its return.

For processes with so few states, actions and steps that all their episodes can be written down: whatever is
claimed of an average over episodes then needs no sampling.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Table = Float[np.ndarray, "S A"]  # a number for each state and action


class EpisodicMDP(NamedTuple):
    """A decision process that starts in state 0 and takes `num_steps` steps."""

    P: Float[np.ndarray, "S A S"]
    """P[s, a, s2]: probability that action a in state s leads to s2."""
    R: Table
    """Reward of action a in state s."""
    gamma: float
    """Discount factor."""
    num_steps: int
    """T: length of every episode."""


def random_process(
    rng: np.random.Generator, num_states: int, num_steps: int, mean_reward: float
) -> EpisodicMDP:
    """Two actions, random transitions, rewards that scatter about their mean; discount 0.9."""
    P = rng.dirichlet(np.ones(num_states), size=(num_states, 2))
    return EpisodicMDP(P, mean_reward + 0.5 * rng.normal(size=(num_states, 2)), 0.9, num_steps)


def small_process(rng: np.random.Generator) -> tuple[EpisodicMDP, Table]:
    """Three states, two actions, three steps, each of them paid about 1; and the logits of some policy."""
    mdp = random_process(rng, num_states=3, num_steps=3, mean_reward=1.0)
    return mdp, rng.normal(size=(3, 2))


def softmax(logits: Table) -> Table:
    """The policy that a table of logits stands for."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def all_episodes(
    mdp: EpisodicMDP, policy: Table
) -> tuple[Int[np.ndarray, "T K"], Int[np.ndarray, "T K"], Float[np.ndarray, " K"]]:
    """(states, actions, probability) of each of the K possible episodes."""
    num_states, num_actions = policy.shape
    moves = list(itertools.product(range(num_states), range(num_actions)))
    episodes = itertools.product(moves[:num_actions], *[moves] * (mdp.num_steps - 1))  # all begin in state 0
    states, actions = np.array(list(episodes)).transpose(2, 1, 0)  # [T, K] each
    arrivals = mdp.P[states[:-1], actions[:-1], states[1:]].prod(axis=0)  # [K]
    return states, actions, policy[states, actions].prod(axis=0) * arrivals


def all_batches(num_possible: int, num_episodes: int) -> Int[np.ndarray, "N M"]:
    """Every ordered combination of N episodes out of K, each episode by its number: M = K^N columns."""
    return np.indices((num_possible,) * num_episodes).reshape(num_episodes, -1)


def mean_gradients(
    mdp: EpisodicMDP, logits: Table, weigh: Callable, loss: Callable, num_episodes: int
) -> dict[str, Table]:
    """The mean of minus a loss's gradient in the logits over every batch of episodes, by kind of weight.

    weigh(rewards [T, N, M], gamma) gives the weights [T, N, M] of each kind by name; loss(log_probs [B],
    weights [B], num_episodes) is differentiated by autograd.
    """
    import torch

    states, actions, probability = all_episodes(mdp, softmax(logits))  # [T, K], [T, K], [K]
    batches = all_batches(len(probability), num_episodes)  # [N, M]
    chances = probability[batches].prod(axis=0)  # [M]
    means = {}
    for kind, weights in weigh(mdp.R[states, actions][:, batches], mdp.gamma).items():
        theta = torch.tensor(logits, requires_grad=True)
        log_probs = theta.log_softmax(dim=1)[states, actions][:, batches]  # [T, N, M]
        weights = torch.from_numpy(weights * chances)  # a mean over batches is a sum with their chances
        loss(log_probs.flatten(), weights.flatten(), num_episodes).backward()
        means[kind] = -theta.grad.numpy()
    return means


def policy_gradient(mdp: EpisodicMDP, policy: Table) -> Table:
    """The exact gradient of the expected return in the logits: the policy gradient theorem, state by state.

    From action values and state probabilities alone; no episode occurs in it (sutton2000policygradient).
    """
    Q = np.zeros((mdp.num_steps + 1, *policy.shape))  # [T + 1, S, A] nothing is paid after the last step
    for t in reversed(range(mdp.num_steps)):
        Q[t] = mdp.R + mdp.gamma * mdp.P @ (policy * Q[t + 1]).sum(axis=1)
    reached = np.eye(len(policy))[0]  # [S] Pr(s_t = s)
    gradient = np.zeros_like(policy)
    for t in range(mdp.num_steps):
        # the mean over actions of (one-hot - policy) times Q is policy times the advantage
        advantages = Q[t] - (policy * Q[t]).sum(axis=1, keepdims=True)
        gradient += mdp.gamma**t * reached[:, None] * policy * advantages
        reached = np.einsum("s,sa,sab->b", reached, policy, mdp.P)
    return gradient
