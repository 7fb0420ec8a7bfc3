"""Tree search by its definition, one tree in plain Python: how often each move of the root is tried.

For tests of a search that is written for speed. Nothing is shared with one: positions are objects with
dictionaries, players keep their colours, and every value is the *first* player's until a score needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Int


class Position:
    """A position of the tree: what its moves have earned the first player, and what lies behind them."""

    def __init__(self, game: Any, board: Int[np.ndarray, "1 2"], colour: int, guide: Callable) -> None:
        self.board, self.colour = board, colour
        self.over = bool(game.ended(board)[0])
        prior, value = guide(board)
        worth = float(game.outcomes(board)[0]) if self.over else float(value[0])
        self.for_the_first = worth if colour == 0 else -worth
        moves = [] if self.over else np.flatnonzero(game.legal(board)[0]).tolist()
        self.prior = {move: float(prior[0, move]) for move in moves}
        self.earned: dict[int, list[float]] = {move: [] for move in moves}
        self.behind: dict[int, Position] = {}

    def score(self, move: int, rule: str, c: float) -> float:
        """What is maximised: the mean that the move earned its player, and a bonus if tried little."""
        earned, tried = self.earned[move], sum(map(len, self.earned.values()))
        mean = math.fsum(earned) / len(earned) if earned else 0.0
        if self.colour == 1:
            mean = -mean
        if rule == "ucb":
            return mean + c * math.sqrt(math.log(tried) / len(earned)) if earned else math.inf
        return mean + c * self.prior[move] * math.sqrt(1 + tried) / (1 + len(earned))


def count_visits(
    game: Any,
    board: Int[np.ndarray, "1 2"],
    guide: Callable,
    num_simulations: int,
    rule: Literal["ucb", "puct"],
    c: float,
) -> Int[np.ndarray, " A"]:
    """How often a search tries each move of the root.

    guide(boards [N, 2]) gives a prior [N, A] and values [N] to the player to move. Between equal scores the
    lower move is tried. `kocsis2006uct` for "ucb", `silver2017alphagozero` for "puct".
    """
    root = Position(game, board, 0, guide)
    for _ in range(num_simulations):
        at, way = root, []
        while not at.over:
            best = max(at.earned, key=lambda move: (at.score(move, rule, c), -move))
            way.append((at, best))
            if best not in at.behind:
                one = game.play(at.board, np.array([best]))
                at.behind[best] = Position(game, one, 1 - at.colour, guide)
                at = at.behind[best]
                break
            at = at.behind[best]
        for position, move in way:
            position.earned[move].append(at.for_the_first)
    visits = np.zeros(game.legal(board).shape[1], dtype=int)
    for move, earned in root.earned.items():
        visits[move] = len(earned)
    return visits
