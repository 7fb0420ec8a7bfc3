"""The linear system moves and pays as its matrices say, and is cut without ever ending."""

import numpy as np
import pytest

from chapters.envs import true_next_obs
from chapters.envs.linear_system import BatchedLinearSystem
from chapters.exact import lqr


def test_each_state_moves_and_pays_by_the_matrices():
    rng = np.random.default_rng(0)
    A, B, Q, R = rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), np.diag([1.0, 2.0, 0.5]), np.eye(2)
    envs = BatchedLinearSystem(5, A, B, Q, R, spread=1.5, max_action=4.0, max_episode_steps=3)
    obs, _ = envs.reset(seed=1)
    assert np.abs(obs).max() <= 1.5
    for t in range(7):
        before = envs.state.copy()
        actions = rng.normal(scale=3.0, size=(5, 2))
        obs, rewards, terminated, truncated, infos = envs.step(actions)
        for i, (x, u) in enumerate(zip(before, np.clip(actions, -4, 4))):
            assert rewards[i] == pytest.approx(-(x @ Q @ x + u @ R @ u))
            after = true_next_obs(obs, terminated | truncated, infos)[i]
            np.testing.assert_allclose(after, A @ x + B @ u, rtol=1e-5, atol=1e-6)
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (t % 3 == 2)
        assert not truncated.any() or np.abs(obs).max() <= 1.5


def test_the_best_gain_earns_its_value():
    system = lqr.mass_on_a_line()
    P = lqr.riccati(system)
    K = lqr.best_gain(system, P)
    envs = BatchedLinearSystem(50, *system[:4], max_episode_steps=400)
    envs.reset(seed=0)
    start, total = envs.state.copy(), np.zeros(50)
    for t in range(300):
        _, rewards, *_ = envs.step(-envs.state @ K.T)
        total += system.gamma**t * rewards
    np.testing.assert_allclose(total, lqr.Quadratic(P, 0.0)(start), rtol=1e-9)
