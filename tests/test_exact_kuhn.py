"""Kuhn poker against what is published and what can be counted."""

import itertools

import numpy as np
import pytest

from chapters.exact import kuhn


def drawn(seed):
    return np.random.default_rng(seed).uniform(size=(3, 4))


def test_payoffs_by_hand():
    """The first player holds the king, then the jack, against the queen."""
    expected = {"pp": (1, -1), "pbp": (-1, -1), "pbb": (2, -2), "bp": (1, 1), "bb": (2, -2)}
    for end, (king, jack) in expected.items():
        assert kuhn.payoff(end, (2, 1)) == king
        assert kuhn.payoff(end, (0, 1)) == jack
    assert [kuhn.mover(history) for history in kuhn.BEGINNINGS] == [0, 1, 1, 0]


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1 / 3])
def test_the_published_equilibria_lose_nothing(alpha):
    strategy = kuhn.equilibrium(alpha)
    assert kuhn.exploitability(strategy) == pytest.approx(0.0, abs=1e-12)
    assert kuhn.value(strategy, strategy) == pytest.approx(-1 / 18)


def test_an_equilibrium_with_one_chance_moved_loses():
    for at in itertools.product(range(3), range(4)):
        strategy = kuhn.equilibrium(0.2)
        strategy[at] = abs(strategy[at] - 0.3)
        assert kuhn.exploitability(strategy) > 1e-3, at


def value_by_playing(first, second):
    """The sum over deals and ends of chance times payoff, without recursion."""
    total = 0.0
    for deal, end in itertools.product(kuhn.DEALS, kuhn.ENDS):
        chance = 1 / 6
        for at, move in enumerate(end):
            bet = (first, second)[at % 2][deal[at % 2], kuhn.BEGINNINGS.index(end[:at])]
            chance *= bet if move == "b" else 1 - bet
        total += chance * kuhn.payoff(end, deal)
    return total


def pure(player):
    """All 64 strategies of one seat that never mix; the other seat's entries are a half."""
    columns = (0, 3) if player == 0 else (1, 2)
    for bits in itertools.product((0.0, 1.0), repeat=6):
        strategy = np.full((3, 4), 0.5)
        strategy[:, columns] = np.reshape(bits, (3, 2))
        yield strategy


@pytest.mark.parametrize("seed", range(4))
def test_no_strategy_does_better_than_the_best_response(seed):
    strategy = drawn(seed)
    assert kuhn.value(strategy, drawn(seed + 9)) == pytest.approx(value_by_playing(strategy, drawn(seed + 9)))
    best = max(value_by_playing(mine, strategy) for mine in pure(0))
    assert kuhn.value(kuhn.best_response(strategy, 0), strategy) == pytest.approx(best)
    least = min(value_by_playing(strategy, mine) for mine in pure(1))
    assert kuhn.value(strategy, kuhn.best_response(strategy, 1)) == pytest.approx(least)
    assert kuhn.exploitability(strategy) == pytest.approx((best - least) / 2)


def test_random_play_loses_11_in_24():
    assert kuhn.exploitability(np.full((3, 4), 0.5)) == pytest.approx(kuhn.RANDOM_LOSS)


def test_what_the_best_strategy_that_never_mixes_loses():
    """Its seats are independent: each has its own best of 64."""
    first = max(kuhn.value(mine, kuhn.best_response(mine, 1)) for mine in pure(0))
    second = min(kuhn.value(kuhn.best_response(mine, 0), mine) for mine in pure(1))
    assert (second - first) / 2 == pytest.approx(kuhn.PURE_LOSS)


@pytest.mark.parametrize("num", [1, 10, 100, 400])
def test_regret_minimisation_keeps_its_bound_and_finds_the_value(num):
    strategy = kuhn.counterfactual_regret(num)
    lost = kuhn.exploitability(strategy)
    assert lost <= kuhn.regret_bound(num)
    assert abs(kuhn.value(strategy, strategy) - kuhn.VALUE) <= 2 * lost
    if num == 400:
        assert lost < 0.02, "it converges, much faster than its bound"


def test_the_bound_falls_with_the_root_and_counts_six_sets():
    assert kuhn.regret_bound(100) == pytest.approx(6 * 4 * np.sqrt(2) / 10)


def test_one_iteration_plays_evenly_and_the_second_what_was_regretted():
    """First regrets by hand: with the king a bet is never worse than a pass, so it is bet from then on."""
    strategy = 2 * kuhn.counterfactual_regret(2) - kuhn.counterfactual_regret(1)
    assert kuhn.counterfactual_regret(1) == pytest.approx(np.full((3, 4), 0.5))
    assert strategy[2, [1, 2]] == pytest.approx([1.0, 1.0])
    assert strategy[0, 2] == pytest.approx(0.0), "a jack never calls"


def test_a_strategy_drawn_by_lot_wins_what_the_lot_wins():
    strategies, other = np.array([drawn(seed) for seed in range(3)]), drawn(9)
    by_lot = kuhn.drawn_by_lot(strategies)
    first = np.mean([kuhn.value(one, other) for one in strategies])
    second = np.mean([kuhn.value(other, one) for one in strategies])
    assert kuhn.value(by_lot, other) == pytest.approx(first, abs=1e-12)
    assert kuhn.value(other, by_lot) == pytest.approx(second, abs=1e-12)
    assert not np.allclose(by_lot, strategies.mean(axis=0)), "a plain mean is another player"
    always = np.ones((2, 3, 4))
    assert kuhn.drawn_by_lot(always)[:, 3] == pytest.approx(0.5), "where nobody comes, nobody can tell"
