"""The exact Blackjack against value iteration over arrays, hands played, and published tables."""

import numpy as np
import pytest

from chapters.envs import blackjack as env
from chapters.exact import blackjack as exact
from chapters.utils.edits import Edit, edited

PUBLISHED = ((17, 13, 13, 12, 12, 12, 17, 17, 17, 17), (19, 18, 18, 18, 18, 18, 18, 18, 19, 19))
"""Stick from this sum on, by dealer's card, without and with a usable ace (Sutton and Barto, figure 5.2)."""


# Value iteration: sweep over whole tables by the environment's own `add_card` until nothing changes.
def sweep(policy=None):
    """Q[action, state] by a method that knows no order of solution."""
    usable, showing, total = np.indices(env.SHAPE)
    stands = np.zeros((2, 22, 22))
    stands[:, np.arange(17, 22), np.arange(17, 22)] = 1.0
    dealer = fixed_point(stands, lambda scores: np.where((total[:, 0] < 17)[..., None], draw(scores), stands))
    card_total, card_usable = env.add_card(0, False, env.CARDS)
    chances = np.zeros((11, 22))
    chances[env.CARDS] = dealer[card_usable.astype(int), card_total]
    stick = np.tile(chances @ np.sign(np.arange(22)[:, None] - np.arange(22)).T, (2, 1, 1))

    def hit(before):
        values = np.maximum(stick, before) if policy is None else np.where(policy == env.HIT, before, stick)
        after = np.zeros(env.SHAPE)
        for card, probability in zip(env.CARDS, env.CARD_PROBABILITIES):
            next_total, next_usable = env.add_card(total, usable.astype(bool), card)
            reached = values[next_usable.astype(int), showing, np.minimum(next_total, 21)]
            after += probability * np.where(next_total > 21, -1.0, reached)
        return after

    return np.stack([stick, fixed_point(np.zeros(env.SHAPE), hit)])


def draw(scores):
    """One more card for every dealer's hand [usable, total]."""
    usable, total = np.indices((2, 22))
    drawn = np.zeros_like(scores)
    for card, probability in zip(env.CARDS, env.CARD_PROBABILITIES):
        next_total, next_usable = env.add_card(total, usable.astype(bool), card)
        reached = scores[next_usable.astype(int), np.minimum(next_total, 21)]
        drawn += probability * np.where((next_total > 21)[..., None], np.eye(22)[0], reached)
    return drawn


def fixed_point(start, step):
    while not np.array_equal(after := step(start), start):
        start = after
    return start


def policies():
    rng = np.random.default_rng(0)
    return [None, (np.indices(env.SHAPE)[2] < 18).astype(int), *rng.integers(2, size=(3, *env.SHAPE))]


def check(module):
    """Every state that can occur (sums from 4, with a usable ace from 12), for each policy."""
    for policy in policies():
        ours, theirs = module.solve_blackjack(policy), sweep(policy)
        np.testing.assert_allclose(ours[:, 0, 1:, 4:], theirs[:, 0, 1:, 4:], atol=1e-13)
        np.testing.assert_allclose(ours[:, 1, 1:, 12:], theirs[:, 1, 1:, 12:], atol=1e-13)


def test_equals_value_iteration():
    check(exact)


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("dealer_scores", "total >= 17", "total > 17"),
        ("dealer_scores", "total >= 17", "total >= 17 + (total != hard)"),
        ("dealer_scores", "return np.eye(22)[0]", "return np.eye(22)[21]"),
        ("dealer_scores", "ace or card == 1", "ace"),
        ("stick_values", "np.sign(total - np.arange(22))", "np.sign(np.arange(22) - total)"),
        ("stick_values", "np.sign(total - np.arange(22))", "np.sign(total - np.arange(22) - 0.5)"),
        ("solve_blackjack", "np.full((32, 2, 11), LOST)", "np.zeros((32, 2, 11))"),
        ("solve_blackjack", "ace | (card == 1)", "ace"),
        ("solve_blackjack", "np.maximum(stick, hit)", "np.minimum(stick, hit)"),
        ("solve_blackjack", "== HIT, hit, stick)", "== HIT, stick, hit)"),
        ("solve_blackjack", "range(21, 1, -1)", "range(20, 1, -1)"),
        ("score", "<= 21", "< 21"),
    ],
    ids=[
        "draws on 17", "hits a soft 17", "bust not noticed", "ace in the dealer's hand lost", "wrong sign",
        "a draw loses", "bust costs nothing", "the ace stays as it is", "worst action", "actions swapped",
        "21 is bust", "no soft 21",
    ],
)  # fmt: skip
def test_a_wrong_version_is_noticed(function, old, new):
    with pytest.raises(AssertionError):
        check(edited(exact, Edit(function, old, new, "wrong")))


def test_hands_played_agree():
    """Mean rewards of hands dealt by the environment, within their standard errors."""
    policy = (np.indices(env.SHAPE)[2] < 16).astype(int)
    for start in ((0, 10, 16), (1, 6, 17), (0, 1, 12), (1, 9, 12)):
        hands = env.BatchedBlackjack(20_000, np.random.default_rng(sum(start)))
        obs = hands.reset(tuple(np.full(20_000, part) for part in start))
        rewards = np.zeros(20_000)
        while not hands.done.all():
            usable, showing, total = obs
            obs, paid, _ = hands.step(policy[usable, showing, np.minimum(total, 21)])
            rewards += paid
        error = rewards.std() / np.sqrt(len(rewards))
        assert abs(rewards.mean() - exact.policy_values(policy)[start]) < 4 * error


def test_published_tables():
    bust = [exact.dealer_scores(card, False)[0] for card in range(2, 11)]
    # a dealer who shows 2 to 10, infinitely many decks
    np.testing.assert_allclose(
        bust, [0.3536, 0.3739, 0.3945, 0.4164, 0.4232, 0.2623, 0.2447, 0.2284, 0.2121], atol=6e-5
    )
    q = exact.solve_blackjack()[:, *exact.PLAYED]
    sticks = np.arange(12, 22) >= np.array(PUBLISHED)[:, :, None]
    np.testing.assert_array_equal(q[exact.STICK] >= q[exact.HIT], sticks)
    # example 5.4 of the same book: dealer's 2, soft 13, stick on 20 and 21 only; a mean over 10^8 hands
    policy = (np.indices(exact.SHAPE)[2] < 20).astype(int)
    assert exact.policy_values(policy)[1, 2, 13] == pytest.approx(-0.27726, abs=3e-4)


def test_loss_of_a_policy():
    """Nothing for the optimum; for others the mean over the 200 states in which one decides."""
    q = exact.solve_blackjack()
    assert abs(exact.policy_loss((q[exact.HIT] > q[exact.STICK]).astype(int))) < 1e-12
    for sticks_from in (12, 20):
        policy = (np.indices(exact.SHAPE)[2] < sticks_from).astype(int)
        by_sweeps = sweep(policy)
        values = np.where(policy == exact.HIT, by_sweeps[exact.HIT], by_sweeps[exact.STICK])
        lost = (sweep().max(axis=0) - values)[:, 1:, 12:]
        assert exact.policy_loss(policy) == pytest.approx(lost.mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("policy_loss", "[PLAYED].mean()", ".mean()"),
        (
            "policy_values",
            "np.where(policy == HIT, q[HIT], q[STICK])",
            "np.where(policy == HIT, q[STICK], q[HIT])",
        ),
    ],
    ids=["wrong states", "actions swapped"],
)
def test_a_wrong_loss_is_noticed(function, old, new, monkeypatch):
    wrong = edited(exact, Edit(function, old, new, "wrong"))
    monkeypatch.setattr(exact, "policy_loss", wrong.policy_loss)
    with pytest.raises(AssertionError):
        test_loss_of_a_policy()


def test_same_tables_as_the_environment():
    assert (exact.STICK, exact.HIT, exact.SHAPE) == (env.STICK, env.HIT, env.SHAPE)
    np.testing.assert_allclose(np.bincount(exact.DECK)[1:] / 13, env.CARD_PROBABILITIES)
