"""E6: SAC is C6's, the program around it, how far branches stray, and the evidence's own measures."""

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from spies import watch_seeds

from chapters.C_policy_gradients import C6_sac_td3 as c6
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.E_practice import E6_mbpo as lesson
from chapters.E_practice.checks.E6 import EDITS
from chapters.E_practice.evidence import E6 as evidence
from chapters.envs import make_envs, probes
from chapters.envs.ensembles import Ensemble
from chapters.envs.pendulum import BatchedPendulum
from chapters.envs.soft_actor import SoftActor
from chapters.exact import lqr, pendulum, straying
from chapters.exact.mdp import evaluate_exactly, random_mdp
from chapters.utils import RunLog
from chapters.utils.edits import edited

SMALL = lesson.Config(
    num_envs=4, num_env_steps=40, num_warmup_steps=16, num_fits=2, fit_every=8, num_branches=12,
    branch_length=2, num_updates=2, hidden_size=8, minibatch_size=16,
)  # fmt: skip


def broken(*names):
    return edited(lesson, *(EDITS[name] for name in names))


def weights(*networks) -> torch.Tensor:
    return torch.cat([part.detach().flatten() for network in networks for part in network.parameters()])


# SAC is C6's


def test_the_agent_learns_to_the_bit_as_c6s_does():
    envs = make_envs("Pendulum-v1", 4)
    cfg = c6.Config(hidden_size=8)
    torch.manual_seed(3)
    theirs = c6.Agent(envs, c6.RECIPES["sac"], cfg)
    torch.manual_seed(3)
    ours = SoftActor(envs, cfg)
    batch = {
        "obs": torch.randn(16, 3), "actions": torch.rand(16, 1), "rewards": torch.randn(16),
        "next_obs": torch.randn(16, 3), "terminated": torch.rand(16) < 0.3,
    }  # fmt: skip
    theirs.buffer.add(**{name: values[:1].numpy() for name, values in batch.items()})
    theirs.buffer.sample = lambda size, rng: batch
    for _ in range(3):
        torch.manual_seed(4)
        c6.update(theirs, cfg)
        torch.manual_seed(4)
        ours.update(batch, cfg.gamma, cfg.target_rate)
    for name in ("actor", "critics", "slow_critics"):
        assert torch.equal(weights(getattr(theirs, name)), weights(getattr(ours, name))), name
    assert theirs.log_alpha.item() == ours.log_alpha.item() != 0.0
    assert theirs.target_entropy == ours.target_entropy == pytest.approx(math.log(2) - 1)
    obs = np.random.default_rng(0).normal(size=(5, 3))
    assert (theirs.greedy(obs) == ours.greedy(obs)).all()


# The program


def learner_of(module=lesson, cfg=SMALL, envs=None):
    torch.manual_seed(1)
    return module.Learner(envs or BatchedPendulum(4), cfg)


def filled(module=lesson, cfg=SMALL, num_rounds=10, limit=200):
    """A learner, and what it has met in so many rounds."""
    envs = BatchedPendulum(4, max_episode_steps=limit)
    learner = learner_of(module, cfg, envs)
    obs, _ = envs.reset(seed=1)
    for _ in range(num_rounds):
        obs = module.collect(learner, envs, obs, cfg)
    return learner


@pytest.mark.parametrize("name", [None, "after_the_reset"])
def test_what_is_stored_is_what_the_world_did_also_at_a_time_limit(name):
    learner = filled(broken(name) if name else lesson, num_rounds=10, limit=3)
    stored = {key: values[:40].astype(float) for key, values in learner.real.arrays.items()}
    *there, rewards = pendulum.step(*straying.states_of(stored["obs"]).T, stored["actions"][:, 0])
    expected = np.stack([np.cos(there[0]), np.sin(there[0]), there[1] / 8], axis=1)
    np.testing.assert_allclose(stored["rewards"], rewards, atol=1e-4)
    assert (np.abs(stored["next_obs"] - expected).max() < 1e-5) == (name is None)


def test_members_count_transitions_by_themselves():
    counts = filled(cfg=replace(SMALL, num_env_steps=400), num_rounds=100).real.arrays["counts"][:400]
    assert counts.shape == (400, 5)
    assert abs(counts.mean() - 1) < 5 / 2000**0.5
    assert abs(counts.var() - 1) < 0.2
    assert abs(np.corrcoef(counts.T)[np.triu_indices(5, 1)]).max() < 0.25
    assert (filled(broken("same_counts")).real.arrays["counts"][:40] == 1).all()


def constant_model(learner, reward=-7.0):
    """All members foresee that nothing changes, and this reward."""
    with torch.no_grad():
        for part in learner.model.networks.layers:
            part.zero_()
    learner.model.mean = torch.tensor([0.0, 0.0, 0.0, reward])


@pytest.mark.parametrize("name", [None, "real_only", "from_the_start", "own_predictions"])
def test_an_update_learns_from_branches_off_all_that_was_met(name):
    module = broken(name) if name else lesson
    learner = filled(module)
    constant_model(learner)
    before = learner.real.num_added
    met = {tuple(row) for row in learner.real.arrays["obs"][:40].tolist()}
    batches = []
    learner.agent.update = lambda batch, gamma, rate: batches.append((batch, gamma, rate))
    cfg = replace(SMALL, num_branches=200, num_updates=3)
    learner.imagined = lesson.ReplayBuffer(1000)
    module.update(learner, cfg)
    assert len(batches) == 3
    assert all(settings == [cfg.gamma, cfg.target_rate] for _, *settings in batches)
    imagined = all((batch["rewards"] == -7.0).all() for batch, _, _ in batches)
    begun = {tuple(row) for row in learner.imagined.arrays["obs"][:200].tolist()}
    assert len(learner.imagined) == 400
    assert imagined == (name != "real_only")
    assert (len(begun & met) > 35) == (name != "from_the_start")
    assert (learner.real.num_added == before) == (name != "own_predictions")


def test_a_member_is_drawn_for_each_row_and_all_take_part():
    for module, expected in ((lesson, 5), (broken("first_member_alone"), 1)):
        learner = learner_of(module)
        obs, actions = torch.zeros(300, 3), torch.zeros(300, 1)
        with torch.no_grad():
            said, rewards = learner.model.imagine(obs, actions)
            everything, all_rewards = learner.model.predict(obs, actions)
        which = (rewards[:, None] == all_rewards.T).float().argmax(dim=1)  # [300]
        assert len(set(which.tolist())) == expected
        assert torch.equal(said, everything[which, torch.arange(300)]), "state and reward by one member"


@pytest.mark.parametrize("name", [None, "no_units", "mean_forgotten"])
def test_a_fitted_model_foresees_in_the_worlds_units(name):
    module = broken(name) if name else lesson
    learner = filled(module)
    cfg = replace(SMALL, num_fits=10, minibatch_size=40)
    learner.model.optimizer.lr = 1e-2
    module.fit_model(learner, replace(cfg, num_warmup_steps=40))
    batch = {key: torch.from_numpy(values[:40]) for key, values in learner.real.arrays.items()}
    with torch.no_grad():
        _, rewards = learner.model.predict(batch["obs"], batch["actions"])
    miss = (rewards.mean(dim=0) - batch["rewards"]).abs().mean() / batch["rewards"].std()
    assert (miss < 0.5) == (name is None)


def test_members_that_begin_and_count_alike_never_disagree():
    for names, agree in (((), False), (("same_beginnings", "same_counts"), True)):
        module = broken(*names) if names else lesson
        learner = filled(module)
        module.fit_model(learner, replace(SMALL, num_warmup_steps=40))
        obs = torch.randn(20, 3)
        with torch.no_grad():
            apart = lesson.disagreement(learner.model.predict(obs, torch.zeros(20, 1))[0])
        assert bool((apart < 1e-6).all()) == agree


def test_the_model_is_fitted_after_the_warm_up_and_then_now_and_again(monkeypatch, log):
    calls = []
    monkeypatch.setattr(lesson.Model, "fit", lambda self, real, num, size: calls.append((len(real), num)))
    units = []
    monkeypatch.setattr(lesson.Model, "measure_units", lambda self, batch: units.append(len(batch["obs"])))
    monkeypatch.setattr(lesson, "update", lambda *_: None)
    lesson.train(SMALL, log, BatchedPendulum(4))
    assert calls == [(16, 12), (24, 2), (32, 2), (40, 2)]
    assert units == [16], "units are measured once"


@pytest.fixture
def log(tmp_path):
    log = RunLog(tmp_path / "run", "E6", smoke=True)
    yield log
    log.close()


def test_real_steps_are_counted_and_evaluations_are_apart(tmp_path, monkeypatch):
    resets, evaluated = watch_seeds(monkeypatch, lesson)
    log = RunLog(tmp_path, "E6", smoke=True)
    cfg = replace(SMALL, seed=3, eval_every=8)
    learner = lesson.train(cfg, log)
    log.close()
    assert (resets, learner.real.num_added) == ([3], 40), "the warm-up's steps are real ones"
    assert [seed for seed, _ in evaluated] == [10_003] * 5, "C6's starts"
    assert log.series("mbpo_return")[0] == [8, 16, 24, 32, 40]


class WithNumbers(gym.Wrapper):
    """A probe with a single action, which is any number between -1 and 1."""

    def __init__(self, env):
        super().__init__(env)
        self.action_space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)

    def step(self, action):
        return self.env.step(0)


def value_of(module, probe, ends, log):
    """What the critics believe of a probe's first state after a brief training at a discount of a half."""
    make = [lambda: WithNumbers(gym.wrappers.TimeLimit(getattr(probes, probe)(), 10))] * 4
    envs = gym.vector.SyncVectorEnv(make, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    cfg = replace(
        SMALL, num_env_steps=48, num_updates=20, num_fits=8, fit_every=40, branch_length=1, gamma=0.5,
        target_rate=0.5, learning_rate=2e-2,
    )  # fmt: skip
    learner = module.train(cfg, log, envs, ends)
    with torch.no_grad():
        q = learner.agent.q(learner.agent.critics, torch.zeros(1, 1), torch.zeros(1, 1)).mean()
    return float(q)


def always(obs):
    return torch.ones(len(obs), dtype=torch.bool)


def test_an_end_ends_the_future_and_the_end_of_a_branch_does_not(log):
    """A world without end that pays 1 is worth 2 at a discount of a half; one that ends at once, 1.

    What entropy pays comes on top, in the future alone.
    """
    endless = value_of(lesson, "Endless", lesson.never, log)
    ended = value_of(lesson, "ConstantReward", always, log)
    merged = value_of(broken("ends_at_its_length"), "Endless", lesson.never, log)
    assert endless > 1.6
    assert ended == pytest.approx(1.0, abs=0.2)
    assert merged == pytest.approx(1.0, abs=0.2)


# How far branches stray


def test_the_stretch_is_the_worlds():
    rng = np.random.default_rng(0)
    states = np.stack([rng.uniform(-9, 9, 2000), rng.uniform(-8, 8, 2000)], axis=1)
    for size in (1e-4, 0.3):
        others = states + size * rng.normal(size=states.shape)
        torque = rng.uniform(-2, 2, 2000)
        after, after_others = (np.stack(pendulum.step(*x.T, torque)[:2], axis=1) for x in (states, others))
        pulled = straying.distance(after, after_others) / straying.distance(states, others)
        assert pulled.max() <= straying.STRETCH + 1e-6
    assert pytest.approx(1.2133, abs=1e-4) == straying.STRETCH
    top, near = np.array([[0.0, 0.0]]), np.array([[1e-5, 1e-5 * straying.SPEED_UNIT]])
    there = [np.stack(pendulum.step(*x.T, 0.0)[:2], axis=1) for x in (top, near)]
    ratio = straying.distance(*there) / straying.distance(top, near)
    assert ratio[0] == pytest.approx(straying.STRETCH, abs=0.01), "the upright pendulum meets it, nearly"


def test_distances_go_the_short_way_round():
    some = np.array([[3.1, 0.0], [0.0, straying.SPEED_UNIT]])
    others = np.array([[-3.1, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(straying.distance(some, others), [2 * math.pi - 6.2, 1.0])


def world(shift=0.0, more=0.0):
    """predict(obs, actions) of two members that know the world, but for the angle and the reward."""

    def predict(obs, actions):
        angle, speed = straying.states_of(obs.double().numpy()).T
        angle, speed, reward = pendulum.step(angle, speed, actions.double().numpy()[:, 0])
        said = np.stack([np.cos(angle + shift), np.sin(angle + shift), speed / 8], axis=1)
        return torch.from_numpy(np.stack([said] * 2)), torch.from_numpy(np.stack([reward + more] * 2))

    return predict


def starts_of(angles):
    angles = np.array(angles)
    return torch.from_numpy(np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1))


def test_branches_are_followed():
    def act(obs):
        return torch.full((len(obs), 1), 0.5)

    right = straying.follow(world(), lesson.disagreement, act, starts_of([0.3, 2.0]), 5)
    assert all(np.abs(column).max() < 1e-9 for column in right)
    off = straying.follow(world(0.01), lesson.disagreement, act, starts_of([0.3, 2.0]), 5)
    np.testing.assert_allclose(off.missed, 0.01, atol=1e-9)
    np.testing.assert_allclose(off.strayed[0], 0.01, atol=1e-9)
    bounds = [lesson.stray_bound(0.01, k, straying.STRETCH) for k in range(1, 6)]
    assert (off.strayed.max(axis=1) <= np.array(bounds) + 1e-9).all()
    assert off.strayed[4, 0] > 0.05, "misses add up, and near the top they are pulled apart"
    assert np.abs(off.apart).max() < 1e-9


def test_each_step_of_a_branch_begins_where_it_is_and_believes_a_member_drawn_anew():
    """Two members turn the pendulum 0.1 too far, this way and that."""
    torch.manual_seed(0)
    seen = []

    def predict(obs, actions):
        told = [world(shift)(obs, actions) for shift in (0.1, -0.1)]
        return tuple(torch.stack([one[part][0] for one in told]) for part in (0, 1))

    def act(obs):
        seen.append(straying.states_of(obs.double().numpy())[:, 0])
        return obs[:, 1:2]  # another push wherever it is

    starts = starts_of(np.full(400, 0.3))
    found = straying.follow(predict, lesson.disagreement, act, starts, 3)
    np.testing.assert_allclose(found.missed, 0.1)
    apart = math.dist((math.cos(0.1), math.sin(0.1)), (1.0, 0.0))
    assert (np.abs(found.apart / apart - 1.0) < 0.01).all()
    np.testing.assert_allclose(seen[0], 0.3)
    first = np.sign(seen[1] - seen[1].mean())
    assert abs(first.mean()) < 0.2, "each of both for about half of the branches"
    second = np.sign(seen[2] - np.where(first > 0, seen[2][first > 0].mean(), seen[2][first < 0].mean()))
    assert abs((first * second).mean()) < 0.2
    np.testing.assert_allclose(found.strayed[0], 0.1)
    assert (found.strayed[1][first * second > 0] > 0.19).all()
    assert (found.strayed[1][first * second < 0] < 0.02).all()


def test_episodes_in_the_model_and_in_the_world():
    """Two members err by 1 in their rewards, this way and that; a policy brakes by the speed that it sees."""
    states = np.array([[math.pi, 0.0], [0.5, 1.0], [2.0, -3.0]])

    def brake(obs):
        return -0.5 * obs[:, 2:]

    def predict(obs, actions):
        said, rewards = world(more=1.0)(obs, actions)
        return said, rewards + torch.tensor([[1.0], [-1.0]])

    dreamed, lived = straying.returns(predict, brake, states, 3)
    np.testing.assert_allclose(dreamed, lived + 3.0, atol=1e-4)
    assert lived[0] == pytest.approx(-3 * math.pi**2)


# What the evidence measures


def test_a_branch_ends_in_exact_values_and_a_long_one_is_the_models():
    rng = np.random.default_rng(0)
    one, other = (random_mdp(rng, 4, 2, 0.9) for _ in range(2))
    policy = rng.dirichlet(np.ones(2), size=4)
    found = evidence.branch_values(one, other.P, policy, (0, 1, 400))
    values = evaluate_exactly(one, policy)
    np.testing.assert_allclose(found[0], values)
    np.testing.assert_allclose(found[400], evaluate_exactly(one._replace(P=other.P), policy), atol=1e-10)
    chain = np.einsum("sa,sat->st", policy, other.P)
    np.testing.assert_allclose(found[1], (policy * one.R).sum(axis=1) + 0.9 * chain @ values)


def test_bounds_that_are_too_low_are_noticed(monkeypatch):
    assert (evidence.broken_share(0.01) <= 1 + 1e-9).all()
    assert evidence.broken_share(0.01)[0] == pytest.approx(1.0)
    for name in ("reward_at_stake", "a_step_too_many", "at_once", "for_ever"):
        with monkeypatch.context() as patched:
            patched.setattr(lesson, "value_bound", broken(name).value_bound)
            assert evidence.broken_share(0.01)[0] != pytest.approx(1.0, abs=1e-3)


def test_a_counted_model_misses_and_its_miss_is_held_against_its_own_error():
    """The same world, counts and policy are drawn anew and judged by hand, at the shortest branch."""
    for number in (0, 3):
        found = evidence.counted_share(number, np.random.default_rng(number))
        assert found.shape == (len(evidence.LENGTHS),)
        assert 0.01 < found.max() <= 1.0
        rng = np.random.default_rng(number)
        world = random_mdp(rng, 8, 3, 0.9, spread=0.3)
        R = rng.random((8, 3))
        counts = rng.multinomial((4, 20, 36, 52)[number], world.P)
        policy = rng.dirichlet(np.ones(3), size=8)
        model = counts / counts.sum(axis=2, keepdims=True)
        V = evaluate_exactly(world._replace(R=R), policy)
        missed = np.abs(0.9 * (policy * ((model - world.P) @ V)).sum(axis=1)).max()
        error = 0.5 * np.abs(model - world.P).sum(axis=2).max()
        assert found[0] == pytest.approx(missed / lesson.value_bound(error, 1, 1.0, 0.9))


def test_flattery_is_the_means_over_starts_as_the_world_begins(monkeypatch):
    """What is dreamed comes first; starts are any angle, at a speed of at most 1."""
    learner = learner_of()

    def returns(predict, greedy, starts):
        assert predict == learner.model.predict
        assert greedy == learner.agent.greedy
        assert starts.shape == (200, 2)
        assert 3.0 < np.abs(starts[:, 0]).max() < math.pi
        assert 0.9 < np.abs(starts[:, 1]).max() < 1.0
        assert (starts.min(axis=0) < -0.9).all()
        return np.array([1.0, 3.0]), np.array([-10.0, -20.0])

    monkeypatch.setattr(straying, "returns", returns)
    assert evidence.flattery(learner, SMALL) == (2.0, -15.0)


def test_misses_are_compared_where_members_disagree_most_and_least(tmp_path, monkeypatch):
    """Only the steps of a branch as long as the lesson's count; the rest is drawn."""
    apart = np.arange(20.0).reshape(2, 10)
    missed = 1.0 + apart
    far = np.full((3, 10), 1e6)  # later steps
    strays = straying.Strays(np.vstack([missed, far]), np.vstack([missed, far]), np.vstack([apart, far]))
    monkeypatch.setattr(lesson, "score", lambda policy, cfg, seed: -140.0)
    log = RunLog(tmp_path, "E6")
    log.keep(learner=learner_of(), strays=strays, bounds=np.arange(5.0))
    evidence.claim_policy(SMALL, log)
    log.close()
    claim = next(claim for claim in log.claims if claim.name == "disagreement_tells")
    assert claim.value == pytest.approx(np.mean([19, 20]) / np.mean([1, 2]))
    assert log.series("stray_bound") == ([1, 2, 3, 4, 5], [0.0, 1.0, 2.0, 3.0, 4.0])
    assert log.series("strayed")[1][:2] == [5.5, 15.5]


def test_slopes_and_gradients_are_those_of_the_system():
    """The ensemble's place is taken by the system itself."""

    def exact(obs, actions):
        next_obs, rewards = evidence.exact_step(obs, actions)
        return torch.stack([next_obs] * 2), torch.stack([rewards] * 2)

    obs = torch.randn(6, 2, dtype=torch.float64)
    found = evidence.slopes(exact, obs, torch.randn(6, 1, dtype=torch.float64))
    A, B, Q, R, gamma = evidence.SYSTEM
    np.testing.assert_allclose(found, np.concatenate([A, B], axis=1))
    K = 0.5 * lqr.best_gain(evidence.SYSTEM, lqr.riccati(evidence.SYSTEM))

    def earned(K, length=3):
        x, total = obs.numpy(), 0.0
        for i in range(length):
            u = -x @ K.T
            total -= gamma**i * ((x @ Q * x).sum(axis=1) + (u @ R * u).sum(axis=1)).mean()
            x = x @ A.T + u @ B.T
        return total

    expected = [(earned(K + step) - earned(K - step)) / 2e-5 for step in 1e-5 * np.eye(2)[:, None]]
    np.testing.assert_allclose(evidence.branch_gradient(evidence.exact_step, K, obs, 3), expected, rtol=1e-5)


def test_a_plan_costs_least_where_the_slopes_are_right():
    right = np.concatenate([evidence.SYSTEM.A, evidence.SYSTEM.B], axis=1)
    assert evidence.planned_cost(right) == pytest.approx(1.0, abs=1e-9)
    assert 1.0 < evidence.planned_cost(right + np.array([[0.0, 0.2, 0.0], [0.0, 0.0, 0.3]])) < math.inf
    assert evidence.planned_cost(right * [1.0, 1.0, -1.0]) == math.inf, "it pushes the wrong way"


def test_steps_to_the_goal_are_those_of_the_third_check_in_a_row():
    checks = [(40, -150.0), (80, -300.0), (120, -200.0), (160, -170.0), (200, -180.0), (240, -900.0)]
    assert evidence.steps_to_goal({"x_return": checks}, "x") == 200
    assert evidence.steps_to_goal({"x_return": checks[:4]}, "x") == math.inf


def test_the_linear_systems_transitions_are_its_own():
    cfg = replace(SMALL, minibatch_size=32)
    model, obs = evidence.linear_model(evidence.Config(num_linear_steps=160, num_linear_fits=4), cfg)
    assert obs.shape == (160, 2)
    assert isinstance(model.networks, Ensemble)
    assert model.optimizer.lr == pytest.approx(0.03 * cfg.learning_rate), "it came to rest"


def test_real_steps_are_compared_by_the_same_checks_and_against_us(tmp_path, monkeypatch):
    """C6's SAC that never holds the goal counts as if it had at its last step."""
    asked = []
    for returns, expected in (([-150.0] * 3, 60 / 180), ([-900.0] * 5, 60 / 400)):

        def train(cfg, log, name, returns=returns):
            asked.append((cfg.seed, cfg.num_env_steps, cfg.eval_every, name))
            for i, value in enumerate(returns, start=1):
                log.write(60 * i, sac_return=value)

        monkeypatch.setattr(evidence.c6, "train", train)
        log = RunLog(tmp_path / str(len(returns)), "E6")
        for i in range(1, 4):
            log.write(20 * i, mbpo_return=-150.0)
        evidence.sac(evidence.Config(num_sac_steps=400), lesson.Config(seed=3), log)
        log.close()
        assert [claim.value for claim in log.claims] == [pytest.approx(expected)]
    assert asked == [(3, 400, 60, "sac")] * 2


def test_regret_is_what_the_optimum_earns_more(monkeypatch):
    seeds = []

    def score(policy, cfg, seed):
        seeds.append(seed)
        return -140.0 if policy is pendulum.optimal_policy else -170.0

    monkeypatch.setattr(lesson, "score", score)
    assert evidence.regret(lesson.Config(), lambda obs: obs) == 30.0
    assert len(set(seeds)) == 1, "from the same starts"


def test_imagined_rounds_are_kept_and_then_make_room():
    learner = filled()
    assert learner.imagined.capacity == lesson.KEPT * 12 * 2
    learner.agent.update = lambda *_: None
    for _ in range(lesson.KEPT + 2):
        lesson.update(learner, SMALL)
    assert len(learner.imagined) == learner.imagined.capacity


# What the text says


def test_what_is_said_of_the_learners_is_what_was_recorded():
    """SAC with as many gradient steps comes between C6's and MBPO; a frozen model does not do."""
    runs = [run["metrics"] for run in ledger.load(find("E6"))["runs"]]
    of_real_only = [run["mbpo_steps"] / run["real_only_steps"] for run in runs]
    of_sac = [run["claims"]["real_steps"]["value"] for run in ledger.load(find("E6"))["runs"]]
    assert np.median(of_real_only) < 1.0, "imagination saves a part"
    assert np.median(of_sac) < 0.5 * np.median(of_real_only), "and practice the larger one"
    assert runs[0]["frozen_return"] < lesson.GOAL < runs[0]["mbpo_return"]


def test_what_the_exercise_says_of_both_bounds():
    assert round(lesson.value_bound(1.0, 1, 16.0, 0.98)) == 784
    assert round(straying.STRETCH, 2) == 1.21
    assert round(lesson.stray_bound(1.0, 10, 1.21)) == 27
    assert math.ceil(math.log(2) / math.log(straying.STRETCH)) == 4, "a miss doubles in four steps"
