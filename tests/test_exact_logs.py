"""Expectiles, in-sample optima and counted worlds, against definitions written out."""

import itertools

import numpy as np
import pytest

from chapters.exact import logs
from chapters.exact.mdp import evaluate_exactly, policy_iteration, q_from_v, random_mdp
from chapters.utils.edits import Edit, edited


def check_expectile(expectile):
    """At an expectile tau times what lies above is 1 - tau times what lies below."""
    rng = np.random.default_rng(0)
    for num_states, num_actions in ((1, 1), (3, 2), (5, 6)):
        values = rng.normal(size=(num_states, num_actions))
        chances = rng.dirichlet(np.ones(num_actions), size=num_states)
        for tau in (0.05, 0.5, 0.9, 0.999):
            for m, row, share in zip(expectile(values, chances, tau), values, chances):
                above = sum(p * max(q - m, 0.0) for p, q in zip(share, row))
                below = sum(p * max(m - q, 0.0) for p, q in zip(share, row))
                assert tau * above == pytest.approx((1 - tau) * below, abs=1e-12)
    never = expectile(np.array([[0.0, 5.0]]), np.array([[1.0, 0.0]]), 0.9)
    assert never == pytest.approx(0.0), "what is never taken does not count"


def behaviour_with_gaps(rng, num_states, num_actions):
    behaviour = rng.dirichlet(np.ones(num_actions), size=num_states)
    behaviour[np.arange(num_states), rng.integers(num_actions, size=num_states)] = 0.0
    return behaviour / behaviour.sum(axis=1, keepdims=True)


def check_in_sample_values(in_sample_values):
    """At the fixed point V is the expectile of its own backups; at tau 0.5 it is the behaviour's value."""
    rng = np.random.default_rng(1)
    mdp = random_mdp(rng, 4, 3, gamma=0.8)
    behaviour = behaviour_with_gaps(rng, 4, 3)
    np.testing.assert_allclose(in_sample_values(mdp, behaviour, 0.5, 200), evaluate_exactly(mdp, behaviour))
    V = in_sample_values(mdp, behaviour, 0.9, 200)
    np.testing.assert_allclose(logs.expectile(q_from_v(mdp, V), behaviour, 0.9), V, atol=1e-12)
    assert in_sample_values(mdp, behaviour, 0.9, 1) == pytest.approx(logs.expectile(mdp.R, behaviour, 0.9))


def check_best_in_data(best_in_data):
    """The best of all deterministic policies that take only what is taken."""
    rng = np.random.default_rng(2)
    for _ in range(4):
        mdp, behaviour = random_mdp(rng, 3, 3, gamma=0.7), behaviour_with_gaps(rng, 3, 3)
        allowed = [np.flatnonzero(row) for row in behaviour]
        values = [evaluate_exactly(mdp, np.eye(3)[list(actions)]) for actions in itertools.product(*allowed)]
        np.testing.assert_allclose(best_in_data(mdp, behaviour), np.max(values, axis=0), atol=1e-10)
    everything = np.full((3, 3), 1 / 3)
    np.testing.assert_allclose(best_in_data(mdp, everything), policy_iteration(mdp)[0], atol=1e-10)


def check_counted(counted):
    log = {
        "obs": np.array([0, 0, 0, 1, 1]),
        "actions": np.array([0, 0, 1, 0, 0]),
        "rewards": np.array([1.0, 2.0, 5.0, 1.0, 1.0]),
        "next_obs": np.array([1, 0, 2, 2, 0]),
        "terminated": np.array([False, False, True, True, False]),
    }
    world = counted(log, 3, 2, 0.9)
    expected = np.zeros((3, 2, 3))
    expected[0, 0] = [0.5, 0.5, 0.0]
    expected[1, 0] = [0.5, 0.0, 0.0]  # the other time it ended
    np.testing.assert_allclose(world.P, expected)
    np.testing.assert_allclose(world.R, [[1.5, 5.0], [1.0, 0.0], [0.0, 0.0]])
    assert world.gamma == 0.9


CHECKS = {
    "expectile": check_expectile,
    "in_sample_values": check_in_sample_values,
    "best_in_data": check_best_in_data,
    "counted": check_counted,
}


@pytest.mark.parametrize("name", CHECKS)
def test_function_meets_its_definition(name):
    CHECKS[name](getattr(logs, name))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("expectile", "values < found", "values > found"),
        ("expectile", "range(values.shape[1] + 1)", "range(1)"),
        ("expectile", "weights = chances * np.abs", "weights = np.abs"),
        ("in_sample_values", "behaviour, tau)", "behaviour, 0.5)"),
        ("in_sample_values", "q_from_v(mdp, V)", "mdp.R"),
        ("best_in_data", "taken = behaviour > 0", "taken = behaviour >= 0"),
        ("best_in_data", "best = behaviour.argmax(axis=1)", "best = behaviour.argmin(axis=1)"),
        ("best_in_data", "mdp.R[rows, best][:, None])", "0.0)"),
        ("counted", '~log["terminated"]', "1"),
        ("counted", "sums / visits,", "sums,"),
        ("counted", "counts / visits[:, :, None]", "counts / np.maximum(counts.sum(axis=2), 1)[:, :, None]"),
        ("counted", 'np.add.at(visits, (log["obs"], log["actions"]), 1)', "visits += 1"),
    ],
)
def test_planted_errors_are_noticed(name, old, new):
    wrong = edited(logs, Edit(name, old, new, "wrong"))
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        CHECKS[name](getattr(wrong, name))
