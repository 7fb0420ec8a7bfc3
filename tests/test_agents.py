"""The shared actor-critic and its policy heads: against their definitions, wrong once an error is planted."""

import inspect
import math
import sys
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from chapters.course.catalog import find
from chapters.course.parts import lesson_of
from chapters.envs import agents, make_envs
from chapters.utils import UsageError
from chapters.utils.lesson import RunOptions, execute

SHAPES = ((1, 1), (2, 3), (7, 2), (20, 5))  # (B, A)


def categorical(module, num_actions, start=0):
    return module.CategoricalHead(gym.spaces.Discrete(num_actions, start=start))


def gaussian(module, num_numbers, log_std=0.0):
    head = module.GaussianHead(gym.spaces.Box(-2.0, 2.0, shape=(num_numbers,)))
    with torch.no_grad():
        head.log_std.copy_(torch.as_tensor(log_std))
    return head


@torch.no_grad()
def judges_categorical(module):
    torch.manual_seed(2)
    for B, A in SHAPES:
        logits, actions = 3.0 * torch.randn(B, A), torch.randint(A, (B,))
        log_prob, entropy = categorical(module, A).judge(logits, actions)
        for b in range(B):
            weights = [math.exp(float(z)) for z in logits[b]]
            probs = [w / sum(weights) for w in weights]
            assert math.isclose(log_prob[b], math.log(probs[int(actions[b])]), rel_tol=1e-4, abs_tol=1e-5)
            assert math.isclose(entropy[b], -sum(p * math.log(p) for p in probs), rel_tol=1e-4, abs_tol=1e-5)


@torch.no_grad()
def judges_gaussian(module):
    torch.manual_seed(3)
    for B, A in SHAPES:
        mean, log_std, actions = torch.randn(B, A), torch.randn(A) - 0.5, 3.0 * torch.randn(B, A)
        log_prob, entropy = gaussian(module, A, log_std).judge(mean, actions)
        assert log_prob.shape == entropy.shape == (B,)
        for b in range(B):
            expected, spread = 0.0, 0.0
            for m, s, a in zip(mean[b].tolist(), log_std.exp().tolist(), actions[b].tolist()):
                # far outside the range of any action space too: nothing is squashed or clipped
                expected += -0.5 * ((a - m) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi))
                spread += 0.5 * math.log(2 * math.pi * math.e * s**2)
            assert math.isclose(log_prob[b], expected, rel_tol=1e-4, abs_tol=1e-4)
            assert math.isclose(entropy[b], spread, rel_tol=1e-4, abs_tol=1e-5)


def samples_categorical(module):
    rng, size = np.random.default_rng(4), 60_000
    logits = np.array([[0.0, 1.0, -1.0, 2.0], [1.5, 0.0, 0.5, -2.0]])
    actions = categorical(module, 4).sample(np.repeat(logits, size, axis=0), rng)
    for row, chosen in zip(logits, (actions[:size], actions[size:])):
        expected = np.exp(row) / np.exp(row).sum()
        assert np.abs(np.bincount(chosen, minlength=4) / size - expected).max() < 0.01


def samples_gaussian(module):
    rng, size = np.random.default_rng(5), 60_000
    mean = np.array([1.0, -6.0])
    head = gaussian(module, 2, np.log(np.array([0.5, 2.0])))
    actions = head.sample(np.tile(mean, (size, 1)), rng)
    assert actions.dtype == np.float32
    assert np.abs(actions.mean(axis=0) - mean).max() < 0.04
    assert np.abs(actions.std(axis=0) - [0.5, 2.0]).max() < 0.03
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.02


def applies(module):
    """Discrete actions are counted from the space's first, continuous ones clipped to uneven bounds."""
    assert categorical(module, 3, start=5).applied(np.array([0, 2, 1])).tolist() == [5, 7, 6]
    head = module.GaussianHead(gym.spaces.Box(np.array([0.0, -1.0], "f"), np.array([10.0, 2.0], "f")))
    found = head.applied(np.array([[-3.0, -3.0], [4.0, 0.5], [30.0, 30.0]], dtype=np.float32))
    assert found.tolist() == [[0.0, -1.0], [4.0, 0.5], [10.0, 2.0]]


def acts_greedily(module):
    """The best action, by its own number in the space; observations in the networks' units."""

    class Shifted(gym.Env):
        observation_space = gym.spaces.Box(-8.0, 8.0, shape=(1,))
        action_space = gym.spaces.Discrete(2, start=5)

    envs = gym.vector.SyncVectorEnv([Shifted])
    agent = module.ActorCritic(envs)
    with torch.no_grad():
        for layer in agent.actor[:-1:2]:
            layer.weight.fill_(0.0)
            layer.weight[0, 0] = 1.0
        agent.actor[-1].weight.zero_()
        agent.actor[-1].weight[1, 0] = 1.0
        agent.actor[-1].bias.copy_(torch.tensor([math.tanh(math.tanh(0.5)), 0.0]))  # even at half the bound
    assert agent.greedy()(np.array([[3.0], [5.0]], dtype=np.float32)).tolist() == [5, 6]


CHECKS = (judges_categorical, judges_gaussian, samples_categorical, samples_gaussian, applies, acts_greedily)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_meets_its_definition(check):
    check(agents)


PLANTED = {  # what is wrong -> (check that notices, piece of the source, its replacement)
    "normalised over the batch": (judges_categorical, "log_softmax(dim=-1)", "log_softmax(dim=0)"),
    "not normalised": (judges_categorical, "logits.log_softmax(dim=-1)", "logits"),
    "sign of the entropy": (judges_categorical, "entropy = -(log_probs", "entropy = (log_probs"),
    "the first action's": (judges_categorical, "gather(1, actions", "gather(1, 0 * actions"),
    "logarithm of the width missing": (judges_gaussian, "deviation**2 + self.log_std +", "deviation**2 +"),
    "constant missing": (judges_gaussian, " + 0.5 * math.log(2 * math.pi)).sum", ").sum"),
    "variance for width": (judges_gaussian, "self.log_std.exp()", "(2 * self.log_std).exp()"),
    "mean over the numbers": (judges_gaussian, "math.pi)).sum(dim=-1)", "math.pi)).mean(dim=-1)"),
    "density of the clipped action": (judges_gaussian, "(actions - mean)", "(actions.clamp(-2, 2) - mean)"),
    "density of the squashed action": (judges_gaussian, "(actions - mean)", "(actions.tanh() - mean)"),
    "half missing": (judges_gaussian, "-(0.5 * deviation**2", "-(deviation**2"),
    "entropy of one number": (judges_gaussian, "math.e)).sum()", "math.e)).mean()"),
    "greedy": (samples_categorical, "logits + rng.gumbel(size=logits.shape)", "logits"),
    "normal noise": (samples_categorical, "gumbel(size=logits.shape)", "standard_normal(logits.shape)"),
    "one noise for all": (samples_categorical, "size=logits.shape", "size=(1, logits.shape[1])"),
    "variance sampled": (samples_gaussian, "np.exp(self.log_std", "np.exp(2 * self.log_std"),
    "logarithm sampled": (samples_gaussian, "np.exp(self.log_std.detach()", "(self.log_std.detach()"),
    "one noise for all numbers": (samples_gaussian, "normal(mean.shape)", "normal((len(mean), 1))"),
    "clipped when sampled": (samples_gaussian, "(mean.shape)).astype", "(mean.shape)).clip(-2, 2).astype"),
    "start ignored": (applies, "return actions + self.first", "return actions"),
    "not clipped": (applies, "return actions.clip(self.low, self.high)", "return actions"),
    "one bound": (applies, "clip(self.low, self.high)", "clip(-self.high, self.high)"),
    "observations as they are": (acts_greedily, "actor(obs / self.obs_unit)", "actor(obs)"),
    "greedy action not applied": (acts_greedily, "self.head.applied(", "("),
}  # fmt: skip


@pytest.mark.parametrize("error", PLANTED)
def test_check_rejects_planted_error(error):
    check, old, new = PLANTED[error]
    source = inspect.getsource(agents)
    assert source.count(old) == 1, error
    wrong = types.ModuleType("planted_agents")
    sys.modules[wrong.__name__] = wrong
    exec(source.replace(old, new), wrong.__dict__)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        check(wrong)


def test_parameters_of_the_head_are_trained():
    agent = agents.ActorCritic(make_envs("Pendulum-v1", 2))
    assert any(parameter is agent.head.log_std for parameter in agent.parameters())


def test_observations_are_divided_by_their_bounds_where_they_have_any():
    assert agents.units_of(make_envs("Pendulum-v1", 1).single_observation_space).tolist() == [1.0, 1.0, 8.0]
    assert agents.units_of(make_envs("CartPole-v1", 1).single_observation_space).tolist() == [1.0] * 4


@pytest.mark.parametrize(
    "space", [gym.spaces.MultiDiscrete([2, 2]), gym.spaces.Box(0.0, 1.0, shape=(2, 2)), gym.spaces.Dict({})]
)
def test_other_action_spaces_are_refused_in_one_line(space):
    with pytest.raises(UsageError, match="only Discrete, or a Box of one dimension") as refused:
        agents.head_for(space)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "space", [gym.spaces.Discrete(3), gym.spaces.Box(0, 255, shape=(4, 4, 3), dtype=np.uint8)]
)
def test_other_observation_spaces_are_refused_in_one_line(space):
    with pytest.raises(UsageError, match="only vectors") as refused:
        agents.units_of(space)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("lesson", ["C3", "E3"])
@pytest.mark.parametrize("changes", [{"minibatch_size": 341}, {"num_envs": 1, "num_steps": 1}])
def test_a_transition_alone_in_its_minibatch_is_refused(tmp_path, lesson, changes):
    """1024 = 3 * 341 + 1: of the one no spread is known, and the weights would be no numbers ever after."""
    lesson = lesson_of(find(lesson))
    cfg = lesson.Config(**{**lesson.SMOKE, "num_envs": 16, "num_steps": 64, **changes})
    with pytest.raises(UsageError, match=r"--minibatch-size \d+ leaves a minibatch of one .*allowed"):
        execute(lesson.main, cfg, Path("C3_x.py"), RunOptions(smoke=True, out=tmp_path), print_claims=False)
