"""Games of stones in a line, many boards at once in NumPy: tic-tac-toe, and Connect-k on small boards.

A board is two whole numbers, each with a bit for every cell: the stones of **the player to move** first,
those of the other second. After a move the two change places, so that whoever is to move always sees its own
stones first. A column's cells are neighbouring bits, the lowest cell first: adding 1 at the foot of a column
carries past its stones to the first empty cell. Tic-tac-toe is nine columns of one cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

Boards = Int[np.ndarray, "N 2"]
DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1))
"""In which a line runs: along a row, up a column, along both diagonals."""


@dataclass(frozen=True, eq=False)
class LineGame:
    """Two players lay stones in turns. Who first has `length` in a line wins; a full board is a draw.

    Attributes: num_cells, num_actions (a column, or a cell if stones do not fall), `lines` [L] with the bits
    of each line, `feet` and `columns` [A] with the lowest bit and all the bits of what an action may fill.
    """

    name: str
    width: int
    height: int
    length: int
    falls: bool = True
    """Whether a stone falls to the lowest empty cell of its column; else any empty cell may be chosen."""
    num_cells: int = field(init=False)
    num_actions: int = field(init=False)
    lines: np.ndarray = field(init=False, repr=False)
    feet: np.ndarray = field(init=False, repr=False)
    columns: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        num_cells = self.width * self.height
        if not (0 < num_cells <= 62 and 1 <= self.length <= max(self.width, self.height)):
            raise ValueError(
                f"no game of {self.length} in a line on {self.width} x {self.height} cells (allowed: 62)"
            )
        deep = self.height if self.falls else 1  # cells of a column that an action may fill
        feet = np.int64(1) << np.arange(0, num_cells, deep, dtype=np.int64)
        values = {
            "num_cells": num_cells,
            "num_actions": num_cells // deep,
            "lines": self._lines(),
            "feet": feet,
            "columns": feet * np.int64(2**deep - 1),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _lines(self) -> Int[np.ndarray, " L"]:
        found = []
        for x, y in np.ndindex(self.width, self.height):
            for right, up in DIRECTIONS:
                cells = [(x + k * right, y + k * up) for k in range(self.length)]
                if all(0 <= i < self.width and 0 <= j < self.height for i, j in cells):
                    found.append(sum(1 << (i * self.height + j) for i, j in cells))
        return np.array(sorted(set(found)), dtype=np.int64)

    def symmetries(self) -> Int[np.ndarray, "K C"]:
        """Orders of the cells in which the game is the same: mirrored, and turned if stones do not fall."""
        cells = np.arange(self.num_cells).reshape(self.width, self.height)
        pictures = [cells, cells[::-1]]
        if not self.falls:
            pictures += [cells[:, ::-1] for cells in pictures]
            pictures += [cells.T for cells in pictures] if self.width == self.height else []
        return np.array([cells.ravel() for cells in pictures])

    def start(self, num_boards: int = 1) -> Boards:
        """Empty boards."""
        return np.zeros((num_boards, 2), dtype=np.int64)

    def moves(self, boards: Boards) -> Int[np.ndarray, "N A"]:
        """The bit that each action would set; 0 if it is illegal, as all are once the game has ended."""
        stones = boards[:, :1] | boards[:, 1:]
        found = (stones + self.feet) & self.columns & ~stones
        return np.where(self.lost(boards)[:, None], 0, found)

    def legal(self, boards: Boards) -> Bool[np.ndarray, "N A"]:
        """Which actions may be chosen."""
        return self.moves(boards) > 0

    def play(self, boards: Boards, actions: Int[np.ndarray, " N"]) -> Boards:
        """The boards after these moves, as the *other* player sees them. ValueError if one is illegal."""
        stone = np.take_along_axis(self.moves(boards), actions[:, None], axis=1)[:, 0]
        if not stone.all():
            raise ValueError(f"an illegal move: action {actions[stone == 0][0]} of {self.name}")
        return np.stack([boards[:, 1], boards[:, 0] | stone], axis=1)

    def lost(self, boards: Boards) -> Bool[np.ndarray, " N"]:
        """Whether the player to move has lost: the other, who moved last, has a line."""
        return ((boards[:, 1:] & self.lines) == self.lines).any(axis=1)

    def ended(self, boards: Boards) -> Bool[np.ndarray, " N"]:
        """Whether somebody has won, or the board is full."""
        full = (boards[:, 0] | boards[:, 1]) == 2**self.num_cells - 1
        return self.lost(boards) | full

    def outcomes(self, boards: Boards) -> Float[np.ndarray, " N"]:
        """What an ended game brought **the player to move**: -1 if it has lost, 0 for a draw.

        It cannot be +1: only the last move makes a line. Of a game that goes on it says 0; ask `ended` first.
        """
        return -self.lost(boards).astype(float)

    def num_stones(self, boards: Boards) -> Int[np.ndarray, " N"]:
        """Stones on the board: the ply."""
        return np.bitwise_count(boards[:, 0] | boards[:, 1]).astype(int)

    def planes(self, boards: Boards) -> Float32[np.ndarray, "N C2"]:
        """What a network sees: a 1 for each own stone, then a 1 for each of the other's, cell by cell."""
        bits = boards[:, :, None] >> np.arange(self.num_cells) & 1
        return bits.reshape(len(boards), 2 * self.num_cells).astype(np.float32)

    def grid(self, boards: Boards) -> Int[np.ndarray, "N H W"]:
        """The boards as pictures, the top row first: 1 the first player's stone, 2 the second's, 0 empty."""
        bits = boards[:, :, None] >> np.arange(self.num_cells) & 1  # [N, 2, cells]
        turned = self.num_stones(boards) % 2 == 1  # then the second player is to move, and comes first
        bits[turned] = bits[turned, ::-1]
        cells = (bits[:, 0] + 2 * bits[:, 1]).reshape(-1, self.width, self.height)
        return cells.transpose(0, 2, 1)[:, ::-1]


def all_pictures(
    game: LineGame, boards: Boards, shares: Float[np.ndarray, "N A"]
) -> tuple[Int[np.ndarray, "KN 2"], Float[np.ndarray, "KN A"]]:
    """(boards, shares of their moves) as each of K symmetries shows them: all by the first, then the next."""
    bits = boards[:, :, None] >> np.arange(game.num_cells) & 1  # [N, 2, C]
    deep = game.num_cells // game.num_actions
    orders = game.symmetries()
    turned = [(bits[:, :, order] << np.arange(game.num_cells)).sum(axis=2) for order in orders]
    return np.concatenate(turned), np.concatenate([shares[:, order[::deep] // deep] for order in orders])


def tic_tac_toe() -> LineGame:
    """Three in a line on 3 x 3 cells; a stone goes to any empty cell."""
    return LineGame("tic-tac-toe", 3, 3, 3, falls=False)


def connect(width: int, height: int, length: int) -> LineGame:
    """Connect-`length`: stones fall to the lowest empty cell of their column."""
    return LineGame(f"Connect-{length} on {width} x {height}", width, height, length)


def random_moves(legal: Bool[np.ndarray, "N A"], rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """A legal action of each board, all equally likely."""
    return np.where(legal, rng.random(legal.shape), -1.0).argmax(axis=1)


def opened(game: LineGame, num_boards: int, most: int, rng: np.random.Generator) -> Boards:
    """Boards after 0 to `most` random plies, each number as likely; those that have ended by then are empty.

    Raises ValueError if `most` is below 0.
    """
    boards = game.start(num_boards)
    plies = rng.integers(most + 1, size=num_boards)
    for ply in range(most):
        rows = np.flatnonzero((plies > ply) & ~game.ended(boards))
        boards[rows] = game.play(boards[rows], random_moves(game.legal(boards[rows]), rng))
    boards[game.ended(boards)] = 0
    return boards


def random_ends(game: LineGame, boards: Boards, rng: np.random.Generator) -> Boards:
    """How each game ends if both play at random from here on: a rollout."""
    ends = boards.copy()
    going = np.flatnonzero(~game.ended(boards))
    while len(going):
        ends[going] = game.play(ends[going], random_moves(game.legal(ends[going]), rng))
        going = going[~game.ended(ends[going])]
    return ends
