"""Exercises of B3: its functions, and what goes beyond them."""

import math

import numpy as np

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def weights_at_copies(w: float, num_copies: int, num_steps: int, gamma: float, alpha: float) -> np.ndarray:
    """The weight at each copy [num_copies]; before each, `num_steps` steps by eq. (E1), at first from w.

    Only s1 is learned: its value is w, and the target gamma V(s2), where V(s2) is twice the copied weight.
    """
    found = []
    for _ in range(num_copies):
        copied = w
        for _ in range(num_steps):
            w += alpha * (gamma * 2 * copied - w)
        found.append(w)
    return np.array(found)


def check_weights_at_copies(weights_at_copies):
    """Closed form: a share (1 - alpha)^n of the old weight stays, the rest moves to 2 gamma times it."""
    for w, num_copies, num_steps, gamma, alpha in (
        (1.0, 1, 1, 0.99, 0.1), (1.0, 6, 1, 0.99, 0.1), (-2.0, 5, 30, 0.99, 0.1), (0.5, 4, 7, 0.3, 0.5)
    ):  # fmt: skip
        found = weights_at_copies(w, num_copies, num_steps, gamma, alpha)
        stays = (1 - alpha) ** num_steps
        factor = stays + (1 - stays) * 2 * gamma
        assert len(found) == num_copies, f"{len(found)} weights for {num_copies} copies"
        for k in range(num_copies):
            expected = w * factor ** (k + 1)
            assert math.isclose(found[k], expected, rel_tol=1e-9), (
                f"copy {k + 1}, {num_steps} steps each, gamma {gamma}: expected {expected}, found {found[k]}"
            )


def interquartile_mean(scores: np.ndarray) -> float:
    """The mean of the middle half of all scores, whatever their shape; their number is a multiple of 4."""
    ordered = np.sort(scores, axis=None)
    quarter = len(ordered) // 4
    return float(ordered[quarter : 3 * quarter].mean())


def check_interquartile_mean(interquartile_mean):
    rng = np.random.default_rng(4)
    for shape in ((4,), (8,), (2, 6), (5, 40)):
        scores = np.round(rng.gamma(1.0, 100.0, size=shape))
        left = sorted(scores.ravel().tolist())
        for _ in range(len(left) // 4):
            left.pop(0)
            left.pop()
        found = interquartile_mean(scores.copy())
        assert math.isclose(found, sum(left) / len(left), rel_tol=1e-9), f"scores of shape {list(shape)}"


EXERCISES = {
    "heart": Exercise(
        title="The library's loss",
        task="""
Write a step of linear TD(0), (1), then the target (2) and the loss (3) that the library holds you to.
""",
        minutes=25,
        difficulty="easy",
        functions=("semi_gradient_step", "td_target", "huber_loss"),
    ),
    "idle_target": Exercise(
        title="A target network that does nothing",
        task="""
Here `--sync-every 1` gives the same run, number for number, `--sync-every 5000` quite another. Why? Which
settings would take the target network away?
""",
        minutes=10,
        difficulty="medium",
        answer=r"""
The library copies only while it steps the environment, and takes its gradient steps only in the rounds
between. While the environment is stepped $\theta$ does not change: one copy does as much as 256. During a
round there is no copy: $\theta^-$ stands still for all its gradient steps. With 5000 it stays the same for
some twenty rounds, and by (2) a reward travels back about one step a copy. To take the target network away,
set `--num-steps 1 --num-gradient-steps 1 --sync-every 1`: then $\theta^- = \theta$ at each gradient step.
""",
    ),
    "weights_at_copies": Exercise(
        title="The triad again",
        task=r"""
Give section 1's example a target network, in the case where only the step from $s_1$ comes. The target is
computed with a copy $w^-$, which stands still for $n$ steps:

$$w \leftarrow w + \alpha\,(2 \gamma\, w^- - w) \quad (n \text{ times}), \qquad
\text{then } w^- \leftarrow w \tag{E1}$$

What is the weight at each copy? Guess before you run it:
does a large enough $n$ make $w$ converge?
""",
        minutes=15,
        difficulty="medium",
        solution=weights_at_copies,
        check=check_weights_at_copies,
        hints=(
            "Two loops, one in the other: copies outside, steps inside. Who changes in which?",
            "With one step between copies nothing stands still, and it is section 1's example.",
            "copied = w",
        ),
        edits={
            "no_copy": Edit(
                function="weights_at_copies",
                old="gamma * 2 * copied",
                new="gamma * 2 * w",
                says="the target moves with the weight: there is no copy",
            ),
            "copied_once": Edit(
                function="weights_at_copies",
                old="    for _ in range(num_copies):\n        copied = w\n",
                new="    copied = w\n    for _ in range(num_copies):\n",
                says="copies the weight once, at the start, and never again",
            ),
            "own_feature": Edit(
                function="weights_at_copies",
                old="gamma * 2 * copied",
                new="gamma * copied",
                says="forgets that the successor's value is twice the weight",
            ),
            "no_discount": Edit(
                function="weights_at_copies",
                old="gamma * 2 * copied",
                new="2 * copied",
                says="forgets the discount",
            ),
        },
        answer=r"""
No. While $w^-$ stands still, $w$ moves towards $2\gamma w^-$. So from copy to copy it grows by a factor
between 1 and $2\gamma$, which is 1.98 for $\gamma = 0.99$: slower divergence, but divergence. Taking away
one of the triad's three is all that helps.
""",
    ),
    "interquartile_mean": Exercise(
        title="One number for all seeds",
        task=r"""
A best model is picked with hindsight. `machado2018revisiting` asks for averages along the training instead,
`agarwal2021rliable` for the *interquartile mean* (IQM) over all seeds and evaluations. Put the $n$ scores in
order, $x_{(1)} \le x_{(2)} \le \dots$, and take the mean of the middle half:

$$\text{IQM} = \frac2n \sum_{i = n/4 + 1}^{3n/4} x_{(i)} \tag{E2}$$

Then think of five seeds, one of which never learns.
Does this number say so?
""",
        minutes=10,
        difficulty="easy",
        solution=interquartile_mean,
        check=check_interquartile_mean,
        hints=(
            "Put all scores in one row and in order; cut the same number at both ends.",
            "Of four scores the two in the middle are left: there it is the median.",
            "ordered = np.sort(scores, axis=None)",
        ),
        edits={
            "all_scores": Edit(
                function="interquartile_mean",
                old="ordered[quarter : 3 * quarter]",
                new="ordered",
                says="the plain mean: one lucky score can move it as far as it likes",
            ),
            "only_the_worst": Edit(
                function="interquartile_mean",
                old="ordered[quarter : 3 * quarter]",
                new="ordered[quarter:]",
                says="drops the worst quarter and keeps the best",
            ),
            "the_median": Edit(
                function="interquartile_mean",
                old="ordered[quarter : 3 * quarter].mean()",
                new="np.median(ordered)",
                says="the median: of many scores it uses two",
            ),
            "row_by_row": Edit(
                function="interquartile_mean",
                old="np.sort(scores, axis=None)",
                new="np.sort(scores).ravel()",
                says="puts each seed's scores in order, not all of them",
            ),
        },
        answer="""
Hardly: that seed's scores are a fifth of all and among the lowest, and the lowest quarter is cut. That is the
price of a number that one accident barely moves. So draw all seeds beside it, as in the figure above.
""",
    ),
}
