"""C5's learner on the probe environments, whole and with edits; its promises; its evidence."""

import copy
import math

import numpy as np
import pytest
import torch
from spies import assert_seeds_apart, each_probe

from chapters.C_policy_gradients import C5_trpo as lesson
from chapters.C_policy_gradients.checks.C5 import EDITS, small_case
from chapters.C_policy_gradients.evidence import C5 as evidence
from chapters.envs import make_envs
from chapters.envs.probes import actor_critic_error, best_values, make_probe
from chapters.exact.mdp import MDP
from chapters.exact.trust_regions import random_pair
from chapters.utils import RunLog, UsageError
from chapters.utils.edits import edited
from chapters.utils.optim import Adam

GAMMA = 0.9  # the endless probe is then worth 10
QUICK = {
    "num_envs": 8, "num_steps": 16, "num_env_steps": 2048, "minibatch_size": 64, "num_epochs": 10,
    "learning_rate": 1e-2, "gamma": GAMMA, "max_kl": 0.2, "num_cg_steps": 2,
}  # fmt: skip
ANSWERS = best_values(GAMMA)


def trained(module, envs, folder, **changes):
    """The agent after a brief training."""
    log = RunLog(folder, "C5")
    agent = module.train(module.Config(**{**QUICK, **changes}), log, envs=envs)
    log.close()
    assert not any(name.endswith("_return") for name in log.metrics), "environments passed in are not judged"
    return agent


def wrongness(module, probe, folder, **changes):
    """The largest error in value over the probe's observations; infinite if a likeliest action is wrong."""
    agent = trained(module, make_probe(probe, QUICK["num_envs"]), folder, **changes)
    return actor_critic_error(ANSWERS[probe], agent)


@each_probe(ANSWERS)
def test_learner_solves_probe(probe, tmp_path):
    assert wrongness(lesson, probe, tmp_path) < (0.5 if probe == "Endless" else 0.1)


NOTICED = {  # named edit -> the probe that notices it
    "first_action": "BothMatter",
    "learns_the_advantage": "ConstantReward",
    "critic_never": "ConstantReward",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTICED)
def test_probe_notices_edit(name, tmp_path):
    assert not wrongness(edited(lesson, EDITS[name]), NOTICED[name], tmp_path) < 0.15


def test_a_time_limit_taken_for_an_end_is_noticed(tmp_path):
    wrong = edited(lesson)
    prepare = wrong.prepare

    def merged(agent, rollout, cfg):
        return prepare(agent, rollout | {"terminated": rollout["terminated"] | rollout["truncated"]}, cfg)

    wrong.prepare = merged
    assert wrongness(wrong, "Endless", tmp_path) > 1.0


# What TRPO promises


def test_no_update_moves_further_than_it_may_and_each_raises_the_surrogate(tmp_path):
    """In 64 bits, from the weights before and after; on CartPole, where the whole step often goes too far."""
    module = edited(lesson)
    update, seen = module.update, []

    def watched(agent, optimizer, batch, cfg):
        before = copy.deepcopy(agent)
        kl = update(agent, optimizer, batch, cfg)
        obs = batch["obs"].double()
        old, new = (one.double()(obs).log_softmax(1) for one in (before.actor, copy.deepcopy(agent).actor))
        rows = torch.arange(len(obs)), batch["actions"]
        surrogate = ((new[rows] - old[rows]).exp() * batch["advantages"]).mean()
        raised = surrogate - batch["advantages"].mean()
        seen.append((lesson.mean_kl(old, new).item(), kl, raised.item()))
        return kl

    module.update = watched
    trained(module, make_envs("CartPole-v1", 8), tmp_path, max_kl=0.01, num_cg_steps=10)
    true, told, raised = np.transpose(seen)
    np.testing.assert_allclose(true, told, rtol=1e-2, atol=1e-5)
    assert true.max() <= 0.01 * (1 + 1e-3)
    assert true.max() > 0.005, "steps as long as they may be"
    assert (raised[true > 0] > 0).all()


def test_equal_advantages_leave_the_actor_as_it_is_and_only_the_critic_learns():
    agent, batch = small_case(3)
    cfg = lesson.Config(minibatch_size=4, num_epochs=2)
    batch |= {"advantages": torch.ones(12, dtype=torch.float64), "returns": torch.ones(12).double()}
    actor, critic = copy.deepcopy(agent.actor), copy.deepcopy(agent.critic)
    kl = lesson.update(agent, Adam(agent.critic.parameters(), lr=1e-2), batch, cfg)
    assert kl == 0.0
    for one, other in zip(agent.actor.parameters(), actor.parameters()):
        assert torch.equal(one, other)
    assert any(not torch.equal(*pair) for pair in zip(agent.critic.parameters(), critic.parameters()))


def test_the_critic_s_fit_leaves_the_actor_where_the_line_search_put_it():
    """Ten passes of the critic or one: the actor is the same."""
    actors = []
    for num_epochs in (1, 10):
        agent, batch = small_case(4)
        batch |= {"returns": torch.ones(12).double()}
        cfg = lesson.Config(minibatch_size=4, num_epochs=num_epochs)
        lesson.update(agent, Adam(agent.critic.parameters(), lr=1e-2), batch, cfg)
        actors.append(lesson.flat(list(agent.actor.parameters())))
    assert torch.equal(*actors)


def test_products_are_those_with_the_matrix_of_scores():
    agent, batch = small_case(5)
    F = evidence.explicit_fisher(agent, batch)
    for damping in (0.0, 0.2):
        product = lesson.fisher_products(agent, batch, damping)
        for unit in torch.eye(len(F), dtype=torch.float64)[:5]:
            torch.testing.assert_close(product(unit), F @ unit + damping * unit)


def test_large_damping_turns_the_step_into_the_plain_gradient():
    agent, batch = small_case(6)
    gradient = evidence.policy_gradient(agent, batch)
    for damping, low, high in ((1e6, 0.999999, 1.1), (1e-4, -1.0, 0.95)):
        step = lesson.trust_region_step(agent, batch, lesson.Config(damping=damping, num_cg_steps=50))
        cosine = float(torch.cosine_similarity(step, gradient, dim=0))
        assert low < cosine < high


def test_continuous_actions_are_refused_in_a_line(tmp_path):
    log = RunLog(tmp_path, "C5")
    with pytest.raises(UsageError, match="Pendulum") as refused:
        lesson.train(lesson.Config(env_id="Pendulum-v1", **lesson.SMOKE), log)
    log.close()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_envs": 1, "num_steps": 2, "minibatch_size": 2, "num_env_steps": 1},
        {"damping": 1e-6, "num_cg_steps": 60},
        {"damping": 1e6, "num_halvings": 0},
        {"max_kl": 1e-8},
        {"max_kl": 100.0, "num_halvings": 30},
        {"gamma": 0.0, "gae_lambda": 0.0, "num_cg_steps": 1},
        {"gamma": 1.0, "gae_lambda": 1.0, "reward_scale": 1e6},
    ],
    ids=str,
)
def test_corners_of_the_settings_run(changes, tmp_path):
    agent = trained(lesson, make_envs("CartPole-v1", 8), tmp_path, **{"num_env_steps": 384, **changes})
    assert all(weight.isfinite().all() for weight in agent.actor.parameters())


def test_training_and_the_report_use_different_seeds(tmp_path, monkeypatch):
    assert_seeds_apart(monkeypatch, lesson, RunLog(tmp_path, "C5", smoke=True))


# Evidence


def coin(gamma):
    """One state, two actions that pay 1 and 0."""
    return MDP(np.ones((1, 2, 1)), np.array([[1.0, 0.0]]), np.array([False]), gamma)


def test_gains_of_a_coin_by_hand():
    old, new = np.array([[0.5, 0.5]]), np.array([[0.625, 0.375]])
    truth, lemma, surrogate, guaranteed, in_the_mean = evidence.gains(coin(0.5), old, new, np.ones(1))
    assert truth == pytest.approx(0.25)
    assert (lemma, surrogate) == pytest.approx((0.25, 0.25))  # one state: its visits cannot change
    assert in_the_mean == pytest.approx(2 * (0.125 - 2 * 0.125 * 0.125))
    assert guaranteed == pytest.approx(0.25 - 4 * (0.5 * math.log(0.8) + 0.5 * math.log(4 / 3)))


@pytest.mark.parametrize("name", ["not_discounted", "all_states_alike"])
def test_the_lemma_notices_a_wrong_gain(name, monkeypatch):
    rng = np.random.default_rng(0)
    pairs = [random_pair(rng) for _ in range(20)]
    gaps = lambda: max(abs(np.subtract(*evidence.gains(*pair)[:2])) for pair in pairs)  # noqa: E731
    assert gaps() < 1e-9
    monkeypatch.setattr(lesson, "gain", edited(lesson, EDITS[name]).gain)
    assert gaps() > 1e-3


def test_what_charges_for_one_horizon_only_is_no_guarantee():
    """A rare step leads to a place where the new policy does badly, and stays: it is paid for ever after."""
    stay, go = [1.0, 0.0], [0.0, 1.0]
    trap = MDP(
        np.array([[stay, go], [go, go]]), np.array([[0.0, 0.0], [1.0, -1.0]]), np.zeros(2, dtype=bool), 0.99
    )
    old, new = np.array([[0.9999, 0.0001], [0.5, 0.5]]), np.array([[0.99, 0.01], [0.43, 0.57]])
    truth, _, _, guaranteed, in_the_mean = evidence.gains(trap, old, new, np.array([1.0, 0.0]))
    cheap = edited(lesson, EDITS["one_horizon"]).guaranteed_gain(trap, old, new, np.array([1.0, 0.0]))
    assert guaranteed < in_the_mean < truth < cheap


def test_natural_gradient_of_a_coin_by_hand():
    found = evidence.natural_gradient(coin(0.5), np.array([[0.9, 0.1]]), np.ones(1))
    np.testing.assert_allclose(found, [[0.2, -1.8]], atol=1e-9)


def test_the_plain_gradient_turns_with_its_units_and_the_natural_does_not():
    rng = np.random.default_rng(1)
    for _ in range(5):
        mdp, policy, _, start = random_pair(rng)
        natural, plain = evidence.units_change(mdp, policy, start, rng)
        assert natural < 1e-9
        assert plain > 0.01


def test_the_explicit_matrix_is_the_curvature_of_the_kl():
    """By second differences along single weights and pairs of them."""
    agent, batch = small_case(7)
    F = evidence.explicit_fisher(agent, batch)
    old, h = lesson.flat(list(agent.actor.parameters())).detach(), 1e-4

    def kl(*moved):
        weights = old.clone()
        for i in moved:
            weights[i] += h
        return float(lesson.try_weights(agent, batch, weights)[1])

    for i, j in ((0, 0), (3, 3), (0, 5), (2, 11), (30, 33)):
        mixed = (kl(i, j) - kl(i) - kl(j)) / h**2  # the KL at the old weights is 0
        assert mixed == pytest.approx(float(F[i, j]), rel=1e-2, abs=1e-4)


def test_parity_with_the_library_notices_another_step():
    pytest.importorskip("sb3_contrib")
    cfg = lesson.Config(num_envs=8, num_steps=16, num_cg_steps=50)
    agent, batch = evidence.one_batch(cfg)
    theirs = evidence.sb3_train(agent, batch, cfg)["step"]
    cosine = lambda step: float(torch.cosine_similarity(step, theirs, dim=0))  # noqa: E731
    assert cosine(lesson.trust_region_step(agent, batch, cfg)) > 0.999
    for name in ("plain_gradient", "undamped", "first_action"):
        assert cosine(edited(lesson, EDITS[name]).trust_region_step(agent, batch, cfg)) < 0.999, name


def test_one_knob_turns_both_states_alike():
    np.testing.assert_allclose(evidence.one_knob(0.25), [[0.75, 0.25], [0.75, 0.25]])


def test_what_an_update_hides_is_measured_on_its_own_states_and_on_the_next(tmp_path):
    """The worst state is at least the mean; new states are judged by the policy that gathered them."""
    log = RunLog(tmp_path, "C5")
    evidence.watched(lesson.Config(num_env_steps=3072, num_eval_episodes=2), log)
    log.close()
    means, worst, fresh = (log.series(name)[1] for name in ("watched_kl", "worst_kl", "fresh_kl"))
    assert (len(means), len(worst), len(fresh)) == (3, 3, 2)
    assert all(w >= m > 0 for w, m in zip(worst, means))
    assert all(0 < f < w for f, w in zip(fresh, worst))


def test_a_run_that_never_gets_there_counts_as_its_last_check(tmp_path, monkeypatch):
    """Of three seeds: TRPO at 3, 4 and never (5); PPO at 4, never, never (5); the plain gradient never."""
    monkeypatch.setattr(evidence, "draw", lambda *_: None)
    monkeypatch.setattr(evidence, "draw_race", lambda *_: None)
    curves = {
        "ours": ([475, 475, 475, 500, 0], [0, 475, 500, 500, 500], [0, 0, 0, 500, 500]),
        "ppo": ([0, 475, 475, 475, 475], [0] * 5, [500, 0, 500, 0, 0]),
        "plain_gradient": ([0] * 5, [0] * 5, [0] * 5),
    }
    runs = [{"metrics": {}} for _ in range(3)]
    for name, seeds in curves.items():
        for run, scores in zip(runs, seeds):
            run["metrics"][f"{name}_return"] = [(10 * i, score) for i, score in enumerate(scores, start=1)]
            run["metrics"][f"{name}_cpu_seconds"] = [(10 * i, i**2) for i in range(1, 6)]
    log = RunLog(tmp_path, "C5")
    evidence.summarise(runs, log)
    log.close()
    found = {claim.name: claim.value for claim in log.claims}
    # steps of TRPO: 30, 40, 50; of PPO: 40, 50, 50
    assert found == {"steps_beside_ppo": 40 / 50, "seconds_beside_ppo": 16 / 25, "plain_steps": 50 / 40}
