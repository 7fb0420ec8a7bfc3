"""Sums over all pairs of completions, against loops over the pairs and their verdicts."""

import math

import numpy as np
import pytest

from chapters.envs.token_world import token_world
from chapters.exact import preferences
from chapters.utils.edits import Edit, edited


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def check_chance_to_win(chance_to_win):
    world = token_world(4, num_symbols=3, length=3)
    log_probs = world.reference_log_probs()
    for hard in (False, True):
        found = chance_to_win(world.rewards, log_probs, hard)
        for n in range(2):
            for y, mine in enumerate(world.rewards[n].tolist()):
                expected = 0.0
                for other, prob in zip(world.rewards[n].tolist(), log_probs.exp()[n].tolist()):
                    verdict = 0.5 if mine == other else float(mine > other)
                    expected += prob * (verdict if hard else sigmoid(mine - other))
                assert math.isclose(found[n, y], expected, rel_tol=1e-9)


def check_displacement(displacement):
    world, beta = token_world(5, num_symbols=3, length=2), 0.4
    log_probs = world.reference_log_probs()
    probs, rewards, moved = log_probs.exp().numpy(), world.rewards.numpy(), np.zeros(2)
    for n in range(2):
        best = probs[n] * np.exp(rewards[n] / beta)
        h = np.log(best / best.sum() / probs[n])
        for a in range(7):
            for b in range(7):
                wins = sigmoid(rewards[n, a] - rewards[n, b])
                share = probs[n, a] * probs[n, b] / 2  # of the prompts, one in two
                moved += share * (wins * np.array([h[a], h[b]]) + (1 - wins) * np.array([h[b], h[a]]))
    found = displacement(world.optimum(beta) - log_probs, world.rewards, log_probs)
    assert np.allclose(found, moved, rtol=1e-9)
    never = log_probs.clone()
    never[:, 0] = -math.inf  # as the best of n samples leaves out the worst completion
    never = never.log_softmax(1)
    assert displacement(never - log_probs, world.rewards, never) == pytest.approx(
        displacement((never - log_probs).clamp(min=-99.0), world.rewards, never)
    )
    mean = float((log_probs.exp() * (world.optimum(beta) - log_probs)).sum(1).mean())
    assert math.isclose(sum(found) / 2, mean, rel_tol=1e-9), "chosen and rejected are all"


CHECKS = {"chance_to_win": check_chance_to_win, "displacement": check_displacement}
WRONG = [
    ("chance_to_win", "row[:, None] - row[None]", "row[None] - row[:, None]"),
    ("chance_to_win", "(1 + gap.sign()) / 2 if hard", "(gap > 0).double() if hard"),
    ("chance_to_win", "wins @ probs", "wins @ torch.ones_like(probs) / len(probs)"),
    ("chance_to_win", "/ 2 if hard else", "/ 2 if not hard else"),
    ("displacement", "for share in (wins, 1 - wins))", "for share in (1 - wins, wins))"),
    ("displacement", "2 * share * probs", "share * probs"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_definition(name):
    CHECKS[name](getattr(preferences, name))


@pytest.mark.parametrize(("name", "old", "new"), WRONG)
def test_what_is_wrong_is_noticed(name, old, new):
    wrong = edited(preferences, Edit(name, old, new, "wrong"))
    with pytest.raises(AssertionError):
        CHECKS[name](getattr(wrong, name))
