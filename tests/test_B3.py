"""B3: the library holds to the equations, and a wrong equation of ours is noticed."""

import numpy as np
import pytest

from chapters.B_core_algorithms import B3_deep_q_networks_dqn as lesson
from chapters.B_core_algorithms.checks.B3 import EDITS
from chapters.B_core_algorithms.evidence import B3 as evidence
from chapters.utils import RunLog
from chapters.utils.edits import edited
from chapters.utils.runlog import is_timing

TINY = lesson.Config(**{**lesson.SMOKE, "num_env_steps": 200})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(last model, log) of a tiny training."""
    log = RunLog(tmp_path_factory.mktemp("B3"), "B3")
    model = lesson.train(TINY, log)
    log.close()
    return model, log


def test_library_minimises_our_equations(trained):
    assert lesson.loss_gap(trained[0]) < 1e-6


CONTRADICTED = [name for name, edit in EDITS.items() if "loss_gap" in edit.fails]


@pytest.mark.parametrize("name", CONTRADICTED)
def test_library_contradicts_a_wrong_equation(trained, name):
    model, _ = trained
    wrong = edited(lesson, EDITS[name])
    before = {key: value.clone() for key, value in model.q_net_target.state_dict().items()}
    gaps = []
    for scale in (1.0, 3.0):  # small errors and large ones, even after a tiny training
        model.q_net_target.load_state_dict({key: scale * value for key, value in before.items()})
        assert lesson.loss_gap(model) < 1e-5
        gaps.append(wrong.loss_gap(model))
    assert max(gaps) > 1e-4
    model.q_net_target.load_state_dict(before)


def sampled_as_terminated(buffer):
    """Whether a step that a time limit cut is sampled as one into a terminal state."""
    position = buffer.pos
    obs = np.zeros((1, 4), dtype=np.float32)
    infos = [{"TimeLimit.truncated": True}]
    buffer.add(obs, obs, np.array([0]), np.array([1.0]), np.array([True]), infos)
    assert buffer.dones[position] == 1.0
    return bool(buffer._get_samples(np.array([position])).dones.item())


def test_time_limits_are_not_ends_to_the_library():
    """A cut episode is stored as done and as timeout; what is sampled says not terminated."""
    assert not sampled_as_terminated(lesson.make_model(TINY).replay_buffer)
    merged = edited(lesson, EDITS["limit_merged"])
    assert sampled_as_terminated(merged.make_model(TINY).replay_buffer)


def test_callback_saves_the_best_and_the_log_mirrors_the_library(trained):
    _, log = trained
    steps, returns = log.series("eval_return")
    assert steps == [0, 128, 256]  # the library finishes its round of 64 steps
    best = lesson.DQN.load(log.folder / "best.zip", device="cpu")
    assert np.isclose(lesson.greedy_returns(best, TINY, TINY.seed + 10_000).mean(), max(returns))
    assert {"rollout_ep_rew_mean", "train_loss"} <= set(log.metrics)
    timings = {name for name in log.metrics if is_timing(name)}
    assert timings == {"steps_per_second", "elapsed_seconds"}


def test_film_keeps_a_fallen_pole_in_the_picture(trained):
    frames = evidence.film_frames({"best": trained[0], "last": trained[0]}, seed=0, every=50)
    assert len({frame.shape for frame in frames}) == 1
    assert all(np.array_equal(frame[60:210], frame[270:]) for frame in frames), "same model, same film"


def test_the_worked_example_needs_all_three():
    """Off-policy data and a bootstrap and one shared weight diverge; without any one of them w dies out."""

    def steps(w, pairs, num=300, bootstrap=1.0):
        for _ in range(num):
            for x, next_x in pairs:
                w = lesson.semi_gradient_step(w, x, bootstrap * next_x, 0.0, 0.99, 0.1)
        return abs(w)

    off_policy, on_policy = [(1.0, 2.0)], [(1.0, 2.0), (2.0, 0.0)]
    assert steps(1.0, off_policy) > 1e6
    assert steps(1.0, on_policy) < 1e-6
    assert steps(1.0, off_policy, bootstrap=0.0) < 1e-6  # whole returns: the target is 0
    table = [1.0, 2.0]  # a weight for each state; only the first is updated
    for _ in range(300):
        table[0] += 0.1 * (0.99 * table[1] - table[0])
    assert abs(table[0] - 0.99 * 2.0) < 1e-6


def test_a_target_network_only_slows_the_divergence():
    w = 1.0
    for _ in range(20):
        target = w
        for _ in range(200):
            w += 0.1 * (0.99 * 2.0 * target - w)
        assert abs(w / target - 2 * 0.99) < 1e-6


def test_when_a_target_network_does_something(tmp_path):
    """Renewed at each step or each tenth: the same run; more rarely than a round is long: another."""

    def weights(sync_every):
        cfg = lesson.Config(**{**lesson.SMOKE, "sync_every": sync_every})
        model = lesson.train(cfg, RunLog(tmp_path / str(sync_every), "B3"))
        return np.concatenate([value.flatten().numpy() for value in model.q_net.state_dict().values()])

    assert np.array_equal(weights(1), weights(10))
    assert not np.array_equal(weights(1), weights(200))


# Measuring and glue


def test_selection_and_report_use_other_seeds_than_training_and_ties_keep_the_first(tmp_path, monkeypatch):
    """Four checks score 1, 3, 3, 2: the model is saved at the first two, never anew for a tie."""
    seeds, saved = [], []
    scores = iter([1.0, 3.0, 3.0, 2.0])

    def evaluate(policy, env_id, *, episodes, seed):
        seeds.append(seed)
        obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
        assert np.array_equal(policy(obs), policy(obs)), "greedy: nothing is drawn"
        return np.full(episodes, next(scores, 0.0))

    save = lesson.DQN.save

    def watched(model, path):
        saved.append((path.name, model.num_timesteps))
        save(model, path)

    monkeypatch.setattr(lesson, "evaluate", evaluate)
    monkeypatch.setattr(lesson.DQN, "save", watched)
    made = lesson.make_model
    monkeypatch.setattr(lesson, "make_model", lambda cfg: seeds.append(made(cfg).seed) or made(cfg))
    log = RunLog(tmp_path, "B3", smoke=True)
    lesson.main(lesson.Config(**{**lesson.SMOKE, "num_env_steps": 256, "eval_every": 64, "seed": 3}), log)
    log.close()
    assert seeds[0] == 3
    checks, reports = seeds[1:-2], seeds[-2:]
    assert set(checks) == {10_003}
    assert reports == [20_003, 20_003]
    assert [name for name, _ in saved] == ["best.zip", "best.zip", "last.zip"]
    assert len(checks) >= 4
