"""Checks of lesson A4's functions: hand-made batches, loops, and gymnasium itself."""

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation

from chapters.A_foundations.checks.A3 import near
from chapters.utils.edits import Edit


def check_OneHot(wrapper):
    ours, theirs = (wrap(gym.make("GridWorld-v0")) for wrap in (wrapper, FlattenObservation))
    assert ours.observation_space.shape == theirs.observation_space.shape
    for seed in range(3):
        obs, _ = ours.reset(seed=seed)
        np.testing.assert_array_equal(obs, theirs.reset(seed=seed)[0])
        assert obs in ours.observation_space
        assert obs * 2 not in ours.observation_space, "the space must hold nothing above 1"
        for action in (0, 1, 0, 1, 2, 3):
            (obs, *rest), (expected, *others) = ours.step(action), theirs.step(action)
            np.testing.assert_array_equal(obs, expected)
            assert obs in ours.observation_space
            assert rest[:3] == others[:3]


class Countdown(gym.vector.VectorEnv):
    """Two worlds that count up from 0 and 10; the first ends at 3, the second is cut at 12."""

    def __init__(self):
        self.num_envs = 2
        self.metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.single_action_space = gym.spaces.Discrete(2)
        self.single_observation_space = gym.spaces.Discrete(13)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, 2)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, 2)

    def reset(self, *, seed=None, options=None):
        self.seed, self.count = seed, np.array([0, 10])
        return self.count.copy(), {}

    def step(self, actions):
        self.count = self.count + 1
        terminated, truncated = self.count == 3, self.count == 12
        done, infos = terminated | truncated, {}
        if done.any():
            infos = {
                "final_obs": np.where(done, self.count, None),
                "_final_obs": done,
            }  # as gymnasium has them
        rewards = self.count * 1.0
        self.count = np.where(done, [0, 10], self.count)
        return self.count.copy(), rewards, terminated, truncated, infos


def check_collect(collect):
    envs = Countdown()
    batch = collect(envs, 6, seed=5)
    assert envs.seed == 5
    np.testing.assert_array_equal(batch.obs, np.transpose([[0, 1, 2, 0, 1, 2], [10, 11, 10, 11, 10, 11]]))
    np.testing.assert_array_equal(batch.next_obs, batch.obs + 1)  # also where an episode ends
    dtype = np.asarray(batch.next_obs).dtype
    assert dtype.kind == "i", f"next_obs must hold whole numbers, not {dtype}"
    np.testing.assert_array_equal(batch.rewards, batch.obs + 1.0)
    np.testing.assert_array_equal(
        batch.returned_obs, np.transpose([[1, 2, 0, 1, 2, 0], [11, 10, 11, 10, 11, 10]])
    )
    np.testing.assert_array_equal(batch.terminated, batch.next_obs == 3)
    np.testing.assert_array_equal(batch.truncated, batch.next_obs == 12)
    assert set(np.unique(collect(Countdown(), 50, seed=0).actions)) == {0, 1}
    np.testing.assert_array_equal(collect(Countdown(), 50, 3).actions, collect(Countdown(), 50, 3).actions)
    actions = collect(Countdown(), 50, 3).actions
    assert (actions != collect(Countdown(), 50, 4).actions).any()
    env = gym.make("GridWorld-v0")
    env.reset(seed=3)  # an environment seeded 3 must not draw the numbers that choose the actions
    assert (actions != env.unwrapped.np_random.integers(2, size=(50, 2))).any()


def check_td_solution(td_solution):
    """At the solution the temporal-difference errors of every state average to zero; and by sweeping."""
    rng = np.random.default_rng(3)
    obs, next_obs = rng.integers(6, size=(2, 40, 3))
    obs[obs == 4] = 5  # state 4 is never visited
    rewards, ended = rng.normal(size=(40, 3)), rng.random((40, 3)) < 0.2
    V = td_solution(obs, rewards, next_obs, ended, 0.9, 6)
    td_errors = rewards + 0.9 * (1 - ended) * V[next_obs] - V[obs]
    near([td_errors[obs == s].sum() for s in range(6)], np.zeros(6))
    near(V[4], 0.0)
    swept = np.zeros(6)
    for _ in range(400):
        targets = rewards + 0.9 * (1 - ended) * swept[next_obs]
        swept = np.array([targets[obs == s].mean() if (obs == s).any() else 0.0 for s in range(6)])
    near(V, swept)


EDITS = {
    "off_by_one": Edit(
        function="OneHot",
        old="dtype=np.int64)[observation]",
        new="dtype=np.int64)[observation - 1]",
        says="marks the cell before",
    ),
    "inverted": Edit(
        function="OneHot",
        old="return np.eye(len(",
        new="return 1 - np.eye(len(",
        says="a zero where the one belongs",
    ),
    "first_obs_for_last": Edit(
        function="collect",
        old="next_obs = true_next_obs(returned_obs, terminated | truncated, infos)",
        new="pass",
        says="takes the first observation of the next episode for the successor",
        fails=("terminated", "true_successors", "value"),
    ),
    "final_obs_forgotten": Edit(
        function="collect",
        old="true_next_obs(returned_obs, terminated | truncated, infos)",
        new="true_next_obs(returned_obs, terminated, infos)",
        says="fetches the last observation at an end, and forgets it at a time limit",
        fails=("true_successors", "value"),
    ),
    "swapped": Edit(
        function="collect",
        old="next_obs, terminated, truncated))",
        new="next_obs, truncated, terminated))",
        says="terminated and truncated swapped",
        fails=("terminated", "truncated", "value"),
    ),
    "merged": Edit(
        function="collect",
        old="next_obs, terminated, truncated))",
        new="next_obs, terminated | truncated, truncated))",
        says="stores a time limit as an end: terminated and truncated merged",
        fails=("terminated", "value"),
    ),
    "continues_old_episode": Edit(
        function="collect",
        old="obs = returned_obs  # where",
        new="obs = next_obs  # where",
        says="goes on from the old episode's last state",
        fails=("true_successors", "value"),
    ),
    "seed_ignored": Edit(
        function="collect",
        old="rng = np.random.default_rng([seed, 1])",
        new="rng = np.random.default_rng([0, 1])",
        says="the same actions whatever the seed",
    ),
    "same_stream": Edit(
        function="collect",
        old="rng = np.random.default_rng([seed, 1])",
        new="rng = np.random.default_rng(seed)",
        says="actions from the numbers that the first environment slips by",
    ),
    "no_gamma": Edit(
        function="td_solution",
        old="- gamma * going_on",
        new="- going_on",
        says="the future counts in full",
        fails=("value",),
    ),
    "no_mask": Edit(
        function="td_solution",
        old="(obs, next_obs), 1.0 - ended)",
        new="(obs, next_obs), 1.0)",
        says="no mask: values stay right, since nobody starts from an end, and merging changes nothing",
        fails=("value_merged",),
    ),
    "mask_inverted": Edit(
        function="td_solution",
        old="(obs, next_obs), 1.0 - ended)",
        new="(obs, next_obs), 1.0 * ended)",
        says="looks ahead where the episode ended, and only there",
        fails=("value",),
    ),
    "backwards": Edit(
        function="td_solution",
        old="(obs, next_obs), 1.0 - ended)",
        new="(next_obs, obs), 1.0 - ended)",
        says="counts where one came from",
        fails=("value",),
    ),
    "wrong_sign": Edit(
        function="td_solution",
        old="- gamma * going_on",
        new="+ gamma * going_on",
        says="the future is subtracted",
        fails=("value",),
    ),
}
