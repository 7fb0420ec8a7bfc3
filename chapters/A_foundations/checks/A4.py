"""Checks of lesson A4's functions: hand-made batches, loops, and gymnasium itself."""

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation
from scipy.stats import chisquare

from chapters.A_foundations.checks import A3 as checks_of_A3
from chapters.envs import make_envs
from chapters.utils.edits import Edit

near = checks_of_A3.near


def check_grid_mdp(grid_mdp):
    """The copy stands the test of the original."""
    checks_of_A3.check_grid_mdp(grid_mdp)


def check_evaluate_exactly(evaluate_exactly):
    """The copy stands the test of the original."""
    checks_of_A3.check_evaluate_exactly(evaluate_exactly)


def check_count_transitions(count_transitions):
    rng = np.random.default_rng(0)
    obs, next_obs = rng.integers(5, size=(2, 30, 4))  # many repeats
    actions = rng.integers(3, size=(30, 4))
    counts = count_transitions(obs, actions, next_obs, 5, 3)
    assert counts.shape == (5, 3, 5)
    assert counts.sum() == 120
    for s, a, n in np.ndindex(5, 3, 5):
        assert counts[s, a, n] == ((obs == s) & (actions == a) & (next_obs == n)).sum()


def check_chi_square_p_value(chi_square_p_value):
    """One pair is scipy's test; right counts give uniform p-values, wrong ones small, rare ones none."""
    rng = np.random.default_rng(1)
    P = np.array([[[0.5, 0.3, 0.2]], [[1.0, 0.0, 0.0]], [[0.0, 0.6, 0.4]]])  # [3, 1, 3]
    only = np.zeros((3, 1, 3), dtype=np.int64)
    only[0, 0] = (60, 25, 15)
    near(chi_square_p_value(only, P), chisquare([60, 25, 15], [50, 30, 20]).pvalue)

    def draw(true, visits=400):
        return np.stack([rng.multinomial(visits, row[0])[None] for row in true])

    values = np.array([chi_square_p_value(draw(P), P) for _ in range(400)])
    assert 0.4 < values.mean() < 0.6
    assert 0.02 < (values < 0.1).mean() < 0.2
    wrong = np.array([[[0.4, 0.3, 0.3]], [[1.0, 0.0, 0.0]], [[0.0, 0.6, 0.4]]])
    assert np.median([chi_square_p_value(draw(wrong), P) for _ in range(20)]) < 0.01
    impossible = draw(P)
    impossible[1, 0, 2] = 1
    assert chi_square_p_value(impossible, P) == 0.0
    rare = only.copy()
    rare[2, 0] = (0, 0, 3)  # three visits only: says nothing
    near(chi_square_p_value(rare, P), chi_square_p_value(only, P))
    assert chi_square_p_value(np.zeros_like(only), P) == 1.0


def check_OneHot(wrapper):
    ours, theirs = (wrap(gym.make("GridWorld-v0")) for wrap in (wrapper, FlattenObservation))
    assert ours.observation_space == theirs.observation_space
    for seed in range(3):
        np.testing.assert_array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        for action in (0, 1, 0, 1, 2, 3):
            (obs, *rest), (expected, *others) = ours.step(action), theirs.step(action)
            np.testing.assert_array_equal(obs, expected)
            assert obs in ours.observation_space
            assert rest[:3] == others[:3]


class Countdown(gym.vector.VectorEnv):
    """Two worlds that count up from 0 and 10; the first ends at 3, the second is cut at 12."""

    def __init__(self):
        self.num_envs = 2
        self.single_action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.seed, self.count = seed, np.array([0, 10])
        return self.count.copy(), {}

    def step(self, actions):
        self.count = self.count + 1
        terminated, truncated = self.count == 3, self.count == 12
        done, infos = terminated | truncated, {}
        if done.any():
            infos = {"final_obs": self.count.copy()}
        rewards = self.count * 1.0
        self.count = np.where(done, [0, 10], self.count)
        return self.count.copy(), rewards, terminated, truncated, infos


def check_collect(collect):
    envs = Countdown()
    batch = collect(envs, 6, seed=5)
    assert envs.seed == 5
    np.testing.assert_array_equal(batch.obs, np.transpose([[0, 1, 2, 0, 1, 2], [10, 11, 10, 11, 10, 11]]))
    np.testing.assert_array_equal(batch.next_obs, batch.obs + 1)  # also where an episode ends
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


def check_episode_steps(episode_steps):
    done = np.array([[0, 1], [0, 0], [1, 0], [0, 0], [1, 1], [1, 0]], dtype=bool)
    np.testing.assert_array_equal(episode_steps(done), np.transpose([[1, 2, 3, 1, 2, 1], [1, 1, 2, 3, 4, 1]]))


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


def check_standard_errors(standard_errors):
    """Against the spread of the estimate over many drawn batches of a chain with two ways to end."""
    from chapters.A_foundations.A4_gymnasium_environments import MDP, Batch

    P = np.zeros((4, 2, 4))
    P[0, :, :] = (0.2, 0.5, 0.3, 0.0)
    P[1, :, :] = (0.4, 0.0, 0.1, 0.5)
    P[2, :, 2] = P[3, :, 3] = 1.0
    terminal, landing_reward = np.array([False, False, True, True]), np.array([0.0, -1.0, 2.0, 5.0])
    R = (P @ landing_reward) * ~terminal[:, None]
    mdp, rng = MDP(P, R, terminal, 0.8), np.random.default_rng(0)
    chain = P.mean(axis=1)
    V = np.linalg.solve(np.eye(4) - 0.8 * chain * ~terminal, R.mean(axis=1))
    V[terminal] = 7.0  # nobody may look behind an end
    reach = chain.cumsum(axis=1)
    estimates, stated = [], []
    for _ in range(300):
        obs = rng.permutation(np.repeat([0, 1], [150, 450]))[:, None]  # [600, 1] state 1 three times as often
        next_obs = (rng.random((600, 1, 1)) > reach[obs]).sum(axis=2)  # drawn from the row of `chain`
        rewards, ended = landing_reward[next_obs], terminal[next_obs]
        actions, cut = np.zeros_like(obs), np.zeros_like(ended)
        stated.append(
            standard_errors(mdp, V, Batch(obs, actions, rewards, next_obs, next_obs, ended, cut))[:2]
        )
        counted = np.array([[np.mean(next_obs[obs == s] == n) for n in range(4)] for s in (0, 1)])
        means = np.array([rewards[obs == s].mean() for s in (0, 1)])
        estimates.append(np.linalg.solve(np.eye(2) - 0.8 * counted[:, :2], means))
    ratio = np.std(estimates, axis=0) / np.mean(stated, axis=0)
    assert (np.abs(ratio - 1) < 0.15).all(), ratio


def trajectory(envs, actions):
    """Everything `envs` hands out under `actions` [T, N], final observations included."""
    rows = [envs.reset(seed=0)[0]]
    for row in actions:
        obs, rewards, terminated, truncated, infos = envs.step(row)
        done = terminated | truncated
        final = [infos["final_obs"][i] if done[i] else -1 for i in range(len(done))]
        rows.append(np.stack([obs, rewards, terminated, truncated, np.array(final)]))
    return rows


def check_BatchedGridWorld(world):
    """Without slip it is GridWorld, step by step; with slip each direction has its probability."""
    rng = np.random.default_rng(0)
    grids = ("S.G", "..P", "#.."), ("...G", ".#.P", "S...")
    for grid in grids:
        options = {"slip": 0.0, "step_reward": -0.3, "max_episode_steps": 6, "grid": grid}
        actions = rng.integers(4, size=(200, 5))
        ours = trajectory(world(5, **options), actions)
        theirs = trajectory(make_envs("GridWorld-v0", 5, **options), actions)
        for row, expected in zip(ours, theirs):
            np.testing.assert_array_equal(row, expected)
    envs = world(30_000, grid=("...", ".S.", "..."), slip=0.3)
    assert envs.reset(seed=1)[0] in envs.observation_space
    for action in range(4):
        envs.reset(seed=action)
        obs, *_ = envs.step(np.full(30_000, action))
        shares = [np.mean(obs == (1, 5, 7, 3)[(action + turn) % 4]) for turn in (0, 1, 2, 3)]
        near(shares, [0.7, 0.15, 0.0, 0.15], 0.012)
    first, again = (world(50).reset(seed=2)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (
        np.diff(trajectory(world(9), rng.integers(4, size=(20, 9)))[5][0]) != 0
    ).any()  # not all slip alike


EDITS = {
    "slip_probability_off": Edit(
        function="grid_mdp",
        old="((0, 1.0 - slip), (1, slip / 2)",
        new="((0, 1.0 - slip / 2), (1, 0.0)",
        says="slip probability off",
    ),
    "pays_cell_leaves": Edit(
        function="grid_mdp",
        old="cells.flat[next_s], 0.0)",
        new="cells.flat[s], 0.0)",
        says="pays for the cell it leaves",
    ),
    "gamma_missing": Edit(
        function="evaluate_exactly",
        old="- mdp.gamma * P_policy",
        new="- P_policy",
        says="gamma missing",
    ),
    "ends_not_masked": Edit(
        function="evaluate_exactly",
        old=", policy, mdp.P) * ~mdp.terminal",
        new=", policy, mdp.P)",
        says="ends not masked",
    ),
    "repeats_are_lost": Edit(
        function="count_transitions",
        old="np.add.at(counts, (obs, actions, next_obs), 1)",
        new="counts[obs, actions, next_obs] += 1",
        says="repeats are lost",
    ),
    "backwards": Edit(
        function="count_transitions",
        old="(obs, actions, next_obs), 1)",
        new="(next_obs, actions, obs), 1)",
        says="backwards",
    ),
    "impossible_transitions_forgiven": Edit(
        function="chi_square_p_value",
        old="return 0.0  # something",
        new="pass  # something",
        says="impossible transitions forgiven",
    ),
    "degree_freedom_too_many": Edit(
        function="chi_square_p_value",
        old="cells.sum() - enough.sum()",
        new="cells.sum()",
        says="a degree of freedom too many",
    ),
    "divides_counts": Edit(
        function="chi_square_p_value",
        old="** 2 / expected[cells])",
        new="** 2 / np.maximum(counts[cells], 1))",
        says="divides by the counts",
    ),
    "other_tail": Edit(
        function="chi_square_p_value",
        old="chi2.sf(",
        new="chi2.cdf(",
        says="other tail",
    ),
    "rare_pairs_kept": Edit(
        function="chi_square_p_value",
        old=".min(axis=2) >= 5",
        new=".min(axis=2) >= 0",
        says="rare pairs kept",
    ),
    "off_one": Edit(
        function="OneHot",
        old="dtype=np.int64)[observation]",
        new="dtype=np.int64)[observation - 1]",
        says="off by one",
    ),
    "zero_where_one_belongs": Edit(
        function="OneHot",
        old="return np.eye(len(",
        new="return 1 - np.eye(len(",
        says="zero where one belongs",
    ),
    "successor_taken_from_new": Edit(
        function="collect",
        old="next_obs = true_next_obs(returned_obs, terminated | truncated, infos)",
        new="pass",
        says="the successor is taken from the new episode",
    ),
    "no_final_observation_at": Edit(
        function="collect",
        old="true_next_obs(returned_obs, terminated | truncated, infos)",
        new="true_next_obs(returned_obs, terminated, infos)",
        says="no final observation at a time limit",
    ),
    "terminated_truncated_swapped": Edit(
        function="collect",
        old="next_obs, terminated, truncated))",
        new="next_obs, truncated, terminated))",
        says="terminated and truncated swapped",
    ),
    "terminated_truncated_merged": Edit(
        function="collect",
        old="next_obs, terminated, truncated))",
        new="next_obs, terminated | truncated, truncated))",
        says="terminated and truncated merged",
    ),
    "goes_from_old_episode": Edit(
        function="collect",
        old="obs = returned_obs  # where",
        new="obs = next_obs  # where",
        says="goes on from the old episode",
    ),
    "seed_ignored": Edit(
        function="collect",
        old="rng = np.random.default_rng([seed, 1])",
        new="rng = np.random.default_rng([0, 1])",
        says="seed ignored",
    ),
    "same_stream_environment": Edit(
        function="collect",
        old="rng = np.random.default_rng([seed, 1])",
        new="rng = np.random.default_rng(seed)",
        says="the same stream as the environment",
    ),
    "starts_step_late": Edit(
        function="episode_steps",
        old="np.where(done[t - 1], 1,",
        new="np.where(done[t], 1,",
        says="starts a step late",
    ),
    "counts_from_0": Edit(
        function="episode_steps",
        old="np.where(done[t - 1], 1,",
        new="np.where(done[t - 1], 0,",
        says="counts from 0",
    ),
    "td_solution_gamma_missing": Edit(
        function="td_solution",
        old="- gamma * going_on",
        new="- going_on",
        says="gamma missing",
    ),
    "bootstraps_through_end": Edit(
        function="td_solution",
        old="(obs, next_obs), 1.0 - ended)",
        new="(obs, next_obs), 1.0)",
        says="bootstraps through an end",
    ),
    "mask_upside_down": Edit(
        function="td_solution",
        old="(obs, next_obs), 1.0 - ended)",
        new="(obs, next_obs), 1.0 * ended)",
        says="mask upside down",
    ),
    "td_solution_backwards": Edit(
        function="td_solution",
        old="(obs, next_obs), 1.0 - ended)",
        new="(next_obs, obs), 1.0 - ended)",
        says="backwards",
    ),
    "wrong_sign": Edit(
        function="td_solution",
        old="- gamma * going_on",
        new="+ gamma * going_on",
        says="wrong sign",
    ),
    "variance_not_divided_visits": Edit(
        function="standard_errors",
        old="np.diag(variance / visits)",
        new="np.diag(variance)",
        says="variance not divided by the visits",
    ),
    "standard_errors_ends_not_masked": Edit(
        function="standard_errors",
        old="+ mdp.gamma * ~batch.terminated * V",
        new="+ mdp.gamma * V",
        says="ends not masked",
    ),
    "transposed": Edit(
        function="standard_errors",
        old="inverse @ np.diag(variance / visits) @ inverse.T",
        new="inverse.T @ np.diag(variance / visits) @ inverse",
        says="transposed",
    ),
    "no_root": Edit(
        function="standard_errors",
        old="return np.sqrt(np.diag(inverse",
        new="return (np.diag(inverse",
        says="no root",
    ),
    "batchedgridworld_slip_probability_off": Edit(
        function="BatchedGridWorld",
        old="turn = (chance < self.slip / 2)",
        new="turn = (chance < self.slip)",
        says="slip probability off",
    ),
    "slips_one_side_only": Edit(
        function="BatchedGridWorld",
        old="((chance >= self.slip / 2) & (chance < self.slip))",
        new="0",
        says="slips to one side only",
    ),
    "one_throw_all": Edit(
        function="BatchedGridWorld",
        old="self.np_random.random(self.num_envs)",
        new="np.full(self.num_envs, self.np_random.random())",
        says="one throw for all",
    ),
    "hands_out_new_episode": Edit(
        function="BatchedGridWorld",
        old='{"final_obs": self.cells, "_final_obs"',
        new='{"final_obs": np.where(done, self.start, self.cells), "_final_obs"',
        says="hands out the new episode as final",
    ),
    "time_limit_step_late": Edit(
        function="BatchedGridWorld",
        old="self.elapsed >= self.max_episode_steps",
        new="self.elapsed > self.max_episode_steps",
        says="time limit a step late",
    ),
    "clock_runs_after_reset": Edit(
        function="BatchedGridWorld",
        old="            self.elapsed[done] = 0\n",
        new="",
        says="clock runs on after a reset",
    ),
    "batchedgridworld_terminated_truncated_swapped": Edit(
        function="BatchedGridWorld",
        old="return self.cells.copy(), rewards, terminated, truncated, infos",
        new="return self.cells.copy(), rewards, truncated, terminated, infos",
        says="terminated and truncated swapped",
    ),
    "pays_start_next_episode": Edit(
        function="BatchedGridWorld",
        old="        rewards = self.step_reward + self.exit_reward[self.cells]\n",
        new="        rewards = self.step_reward + 0 * self.exit_reward[self.cells]\n",
        says="pays for the start of the next episode",
    ),
}
