"""C3's learner on the probe environments, whole, and wrong on them once an error is planted in it."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

from chapters.C_policy_gradients import C3_ppo_from_scratch as lesson
from chapters.course.planting import plant
from chapters.envs import make_envs
from chapters.envs.probes import CutShort
from chapters.utils import RunLog
from chapters.utils.networks import in_numpy

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
}


def trained(module, folder, envs, **changes):
    """The agent after a brief training."""
    log = RunLog(folder, "C3")
    agent = module.train(module.Config(**{**QUICK, **changes}), log, envs=envs)
    log.close()
    return agent


def wrongness(module, probe, folder, **changes):
    """Largest error in value over the probe's observations; infinite if a likeliest action is wrong."""
    agent = trained(module, folder, make_envs(f"Probe{probe}-v0", QUICK["num_envs"]), **changes)
    worst = 0.0
    for obs, (value, action) in ANSWERS[probe].items():
        seen = torch.tensor([[obs]])
        with torch.no_grad():
            gap = abs(float(agent.value(seen)) - value)
            worst = max(worst, gap if int(agent.actor(seen).argmax()) == action else np.inf)
    return worst


@pytest.mark.parametrize("probe", ANSWERS)
def test_learner_solves_probe(probe, tmp_path):
    assert wrongness(lesson, probe, tmp_path) < (0.5 if probe == "Endless" else 0.1)


PLANTED = {  # what is wrong -> (probe that notices, piece of the source, its replacement)
    "merged in gae": ("Endless", "next_values * ~terminated", "next_values * ~(terminated | truncated)"),
    "merged in prepare": (
        "Endless", "    if cfg.merge_time_limit:\n        terminated", "    if True:\n        terminated",
    ),
    "bootstraps through a terminal state": (
        "DelayedReward", "gamma * next_values * ~terminated", "gamma * next_values",
    ),
    "sign of the objective": ("ActionMatters", "return -objective.mean()", "return objective.mean()"),
    "sign of the value loss": ("ConstantReward", "+ vf_coef * value_loss", "- vf_coef * value_loss"),
    "no gradient step": ("ConstantReward", "            optimizer.step()\n", ""),
    "probability of the first action": (
        "BothMatter", "gather(1, actions.unsqueeze(1))", "gather(1, 0 * actions.unsqueeze(1))",
    ),
    "the next episode's first observation": (
        "CutShort", "true_next_obs(next_obs, terminated | truncated, infos)", "next_obs",
    ),
}  # fmt: skip


def cut_short_gap(module, folder):
    """How far V(0) is from the truth, gamma, after training on `CutShort`."""
    envs = gym.vector.SyncVectorEnv([CutShort] * 8, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    agent = trained(module, folder, envs)
    with torch.no_grad():
        return abs(float(agent.value(torch.tensor([[0.0]]))) - GAMMA)


def test_true_successor_is_bootstrapped(tmp_path):
    assert cut_short_gap(lesson, tmp_path) < 0.05


@pytest.mark.parametrize("error", PLANTED)
def test_probe_notices_planted_error(error, tmp_path):
    probe, old, new = PLANTED[error]
    wrong = plant(lesson, old, new)
    if probe == "CutShort":
        assert cut_short_gap(wrong, tmp_path) > 0.1
    else:
        assert not wrongness(wrong, probe, tmp_path) < 0.5  # a value that is not a number is wrong too


class Target(gym.Env):
    """One step, a continuous action of two numbers; the nearer to (0.5, -1), the better."""

    observation_space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
    action_space = gym.spaces.Box(-2.0, 2.0, shape=(2,), dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        assert (np.abs(action) <= 2.0).all(), "an action out of range reached the environment"
        reward = -float(((action - [0.5, -1.0]) ** 2).sum())
        return np.zeros(1, dtype=np.float32), reward, True, False, {}


def distance_to_target(module, folder):
    """How far the mean action is from the best one after a brief training."""
    envs = gym.vector.SyncVectorEnv([Target] * 8, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    agent = trained(module, folder, envs, num_env_steps=12_800, learning_rate=3e-3)
    mean = module.greedy(agent)(np.zeros((1, 1), dtype=np.float32))[0]
    return float(np.abs(mean - [0.5, -1.0]).max()), float(agent.log_std.detach().exp().max())


def test_continuous_actions_find_their_target(tmp_path):
    distance, spread = distance_to_target(lesson, tmp_path)
    assert distance < 0.15
    assert spread < 0.7, "certainty grows where noise costs reward"


def test_a_wrong_density_is_noticed(tmp_path):
    wrong = plant(lesson, "deviation = (actions - mean)", "deviation = (actions + mean)")
    assert distance_to_target(wrong, tmp_path)[0] > 0.5


def test_in_numpy_is_the_network_and_follows_its_weights():
    layers = [torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 8), torch.nn.Tanh()]
    network, obs = torch.nn.Sequential(*layers, torch.nn.Linear(8, 2)), torch.randn(5, 4)
    forward = in_numpy(network)
    for _ in range(2):
        np.testing.assert_allclose(forward(obs.numpy()), network(obs).detach().numpy(), atol=1e-5)
        with torch.no_grad():  # as an optimiser does: in place
            for parameter in network.parameters():
                parameter.mul_(1.3)


def test_early_stop_counts_epochs(tmp_path):
    """With a target of 0 the first epoch is the last: half the epochs change nothing."""
    probes = [make_envs("ProbeBothMatter-v0", 8) for _ in range(3)]
    settings = ({"target_kl": 0.0}, {"target_kl": 0.0, "num_epochs": 8}, {"num_epochs": 8})
    results = []
    for envs, changes in zip(probes, settings):
        agent = trained(lesson, tmp_path, envs, num_env_steps=1280, **changes)
        results.append(torch.cat([parameter.detach().flatten() for parameter in agent.parameters()]))
    few, many, unstopped = results
    assert torch.equal(few, many)
    assert not torch.equal(few, unstopped)


def test_learning_rate_falls(tmp_path, monkeypatch):
    """The last update's step size is a small share of the first's, and without annealing it is not."""
    rates, original = {}, torch.optim.Adam
    for anneal in (True, False):
        seen = []

        class Adam(original):
            def step(self, closure=None, seen=seen):
                seen.append(self.param_groups[0]["lr"])
                return super().step(closure)

        monkeypatch.setattr(torch.optim, "Adam", Adam)
        trained(lesson, tmp_path, make_envs("ProbeActionMatters-v0", 8), anneal=anneal, num_env_steps=1280)
        rates[anneal] = seen
    assert rates[True][0] == rates[False][-1] == QUICK["learning_rate"]
    assert rates[True][-1] == pytest.approx(0.1 * QUICK["learning_rate"])


def test_a_quick_look_makes_no_claim_about_the_library(tmp_path):
    log = RunLog(tmp_path, "C3", smoke=True)
    lesson.main(dataclasses.replace(lesson.Config(**lesson.SMOKE), only="cartpole"), log)
    log.close()
    assert not any("sb3" in claim.name or "pendulum" in claim.name for claim in log.claims)
    assert log.figures
