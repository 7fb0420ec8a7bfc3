"""Our batched CartPole is gymnasium's CartPole-v1, step for step; `make_envs` keeps its contract."""

import gymnasium as gym
import numpy as np
import pytest

from chapters.envs import make_envs, true_next_obs
from chapters.envs.cartpole import BatchedCartPole


def test_same_dynamics_as_gymnasium():
    """From the same states, 300 random steps in 16 copies agree to float32 precision."""
    num_envs, rng = 16, np.random.default_rng(0)
    ours = BatchedCartPole(num_envs)
    ours.reset(seed=0)
    theirs = [gym.make("CartPole-v1") for _ in range(num_envs)]
    for i, env in enumerate(theirs):
        env.reset(seed=i)
        env.unwrapped.state = ours.state[i].copy()

    for _ in range(300):
        actions = rng.integers(0, 2, num_envs)
        obs, rewards, terminated, truncated, infos = ours.step(actions)
        successors = true_next_obs(obs, terminated | truncated, infos)
        for i, env in enumerate(theirs):
            expected, reward, end, cut, _ = env.step(actions[i])
            np.testing.assert_allclose(successors[i], expected, rtol=1e-6, atol=1e-7)
            assert (rewards[i], terminated[i], truncated[i]) == (reward, end, cut)
            if end or cut:
                env.reset()
                env.unwrapped.state = ours.state[i].copy()
                env.unwrapped.steps_beyond_terminated = None
    assert ours.elapsed.max() < 300, "no episode ended: the test saw nothing of resets"


def balance(obs):
    """A hand-made controller that holds the pole for hundreds of steps."""
    return (obs @ np.array([0.1, 0.5, 1.0, 1.0]) > 0).astype(int)


def test_time_limit_is_truncation():
    """At the limit the old episode's last state is where a longer episode would be; a new one begins."""
    envs, longer = BatchedCartPole(4, max_episode_steps=30), BatchedCartPole(4, max_episode_steps=31)
    obs, _ = envs.reset(seed=1)
    longer.reset(seed=1)
    for step in range(1, 31):
        actions = balance(obs)
        obs, _, terminated, truncated, infos = envs.step(actions)
        unbroken, _, _, not_yet, _ = longer.step(actions)
        assert not terminated.any()
        assert not not_yet.any()
        assert truncated.all() == truncated.any() == (step == 30)
    np.testing.assert_array_equal(infos["final_obs"], unbroken)
    assert infos["_final_obs"].all()
    assert (np.abs(obs) <= 0.05).all(), "after the limit the next episode has begun"
    assert (obs != unbroken).any(axis=1).all()
    assert (envs.elapsed == 0).all()
    for step in range(1, 31):  # and it has a clock of its own
        *_, truncated, _ = envs.step(balance(envs.state))
        assert truncated.all() == (step == 30)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "ProbeEndless-v0", "ProbeDelayedReward-v0", "Acrobot-v1"])
def test_successors_follow_the_episode_that_ended(env_id):
    """In every environment of `make_envs`, the successor at an end is the old episode's last observation."""
    envs, single = make_envs(env_id, 3), gym.make(env_id)
    seen = 0
    obs, _ = envs.reset(seed=5)
    for _ in range(600):
        actions = envs.action_space.sample()
        obs, _, terminated, truncated, infos = envs.step(actions)
        done = terminated | truncated
        successors = true_next_obs(obs, done, infos)
        assert successors.shape == obs.shape
        np.testing.assert_array_equal(successors[~done], obs[~done])
        for i in done.nonzero()[0]:
            seen += 1
            np.testing.assert_array_equal(successors[i], infos["final_obs"][i])
    single.close()
    assert seen > 0


def test_reset_with_a_seed_repeats():
    first, second = BatchedCartPole(5), BatchedCartPole(5)
    a, _ = first.reset(seed=3)
    b, _ = second.reset(seed=3)
    np.testing.assert_array_equal(a, b)
    assert len(np.unique(a[:, 0])) == 5, "each copy starts elsewhere"
