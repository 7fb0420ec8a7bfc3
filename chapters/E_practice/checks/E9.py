"""E9's functions against Kuhn's tree walked in loops, and its named edits."""

import math
from types import SimpleNamespace

import numpy as np

from chapters.exact import kuhn
from chapters.utils.edits import Edit


def some_strategies(seed, *shape):
    return np.random.default_rng(seed).random((*shape, 3, 4))


def worth(history, deal, strategy):
    """What the first player earns from here on, from the rules."""
    if history in kuhn.ENDS:
        return kuhn.payoff(history, deal)
    bet = strategy[deal[kuhn.mover(history)], kuhn.BEGINNINGS.index(history)]
    return bet * worth(history + "b", deal, strategy) + (1 - bet) * worth(history + "p", deal, strategy)


def lead(history, deal, strategy, whose):
    """The chance that a player makes its own moves of a history."""
    chance = 1.0
    for at, move in enumerate(history):
        if kuhn.mover(history[:at]) == whose:
            bet = strategy[deal[whose], kuhn.BEGINNINGS.index(history[:at])]
            chance *= bet if move == "b" else 1 - bet
    return chance


def walked_values(strategy):
    """Equation (4), deal by deal."""
    q = np.zeros((3, 4, 2))
    for place, history in enumerate(kuhn.BEGINNINGS):
        player = kuhn.mover(history)
        for deal in kuhn.DEALS:
            weight = lead(history, deal, strategy, 1 - player) / 6
            for move, letter in enumerate("pb"):
                paid = worth(history + letter, deal, strategy) * (1 if player == 0 else -1)
                q[deal[player], place, move] += weight * paid
    return q


def check_pennies_step(pennies_step):
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y, eta, pull = rng.uniform(0.1, 0.9, 4)
        weight = 1 / (1 + eta * pull)
        for turns in (False, True):
            new_x = weight * x + weight * eta * y
            new_y = weight * y - weight * eta * (new_x if turns else x)
            found = pennies_step(x, y, eta, pull=pull, turns=turns)
            np.testing.assert_allclose(found, (new_x, new_y), rtol=1e-9)
        free = pennies_step(x, y, eta)
        assert math.isclose(free[0] ** 2 + free[1] ** 2, (1 + eta**2) * (x**2 + y**2)), "(2)"


def check_orbit(orbit):
    path = orbit((0.5, -0.25), 3, eta=0.5, pull=0.0, turns=True)
    expected = [(0.5, -0.25)]
    for _ in range(3):
        x, y = expected[-1]
        expected.append((x + 0.5 * y, y - 0.5 * (x + 0.5 * y)))
    np.testing.assert_allclose(path, expected, rtol=1e-9)


def check_counterfactual_values(counterfactual_values):
    for seed in range(3):
        strategy = some_strategies(seed)
        np.testing.assert_allclose(counterfactual_values(strategy), walked_values(strategy), atol=1e-12)
    many = some_strategies(9, 2, 5)
    found = counterfactual_values(many)
    assert found.shape == (2, 5, 3, 4, 2)
    np.testing.assert_allclose(found[1, 3], walked_values(many[1, 3]), atol=1e-12)


def check_advantages(advantages):
    strategy, q = some_strategies(1, 2), np.random.default_rng(2).normal(size=(2, 3, 4, 2))
    found = advantages(strategy, q)
    for at in np.ndindex(2, 3, 4):
        mean = strategy[at] * q[at][1] + (1 - strategy[at]) * q[at][0]
        np.testing.assert_allclose(found[at], [q[at][0] - mean, q[at][1] - mean], rtol=1e-9, atol=1e-12)


def check_own_reach(own_reach):
    strategy = some_strategies(3)
    found = own_reach(strategy)
    for card in range(3):
        for place, history in enumerate(kuhn.BEGINNINGS):
            whose = kuhn.mover(history)
            deal = (card, (card + 1) % 3) if whose == 0 else ((card + 1) % 3, card)
            assert math.isclose(found[card, place], lead(history, deal, strategy, whose)), (card, place)
    assert own_reach(some_strategies(3, 4, 2)).shape == (4, 2, 3, 4)


def check_nash_conv(nash_conv):
    some = some_strategies(4, 6)
    found = nash_conv(some)
    for one, value in zip(some, found):
        assert math.isclose(value, 2 * kuhn.exploitability(one), abs_tol=1e-12)
    assert abs(nash_conv(kuhn.equilibrium(0.3))) < 1e-12


def check_softmax(softmax):
    z = np.random.default_rng(5).normal(size=(2, 3, 4, 2)) * 3
    expected = np.exp(z[..., 1]) / np.exp(z).sum(axis=-1)
    np.testing.assert_allclose(softmax(z), expected, rtol=1e-9)


def check_regret_matching(regret_matching):
    z = np.zeros((3, 4, 2))
    z[0] = [[1.0, 3.0], [-1.0, 2.0], [2.0, -1.0], [-1.0, -2.0]]
    found = regret_matching(z)
    np.testing.assert_allclose(found[0], [0.75, 1.0, 0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(found[1:], 0.5)
    assert regret_matching(np.stack([z, z])).shape == (2, 3, 4)


def a_step(seed):
    rng = np.random.default_rng(seed)
    cfg = SimpleNamespace(gradient_eta=0.7, magnet_eta=3.0, magnet_pull=0.4)
    return rng.normal(size=(3, 4, 2)), rng.random((3, 4)), rng.normal(size=(3, 4, 2)), 9, cfg


def check_gradient_step(gradient_step):
    """Along the gradient of both players' winnings by finite differences, each in its own preferences."""
    z = np.random.default_rng(6).normal(size=(3, 4, 2))
    strategy = np.exp(z[..., 1]) / np.exp(z).sum(axis=-1)
    cfg = SimpleNamespace(gradient_eta=0.7, magnet_eta=3.0, magnet_pull=0.4)
    moved = (gradient_step(z, strategy, walked_values(strategy), 5, cfg) - z) / 0.7
    for at in np.ndindex(3, 4, 2):
        values = []
        for sign in (-1, 1):
            near = z.copy()
            near[at] += sign * 1e-5
            own = np.exp(near[..., 1]) / np.exp(near).sum(axis=-1)
            first = at[1] in (0, 3)
            value = kuhn.value(own, strategy) if first else -kuhn.value(strategy, own)
            values.append(value)
        assert abs(moved[at] - (values[1] - values[0]) / 2e-5) < 1e-8, f"at card, place, move {at}"


def check_regret_step(regret_step):
    z, strategy, q, t, cfg = a_step(7)
    mean = strategy * q[..., 1] + (1 - strategy) * q[..., 0]
    np.testing.assert_allclose(regret_step(z, strategy, q, t, cfg), z + q - mean[..., None], rtol=1e-9)


def check_magnetic_step(magnetic_step):
    z, strategy, q, t, cfg = a_step(8)
    eta, pull = 3.0 / 3, 0.4 / 3
    expected = (z + eta * q) / (1 + eta * pull)
    np.testing.assert_allclose(magnetic_step(z, strategy, q, t, cfg), expected, rtol=1e-9)


def check_points(points):
    for num in (20, 60, 10_000):
        found = points(num)
        assert (found[0], found[-1]) == (10, num)
        assert found == sorted(set(found))
    ratios = np.diff(np.log(points(10_000)))[-10:]
    assert ratios.max() < 1.1 * ratios.min(), "evenly spaced on a logarithmic axis"


def check_self_play(self_play):
    """Strategies as they were played, and for their average the strategy of one who draws one by lot."""
    played, times = [], []

    def policy(z):
        played.append(1 / (1 + np.exp(-z[..., 0])))
        return played[-1]

    def step(z, strategy, q, t, cfg):
        times.append(t)
        np.testing.assert_allclose(strategy, played[-1])
        if t in (1, 2, 20):
            np.testing.assert_allclose(q[0], walked_values(strategy[0]), atol=1e-12)
        return z + np.sin(t + np.arange(z.size)).reshape(z.shape)

    start = np.random.default_rng(9).normal(size=(2, 3, 4, 2))
    last, averages = self_play(step, policy, start, SimpleNamespace(num_iterations=20))
    assert times == list(range(1, 21))
    np.testing.assert_allclose(last[0], played[9])
    np.testing.assert_allclose(last[-1], played[19])
    for row in range(2):
        for found, upto in ((averages[0], 10), (averages[-1], 20)):
            lot = kuhn.drawn_by_lot(np.array([one[row] for one in played[:upto]]))
            np.testing.assert_allclose(found[row], lot, rtol=1e-9)
    always = SimpleNamespace(num_iterations=20)
    _, averages = self_play(lambda z, *_: z, lambda z: np.ones(z.shape[:-1]), start, always)
    assert (averages[..., 3] == 0.5).all(), "even where one never comes"


EDITS = {
    "no_turns": Edit(
        function="pennies_step",
        old="new_x if turns else x",
        new="x",
        says="turns that are none: both always move at once",
        fails=("closed_orbit",),
    ),
    "sees_ahead": Edit(
        function="pennies_step",
        old="new_x if turns else x",
        new="new_x",
        says="always in turns: the second knows what the first has not shown yet",
    ),
    "one_is_pulled": Edit(
        function="pennies_step",
        old="(y - eta * seen) / (1 + eta * pull)",
        new="y - eta * seen",
        says="pulls only the first player to the middle",
    ),
    "both_want_the_same": Edit(
        function="pennies_step",
        old="(y - eta * seen)",
        new="(y + eta * seen)",
        says="lets the second player win what the first wins",
        fails=("closed_orbit",),
    ),
    "stands_still": Edit(
        function="orbit",
        old="*path[-1]",
        new="*start",
        says="makes the first step again and again",
    ),
    "evenly_spaced": Edit(
        function="points",
        old="geomspace",
        new="linspace",
        says="looks at evenly spaced iterations: nearly none of them early",
    ),
    "no_second_coin": Edit(
        function="counterfactual_values",
        old="(1 - calls) @ DEALT + 2 * calls @ WINS.T",
        new="(1 - calls) @ DEALT + calls @ WINS.T",
        says="plays for one coin where a bet was called: two are at stake",
        fails=("regret_average", "magnet_last"),
    ),
    "folding_pays": Edit(
        function="counterfactual_values",
        old="q[..., 2, PASS] = -opens @ DEALT",
        new="q[..., 2, PASS] = opens @ DEALT",
        says="pays who folds",
        fails=("regret_average", "magnet_last"),
    ),
    "other_side": Edit(
        function="counterfactual_values",
        old="q[..., 2, BET] = 2 * opens @ WINS.T",
        new="q[..., 2, BET] = 2 * opens @ WINS",
        says="lets the lower card win: rows and columns are mixed up",
        fails=("regret_average", "magnet_last"),
    ),
    "other_always_comes": Edit(
        function="counterfactual_values",
        old="q[..., 1, PASS] = passes @ WINS.T",
        new="q[..., 1, PASS] = np.ones_like(passes) @ WINS.T",
        says="leaves out how likely the other comes here: with which cards it passes says what it holds",
    ),
    "own_part_too": Edit(
        function="counterfactual_values",
        old="q[..., 3, BET] = 2 * bets @ WINS.T",
        new="q[..., 3, BET] = 2 * passes * (bets @ WINS.T)",
        says="weighs by one's own choices too, which counterfactual values leave out",
    ),
    "nothing_later": Edit(
        function="counterfactual_values",
        old="(1 - bets) @ WINS.T + later",
        new="(1 - bets) @ WINS.T",
        says="forgets that a bet may come behind a pass",
        fails=("regret_average", "magnet_last"),
    ),
    "even_mean": Edit(
        function="advantages",
        old="(1 - strategy) * q[..., PASS] + strategy * q[..., BET]",
        new="(q[..., PASS] + q[..., BET]) / 2",
        says="compares with an even mix, not with what is played",
        fails=("regret_average", "magnet_last"),
    ),
    "moves_mixed_up": Edit(
        function="advantages",
        old="(1 - strategy) * q[..., PASS] + strategy * q[..., BET]",
        new="strategy * q[..., PASS] + (1 - strategy) * q[..., BET]",
        says="takes the chance of a bet for that of a pass",
        fails=("regret_average", "magnet_last"),
    ),
    "reach_of_a_bet": Edit(
        function="own_reach",
        old="1 - strategy[..., 0]",
        new="strategy[..., 0]",
        says="takes the bet for the way to the last place: a pass leads there",
        fails=("regret_average",),
    ),
    "always_there": Edit(
        function="own_reach",
        old="    reach[..., 3] = 1 - strategy[..., 0]\n",
        new="",
        says="says that one always comes everywhere",
    ),
    "one_step_response": Edit(
        function="nash_conv",
        old="q[..., 0, PASS] + better_late",
        new="q[..., 0, PASS]",
        says="improves the first choice only: what comes behind a pass stays as it is",
    ),
    "late_by_reach": Edit(
        function="nash_conv",
        old="advantages(strategy, q)[..., 3, :].max(axis=-1)",
        new="(own_reach(strategy) * advantages(strategy, q).max(axis=-1))[..., 3]",
        says="counts the last choice as often as one used to come there: a best responder may always pass",
    ),
    "one_seat": Edit(
        function="nash_conv",
        old="first + q[..., 1:3, :].max(axis=-1).sum(axis=(-2, -1))",
        new="first",
        says="looks at one seat only",
    ),
    "softmax_of_a_pass": Edit(
        function="softmax",
        old="z[..., PASS] - z[..., BET]",
        new="z[..., BET] - z[..., PASS]",
        says="gives the chance of a pass",
        fails=("magnet_last",),
    ),
    "sizes_of_regret": Edit(
        function="regret_matching",
        old="z.clip(min=0.0)",
        new="np.abs(z)",
        says="plays what it is glad not to have played as well",
        fails=("regret_average",),
    ),
    "passes_when_content": Edit(
        function="regret_matching",
        old="np.where(total > 0, total, 1.0), 0.5)",
        new="np.where(total > 0, total, 1.0), 0.0)",
        says="always passes where nothing is regretted",
    ),
    "descends": Edit(
        function="gradient_step",
        old="z + cfg.gradient_eta",
        new="z - cfg.gradient_eta",
        says="walks down its own winnings",
    ),
    "no_reach": Edit(
        function="gradient_step",
        old=" * own_reach(strategy)[..., None]",
        new="",
        says="leaves out how often its own choices lead there: no gradient of what it wins",
    ),
    "no_chances": Edit(
        function="gradient_step",
        old="np.stack([1 - strategy, strategy], axis=-1) * own_reach",
        new="own_reach",
        says="leaves out the chances of the moves: the natural gradient, not the gradient",
    ),
    "forgets_the_mix": Edit(
        function="regret_step",
        old="z + advantages(strategy, q)",
        new="z + q",
        says="adds up what moves are worth, not what they are worth more than the mix",
        fails=("regret_average",),
    ),
    "only_now": Edit(
        function="regret_step",
        old="z + advantages(strategy, q)",
        new="advantages(strategy, q)",
        says="regrets the last game only",
        fails=("regret_average",),
    ),
    "no_pull": Edit(
        function="magnetic_step",
        old=" / (1 + eta * pull)",
        new="",
        says="a magnet that does not pull: softmax of added values, which circles",
        fails=("magnet_last",),
    ),
    "never_fades": Edit(
        function="magnetic_step",
        old="cfg.magnet_pull / t**0.5",
        new="cfg.magnet_pull",
        says="a pull that never fades: it comes to rest too near the middle",
        fails=("magnet_last",),
    ),
    "steps_never_shrink": Edit(
        function="magnetic_step",
        old="cfg.magnet_eta / t**0.5",
        new="cfg.magnet_eta",
        says="steps that stay large while the pull fades",
        fails=("magnet_last",),
    ),
    "plain_average": Edit(
        function="self_play",
        old="reach = own_reach(strategy)",
        new="reach = np.ones_like(strategy)",
        says="averages all iterations alike, however seldom a place was reached",
    ),
    "starts_at_zero": Edit(
        function="self_play",
        old="range(1, cfg.num_iterations + 1)",
        new="range(cfg.num_iterations)",
        says="counts iterations from 0",
    ),
    "stale_average": Edit(
        function="self_play",
        old="        total += reach * strategy\n",
        new="        total = reach * strategy + total * 0\n",
        says="keeps the last strategy in place of the sum",
        fails=("regret_average",),
    ),
}
