"""Our batched Pendulum is gymnasium's Pendulum-v1, step for step; `make_envs` hands it out."""

import gymnasium as gym
import numpy as np
import pytest

from chapters.envs import make_envs, true_next_obs
from chapters.envs.pendulum import BatchedPendulum, DiscretePendulum


def test_same_dynamics_as_gymnasium():
    """From the same states, 300 random steps in 8 copies agree; torques beyond the limit are clipped."""
    num_envs, rng = 8, np.random.default_rng(0)
    ours = BatchedPendulum(num_envs)
    ours.reset(seed=0)
    theirs = [gym.make("Pendulum-v1") for _ in range(num_envs)]
    for i, env in enumerate(theirs):
        env.reset(seed=i)
        env.unwrapped.state = ours.state[i].copy()
    cuts = 0
    for _ in range(300):
        actions = rng.normal(scale=2.0, size=(num_envs, 1))
        obs, rewards, terminated, truncated, infos = ours.step(actions)
        successors = true_next_obs(obs, terminated | truncated, infos)
        for i, env in enumerate(theirs):
            expected, reward, end, cut, _ = env.step(actions[i])
            np.testing.assert_allclose(successors[i], expected, rtol=1e-5, atol=1e-6)
            assert rewards[i] == pytest.approx(reward, rel=1e-9)
            assert (terminated[i], truncated[i]) == (end, cut)
            if cut:
                cuts += 1
                env.reset()
                env.unwrapped.state = ours.state[i].copy()
    assert cuts == num_envs


def test_episodes_begin_where_gymnasiums_do():
    """Anywhere on the circle and at most 1 rad/s, at the first reset and after the time limit."""
    ours = BatchedPendulum(4000, max_episode_steps=1)
    ours.reset(seed=0)
    first = ours.state.copy()
    obs, *_ = ours.step(np.zeros((4000, 1)))
    for state in (first, ours.state):
        for column, high in enumerate((np.pi, 1.0)):
            assert np.abs(state[:, column]).max() <= high
            assert state[:, column].std() == pytest.approx(high / np.sqrt(3), rel=0.05)  # uniform
    np.testing.assert_allclose(obs[:, 0], np.cos(ours.state[:, 0]), atol=1e-6)


def test_make_envs_hands_it_out_and_seeds_repeat():
    envs = make_envs("Pendulum-v1", 5)
    assert isinstance(envs, BatchedPendulum)
    first, _ = envs.reset(seed=3)
    again, _ = make_envs("Pendulum-v1", 5).reset(seed=3)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first[:, 0])) == 5, "each copy starts elsewhere"
    assert envs.single_action_space == gym.make("Pendulum-v1").action_space
    assert envs.single_observation_space == gym.make("Pendulum-v1").observation_space


def test_the_discrete_version_is_the_same_pendulum():
    """Five torques in place of any, velocity in units of its limit, a tenth of the reward, also at a cut."""
    envs, same = make_envs("DiscretePendulum-v0", 6), BatchedPendulum(6)
    assert isinstance(envs, DiscretePendulum)
    obs, _ = envs.reset(seed=1)
    same.reset(seed=1)
    rng = np.random.default_rng(0)
    for step in range(1, 203):
        actions = rng.integers(5, size=6)
        obs, rewards, terminated, truncated, infos = envs.step(actions)
        expected, full, *ends, others = same.step(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[actions][:, None])
        np.testing.assert_allclose(obs * [1.0, 1.0, 8.0], expected, rtol=1e-6)
        np.testing.assert_allclose(10 * rewards, full)
        assert (terminated == ends[0]).all()
        assert (truncated == ends[1]).all()
        assert truncated.all() == (step == 200)
        if truncated.any():
            np.testing.assert_allclose(infos["final_obs"] * [1.0, 1.0, 8.0], others["final_obs"], rtol=1e-6)
            assert envs.single_observation_space.contains(infos["final_obs"][0])
    assert envs.single_action_space.n == 5
    assert envs.single_observation_space.contains(obs[0])
