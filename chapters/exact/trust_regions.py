"""Policy gradients and Fisher matrices of small processes by enumeration, and random policies to compare."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from chapters.exact.episodes import softmax
from chapters.exact.mdp import MDP, random_mdp

Table = Float[np.ndarray, "S A"]
States = Float[np.ndarray, " S"]


def random_pair(
    rng: np.random.Generator, num_states: int = 5, num_actions: int = 3
) -> tuple[MDP, Table, Table, States]:
    """A random process, a policy in it, another one at any distance, and the chances of each first state."""
    spread = 10 ** rng.uniform(-1.0, 0.0)  # from nearly certain to anything
    mdp = random_mdp(rng, num_states, num_actions, rng.uniform(0.5, 0.99), spread)
    logits, other = rng.normal(size=(2, num_states, num_actions))
    distance = 10 ** rng.uniform(-3.0, 1.0)
    return mdp, softmax(logits), softmax(logits + distance * other), rng.dirichlet(np.ones(num_states))


def gradient_and_fisher(
    policy: Table, visited: States, advantages: Table, gamma: float
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, "P P"]]:
    """The gradient of the return in a table of logits, P = S * A of them, and their Fisher matrix.

    visited: share of the discounted time in each state. Both are sums over every state and action of the
    scores, the gradients of the log-probabilities.
    """
    num_states, num_actions = policy.shape
    scores = np.zeros((num_states, num_actions, num_states, num_actions))  # last two: in which logit
    for s in range(num_states):
        scores[s, :, s] = np.eye(num_actions) - policy[s]
    chances = visited[:, None] * policy  # [S, A] of being there and doing that
    gradient = np.einsum("sa,sa,satb->tb", chances, advantages, scores) / (1 - gamma)
    fisher = np.einsum("sa,satb,sauc->tbuc", chances, scores, scores)
    return gradient.ravel(), fisher.reshape(gradient.size, gradient.size)
