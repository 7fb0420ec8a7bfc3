"""C1's learner on the probe environments, whole, and wrong on them once an error is planted in it."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from chapters.C_policy_gradients import C1_actor_critic_methods_a2c as lesson
from chapters.course.planting import plant
from chapters.envs import make_envs
from chapters.envs.probes import CutShort
from chapters.utils import RunLog

GAMMA = 0.9  # the endless probe is then worth 10
QUICK = {
    "num_envs": 8, "num_steps": 5, "num_env_steps": 16_000, "hidden_size": 16, "learning_rate": 1e-2,
    "gamma": GAMMA,
}  # fmt: skip
ANSWERS = {  # probe -> {observation: (value, best action)}
    "ConstantReward": {0.0: (1.0, 0)},
    "RewardByObservation": {-1.0: (-1.0, 0), 1.0: (1.0, 0)},
    "DelayedReward": {0.0: (GAMMA, 0), 1.0: (1.0, 0)},
    "ActionMatters": {0.0: (1.0, 1)},
    "BothMatter": {-1.0: (1.0, 0), 1.0: (1.0, 1)},
    "Endless": {0.0: (1 / (1 - GAMMA), 0)},
}


ANSWERS["CutShort"] = {0.0: (GAMMA, 0), 1.0: (1.0, 0)}


def wrongness(module, probe, folder, **changes):
    """Largest error of the critic on the probe; infinite if the actor prefers a wrong action."""
    cfg = module.Config(**{**QUICK, **changes})
    if probe == "CutShort":
        envs = gym.vector.SyncVectorEnv(
            [CutShort] * cfg.num_envs, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP
        )
    else:
        envs = make_envs(f"Probe{probe}-v0", cfg.num_envs)
    log = RunLog(folder, "C1")
    agent, scores = module.train(cfg, log, envs=envs)
    log.close()
    assert scores is None, "injected environments are trained on, not evaluated on"
    gaps = []
    for obs, (value, action) in ANSWERS[probe].items():
        with torch.inference_mode():
            found = float(agent.value(torch.tensor([obs])))
        right = int(agent.act(np.array([[obs]], dtype=np.float32))[0]) == action
        gaps.append(abs(found - value) if right else np.inf)
    return max(gaps)


@pytest.mark.parametrize("probe", ANSWERS)
def test_learner_solves_probe(probe, tmp_path):
    assert wrongness(lesson, probe, tmp_path) < (0.5 if probe == "Endless" else 0.1)


@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
def test_both_ends_of_lambda_learn(gae_lambda, tmp_path):
    assert wrongness(lesson, "DelayedReward", tmp_path, gae_lambda=gae_lambda) < 0.1


PLANTED = {  # what is wrong -> (probe that notices, piece of the source, its replacement)
    "terminated merged with truncated": (
        "Endless", 'next_values, batch["terminated"], batch["truncated"], cfg.gamma',
        'next_values, batch["terminated"] | batch["truncated"], batch["truncated"], cfg.gamma',
    ),
    "next_obs after the autoreset": (
        "CutShort", '"next_obs": true_next_obs(next_obs, done, infos)', '"next_obs": next_obs',
    ),
    "bootstraps through a terminal state": (
        "ConstantReward", "next_values * ~terminated - values", "next_values - values",
    ),
    "sign of the policy gradient": ("ActionMatters", "policy_loss = -(log_probs", "policy_loss = (log_probs"),
    "log-probability of the first action": (
        "ActionMatters", "gather(-1, actions.unsqueeze(-1))", "gather(-1, 0 * actions.unsqueeze(-1))",
    ),
    "critic learns the advantage": (
        "ConstantReward", "advantages + values.detach(), entropy", "advantages, entropy",
    ),
    "no gradient step": ("ConstantReward", "    loss.backward()\n    nn.utils", "    nn.utils"),
}  # fmt: skip


@pytest.mark.parametrize("error", PLANTED)
def test_probe_notices_planted_error(error, tmp_path):
    probe, old, new = PLANTED[error]
    assert wrongness(plant(lesson, old, new), probe, tmp_path) > 0.15


def test_rollout_knows_true_successors():
    envs = make_envs("ProbeDelayedReward-v0", 3)
    obs, _ = envs.reset(seed=0)
    agent = lesson.ActorCritic(1, 1, 4)
    batch, obs = lesson.rollout(agent, envs, obs, 4, np.random.default_rng(0))
    assert batch["obs"][:, 0, 0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert batch["next_obs"][:, 0, 0].tolist() == [1.0, 1.0, 1.0, 1.0]
    assert batch["terminated"][:, 0].tolist() == [False, True, False, True]
    assert obs[:, 0].tolist() == [0.0, 0.0, 0.0]
    batch, _ = lesson.rollout(agent, envs, obs, 100, np.random.default_rng(0), until_all_done=True)
    assert batch["obs"].shape == (2, 3, 1)


def test_gae_disagrees_with_the_library_when_the_time_limit_is_an_end():
    """The parity claim notices a merged mask."""
    assert lesson.buffer_gap(lesson.Config()) < 1e-5
    merged = plant(lesson, "next_values * ~terminated - values", "next_values * ~terminated * 0.999 - values")
    assert merged.buffer_gap(merged.Config()) > 1e-5
    sums_on = plant(lesson, "running * going_on[t]", "running * ~terminated[t]")
    assert sums_on.buffer_gap(sums_on.Config()) > 1e-2
