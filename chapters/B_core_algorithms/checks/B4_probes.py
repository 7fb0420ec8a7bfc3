"""B4's learner on the probe environments: how far its network is from the exact answers."""

import math

import gymnasium as gym
import torch

from chapters.envs import make_envs
from chapters.envs.probes import CutShort
from chapters.utils import RunLog

GAMMA = 0.9  # the endless probe is then worth 10
QUICK = {
    "num_envs": 4, "num_env_steps": 1200, "num_warmup_steps": 32, "num_exploration_steps": 4000,
    "minibatch_size": 32, "hidden_size": 16, "learning_rate": 1e-2, "sync_every": 5, "gamma": GAMMA,
}  # fmt: skip
ANSWERS = {  # probe -> {observation: (value of the best action, that action)}
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
    """The largest error in value over the probe's observations; infinite if an action is wrong."""
    cfg = lesson.Config(**QUICK)
    if probe == "CutShort":
        mode = gym.vector.AutoresetMode.SAME_STEP
        envs = gym.vector.SyncVectorEnv([CutShort] * cfg.num_envs, autoreset_mode=mode)
    else:
        envs = make_envs(f"Probe{probe}-v0", cfg.num_envs)
    agent = lesson.train(cfg, log, envs=envs)
    worst = 0.0
    for obs, (value, action) in ANSWERS[probe].items():
        with torch.no_grad():
            q = agent.online(torch.tensor([obs]))
        worst = max(worst, abs(float(q.max()) - value) if int(q.argmax()) == action else math.inf)
    return worst
