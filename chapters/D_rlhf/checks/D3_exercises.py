"""Exercises of D3: its functions, and what goes beyond them."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def ceiling_between(agreement: float) -> tuple[float, float]:
    """(lowest, highest) Bayes ceiling for the share of pairs of eq. (E1), which is 0.5 to 1."""
    return agreement, (1.0 + math.sqrt(2.0 * agreement - 1.0)) / 2.0


def check_ceiling_between(ceiling_between):
    """Pairs of every kind lie between the two; pairs of one kind, and clear ones with tosses, reach them."""

    def both(probability):
        agreement = np.mean(probability**2 + (1 - probability) ** 2)
        return float(agreement), float(np.mean(np.maximum(probability, 1 - probability)))

    rng = np.random.default_rng(0)
    for concentration in (0.1, 1.0, 10.0):
        agreement, ceiling = both(rng.beta(concentration, concentration, size=200))
        lowest, highest = ceiling_between(agreement)
        assert lowest - 1e-9 <= ceiling <= highest + 1e-9, (
            f"agreement {agreement:.4g}: the ceiling {ceiling:.4g} is not in {lowest:.4g} to {highest:.4g}"
        )
    for share in (0.0, 0.1, 0.4, 0.7, 1.0):
        agreement, ceiling = both(np.full(10, 0.5 + share / 2))
        assert math.isclose(ceiling_between(agreement)[1], ceiling, abs_tol=1e-6), "all pairs equally hard"
        clear = int(10 * share)
        agreement, ceiling = both(np.array([1.0] * clear + [0.5] * (10 - clear)))
        assert math.isclose(ceiling_between(agreement)[0], ceiling, abs_tol=1e-9), "some clear, others a toss"


def ranking_loss(scores: Tensor) -> Tensor:
    """The loss of eq. (E2): scores [M, K] of M rankings, each from the text liked best to the worst."""
    first, second = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1)
    return -nn.functional.logsigmoid(scores[:, first] - scores[:, second]).mean()


def check_ranking_loss(ranking_loss):
    for seed, (num, size) in enumerate(((1, 2), (3, 2), (2, 4), (5, 9))):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randn(num, size, generator=generator, dtype=torch.float64)
        losses = []
        for row in scores.tolist():
            for i in range(size):
                losses += [math.log(1 + math.exp(row[j] - row[i])) for j in range(i + 1, size)]
        expected, found = sum(losses) / len(losses), float(ranking_loss(scores))
        assert math.isclose(found, expected, rel_tol=1e-9), f"expected {expected:.6g}, found {found:.6g}"
    far = float(ranking_loss(torch.tensor([[0.0, 200.0]])))
    assert math.isclose(far, 200.0, rel_tol=1e-6), f"scores 200 apart, the wrong way round: {far:.6g}"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the loss, the accuracy without labels, and the score at the last real token, from (2), (3) and section
3. The check of the loss knows the overflow, the sign, and the margin.
""",
        minutes=30,
        difficulty="medium",
        functions=("bradley_terry_loss", "expected_accuracy", "last_token"),
    ),
    "ceiling_between": Exercise(
        title="A ceiling for your own data",
        task=r"""
Nobody tells you $p$, but you can ask two annotators. The share of pairs on which they agree is

$$g = \tfrac1M \textstyle\sum_i \bigl[p_i^2 + (1 - p_i)^2\bigr] \tag{E1}$$

Between which two numbers does the ceiling (2) lie? Where, if $g$ is 0.73?
""",
        minutes=25,
        difficulty="medium",
        solution=ceiling_between,
        check=check_ceiling_between,
        hints=(
            "Of all ways to reach an agreement take two: all pairs equally hard; some clear, others a toss.",
            "An agreement of 1 means that both are 1, one of 0.5 that both are 0.5.",
            "highest = (1.0 + math.sqrt(2.0 * agreement - 1.0)) / 2.0",
        ),
        edits={
            "both_right": Edit(
                function="ceiling_between",
                old="(1.0 + math.sqrt(2.0 * agreement - 1.0)) / 2.0",
                new="math.sqrt(agreement)",
                says="forgets that two annotators also agree where both are wrong",
            ),
            "root_forgotten": Edit(
                function="ceiling_between",
                old="math.sqrt(2.0 * agreement - 1.0)",
                new="(2.0 * agreement - 1.0)",
                says="forgets the root: the highest becomes the lowest",
            ),
            "toss_below": Edit(
                function="ceiling_between",
                old="return agreement,",
                new="return 0.5,",
                says="says that the ceiling may be a toss, although the annotators agree more often",
            ),
        },
        answer=r"""
Between 0.73 and 0.84. If every label is right with the same probability $a$, then $a^2 + (1-a)^2 = 0.73$ and
$a = 0.84$: the highest ceiling. Agreement is a convex function of $\max(p, 1-p)$, so at the same agreement
pairs of mixed difficulty have a lower one. It is lowest if some pairs are clear and all others a toss: on
each pair the two then agree as often as the best scorer is right, so the ceiling is $g$ itself.
""",
    ),
    "ranking_loss": Exercise(
        title="More than two",
        task=r"""
Show an annotator $K$ texts at once, and one ranking gives $K (K-1) / 2$ pairs (`ouyang2022instructgpt`). With
$y^1$ the text liked best, the loss of a ranking is a mean over all of them:

$$-\tfrac{2}{K (K-1)} \textstyle\sum_{i<j} \log\sigma\bigl(r_\phi(y^i) - r_\phi(y^j)\bigr) \tag{E2}$$

Why should the pairs of one ranking stand in one batch?
""",
        minutes=20,
        difficulty="medium",
        solution=ranking_loss,
        check=check_ranking_loss,
        hints=(
            "Every text against every one that stands behind it, not its neighbour alone.",
            "With K = 2 it is (3) without a margin.",
            "first, second = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1)",
        ),
        edits={
            "neighbours_only": Edit(
                function="ranking_loss",
                old="scores[:, first] - scores[:, second]",
                new="scores[:, :-1] - scores[:, 1:]",
                says="compares neighbours only",
            ),
            "worst_first": Edit(
                function="ranking_loss",
                old="scores[:, first] - scores[:, second]",
                new="scores[:, second] - scores[:, first]",
                says="turns the ranking round: what is liked least gets the highest score",
            ),
            "sum_of_pairs": Edit(
                function="ranking_loss",
                old=".mean()",
                new=".sum(dim=1).mean()",
                says="sums the pairs of a ranking: longer rankings weigh more",
            ),
            "logarithm_of_sigmoid": Edit(
                function="ranking_loss",
                old="nn.functional.logsigmoid(scores[:, first] - scores[:, second])",
                new="torch.sigmoid(scores[:, first] - scores[:, second]).log()",
                says="takes the logarithm of the sigmoid: infinite where scores are far apart",
            ),
        },
        answer="""
Each text goes through the model once instead of K - 1 times. And the pairs of one ranking depend on each
other: in batches of their own they are K - 1 passes over the same texts, which teach the labels' luck.
""",
    ),
}
