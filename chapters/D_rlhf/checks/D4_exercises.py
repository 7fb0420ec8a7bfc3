"""Exercises of D4: its functions, and what goes beyond them."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def ranking_loss(log_ratios: Tensor, beta: float) -> Tensor:
    """Minus the log-probability of each ranking [B], eq. (E1).

    log_ratios: h [B, K] of K completions of one prompt, from the best to the worst.
    """
    rewards = beta * log_ratios
    rest = rewards.flip(1).logcumsumexp(dim=1).flip(1)  # log of a sum over each and all that are worse
    return (rest - rewards).sum(dim=1)


def check_ranking_loss(ranking_loss):
    """As a chain of choices, one ranking at a time; and over all orders the probabilities sum to 1."""
    rng = np.random.default_rng(8)
    for size, beta in itertools.product((1, 2, 3, 5), (0.1, 0.7, 2.0)):
        ratios = 2.0 * rng.normal(size=(4, size))
        found = ranking_loss(torch.from_numpy(ratios), beta)
        assert tuple(found.shape) == (4,), "a number for each ranking"
        for loss, row in zip(found.tolist(), ratios.tolist()):
            likely = 1.0
            for k in range(size):
                weights = [math.exp(beta * h) for h in row[k:]]
                likely *= weights[0] / sum(weights)
            assert math.isclose(loss, -math.log(likely), rel_tol=1e-7, abs_tol=1e-9), (
                f"{size} completions, beta {beta}: expected {-math.log(likely):.6g}, found {loss:.6g}"
            )
        orders = torch.tensor([list(order) for order in itertools.permutations(ratios[0].tolist())])
        assert math.isclose(torch.exp(-ranking_loss(orders, beta)).sum(), 1.0, rel_tol=1e-6)
    far = ranking_loss(torch.tensor([[-2000.0, 2000.0]]), 1.0)
    assert math.isclose(far, 4000.0, rel_tol=1e-6), "no overflow where the policy is quite wrong"


EXERCISES = {
    "heart": Exercise(
        title="The loss",
        task="Write (4), so that nothing overflows, its slope (5), and (6).",
        minutes=25,
        difficulty="medium",
        functions=("dpo_loss", "gradient_weight", "ipo_loss"),
    ),
    "prompt": Exercise(
        title="The prompt",
        task="A mask forgets to leave out the prompt, and its tokens are scored too. What changes?",
        minutes=10,
        difficulty="medium",
        answer="""
With sums nothing: the prompt is the same, and its log-probability cancels in $h_w - h_l$. With means over
tokens it does not cancel, for it is divided by two different lengths.
""",
    ),
    "ranking_loss": Exercise(
        title="More than two",
        task=r"""
Annotators often rank $K$ completions of a prompt. Say that they choose the best of all, then the best of the
rest, and so on, each time by the softmax of the rewards. Put (2) for the rewards: $\log Z$ cancels again
(`rafailov2023dpo`). From the best, $h_1$, to the worst, $h_K$:

$$L = -\sum_{k=1}^{K} \log \frac{e^{\beta h_k}}{\sum_{j \ge k} e^{\beta h_j}} \tag{E1}$$

Nothing may overflow.
""",
        minutes=25,
        difficulty="hard",
        solution=ranking_loss,
        check=check_ranking_loss,
        hints=(
            "Each choice is a classifier's cross-entropy among those that are left.",
            "Two completions: (4) with label 1. One: nothing to choose, a loss of 0.",
            "rewards = beta * log_ratios, then a log of sums of exponentials from the end.",
        ),
        edits={
            "only_the_best": Edit(
                function="ranking_loss",
                old="(rest - rewards).sum(dim=1)",
                new="(rest - rewards)[:, 0]",
                says="only the first choice: the order of the others teaches nothing",
            ),
            "worst_first": Edit(
                function="ranking_loss",
                old="rewards.flip(1).logcumsumexp(dim=1).flip(1)",
                new="rewards.logcumsumexp(dim=1)",
                says="the worst is chosen first, among all: the order is read from the end",
            ),
            "from_all": Edit(
                function="ranking_loss",
                old="rewards.flip(1).logcumsumexp(dim=1).flip(1)",
                new="rewards.logsumexp(dim=1, keepdim=True)",
                says="what was chosen already can be chosen again",
            ),
            "overflow": Edit(
                function="ranking_loss",
                old="rewards.flip(1).logcumsumexp(dim=1).flip(1)",
                new="rewards.exp().flip(1).cumsum(dim=1).flip(1).log()",
                says="the exponential of a large reward is infinite",
            ),
            "no_beta": Edit(
                function="ranking_loss",
                old="rewards = beta * log_ratios",
                new="rewards = log_ratios",
                says="beta is missing",
            ),
        },
        answer="""
Four ranked completions hold six pairs, and (4) on each of them is common, too. They are no independent
evidence: shuffled among others, they made InstructGPT's reward model overfit in one pass.
""",
    ),
}
