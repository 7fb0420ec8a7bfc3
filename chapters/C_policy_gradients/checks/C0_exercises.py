"""Exercises of C0: its functions, a proof, the best baseline there is, and a world that needs its past."""

import numpy as np

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def best_baseline(probs: np.ndarray, rewards: np.ndarray) -> float:
    """The b that makes eq. (E1) least, for the probabilities [A] and the rewards [A] of the actions."""
    scores = np.eye(len(probs)) - probs  # a row for each action, eq. (4)
    weights = probs * (scores**2).sum(axis=1)
    return float((weights * rewards).sum() / weights.sum())


def check_best_baseline(best_baseline):
    assert np.isclose(best_baseline(np.array([0.5, 0.5]), np.array([10.0, 11.0])), 10.5)
    rng = np.random.default_rng(21)
    for num_actions in (2, 3, 6):
        for _ in range(4):
            probs = rng.dirichlet(np.ones(num_actions))
            rewards = rng.normal(5.0, 2.0, size=num_actions)

            def scatter(b, probs=probs, rewards=rewards):
                total = 0.0
                for a, p in enumerate(probs):
                    score = [(1.0 if k == a else 0.0) - q for k, q in enumerate(probs)]
                    total += p * sum(((rewards[a] - b) * number) ** 2 for number in score)
                return total

            low, middle, high = scatter(-1.0), scatter(0.0), scatter(1.0)  # of a parabola in b
            lowest = (low - high) / (2 * (low - 2 * middle + high))
            np.testing.assert_allclose(best_baseline(probs, rewards), lowest, rtol=1e-6, atol=1e-8)


EXERCISES = {
    "heart": Exercise(
        title="The weights",
        task="Write reward-to-go, the leave-one-out baseline and the loss, from (7), (9) and (10).",
        minutes=20,
        difficulty="easy",
        functions=("rewards_to_go", "leave_one_out", "policy_loss"),
    ),
    "own_mean": Exercise(
        title="One's own episode in the mean",
        task=r"""
Show that with the mean over all $N$ episodes in place of (9) every weight is $1 - \tfrac1N$ times what it
should be. Why does Adam not care?
""",
        minutes=15,
        difficulty="medium",
        answer=r"""
Let $S = \sum_{j \ne i} G^j$. Then $G^i - \frac1N (G^i + S) = \frac{N-1}{N} G^i - \frac1N S = \frac{N-1}{N}
\bigl(G^i - \frac{S}{N-1}\bigr)$, the same factor everywhere (`own_mean_scale`). Adam divides each coordinate
of the gradient by its own recent size: a common factor cancels, but for Adam's $\epsilon$.
""",
    ),
    "best_baseline": Exercise(
        title="The best baseline there is",
        task=r"""
One state, one step. Any $b$ leaves the mean of the samples $(r(a) - b)\, \nabla \log \pi(a)$ as it is, so
they scatter least where the mean of their squared length is least:

$$\sum_a \pi(a)\, (r(a) - b)^2\, |\nabla \log \pi(a)|^2 \;\to\; \min \tag{E1}$$

The gradient is that in the logits, (4). Write the $b$ that does it.
""",
        minutes=20,
        difficulty="medium",
        solution=best_baseline,
        check=check_best_baseline,
        hints=(
            "(E1) is a parabola in b: set its slope to zero, and b is a weighted mean of the rewards.",
            "If all scores were equally long, b would be the mean reward under the policy.",
            "scores = np.eye(len(probs)) - probs",
        ),
        edits={
            "mean_reward": Edit(
                function="best_baseline",
                old="probs * (scores**2).sum(axis=1)",
                new="probs",
                says="takes the mean reward, the state's value: good, but blind to the length of the scores",
            ),
            "length_not_squared": Edit(
                function="best_baseline",
                old="(scores**2).sum(axis=1)",
                new="(scores**2).sum(axis=1) ** 0.5",
                says="weighs by the length of the score, not by its square",
            ),
            "no_probabilities": Edit(
                function="best_baseline",
                old="probs * (scores**2).sum(axis=1)",
                new="(scores**2).sum(axis=1)",
                says="forgets that a likely action is drawn more often",
            ),
        },
        answer=r"""
The derivative of (E1) is 0 at the mean of the rewards weighted by $\pi(a)\, |\nabla \log \pi(a)|^2$. With two
actions that is $\pi(1)\, r(0) + \pi(0)\, r(1)$, the mean with the probabilities swapped, and then both
samples *are* the gradient. The usual baseline, $V^\pi(s)$, is the mean as it is: good, seldom the best.
""",
    ),
    "fee_and_refund": Exercise(
        title="A world that needs its past",
        task=r"""
Dropping the past leaves the mean as it is. Does it always lower the noise? Find a task of two steps in which
reward-to-go is noisier than the total return.
""",
        minutes=10,
        difficulty="hard",
        answer=r"""
The first step costs 5 whatever one does, the second pays 5, or 6 for one of two actions. The total return is
0 or 1: the fee is a perfect baseline. The reward-to-go of the second step is 5 or 6, and 5 of it is pure
noise (`greensmith2004variance`; right panel of the figure, and `fee_and_refund_ratio`).
""",
    ),
}
