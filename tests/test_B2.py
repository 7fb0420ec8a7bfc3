"""B2: the batched Blackjack against gymnasium's, and the learners against exact values."""

import gymnasium as gym
import numpy as np
import pytest

from chapters.B_core_algorithms import B2_monte_carlo_methods as lesson
from chapters.course.planting import plant
from chapters.envs import blackjack
from chapters.utils import RunLog


class OneCardAtATime:
    """Stands in for a random generator: hands the same cards to both implementations."""

    def __init__(self, cards):
        self.cards = iter(cards)

    def choice(self, options):  # gymnasium draws a card by its value, and suits for its pictures
        return options[0] if isinstance(options[0], str) else next(self.cards)

    def integers(self, low, high, size):  # ours draws a rank; for the values 1 to 10 rank and value agree
        return np.array([next(self.cards) for _ in range(size)], dtype=int)


@pytest.mark.parametrize("seed", range(10))
def test_same_cards_same_hand(seed):
    """Observation, reward and end of every step equal gymnasium's when both are dealt the same cards."""
    rng = np.random.default_rng(seed)
    theirs = gym.make("Blackjack-v1", natural=False, sab=False).unwrapped
    theirs.reset(seed=0)
    for _ in range(100):
        dealer, player, rest = rng.integers(1, 11, 2), rng.integers(1, 11, 2), rng.integers(1, 11, 30)
        theirs.np_random = OneCardAtATime([*dealer, *player, *rest])
        expected, _ = theirs.reset()
        env = blackjack.BatchedBlackjack(1, OneCardAtATime([*dealer, *player, *rest]))
        ours = env.reset()
        done = False
        while not done:
            assert [int(part[0]) for part in ours] == [int(expected[2]), expected[1], expected[0]]
            action = int(rng.random() < 0.6)
            expected, reward, done, _, _ = theirs.step(action)
            ours, rewards, ended = env.step(np.array([action]))
            assert (rewards[0], ended[0]) == (reward, done)


def test_cards_come_as_from_an_infinite_deck():
    cards = blackjack.BatchedBlackjack(1, np.random.default_rng(0)).draw(130_000)
    shares = np.bincount(cards, minlength=11)[1:] / len(cards)
    assert np.abs(shares - blackjack.CARD_PROBABILITIES).max() < 5 * 0.5 / np.sqrt(len(cards))


def test_ended_hands_stay_as_they_are():
    env = blackjack.BatchedBlackjack(1000, np.random.default_rng(1))
    env.reset()
    _, first, done = env.step(np.arange(1000) % 2)
    assert done[::2].all()
    before = [part[done].copy() for part in env.obs()]
    _, second, _ = env.step(np.ones(1000, dtype=int))
    assert (second[done] == 0).all()
    assert all((old == new[done]).all() for old, new in zip(before, env.obs()))
    assert np.abs(first).max() == 1


def control_loss(module, tmp_path):
    """What the policy learned from 200,000 hands gives away, by the lesson's unaltered measure."""
    cfg = module.Config(batch_size=5000, num_control_batches=40)
    sums = module.control(cfg, RunLog(tmp_path, "B2"), np.random.default_rng(0))
    q = sums[1] / np.maximum(sums[0], 1)
    return lesson.policy_loss(np.where(q[lesson.HIT] > q[lesson.STICK], lesson.HIT, lesson.STICK))


def test_control_learns(tmp_path):
    assert control_loss(lesson, tmp_path) < 0.03


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("actions = rng.integers(2, size=num_hands)", "pass"),  # no exploring
        ("policy = np.where(q[HIT] > q[STICK], HIT, STICK)\n        if", "if"),  # no improvement
        (
            "policy = np.where(q[HIT] > q[STICK], HIT, STICK)\n        if",
            "policy = np.where(q[HIT] < q[STICK], HIT, STICK)\n        if",  # the worse action
        ),
    ],
)
def test_control_fails_with_a_planted_error(old, new, tmp_path):
    assert control_loss(plant(lesson, old, new), tmp_path) > 0.1
