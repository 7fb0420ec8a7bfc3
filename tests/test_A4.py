"""Lesson A4 as a whole, and the environment that it examines."""

import inspect
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from chapters.A_foundations import A3_mdp_and_bellman as A3
from chapters.A_foundations import A4_gymnasium_environments as A4
from chapters.course.planting import plant
from chapters.envs import gridworld

SLIPPERY = {"slip": 0.3, "step_reward": -0.1}


@pytest.mark.parametrize("name", ["MDP", "grid_mdp", "evaluate_exactly"])
def test_copies_of_A3_are_to_the_letter(name):
    source = inspect.getsource(getattr(A4, name))
    assert source == inspect.getsource(getattr(A3, name))


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
    mdp = A3.grid_mdp(gridworld.MAP, 1.0, **SLIPPERY)
    obs, actions, rewards, next_obs, terminated, truncated = play(module)
    counts = A4.count_transitions(obs, actions, next_obs, 12, 4)
    flat = "".join(gridworld.MAP)
    paid = np.array([-0.1 + gridworld.EXIT_REWARD.get(flat[cell], 0.0) for cell in next_obs])
    return bool(
        A4.chi_square_p_value(counts, mdp.P) >= 1e-3
        and np.allclose(rewards, paid)
        and (terminated == mdp.terminal[next_obs]).all()
        and not truncated.any()
    )


def test_gridworld_fits_the_arrays():
    assert fits_the_arrays(gridworld)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if chance < self.slip:", "if chance < 1.1 * self.slip:"),
        ("if chance < self.slip / 2 else -1", "if chance < self.slip / 2 else 2"),
        ("if chance < self.slip / 2 else -1", "if chance < self.slip / 4 else -1"),
        ("symbol = self._symbol(self.cell)\n", "symbol = self._symbol(self.start)\n"),
        ("symbol in EXIT_REWARD, False, {}", "False, symbol in EXIT_REWARD, {}"),
        ('self.grid[row][column] != "#"', 'self.grid[row][column] != "!"'),
        ("cell // self.columns + MOVES[direction][0]", "cell // self.columns - MOVES[direction][0]"),
    ],
    ids=["slip off", "slips backwards", "slips unevenly", "pays for the wrong cell", "flags swapped",
         "walks through walls", "upside down"],
)  # fmt: skip
def test_arrays_reject_a_wrong_gridworld(old, new):
    assert not fits_the_arrays(plant(gridworld, old, new))


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


def test_the_film_plays_A3s_best_policy():
    _, policy, _ = A3.policy_iteration(A3.world_4x3())
    floor = ~A3.world_4x3().terminal
    np.testing.assert_array_equal(policy.argmax(axis=1)[floor], np.array(A4.BEST_POLICY)[floor])


def worst_error(module):
    """Largest error of the values learned from `module.collect`, in standard errors."""
    mdp = A4.grid_mdp(A4.MAP, 0.95, slip=0.2, step_reward=-0.04)
    exact = A4.evaluate_exactly(mdp, np.full(mdp.R.shape, 0.25))
    batch = module.collect(A4.BatchedGridWorld(64, max_episode_steps=12), 1500, 1)
    V = A4.td_solution(batch.obs, batch.rewards, batch.next_obs, batch.terminated, 0.95, 12)
    floor = ~mdp.terminal
    errors = A4.standard_errors(mdp, exact, A4.Batch(*batch))
    return np.max(np.abs(V - exact)[floor] / errors[floor])


def test_values_are_right_only_with_the_right_successor_and_mask():
    assert worst_error(A4) < 4
    right = "true_next_obs(returned_obs, terminated | truncated, infos)"
    assert worst_error(plant(A4, right, "returned_obs")) > 6
    assert worst_error(plant(A4, right, "true_next_obs(returned_obs, terminated, infos)")) > 6
    columns = "next_obs, terminated, truncated))"
    assert worst_error(plant(A4, columns, "next_obs, terminated | truncated, truncated))")) > 6
