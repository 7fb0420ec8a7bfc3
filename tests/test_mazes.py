"""The mazes that change, their finer versions, and how long their best ways are."""

from collections import deque

import numpy as np
import pytest

from chapters.envs.gridworld import GridWorld
from chapters.envs.mazes import BOTH_GAPS, GAP_LEFT, GAP_RIGHT, MAZE, Mazes, finer
from chapters.exact import mazes as exact
from chapters.exact.mazes import fewest_steps, steps_from_start
from chapters.exact.mdp import grid_mdp
from chapters.exact.time_limits import Model, best_within
from chapters.utils.edits import Edit, edited

GRIDS = {"maze": (MAZE, 14), "right": (GAP_RIGHT, 10), "left": (GAP_LEFT, 16), "both": (BOTH_GAPS, 10)}


def search(grid) -> dict[int, int]:
    """Steps from every cell to the goal, by breadth-first search from the goal."""
    world = GridWorld(grid, slip=0.0)
    goal, cells = "".join(grid).index("G"), range(len("".join(grid)))
    found, line = {goal: 0}, deque([goal])
    while line:
        here = line.popleft()
        for cell in cells:
            if "".join(grid)[cell] == "#" or cell in found:
                continue
            if any(world._neighbour(cell, move) == here for move in range(4)):
                found[cell] = found[here] + 1
                line.append(cell)
    return found


@pytest.mark.parametrize("name", GRIDS)
def test_shortest_ways_are_the_published_ones(name):
    grid, published = GRIDS[name]
    assert steps_from_start(grid) == pytest.approx(published)
    steps = fewest_steps(grid_mdp(grid, 0.9))
    for cell, distance in search(grid).items():
        assert steps[cell] == pytest.approx(distance)


def test_steps_of_those_who_explore_are_the_limit_of_a_long_clock():
    mdp = grid_mdp(MAZE, 1.0)
    cost = np.where(mdp.terminal, 0.0, -1.0)[:, None] * np.ones_like(mdp.R)
    model = Model(mdp.P * ~mdp.terminal, cost, np.zeros(len(mdp.R)))
    for epsilon in (0.1, 0.5):
        np.testing.assert_allclose(fewest_steps(mdp, epsilon), -best_within(model, 3000, epsilon), rtol=1e-6)


def test_random_walks_take_as_long_as_told():
    """Epsilon 1 leaves no choice: the mean of random walks, within five standard errors."""
    envs, rng = Mazes(4000, ("S.", ".G")), np.random.default_rng(0)
    envs.reset(seed=0)
    lengths, running = np.zeros(4000), np.ones(4000, dtype=bool)
    while running.any():
        lengths += running
        running &= ~envs.step(rng.integers(4, size=4000))[2]
    assert abs(lengths.mean() - steps_from_start(("S.", ".G"), 1.0)) < 5 * lengths.std() / 4000**0.5


@pytest.mark.parametrize(
    ("old", "new"),
    [("(1 - epsilon) * mdp.P + epsilon", "epsilon * mdp.P + (1 - epsilon)"), ("0.0, -1.0)", "-1.0, -1.0)")],
)
def test_wrong_steps_are_noticed(old, new):
    wrong = edited(exact, Edit("fewest_steps", old, new, "wrong"))
    try:
        found = wrong.fewest_steps(grid_mdp(MAZE, 0.9), 0.1)
    except RuntimeError:
        return
    assert not np.allclose(found, fewest_steps(grid_mdp(MAZE, 0.9), 0.1))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_finer_mazes_have_their_cells(factor):
    grid = finer(MAZE, factor)
    assert (len(grid), len(grid[0])) == (6 * factor, 9 * factor)
    text = "".join(grid)
    assert (text.count("#"), text.count("G"), text.count("S")) == (7 * factor**2, 1, 1)
    for row, column in np.ndindex(6, 9):
        block = {grid[row * factor + i][column * factor + j] for i in range(factor) for j in range(factor)}
        assert ("#" in block) == (MAZE[row][column] == "#")
        assert (MAZE[row][column] in "GS") <= (MAZE[row][column] in block)


def test_a_maze_changes_after_so_many_steps_and_pays_at_its_goal():
    """Four walkers go up at the left edge, where the wall opens after the third step."""
    envs = Mazes(4, GAP_RIGHT, GAP_LEFT, change_after=3)
    obs, _ = envs.reset(seed=0)
    assert (obs == 5 * 9 + 3).all()
    envs.cells = np.array([36, 36, 1 * 9 + 8, 36])  # below the left gap; one stands below the goal
    moves = np.zeros(4, dtype=int)
    obs, rewards, terminated, truncated, infos = envs.step(moves)
    assert obs.tolist() == [36, 36, 48, 36]  # the wall holds; the third is back at the start
    assert infos["final_obs"][2] == 8
    assert rewards.tolist() == [0, 0, 1, 0]
    assert terminated.tolist() == [False, False, True, False]
    assert not truncated.any()
    seen = [envs.step(moves)[0][0] for _ in range(4)]
    assert seen == [36, 36, 27, 18]
    envs.reset(seed=0)
    envs.cells = np.full(4, 36)
    assert envs.step(moves)[0].tolist() == [36] * 4, "a reset closes the gap again"
