"""C3's learner on the probe environments: how far its critic is from the exact answers."""

import math

import gymnasium as gym
import torch

from chapters.envs import make_envs
from chapters.envs.probes import CutShort
from chapters.utils import RunLog

GAMMA = 0.9  # the endless probe is then worth 10
QUICK = {
    "num_envs": 8, "num_steps": 16, "num_env_steps": 6400, "minibatch_size": 64, "learning_rate": 1e-2,
    "gamma": GAMMA, "target_kl": 1e9,
}  # fmt: skip
ANSWERS = {  # probe -> {observation: (value, best action)}
    "ConstantReward": {0.0: (1.0, 0)},
    "RewardByObservation": {-1.0: (-1.0, 0), 1.0: (1.0, 0)},
    "DelayedReward": {0.0: (GAMMA, 0), 1.0: (1.0, 0)},
    "ActionMatters": {0.0: (1.0, 1)},
    "BothMatter": {-1.0: (1.0, 0), 1.0: (1.0, 1)},
    "Endless": {0.0: (1 / (1 - GAMMA), 0)},
    "CutShort": {0.0: (GAMMA, 0)},
}
ALLOWED = dict.fromkeys(ANSWERS, 0.1) | {"Endless": 0.5}


def wrongness(lesson, probe: str, log: RunLog) -> float:
    """The largest error in value over the probe's observations; infinite if a likeliest action is wrong."""
    cfg = lesson.Config(**QUICK)
    if probe == "CutShort":
        mode = gym.vector.AutoresetMode.SAME_STEP
        envs = gym.vector.SyncVectorEnv([CutShort] * cfg.num_envs, autoreset_mode=mode)
    else:
        envs = make_envs(f"Probe{probe}-v0", cfg.num_envs)
    agent = lesson.train(cfg, log, envs=envs)
    worst = 0.0
    for obs, (value, action) in ANSWERS[probe].items():
        seen = torch.tensor([[obs]])
        with torch.no_grad():
            gap = abs(float(agent.value(seen)) - value)
            worst = max(worst, gap if int(agent.actor(seen).argmax()) == action else math.inf)
    return worst
