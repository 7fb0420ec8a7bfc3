"""Lesson B1's learner on worlds with known answers, and what becomes of it with a bug inside."""

import random

import gymnasium as gym
import numpy as np
import pytest

import chapters.B_core_algorithms.B1_tabular_q_learning as lesson
from chapters.course.planting import plant
from chapters.envs import registration  # noqa: F401 — makes the environments known to gymnasium

STEPS = 1000


def probe(name: str) -> gym.Env:
    """A probe environment whose observation -1, 0 or 1 is a row number."""
    env = gym.make(f"Probe{name}-v0")
    return gym.wrappers.TransformObservation(env, lambda obs: int(obs[0]) + 1, gym.spaces.Discrete(3))


def table(name: str, sarsa: bool, module=lesson, **settings) -> np.ndarray:
    return module.learn(probe(name), module.Settings(gamma=0.9, sarsa=sarsa, **settings), STEPS, seed=0)[0]


@pytest.mark.parametrize("sarsa", [False, True], ids=["q_learning", "sarsa"])
def test_solves_the_probe_environments(sarsa):
    assert table("ConstantReward", sarsa)[1, 0] == pytest.approx(1.0)
    np.testing.assert_allclose(table("RewardByObservation", sarsa)[[0, 2], 0], [-1, 1])
    np.testing.assert_allclose(table("DelayedReward", sarsa)[[1, 2], 0], [0.9, 1.0], rtol=0.01)
    np.testing.assert_allclose(table("ActionMatters", sarsa)[1], [-1, 1])
    np.testing.assert_allclose(table("BothMatter", sarsa)[[0, 2]], [[1, -1], [-1, 1]])


@pytest.mark.parametrize("sarsa", [False, True], ids=["q_learning", "sarsa"])
def test_bootstraps_at_a_time_limit(sarsa):
    assert table("Endless", sarsa)[1, 0] == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize(
    ("sarsa", "call"),
    [(False, "q_learning_target(reward, q[next_obs], "), (True, "q[next_obs], next_action, ")],
    ids=["q_learning", "sarsa"],
)
def test_merging_terminated_and_truncated_is_noticed(sarsa, call):
    merged = plant(lesson, f"{call}terminated, settings", f"{call}terminated or truncated, settings")
    value = table("Endless", sarsa, merged)[1, 0]
    assert value == pytest.approx(1 / (1 - 0.9 * 0.9), rel=0.1)  # the wrong fixed point, 5.3
    with pytest.raises(AssertionError):
        assert value == pytest.approx(10.0, rel=0.02)


class RandomWorld(gym.Env):
    """Five states, three actions, a random table with rewards and ends everywhere: all is soon seen."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.observation_space, self.action_space = gym.spaces.Discrete(5), gym.spaces.Discrete(3)
        self.initial_state_distrib = np.full(5, 0.2)
        self.P = {s: {a: self.outcomes(rng) for a in range(3)} for s in range(5)}

    def outcomes(self, rng: np.random.Generator) -> list[tuple[float, int, float, bool]]:
        ends = [False] * 4 + [bool(rng.random() < 0.5)]
        return [(0.2, int(rng.integers(5)), float(rng.normal(1.0)), end) for end in ends]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(5))
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        _, self.state, reward, terminated = self.P[self.state][action][int(self.np_random.integers(5))]
        return self.state, reward, terminated, False, {}


def gaps_to_the_exact_tables(module) -> tuple[float, float]:
    """How far Q-learning ends from Q* and SARSA from Q of the random policy, when both act at random."""
    env, gamma = gym.wrappers.TimeLimit(RandomWorld(), 6), 0.8
    model = module.read_model(env)
    settings = {"gamma": gamma, "alpha_power": 0.8, "epsilon": 1.0}
    learned = [
        module.learn(env, module.Settings(sarsa=sarsa, **settings), 15_000, seed=0)[0]
        for sarsa in (False, True)
    ]
    best = module.value_iteration(model, gamma)
    chain = model.transitions.mean(axis=1)
    values = np.linalg.solve(np.eye(len(chain)) - gamma * chain, model.rewards.mean(axis=1))
    exact = [best, model.rewards + gamma * model.transitions @ values]
    return tuple(float(np.abs(a - b).max()) for a, b in zip(learned, exact))


def test_each_algorithm_finds_the_values_of_its_own_policy():
    assert max(gaps_to_the_exact_tables(lesson)) < 0.3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if settings.sarsa:", "if not settings.sarsa:"),
        ("q[obs][action] = td_update", "q[next_obs][action] = td_update"),
        ("sarsa_target(reward, q[next_obs], next_action", "sarsa_target(reward, q[next_obs], action"),
        ("q_learning_target(reward, q[next_obs], t", "q_learning_target(reward, q[obs], t"),
        ("visits[obs][action] += 1", "visits[obs][action] = 1"),
        ("obs, episode_return = env.reset()[0], 0.0", "_, episode_return = env.reset()[0], 0.0"),
        ("next_action, terminated, settings", "next_action, terminated or truncated, settings"),
        (
            "q_learning_target(reward, q[next_obs], terminated",
            "q_learning_target(reward, q[next_obs], terminated or truncated",
        ),
    ],
    ids=[
        "algorithms swapped", "wrong row", "wrong action", "present state's maximum", "no decay",
        "start of the next episode lost", "sarsa stops at a time limit", "q-learning stops at a time limit",
    ],
)  # fmt: skip
def test_planted_errors_in_the_loop_are_noticed(old, new):
    assert max(gaps_to_the_exact_tables(plant(lesson, old, new))) > 0.3


def test_first_maximum_argmax_never_finds_the_goal():
    planted = plant(lesson, "if row.count(best) == 1:", "if True:")
    goals = {}
    for module in (lesson, planted):
        env = gym.make("FrozenLake-v1", is_slippery=False)
        goals[module] = sum(module.learn(env, module.Settings(gamma=0.95), 10_000, seed=0)[2])
    assert goals[lesson] > 10
    assert goals[planted] == 0


def test_returns_and_ends_of_episodes():
    """Every episode of the delayed reward takes two steps and returns 1."""
    _, ends, returns = lesson.learn(probe("DelayedReward"), lesson.Settings(), 100, seed=0)
    assert ends == list(range(2, 101, 2))
    assert returns == [1.0] * 50


def test_exploration_falls_in_a_line_and_stays():
    seen = []

    def choose(row: list[float], epsilon: float, rng: random.Random) -> int:
        seen.append(epsilon)
        return 0

    settings = lesson.Settings(epsilon=0.2, anneal=0.5, choose=choose)
    lesson.learn(probe("Endless"), settings, 20, seed=0)
    chosen = seen[:1] + [value for i, value in enumerate(seen[1:], 1) if i not in (11, 22)]  # after resets
    assert chosen[0] == 1.0
    np.testing.assert_allclose(chosen[1:11], 1 - 0.8 * np.arange(1, 11) / 10)
    assert set(chosen[11:]) == {0.2}


def test_exact_success_agrees_with_sampled_episodes():
    """Value iteration's policy, played: within four standard errors of eq. (2)."""
    env = lesson.make_lake("4x4")
    q = lesson.value_iteration(lesson.read_model(env), 0.99)
    exact = lesson.start_value(env, lesson.greedy_policy(q))
    wins, num_episodes = 0.0, 400
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=episode)
        done = False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(int(q[obs].argmax()))
            done = terminated or truncated
        wins += float(reward)
    error = np.sqrt(exact * (1 - exact) / num_episodes)
    assert abs(wins / num_episodes - exact) < 4 * error
