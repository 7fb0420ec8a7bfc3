"""Exercises of E9: its functions, and what goes beyond them."""

import math

import numpy as np
from jaxtyping import Float

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def credit_gradient(
    credit: Float[np.ndarray, "A B"], first: Float[np.ndarray, " A"], second: Float[np.ndarray, " B"]
) -> tuple[Float[np.ndarray, " A"], float]:
    """(mean [A], variance) of (E1) for the first agent, both actions drawn from their policies."""
    scores = np.eye(len(first)) - first  # [A, A] gradient of log pi(a) with respect to all preferences
    chance = first[:, None] * second  # [A, B] of each pair of actions
    samples = credit[:, :, None] * scores[:, None, :]  # [A, B, A]
    mean = np.einsum("ab,abk->k", chance, samples)
    variance = np.einsum("ab,abk->", chance, (samples - mean) ** 2)
    return mean, float(variance)


def check_credit_gradient(credit_gradient):
    """Against sums over single samples; the mean of rewards' gradients also against finite differences."""
    rng = np.random.default_rng(0)
    for size, other in ((3, 3), (2, 4)):
        credit = rng.normal(size=(size, other)) * 5
        first, second = rng.dirichlet(np.ones(size)), rng.dirichlet(np.ones(other))
        mean, square = np.zeros(size), 0.0
        for a in range(size):
            for b in range(other):
                sample = credit[a, b] * (np.arange(size) == a) - credit[a, b] * first
                mean += first[a] * second[b] * sample
                square += first[a] * second[b] * (sample @ sample)
        found, variance = credit_gradient(credit, first, second)
        np.testing.assert_allclose(found, mean, rtol=1e-9, atol=1e-12)
        assert math.isclose(variance, square - mean @ mean, rel_tol=1e-9), (
            f"the variance is {variance:.6g}, expected {square - mean @ mean:.6g}"
        )
        for k in range(size):
            worth = []
            for sign in (-1, 1):
                logits = np.log(first)
                logits[k] += sign * 1e-5
                worth.append(np.exp(logits) / np.exp(logits).sum() @ credit @ second)
            assert abs(found[k] - (worth[1] - worth[0]) / 2e-5) < 1e-6


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write what a move is worth, (4), and what a strategy can lose, (5): with these two any learner of section 3 is
a line, and is judged exactly.
""",
        minutes=40,
        difficulty="hard",
        functions=("counterfactual_values", "nash_conv"),
    ),
    "small_steps": Exercise(
        title="Smaller steps?",
        task=r"""
Somebody sees the orbit of (1) spiral outward and halves the step size $\eta$ until it does not any more, in
as many steps. What has been gained? And what does taking turns gain, which costs nothing?
""",
        minutes=10,
        difficulty="easy",
        answer=r"""
Nothing: by (2) the distance grows by $\eta^2 / 2$ of itself a step, and a lap round the equilibrium takes
$2 \pi / \eta$ steps, so that each lap carries outward by a share of $\pi \eta$. Halving $\eta$ halves that,
and doubles the steps of a lap; no $\eta > 0$ leads inward. Taking turns closes the orbit: nothing grows, so
that the average converges as $1/T$ however large $\eta < 2$ is. The last strategy does not converge then,
either.
""",
    ),
    "credit_gradient": Exercise(
        title="Whose noise?",
        task=r"""
The first agent of a team samples $a$ from its policy $\pi$, a softmax of preferences, the other samples $b$
from its own, and the first learns from

$$\text{credit}(a, b)\; \nabla \log \pi(a), \qquad
\frac{\partial \log \pi(a)}{\partial z(k)} = 1_{k = a} - \pi(k) \tag{E1}$$

Write its exact mean, and its variance summed over the preferences, by enumeration. For both credits of
section 4 the mean is the same. Is a central critic's variance smaller, in the climbing game with even
policies? And always?
""",
        minutes=20,
        difficulty="medium",
        solution=credit_gradient,
        check=check_credit_gradient,
        hints=(
            "Every pair of actions is one sample, with a chance and with a gradient: a table [A, B, A].",
            "If the first agent never chooses but one action, its gradient is 0, and so is its variance.",
            "scores = np.eye(len(first)) - first  # [a, k]",
        ),
        edits={
            "second_moment": Edit(
                function="credit_gradient",
                old="(samples - mean) ** 2",
                new="samples**2",
                says="takes the mean square for the variance: it does not subtract the mean",
            ),
            "even_chance": Edit(
                function="credit_gradient",
                old="first[:, None] * second",
                new="np.ones_like(credit) / credit.size",
                says="counts all pairs of actions alike, however likely",
            ),
            "score_of_one": Edit(
                function="credit_gradient",
                old="np.eye(len(first)) - first",
                new="np.eye(len(first))",
                says="forgets that a softmax lowers all others: - pi(k) is missing",
            ),
            "mean_of_the_other": Edit(
                function="credit_gradient",
                old="credit[:, :, None] * scores[:, None, :]",
                new="(credit @ second)[:, None, None] * np.repeat(scores[:, None, :], len(second), axis=1)",
                says="averages over the other's action first: the noise that it brings is gone",
            ),
        },
        answer=r"""
With even policies it is smaller, 121 in place of 138. Not always: over teams drawn at random it is so in
little more than half of them, and at the worst it is several times larger. The central baseline moves with
$b$, and that helps where the rewards of all actions move with $b$ alike. Here they do not. Say the first
agent has all but settled on its second action: when it tries its third, which hardly depends on $b$, the
central baseline subtracts $-30$, 7 or 6, a noise that was not there.
""",
    ),
}
