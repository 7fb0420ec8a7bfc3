"""The pendulum's optimum: its model against gymnasium's, its values against enumeration, Riccati and play."""

import itertools
from functools import partial

import numpy as np
import pytest

from chapters.course.catalog import CHAPTERS
from chapters.envs import evaluate
from chapters.envs.pendulum import BatchedPendulum, DiscretePendulum
from chapters.exact import lqr, pendulum

QUICK = {"num_angles": 180, "num_speeds": 161}  # a quarter of a second


def test_the_model_is_the_environments():
    """Which other tests hold to gymnasium's own."""
    envs, rng = BatchedPendulum(500), np.random.default_rng(0)
    envs.reset(seed=0)
    envs.state = rng.uniform([-9.0, -8.0], [9.0, 8.0], size=(500, 2))
    torque = rng.uniform(-2.0, 2.0, size=500)
    *state, reward = pendulum.step(*envs.state.T, torque)
    _, expected, *_ = envs.step(torque[:, None])
    np.testing.assert_allclose(reward, expected, rtol=1e-12)
    np.testing.assert_allclose(np.stack(state, axis=1), envs.state, rtol=1e-12)


def test_between_the_points_of_the_grid_values_are_bilinear_and_the_circle_closes():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 5))  # an angle every 60 degrees, a speed every 4
    for angle, speed in rng.uniform([-7.0, -8.0], [7.0, 8.0], size=(200, 2)):
        along, across = np.degrees(angle) % 360 / 60, (speed + 8) / 4
        i, j = int(along), min(int(across), 3)
        a, b = along - i, across - j
        near, far = values[i], values[(i + 1) % 6]
        expected = (1 - a) * ((1 - b) * near[j] + b * near[j + 1]) + a * ((1 - b) * far[j] + b * far[j + 1])
        found = pendulum.value_at(values, np.array([angle]), np.array([speed]))
        assert found == pytest.approx(expected, abs=1e-12)
    # on the points themselves, the top speed included
    found = pendulum.value_at(values, np.radians([0.0, 300.0, -60.0]), np.array([-8.0, 8.0, 8.0]))
    np.testing.assert_allclose(found, [values[0, 0], values[5, 4], values[5, 4]])


def test_values_of_three_steps_are_the_best_of_all_sequences_of_torques():
    values = pendulum.optimal_values(horizon=3)
    rng = np.random.default_rng(0)
    row, column = rng.integers(360, size=60), rng.integers(321, size=60)
    best = np.full(60, -np.inf)
    for torques in itertools.product(np.linspace(-2.0, 2.0, 5), repeat=3):
        angle, speed, total = np.radians(row), -8.0 + 0.05 * column, 0.0
        for torque in torques:
            angle, speed, reward = pendulum.step(angle, speed, torque)
            total = total + reward
        best = np.maximum(best, total)
    assert np.abs(values[row, column] - best).max() < 1e-3


def test_near_the_top_the_values_are_riccatis():
    """Where sin(a) = a and the torque is not at its limit; no discount."""
    dt = pendulum.SECONDS
    A, B = np.array([[1 + 15 * dt**2, dt], [15 * dt, 1.0]]), np.array([[3 * dt**2], [3 * dt]])
    system = lqr.LQR(A, B, np.diag([1.0, 0.1]), 0.001 * np.eye(1), gamma=1.0)
    P = lqr.riccati(system)
    K = lqr.best_gain(system, P)
    states = np.array([[0.0, 0.0], [0.05, 0.1], [0.1, -0.35], [-0.2, 0.75], [0.3, -1.1], [0.3, -1.2]])
    assert np.abs(states @ K.T).max() < 2.0
    found, expected = (
        pendulum.value_at(pendulum.optimal_values(gamma=1.0), *states.T),
        lqr.Quadratic(P, 0.0)(states),
    )
    assert expected.min() < -0.7
    assert np.abs(found - expected).max() < 0.04


def test_one_step_more_no_longer_matters():
    grids = [pendulum.optimal_values(horizon, **QUICK) for horizon in (199, 200)]
    assert np.abs(grids[1] - grids[0]).max() < 1e-6
    assert grids[1].max() <= 0


def test_the_policy_earns_what_its_values_say_and_a_finer_grid_adds_little():
    """From a lattice of starts: what an episode may begin with, evenly; in the mean -137.8."""
    angles, speeds = (np.arange(120) + 0.5) / 60 * np.pi - np.pi, np.linspace(-0.9, 0.9, 10)
    angle, speed = (x.ravel() for x in np.meshgrid(angles, speeds, indexing="ij"))

    class Lattice(BatchedPendulum):
        def _first(self, count):
            return np.stack([angle, speed], axis=1)

    earned = evaluate(pendulum.optimal_policy, envs=Lattice(angle.size), seed=0).mean()
    fine, coarse = (
        pendulum.value_at(values, angle, speed).mean()
        for values in (pendulum.optimal_values(gamma=1.0), pendulum.optimal_values(**QUICK))
    )
    assert earned == pytest.approx(pendulum.MEAN_OPTIMUM, abs=0.3)
    assert pendulum.optimum() == pytest.approx(earned, abs=0.05), "as the environment has it, in float32"
    assert abs(earned - fine) < 0.5
    assert 0 < fine - coarse < 1.5


def test_five_torques_earn_nearly_as_much_from_starts_drawn_at_random():
    """In the world of the stage: its observations, its actions and its rewards."""
    envs = DiscretePendulum(2000)

    def policy(obs):
        torques = pendulum.optimal_policy(obs * [1.0, 1.0, 8.0], num_torques=5)
        return np.round(torques[:, 0] + 2).astype(int)

    returns = 10 * evaluate(policy, envs=envs, seed=0)
    assert abs(pendulum.optimum(5) - returns.mean()) < 4 * returns.std() / np.sqrt(2000)
    assert -0.5 < pendulum.optimum(5) - pendulum.optimum() <= 0


def test_the_best_policy_for_a_discount_earns_less_over_an_episode(monkeypatch):
    """gamma = 0 sees one reward only; the nearer to 1, the better over 200 steps."""
    values = pendulum.optimal_values(horizon=3, gamma=0.0, **QUICK)
    np.testing.assert_allclose(values, pendulum.optimal_values(horizon=1, **QUICK), atol=1e-12)
    monkeypatch.setattr(pendulum, "optimal_values", partial(pendulum.optimal_values, **QUICK))
    earned = [pendulum.optimum.__wrapped__(5, gamma) for gamma in (0.95, 0.98, 1.0)]
    assert earned == sorted(earned)
    assert earned[2] - earned[0] > 10.0, "at 0.95"
    assert earned[2] - earned[1] < 5.0, "at 0.98"
    angle = np.linspace(-3.0, 3.0, 13)
    obs = np.stack([np.cos(angle), np.sin(angle), np.zeros(13)], axis=1)
    assert not pendulum.optimal_policy(obs, 5, gamma=0.0).any(), "today's cost is least without a torque"


@pytest.mark.parametrize("name", ["C3_ppo_from_scratch.py", "C2_proximal_policy_optimization_ppo.md"])
def test_texts_quote_the_optimum_as_it_is(name):
    text = (CHAPTERS / "C_policy_gradients" / name).read_text(encoding="utf-8")
    assert f"the computed optimum, ${pendulum.optimum():.1f}$" in " ".join(text.split())


def test_torques_are_within_bounds_and_mirrored():
    rng = np.random.default_rng(3)
    angle, speed = rng.uniform(-3, 3, size=300), rng.uniform(-8, 8, size=300)
    torques = [
        pendulum.optimal_policy(np.stack([np.cos(angle), sign * np.sin(angle), sign * speed], axis=1))
        for sign in (1, -1)
    ]
    assert torques[0].shape == (300, 1)
    assert np.abs(torques[0]).max() <= 2.0
    assert np.mean(np.abs(torques[0] + torques[1]) < 0.06) > 0.97  # but where two ways are as good
