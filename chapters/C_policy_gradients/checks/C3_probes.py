"""C3's learner on the probe environments: how far its critic is from the exact answers."""

from chapters.envs.probes import actor_critic_error, best_values, make_probe
from chapters.utils import RunLog

GAMMA = 0.9  # the endless probe is then worth 10
QUICK = {
    "num_envs": 8, "num_steps": 16, "num_env_steps": 6400, "minibatch_size": 64, "learning_rate": 1e-2,
    "gamma": GAMMA, "target_kl": 1e9,
}  # fmt: skip
ANSWERS = best_values(GAMMA)
ALLOWED = dict.fromkeys(ANSWERS, 0.1) | {"Endless": 0.5}


def wrongness(lesson, probe: str, log: RunLog, **changes) -> float:
    """The largest error in value over the probe's observations; infinite if a likeliest action is wrong."""
    cfg = lesson.Config(**{**QUICK, **changes})
    agent = lesson.train(cfg, log, envs=make_probe(probe, cfg.num_envs))
    return actor_critic_error(ANSWERS[probe], agent)
