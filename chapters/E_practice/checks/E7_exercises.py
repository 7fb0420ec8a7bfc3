"""Exercises of E7: its functions, and what goes beyond them."""

import numpy as np
from jaxtyping import Float, Int

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def mirrored(
    boards: Int[np.ndarray, "N 2"], shares: Float[np.ndarray, "N A"], height: int
) -> tuple[Int[np.ndarray, "N 2"], Float[np.ndarray, "N A"]]:
    """Boards of A columns, `height` cells each, and shares of their moves, left and right exchanged, (E1)."""
    feet = height * np.arange(shares.shape[1])
    columns = boards[:, :, None] >> feet & 2**height - 1  # [N, 2, A] the stones of each column
    return (columns[:, :, ::-1] << feet).sum(axis=2), shares[:, ::-1]


def check_mirrored(mirrored):
    """Cell by cell, on boards of several sizes."""
    rng = np.random.default_rng(0)
    for width, height in ((4, 4), (3, 2), (5, 3), (1, 4)):
        cells = rng.integers(0, 3, size=(6, width, height))
        boards = np.zeros((6, 2), dtype=np.int64)
        expected = np.zeros((6, 2), dtype=np.int64)
        for row, column, cell in np.ndindex(cells.shape):
            stone = cells[row, column, cell]
            if stone:
                boards[row, stone - 1] += 2 ** (column * height + cell)
                expected[row, stone - 1] += 2 ** ((width - 1 - column) * height + cell)
        shares = rng.dirichlet(np.ones(width), size=6)
        before = boards.copy(), shares.copy()
        found, moves = mirrored(boards, shares, height)
        assert (boards == before[0]).all(), "the boards that came were changed"
        assert (shares == before[1]).all(), "the shares that came were changed"
        for row in range(6):
            assert (found[row] == expected[row]).all(), (
                f"{width} x {height}: expected {[bin(x) for x in expected[row]]}, "
                f"found {[bin(int(x)) for x in found[row]]}"
            )
        np.testing.assert_allclose(moves, shares[:, ::-1], err_msg="the moves are exchanged too")


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write both scores, (2) and (4), and the way back up a path, (3). Whose value is it at each step?
""",
        minutes=30,
        difficulty="medium",
        functions=("ucb", "puct", "back_up"),
    ),
    "targets": Exercise(
        title="What self-play teaches",
        task="""
Write the results and the loss of (5), and the noise of (6).
""",
        minutes=25,
        difficulty="medium",
        functions=("results", "noisy", "loss_of"),
    ),
    "mirrored": Exercise(
        title="Twice the games for nothing",
        task=r"""
Connect-4 does not know left from right: from each board that was played one may learn twice, from itself and
from what a mirror shows. With $h$ cells a column and $W$ columns,

$$\text{bit } k\, h + r \;\to\; \text{bit } (W - 1 - k)\, h + r, \quad \pi(k) \to \pi(W - 1 - k), \tag{E1}$$

for column $k$ and row $r$, both counted from 0. Write it for many boards at once. How many such pictures of
one board has tic-tac-toe?
""",
        minutes=15,
        difficulty="easy",
        solution=mirrored,
        check=check_mirrored,
        hints=(
            "Take the columns apart, put them together in the other order; inside a column nothing moves.",
            "A board of one column is its own mirror image, whatever is in it.",
            "feet = height * np.arange(shares.shape[1])  # where each column's bits begin",
        ),
        edits={
            "moves_stay": Edit(
                function="mirrored",
                old="shares[:, ::-1]",
                new="shares.copy()",
                says="turns the boards and leaves the moves where they were",
            ),
            "boards_stay": Edit(
                function="mirrored",
                old="columns[:, :, ::-1] << feet",
                new="columns << feet",
                says="turns the moves only",
            ),
            "sides_swapped": Edit(
                function="mirrored",
                old="columns[:, :, ::-1] << feet",
                new="columns[:, ::-1, ::-1] << feet",
                says="exchanges the players too: the results would have to change their sign",
            ),
        },
        answer="""
Eight: four turns, each with its mirror image. Up to these, tic-tac-toe has 765 boards in place of 5,478.
AlphaGo Zero learned from all eight pictures of a Go board (`silver2017alphagozero`); AlphaZero did without,
since chess has none.
""",
    ),
    "what_exhaustion_says": Exercise(
        title="What exhaustion says, and what not",
        task="""
The agent of tic-tac-toe lost no line. Has it found a best move on every board? May you put a search of 24
simulations in place of its 100, or the network alone? And what do you know of an agent of Go that has won a
thousand games in a row?
""",
        minutes=10,
        difficulty="easy",
        answer="""
No: it was asked only on boards that its own moves lead to, a small part of all. Elsewhere it may still err,
and a win that it overlooks loses no line. A search of 24 simulations is another agent, and must be tried
against every reply itself. At Connect-4 on 4 x 4 cells the lesson's agent loses no line on four of five
recorded seeds, and 6 of 4,878 on the fifth: one weak board on the way is enough. Of Go's agent you know
that those opponents did not find the line that beats it. `wang2023adversarial` trained opponents that beat
an agent far above all people, though they lose to amateurs.
""",
    ),
}
