"""B3: the library holds to the equations, and a wrong equation of ours is noticed."""

import numpy as np
import pytest

from chapters.B_core_algorithms import B3_deep_q_networks_dqn as lesson
from chapters.course.planting import plant
from chapters.utils import RunLog
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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return rewards + gamma", "return rewards - gamma"),
        ("gamma * ~terminated *", "gamma *"),
        ("return target_q.amax(dim=1)", "return target_q.mean(dim=1)"),
        ("0.5 * error**2, error - 0.5", "error**2, error - 0.5"),
    ],
    ids=["sign of the TD target", "bootstraps through the end", "mean for max", "no half in the loss"],
)
def test_library_contradicts_a_wrong_equation(trained, old, new):
    model, _ = trained
    for parameters in model.q_net_target.parameters():  # values that matter, even after a tiny training
        parameters.data.mul_(3.0)
    assert lesson.loss_gap(model) < 1e-5
    assert plant(lesson, old, new).loss_gap(model) > 1e-4
    model.q_net_target.load_state_dict(model.q_net.state_dict())


def test_time_limits_are_not_ends_to_the_library(trained):
    """A cut episode is stored as done and as timeout; what is sampled says not terminated."""
    buffer = trained[0].replay_buffer
    position = buffer.pos
    obs = np.zeros((1, 4), dtype=np.float32)
    infos = [{"TimeLimit.truncated": True}]
    buffer.add(obs, obs, np.array([0]), np.array([1.0]), np.array([True]), infos)
    sample = buffer._get_samples(np.array([position]))
    assert buffer.dones[position] == 1.0
    assert sample.dones.item() == 0.0


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
    frames = lesson.film_frames({"best": trained[0], "last": trained[0]}, seed=0, every=50)
    assert len({frame.shape for frame in frames}) == 1
    assert all(np.array_equal(frame[60:210], frame[270:]) for frame in frames), "same model, same film"
