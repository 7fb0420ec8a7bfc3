"""The T-maze against its rules, and its exact values against all histories and a closed form."""

import itertools

import numpy as np
import pytest
import torch

from chapters.envs import tmaze
from chapters.exact import partial


def history_value(num_signs, accuracy, delay, bump, limit):
    """The best return over all policies that remember everything: no beliefs, all worlds listed."""
    worlds = []
    for side, signs in itertools.product((0, 1), itertools.product((0, 1), repeat=num_signs)):
        true = sum(sign == side for sign in signs)
        chance = 0.5 * accuracy**true * (1 - accuracy) ** (num_signs - true)
        worlds.append((chance, side, [*signs, *["corridor"] * delay, "junction"]))

    def best(group, place, left):
        """group: the worlds that agree with all that was seen on the way to `place`."""
        total = 0.0
        for seen in {world[2][place] for world in group}:
            here = [world for world in group if world[2][place] == seen]
            mass = sum(world[0] for world in here)
            if left == 0:
                continue
            options = [bump * mass + best(here, place, left - 1)]
            if place < num_signs + delay:
                options.append(best(here, place + 1, left - 1))
            else:
                options += [sum(world[0] for world in here if world[1] == side) for side in (0, 1)]
            total += max(options)
        return total

    return best(worlds, 0, limit)


@pytest.mark.parametrize(
    ("num_signs", "accuracy", "delay"), [(1, 0.9, 2), (2, 0.7, 1), (3, 0.8, 0), (3, 0.6, 1)]
)
def test_the_belief_optimum_is_that_of_all_histories_and_of_the_majority(num_signs, accuracy, delay):
    limit = num_signs + delay + 3
    found = partial.belief_optimum(num_signs, accuracy, delay, -0.1, limit)
    assert found == pytest.approx(history_value(num_signs, accuracy, delay, -0.1, limit), abs=1e-12)
    assert found == pytest.approx(partial.majority(num_signs, accuracy), abs=1e-12)
    assert partial.belief_optimum(num_signs, accuracy, delay) == pytest.approx(found)


def test_who_has_no_time_to_arrive_walks_and_earns_nothing():
    assert partial.belief_optimum(1, 0.9, 3, -0.1, 4) == 0.0
    assert partial.belief_optimum(1, 0.9, 3, -0.1, 5) == pytest.approx(0.9)


def test_the_best_policy_without_memory_is_right_half_the_time():
    for num_signs, accuracy, delay in ((1, 0.9, 3), (3, 0.8, 0)):
        assert partial.best_memoryless(num_signs, accuracy, delay) == pytest.approx(0.5)
    assert partial.best_memoryless(1, 0.9, 0, limit=1) == pytest.approx(0.0), "no time: best not to bump"


def played(maze, policy, num_batches=1):
    """Mean return of a function of obs alone, played in the maze."""
    total = 0.0
    for _ in range(num_batches):
        obs = maze.reset()
        while not (maze.terminated | maze.truncated).all():
            obs, rewards, _, _ = maze.step(policy(obs))
            total += rewards.sum()
    return total / (num_batches * maze.num_envs)


def test_the_maze_pays_what_its_exact_values_say():
    maze = tmaze.TMaze(4000, (1, 3), np.random.default_rng(0))
    always_left = played(maze, lambda obs: np.where(maze.asked(obs), tmaze.LEFT, tmaze.FORWARD))
    assert always_left == pytest.approx(0.5, abs=0.04)

    def follows(obs):
        right = np.where(maze.told[np.arange(maze.num_envs), maze.door] == 1, tmaze.RIGHT, tmaze.LEFT)
        return np.where(maze.asked(obs), right, tmaze.FORWARD)

    assert played(maze, follows) == pytest.approx(partial.belief_optimum(1, maze.accuracy, 5), abs=0.03)


def test_a_turn_terminates_and_the_time_limit_truncates():
    maze = tmaze.TMaze(2, (1, 1), np.random.default_rng(0))
    maze.reset()
    for step in range(maze.limit):
        junction = maze.place == maze.junction
        actions = np.where([True, False], np.where(junction, tmaze.LEFT, tmaze.FORWARD), tmaze.LEFT)
        _, rewards, terminated, truncated = maze.step(actions)
        assert rewards[1] == pytest.approx(tmaze.BUMP)
        assert not (terminated & truncated).any()
        assert truncated[1] == (step + 1 == maze.limit)
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]
    assert maze.step(np.array([1, 1]))[1].tolist() == [0.0, 0.0], "what is over pays nothing"
    maze = tmaze.TMaze(1, (1, 1), np.random.default_rng(0))
    maze.reset()
    while maze.num_steps < maze.limit - 1:
        maze.step(np.where(maze.place == maze.junction, tmaze.FORWARD, tmaze.FORWARD))
    _, _, terminated, truncated = maze.step(np.array([tmaze.LEFT]))
    assert (terminated[0], truncated[0]) == (True, False), "a turn at the last moment is a turn"


def test_a_maze_shows_each_door_s_sign_once_then_posters_then_one_door():
    maze = tmaze.TMaze(50, (2, 5), np.random.default_rng(2))
    seen = [maze.reset()]
    while not maze.terminated.all():
        seen.append(maze.step(np.where(maze.asked(seen[-1]), tmaze.RIGHT, tmaze.FORWARD))[0])
    seen = np.stack(seen, axis=1)
    assert (np.sort(seen[:, :4] // 2, axis=1) == np.arange(4)).all()
    told = np.take_along_axis(seen[:, :4] % 2, np.argsort(seen[:, :4] // 2, axis=1), axis=1)
    assert (told == maze.told).all()
    for row, junction in zip(seen, maze.junction):
        assert 4 + 2 <= junction <= 4 + 5
        assert ((row[4:junction] >= maze.posters_from) & (row[4:junction] < maze.doors_from)).all()
        assert row[junction] >= maze.doors_from
    for door in range(4):
        agrees = np.where(maze.told[:, door] == 1, maze.belief(door), 1 - maze.belief(door))
        assert agrees == pytest.approx(maze.accuracy)


class Scripted:
    """Remembers all; at a door it follows its sign if `obedient`, else it turns right with chance 0.3."""

    def __init__(self, obedient):
        self.obedient, self.doors_from = obedient, tmaze.TMaze(1, (1, 1), np.random.default_rng(0)).doors_from

    def write(self, obs, memory):
        return [*(memory or []), obs]

    def act(self, obs, memory):
        right = torch.full((len(obs),), 0.3)
        for row, door in enumerate((obs - self.doors_from).tolist()):
            for seen in memory if self.obedient else ():
                if seen[row] // 2 == door and seen[row] < 8:
                    right[row] = float(seen[row] % 2)
        return torch.stack([1 - right, right], dim=1).log()


def test_right_turns_are_exact_for_players_whose_chances_are_known():
    assert tmaze.right_turns(Scripted(True), [0, 2, 5], seed=0) == pytest.approx([0.9] * 3)
    assert tmaze.right_turns(Scripted(False), [0, 2, 5], seed=0) == pytest.approx([0.5] * 3)
    assert tmaze.measured(Scripted(True), 3, 0) == {"chance": pytest.approx(0.9)}
