"""All episodes of a small process and its exact policy gradient, by recursion and finite differences."""

import math
from itertools import product

import numpy as np
import pytest

from chapters.exact.episodes import (
    EpisodicMDP,
    all_batches,
    all_episodes,
    mean_gradients,
    policy_gradient,
    random_process,
    small_process,
    softmax,
)

SHAPES = ((2, 2, 1), (3, 2, 3), (2, 3, 4))  # (S, A, T)


def process(seed, num_states, num_actions, num_steps, gamma=0.8):
    """(process, logits) at random."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    R = rng.normal(1.0, 1.0, size=(num_states, num_actions))
    return EpisodicMDP(P, R, gamma, num_steps), rng.normal(size=(num_states, num_actions))


def softmax_by_hand(logits):
    rows = [[math.exp(x) for x in row] for row in logits]
    return np.array([[x / sum(row) for x in row] for row in rows])


def value_by_hand(mdp, policy, state=0, t=0):
    """Expected return from `state` at step t, by recursion over everything that can happen."""
    if t == mdp.num_steps:
        return 0.0
    total = 0.0
    for a in range(policy.shape[1]):
        after = sum(mdp.P[state, a, s] * value_by_hand(mdp, policy, s, t + 1) for s in range(len(policy)))
        total += policy[state, a] * (mdp.R[state, a] + mdp.gamma * after)
    return total


def test_softmax():
    logits = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(softmax(logits), softmax_by_hand(logits), rtol=1e-12)
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0, 0.0]])), [[0.5, 0.5, 0.0]])


@pytest.mark.parametrize("shape", SHAPES)
def test_policy_gradient_is_the_slope_of_the_expected_return(shape):
    mdp, logits = process(1, *shape)
    slopes = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        shift = np.zeros_like(logits)
        shift[place] = 1e-5
        up, down = (value_by_hand(mdp, softmax_by_hand(logits + sign * shift)) for sign in (1, -1))
        slopes[place] = (up - down) / 2e-5
    np.testing.assert_allclose(policy_gradient(mdp, softmax(logits)), slopes, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_episodes_are_there_once_with_their_probability(shape):
    mdp, logits = process(6, *shape)
    policy = softmax(logits)
    states, actions, probability = all_episodes(mdp, policy)
    num_states, num_actions, num_steps = shape
    assert states.shape == actions.shape
    assert states.shape == (num_steps, num_actions * (num_states * num_actions) ** (num_steps - 1))
    assert (states[0] == 0).all()
    assert len({(*s, *a) for s, a in zip(states.T.tolist(), actions.T.tolist())}) == len(probability)
    assert math.isclose(probability.sum(), 1.0, rel_tol=1e-12)
    discounts = mdp.gamma ** np.arange(num_steps)
    returns = discounts @ mdp.R[states, actions]
    assert math.isclose(probability @ returns, value_by_hand(mdp, policy), rel_tol=1e-10)


def test_all_batches_are_every_ordered_combination():
    batches = all_batches(3, 2)
    assert batches.shape == (2, 9)
    assert {tuple(batch) for batch in batches.T.tolist()} == set(product(range(3), repeat=2))


def test_mean_gradients_sum_over_pairs_one_by_one():
    """Weights that differ from episode to episode and batch to batch, written out for all pairs."""
    mdp, logits = process(7, 2, 2, 2)
    policy = softmax(logits)
    states, actions, probability = all_episodes(mdp, policy)

    def weigh(rewards, gamma):
        return {"first": rewards * gamma, "other": rewards[:, ::-1] ** 2}

    def loss(log_probs, weights, num_episodes):
        return -(log_probs * weights).sum() / num_episodes

    expected = {"first": np.zeros((2, 2)), "other": np.zeros((2, 2))}
    for i, j in product(range(len(probability)), repeat=2):
        for one, other in ((i, j), (j, i)):
            for t in range(2):
                s, a = states[t, one], actions[t, one]
                score = np.zeros((2, 2))
                score[s] = np.eye(2)[a] - policy[s]
                half = 0.5 * probability[i] * probability[j] * score
                expected["first"] += half * mdp.gamma * mdp.R[s, a]
                expected["other"] += half * mdp.R[states[t, other], actions[t, other]] ** 2
    found = mean_gradients(mdp, logits, weigh, loss, num_episodes=2)
    for kind, gradient in expected.items():
        np.testing.assert_allclose(found[kind], gradient, atol=1e-12)


def test_random_process_is_a_process():
    mdp = random_process(np.random.default_rng(2), 4, 3, mean_reward=10.0)
    np.testing.assert_allclose(mdp.P.sum(axis=2), 1.0)
    assert mdp.num_steps == 3
    assert abs(mdp.R.mean() - 10.0) < 1.0
    small, logits = small_process(np.random.default_rng(2))
    assert (small.R.shape, logits.shape, small.num_steps) == ((3, 2), (3, 2), 3)
    assert mdp.gamma == small.gamma == 0.9
    rewards = [small_process(np.random.default_rng(seed))[0].R for seed in range(50)]
    assert np.mean(rewards) == pytest.approx(1.0, abs=0.15)
    assert np.std(rewards) == pytest.approx(0.5, abs=0.1)
