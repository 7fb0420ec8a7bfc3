"""Exercises of E8: its functions, and what goes beyond them."""

import math

import numpy as np
from jaxtyping import Float

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def rescaled(q: Float[np.ndarray, "N A"]) -> Float[np.ndarray, "N A"]:
    """Values of each board's moves from 0, the worst, to 1, the best; all 0 if they are equal, (E1)."""
    worst, best = q.min(axis=1, keepdims=True), q.max(axis=1, keepdims=True)
    return (q - worst) / np.maximum(best - worst, 1e-8)


def check_rescaled(rescaled):
    """Board by board; and whatever is paid by another scale comes out the same."""
    rng = np.random.default_rng(0)
    q = rng.normal(size=(6, 5)) * np.array([[0.01], [1], [100], [1], [3], [1]])
    q[3] = 0.25
    before = q.copy()
    found = rescaled(q)
    assert (q == before).all(), "the values that came were changed"
    assert np.isfinite(found).all(), "where all values are equal nothing is left to divide by"
    for row, values in enumerate(q):
        span = values.max() - values.min()
        for move, value in enumerate(values):
            expected = (value - values.min()) / span if span else 0.0
            assert math.isclose(found[row, move], expected, rel_tol=1e-9, abs_tol=1e-9), (
                f"values {values.round(3)}, move {move}: "
                f"expected {expected:.4f}, found {found[row, move]:.4f}"
            )
    np.testing.assert_allclose(rescaled(7 * q - 3), found, atol=1e-6, err_msg="another scale, another zero")


EXERCISES = {
    "heart": Exercise(
        title="The heart of the search",
        task="""
Write the way back up a path, (2), the completed values, (4), what the noise is added to, (3), and the choice
below the root, (6). Where does the sign change, and which reward belongs to which move?
""",
        minutes=40,
        difficulty="hard",
        functions=("back_up", "completed", "raised", "inner_choice"),
    ),
    "learning": Exercise(
        title="What the three functions learn",
        task="""
Write the targets of a game, (7), and the loss of an unrolled line, (8) and (9). What is learned of the moves
after the end, and what would a search do without it?
""",
        minutes=40,
        difficulty="hard",
        functions=("targets", "loss_of"),
    ),
    "halving": Exercise(
        title="Half of them go on",
        task="""
Write sequential halving as a list: how many visits a move must have to be next. How often is each of nine
moves tried with 16 simulations, at least and at most?
""",
        minutes=20,
        difficulty="medium",
        functions=("schedule",),
        answer="""
Once and four times. All nine are tried; the better four a second time; the better two of them a third time;
one is left of 16, and goes to the better of the two.
""",
    ),
    "rescaled": Exercise(
        title="Points, coins, or wins",
        task=r"""
A win counts 1 here, and (3) is made for that. In a game whose rewards are points nobody knows beforehand how
large values become: MuZero rescales them by the least and the largest that its tree has found, and mctx does
so at each board. With $\bar Q$ the completed values,

$$\tilde Q(a) = \frac{\bar Q(a) - \min_b \bar Q(b)}{\max\bigl(\max_b \bar Q(b) - \min_b \bar Q(b),\;
10^{-8}\bigr)}. \tag{E1}$$

Write it for many boards at once. What does it make of two moves that are
worth 0.01 and 0.02?
""",
        minutes=10,
        difficulty="easy",
        solution=rescaled,
        check=check_rescaled,
        hints=(
            "The least and the largest are those of a board's own moves.",
            "Which axis holds the moves? Keep it, with one entry, so that it can be subtracted.",
            "worst, best = q.min(axis=1, keepdims=True), q.max(axis=1, keepdims=True)",
        ),
        edits={
            "of_all_boards": Edit(
                function="rescaled",
                old="q.min(axis=1, keepdims=True), q.max(axis=1, keepdims=True)",
                new="q.min(), q.max()",
                says="takes the least and the largest of all boards: one board presses the others flat",
            ),
            "worst_kept": Edit(
                function="rescaled",
                old="(q - worst) /",
                new="q /",
                says="divides, and leaves the worst where it was",
            ),
            "by_zero": Edit(
                function="rescaled",
                old="np.maximum(best - worst, 1e-8)",
                new="(best - worst)",
                says="divides by 0 where all moves are worth the same",
            ),
        },
        answer="""
0 and 1: as far apart as a loss and a win. Where the true scale is known, as here, rescaling makes noise loud;
so this lesson does without, and its parity with mctx is tested with rescaling off.
""",
    ),
    "what_is_told": Exercise(
        title="What is it still told?",
        task="""
Name all that this agent is told of the game. Why may the rules say what is legal at the root, and why not
below it? And what happens in the tree when a move is imagined onto a cell that is taken?
""",
        minutes=10,
        difficulty="easy",
        answer="""
The two planes of a board, what is legal on the board that lies there, that players take turns (the minus in
(2)), when a game has ended and whether its last move won, and that a game turned or mirrored is a game. What
is legal now one sees; what will be legal after moves that nobody has made only the rules know. A move onto a
taken cell was never played, so the model was never taught what it does; but the policy has learned not to
like it, and (6) seldom tries it.
""",
    ),
}
