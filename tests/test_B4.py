"""B4's learner on the probe environments, whole, and wrong on them once an error is planted in it."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from chapters.B_core_algorithms import B4_dqn_from_scratch as lesson
from chapters.course.planting import plant
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
}


def learned(module, probe, folder, **changes):
    """{observation: (largest Q, its action)} after a brief training on a probe."""
    cfg = module.Config(**{**QUICK, **changes})
    log = RunLog(folder, "B4")
    agent, scores = module.train(cfg, log, envs=make_envs(f"Probe{probe}-v0", cfg.num_envs))
    log.close()
    assert scores.best is None, "injected environments are trained on, not evaluated on"
    result = {}
    for obs in ANSWERS[probe]:
        with torch.inference_mode():
            q = agent.online(torch.tensor([obs]))
        result[obs] = (float(q.max()), int(q.argmax()))
    return result


def wrongness(probe, found):
    """Largest error in value over the probe's observations; infinite if an action is wrong."""
    gaps = [
        abs(found[obs][0] - value) if found[obs][1] == action else np.inf
        for obs, (value, action) in ANSWERS[probe].items()
    ]
    return max(gaps)


@pytest.mark.parametrize("probe", ANSWERS)
@pytest.mark.parametrize(
    "switches", [{}, {"double": False}, {"dueling": True}], ids=["double", "plain", "dueling"]
)
def test_learner_solves_probe(probe, switches, tmp_path):
    tolerance = 0.5 if probe == "Endless" else 0.1
    assert wrongness(probe, learned(lesson, probe, tmp_path, **switches)) < tolerance


def cut_short_value(module, folder, **changes):
    """Q(0) after training on `CutShort`; the truth is gamma."""
    envs = gym.vector.SyncVectorEnv([CutShort] * 4, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    log = RunLog(folder, "B4")
    agent, _ = module.train(module.Config(**{**QUICK, **changes}), log, envs=envs)
    log.close()
    with torch.inference_mode():
        return float(agent.online(torch.tensor([0.0])).max())


def test_true_successor_is_bootstrapped(tmp_path):
    assert abs(cut_short_value(lesson, tmp_path) - GAMMA) < 0.05


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("next_obs=true_next_obs(next_obs, done, infos)", "next_obs=next_obs"),
        ("terminated=done if cfg.merge_time_limit else terminated", "terminated=done"),
    ],
    ids=["next_obs after the autoreset", "terminated merged with truncated"],
)
def test_wrong_successor_is_noticed(old, new, tmp_path):
    assert abs(cut_short_value(plant(lesson, old, new), tmp_path) - GAMMA) > 0.1


PLANTED = {  # what is wrong -> (probe that notices, piece of the source, its replacement)
    "terminated merged with truncated": (
        "Endless", "terminated=done if cfg.merge_time_limit else terminated", "terminated=done",
    ),
    "sign of the td target": ("DelayedReward", "return rewards + gamma *", "return rewards - gamma *"),
    "bootstraps through a terminal state": (
        "DelayedReward", "gamma * ~terminated * next_values", "gamma * next_values",
    ),
    "target network never synced": ("Endless", "move_average(agent.target, agent.online, 1.0)", "pass"),
    "stores obs as next_obs": ("DelayedReward", "=true_next_obs(next_obs, done, infos)", "=obs"),
    "trains on the first action only": (
        "ActionMatters", 'batch["actions"].unsqueeze(1)', '0 * batch["actions"].unsqueeze(1)',
    ),
    "no gradient step": ("ConstantReward", "    agent.optimizer.step()\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("error", PLANTED)
def test_probe_notices_planted_error(error, tmp_path):
    probe, old, new = PLANTED[error]
    assert wrongness(probe, learned(plant(lesson, old, new), probe, tmp_path)) > 0.5


def test_both_switches_off_is_the_plain_target():
    """Plain is double's special case: with equal networks both give the same values."""
    q = torch.randn(32, 3)
    assert torch.equal(lesson.max_value(q), lesson.double_value(q, q))


def test_two_state_world_agrees_with_one_learner_at_a_time():
    """The batched world against one written with loops, for both methods, in their mean over runs."""
    rng = np.random.default_rng(0)
    for double in (False, True):
        batched = lesson.two_state_world(double, 2000, rng)[:40]
        looped = np.mean([one_learner(double, 40, rng) for _ in range(400)], axis=0)
        assert np.abs(batched - looped)[-20:].mean() < 0.06


def one_learner(double, num_episodes, rng):
    """Example 6.7 for a single learner, in the words of the book. Whether it went left [episodes]."""
    at_a, at_b = np.zeros((2, 2)), np.zeros((2, 10))

    def act(tables):
        total = tables.sum(axis=0)
        if rng.random() < 0.1:
            return rng.integers(len(total))
        return rng.choice(np.flatnonzero(total == total.max()))

    went_left = np.zeros(num_episodes)
    for episode in range(num_episodes):
        action, table = act(at_a), rng.integers(2) if double else 0
        judge = 1 - table if double else 0
        bootstrap = 0.0
        if action == lesson.LEFT:
            went_left[episode] = 1
            best = rng.choice(np.flatnonzero(at_b[table] == at_b[table].max()))
            bootstrap = at_b[judge, best]
        at_a[table, action] += 0.1 * (bootstrap - at_a[table, action])
        if action == lesson.LEFT:
            bad, table = act(at_b), rng.integers(2) if double else 0
            at_b[table, bad] += 0.1 * (rng.normal(-0.1, 1.0) - at_b[table, bad])
    return went_left
