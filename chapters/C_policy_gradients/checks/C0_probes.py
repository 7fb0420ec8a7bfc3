"""C0's learner on the probe environments: how much probability it leaves to the wrong action."""

import numpy as np

from chapters.envs import make_envs
from chapters.utils import RunLog

QUICK = {"num_envs": 8, "num_updates": 25, "hidden_size": 8, "learning_rate": 3e-2, "gamma": 0.9}
ANSWERS = {"ActionMatters": {0.0: 1}, "BothMatter": {-1.0: 0, 1.0: 1}}  # probe -> {observation: best action}
ALLOWED = dict.fromkeys(ANSWERS, 0.2)


def wrongness(lesson, probe: str, log: RunLog) -> float:
    """The largest probability of a wrong action over the probe's observations."""
    cfg = lesson.Config(**QUICK)
    policy = lesson.train(cfg, log, envs=make_envs(f"Probe{probe}-v0", cfg.num_envs))
    worst = 0.0
    for obs, action in ANSWERS[probe].items():
        logits = lesson.logits_of(policy, np.array([obs], dtype=np.float32))
        shares = np.exp(logits - logits.max())
        worst = max(worst, 1.0 - float(shares[action] / shares.sum()))
    return worst
