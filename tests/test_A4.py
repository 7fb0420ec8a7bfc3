"""Lesson A4 as a whole, and the environment that it examines."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.stats import chisquare

from chapters.A_foundations import A4_gymnasium_environments as lesson
from chapters.A_foundations.checks.A3 import near
from chapters.A_foundations.checks.A4 import EDITS
from chapters.A_foundations.checks.A4_exercises import real_steps
from chapters.A_foundations.evidence import A4 as evidence
from chapters.envs import gridworld, make_envs
from chapters.exact.batches import standard_errors
from chapters.exact.mdp import evaluate_exactly, grid_mdp
from chapters.utils.edits import Edit, edited

SLIPPERY = {"slip": 0.3, "step_reward": -0.1}


# The environment


def play(module, num_steps=30_000, **options):
    """(obs, actions, rewards, next_obs, terminated, truncated) of the random policy in `module.GridWorld`."""
    env = module.GridWorld(**{**SLIPPERY, **options})
    rng, steps = np.random.default_rng(0), []
    obs, _ = env.reset(seed=0)
    for action in rng.integers(4, size=num_steps):
        next_obs, reward, terminated, truncated, _ = env.step(action)
        steps.append((obs, action, reward, next_obs, terminated, truncated))
        obs = env.reset()[0] if terminated or truncated else next_obs
    return [np.array(column) for column in zip(*steps)]


def fits_the_arrays(module):
    """Whether the program and A3's arrays are the same world, as far as 30,000 steps can tell."""
    mdp = grid_mdp(gridworld.MAP, 1.0, **SLIPPERY)
    obs, actions, rewards, next_obs, terminated, truncated = play(module)
    counts = evidence.count_transitions(obs, actions, next_obs, 12, 4)
    flat = "".join(gridworld.MAP)
    paid = np.array([-0.1 + gridworld.EXIT_REWARD.get(flat[cell], 0.0) for cell in next_obs])
    return bool(
        evidence.chi_square_p_value(counts, mdp.P) >= 1e-3
        and np.allclose(rewards, paid)
        and (terminated == mdp.terminal[next_obs]).all()
        and not truncated.any()
    )


def test_gridworld_fits_the_arrays():
    assert fits_the_arrays(gridworld)


WRONG_WORLDS = (
    ("if chance < self.slip:", "if chance < 1.1 * self.slip:", "slip off"),
    ("if chance < self.slip / 2 else -1", "if chance < self.slip / 2 else 2", "slips backwards"),
    ("if chance < self.slip / 2 else -1", "if chance < self.slip / 4 else -1", "slips unevenly"),
    ("symbol = self._symbol(self.cell)\n", "symbol = self._symbol(self.start)\n", "pays for the wrong cell"),
    ("symbol in EXIT_REWARD, False, {}", "False, symbol in EXIT_REWARD, {}", "flags swapped"),
    ('self.grid[row][column] != "#"', 'self.grid[row][column] != "!"', "walks through walls"),
    (
        "cell // self.columns + MOVES[direction][0]",
        "cell // self.columns - MOVES[direction][0]",
        "upside down",
    ),
)


@pytest.mark.parametrize("wrong", WRONG_WORLDS, ids=lambda wrong: wrong[-1])
def test_arrays_reject_a_wrong_gridworld(wrong):
    assert not fits_the_arrays(edited(gridworld, Edit("GridWorld", *wrong)))


def test_gridworld_keeps_the_contract():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in gridworld.GridWorld.metadata["render_modes"]:
            check_env(gym.make("GridWorld-v0", render_mode=mode).unwrapped)
    with pytest.raises(ValueError, match="no probability"):
        gridworld.GridWorld(slip=1.5)


def test_gridworld_shows_where_the_agent_is():
    env = gridworld.GridWorld(slip=0.0, render_mode="ansi")
    env.reset(seed=0)
    env.step(0)
    assert env.render() == "...G\n@#.P\nS..."
    env.render_mode = "rgb_array"
    picture = env.render()
    assert picture.shape == (3 * gridworld.CELL, 4 * gridworld.CELL, 3)
    assert picture.dtype == np.uint8
    agent = np.argwhere((picture == gridworld.AGENT).all(axis=-1)).mean(axis=0) // gridworld.CELL
    np.testing.assert_array_equal(agent, [1, 0])


# Many in one program


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


WRONG_BATCHES = (
    ("turn = (chance < self.slip / 2)", "turn = (chance < self.slip)", "slip probability off"),
    ("((chance >= self.slip / 2) & (chance < self.slip))", "0", "slips to one side only"),
    (
        "self.np_random.random(self.num_envs)",
        "np.full(self.num_envs, self.np_random.random())",
        "one throw for all",
    ),
    (
        '{"final_obs": self.cells, "_final_obs"',
        '{"final_obs": np.where(done, self.start, self.cells), "_final_obs"',
        "hands out the new episode as final",
    ),
    (
        "self.elapsed >= self.max_episode_steps",
        "self.elapsed > self.max_episode_steps",
        "time limit a step late",
    ),
    ("            self.elapsed[done] = 0\n", "", "clock runs on after a reset"),
    (
        "return self.cells.copy(), rewards, terminated, truncated, infos",
        "return self.cells.copy(), rewards, truncated, terminated, infos",
        "terminated and truncated swapped",
    ),
    ("+ self.exit_reward[self.cells]", "+ 0 * self.exit_reward[self.cells]", "ends pay nothing"),
    ("world._neighbour(cell, direction)", "world._neighbour(cell, 3 - direction)", "other directions"),
)


def test_batched_gridworld_is_gridworld():
    check_BatchedGridWorld(gridworld.BatchedGridWorld)


@pytest.mark.parametrize("wrong", WRONG_BATCHES, ids=lambda wrong: wrong[-1])
def test_a_wrong_batched_gridworld_is_not(wrong):
    broken = edited(gridworld, Edit("BatchedGridWorld", *wrong))
    with pytest.raises(AssertionError):
        check_BatchedGridWorld(broken.BatchedGridWorld)


# The evidence's test of a program against its arrays


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


STATISTICS = {
    "count_transitions": check_count_transitions,
    "chi_square_p_value": check_chi_square_p_value,
}
WRONG_STATISTICS = (
    Edit(
        "count_transitions",
        "np.add.at(counts, (obs, actions, next_obs), 1)",
        "counts[obs, actions, next_obs] += 1",
        "repeats are lost",
    ),
    Edit("count_transitions", "(obs, actions, next_obs), 1)", "(next_obs, actions, obs), 1)", "backwards"),
    Edit("chi_square_p_value", "return 0.0  # something", "pass  # something", "the impossible forgiven"),
    Edit("chi_square_p_value", "cells.sum() - enough.sum()", "cells.sum()", "a degree of freedom too many"),
    Edit(
        "chi_square_p_value", "/ expected[cells])", "/ np.maximum(counts[cells], 1))", "divides by the counts"
    ),
    Edit("chi_square_p_value", "chi2.sf(", "chi2.cdf(", "other tail"),
    Edit("chi_square_p_value", ".min(axis=2) >= 5", ".min(axis=2) >= 0", "rare pairs kept"),
)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_meets_its_definition(name):
    STATISTICS[name](getattr(evidence, name))


@pytest.mark.parametrize("edit", WRONG_STATISTICS, ids=lambda edit: f"{edit.function}: {edit.says}")
def test_a_wrong_statistic_is_noticed(edit):
    wrong = getattr(edited(evidence, edit), edit.function)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        STATISTICS[edit.function](wrong)


# The lesson as a whole


def worst_error(module):
    """Largest error of the values learned from `module.collect`, in standard errors."""
    mdp = grid_mdp(gridworld.MAP, 0.95, slip=0.2, step_reward=-0.04)
    exact = evaluate_exactly(mdp, np.full(mdp.R.shape, 0.25))
    batch = module.collect(gridworld.BatchedGridWorld(64, max_episode_steps=12), 1500, 1)
    learned = batch.obs, batch.rewards, batch.next_obs, batch.terminated
    V = lesson.td_solution(*learned, 0.95, 12)
    floor = ~mdp.terminal
    return np.max(np.abs(V - exact)[floor] / standard_errors(mdp, exact, *learned)[floor])


@pytest.mark.parametrize("name", ["first_obs_for_last", "final_obs_forgotten", "merged"])
def test_values_are_right_only_with_the_right_successor_and_mask(name):
    assert worst_error(lesson) < 4
    assert worst_error(edited(lesson, EDITS[name])) > 6


def test_with_a_long_limit_hardly_any_episode_is_truncated():
    """Exercise A4.4."""
    batch = lesson.collect(gridworld.BatchedGridWorld(64, max_episode_steps=200), 2000, 0)
    assert batch.truncated.sum() < 0.02 * batch.terminated.sum()


def test_without_its_dummies_a_next_step_batch_is_right():
    """Exercise A4.3."""
    mdp = grid_mdp(gridworld.MAP, 0.95, slip=0.2, step_reward=-0.04)
    exact = evaluate_exactly(mdp, np.full(mdp.R.shape, 0.25))
    worlds = [lambda: gym.make("GridWorld-v0", max_episode_steps=5)] * 16
    batch = lesson.collect(gym.vector.SyncVectorEnv(worlds), 1500, 1)
    off, floor = [], ~mdp.terminal
    for kept in (real_steps(batch.terminated, batch.truncated), np.ones_like(batch.terminated)):
        learned = [x[kept] for x in (batch.obs, batch.rewards, batch.returned_obs, batch.terminated)]
        V = lesson.td_solution(*learned, 0.95, 12)
        off.append(np.max(np.abs(V - exact)[floor] / standard_errors(mdp, exact, *learned)[floor]))
    assert off[0] < 4
    assert off[1] > 5


def test_action_spaces_have_a_generator_of_their_own():
    """Section 5: resetting with a seed does not touch it, and the environment's own is default_rng's."""
    env = gym.make("GridWorld-v0")
    env.reset(seed=7)
    assert env.unwrapped.np_random.random() == np.random.default_rng(7).random()
    env.action_space.seed(1)
    first = [env.action_space.sample() for _ in range(20)]
    env.action_space.seed(1)
    env.reset(seed=7)
    assert [env.action_space.sample() for _ in range(20)] == first


def test_seeds_by_hand_make_the_same_steps_over_several_episodes_and_other_seeds_do_not(monkeypatch):
    assert evidence.seed_differences(3, 120, seed=5) == 0
    assert lesson.collect(make_envs("GridWorld-v0", 3), 120, 5).terminated.sum() > 3, "episodes did end"
    collect = lesson.collect
    monkeypatch.setattr(lesson, "collect", lambda envs, steps, seed: collect(envs, steps, seed + 1))
    assert evidence.seed_differences(3, 120, seed=5) > 0
