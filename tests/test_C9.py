"""C9's learner in markets whose best quotes are known, and wrong there once edited; and its evidence."""

import math

import numpy as np
import pytest
from spies import watch_adam

from chapters.C_policy_gradients import C9_market_making as lesson
from chapters.C_policy_gradients.checks.C9 import EDITS
from chapters.C_policy_gradients.evidence import C9 as evidence
from chapters.course.catalog import find
from chapters.course.ledger import load
from chapters.envs.market import Played
from chapters.exact.market import ASK, BID, Market, constant, optimum, utility
from chapters.utils import RunLog
from chapters.utils.edits import edited

ONE_STEP = Market(num_steps=1, duration=0.05, running_penalty=0.0, final_penalty=0.0, max_inventory=1)
"""Nothing follows and inventory is free: the best depth is 1 / depth_decay."""
TWO_STEPS = Market(
    num_steps=2, duration=0.1, running_penalty=0.0, final_penalty=0.5, max_inventory=2, depth_decay=1.0
)
"""What is held after the first step costs at the end: in the second, depths lean against it."""
QUICK = {"num_updates": 60, "num_sessions": 2000, "learning_rate": 0.03}


def learned(module, market, folder, **changes):
    log = RunLog(folder, "C9")
    depths = module.train(module.Config(**{**QUICK, **changes}), log, market)
    log.close()
    return depths


def test_one_step_is_quoted_at_its_best_depth(tmp_path):
    for decay in (1.5, 0.8):
        market = ONE_STEP._replace(depth_decay=decay)
        depths = learned(lesson, market, tmp_path / str(decay))[0, 1]
        np.testing.assert_allclose(depths, 1 / decay, atol=0.25)


def lean(module, folder, **changes):
    """How much deeper the side is that would add to an inventory of one share, in the second of two steps."""
    depths = learned(module, TWO_STEPS, folder, **changes)[1]
    return (depths[3, BID] - depths[3, ASK] + depths[1, ASK] - depths[1, BID]) / 2


def test_quotes_lean_against_the_inventory(tmp_path):
    best = optimum(TWO_STEPS)[1][1]
    expected = best[3, BID] - best[3, ASK]
    assert expected > 0.9
    assert lean(lesson, tmp_path) == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("name", ["downhill", "ask_only"])
def test_the_learner_notices_the_edit(name, tmp_path):
    depths = learned(edited(lesson, EDITS[name]), ONE_STEP, tmp_path)[0, 1]
    assert np.abs(depths - 1 / 1.5).max() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nothing_follows", "blind_critic", "changed_signs"])
def test_wrong_critics_cost_utility(name, tmp_path):
    """On short sessions of the lesson's market; the right one loses little."""
    market = Market(num_steps=12, arrival_rate=10.0, running_penalty=1.0)
    best = optimum(market)[0][0, 8]
    right = best - utility(market, learned(lesson, market, tmp_path / "right"))
    wrong = best - utility(market, learned(edited(lesson, EDITS[name]), market, tmp_path / "wrong"))
    assert right < 0.03 * best
    assert wrong > 3 * right


def test_the_end_is_an_end():
    """Beyond the last reward there is nothing, whatever is held; the critic does not bootstrap there."""
    held, rewards = np.array([[0, 0], [1, 1]]), np.array([[1.0, 3.0]])
    values = lesson.cell_values(held, rewards, 1)
    np.testing.assert_array_equal(values, [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(lesson.advantages(held, rewards, values), [[-1.0, 1.0]])


def test_each_batch_is_new_and_serves_one_step(tmp_path, monkeypatch):
    steps = watch_adam(monkeypatch, lesson)
    drawn, quoted = [], []
    draw, play = lesson.draw_sessions, lesson.play
    monkeypatch.setattr(lesson, "draw_sessions", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    monkeypatch.setattr(lesson, "play", lambda *args: quoted.append(args) or play(*args))
    log = RunLog(tmp_path, "C9")
    lesson.train(lesson.Config(num_updates=3, num_sessions=500, scale=0.6, learning_rate=0.1), log, Market())
    log.close()
    assert [round(rate, 9) for rate, _ in steps] == [0.1, round(0.1 * 2 / 3, 9), round(0.1 / 3, 9)]
    assert not np.array_equal(drawn[0].reach, drawn[1].reach)
    scales = [args[3].std() for args in quoted]
    np.testing.assert_allclose(scales, [0.6, 0.6 * 7 / 9, 0.6 * 5 / 9], rtol=0.02)
    assert log.series("share")[0] == [500, 1000, 1500]
    assert quoted[0][1].shape == (50, 17, 2)
    assert abs(quoted[0][1].mean() - lesson.FIRST_DEPTH) < 0.2


def test_policy_and_optimum_are_judged_on_the_same_fresh_sessions(tmp_path, monkeypatch):
    played = []
    play = lesson.play
    monkeypatch.setattr(lesson, "play", lambda *args: played.append(args) or play(*args))
    log = RunLog(tmp_path, "C9", smoke=True)
    lesson.main(lesson.Config(seed=3, **lesson.SMOKE), log)
    log.close()
    (_, ours, first), (_, best, second) = played[-2:]
    assert first is second
    np.testing.assert_array_equal(best, optimum(Market())[1])
    np.testing.assert_array_equal(ours, log.kept["learned"])
    assert not any(np.array_equal(first.reach[:, :200], args[2].reach) for args in played[:-2])
    share = next(claim.value for claim in log.claims if claim.name == "learned_share")
    found, half = lesson.paired_share(log.kept["ours"], log.kept["oracle"])
    assert share == pytest.approx(found - half)


# What the evidence measures with


def test_a_riskless_market_has_the_closed_form():
    market = evidence.riskless(Market(num_steps=6, duration=0.12))
    best = 2 * 6 * 0.4 / math.e / 1.5
    assert evidence.best_quotes(market)[0] == pytest.approx(best, rel=1e-9)
    assert market.max_inventory == 6


def test_a_toll_is_what_a_fill_loses():
    market = evidence.with_toll(Market(), 0.2)
    plain, tolled = (utility(m, constant(m, 1.0)) for m in (Market(), market))
    played = evidence.play(
        Market(), constant(Market(), 1.0), evidence.draw_sessions(Market(), 4000, np.random.default_rng(0))
    )
    fills = played.fills.sum(axis=(0, 2)).mean()
    assert plain - tolled == pytest.approx(0.2 * fills, rel=0.02)


def test_shares_of_wrong_beliefs():
    market = Market(num_steps=5, duration=0.1)
    found = evidence.believing(market, "depth_decay", np.array([0.5, 1.0]))
    quotes = optimum(market._replace(depth_decay=0.75))[1]
    assert found[0] == pytest.approx(utility(market, quotes) / evidence.best_quotes(market)[0])
    assert found[1] == pytest.approx(1.0)
    two = evidence.shares([quotes, quotes], [market, market._replace(depth_decay=0.75)])
    np.testing.assert_allclose(two, [found[0], 1.0])


def test_errors_off_is_a_standard_score(monkeypatch):
    values = optimum(Market())[0][0, 8]

    def play(market, depths, sessions):
        rewards = np.zeros((50, 4))
        rewards[0] = values + np.array([1.0, 3.0, 1.0, 3.0])
        return Played(None, None, None, rewards)

    real = evidence.errors_off(Market(), 2000, np.random.default_rng(0))
    assert real < 4.5
    monkeypatch.setattr(evidence, "play", play)
    found = evidence.errors_off(Market(), 4, np.random.default_rng(0))
    assert found == pytest.approx(2.0 / (np.std([1, 3, 1, 3], ddof=1) / 2))


def test_what_the_text_says_of_the_seeds():
    """The blind critic teaches hardly more than the best constant depth, the lesson's far more."""
    claims = [run["claims"] for run in load(find("C9"))["runs"]]
    assert max(one["blind_critic_gap"]["value"] for one in claims) < 0.3
    assert min(one["gap_closed"]["value"] for one in claims) > 0.95
