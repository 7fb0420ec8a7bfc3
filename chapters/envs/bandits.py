"""Many bandits played side by side: the arms pay, an agent chooses and learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Curves:
    """What happened over T plays of B bandits: averages over the bandits, and one total per bandit."""

    reward: np.ndarray
    """[T] mean reward of each step."""
    optimal: np.ndarray
    """[T] share of the bandits on which the step played a best arm."""
    regret: np.ndarray
    """[T] mean regret so far: the sum over steps of q*(best) - q*(played)."""
    bandit_reward: np.ndarray
    """[B] reward per step of each bandit."""


def play(
    agent: Any, means: np.ndarray, num_steps: int, rng: np.random.Generator, bernoulli: bool = False
) -> Curves:
    """Let `agent` play each bandit `num_steps` times; means: [B, K].

    The agent has `act(num_plays, rng)`, which returns an arm for each bandit [B], and
    `learn(actions, rewards)`. Rewards are drawn from N(mean, 1), or are 0 and 1 if `bernoulli`.
    """
    num_bandits = len(means)
    best = means.max(axis=1)  # [B]
    reward, optimal, gaps = np.zeros((3, num_steps))
    bandit_reward = np.zeros(num_bandits)
    for step in range(num_steps):
        actions = agent.act(step, rng)
        played = means[np.arange(num_bandits), actions]  # [B]
        if bernoulli:
            rewards = (rng.random(num_bandits) < played).astype(float)
        else:
            rewards = played + rng.standard_normal(num_bandits)
        agent.learn(actions, rewards)
        reward[step] = rewards.mean()
        optimal[step] = (played == best).mean()
        gaps[step] = (best - played).mean()
        bandit_reward += rewards
    return Curves(reward, optimal, gaps.cumsum(), bandit_reward / num_steps)
