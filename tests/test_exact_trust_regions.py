"""Enumerated gradients and Fisher matrices against finite differences; visits against the series."""

import numpy as np

from chapters.exact.episodes import softmax
from chapters.exact.mdp import advantages_of, evaluate_exactly, grid_mdp, visits
from chapters.exact.trust_regions import gradient_and_fisher, random_pair


def test_gradient_is_that_of_the_return():
    rng = np.random.default_rng(0)
    for _ in range(3):
        mdp, policy, _, start = random_pair(rng)
        found, _ = gradient_and_fisher(
            policy, visits(mdp, policy, start), advantages_of(mdp, policy), mdp.gamma
        )
        logits, h = np.log(policy), 1e-6

        def earned(logits, mdp=mdp, start=start):
            return start @ evaluate_exactly(mdp, softmax(logits))

        for i, (s, a) in enumerate(np.ndindex(*logits.shape)):
            step = np.zeros_like(logits)
            step[s, a] = h
            slope = (earned(logits + step) - earned(logits - step)) / (2 * h)
            np.testing.assert_allclose(found[i], slope, rtol=1e-5, atol=1e-6)


def test_fisher_matrix_is_the_curvature_of_the_kl_over_the_visits():
    rng = np.random.default_rng(1)
    mdp, policy, _, start = random_pair(rng, num_states=3, num_actions=2)
    visited = visits(mdp, policy, start)
    _, fisher = gradient_and_fisher(policy, visited, advantages_of(mdp, policy), mdp.gamma)
    logits, h = np.log(policy), 1e-4

    def kl(step):
        new = softmax(logits + step.reshape(logits.shape))
        return visited @ (policy * np.log(policy / new)).sum(axis=1)

    units = h * np.eye(6)
    for i in range(6):
        for j in range(6):
            mixed = kl(units[i] + units[j]) - kl(units[i] - units[j])
            mixed += kl(-units[i] - units[j]) - kl(units[j] - units[i])
            np.testing.assert_allclose(mixed / (4 * h**2), fisher[i, j], atol=1e-5)


def test_visits_follow_the_chain_and_end_in_terminal_states():
    rng = np.random.default_rng(2)
    mdp, policy, _, start = random_pair(rng)
    mdp = mdp._replace(gamma=0.8)
    now, total = start, 0.0
    for t in range(200):
        total = total + 0.2 * 0.8**t * now
        now = now @ np.einsum("sa,sat->st", policy, mdp.P)
    np.testing.assert_allclose(visits(mdp, policy, start), total, atol=1e-12)
    corridor = grid_mdp(("S.G",), gamma=0.5)
    right = np.eye(4)[[1, 1, 1]]
    np.testing.assert_allclose(visits(corridor, right, np.array([1.0, 0, 0])), [0.5, 0.25, 0.25])


def test_advantages_are_0_on_average_and_by_hand():
    rng = np.random.default_rng(3)
    mdp, policy, _, _ = random_pair(rng)
    advantages = advantages_of(mdp, policy)
    np.testing.assert_allclose((policy * advantages).sum(axis=1), 0.0, atol=1e-9)
    corridor = grid_mdp(("S.G",), gamma=0.5)  # going right is worth 0.5 and 1; staying a step later
    found = advantages_of(corridor, np.eye(4)[[1, 1, 1]])
    np.testing.assert_allclose(found, [[-0.25, 0, -0.25, -0.25], [-0.5, 0, -0.5, -0.75], [0, 0, 0, 0]])


def test_pairs_are_near_and_far():
    rng = np.random.default_rng(4)
    distances, scales = [], []
    for _ in range(200):
        mdp, old, new, start = random_pair(rng, 4, 2)
        assert mdp.P.shape == (4, 2, 4)
        np.testing.assert_allclose([mdp.P.sum(axis=2).min(), old.sum(), new.sum(), start.sum()], [1, 4, 4, 1])
        assert 0.5 <= mdp.gamma <= 0.99
        distances.append(np.abs(old - new).max())
        # log-ratios of two actions differ by d times the difference of two normal draws
        log_ratio = np.log(new) - np.log(old)
        scales.append(np.log10(np.sqrt(((log_ratio[:, 0] - log_ratio[:, 1]) ** 2).mean() / 2)))
    assert min(distances) < 0.01
    assert max(distances) > 0.5
    assert min(scales) < -2.5, "d is drawn between a thousandth ..."
    assert 0.6 < max(scales) < 1.5, "... and ten,"
    assert abs(np.mean(scales) + 1.0) < 0.3, "each magnitude as often"
