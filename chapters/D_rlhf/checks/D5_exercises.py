"""Exercises of D5: its functions, and what goes beyond them."""

import itertools
import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def pass_at_k(num_correct: Tensor, num_samples: int, k: int) -> float:
    """Chance that one of k answers is right, eq. (E1), mean over problems.

    num_correct: [N], how many of the `num_samples` answers to each problem are right.
    """
    wrong = num_samples - num_correct.double()
    all_wrong = torch.ones_like(wrong)
    for i in range(k):  # the next one drawn is wrong too
        all_wrong = all_wrong * (wrong - i) / (num_samples - i)
    return (1.0 - all_wrong).mean().item()


def check_pass_at_k(pass_at_k):
    """Against every set of k of the n answers."""
    for n, correct in ((1, [0, 1]), (4, [0, 1, 2, 4]), (6, [3, 5]), (7, [1])):
        for k in range(1, n + 1):
            shares = []
            for c in correct:
                answers = [True] * c + [False] * (n - c)
                sets = list(itertools.combinations(answers, k))
                shares.append(sum(any(some) for some in sets) / len(sets))
            expected, found = sum(shares) / len(shares), pass_at_k(torch.tensor(correct), n, k)
            assert math.isclose(found, expected, abs_tol=1e-6), (
                f"{correct} of {n} right, k = {k}: expected {expected:.6g}, found {found:.6g}"
            )
    assert math.isclose(pass_at_k(torch.tensor([32]), 64, 1), 0.5, rel_tol=1e-6)


def overlong_penalty(lengths: Tensor, longest: int, margin: int) -> Tensor:
    """What is added to the reward of completions of these lengths [B], eq. (E2)."""
    return ((longest - margin - lengths) / margin).clamp(-1.0, 0.0)


def check_overlong_penalty(overlong_penalty):
    for longest, margin in ((10, 4), (20, 20), (7, 1), (100, 30)):
        lengths = torch.arange(longest + 1)
        found = overlong_penalty(lengths, longest, margin)
        for length in lengths.tolist():
            over = length - (longest - margin)
            expected = 0.0 if over <= 0 else -over / margin
            assert math.isclose(found[length], expected, abs_tol=1e-6), (
                f"{length} tokens of at most {longest}, the last {margin} charged: "
                f"expected {expected:.4g}, found {found[length]:.4g}"
            )
    assert overlong_penalty(torch.tensor([12, 40]), 10, 4).tolist() == [-1.0, -1.0], "never below -1"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="Write what takes the critic's place, (1) and (2), and what papers argue about, (5).",
        minutes=30,
        difficulty="medium",
        functions=("advantages", "average"),
    ),
    "first_loss": Exercise(
        title="A first loss that is not zero",
        task="Why is it not, after `rl run D5 --average tokens`?",
        minutes=15,
        difficulty="medium",
        answer=r"""
With one mean over all tokens a completion counts $|y_i|$ times: the loss is
$-\sum_i |y_i| \hat A_i / \sum_i |y_i|$. In a group the advantages sum to 0; times lengths they need not.
""",
    ),
    "pass_at_k": Exercise(
        title="One of k",
        task=r"""
How likely is at least one of $k$ answers right, if they are drawn without replacement from $n$ answers, $c$
of them right (`chen2021codex`)? Return the mean over problems of

$$\text{pass@}k = 1 - \binom{n-c}{k} \Big/ \binom{n}{k} \tag{E1}$$

The tempting $1 - (1 - c/n)^k$ puts each answer back, and is too low.
""",
        minutes=20,
        difficulty="medium",
        solution=pass_at_k,
        check=check_pass_at_k,
        hints=(
            "The opposite is easier: all k answers are wrong.",
            "With k = 1 it is the share of right answers; with k = n it is 1 if any is right.",
            "all_wrong = math.comb(n - c, k) / math.comb(n, k), or draw one after the other",
        ),
        edits={
            "with_replacement": Edit(
                function="pass_at_k",
                old="(wrong - i) / (num_samples - i)",
                new="wrong / num_samples",
                says="puts each answer back before the next is drawn: too low",
            ),
            "all_right": Edit(
                function="pass_at_k",
                old="wrong = num_samples - num_correct.double()",
                new="wrong = num_correct.double()",
                says="the chance that not all k are right",
            ),
            "mean_first": Edit(
                function="pass_at_k",
                old="wrong = num_samples - num_correct.double()",
                new="wrong = num_samples - num_correct.double().mean()",
                says="averages over problems before it draws: hard and easy ones are mixed",
            ),
        },
    ),
    "overlong_penalty": Exercise(
        title="Answers that are too long",
        task=r"""
DAPO (`yu2025dapo`) warns a policy before its answers are cut off at $T$ tokens. Each of the last $M$ of these
tokens costs $1 / M$ of reward. So this is added to the reward:

$$p(|y|) = \begin{cases} 0 & |y| \le T - M \\ \dfrac{T - M - |y|}{M} & T - M < |y| \le T \\ -1 & |y| > T
\end{cases} \tag{E2}$$

For completions of many lengths at once:
""",
        minutes=10,
        difficulty="easy",
        solution=overlong_penalty,
        check=check_overlong_penalty,
        hints=(
            "One straight line, cut off at both ends.",
            "A completion of T - M tokens pays nothing, one of T tokens pays 1.",
            "(longest - margin - lengths) / margin",
        ),
        edits={
            "short_ones_paid": Edit(
                function="overlong_penalty",
                old=".clamp(-1.0, 0.0)",
                new=".clamp(min=-1.0)",
                says="a premium for short answers: in the end the policy says nothing",
            ),
            "without_end": Edit(
                function="overlong_penalty",
                old=".clamp(-1.0, 0.0)",
                new=".clamp(max=0.0)",
                says="a penalty without end: one long answer outweighs all right ones",
            ),
            "premium": Edit(
                function="overlong_penalty",
                old="(longest - margin - lengths) / margin).clamp(-1.0, 0.0)",
                new="(lengths - longest + margin) / margin).clamp(0.0, 1.0)",
                says="the sign: length is paid",
            ),
            "all_or_nothing": Edit(
                function="overlong_penalty",
                old="((longest - margin - lengths) / margin).clamp(-1.0, 0.0)",
                new="-(lengths > longest - margin).float()",
                says="a step where the slope belongs: nothing says that shorter is better",
            ),
        },
    ),
}
