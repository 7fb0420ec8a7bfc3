"""C7's learner on the probes, its actors and their processes, and what its evidence measures with."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from spies import each_probe

from chapters.C_policy_gradients import C7_impala_vtrace as lesson
from chapters.C_policy_gradients.checks.C7 import EDITS
from chapters.C_policy_gradients.evidence import C7 as evidence
from chapters.C_policy_gradients.evidence import C7_processes as processes
from chapters.C_policy_gradients.evidence.C7_processes import RemoteActor
from chapters.envs import make_envs
from chapters.envs.probes import actor_critic_error, best_values, make_probe
from chapters.envs.token_world import token_world
from chapters.exact.mdp import evaluate_exactly
from chapters.utils import RunLog, seed_everything
from chapters.utils.edits import edited

GAMMA = 0.9
QUICK = {
    "env_id": "ProbeActionMatters-v0", "num_actors": 1, "num_envs": 8, "num_steps": 10, "lag": 2,
    "num_env_steps": 12_000, "learning_rate": 1e-2, "critic_learning_rate": 2e-2, "gamma": GAMMA,
    "vtrace_lambda": 1.0, "reward_scale": 1.0, "ent_coef": 0.0, "eval_every": 10**6,
}  # fmt: skip


def trained(module, probe, folder, **changes):
    """The agent after a brief training on a probe, with data of two updates ago."""
    one_action = probe in ("ConstantReward", "RewardByObservation", "DelayedReward", "Endless", "CutShort")
    env_id = "ProbeConstantReward-v0" if one_action else QUICK["env_id"]
    cfg = module.Config(**{**QUICK, "env_id": env_id, **changes})
    log = RunLog(folder, "C7")
    agent = module.train(cfg, log, [module.Actor(cfg, 0, make_probe(probe, cfg.num_envs))])
    log.close()
    return agent


def wrongness(module, probe, folder):
    """Largest error in value over the probe's observations; infinite if a likeliest action is wrong."""
    return actor_critic_error(best_values(GAMMA)[probe], trained(module, probe, folder))


@each_probe(best_values(GAMMA))
def test_learner_solves_probe(probe, tmp_path):
    assert wrongness(lesson, probe, tmp_path) < (0.5 if probe == "Endless" else 0.15)


NOTICED = {  # named edit -> the probe that notices it
    "merged": "Endless",
    "past_the_end": "DelayedReward",
    "objective_lowered": "ActionMatters",
    "critic_follows_advantages": "ConstantReward",
    "values_of_this_state": "CutShort",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTICED)
def test_probe_notices_edit(name, tmp_path):
    assert not wrongness(edited(lesson, EDITS[name]), NOTICED[name], tmp_path) < 0.5


class Recorder:
    """An actor that remembers which weights it was asked with, and answers as a right one does."""

    def __init__(self, cfg, index):
        self.actor, self.log = lesson.Actor(cfg, index), []

    def ask(self, weights):
        self.log.append(weights.copy())
        self.actor.ask(weights)

    def answer(self):
        return self.actor.answer()


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_rollouts_are_made_by_the_weights_of_lag_updates_ago(lag, tmp_path, monkeypatch):
    cfg = lesson.Config(lag=lag, num_envs=2, num_steps=3, num_env_steps=6 * 7, eval_every=10**6)
    after, used = [], []  # the learner's weights before each update; those that made its rollout
    right = lesson.update

    def update(agent, optimizers, rollout, cfg):
        after.append(lesson.weights_of(agent))
        return right(agent, optimizers, rollout, cfg)

    monkeypatch.setattr(lesson, "update", update)
    recorders = [Recorder(cfg, 0), Recorder(cfg, 1)]
    log = RunLog(tmp_path, "C7")
    lesson.train(cfg, log, recorders)
    log.close()
    for i in range(7):
        used.append(recorders[i % 2].log[i // 2])
        np.testing.assert_array_equal(used[i], after[max(0, i - lag)])


def test_a_rollout_says_how_likely_its_actions_were_and_follows_on():
    cfg = lesson.Config(num_envs=3, num_steps=40, reward_scale=0.5)
    actor = lesson.Actor(cfg, 0)
    agent = lesson.ActorCritic(make_envs("CartPole-v1", 1))
    for _ in range(2):
        actor.ask(lesson.weights_of(agent))
    first, second = actor.answer(), actor.answer()
    log_probs = agent.actor(torch.from_numpy(first["obs"])).log_softmax(-1)
    chosen = log_probs.gather(-1, torch.from_numpy(first["actions"])[..., None])[..., 0]
    np.testing.assert_allclose(first["old_log_probs"], chosen.detach().numpy(), atol=1e-5)
    assert (first["rewards"] == 0.5).all()
    done = first["terminated"] | first["truncated"]
    same = np.isclose(first["obs"][1:], first["next_obs"][:-1], atol=1e-6).all(axis=2)
    np.testing.assert_array_equal(same, ~done[:-1])
    goes_on = ~done[-1]
    np.testing.assert_allclose(second["obs"][0][goes_on], first["next_obs"][-1][goes_on], atol=1e-6)


@pytest.mark.parametrize("edit", [None, "weights_not_copied"])
def test_weights_are_a_copy_and_come_back(edit):
    weights_of = (edited(lesson, EDITS[edit]) if edit else lesson).weights_of
    agent, other = (lesson.ActorCritic(make_envs("CartPole-v1", 1)) for _ in range(2))
    kept = weights_of(agent)
    before = kept.copy()
    assert np.array_equal(kept, lesson.weights_of(agent)) == (edit is None)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 1.0
    np.testing.assert_array_equal(kept, before)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(kept), other.parameters())
    np.testing.assert_array_equal(lesson.weights_of(other), before)


def test_a_dead_process_is_told_and_a_closed_one_is_gone():
    cfg = lesson.Config(num_envs=2, num_steps=2)
    actor = RemoteActor(lesson.Actor, dataclasses.asdict(cfg), 0)
    actor.process.kill()
    with pytest.raises(RuntimeError, match="has ended"):
        actor.answer()
    actor.close()
    assert not actor.process.is_alive()


def test_expected_target_is_the_mean_of_sampled_ones():
    """Ten thousand sampled paths, cut where gamma has made the rest small."""
    mdp, policy, behaviour = evidence.random_world(3)
    rng = np.random.default_rng(0)
    V = rng.normal(size=len(mdp.R))
    num_paths, num_steps = 20_000, 60
    states = np.zeros((num_steps + 1, num_paths), dtype=int)
    actions = np.zeros((num_steps, num_paths), dtype=int)
    for t in range(num_steps):
        actions[t] = (rng.random(num_paths)[:, None] > behaviour[states[t]].cumsum(1)[:, :-1]).sum(1)
        chances = mdp.P[states[t], actions[t]]
        states[t + 1] = (rng.random(num_paths)[:, None] > chances.cumsum(1)[:, :-1]).sum(1)
    ratio = torch.from_numpy((policy / behaviour)[states[:-1], actions])
    never = torch.zeros(ratio.shape, dtype=torch.bool)
    rewards = torch.from_numpy(mdp.R[states[:-1], actions])
    values, next_values = (torch.from_numpy(V[one]) for one in (states[:-1], states[1:]))
    targets, _ = lesson.vtrace(rewards, values, next_values, never, never, ratio, 0.9, 1.0, 1.5, 0.8)
    expected = evidence.expected_target(mdp, policy, behaviour, V, 1.5, 0.8)[0]
    error = float(targets[0].std()) / math.sqrt(num_paths)
    assert abs(float(targets[0].mean()) - expected) < 4 * error


def test_the_resting_point_lies_where_theory_says_and_a_wrong_one_does_not():
    mdp, policy, behaviour = evidence.random_world(0)
    found = evidence.fixed_point(mdp, policy, behaviour, 0.5, 0.5)
    right = evaluate_exactly(mdp, lesson.clipped_policy(policy, behaviour, 0.5))
    np.testing.assert_allclose(found, right, atol=1e-8)
    assert np.abs(found - evaluate_exactly(mdp, policy)).max() > 0.01
    assert np.abs(found - evaluate_exactly(mdp, behaviour)).max() > 0.01


@pytest.mark.parametrize("weighting", evidence.WEIGHTINGS)
def test_stale_gradients_are_the_mean_over_all_texts(weighting):
    """Text by text, with torch's own gradient of each."""
    seed_everything(0)
    world = token_world(1, num_symbols=3, length=2)
    policy = world.reference(torch.float64)
    old = evidence.token_log_probs(world, policy).detach()
    torch.testing.assert_close(old.sum(-1), world.reference_log_probs())
    with torch.no_grad():
        policy.table += torch.randn_like(policy.table)
    mean, squared = evidence.stale_gradient(world, policy, old, weighting)
    new = evidence.token_log_probs(world, policy)
    ours = new.detach().sum(-1).exp()
    baseline = (ours * world.rewards).sum(1)
    expected, length = torch.zeros_like(policy.table), 0.0
    for n in range(world.num_prompts):
        for m in range(len(world.completion_ids)):
            share = float(old[n, m].sum().exp()) / world.num_prompts
            ratio = (new[n, m] - old[n, m]).detach()
            weights = {
                "sequence": ratio.sum().exp() * torch.ones_like(ratio),
                "token": ratio.exp().clamp(max=1.0),
                "none": torch.ones_like(ratio),
            }[weighting]
            loss = (weights * new[n, m]).sum() * (world.rewards[n, m] - baseline[n])
            (one,) = torch.autograd.grad(loss, policy.table, retain_graph=True)
            expected += share * one
            length += share * float(one.square().sum())
    torch.testing.assert_close(mean, expected)
    assert squared == pytest.approx(length)


def test_distance_is_0_at_the_learners_value_and_1_at_the_older_policys(monkeypatch):
    """A bound that nothing meets leaves the learner's policy; a tiny one leaves the older one's."""
    monkeypatch.setattr(evidence, "DRAWN_BOUNDS", np.array([1e-9, 1.0, 1e9]))
    found = evidence.distances(3, num_worlds=2)
    np.testing.assert_allclose(found[:, [0, 2]], [[1.0, 0.0]] * 2, atol=1e-6)
    for number in (0, 1):
        mdp, policy, behaviour = evidence.random_world(3000 + number)
        ours, theirs, between = (
            evaluate_exactly(mdp, one)
            for one in (policy, behaviour, lesson.clipped_policy(policy, behaviour, 1.0))
        )
        gone = math.dist(between, ours) / math.dist(theirs, ours)
        assert found[number, 1] == pytest.approx(gone)


def test_each_lag_is_learnt_with_the_correction_and_without(tmp_path, monkeypatch):
    """What is written for a lag is that learner's own score, and the mean of its divergences."""
    wrong = edited(lesson, EDITS["uncorrected"])
    monkeypatch.setattr(evidence, "edited", lambda module, edit: {EDITS["uncorrected"]: wrong}[edit])
    for module, worth in ((lesson, 100.0), (wrong, 200.0)):

        def train(cfg, log, name, worth=worth):
            for step, kl in enumerate((0.1, 0.3)):
                log.write(step, **{f"{name}_kl": kl * worth + cfg.lag})
            return worth + cfg.lag

        monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(lesson, "score", lambda agent, cfg, seed: agent + seed)
    log = RunLog(tmp_path, "C7")
    evidence.lags(lesson.Config(), log)
    log.close()
    lags = np.array([0, 4, 16, 64])
    for name, worth in (("vtrace", 100.0), ("uncorrected", 200.0)):
        for what, expected in (("fresh_return", 20_000 + worth), ("mean_kl", 0.2 * worth)):
            steps, found = log.series(f"{name}_{what}")
            np.testing.assert_array_equal(steps, lags)
            np.testing.assert_allclose(found, expected + lags)


def test_tokens_are_measured_from_the_policy_that_wrote_to_the_one_that_learns(tmp_path, monkeypatch):
    """At first nothing is stale; two exact steps on, bias, spread and divergence are those of that policy."""
    world = token_world(2, num_symbols=3, length=2)
    monkeypatch.setattr(evidence, "token_world", lambda seed, num_symbols: world)
    monkeypatch.setattr(evidence, "STEPS", (0, 2))
    log = RunLog(tmp_path, "C7")
    evidence.tokens(2, log)
    log.close()
    policy = world.reference(torch.float64)
    old = evidence.token_log_probs(world, policy).detach()
    norms = []
    for step in (0, 1, 2):
        new = evidence.token_log_probs(world, policy)
        (exact,) = torch.autograd.grad(world.expected_reward(new.sum(-1)), policy.table)
        norms.append(float(exact.norm()))
        if step < 2:
            with torch.no_grad():
                policy.table += evidence.STEP_SIZE * exact
    kl = (old.sum(-1).exp() * (old - new).sum(-1)).sum(1).mean().item()
    assert log.series("tokens_kl")[1] == pytest.approx([0.0, kl], abs=1e-12)
    assert kl > 1e-3
    for name in evidence.WEIGHTINGS:
        mean, squared = evidence.stale_gradient(world, policy, old, name)
        bias, spread = (log.series(f"tokens_{name}_{what}")[1] for what in ("bias", "spread"))
        assert bias == pytest.approx([0.0, float((mean - exact).norm()) / norms[0]], abs=1e-9)
        assert spread[1] == pytest.approx(math.sqrt(squared - float(mean.norm()) ** 2) / norms[0])
    worst = max(log.series("tokens_sequence_bias")[1])
    claims = {claim.name: claim.value for claim in log.claims}
    assert claims["sequence_bias"] == worst < 1e-9
    ratio = log.last("tokens_token_bias") / log.last("tokens_none_bias")
    assert claims["token_bias"] == pytest.approx(ratio)


def test_one_actor_here_is_warm_before_the_clock_runs(tmp_path, monkeypatch):
    """It has answered once, by the first weights, when training begins; steps are divided by its seconds."""
    cfg, heard = lesson.Config(seed=4, num_env_steps=600), []

    class Kind:
        def __init__(self, cfg, index):
            heard.append((cfg.num_actors, index))

        def ask(self, weights):
            heard.append(weights)

        def answer(self):
            heard.append("answered")

    def train(cfg, log, actors, name):
        heard.append(name)
        seconds.append(2.0)
        return lesson.ActorCritic(make_envs(cfg.env_id, 1))

    seconds = []
    monkeypatch.setattr(processes.time, "perf_counter", lambda: 10.0 + sum(seconds))
    monkeypatch.setattr(lesson, "train", train)
    speed, weights = processes.timed(Kind, 0, cfg, RunLog(tmp_path, "C7"))
    seed_everything(4)
    first = lesson.weights_of(lesson.ActorCritic(make_envs(cfg.env_id, 1)))
    actors, asked, *rest = heard
    assert actors == (1, 0)
    np.testing.assert_array_equal(asked, first)
    assert rest == ["answered", "Kind_0"]
    assert speed == 300.0
    assert weights.shape == first.shape
