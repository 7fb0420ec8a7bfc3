"""C8: chance with an address, the cost model on known cases; with Ray, and without it."""

import dataclasses
import os
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from chapters import cluster
from chapters.C_policy_gradients import C8_scaling_with_ray as lesson
from chapters.C_policy_gradients.checks.C8 import EDITS
from chapters.course import catalog, ledger, overview
from chapters.course.catalog import ROOT, find
from chapters.course.parts import evidence_of
from chapters.envs.cartpole import linear_returns
from chapters.utils.edits import edited
from chapters.utils.errors import UsageError
from chapters.utils.runlog import RunLog

C8 = find("C8")
SMALL = lesson.Config(num_iterations=3, num_members=10, num_eval_episodes=4)
JOB = lesson.Job(SMALL, 0.1, 5)


# ---------------------------------------------------------------------------------------------------------
# Chance with an address


def in_shares(module, num_workers: int) -> np.ndarray:
    """The weights of a learner whose members are played in shares, each apart from the others."""
    job = module.Job(module.Config(**dataclasses.asdict(SMALL)), 0.1, 5)
    shares = np.array_split(np.arange(SMALL.num_members), num_workers)

    def everyones_returns(theta, iteration):
        return np.concatenate([module.returns_of(job, theta, iteration, share) for share in shares])

    return module.learn(job, everyones_returns)


@pytest.mark.parametrize("num_workers", [1, 2, 3, 7, 10])
def test_a_learner_in_shares_ends_in_the_same_last_digit(num_workers):
    assert (in_shares(lesson, num_workers) == lesson.learn(JOB)).all()


def test_noise_from_one_stream_depends_on_who_else_is_there():
    wrong = edited(lesson, EDITS["one_stream"])
    assert (in_shares(wrong, 1) != in_shares(wrong, 2)).any()


def test_returns_that_meet_other_noise_are_another_learner():
    """What `order_of_answers` does, without Ray: the shares of two workers are exchanged."""
    shares = np.array_split(np.arange(SMALL.num_members), 2)

    def exchanged(theta, iteration):
        return np.concatenate([lesson.returns_of(JOB, theta, iteration, share) for share in shares[::-1]])

    assert (lesson.learn(JOB, exchanged) != lesson.learn(JOB)).any()


def test_a_row_of_returns_depends_on_no_other_row():
    rng = np.random.default_rng(0)
    policies, starts = rng.normal(size=(33, 4)), rng.uniform(-0.05, 0.05, (33, 4))
    together = linear_returns(policies, starts)
    for size in (1, 2, 5, 16):
        assert (linear_returns(policies[:size], starts[:size]) == together[:size]).all()
    assert together.min() >= 1
    balanced = linear_returns(np.array([[0.0, 0.0, 1.0, 1.0]]), starts[:1])
    assert balanced[0] > 100, "leaning and falling to the right: push to the right"
    assert linear_returns(-np.array([[0.0, 0.0, 1.0, 1.0]]), starts[:1])[0] < 20


def test_it_climbs_a_hill_whose_top_is_known():
    """A world without episodes: the return is minus the squared distance from a point."""
    top, theta = np.array([1.0, -2.0, 0.5, 3.0]), np.zeros(4)
    members = np.arange(64)
    for iteration in range(200):
        noise = lesson.noises(0, iteration, members)
        returns = -((theta + 0.1 * noise - top) ** 2).sum(axis=1)
        theta = lesson.improved(theta, noise, returns, 0.1, 0.02)
    assert np.abs(theta - top).max() < 0.1
    wrong = edited(lesson, EDITS["downhill"])
    lost = wrong.improved(np.zeros(4), noise, -((0.1 * noise - top) ** 2).sum(axis=1), 0.1, 0.02)
    assert ((lost - top) ** 2).sum() > (top**2).sum()


def test_a_run_depends_on_its_job_alone():
    first, second = lesson.run(JOB), lesson.run(JOB, "elsewhere")
    assert first[:2] == second[:2]
    assert (first.node, second.node) == ("here", "elsewhere")
    assert lesson.run(JOB._replace(seed=6)).theta != first.theta
    assert lesson.run(JOB._replace(sigma=0.3)).theta != first.theta
    assert first.ended >= first.begun


@pytest.mark.parametrize("num_members", [4, 5])
def test_small_and_odd_populations_run(num_members):
    job = JOB._replace(cfg=dataclasses.replace(SMALL, num_members=num_members, num_iterations=1))
    assert np.isfinite(lesson.learn(job)).all()


# ---------------------------------------------------------------------------------------------------------
# The cost model


@pytest.mark.parametrize("dispatch", [0.0, 0.05, 1.0])
def test_a_sweep_takes_no_less_and_no_more_than_the_bounds(dispatch):
    rng = np.random.default_rng(1)
    for _ in range(100):
        durations = rng.exponential(size=rng.integers(1, 30))
        num_workers = int(rng.integers(1, 10))
        least, most = lesson.bounds(durations, num_workers, dispatch)
        assert least - 1e-9 <= lesson.makespan(durations, num_workers, dispatch) <= most + 1e-9


def test_both_bounds_are_met_by_some_sweep():
    ones = np.ones(12)
    assert lesson.makespan(ones, 4, 0.0) == lesson.bounds(ones, 4, 0.0)[0] == 3.0
    worst = np.array([1.0] * 6 + [3.0])  # three workers are busy for two seconds, then one has three more
    assert lesson.makespan(worst, 3, 0.0) == lesson.bounds(worst, 3, 0.0)[1] == 5.0


def test_more_workers_than_tasks_change_nothing():
    durations = np.array([2.0, 1.0, 3.0])
    assert lesson.makespan(durations, 3, 0.0) == lesson.makespan(durations, 1000, 0.0) == 3.0


def test_more_workers_than_the_best_make_a_step_longer():
    best = lesson.best_workers(members=9.0, call=0.01)
    assert best == pytest.approx(30.0)
    times = [lesson.step_seconds(w, 1.0, 9.0, 0.01) for w in (15, 30, 60, 1000)]
    assert times[1] == min(times)
    assert times[3] > times[2]
    assert lesson.step_seconds(1, 1.0, 9.0, 0.0) == 10.0


# ---------------------------------------------------------------------------------------------------------
# The evidence's own measuring


def done(begun, ended, cpu):
    return lesson.Done((0.0,), 0.0, "n", begun, ended, cpu)


def test_what_a_sweep_takes_with_and_without_other_programs():
    """Two workers, two tasks of one CPU second each; another program stood in the way of the first worker."""
    evidence = evidence_of(C8)
    first = [done(0, 3, 1)._replace(node="a"), done(3.5, 4.5, 1)._replace(node="a")]
    second = [done(0.5, 1.5, 1)._replace(node="b"), done(2.0, 3.0, 1)._replace(node="b")]
    assert evidence.wall_seconds(first + second) == 4.5
    assert evidence.own_seconds(first + second) == 2.5, "two tasks and the gap between them"
    assert evidence.own_seconds([one._replace(node="a") for one in first[1:]]) == 1.0


def test_a_plain_process_does_the_job_that_it_is_told(monkeypatch):
    """What it does is the lesson's own `run`; told in plain numbers, it must not mix them up."""
    from chapters.C_policy_gradients.evidence import C8_plain

    asked = []
    monkeypatch.setattr(C8_plain.lesson, "run", lambda job, node: asked.append((job, node)) or done(0, 1, 1))
    job = lesson.Job(dataclasses.replace(lesson.Config(), num_members=6), 0.25, 7)
    assert C8_plain.run(dataclasses.asdict(job.cfg), job.sigma, job.seed) == tuple(done(0, 1, 1))
    assert asked == [(job, str(os.getpid()))]


def test_one_and_two_are_divided_within_a_round():
    """A machine that is half as fast in the second round, and twice in the third: the gain is the same."""
    evidence = evidence_of(C8)
    one = [[done(0, seconds, seconds)] for seconds in (8.0, 16.0, 4.0)]
    two = [[done(0, seconds / 2, seconds / 2)] for seconds in (8.0, 16.0, 4.0)]
    two[2] = [done(0, 4.0, 4.0)]  # once another program stands in the way
    found = {"ray_one": one, "ray_two": two, "plain_one": two, "plain_two": one}
    assert evidence.gain(found, "ray", evidence.wall_seconds) == 2.0
    assert evidence.gain(found, "plain", evidence.own_seconds) == 0.5


def test_the_model_speaks_of_what_it_was_given():
    evidence = evidence_of(C8)
    costs = {"dispatch": 0.001, "members": 0.01, "fixed": 0.0, "call": 0.0025, "task": 1.0}
    many, few, long, own = evidence.speeds(costs).values()
    assert many(1) == pytest.approx(1, rel=1e-3)
    assert many(1000) == pytest.approx(10_000 / 10.999, rel=1e-3), "handing out takes as long as the work"
    assert few(1000) == pytest.approx(64 / 1.064, rel=1e-3), "no faster than the longest task"
    assert own(2) == pytest.approx(1.0), "two workers: half the play, twice the calls"
    assert own(1000) < 0.01
    assert long(60) > 25
    read = evidence.costs_of({f"{name}_seconds": [(0, value)] for name, value in costs.items()})
    assert read == costs


def test_random_schedules_are_claimed(tmp_path):
    evidence = evidence_of(C8)
    log = RunLog(tmp_path, "C8", smoke=True)
    evidence.schedules(SMALL, log)
    log.close()
    assert log.claims[0].holds
    assert evidence.HUMANOID[1][0] / evidence.HUMANOID[0][0] == 80


# ---------------------------------------------------------------------------------------------------------
# Without Ray


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)


def test_without_its_extra_the_lesson_says_one_clear_line(no_ray, tmp_path):
    log = RunLog(tmp_path, "C8")
    with pytest.raises(UsageError, match=r"^Ray is not installed: it is the extra `scale` \(uv sync") as told:
        lesson.main(SMALL, log)
    log.close()
    assert "\n" not in str(told.value)
    assert C8.lacks == "C8 needs the extra `scale` (uv sync --inexact --compile-bytecode --extra scale)"


@pytest.mark.skipif(not cluster.missing(), reason="Ray is installed")
def test_the_command_line_says_it_and_exits_2(tmp_path):
    command = [sys.executable, str(C8.path), "--smoke", "--out", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"error: {cluster.missing()}\n")


def test_extras_that_lessons_name_are_in_pyproject():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert C8.extra == "scale"
    for item in catalog.lessons():
        assert not item.extra or item.extra in catalog.EXTRAS
    for extra, package in catalog.EXTRAS.items():
        assert any(pin.startswith(package) for pin in table[extra])


def test_what_needs_an_extra_is_passed_over_by_rl_next(no_ray, course, monkeypatch):
    both = [C8, find("C4")]
    monkeypatch.setattr(catalog, "items", lambda: both)
    monkeypatch.setattr(catalog, "lessons", lambda: both)
    assert "rl run C4" in "\n".join(overview.next_lines(None, course.runs))
    assert any("needs the extra scale" in line for line in overview.status_lines(None, course.runs))


# ---------------------------------------------------------------------------------------------------------
# RLlib


@pytest.mark.skipif(bool(cluster.missing()), reason=cluster.missing())
@pytest.mark.parametrize("name", ["ppo", "impala"])
def test_rllib_is_told_what_the_lesson_says(name):
    evidence = evidence_of(C8)
    cfg = evidence.OURS[name].Config(seed=3)
    settings = evidence.THEIRS[name](cfg)
    assert (settings.env, settings.seed, settings.num_envs_per_env_runner) == (cfg.env_id, 3, cfg.num_envs)
    assert (settings.num_env_runners, settings.num_learners) == (0, 0), "all of it in this process"
    assert (settings.gamma, settings.grad_clip) == (cfg.gamma, cfg.max_grad_norm)
    assert settings.lr == [[0, cfg.learning_rate], [cfg.num_env_steps, 0.0]]
    model = settings.model_config
    assert list(model["fcnet_hiddens"]) == [64, 64]
    assert not model["vf_share_layers"], "as in the lesson, the critic has layers of its own"
    if name == "ppo":
        assert settings.lambda_ == cfg.gae_lambda
        assert settings.train_batch_size_per_learner == cfg.num_envs * cfg.num_steps


# ---------------------------------------------------------------------------------------------------------
# What the text says of the recorded runs


def test_the_verdict_is_what_was_measured():
    """One learner of this size is best on one core; a long sweep follows the number of workers for long."""
    evidence = evidence_of(C8)
    runs = ledger.load(C8)["runs"]
    metrics = {f"{name}_seconds": [(0, np.median([run["metrics"][f"{name}_seconds"] for run in runs]))]
               for name in evidence.COSTS}  # fmt: skip
    costs = evidence.costs_of(metrics)
    many, few, long, own = evidence.speeds(costs).values()
    assert 20 < max(range(1, 1001), key=long) < 120
    assert long(1000) < long(50)
    assert lesson.best_workers(costs["members"], costs["call"]) < 3
    assert max(own(w) for w in range(1, 1001)) < 1.5
    assert 40 < few(1000) <= 64
    assert many(100) > 80
    assert all(f"rllib_{name}_return" in run["metrics"] for run in runs for name in ("ppo", "impala"))
