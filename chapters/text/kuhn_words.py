"""Kuhn poker told in words, from the seat of one player: what a language model reads and writes.

`you hold the king . you act second . they : pass . you :` is one of the twelve situations in which somebody
must choose; `bet` or `pass` follows. The rules and the exact answers stand in `chapters.exact.kuhn`, whose
order of cards and beginnings is kept here.
"""

from __future__ import annotations

import numpy as np

from chapters.exact.kuhn import BEGINNINGS, DEALS, ENDS, mover, payoff

CARDS = ("jack", "queen", "king")
MOVES = ("pass", "bet")
VOCABULARY = ("you", "hold", "the", *CARDS, "act", "first", "second", "they", ":", ".", *MOVES)
Games = dict[str, np.ndarray]


def words(card: int, history: str, player: int) -> str:
    """A hand and what was done with it, as `player` tells it: p a pass, b a bet."""
    seat = ("first", "second")[player]
    told = [f"you hold the {CARDS[card]} . you act {seat} ."]
    for at, move in enumerate(history):
        who = "you" if mover(history[:at]) == player else "they"
        told.append(f"{who} : {MOVES['pb'.index(move)]} .")
    return " ".join(told)


def situations() -> list[str]:
    """The twelve texts after which somebody must choose: for each card the four beginnings."""
    return [
        f"{words(card, beginning, mover(beginning))} you :" for card in range(3) for beginning in BEGINNINGS
    ]


def write_games(rng: np.random.Generator, num_texts: int) -> list[str]:
    """Games of players who bet and pass evenly, each told by one of the two."""
    texts = []
    for _ in range(num_texts):
        deal, history = DEALS[rng.integers(len(DEALS))], ""
        while history not in ENDS:
            history += "pb"[rng.integers(2)]
        player = int(rng.integers(2))
        texts.append(words(deal[player], history, player))
    return texts


def play(bets: np.ndarray, num_games: int, rng: np.random.Generator) -> Games:
    """Games of one strategy [3, 4] against itself, a row for each game and seat, first seats first.

    `situations` [2 n, 2] are the numbers of the situations in which the player chose, -1 for none; `moves`
    [2 n, 2] what was chosen, 0 or 1; `returns` [2 n] what was won; `hands` [2 n] seat and card as one number.
    """
    count = 2 * num_games
    found = {
        "situations": np.full((count, 2), -1),
        "moves": np.zeros((count, 2), dtype=int),
        "returns": np.zeros(count),
        "hands": np.zeros(count, dtype=int),
    }
    draws = rng.random((num_games, 3))
    for game, deal in enumerate(rng.integers(len(DEALS), size=num_games)):
        cards, history = DEALS[deal], ""
        while history not in ENDS:
            player = mover(history)
            place = BEGINNINGS.index(history)
            row, nth = game + player * num_games, len(history) // 2
            move = int(draws[game, len(history)] < bets[cards[player], place])
            found["situations"][row, nth] = 4 * cards[player] + place
            found["moves"][row, nth] = move
            history += "pb"[move]
        won = payoff(history, cards)
        found["returns"][[game, game + num_games]] = won, -won
        found["hands"][[game, game + num_games]] = cards[0], 3 + cards[1]
    return found
