"""Plans of a fixed length, and the moments of what an episode collects, against every walk written out."""

import itertools

import numpy as np
import pytest

from chapters.exact import finite_horizon
from chapters.utils.edits import Edit, edited


def small_world(seed, num_steps, num_states, num_actions):
    """(P, rewards, policy, features, start), all at random."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    rewards = rng.normal(size=(num_steps, num_states, num_actions))
    policy = rng.dirichlet(np.ones(num_actions), size=(num_steps, num_states))
    return P, rewards, policy, rng.normal(size=(num_states, 2)), rng.dirichlet(np.ones(num_states))


def walks(P, policy, start):
    """(chance, states, actions) of every walk."""
    num_steps, num_states, num_actions = policy.shape
    for states in itertools.product(range(num_states), repeat=num_steps + 1):
        for actions in itertools.product(range(num_actions), repeat=num_steps):
            chance = start[states[0]]
            for t, a in enumerate(actions):
                chance *= policy[t, states[t], a] * P[states[t], a, states[t + 1]]
            yield chance, states, actions


SHAPES = ((3, 3, 2), (1, 2, 3), (4, 2, 2))


def check_evaluate(evaluate):
    for seed, shape in enumerate(SHAPES):
        P, rewards, policy, _, _ = small_world(seed, *shape)
        V = evaluate(P, rewards, policy)
        assert V.shape == (shape[0] + 1, shape[1])
        assert not V[-1].any()
        for first, s in itertools.product(range(shape[0]), range(shape[1])):
            paid = sum(
                chance * sum(rewards[first + t, states[t], a] for t, a in enumerate(actions))
                for chance, states, actions in walks(P, policy[first:], np.eye(shape[1])[s])
            )
            assert V[first, s] == pytest.approx(paid)


def check_plan(plan):
    """Against every policy that looks at the clock; ties are shared."""
    P, rewards, _, _, _ = small_world(5, 2, 2, 2)
    values = []
    for choice in itertools.product(range(2), repeat=4):
        policy = np.eye(2)[np.array(choice).reshape(2, 2)]
        values.append(finite_horizon.evaluate(P, rewards, policy)[0])
    V, policy = plan(P, rewards)
    np.testing.assert_allclose(V[0], np.max(values, axis=0))
    np.testing.assert_allclose(finite_horizon.evaluate(P, rewards, policy), V)
    assert (plan(P, 0 * rewards)[1] == 0.5).all()


def check_feature_covariances(feature_covariances):
    for seed, shape in enumerate(SHAPES):
        P, _, policy, features, start = small_world(seed, *shape)
        rows = [
            (chance, features[list(states[1:])].sum(axis=0)) for chance, states, _ in walks(P, policy, start)
        ]
        mean = sum(chance * sums for chance, sums in rows)
        expected = sum(chance * np.outer(sums - mean, sums - mean) for chance, sums in rows)
        np.testing.assert_allclose(feature_covariances(P, policy, features, start)[1], expected, atol=1e-12)
    check_curvature(feature_covariances)


def check_curvature(feature_covariances):
    """Due to choice: the derivative of the expected counts of the soft policy, by central differences."""
    P, _, _, features, start = small_world(7, 4, 3, 2)

    def soft(weights):
        V, policy = np.zeros(3), []
        for _ in range(4):
            Q = P @ (features @ weights + V)
            V = np.log(np.exp(Q).sum(axis=1))
            policy.insert(0, np.exp(Q - V[:, None]))
        return np.array(policy)

    def counts(weights):
        total, reached = 0.0, start
        for step in soft(weights):
            reached = np.einsum("s,sa,san->n", reached, step, P)
            total = total + reached @ features
        return total

    weights = np.array([0.7, -0.4])
    expected = [(counts(weights + row) - counts(weights - row)) / 2e-5 for row in 1e-5 * np.eye(2)]
    by_choice, in_all = feature_covariances(P, soft(weights), features, start)
    np.testing.assert_allclose(by_choice, expected, atol=1e-8)
    assert (np.linalg.eigvalsh(in_all - by_choice) > -1e-12).all()


def check_gain_share(gain_share):
    P, rewards, policy, _, start = small_world(3, 3, 3, 2)
    paid = {
        name: sum(
            chance * sum(rewards[t, states[t], a] for t, a in enumerate(actions))
            for chance, states, actions in walks(P, one, start)
        )
        for name, one in (
            ("own", policy),
            ("best", finite_horizon.plan(P, rewards)[1]),
            ("random", np.full(rewards.shape, 0.5)),
        )
    }
    expected = (paid["own"] - paid["random"]) / (paid["best"] - paid["random"])
    assert gain_share(P, rewards, start, policy) == pytest.approx(expected)


CHECKS = {
    name.removeprefix("check_"): check
    for name, check in globals().items()
    if name.startswith("check_") and hasattr(finite_horizon, name.removeprefix("check_"))
}
WRONG = (
    Edit("evaluate", "rewards[t] + P @ V[t + 1]", "rewards[t]", "one step only"),
    Edit("evaluate", "rewards[t] + P", "rewards[0] + P", "the first step's rewards"),
    Edit("evaluate", "reversed(range(len(rewards)))", "range(len(rewards))", "forwards"),
    Edit("plan", "Q.max(axis=1)", "Q.mean(axis=1)", "the mean of the actions"),
    Edit("plan", "rewards[t] + P", "rewards[-1] + P", "the last step's rewards"),
    Edit("feature_covariances", "landed = features + to_come", "landed = features", "next step only"),
    Edit("feature_covariances", "after[s] - to_come[s])", "after[s])", "not centred"),
    Edit("feature_covariances", "landed - after[s, a])", "landed)", "not centred on where it leads"),
    Edit(
        "feature_covariances",
        '        reached = np.einsum("s,sa,san->n", reached, policy[t], P)\n',
        "",
        "the first state's chances at each step",
    ),
    Edit("feature_covariances", "to_come - start @ to_come", "to_come", "first states not centred"),
    Edit("feature_covariances", "return choice, choice + landing +", "return choice, landing +", "no choice"),
    Edit("feature_covariances", "return choice, choice", "return choice + landing, choice", "too much"),
    Edit("gain_share", "(own - low) / (high - low)", "own / high", "not from the random walk on"),
    Edit("gain_share", "1 / rewards.shape[2]", "1 / rewards.shape[1]", "no policy"),
)


@pytest.mark.parametrize("name", CHECKS)
def test_function_meets_its_definition(name):
    CHECKS[name](getattr(finite_horizon, name))


@pytest.mark.parametrize("edit", WRONG, ids=lambda edit: f"{edit.function}: {edit.says}")
def test_check_rejects_the_edit(edit):
    wrong = getattr(edited(finite_horizon, edit), edit.function)
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion or a shape error: both are a rejection
        CHECKS[edit.function](wrong)


def test_every_public_function_is_checked():
    public = {
        name for name, one in vars(finite_horizon).items() if callable(one) and not name.startswith("_")
    }
    assert {"evaluate", "plan", "feature_covariances", "gain_share"} == set(CHECKS)
    assert set(CHECKS) <= public
