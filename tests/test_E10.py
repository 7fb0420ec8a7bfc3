"""Lesson E10's logs, its learners where the answer is known, and what its evidence measures."""

import types
from functools import partial

import numpy as np
import pytest
import torch

import chapters.E_practice.E10_offline_rl as lesson
from chapters.course import ledger
from chapters.course.catalog import find
from chapters.E_practice.checks.E10 import EDITS
from chapters.E_practice.checks.E10_exercises import fitted_table
from chapters.E_practice.evidence import E10 as evidence
from chapters.envs import bench
from chapters.envs.cartpole import BatchedCartPole, linear_returns
from chapters.envs.replay import ReplayBuffer
from chapters.exact.logs import counted
from chapters.exact.mdp import MDP, evaluate_exactly, grid_mdp, q_from_v
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited


def broken(name: str) -> types.ModuleType:
    return edited(lesson, EDITS[name])


# The logs


def check_record(record):
    """Each step follows from the one before; a limit is no end, a fall is; mistakes are as told."""
    wrong = np.array([0.0, 0.0, 1.0, 0.3, 0.3])
    log = record(wrong, 2000, seed=0, envs=BatchedCartPole(5, max_episode_steps=7)).arrays
    obs, next_obs = log["obs"].reshape(400, 5, 4), log["next_obs"].reshape(400, 5, 4)
    actions, terminated = log["actions"].reshape(400, 5), log["terminated"].reshape(400, 5)
    world = BatchedCartPole(2000)
    world.reset(seed=0)
    world.state = log["obs"].astype(float)
    _, _, fallen, _, infos = world.step(log["actions"])
    true = world.state.astype(np.float32)
    if fallen.any():
        true[fallen] = infos["final_obs"][fallen]
    np.testing.assert_allclose(log["next_obs"], true, atol=1e-5)
    assert (log["terminated"] == fallen).all(), "only a fall is an end"
    assert not terminated[:, :2].any(), "the limit of 7 steps ends no episode of who never falls"
    same = np.isclose(next_obs[:-1], obs[1:]).all(axis=2)
    assert 0.1 < 1 - same[:, 0].mean() < 0.2, "the limit of 7 steps begins a new episode"
    good = obs @ bench.CONTROLLER > 0
    assert (actions[:, :2] == good[:, :2]).all()
    assert (actions[:, 2] != good[:, 2]).all()
    assert abs((actions[:, 3:] != good[:, 3:]).mean() - 0.3) < 0.06
    assert np.abs(obs[0]).max() < 0.05, "the usual start"
    assert (log["rewards"] == 1.0).all()


def check_record_anywhere(record):
    log = record(np.full(10, 0.8), 4000, seed=1, anywhere=True).arrays
    ended = log["terminated"].reshape(400, 10)
    obs = log["obs"].reshape(400, 10, 4)
    starts = np.concatenate([obs[0], obs[1:][ended[:-1]]])
    assert (np.abs(starts) <= bench.ANYWHERE + 1e-6).all()
    assert (np.abs(starts).max(axis=0) > 0.9 * bench.ANYWHERE).all(), "all over the place, on each axis"
    assert len(starts) > 200
    assert len(np.unique(starts[:, 0])) == len(starts), "each attempt begins elsewhere"


def check_logs(record):
    check_record(record)
    check_record_anywhere(record)


def test_a_log_is_what_happened():
    check_logs(bench.record)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("terminated=terminated", "terminated=begins"),
        ("next_obs=true_next_obs(next_obs, begins, infos)", "next_obs=next_obs"),
        ("rng.random(len(wrong)) < wrong", "rng.random(len(wrong)) > wrong"),
        ("obs = next_obs\n    return", "obs = obs\n    return"),
        ("begins = terminated | truncated", "begins = terminated & truncated"),
        ("if anywhere and begins.any()", "if begins.any()"),
        ("size=(int(begins.sum()), 4)", "size=4"),
    ],
)
def test_a_log_that_is_not_is_noticed(old, new):
    wrong = edited(bench, Edit("record", old, new, "wrong"))
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        check_logs(wrong.record)


def test_the_controller_never_falls_and_so_the_good_log_has_no_end():
    starts = np.random.default_rng(0).uniform(-0.05, 0.05, size=(50, 4))
    assert (linear_returns(np.tile(bench.CONTROLLER, (50, 1)), starts) == 500).all()
    log = bench.record(bench.machines(bench.NUM_MACHINES), 5000, seed=3)
    assert not log.arrays["terminated"].any()
    assert bench.machines(2).tolist() == [0.05] * 2 + [0.8] * 8


# The learners


def probe_log(terminated: bool, size: int = 64) -> ReplayBuffer:
    """One observation, action 1 pays 2 and 0 pays 1; each step ends the episode, or none does."""
    log = ReplayBuffer(size)
    actions = np.arange(size) % 2
    obs = np.zeros((size, 1), dtype=np.float32)
    ends = np.full(size, terminated)
    rewards = (1.0 + actions).astype(np.float32)
    log.add(obs=obs, actions=actions, rewards=rewards, next_obs=obs, terminated=ends)
    return log


QUICK = {
    "num_updates": 100,
    "minibatch_size": 32,
    "hidden_size": 8,
    "learning_rate": 0.02,
    "target_rate": 0.3,
    "gamma": 0.5,
    "alpha": 0.0,
}


def values(module, method, log, **settings) -> list[float]:
    loss = module.METHODS[method] if isinstance(method, str) else method
    learner = module.train(loss, log, module.Config(**{**QUICK, **settings}))
    return [2 * number for number in learner.q(torch.zeros(1, 1)).squeeze(0).tolist()]  # of rewards of 1


def test_values_where_each_step_ends_and_where_none_does():
    """Without an end (a time limit is none) the best action is worth 2 / (1 - 0.5)."""
    assert values(lesson, "dqn", probe_log(True)) == pytest.approx([1.0, 2.0], abs=0.1)
    assert values(lesson, "dqn", probe_log(False)) == pytest.approx([3.0, 4.0], abs=0.15)
    mean = values(lesson, "iql", probe_log(False), tau=0.5)
    assert mean == pytest.approx([2.5, 3.5], abs=0.15), "the expectile at 0.5 is what the log earned"
    first = partial(lesson.fitted_loss, policy=lambda obs: torch.zeros(len(obs), dtype=torch.long))
    assert values(lesson, first, probe_log(False)) == pytest.approx([2.0, 3.0], abs=0.15)


@pytest.mark.parametrize(("name", "ends"), [("through_the_end", True), ("only_at_the_end", False)])
def test_ends_that_are_merged_are_noticed(name, ends):
    right = [1.0, 2.0] if ends else [3.0, 4.0]
    found = values(broken(name), "dqn", probe_log(ends))
    assert max(abs(a - b) for a, b in zip(found, right)) > 0.5


def test_pessimism_prefers_what_the_log_did():
    """One action was taken nine times in ten and pays no more: CQL prefers it, and DQN does not mind."""
    log = probe_log(True, 60)
    log.arrays["actions"][:] = np.arange(60) % 10 == 0
    log.arrays["rewards"][:] = 1.0
    careful, plain = (values(lesson, name, log, alpha=0.1) for name in ("cql", "dqn"))
    assert careful[0] - careful[1] > 0.1
    assert plain == pytest.approx([1.0, 1.0], abs=0.1)


def test_training_moves_only_what_it_should():
    log = probe_log(False)
    cfg = lesson.Config(**{**QUICK, "num_updates": 3})
    for method, moves in (("clone", {"policy"}), ("dqn", {"q"}), ("iql", {"q", "value", "policy"})):
        torch.manual_seed(0)
        learner = lesson.train(lesson.METHODS[method], log, cfg)
        start = lesson.train(lesson.METHODS[method], log, lesson.Config(**{**QUICK, "num_updates": 1}))
        for name in ("q", "value", "policy"):
            pair = zip(getattr(learner, name).parameters(), getattr(start, name).parameters())
            assert any(not torch.equal(a, b) for a, b in pair) == (name in moves), (method, name)


def test_observations_are_in_units_of_the_log():
    obs = np.random.default_rng(0).normal(2.0, [0.1, 5.0], size=(500, 2)).astype(np.float32)
    network, seen = lesson.Network(obs, 3, 4), []
    network[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert network(torch.from_numpy(obs)).shape == (500, 3)
    assert seen[0].mean(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=1e-4)
    assert seen[0].std(dim=0).tolist() == pytest.approx([1.0, 1.0], abs=1e-2)
    assert torch.isfinite(lesson.Network(np.ones((3, 1), dtype=np.float32), 2, 4)(torch.ones(2, 1))).all()


def test_on_a_log_without_an_end_one_solves_every_target():
    """Section 1: Q = 1 for both pushes has no error, for DQN and for the evaluation of any policy."""
    log = bench.record(bench.machines(10), 400, seed=0)
    learner = lesson.Learner(log.arrays["obs"], lesson.Config())
    for network in (learner.q, learner.target):
        torch.nn.init.zeros_(network[-1].weight)
        torch.nn.init.ones_(network[-1].bias)
    batch, cfg = log.sample(64, np.random.default_rng(0)), lesson.Config()
    assert lesson.dqn_loss(learner, batch, cfg).item() == pytest.approx(0.0, abs=1e-10)
    found = lesson.fitted_loss(learner, batch, cfg, evidence.the_opposite)
    assert found.item() == pytest.approx(0.0, abs=1e-10)


# What the evidence measures


def test_measured_values_are_discounted_returns():
    starts = np.random.default_rng(1).uniform(-bench.ANYWHERE, bench.ANYWHERE, size=(30, 4))
    steps = linear_returns(np.tile(-bench.CONTROLLER, (30, 1)), starts.astype(np.float32))
    found = evidence.discounted(evidence.the_opposite, starts, 0.95)
    np.testing.assert_allclose(found, 1 - 0.95**steps, atol=1e-6)


def test_sweeps_end_at_the_counted_world():
    rng = np.random.default_rng(2)
    mdp = grid_mdp(evidence.GRID, gamma=0.9, slip=0.2)
    policy, _ = evidence.two_policies(rng, *mdp.R.shape)
    data = evidence.draw_log(mdp, 3000, rng)
    world = counted(data, *mdp.R.shape, 0.9)
    exact = q_from_v(world, evaluate_exactly(world, policy))
    np.testing.assert_allclose(fitted_table(data, policy, 0.9, 300), exact, atol=1e-9)
    for s, a in ((0, 1), (4, 2)):
        here = (data["obs"] == s) & (data["actions"] == a)
        led = np.bincount(data["next_obs"][here], minlength=12) / here.sum()
        assert np.abs(led - mdp.P[s, a]).max() < 5 * 0.5 / here.sum() ** 0.5
    assert (data["terminated"] == mdp.terminal[data["next_obs"]]).all()


@pytest.mark.parametrize("name", ["no_subsidy", "charged_once"])
def test_another_price_is_not_where_cql_ends(name, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "lesson", broken(name))
    log = RunLog(tmp_path, "E10")
    evidence.claim_fixed_point(lesson.Config(), log, np.random.default_rng(0))
    log.close()
    assert [claim.holds for claim in log.claims] == [False]


@pytest.mark.parametrize("name", ["lower_side", "quantile"])
def test_another_square_has_another_expectile(name, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "lesson", broken(name))
    log = RunLog(tmp_path, "E10")
    evidence.claim_expectiles(log)
    log.close()
    assert not {claim.name: claim.holds for claim in log.claims}["expectile_gap"]


def an_idle_learner(value: float) -> lesson.Learner:
    """Its slow Q is the same for both pushes, everywhere."""
    learner = lesson.Learner(np.zeros((3, 4), dtype=np.float32), lesson.Config(hidden_size=4))
    torch.nn.init.zeros_(learner.target[-1].weight)
    torch.nn.init.constant_(learner.target[-1].bias, value)
    return learner


def test_forecasts_are_held_against_measured_values(tmp_path, monkeypatch):
    good, bench_log = (bench.record(bench.machines(num), 100, seed=0) for num in (10, 2))
    log = RunLog(tmp_path, "E10")
    log.keep(good=good, bench=bench_log, good_dqn=an_idle_learner(3.0))
    log.keep(bench_clone=an_idle_learner(0.0), bench_dqn=an_idle_learner(0.0))
    monkeypatch.setattr(evidence, "discounted", lambda policy, starts, gamma: np.array([0.2, 0.6]))
    told = {id(good): -1.0, id(bench_log): 0.45}
    monkeypatch.setattr(evidence, "forecast", lambda policy, data, starts, cfg: told[id(data)])
    evidence.claim_forecasts(lesson.Config(), log)
    log.close()
    found = {claim.name: claim.value for claim in log.claims}
    assert found == {
        "forecast_error": pytest.approx(0.05),
        "belief": pytest.approx(3.0),
        "blind_forecast": pytest.approx(1.4),
    }


def always(obs, push):
    return torch.full((len(obs),), push)


def test_a_forecast_is_the_value_of_what_the_policy_does():
    """Every step ends and pays by its push: the forecast is that of the push that the policy takes."""
    log = bench.record(bench.machines(5), 400, seed=0)
    log.arrays["terminated"][:] = True
    log.arrays["rewards"][:] = 10.0 * log.arrays["actions"]
    cfg = lesson.Config(num_updates=60, hidden_size=8, learning_rate=0.02, target_rate=0.3, gamma=0.9)
    starts = log.arrays["obs"][:20].astype(float)
    for push in (0, 1):
        found = evidence.forecast(partial(always, push=push), log, starts, cfg)
        assert found == pytest.approx(push, abs=0.1)


def test_shares_are_returns_of_logs_with_so_many_good_machines(tmp_path, monkeypatch):
    log, asked = RunLog(tmp_path, "E10"), []
    log.write(0, bench_clone=11.0, bench_cql=12.0, bench_dqn=15.0)

    def record(wrong, num_steps, seed, anywhere):
        assert anywhere
        asked.append(int((wrong == bench.WRONG_IF_GOOD).sum()))
        return asked[-1]

    monkeypatch.setattr(evidence, "record", record)
    monkeypatch.setattr(lesson, "train", lambda loss, data, cfg: (loss, data))
    monkeypatch.setattr(lesson, "policy_of", lambda method, learner: (method, *learner))

    def returns(policy, env_id, seed):
        return np.array([policy[2], policy[2] + (policy[0] == "cql")])

    monkeypatch.setattr(evidence, "evaluate", returns)
    evidence.claim_shares(lesson.Config(), log)
    log.close()
    assert asked == list(evidence.NUM_GOOD)
    assert {claim.name: claim.value for claim in log.claims} == {"dqn_over_clone": 4.0}
    assert log.series("share_clone") == ([2, *evidence.NUM_GOOD], [11.0, *evidence.NUM_GOOD])
    assert log.series("share_cql")[1] == [12.0, *(num + 0.5 for num in evidence.NUM_GOOD)]


def test_ahead_is_the_smallest_median_between_none_and_all(tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "draw", lambda runs, log: None)
    monkeypatch.setattr(evidence, "draw_all", lambda runs, log: None)
    clone = [(2, 100.0), (0, 10.0), (4, 100.0), (10, 500.0)]
    runs = [
        {"metrics": {"share_clone": clone, "share_cql": [(2, 100.0 + gain), (0, 0.0), (4, 190.0), (10, 0.0)]}}
        for gain in (10.0, 50.0, 300.0)
    ]
    log = RunLog(tmp_path, "E10")
    evidence.summarise(runs, log)
    log.close()
    assert [claim.value for claim in log.claims] == [50.0]


# What the text says


def test_what_is_said_of_the_learners_is_what_was_recorded():
    runs = [run["metrics"] for run in ledger.load(find("E10"))["runs"]]
    misled = [{name: run[f"bench_{name}"] for name in ("clone", "dqn", "cql", "iql")} for run in runs]
    assert all(run["good_clone"] > 475 for run in runs)
    assert all(min(run["good_cql"], run["good_iql"]) > 475 > run["good_dqn"] for run in runs), (
        '"the same network"'
    )
    assert all(run["clone"] < min(run["dqn"], run["cql"], run["iql"]) for run in misled), '"earn more"'
    most = [max(run, key=run.get) for run in misled]
    assert most.count("dqn") == len(runs) - 1, '"DQN earns most, on all seeds but one"'


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_each_minimised_backup_is_the_target_less_what_the_behaviour_rarely_does(alpha):
    """Set the loss's slope to zero by hand: Q = target - alpha (pi / pi_b - 1), entry for entry."""
    rng = np.random.default_rng(0)
    P, R = rng.dirichlet(np.ones(3), size=(3, 2)), rng.normal(size=(3, 2))
    policy, behaviour = rng.dirichlet(np.ones(2), size=(2, 3))
    mdp, Q = MDP(P, R, np.zeros(3, dtype=bool), gamma=0.8), np.zeros((3, 2))
    for num_backups in (1, 2, 3):
        Q = R + 0.8 * P @ (policy * Q).sum(axis=1) - alpha * (policy / behaviour - 1)
        found = evidence.minimised(mdp, policy, behaviour, alpha, num_backups)
        np.testing.assert_allclose(found, Q, atol=1e-7)
