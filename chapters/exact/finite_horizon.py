"""Plans for a fixed number of steps, and the exact moments of what an episode collects.

A reward may depend on the clock, `rewards` [T, S, A]; policies [T, S, A] and values [T + 1, S] always do.
What is collected are features of the states landed in, summed over the T steps of an episode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from chapters.exact.mdp import greedy_policy

Dynamics = Float[Any, "S A S"]  # P[s, a, s2]: the chance that action a in state s leads to s2
Clocked = Float[np.ndarray, "T S A"]  # a number for each step, state and action
Values = Float[np.ndarray, "T1 S"]  # what is still to come before each step, and 0 after the last


def evaluate(P: Dynamics, rewards: Clocked, policy: Clocked) -> Values:
    """The expected sum of the rewards still to come, without discount."""
    V = np.zeros((len(rewards) + 1, rewards.shape[1]))
    for t in reversed(range(len(rewards))):
        V[t] = (policy[t] * (rewards[t] + P @ V[t + 1])).sum(axis=1)
    return V


def plan(P: Dynamics, rewards: Clocked) -> tuple[Values, Clocked]:
    """(values, policy) of the best that can be done; equally good actions are equally likely."""
    V, policy = np.zeros((len(rewards) + 1, rewards.shape[1])), np.zeros(rewards.shape)
    for t in reversed(range(len(rewards))):
        Q = rewards[t] + P @ V[t + 1]
        V[t], policy[t] = Q.max(axis=1), greedy_policy(Q)
    return V, policy


def _weigh(chances: Float[np.ndarray, " M"], rows: Float[np.ndarray, "M K"]) -> Float[np.ndarray, "K K"]:
    return (chances[:, None] * rows).T @ rows


def feature_covariances(
    P: Dynamics, policy: Clocked, features: Float[np.ndarray, "S K"], start: Float[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, "K K"], Float[np.ndarray, "K K"]]:
    """(due to the choice of actions, in all): covariances of what an episode collects from a given start.

    With g_t(s) the features still to come, the sum's variance falls, step by step, into that of the action
    and that of where it leads (the law of total variance); the spread between first states is part of the
    second. For the policy that is soft-optimal for weights of the features, the first is the derivative of
    the expected counts in the weights: the curvature of maximum causal entropy (ziebart2010causal).
    """
    num_steps, num_states, num_actions = policy.shape
    to_come = np.zeros(features.shape)  # [S, K] g_{t+1}
    by_choice = np.zeros((num_steps, num_states, *2 * features.shape[1:]))
    by_landing = np.zeros_like(by_choice)
    for t in reversed(range(num_steps)):
        landed = features + to_come  # [S, K] collected by landing there, from then on
        after = P @ landed  # [S, A, K]
        to_come = np.einsum("sa,sak->sk", policy[t], after)
        for s in range(num_states):
            by_choice[t, s] = _weigh(policy[t, s], after[s] - to_come[s])
            for a in range(num_actions):
                by_landing[t, s] += policy[t, s, a] * _weigh(P[s, a], landed - after[s, a])
    choice, landing, reached = 0.0, 0.0, start
    for t in range(num_steps):
        choice = choice + np.einsum("s,skl->kl", reached, by_choice[t])
        landing = landing + np.einsum("s,skl->kl", reached, by_landing[t])
        reached = np.einsum("s,sa,san->n", reached, policy[t], P)
    return choice, choice + landing + _weigh(start, to_come - start @ to_come)


def gain_share(P: Dynamics, rewards: Clocked, start: Float[np.ndarray, " S"], policy: Clocked) -> float:
    """What a policy gains over one that acts at random, as a part of what the best plan gains."""
    at_random = np.full(rewards.shape, 1 / rewards.shape[2])
    low, high, own = (
        start @ evaluate(P, rewards, one)[0] for one in (at_random, plan(P, rewards)[1], policy)
    )
    return float((own - low) / (high - low))
