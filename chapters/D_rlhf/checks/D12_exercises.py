"""Exercises of D12: its functions, and what goes beyond them."""

import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def effective_share(log_ratios: Tensor) -> float:
    """The share of eq. (E1), from the log-ratio [B, T] of each token of B texts; 0 in padding."""
    whole = log_ratios.sum(dim=1)  # [B]
    weights = (whole - whole.max()).exp()  # a common factor cancels, and nothing overflows
    return (weights.sum().square() / weights.square().sum() / len(weights)).item()


def check_effective_share(effective_share):
    """Against sums written out; equal weights; ratios that would overflow."""
    for seed, (num, length) in enumerate(((1, 1), (4, 3), (30, 6))):
        generator = torch.Generator().manual_seed(seed)
        log_ratios = 0.3 * torch.randn(num, length, generator=generator, dtype=torch.float64)
        ratios = [math.exp(sum(row)) for row in log_ratios.tolist()]
        expected = sum(ratios) ** 2 / sum(ratio**2 for ratio in ratios) / num
        found = float(effective_share(log_ratios))
        assert math.isclose(found, expected, rel_tol=1e-9), f"{num} texts: {found:.6g}, not {expected:.6g}"
    equal = torch.full((5, 2), 0.7, dtype=torch.float64)
    assert math.isclose(float(effective_share(equal)), 1.0), "equal weights: every text counts"
    huge = torch.full((4, 1000), 1.0, dtype=torch.float64)
    assert math.isclose(float(effective_share(huge)), 1.0), "1,000 tokens of ratio e: it must not overflow"


def longest_text(chi_square: float, budget: float) -> int:
    """The largest T of eq. (E2)."""
    return math.floor(math.log(budget) / math.log1p(chi_square) + 1e-9)


def check_longest_text(longest_text):
    for chi_square, budget in ((0.01, 2.0), (0.001, 2.0), (0.5, 10.0), (1.0, 8.0), (1e-9, 1.5)):
        found = longest_text(chi_square, budget)
        assert int(found) == found, "a number of tokens"
        slack = 1.0 + 1e-6
        assert (1.0 + chi_square) ** found <= budget * slack, f"{chi_square}, {budget}: {found} is too long"
        longer = (1.0 + chi_square) ** (found + 1)
        assert longer * slack > budget, f"{chi_square}, {budget}: {found} is too short"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the weights of (3), the loss of (4), and the exact mean and variance of (6).
""",
        minutes=40,
        difficulty="medium",
        functions=("weights", "surrogate", "moments"),
    ),
    "effective_share": Exercise(
        title="How many texts are these worth?",
        task=r"""
A log has the log-ratio of each token, trainer to sampler. If the trainer had written texts itself, which
share of $B$ would have done as well?

$$\frac{1}{B}\, \frac{\bigl(\sum_i W_i\bigr)^2}{\sum_i W_i^2} \tag{E1}$$

Real texts have thousands of tokens: take care that nothing overflows.
""",
        minutes=15,
        difficulty="easy",
        solution=effective_share,
        check=check_effective_share,
        hints=(
            "W is a product over a text's tokens: a sum of logarithms.",
            "If all ratios are equal, the share is 1, however large they are: a common factor cancels.",
            "whole = log_ratios.sum(dim=1)",
        ),
        edits={
            "of_tokens": Edit(
                function="effective_share",
                old="log_ratios.sum(dim=1)",
                new="log_ratios.flatten()",
                says="takes each token for a text",
            ),
            "geometric": Edit(
                function="effective_share",
                old="log_ratios.sum(dim=1)",
                new="log_ratios.mean(dim=1)",
                says="takes the geometric mean of a text's ratios for their product: far too hopeful",
            ),
            "not_a_share": Edit(
                function="effective_share",
                old=" / len(weights)",
                new="",
                says="a number of texts, not a share of them",
            ),
            "overflows": Edit(
                function="effective_share",
                old="(whole - whole.max()).exp()",
                new="whole.exp()",
                says="overflows on long texts",
            ),
        },
    ),
    "longest_text": Exercise(
        title="How long may a text be?",
        task=r"""
Say that each token's ratio has $\mathbb E_\mu[w_t^2] = 1 + \chi^2$, whatever stands before it. Then a text of
$T$ tokens has $\mathbb E_\mu[W^2] = (1 + \chi^2)^T$. How long may it be, if that is to stay within a budget?

$$(1 + \chi^2)^T \le \text{budget} \tag{E2}$$

Try $\chi^2$ of 0.01 and 0.001 with a budget of 2.
""",
        minutes=10,
        difficulty="easy",
        solution=longest_text,
        check=check_longest_text,
        hints=(
            "Take logarithms; the answer is a whole number.",
            "For a small chi square, T is about log(budget) over chi square.",
            "return math.floor(math.log(budget) / math.log1p(chi_square) + 1e-9)",
        ),
        edits={
            "linear": Edit(
                function="longest_text",
                old="math.log(budget) / math.log1p(chi_square)",
                new="(budget - 1.0) / chi_square",
                says="adds what multiplies",
            ),
            "one_more": Edit(
                function="longest_text",
                old="math.floor(",
                new="1 + math.floor(",
                says="one token too many",
            ),
        },
        answer=r"""
69 and 693 tokens. So on long texts nobody can afford the ratio of the whole, even with a good server. One
pays with bias instead: weights by token, or a cap.
""",
    ),
    "invisible": Exercise(
        title="A ratio of 1 in the log",
        task=r"""
A trainer gets texts from a server without their log-probabilities, recomputes these itself, and takes them
for the sampler's. Its log shows a mean ratio of exactly 1 at every first pass, and no token clipped. Is the
server exact?
""",
        minutes=5,
        difficulty="easy",
        answer=r"""
Nobody can say. The ratio compares the trainer with itself. Only the sampler's own numbers tell (here
`sampler_log_probs`); `rl break D12 numbers_recomputed` has this log and ends where no weights end.
""",
    ),
}
