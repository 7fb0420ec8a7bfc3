"""Games solved: every position, ply by ply, and every line that an opponent can play against an agent.

A game is any object with `start`, `legal`, `play`, `ended`, `outcomes` and `num_cells` as those of
`chapters.envs.boards`, whose boards [N, 2] are seen by the player to move. Values are the player to move's:
1 wins, 0 draws, -1 loses, if both play well from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

Boards = Int[np.ndarray, "N 2"]
CONNECT_FOUR = (1, 7, 49, 238, 1120, 4263, 16422, 54859, 184275, 558186)
"""Positions of Connect-4 on its own board, 7 x 6, after 0, 1, 2, ... plies (OEIS A212693)."""
TIC_TAC_TOE = 5478
"""Positions of tic-tac-toe that play can reach, the empty board and ended games included."""


class Successors(NamedTuple):
    """What comes after the positions of one ply."""

    boards: Boards
    """Each once, sorted."""
    index: Int[np.ndarray, "M A"]
    """Where each move of each of the M positions leads, as a row of `boards`; -1 for an illegal one."""
    ways: Int[np.ndarray, " N"]
    """In how many ways each is reached: those of all positions that lead there, added."""


def successors(
    game: Any, boards: Int[np.ndarray, "M 2"], ways: Int[np.ndarray, " M"] | None = None
) -> Successors:
    """All positions one ply on. `ways`: in how many ways each of `boards` was reached, default one each."""
    legal = game.legal(boards)
    rows, actions = np.nonzero(legal)
    after, place = unique(game.play(boards[rows], actions))
    index = np.full(legal.shape, -1)
    index[rows, actions] = place
    ways = np.ones(len(boards), dtype=np.int64) if ways is None else ways
    return Successors(
        after, index, np.bincount(place, weights=ways[rows], minlength=len(after)).astype(np.int64)
    )


def unique(boards: Int[np.ndarray, "M 2"]) -> tuple[Boards, Int[np.ndarray, " M"]]:
    """(each board once, sorted; the row there of each board given)."""
    order = np.lexsort((boards[:, 1], boards[:, 0]))
    new = np.ones(len(boards), dtype=bool)
    new[1:] = (np.diff(boards[order], axis=0) != 0).any(axis=1)
    place = np.empty(len(boards), dtype=int)
    place[order] = np.cumsum(new) - 1
    return boards[order[new]], place


def count_positions(game: Any, num_plies: int) -> list[int]:
    """Positions that play can reach after 0, 1, ..., `num_plies` plies, ended ones included."""
    boards, counts = game.start(1), [1]
    for _ in range(num_plies):
        boards = successors(game, boards).boards
        counts.append(len(boards))
    return counts


@dataclass(frozen=True, eq=False)
class Solution:
    """All positions of a game by ply, and what each is worth to the player to move."""

    game: Any
    boards: list[Int[np.ndarray, "_ 2"]]
    """[N, 2] for each ply, sorted."""
    values: list[Float[np.ndarray, " _"]]
    """[N] for each ply: 1, 0 or -1."""
    action_values: list[Float[np.ndarray, "_ A"]]
    """What each move is worth to who makes it; NaN for an illegal one, and where the game has ended."""

    @property
    def num_positions(self) -> int:
        return sum(map(len, self.boards))

    def decisive(self, ply: int) -> Int[np.ndarray, " M"]:
        """Rows of the positions of a ply where some move is worth less than another."""
        q = self.action_values[ply]
        return np.flatnonzero(np.nanmax(q, axis=1, initial=-2) > np.nanmin(q, axis=1, initial=2))

    def of(self, boards: Boards) -> Float[np.ndarray, "N A"]:
        """The action values of any boards of the game. Raises ValueError if one cannot be reached."""
        found = np.empty((len(boards), self.action_values[0].shape[1]))
        plies = self.game.num_stones(boards)
        for ply in np.unique(plies):
            rows = np.flatnonzero(plies == ply)
            both, place = unique(np.concatenate([self.boards[ply], boards[rows]]))
            if len(both) > len(self.boards[ply]):
                raise ValueError(f"a board of {ply} stones that play of {self.game.name} never reaches")
            found[rows] = self.action_values[ply][place[len(self.boards[ply]) :]]
        return found


def solve(game: Any) -> Solution:
    """Forward through all positions, ply by ply, then back: v(s) = max over moves of -v(s')."""
    layers, links = [game.start(1)], []
    while len(layers[-1]):
        after = successors(game, layers[-1])
        layers.append(after.boards)
        links.append(after.index)
    layers.pop()
    later = np.zeros(0)  # values of the positions one ply on
    values, action_values = [], []
    for boards, index in zip(layers[::-1], links[::-1]):
        q = np.full(index.shape, np.nan)
        q[index >= 0] = -later[index[index >= 0]]  # what is good for the other is bad for the one who moves
        later = np.where(game.ended(boards), game.outcomes(boards), np.nanmax(q, axis=1, initial=-1))
        values.append(later)
        action_values.append(q)
    return Solution(game, layers, values[::-1], action_values[::-1])


def even_sample(
    solution: Solution, num_each: int, rng: np.random.Generator
) -> tuple[Boards, Float[np.ndarray, "N A"]]:
    """(boards, action values) of decisive positions, `num_each` of each ply, or all if there are fewer."""
    boards, values = [], []
    for ply in range(len(solution.boards)):
        rows = solution.decisive(ply)
        rows = np.sort(rng.choice(rows, min(num_each, len(rows)), replace=False))
        boards.append(solution.boards[ply][rows])
        values.append(solution.action_values[ply][rows])
    return np.concatenate(boards), np.concatenate(values)


def share_best(action_values: Float[np.ndarray, "N A"], actions: Int[np.ndarray, " N"]) -> float:
    """Share of positions whose action is one of the best; an illegal one is none."""
    taken = np.take_along_axis(action_values, actions[:, None], axis=1)[:, 0]
    return float(np.mean(taken == np.nanmax(action_values, axis=1)))


class Played(NamedTuple):
    """M games of up to T moves side by side; after an end the last board stays."""

    boards: Int[np.ndarray, "M T1 2"]
    actions: Int[np.ndarray, "M T"]
    """0 after the end."""
    lengths: Int[np.ndarray, " M"]
    """Moves until the end."""


def lines_of_play(
    game: Any, boards: Boards, rng: np.random.Generator, solution: Solution | None = None
) -> Played:
    """Games from these boards on, moves drawn evenly: of all legal ones, or with a solution of the best."""
    now, lengths = boards, np.zeros(len(boards), dtype=int)
    seen, actions = [now], []
    while not game.ended(now).all():
        going = np.flatnonzero(~game.ended(now))
        allowed = game.legal(now[going])
        if solution is not None:
            q = solution.of(now[going])
            allowed = q == np.nanmax(q, axis=1, keepdims=True)
        chosen = np.zeros(len(boards), dtype=int)
        chosen[going] = np.where(allowed, rng.random(allowed.shape), -1.0).argmax(axis=1)
        now = now.copy()
        now[going] = game.play(now[going], chosen[going])
        seen.append(now)
        actions.append(chosen)
        lengths[going] += 1
    return Played(np.stack(seen, axis=1), np.stack(actions, axis=1), lengths)


class Lines(NamedTuple):
    """What happened in all lines that an opponent can play: every sequence of its legal moves, once each."""

    won: int
    drawn: int
    lost: int
    """Lines that the agent lost."""
    lost_positions: int
    """Different final positions among those; several lines may end in one."""


def exhaust(game: Any, choose: Callable[[Boards], Int[np.ndarray, " N"]], seat: int) -> Lines:
    """Play an agent against every reply of every opponent; the agent moves first (seat 0) or second (1).

    `choose` says what the agent does in each of several positions, and must depend on nothing else. Then
    lines that meet in a position go on alike, and are counted together.
    """
    boards, ways = game.start(1), np.ones(1, dtype=np.int64)
    won = drawn = lost = lost_positions = ply = 0
    while len(boards):
        over = game.ended(boards)
        # the player to move has lost, or nobody has: at the agent's turn a loss is the agent's
        beaten = over & (game.outcomes(boards) < 0)
        drawn += int(ways[over & ~beaten].sum())
        if ply % 2 == seat:
            lost += int(ways[beaten].sum())
            lost_positions += int(beaten.sum())
        else:
            won += int(ways[beaten].sum())
        boards, ways = boards[~over], ways[~over]
        if ply % 2 == seat and len(boards):
            after, place = unique(game.play(boards, choose(boards)))
            ways = np.bincount(place, weights=ways, minlength=len(after)).astype(np.int64)
            boards = after
        elif len(boards):
            boards, _, ways = successors(game, boards, ways)
        ply += 1
    return Lines(won, drawn, lost, lost_positions)


def minimax(board: tuple[str, ...], lines: tuple[tuple[int, ...], ...], seen: dict) -> int:
    """What a board of "X", "O" and " " is worth to X, who began; stones may go anywhere. Fills `seen`.

    The second method, for tests of `solve`: no bits, no plies, no change of sides. X maximises, O minimises.
    """
    if board not in seen:
        mover = "XO"[(board.count("X") - board.count("O")) % 2]
        owners = {board[line[0]] for line in lines if len({board[cell] for cell in line}) == 1}
        if won := owners & {"X", "O"}:
            seen[board] = 1 if "X" in won else -1
        elif " " not in board:
            seen[board] = 0
        else:
            empty = [cell for cell, stone in enumerate(board) if stone == " "]
            after = [minimax((*board[:cell], mover, *board[cell + 1 :]), lines, seen) for cell in empty]
            seen[board] = max(after) if mover == "X" else min(after)
    return seen[board]
