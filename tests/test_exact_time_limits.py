"""Values before the clock runs out, against every trajectory and policy, linear solves, episodes played."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

from chapters.exact import time_limits
from chapters.exact.time_limits import Model
from chapters.utils.edits import Edit, edited


def some_model(seed, num_states=3, num_actions=2):
    """A random world in which every step ends the episode with a chance between 0 and 1."""
    rng = np.random.default_rng(seed)
    with_end = rng.dirichlet(np.ones(num_states + 1), size=(num_states, num_actions))  # last column: the end
    start = rng.dirichlet(np.ones(num_states))
    return rng, Model(with_end[:, :, :num_states], rng.normal(size=(num_states, num_actions)), start)


def walk_sum(model, policy_at, state, step, horizon):
    """Expected return from `state` by following every possible trajectory; policy_at(step)[s, a]."""
    if step == horizon:
        return 0.0
    total = 0.0
    for action, chance in enumerate(policy_at(step)[state]):
        total += chance * model.rewards[state, action]
        for successor, probability in enumerate(model.transitions[state, action]):
            total += chance * probability * walk_sum(model, policy_at, successor, step + 1, horizon)
    return total


class TableWorld(gym.Env):
    """An environment that is only its table: two states, two actions, outcomes that name a state twice."""

    P = {  # noqa: RUF012 — the shape gymnasium gives it
        0: {0: [(0.25, 0, 2, False), (0.5, 1, -4, False), (0.25, 0, 6, False)], 1: [(1.0, 1, 3, True)]},
        1: {0: [(0.7, 1, 1, True), (0.3, 1, 1, False)], 1: [(0.5, 0, 0, False), (0.5, 1, 8, True)]},
    }
    initial_state_distrib = np.array([0.75, 0.25])


def check_read_model(module):
    model = module.read_model(TableWorld())
    expected = [[[0.5, 0.5], [0.0, 0.0]], [[0.0, 0.3], [0.5, 0.0]]]
    np.testing.assert_allclose(model.transitions, expected, atol=1e-12)
    np.testing.assert_allclose(model.rewards, [[0.0, 3.0], [1.0, 4.0]], atol=1e-12)
    np.testing.assert_allclose(model.start, [0.75, 0.25])


def check_value_iteration(module):
    """The best of all deterministic policies, each solved as a linear system."""
    for seed, gamma in ((0, 0.9), (1, 0.5), (2, 0.99), (3, 1.0)):
        _, model = some_model(seed, num_states=4, num_actions=3)
        states = np.arange(4)
        best = np.full(4, -np.inf)
        for actions in itertools.product(range(3), repeat=4):
            chain = model.transitions[states, list(actions)]
            values = np.linalg.solve(np.eye(4) - gamma * chain, model.rewards[states, list(actions)])
            best = np.maximum(best, values)
        expected = [
            [model.rewards[s, a] + gamma * model.transitions[s, a] @ best for a in range(3)] for s in states
        ]
        np.testing.assert_allclose(module.value_iteration(model, gamma), expected, atol=1e-7)


def check_any_scale(module):
    """Rewards in other units: the same values in those units, and the same policy."""
    _, model = some_model(5)
    q = module.value_iteration(model, 0.9)
    for unit in (1e-14, 1e14):
        scaled = module.value_iteration(model._replace(rewards=unit * model.rewards), 0.9)
        np.testing.assert_allclose(scaled, unit * q, rtol=1e-7)
        np.testing.assert_array_equal(module.greedy_policy(scaled), module.greedy_policy(q))
    # beside a state that pays much and ends at once: it does not hide that the others have not settled
    beside = np.zeros((4, 2, 4))
    beside[:3, :, :3] = model.transitions
    both = Model(beside, np.concatenate([model.rewards, [[1e6, 0.0]]]), np.zeros(4))
    np.testing.assert_allclose(module.value_iteration(both, 0.9)[:3], q, rtol=1e-7)


def check_greedy_policy(module):
    q = np.array([[1.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-5.0, -2.0, -3.0, -9.0]])
    q[0, 2] += 1e-13  # rounding does not break a tie
    expected = [[0, 0.5, 0.5, 0], [0.25] * 4, [0, 1, 0, 0]]
    np.testing.assert_allclose(module.greedy_policy(q), expected)
    np.testing.assert_allclose(module.greedy_policy(np.zeros((2, 4))), np.full((2, 4), 0.25))


def check_with_exploration(module):
    found = module.with_exploration(np.array([[1.0, 0.0], [0.5, 0.5]]), 0.2)
    np.testing.assert_allclose(found, [[0.9, 0.1], [0.5, 0.5]])


def check_value_within(module):
    """The sum over all trajectories, for several horizons: one step too few or too many shows."""
    for seed, horizon in itertools.product(range(3), (0, 1, 2, 4)):
        rng, model = some_model(seed)
        policy = rng.dirichlet(np.ones(2), size=3)
        expected = [walk_sum(model, lambda step: policy, s, 0, horizon) for s in range(3)]  # noqa: B023
        np.testing.assert_allclose(module.value_within(model, policy, horizon), expected, atol=1e-12)


def check_best_within(module):
    """The best of all policies that may choose differently at every step, exploring at rate epsilon."""
    for seed, epsilon in ((0, 0.0), (1, 0.0), (2, 0.3), (3, 1.0)):
        _, model = some_model(seed, num_states=2)
        for horizon in (1, 3):
            best = np.full(2, -np.inf)
            for choice in itertools.product(range(2), repeat=2 * horizon):
                actions = np.reshape(choice, (horizon, 2))
                plan = (1 - epsilon) * np.eye(2)[actions] + epsilon / 2  # [horizon, S, A]
                values = [walk_sum(model, plan.__getitem__, s, 0, horizon) for s in range(2)]
                best = np.maximum(best, values)
            np.testing.assert_allclose(module.best_within(model, horizon, epsilon), best, atol=1e-12)


def check_returns(module):
    """Of whole episodes, from the start's distribution: every trajectory of the small world."""
    env = TableWorld()
    model = Model(*time_limits.read_model(env))
    even = np.full((2, 2), 0.5)
    expected = [walk_sum(model, lambda step: even, s, 0, 3) for s in range(2)]
    assert module.expected_return(env, even, 3) == pytest.approx(0.75 * expected[0] + 0.25 * expected[1])
    best = time_limits.best_within(model, 3)
    assert module.best_return(env, 3) == pytest.approx(0.75 * best[0] + 0.25 * best[1])
    around, exploring = module.exploring_returns(env, 0.4, 60)
    plans = [np.eye(2)[list(actions)] for actions in itertools.product(range(2), repeat=2)]
    exact = [stationary_return(model, 0.6 * plan + 0.2) for plan in plans]
    greedy = [stationary_return(model, plan) for plan in plans]
    assert exploring == pytest.approx(max(exact), abs=1e-6)
    assert around == pytest.approx(exact[int(np.argmax(greedy))], abs=1e-6)


def stationary_return(model, policy):
    """Without a clock, by a linear solve."""
    chain = np.einsum("sa,sat->st", policy, model.transitions)
    return model.start @ np.linalg.solve(np.eye(len(chain)) - chain, (policy * model.rewards).sum(axis=1))


CHECKS = [check for name, check in globals().items() if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS)
def test_answers(check):
    check(time_limits)


WRONG = {
    "keeps terminal successors": (check_read_model, "probability * (not terminated)", "probability"),
    "drops the successors that go on": (check_read_model, "(not terminated)", "terminated"),
    "forgets the probability of a reward": (check_read_model, "+= probability * reward", "+= reward"),
    "overwrites a successor": (check_read_model, "action, successor] +=", "action, successor] ="),
    "forgets the discount": (check_value_iteration, "gamma * model.transitions @ q", "model.transitions @ q"),
    "worst action": (check_value_iteration, "q.max(axis=1)\n        sizes", "q.min(axis=1)\n        sizes"),
    "stops too soon": (check_value_iteration, "<= np.maximum(TOL", ">= np.maximum(TOL"),
    "absolute tolerance": (check_any_scale, "TOLERANCE * sizes, ", "TOLERANCE, "),
    "measured by the largest": (check_any_scale, "TOLERANCE * sizes, ", "TOLERANCE * sizes.max(), "),
    "absolute ties": (check_any_scale, "- TIE * np.abs(q).max()", "- TIE"),
    "rounding breaks ties": (check_greedy_policy, " - TIE * np.abs(q).max()", ""),
    "weights only": (check_greedy_policy, "best / best.sum(axis=1, keepdims=True)", "best * 1.0"),
    "explores too much": (check_with_exploration, "epsilon / policy.shape[1]", "epsilon"),
    "one step too few": (check_value_within, "horizon):\n        values", "horizon - 1):\n        values"),
    "one step too many": (check_value_within, "horizon):\n        values", "horizon + 1):\n        values"),
    "wrong sign of the reward": (check_value_within, "(policy * (model.rewards", "(policy * (-model.rewards"),
    "ignores the policy": (check_value_within, "(policy * (model.rewards", "(0.5 * (model.rewards"),
    "optimum one step too few": (check_best_within, "horizon):\n        q", "horizon - 1):\n        q"),
    "average for maximum": (check_best_within, "epsilon) * q.max(axis=1)", "epsilon) * q.mean(axis=1)"),
    "explores by the sum": (check_best_within, "epsilon * q.mean(axis=1)", "epsilon * q.sum(axis=1)"),
    "any start": (check_returns, "model.start @ value_within", "model.start[::-1] @ value_within"),
    "any best start": (check_returns, "model.start @ best_within", "model.start[::-1] @ best_within"),
    "does not explore": (check_returns, "with_exploration(optimal, epsilon), horizon)", "optimal, horizon)"),
    "best without exploring": (check_returns, "(env, horizon, epsilon)", "(env, horizon)"),
}  # fmt: skip


@pytest.mark.parametrize(("check", "old", "new"), WRONG.values(), ids=WRONG)
def test_a_wrong_version_is_noticed(check, old, new):
    with pytest.raises(AssertionError):
        check(edited(time_limits, Edit("", old, new, "wrong")))


def test_a_world_without_a_finite_answer_is_refused(monkeypatch):
    """A reward of 1 for ever, undiscounted: no loop without an end, and no number."""
    monkeypatch.setattr(time_limits, "MAX_SWEEPS", 1000)
    endless = Model(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones(1))
    with pytest.raises(RuntimeError, match="does every episode end"):
        time_limits.value_iteration(endless, 1.0)
    np.testing.assert_allclose(time_limits.value_iteration(endless, 0.9), 10.0)
    beside_much = Model(np.diag([1.0, 0.0])[:, None], np.array([[0.5], [1e12]]), np.ones(2))
    with pytest.raises(RuntimeError, match="does every episode end"):
        time_limits.value_iteration(beside_much, 1.0)


def test_episodes_played_agree():
    """Value iteration's policy on the slippery lake: within four standard errors of the exact success."""
    env = gym.make("FrozenLake-v1")
    q = time_limits.value_iteration(time_limits.read_model(env), 0.99)
    exact = time_limits.expected_return(env, time_limits.greedy_policy(q))
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
