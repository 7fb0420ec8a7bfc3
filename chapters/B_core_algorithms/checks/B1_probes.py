"""B1's learner on the probe environments: how far its table is from the exact answers."""

import gymnasium as gym
import numpy as np

from chapters.envs import registration  # noqa: F401 — makes the environments known to gymnasium
from chapters.utils import RunLog

GAMMA = 0.9  # the endless probe is then worth 10
ANSWERS = {  # probe -> {row: values of the actions}
    "ConstantReward": {1: [1.0]},
    "RewardByObservation": {0: [-1.0], 2: [1.0]},
    "DelayedReward": {1: [GAMMA], 2: [1.0]},
    "ActionMatters": {1: [-1.0, 1.0]},
    "BothMatter": {0: [1.0, -1.0], 2: [-1.0, 1.0]},
    "Endless": {1: [1 / (1 - GAMMA)]},
}
ALLOWED = dict.fromkeys(ANSWERS, 0.05) | {"Endless": 0.5}


def wrongness(lesson, probe: str, log: RunLog) -> float:
    """The largest error of Q-learning's and of SARSA's table."""
    env = gym.make(f"Probe{probe}-v0")
    env = gym.wrappers.TransformObservation(env, lambda obs: int(obs[0]) + 1, gym.spaces.Discrete(3))
    worst = 0.0
    for sarsa in (False, True):
        q = np.array(lesson.learn(env, lesson.Config(), 1000, gamma=GAMMA, epsilon=0.1, sarsa=sarsa)[0])
        for row, values in ANSWERS[probe].items():
            worst = max(worst, float(np.abs(q[row, : len(values)] - values).max()))
    return worst
