"""Seven probe environments: worlds so small that a learner which fails in one has one kind of bug.

| id | what it shows | exact answer |
|---|---|---|
| ProbeConstantReward-v0 | the value estimate and its loss work at all | V = 1 |
| ProbeRewardByObservation-v0 | the observation reaches the value network | V(o) = o |
| ProbeDelayedReward-v0 | rewards are discounted and bootstrapped | V(0) = gamma, V(1) = 1 |
| ProbeActionMatters-v0 | the policy improves, advantages carry the right sign | action 1 |
| ProbeBothMatter-v0 | policy and observation work together | action (o > 0) |
| ProbeEndless-v0 | a time limit is not an end: the bootstrap stays | V = 1 / (1 - gamma) |
| `CutShort` | at a time limit the successor is the old episode's | V(0) = gamma, V(1) = 1 |

The first five follow rejax and Andy Jones's "Debugging RL"; the last two are ours. Endless is never
terminated and cut every 10 steps: a learner that merges `truncated` with `terminated` gets a far lower value.
CutShort is cut on arriving at a state in which few episodes start: a learner that takes the observation after
the autoreset for the successor finds another value. It is a class without an id, because gymnasium's checker
accepts no environment that is cut at its first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from chapters.envs.vector import make_envs


class Probe(gym.Env):
    """One observation of size 1, `num_actions` actions; subclasses say what a step gives."""

    num_actions = 2

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
        self.action_space = gym.spaces.Discrete(self.num_actions)

    def first(self) -> float:
        """The first observation of an episode."""
        return 0.0

    def outcome(self, observation: float, action: int) -> tuple[float, float, bool]:
        """(next observation, reward, terminated)."""
        raise NotImplementedError  # abstract: each probe below defines it

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.observation = self.first()
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.observation, reward, terminated = self.outcome(self.observation, int(action))
        return self._obs(), reward, terminated, False, {}

    def _obs(self) -> np.ndarray:
        return np.array([self.observation], dtype=np.float32)


class ConstantReward(Probe):
    """One action, one step, reward 1."""

    num_actions = 1

    def outcome(self, observation: float, action: int) -> tuple[float, float, bool]:
        return observation, 1.0, True


class RewardByObservation(Probe):
    """One action, one step, the observation (-1 or 1) is the reward."""

    num_actions = 1

    def first(self) -> float:
        return float(self.np_random.choice([-1.0, 1.0]))

    def outcome(self, observation: float, action: int) -> tuple[float, float, bool]:
        return observation, observation, True


class DelayedReward(Probe):
    """One action, two steps (observations 0, then 1), reward 1 at the end."""

    num_actions = 1

    def outcome(self, observation: float, action: int) -> tuple[float, float, bool]:
        return 1.0, observation, observation == 1.0


class ActionMatters(Probe):
    """One step, reward 1 for action 1 and -1 for action 0."""

    def outcome(self, observation: float, action: int) -> tuple[float, float, bool]:
        return observation, 1.0 if action == 1 else -1.0, True


class BothMatter(Probe):
    """One step, observation -1 or 1, reward 1 if the action (0 or 1) matches it, else -1."""

    def first(self) -> float:
        return float(self.np_random.choice([-1.0, 1.0]))

    def outcome(self, observation: float, action: int) -> tuple[float, float, bool]:
        return observation, 1.0 if (action == 1) == (observation > 0) else -1.0, True


class Endless(Probe):
    """One action, reward 1 for ever; registered with a time limit of 10 steps."""

    num_actions = 1

    def outcome(self, observation: float, action: int) -> tuple[float, float, bool]:
        return observation, 1.0, False


class CutShort(Probe):
    """From 0 a time limit cuts every episode on its arrival at 1; from 1 the reward is 1 and the end real.

    A quarter of the episodes begin at 1, so the first observation of the next episode is no stand-in for the
    true successor.
    """

    num_actions = 1

    def first(self) -> float:
        return float(self.np_random.random() < 0.25)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        start, self.observation = self.observation, 1.0
        return self._obs(), start, start == 1.0, start == 0.0, {}


ANSWERS = {
    "ProbeConstantReward-v0": ({0.0: lambda gamma: 1.0}, {}),
    "ProbeRewardByObservation-v0": ({-1.0: lambda gamma: -1.0, 1.0: lambda gamma: 1.0}, {}),
    "ProbeDelayedReward-v0": ({0.0: lambda gamma: gamma, 1.0: lambda gamma: 1.0}, {}),
    "ProbeEndless-v0": ({0.0: lambda gamma: 1.0 / (1.0 - gamma)}, {}),
    "ProbeActionMatters-v0": ({}, {0.0: 1}),
    "ProbeBothMatter-v0": ({}, {-1.0: 0, 1.0: 1}),
}
"""Exact answers by id: the value of each observation as a function of gamma, and, if there is a choice, the
best action there (values are then the policy's)."""


def best_values(gamma: float) -> dict[str, dict[float, tuple[float, int]]]:
    """{probe: {observation: (value of the best action, that action)}} of all seven, for one discount."""
    return {
        "ConstantReward": {0.0: (1.0, 0)},
        "RewardByObservation": {-1.0: (-1.0, 0), 1.0: (1.0, 0)},
        "DelayedReward": {0.0: (gamma, 0), 1.0: (1.0, 0)},
        "ActionMatters": {0.0: (1.0, 1)},
        "BothMatter": {-1.0: (1.0, 0), 1.0: (1.0, 1)},
        "Endless": {0.0: (1.0 / (1.0 - gamma), 0)},
        "CutShort": {0.0: (gamma, 0), 1.0: (1.0, 0)},
    }


def make_probe(name: str, num_envs: int) -> gym.vector.VectorEnv:
    """`num_envs` copies of a probe, under the contract of `make_envs`."""
    if name != "CutShort":
        return make_envs(f"Probe{name}-v0", num_envs)
    return gym.vector.SyncVectorEnv([CutShort] * num_envs, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)


def largest_error(
    answers: dict[float, tuple[float, int]], judged: Callable[[float], tuple[float, int]]
) -> float:
    """The largest error in value over a probe's observations; infinite if an action is wrong.

    answers: of one probe, from `best_values`. judged: what a learner says of an observation, its value and
    the action it likes best.
    """
    worst = 0.0
    for obs, (value, action) in answers.items():
        estimate, likeliest = judged(obs)
        worst = max(worst, abs(estimate - value) if likeliest == action else math.inf)
    return worst


def actor_critic_error(answers: dict[float, tuple[float, int]], agent: Any) -> float:
    """`largest_error` of an agent with `actor` and `value`, networks on observations [1, 1]."""
    import torch

    @torch.no_grad()
    def judged(obs: float) -> tuple[float, int]:
        seen = torch.tensor([[obs]])
        return float(agent.value(seen)), int(agent.actor(seen).argmax())

    return largest_error(answers, judged)
