"""C0's learner on small worlds, whole, and wrong on them once an error is planted in it."""

import gymnasium as gym
import numpy as np
import pytest

from chapters.C_policy_gradients import C0_policy_gradients_reinforce as lesson
from chapters.course.planting import plant
from chapters.envs import make_envs
from chapters.envs.probes import Probe
from chapters.utils import RunLog

QUICK = {"num_envs": 8, "num_updates": 25, "hidden_size": 8, "learning_rate": 3e-2, "gamma": 0.9}


class ActFirst(Probe):
    """Observations 0 and 1; the first action is paid after the second, which does not matter."""

    def outcome(self, observation, action):
        if observation == 0.0:
            self.chosen = action
            return 1.0, 0.0, False
        return observation, 1.0 if self.chosen == 1 else -1.0, True


class ActLast(Probe):
    """A lottery is paid first; then action 1 is worth 1 more than action 0. Episodes differ in length."""

    def first(self):
        return float(self.np_random.choice([0.0, 1.0]))

    def outcome(self, observation, action):
        if observation == 0.0:
            return 1.0, 10.0 * float(self.np_random.normal()), False
        return observation, 5.0 + action, True


def vector(probe, num_envs):
    return gym.vector.SyncVectorEnv([probe] * num_envs, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)


WORLDS = {  # name -> (environments, {observation: best action})
    "ActionMatters": (lambda n: make_envs("ProbeActionMatters-v0", n), {0.0: 1}),
    "BothMatter": (lambda n: make_envs("ProbeBothMatter-v0", n), {-1.0: 0, 1.0: 1}),
    "ActFirst": (lambda n: vector(ActFirst, n), {0.0: 1}),
    "ActLast": (lambda n: vector(ActLast, n), {1.0: 1}),
}


def probability_of_best(module, world, folder, kind="leave_one_out", **changes):
    """The least probability that the trained policy gives to a best action."""
    make, answers = WORLDS[world]
    cfg = module.Config(**{**QUICK, **changes})
    log = RunLog(folder, "C0")
    policy = module.train(cfg, log, envs=make(cfg.num_envs), kind=kind)
    log.close()
    assert not log.metrics, "injected environments are trained on, not evaluated on"
    shares = []
    for obs, action in answers.items():
        logits = module.logits_of(policy, np.array([obs], dtype=np.float32))
        shares.append(np.exp(logits - logits.max())[action] / np.exp(logits - logits.max()).sum())
    return min(shares)


@pytest.mark.parametrize("world", WORLDS)
def test_learner_solves_probe(world, tmp_path):
    for seed in range(3):
        assert probability_of_best(lesson, world, tmp_path / str(seed), seed=seed) > 0.8


@pytest.mark.parametrize("kind", ["total_return", "reward_to_go", "own_mean", "normalised"])
def test_every_weight_learns_from_an_immediate_reward(kind, tmp_path):
    assert probability_of_best(lesson, "BothMatter", tmp_path, kind=kind) > 0.8


MEAN = "(returns.sum(axis=-1, keepdims=True) - returns) / (returns.shape[-1] - 1)"
TAKEN = 'torch.from_numpy(batch["actions"][alive])[:, None]'
WRITE = "        returns[..., t, :] = running\n"
PLANTED = {  # what is wrong -> (world that notices, piece of the source, its replacement)
    "sign of the loss": ("ActionMatters", "return -(log_probs", "return (log_probs"),
    "sums the past": (
        "ActFirst", "for t in reversed(range(rewards.shape[-2])):", "for t in range(rewards.shape[-2]):",
    ),
    "reward-to-go off by one": (
        "ActionMatters", WRITE, "        returns[..., max(t - 1, 0), :] = running if t else 0\n",
    ),
    "log-probability of the first action": ("ActionMatters", TAKEN, f"0 * {TAKEN}"),
    "acts greedily": ("ActFirst", "(logits + rng.gumbel(size=logits.shape)).argmax", "logits.argmax"),
    "baseline along time": ("ActionMatters", MEAN, "returns.mean(axis=-2, keepdims=True)"),
    "no gradient step": ("ActionMatters", "    optimizer.step()\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("error", PLANTED)
def test_probe_notices_planted_error(error, tmp_path):
    world, old, new = PLANTED[error]
    wrong = plant(lesson, old, new)
    # pure noise may end on the right action by chance, but not every time
    assert min(probability_of_best(wrong, world, tmp_path / str(seed), seed=seed) for seed in range(3)) < 0.7


def test_collect_plays_one_whole_episode_each():
    """Nothing of a next episode is counted, and a time limit ends the sum as a terminal state does."""
    rng = np.random.default_rng(0)
    for world, lengths in (("ActLast", {1, 2}), ("ActFirst", {2})):
        envs = WORLDS[world][0](20)
        envs.reset(seed=0)
        batch = lesson.collect(lesson.make_policy(envs, 4), envs, rng)
        assert set(batch["alive"].sum(axis=0).tolist()) == lengths
        assert (batch["rewards"][~batch["alive"]] == 0).all()
    envs = make_envs("ProbeEndless-v0", 3)
    batch = lesson.collect(lesson.make_policy(envs, 4), envs, rng)
    assert batch["alive"].shape == (10, 3)
    assert batch["alive"].all()
    np.testing.assert_allclose(lesson.rewards_to_go(batch["rewards"], 1.0)[0], 10.0)


def test_actions_are_drawn_from_the_policy():
    class Fixed(gym.vector.VectorEnv):
        num_envs = 20_000
        single_observation_space = gym.spaces.Box(-1, 1, (1,))
        single_action_space = gym.spaces.Discrete(3)

        def reset(self, **_):
            return np.ones((self.num_envs, 1), dtype=np.float32), {}

        def step(self, actions):
            ends = np.ones(self.num_envs, dtype=bool)
            return self.reset()[0], np.ones(self.num_envs), ends, ~ends, {}

    policy = lesson.make_policy(Fixed(), 4)
    batch = lesson.collect(policy, Fixed(), np.random.default_rng(0))
    logits = lesson.logits_of(policy, np.ones(1, dtype=np.float32))
    expected = np.exp(logits) / np.exp(logits).sum()
    assert np.abs(np.bincount(batch["actions"][0], minlength=3) / 20_000 - expected).max() < 0.015
