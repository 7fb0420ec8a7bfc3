"""The bounds on what a wrong model costs, against sums written out and the model that meets them."""

import numpy as np
import pytest

from chapters.exact import simulation
from chapters.exact.mdp import evaluate_exactly
from chapters.exact.simulation import breaking_world, coupling_bound, simulation_bound, total_variation
from chapters.utils.edits import Edit, edited


def test_total_variation_is_the_largest_gain_of_an_event():
    """Half the sum of the differences is what the best set of outcomes gains, over all sets."""
    rng = np.random.default_rng(0)
    P, other = rng.dirichlet(np.ones(4), size=(2, 3, 2))
    gains = [
        sum((P - other)[s, a, t] for t in range(4) if chosen >> t & 1)
        for s, a in np.ndindex(3, 2)
        for chosen in range(16)
    ]
    assert total_variation(P, other) == pytest.approx(max(gains))
    assert total_variation(P, P) == 0.0


def walks_apart(error: float, max_reward: float, gamma: float) -> float:
    """The sum over the steps at which two walks first part."""
    return sum(gamma**t * (1 - error) ** (t - 1) * error * max_reward / (1 - gamma) for t in range(1, 5000))


CASES = [(0.01, 1.0, 0.9), (0.3, 2.0, 0.5), (1.0, 1.0, 0.99), (0.0, 1.0, 0.9)]


@pytest.mark.parametrize(("error", "max_reward", "gamma"), CASES)
def test_bounds(error, max_reward, gamma):
    check_bounds(simulation, error, max_reward, gamma)


def check_bounds(module, error, max_reward, gamma):
    bound = module.coupling_bound(error, max_reward, gamma)
    assert bound == pytest.approx(walks_apart(error, max_reward, gamma), rel=1e-9)
    assert bound <= module.simulation_bound(error, max_reward, gamma) + 1e-12
    good, bad = (
        evaluate_exactly(module.breaking_world(chance, max_reward, gamma), np.ones((2, 1)))[0]
        for chance in (0.0, error)
    )
    assert good == pytest.approx(max_reward / (1 - gamma))
    assert good - bad == pytest.approx(bound, rel=1e-9)
    assert total_variation(
        module.breaking_world(0.0, max_reward, gamma).P, module.breaking_world(error, max_reward, gamma).P
    ) == pytest.approx(error)


def test_for_small_errors_the_two_are_one():
    assert coupling_bound(1e-9, 1.0, 0.9) / simulation_bound(1e-9, 1.0, 0.9) == pytest.approx(1.0, rel=1e-6)
    assert simulation_bound(0.01, 2.0, 0.9) == pytest.approx(0.9 * 0.01 * 2.0 / 0.01)
    assert breaking_world(0.2, 1.0, 0.9).P[0, 0].tolist() == [0.8, 0.2]


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("coupling_bound", "gamma * (1 - model_error))", "gamma * (1 + model_error))"),
        ("coupling_bound", "= gamma * model_error /", "= model_error /"),
        ("coupling_bound", "* max_reward / (1 - gamma)", "/ (1 - gamma)"),
        ("breaking_world", "[1 - chance, chance]", "[chance, 1 - chance]"),
    ],
)
def test_a_wrong_bound_is_noticed(function, old, new):
    wrong = edited(simulation, Edit(function, old, new, "wrong"))
    with pytest.raises(AssertionError):
        check_bounds(wrong, 0.3, 2.0, 0.5)
