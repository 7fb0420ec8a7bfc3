"""The market's exact values against enumeration and grids of depths; and its simulator against both."""

import itertools
import math

import numpy as np
import pytest

from chapters.envs import market as env
from chapters.exact import market as exact
from chapters.exact.market import Market
from chapters.utils.edits import Edit, edited

TINY = Market(
    arrival_rate=3.0, depth_decay=1.2, running_penalty=0.4, final_penalty=0.3, adverse=0.25, max_inventory=1,
    num_steps=3, duration=0.6,
)  # fmt: skip


def enumerated(market, depths):
    """The mean reward of a session, over every sequence of who comes and whether they pay."""
    limit, comes = market.max_inventory, market.arrival_rate * market.duration / market.num_steps
    dt = market.duration / market.num_steps

    def follow(t, q):
        if t == market.num_steps:
            return -market.final_penalty * q**2
        mean = -market.running_penalty * dt * q**2
        ask, bid = (max(depth, 0.0) for depth in depths[t, q + limit])
        for buyer, seller, pays, gives in itertools.product((0, 1), repeat=4):
            chance = (comes if buyer else 1 - comes) * (comes if seller else 1 - comes)
            reach = math.exp(-market.depth_decay * ask), math.exp(-market.depth_decay * bid)
            chance *= (reach[0] if pays else 1 - reach[0]) * (reach[1] if gives else 1 - reach[1])
            sold = buyer and pays and q > -limit
            bought = seller and gives and q < limit
            after = q - int(sold) + int(bought)
            gained = (ask if sold else 0) + (bid if bought else 0) + after * market.adverse * (buyer - seller)
            mean += chance * (gained + follow(t + 1, after))
        return mean

    return follow(0, 0)


def some_depths(market, seed=0):
    size = 2 * market.max_inventory + 1
    return np.random.default_rng(seed).uniform(-0.2, 1.5, size=(market.num_steps, size, 2))


def check_evaluate(module):
    for market in (TINY, TINY._replace(adverse=0.0, max_inventory=2)):
        depths = some_depths(market)
        values = module.evaluate(market, depths)
        assert values.shape == (4, 2 * market.max_inventory + 1)
        expected = enumerated(market, depths)
        assert values[0, market.max_inventory] == pytest.approx(expected, abs=1e-12)
        assert module.utility(market, depths) == pytest.approx(expected, abs=1e-12)


def check_optimum(module):
    """In no cell is a pair of depths on a grid better; and its values are what its quotes earn."""
    grid = np.linspace(0.0, 3.0, 31)
    for market in (TINY, TINY._replace(max_inventory=2, final_penalty=1.5)):
        values, depths = module.optimum(market)
        np.testing.assert_allclose(exact.evaluate(market, depths), values, atol=1e-12)
        size, best = 2 * market.max_inventory + 1, np.full(values[0].shape, -np.inf)
        for ask, bid in itertools.product(grid, grid):
            pair = np.tile([ask, bid], (size, 1))
            best = np.maximum(best, exact.step_values(market, pair, values[1]))
        assert (values[0] >= best - 1e-12).all()
        assert (values[0] - best).max() < 1e-2, "the grid comes near it"


def check_best_constant(module):
    depth, found = module.best_constant(TINY)
    grid = [exact.utility(TINY, exact.constant(TINY, at)) for at in np.linspace(0.0, 6.0, 121)]
    assert found >= max(grid) - 1e-12
    assert found == pytest.approx(exact.utility(TINY, exact.constant(TINY, depth)), abs=1e-12)
    assert depth == pytest.approx(np.linspace(0.0, 6.0, 121)[np.argmax(grid)], abs=0.05)


def check_hjb_values(module):
    """Many small steps of the equation, each maximum looked for on a grid of depths."""
    market = TINY._replace(max_inventory=2)
    found = module.hjb_values(market)
    q, grid = np.arange(-2, 3), np.linspace(-3.0, 6.0, 3001)
    h = -market.final_penalty * q**2.0
    rate, steps = market.arrival_rate * np.exp(-market.depth_decay * grid), 600
    for step in range(steps):
        change = np.diff(h)
        sold = np.append(0.0, (rate * (grid - change[:, None])).max(axis=1))
        bought = np.append((rate * (grid + change[:, None])).max(axis=1), 0.0)
        h = h + market.duration / steps * (sold + bought - market.running_penalty * q**2)
        if step + 1 == steps // market.num_steps:
            np.testing.assert_allclose(found[-2], h, atol=3e-3)
    np.testing.assert_allclose(found[0], h, atol=3e-3)
    np.testing.assert_allclose(found[-1], -market.final_penalty * q**2.0, atol=1e-12)


CHECKS = {name: check for name, check in globals().items() if name.startswith("check_")}
WRONG = [
    ("check_evaluate", "step_values", "earned - held + moved", "earned + moved"),
    ("check_evaluate", "step_values", "sold * bought + (1 - sold)", "(1 - sold)"),
    ("check_evaluate", "step_values", "np.maximum(depths, 0.0) - toll", "depths - toll"),
    ("check_evaluate", "toll", "(1.0 - market.arrival_rate * market.dt)", "1.0"),
    ("check_evaluate", "neighbours", "np.append(0.0, later[:-1])", "np.append(later[1:], 0.0)"),
    ("check_evaluate", "fill_chances", "chances[0, ASK] = chances[-1, BID] = 0.0", "pass"),
    ("check_evaluate", "final_values", "return -", "return "),
    ("check_optimum", "best_step", "(1 - other) * ahead[:, side]", "ahead[:, side]"),
    ("check_optimum", "best_step", " - toll(market)", ""),
    ("check_optimum", "best_step", "np.maximum(1.0 / market.depth_decay - gain, 0.0)", "1.0 - gain"),
    ("check_best_constant", "best_constant", "-utility(market", "utility(market"),
    ("check_hjb_values", "hjb_values", "bought - market.running_penalty", "bought + market.running_penalty"),
    ("check_hjb_values", "hjb_values", " - 1.0)", ")"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_exact_market(name):
    CHECKS[name](exact)


@pytest.mark.parametrize(("name", "function", "old", "new"), WRONG, ids=[f"{w[1]}: {w[3]}" for w in WRONG])
def test_a_wrong_value_is_noticed(name, function, old, new):
    with pytest.raises(AssertionError):
        CHECKS[name](edited(exact, Edit(function, old, new, "wrong")))


def test_computed_beforehand():
    """An independent program, depths on a grid: optimum 8.8991, best constant 7.571."""
    values, depths = exact.optimum(Market())
    assert values[0, 8] == pytest.approx(8.8991, abs=5e-5)
    assert exact.best_constant(Market())[1] == pytest.approx(7.571, abs=1e-3)
    np.testing.assert_allclose(depths[:, ::-1, ::-1], depths, atol=1e-9, err_msg="ask and bid are mirrored")


def test_a_search_that_does_not_settle_is_told(monkeypatch):
    monkeypatch.setattr(exact, "MAX_SWEEPS", 1)
    with pytest.raises(RuntimeError, match="still move"):
        exact.optimum(Market(num_steps=1))


# The simulator


def off(module, market, depths, num_sessions=20_000):
    """Simulated less exact utility, in standard errors."""
    rng = np.random.default_rng(3)
    paid = module.play(market, depths, module.draw_sessions(market, num_sessions, rng)).rewards.sum(axis=0)
    return abs(paid.mean() - enumerated(market, depths)) / (paid.std() / math.sqrt(num_sessions))


def test_sessions_average_to_the_exact_utility():
    for seed, market in enumerate((TINY, TINY._replace(volatility=0.0, max_inventory=2, adverse=0.0))):
        assert off(env, market, some_depths(market, seed)) < 4


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("after = before - fills[:, ASK] + fills[:, BID]", "after = before + fills[:, ASK] - fills[:, BID]"),
        ("after * moves[t]", "before * moves[t]"),
        ("penalty = market.running_penalty * market.dt * before**2", "penalty = 0.0"),
        ("paid[-1] = paid[-1] - market.final_penalty * held[-1] ** 2", "pass"),
        (" & room", ""),
        (
            "rng.standard_exponential((*shape, 2)) / market.depth_decay",
            "rng.standard_exponential((*shape, 2))",
        ),
        ("market.adverse * pressure", "-market.adverse * pressure"),
    ],
)
def test_a_wrong_simulator_is_noticed(old, new):
    market = TINY._replace(volatility=0.0)
    with pytest.raises((AssertionError, IndexError)):  # the latter for an inventory beyond the limit
        assert off(edited(env, Edit("", old, new, "wrong")), market, some_depths(market)) < 5


def test_what_is_played_adds_up():
    """Fills happen where someone comes who pays the depth, and the account balances, session by session."""
    market = TINY._replace(max_inventory=2, num_steps=12, duration=2.4)
    rng = np.random.default_rng(4)
    sessions = env.draw_sessions(market, 50, rng)
    noise = 0.2 * rng.standard_normal((12, 50, 2))
    depths = some_depths(market, 5)
    played = env.play(market, depths, sessions, noise)
    for i in range(50):
        q, cash, price, penalties = 0, 0.0, 0.0, 0.0
        for t in range(12):
            assert played.inventory[t, i] == q
            quotes = depths[t, q + 2] + noise[t, i]
            np.testing.assert_allclose(played.depths[t, i], quotes)
            penalties += market.running_penalty * market.dt * q**2
            before = q
            for side, sign in ((0, -1), (1, 1)):
                depth = max(quotes[side], 0.0)
                filled = sessions.arrivals[t, i, side] and sessions.reach[t, i, side] >= depth
                filled = filled and abs(before + sign) <= 2
                assert played.fills[t, i, side] == filled
                cash += (depth - sign * price) * filled
                q += sign * filled
            buyer, seller = sessions.arrivals[t, i].astype(int)
            price += sessions.noise[t, i] + market.adverse * (buyer - seller)
        penalties += market.final_penalty * q**2
        assert played.rewards[:, i].sum() == pytest.approx(cash + q * price - penalties)


def test_sessions_are_as_the_market_says():
    market = Market(volatility=2.0)
    sessions = env.draw_sessions(market, 4000, np.random.default_rng(6))
    assert sessions.arrivals.mean() == pytest.approx(0.4, abs=0.005)
    assert sessions.reach.mean() == pytest.approx(1 / 1.5, abs=0.05)
    assert sessions.noise.sum(axis=0).std() == pytest.approx(2.0, abs=0.1)
    assert abs(np.corrcoef(sessions.arrivals[..., 0].ravel(), sessions.arrivals[..., 1].ravel())[0, 1]) < 0.01


def test_what_is_quoted_changes_no_session():
    """Common random numbers: other quotes meet the same buyers, and the price goes its way."""
    sessions = env.draw_sessions(TINY, 30, np.random.default_rng(7))
    copy = [part.copy() for part in sessions]
    for depth in (0.1, 2.0):
        env.play(TINY, exact.constant(TINY, depth), sessions)
    for before, after in zip(copy, sessions):
        np.testing.assert_array_equal(before, after)
