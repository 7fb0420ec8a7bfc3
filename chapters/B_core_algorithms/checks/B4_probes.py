"""B4's learner on the probe environments: how far its network is from the exact answers."""

import torch

from chapters.envs.probes import best_values, largest_error, make_probe
from chapters.utils import RunLog

GAMMA = 0.9  # the endless probe is then worth 10
QUICK = {
    "num_envs": 4, "num_env_steps": 1200, "num_warmup_steps": 32, "num_exploration_steps": 4000,
    "minibatch_size": 32, "hidden_size": 16, "learning_rate": 1e-2, "sync_every": 5, "gamma": GAMMA,
}  # fmt: skip
ANSWERS = best_values(GAMMA)
ALLOWED = dict.fromkeys(ANSWERS, 0.1) | {"Endless": 0.5}


def wrongness(lesson, probe: str, log: RunLog, **changes) -> float:
    """The largest error in value over the probe's observations; infinite if an action is wrong."""
    cfg = lesson.Config(**{**QUICK, **changes})
    agent = lesson.train(cfg, log, envs=make_probe(probe, cfg.num_envs))

    @torch.no_grad()
    def judged(obs: float) -> tuple[float, int]:
        q = agent.online(torch.tensor([obs]))
        return float(q.max()), int(q.argmax())

    return largest_error(ANSWERS[probe], judged)
