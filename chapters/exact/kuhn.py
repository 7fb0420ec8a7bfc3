"""Kuhn poker solved (kuhn1950poker): its tree, best responses, exploitability, and counterfactual regret.

Three cards, jack 0, queen 1, king 2; two players get one each and pay one coin. A player passes or bets one
coin. After a bet the other folds (a pass) or calls (a bet). A strategy is a table [3, 4]: the chance of
betting with each card after each of four beginnings. Its twelve entries are all the information sets there
are: the first player's in columns 0 and 3, the second one's in columns 1 and 2.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

BEGINNINGS = ("", "p", "b", "pb")
"""What has been done when somebody must choose: p a pass, b a bet."""
ENDS = ("pp", "pbp", "pbb", "bp", "bb")
DEALS = tuple(itertools.permutations(range(3), 2))
"""(card of the first player, card of the second): six, equally likely."""
VALUE = -1 / 18
"""What the first player earns a game when both play well (kuhn1950poker)."""
RANDOM_LOSS = 11 / 24
"""Exploitability of passing and betting evenly; a test finds it from the tree."""
PURE_LOSS = 1 / 6
"""The least exploitability of strategies that never mix; a test tries all."""
Strategy = Float[np.ndarray, "3 4"]


def mover(history: str) -> int:
    """Whose turn it is: the first player's (0) or the second one's (1)."""
    return len(history) % 2


def payoff(history: str, deal: tuple[int, int]) -> float:
    """Coins that the first player wins at one of ENDS."""
    if history.endswith("bp"):  # the one who did not fold takes the other's coin
        return 1.0 if mover(history) == 0 else -1.0
    stake = 2.0 if history.endswith("bb") else 1.0
    return stake if deal[0] > deal[1] else -stake


def value(first: Strategy, second: Strategy) -> float:
    """What the first player earns a game if they play these strategies."""
    return float(np.mean([_value("", deal, (first, second)) for deal in DEALS]))


def _value(history: str, deal: tuple[int, int], strategies: tuple[Strategy, Strategy]) -> float:
    if history in ENDS:
        return payoff(history, deal)
    player = mover(history)
    bet = strategies[player][deal[player], BEGINNINGS.index(history)]
    return bet * _value(history + "b", deal, strategies) + (1 - bet) * _value(history + "p", deal, strategies)


def best_response(strategy: Strategy, player: int) -> Strategy:
    """What `player` does best against an opponent who plays `strategy`; the opponent's rows stay as they are.

    Backward: the player's last choice is settled first, then the one before it.
    """
    answer = np.array(strategy, dtype=float)
    for place in (3, 0) if player == 0 else (2, 1):
        for card in range(3):
            worth = []
            for bet in (0.0, 1.0):
                answer[card, place] = bet
                pair = (answer, strategy) if player == 0 else (strategy, answer)
                worth.append(_reached(card, place, player, pair))
            answer[card, place] = float(worth[1] > worth[0])
    return answer


def _reached(card: int, place: int, player: int, strategies: tuple[Strategy, Strategy]) -> float:
    """`player`'s winnings from an information set on, weighed by the chance that the others lead there."""
    history, total = BEGINNINGS[place], 0.0
    for deal in DEALS:
        if deal[player] == card:
            weight = _lead(history, deal, player, strategies)
            total += weight * _value(history, deal, strategies) * (1 if player == 0 else -1)
    return total


def _lead(history: str, deal: tuple[int, int], player: int, strategies: tuple[Strategy, Strategy]) -> float:
    """Chance that the opponent of `player` makes its moves of `history`."""
    chance = 1.0
    for at, move in enumerate(history):
        other = mover(history[:at])
        if other != player:
            bet = strategies[other][deal[other], BEGINNINGS.index(history[:at])]
            chance *= bet if move == "b" else 1 - bet
    return chance


def exploitability(strategy: Strategy) -> float:
    """Coins a game that a best responder wins from it, mean of the two seats: 0 for an equilibrium only."""
    first = value(best_response(strategy, 0), strategy)
    second = -value(strategy, best_response(strategy, 1))
    return (first + second) / 2


def equilibrium(alpha: float = 0.0) -> Strategy:
    """One of Kuhn's equilibria: the first player bets a jack with chance `alpha`, 0 to 1/3."""
    return np.array([[alpha, 1 / 3, 0.0, 0.0], [0.0, 0.0, 1 / 3, alpha + 1 / 3], [3 * alpha, 1.0, 1.0, 1.0]])


def drawn_by_lot(strategies: Float[np.ndarray, "M 3 4"]) -> Strategy:
    """The one strategy that wins what a player wins who draws one of M by lot before each game.

    Each counts in proportion to how often its own choices lead there: after a bet of the first player's,
    nobody asks any more what it does behind a pass.
    """
    reach = np.ones_like(strategies)
    reach[:, :, 3] -= strategies[:, :, 0]
    total = reach.sum(axis=0)
    return np.where(total > 0, (reach * strategies).sum(axis=0) / np.where(total > 0, total, 1.0), 0.5)


def counterfactual_regret(num_iterations: int) -> Strategy:
    """The average strategy after so many iterations (zinkevich2007cfr), both players at once.

    At each information set one plays in proportion to what one regrets, and averages over one's own reach.
    """
    regrets, averages = np.zeros((3, 4, 2)), np.zeros((3, 4, 2))  # pass, bet
    for _ in range(num_iterations):
        positive = regrets.clip(min=0.0)
        total = positive.sum(axis=2, keepdims=True)
        now = np.where(total > 0, positive / np.where(total > 0, total, 1.0), 0.5)
        for deal in DEALS:
            _walk("", deal, (1.0, 1.0), now, regrets, averages)
    return averages[..., 1] / averages.sum(axis=2)


def _walk(history, deal, reach, now, regrets, averages) -> float:
    """Adds one deal's regrets and averages; returns what the first player earns from here."""
    if history in ENDS:
        return payoff(history, deal)
    player = mover(history)
    at = deal[player], BEGINNINGS.index(history)
    worth = np.zeros(2)
    for move, letter in enumerate("pb"):
        further = list(reach)
        further[player] *= now[at][move]
        worth[move] = _walk(history + letter, deal, tuple(further), now, regrets, averages)
    mean = float(now[at] @ worth)
    regrets[at] += reach[1 - player] * (worth - mean) * (1 if player == 0 else -1)
    averages[at] += reach[player] * now[at]
    return mean


def regret_bound(num_iterations: int) -> float:
    """Bound on the average strategy's exploitability (zinkevich2007cfr, theorems 2 to 4).

    Each of a player's six information sets adds at most Delta sqrt(2 T), with winnings that differ by at most
    Delta = 4 coins, to T iterations' regret.
    """
    return 24.0 * (2 / num_iterations) ** 0.5
