"""The linear regulator in closed form, against scipy, grids, sums and samples."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from chapters.exact import lqr


def random_system(rng, size=3, num_actions=2):
    A, B = rng.normal(size=(size, size)), rng.normal(size=(size, num_actions))
    Q, R = (M @ M.T + 0.1 * np.eye(len(M)) for M in (rng.normal(size=(n, n)) for n in (size, num_actions)))
    return lqr.LQR(A, B, Q, R, gamma=0.9)


def test_riccati_is_scipys():
    """A discount is a system whose state shrinks by the root of gamma at every step."""
    rng = np.random.default_rng(0)
    for system in (lqr.double_integrator(), lqr.mass_on_a_line(), *(random_system(rng) for _ in range(10))):
        root = np.sqrt(system.gamma)
        expected = solve_discrete_are(root * system.A, root * system.B, system.Q, system.R)
        np.testing.assert_allclose(lqr.riccati(system), expected, rtol=1e-7, atol=1e-9)


def test_the_double_integrator_as_known():
    system = lqr.double_integrator()
    P = lqr.riccati(system)
    np.testing.assert_allclose(lqr.best_gain(system, P), [[2.4246, 3.4854]], atol=1e-4)
    assert P[0, 0] == pytest.approx(12.999, abs=1e-3)


def test_what_cannot_be_held_is_said():
    runaway = lqr.LQR(np.array([[2.0]]), np.array([[0.0]]), np.eye(1), np.eye(1), gamma=0.9)
    with pytest.raises(RuntimeError, match="do not settle"):
        lqr.riccati(runaway)
    with pytest.raises(RuntimeError, match="grows faster"):
        lqr.evaluate_exactly(runaway, np.zeros((1, 1)))


def test_the_mass_on_a_line_moves_as_a_pushed_mass_does():
    """Half a second of a constant push u: the position gains v/2 + u/8, the speed u/2."""
    system = lqr.mass_on_a_line()
    after = system.A @ [3.0, 2.0] + system.B @ [0.4]
    np.testing.assert_allclose(after, [3.0 + 2.0 * 0.5 + 0.5 * 0.4 * 0.25, 2.0 + 0.4 * 0.5])
    assert (system.Q.tolist(), system.R.tolist(), system.gamma) == ([[1.0, 0.0], [0.0, 0.1]], [[0.5]], 0.9)


def test_a_value_is_finite_as_long_as_the_discount_shrinks_the_square():
    """x' = a x for ever: 1 / (1 - gamma a^2), also for a > 1; at gamma a^2 = 1 the sum has no end."""
    for a, gamma in ((1.05, 0.9), (0.5, 0.9), (-1.4, 0.5)):
        alone = lqr.LQR(np.array([[a]]), np.zeros((1, 1)), np.eye(1), np.eye(1), gamma)
        value = lqr.evaluate_exactly(alone, np.zeros((1, 1)))
        assert value.P[0, 0] == pytest.approx(1 / (1 - gamma * a**2))
        assert value(np.zeros((1, 1))) == 0.0, "who is at rest at 0 stays there and pays nothing"
    edge = lqr.LQR(np.eye(1), np.zeros((1, 1)), np.eye(1), np.eye(1), gamma=1.0)
    with pytest.raises(RuntimeError, match="grows faster"):
        lqr.evaluate_exactly(edge, np.zeros((1, 1)))


def test_two_systems_that_do_not_touch_settle_as_each_alone():
    """Where numbers of P stay 0, the largest says how exact it has to be; the last digits may never rest."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.uniform(0.5, 1.3, 2), rng.uniform(0.2, 1.0, 2)
        q, r = rng.uniform(0.1, 2.0, 2), rng.uniform(0.1, 2.0, 2)
        alone = [lqr.riccati(lqr.LQR(*(np.eye(1) * part[i] for part in (a, b, q, r)), 0.9)) for i in (0, 1)]
        both = lqr.riccati(lqr.LQR(*map(np.diag, (a, b, q, r)), 0.9))
        np.testing.assert_allclose(both, np.diag([alone[0][0, 0], alone[1][0, 0]]), rtol=1e-10)


def test_no_other_gain_is_better():
    rng = np.random.default_rng(1)
    system = lqr.mass_on_a_line()
    P = lqr.riccati(system)
    K = lqr.best_gain(system, P)
    states = rng.normal(size=(50, 2))
    best = lqr.Quadratic(P, 0.0)(states)
    np.testing.assert_allclose(lqr.evaluate_exactly(system, K)(states), best)
    for _ in range(20):
        other = lqr.evaluate_exactly(system, K + 0.1 * rng.normal(size=K.shape))(states)
        assert (other <= best + 1e-12).all()


def test_the_value_of_a_policy_is_the_sum_of_its_rewards():
    """Played: without noise to the digit; with noise in the mean over many, with and without entropies."""
    rng, system = np.random.default_rng(2), lqr.mass_on_a_line()
    K, covariance = np.array([[0.9, 1.1]]), np.array([[0.3]])
    for wide, count, alpha in ((None, 1, 0.5), (covariance, 20_000, 0.5), (covariance, 20_000, 0.0)):
        start = np.array([[0.7, -0.4]])
        states, total = np.repeat(start, count, axis=0), np.zeros(count)
        for t in range(250):
            actions = -states @ K.T
            bonus = 0.0
            if wide is not None:
                actions += rng.normal(size=actions.shape) * np.sqrt(wide[0, 0])
                bonus = alpha * 0.5 * np.log(2 * np.pi * np.e * wide[0, 0])
            cost = (states @ system.Q * states).sum(axis=1) + (actions @ system.R * actions).sum(axis=1)
            total += system.gamma**t * (bonus - cost)
            states = states @ system.A.T + actions @ system.B.T
        found = lqr.evaluate_exactly(system, K, wide, alpha)(start)[0]
        error = total.std() / np.sqrt(count)
        assert abs(found - total.mean()) < 1e-8 + 5 * error


def test_an_actions_value_is_its_reward_and_the_rest():
    rng = np.random.default_rng(3)
    system = random_system(rng)
    K = lqr.best_gain(system, lqr.riccati(system))
    value = lqr.evaluate_exactly(system, K)
    states, actions = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    for x, u, found in zip(states, actions, lqr.q_values(system, value, states, actions)):
        total, discount = 0.0, 1.0
        for _ in range(400):
            total -= discount * (x @ system.Q @ x + u @ system.R @ u)
            x, discount = system.A @ x + system.B @ u, discount * system.gamma
            u = -K @ x
        assert found == pytest.approx(total, rel=1e-6)
    by_policy = lqr.q_values(system, value, states, -states @ K.T)
    np.testing.assert_allclose(by_policy, value(states), rtol=1e-9)


def test_the_soft_optimum_is_what_soft_value_iteration_on_a_grid_finds():
    """One state, one action: V is alpha log of the integral of exp(Q / alpha), the policy its integrand."""
    a, b, q, r, gamma, alpha = 1.1, 0.7, 1.0, 0.4, 0.9, 0.6
    x, u = np.linspace(-4, 4, 161), np.linspace(-8, 8, 641)
    after = np.clip(a * x[:, None] + b * u, -4, 4)  # few get that far
    reward = -(q * x[:, None] ** 2 + r * u**2)
    V = np.zeros_like(x)
    for _ in range(100):
        Q = reward + gamma * np.interp(after, x, V)  # [states, actions]
        top = Q.max(axis=1, keepdims=True)
        density = np.exp((Q - top) / alpha)
        V = (top + alpha * np.log(density.sum(axis=1, keepdims=True) * (u[1] - u[0])))[:, 0]
    system = lqr.LQR(*(np.array([[n]]) for n in (a, b, q, r)), gamma)
    P = lqr.riccati(system)
    K, covariance = lqr.best_gain(system, P), lqr.soft_covariance(system, P, alpha)
    value = lqr.evaluate_exactly(system, K, covariance, alpha)
    inner = np.abs(x) < 1.0
    density /= density.sum(axis=1, keepdims=True)
    means = density @ u
    variances = density @ u**2 - means**2
    np.testing.assert_allclose(means[inner], -K[0, 0] * x[inner], atol=2e-3)
    np.testing.assert_allclose(variances[inner], covariance[0, 0], rtol=2e-3)
    np.testing.assert_allclose(V[inner], value(x[inner][:, None]), atol=0.02)


def test_no_other_width_earns_more_with_its_entropy():
    system = lqr.mass_on_a_line()
    P = lqr.riccati(system)
    K, alpha = lqr.best_gain(system, P), 0.5
    best = lqr.soft_covariance(system, P, alpha)
    assert np.sqrt(best[0, 0]) == pytest.approx(0.4861, abs=1e-4)
    earned = [
        lqr.evaluate_exactly(system, K, factor * best, alpha).constant for factor in (0.5, 0.9, 1.0, 1.1, 2.0)
    ]
    assert np.argmax(earned) == 2
    assert lqr.entropy(np.eye(2)) == pytest.approx(1 + np.log(2 * np.pi))
    assert lqr.entropy(np.zeros((1, 1))) == -np.inf
