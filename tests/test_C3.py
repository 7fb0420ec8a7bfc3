"""C3's learner on the probe environments, whole and with edits; and what its evidence measures with."""

import dataclasses
import inspect
import json
import sys
import types

import gymnasium as gym
import numpy as np
import pytest
import torch
from spies import each_probe

from chapters.C_policy_gradients import C3_ppo_from_scratch as lesson
from chapters.C_policy_gradients.checks import C3_probes as probes
from chapters.C_policy_gradients.checks.C3 import EDITS
from chapters.C_policy_gradients.evidence import C3 as evidence
from chapters.course.catalog import ROOT
from chapters.envs import agents, make_envs
from chapters.envs.cartpole import BatchedCartPole
from chapters.envs.probes import make_probe
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.networks import in_numpy


def test_equal_advantages_are_normalised_to_nothing():
    """What the mean leaves of them is rounding: divided by its own spread it would be near 1."""
    for count in (2, 6, 64, 1000):
        for constant in (0.3, 0.9, 1 / 3, 1e8, 123456.789):
            assert (lesson.normalise(torch.full((count,), constant)) == 0).all()


def trained(module, folder, envs, **changes):
    """The agent after a brief training."""
    log = RunLog(folder, "C3")
    agent = module.train(module.Config(**{**probes.QUICK, **changes}), log, envs=envs)
    log.close()
    return agent


def wrongness(module, probe, folder, **changes):
    """Largest error in value over the probe's observations; infinite if a likeliest action is wrong."""
    log = RunLog(folder, "C3")
    found = probes.wrongness(module, probe, log, **changes)
    log.close()
    return found


@each_probe(probes.ANSWERS)
def test_learner_solves_probe(probe, tmp_path):
    assert wrongness(lesson, probe, tmp_path) < (0.5 if probe == "Endless" else 0.1)


NOTICED = {  # named edit -> the probe that notices it
    "merged": "Endless",
    "merged_before": "Endless",
    "past_the_end": "DelayedReward",
    "objective_lowered": "ActionMatters",
    "value_error_raised": "ConstantReward",
    "no_step": "ConstantReward",
    "detached_policy": "ActionMatters",
    "new_episode_for_successor": "CutShort",
}


def cut_short_gap(module, folder):
    """How far V(0) is from the truth, gamma, after training on `CutShort`."""
    agent = trained(module, folder, make_probe("CutShort", 8))
    with torch.no_grad():
        return abs(float(agent.value(torch.tensor([[0.0]]))) - probes.GAMMA)


def test_true_successor_is_bootstrapped(tmp_path):
    assert cut_short_gap(lesson, tmp_path) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTICED)
def test_probe_notices_edit(name, tmp_path):
    wrong = edited(lesson, EDITS[name])
    if NOTICED[name] == "CutShort":
        assert cut_short_gap(wrong, tmp_path) > 0.1
    else:  # a value that is not a number is wrong too
        assert not wrongness(wrong, NOTICED[name], tmp_path) < 0.5


def with_head(old, new):
    """The lesson with another agent: a piece of the shared heads' source replaced."""
    source = inspect.getsource(agents)
    assert source.count(old) == 1
    module = types.ModuleType("planted_agents")
    sys.modules[module.__name__] = module
    exec(source.replace(old, new), module.__dict__)
    wrong = edited(lesson)
    wrong.ActorCritic = module.ActorCritic
    return wrong


def test_probe_notices_the_probability_of_the_first_action(tmp_path):
    wrong = with_head("gather(1, actions.unsqueeze(1))", "gather(1, 0 * actions.unsqueeze(1))")
    assert not wrongness(wrong, "BothMatter", tmp_path) < 0.5


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
    """(how far the mean action is from the best one after a brief training, the largest width)."""
    envs = gym.vector.SyncVectorEnv([Target] * 8, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    agent = trained(module, folder, envs, learning_rate=3e-3)
    mean = agent.greedy()(np.zeros((1, 1), dtype=np.float32))[0]
    return float(np.abs(mean - [0.5, -1.0]).max()), float(agent.head.log_std.detach().exp().max())


def test_continuous_actions_find_their_target(tmp_path):
    distance, spread = distance_to_target(lesson, tmp_path)
    assert distance < 0.15
    assert spread < 0.7, "certainty grows where noise costs reward"


@pytest.mark.slow
def test_a_wrong_density_is_noticed(tmp_path):
    wrong = with_head("deviation = (actions - mean)", "deviation = (actions + mean)")
    assert distance_to_target(wrong, tmp_path)[0] > 0.5


class CountsFromFive(gym.Env):
    """One step; the actions are 5 and 6, and 6 is rewarded."""

    observation_space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)
    action_space = gym.spaces.Discrete(2, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        assert self.action_space.contains(np.int64(action)), f"{action} is none of this space's actions"
        return np.zeros(1, dtype=np.float32), float(action == 6), True, False, {}


def test_discrete_actions_are_counted_from_the_first_of_their_space(tmp_path):
    envs = gym.vector.SyncVectorEnv([CountsFromFive] * 8, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    agent = trained(lesson, tmp_path, envs, num_env_steps=1280)
    assert agent.greedy()(np.zeros((1, 1), dtype=np.float32)).tolist() == [6]


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


@pytest.mark.parametrize("name", ["lesson", "not_annealed"])
def test_learning_rate_and_clip_fall_and_gradients_are_clipped(name, tmp_path, monkeypatch):
    """Step size and clip range end at a small share of what they began with; an edit keeps them."""
    module = edited(lesson, *([EDITS[name]] if name in EDITS else []))
    rates, ranges, norms = [], [], []

    class Spy(lesson.Adam):
        def step(self):
            rates.append(self.lr)
            norms.append(float(torch.cat([p.grad.flatten() for p in self.parameters]).norm()))
            super().step()

    surrogate = module.clipped_surrogate
    module.Adam = Spy
    module.clipped_surrogate = lambda ratio, advantages, eps: (
        ranges.append(eps) or surrogate(ratio, advantages, eps)
    )
    envs = make_envs("ProbeActionMatters-v0", 8)
    trained(module, tmp_path, envs, num_env_steps=1280, max_grad_norm=0.1)
    last = 1.0 if name == "not_annealed" else 0.1
    assert (rates[0], ranges[0]) == (probes.QUICK["learning_rate"], 0.2)
    assert rates[-1] == pytest.approx(last * probes.QUICK["learning_rate"])
    assert ranges[-1] == pytest.approx(last * 0.2)
    assert max(norms) <= 0.1 + 1e-5, "the optimiser saw a gradient that was not clipped"


def test_two_short_rollouts_are_one_long_one():
    """State and episode clock are carried over: nothing is reset between rollouts."""
    long, short = (lesson.Config(num_steps=num_steps) for num_steps in (30, 15))
    rollouts = []
    for cfg, times in ((long, 1), (short, 2)):
        torch.manual_seed(0)
        envs = BatchedCartPole(4, max_episode_steps=20)
        agent, rng = agents.ActorCritic(envs), np.random.default_rng(0)
        obs, _ = envs.reset(seed=0)
        parts = []
        for _ in range(times):
            part, obs = lesson.collect(agent, envs, obs, rng, cfg)
            parts.append(part)
        rollouts.append({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    assert rollouts[0]["truncated"].any()
    for name in rollouts[0]:
        assert torch.equal(rollouts[0][name], rollouts[1][name]), name


def test_training_selection_and_report_use_different_seeds(tmp_path, monkeypatch):
    evaluated, reset = [], []
    original = lesson.make_envs

    def spied(env_id, num_envs):
        envs = original(env_id, num_envs)
        first = envs.reset
        envs.reset = lambda *, seed: reset.append(seed) or first(seed=seed)
        return envs

    monkeypatch.setattr(lesson, "make_envs", spied)
    monkeypatch.setattr(lesson, "evaluate", lambda *_, seed, **__: evaluated.append(seed) or np.zeros(1))
    log = RunLog(tmp_path, "C3", smoke=True)
    lesson.main(lesson.Config(seed=3, **lesson.SMOKE), log)
    log.close()
    assert reset == [3]
    assert evaluated[:-1] == [10_003] * (len(evaluated) - 1)
    assert evaluated[-1] == 20_003


# What the evidence measures with


def test_gae_gap_notices_a_wrong_recursion(monkeypatch):
    assert evidence.gae_gap(0) < 1e-12
    for name in ("merged", "past_the_end", "no_lambda", "late_mask"):
        monkeypatch.setattr(lesson, "gae", edited(lesson, EDITS[name]).gae)
        assert evidence.gae_gap(0) > 1e-3, name


def test_parity_notices_a_wrong_loss(monkeypatch):
    cfg = lesson.Config()
    right = evidence.sb3_gaps("CartPole-v1", cfg)
    assert max(right[:2]) < 1e-5
    assert 0.02 < right[2] < 0.98, "ratios on both sides of the clip's edge"
    for name in ("no_min", "entropy_lowered"):
        wrong = edited(lesson, EDITS[name])
        monkeypatch.setattr(lesson, "minibatch_loss", wrong.minibatch_loss)
        assert max(evidence.sb3_gaps("CartPole-v1", cfg)[:2]) > 1e-3, name


def test_optimism_is_zero_for_a_critic_that_knows_and_one_for_one_that_sees_no_cost(monkeypatch):
    """With gamma 0 the value is the reward alone; a critic of 0 leaves out all of the cost."""
    cfg = dataclasses.replace(lesson.Config(), **evidence.PENDULUM)
    agent = agents.ActorCritic(make_envs("Pendulum-v1", 1))
    with torch.no_grad():
        for parameter in agent.critic[-1].parameters():
            parameter.zero_()
    assert evidence.optimism(agent, cfg, num_steps=20) == pytest.approx(1.0)
    blind = dataclasses.replace(cfg, gamma=0.0)
    rollouts = []
    original = lesson.collect
    monkeypatch.setattr(lesson, "collect", lambda *args: rollouts.append(original(*args)) or rollouts[-1])
    monkeypatch.setattr(agent, "value", lambda obs: rollouts[-1][0]["rewards"])
    assert evidence.optimism(agent, blind, num_steps=20) == pytest.approx(0.0, abs=1e-6)


LEDGER = json.loads((ROOT / "chapters/C_policy_gradients/results/C3.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(
    "no_min_return" not in LEDGER["runs"][0]["metrics"], reason="the ledger is an older lesson's"
)
def test_the_verdict_is_what_was_measured():
    """Its words, by the last scores of all recorded seeds."""

    def solved(name):
        lasts = [run["metrics"][f"{name}_return"] for run in LEDGER["runs"]]
        return sum(last >= lesson.SOLVED for last in lasts) / len(lasts)

    for hangs in ("max_if_negative", "lambda_0", "no_min", "no_clip", "clipped_critic"):
        assert solved(hangs) <= 0.8, hangs
    assert solved("lambda_0") < 0.5, "mostly fails"
    for hardly in ("default_weights", "not_annealed", "merged"):
        assert solved(hardly) >= 0.8, hardly
    assert LEDGER["claims"]["merged_optimism"]["median"] > 0.5, "most of the cost"
