"""B7's learner on the probe environments: how far its tables are from the exact answers."""

import math

import gymnasium as gym
import numpy as np

from chapters.envs.probes import best_values, make_probe
from chapters.utils import RunLog

GAMMA = 0.9  # the endless probe is then worth 10
NUM_AGENTS = 4
ANSWERS = best_values(GAMMA)
ALLOWED = dict.fromkeys(ANSWERS, 0.05) | {"Endless": 0.5}


class Rows(gym.vector.VectorWrapper):
    """A probe whose observations -1, 0 and 1 are the rows 0, 1 and 2 of a table."""

    def __init__(self, probe: str) -> None:
        super().__init__(make_probe(probe, NUM_AGENTS))
        self.single_observation_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        obs, infos = self.env.reset(seed=seed)
        return row(obs), infos

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            last = [0 if final is None else int(row(final[None])[0]) for final in infos["final_obs"]]
            infos = {"final_obs": last}
        return row(obs), rewards, terminated, truncated, infos


def row(obs: np.ndarray) -> np.ndarray:
    """The rows of observations [N, 1]."""
    return obs[:, 0].astype(int) + 1


def wrongness(lesson, probe: str, log: RunLog | None = None) -> float:
    """The largest error in value of any agent, without planning and with; infinite if an action is wrong."""
    worst = 0.0
    cfg = lesson.Config(gamma=GAMMA, epsilon=0.3)
    for n in (0, 5):
        q = lesson.learn(Rows(probe), cfg, n, alpha=0.5, num_steps=300)[0]
        for obs, (value, action) in ANSWERS[probe].items():
            table = q[:, int(obs) + 1]  # [R, A]
            right = (table.argmax(axis=1) == action).all()
            worst = max(worst, float(np.abs(table.max(axis=1) - value).max()) if right else math.inf)
    return worst
