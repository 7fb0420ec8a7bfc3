"""Exercises of D16: its functions, and what goes beyond them."""

import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def turning_point(ref_log_probs: Tensor, proxy: Tensor, gold: Tensor, hardest: float = 10.0) -> float:
    """Up to which lambda gold rises under the policy of eq. (4), 0 to `hardest`; tensors are [M] each."""
    low, high = 0.0, hardest
    for _ in range(60):
        middle = (low + high) / 2
        probs = (ref_log_probs + middle * proxy).softmax(dim=0)
        slope = (probs * gold * (proxy - probs @ proxy)).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return low


def check_turning_point(turning_point):
    """Gold by loops, at the place found and at many others; the lesson's three texts."""
    third, likes, truth = (
        torch.full((3,), 1 / 3).log(),
        torch.tensor([0.0, 1.0, 1.5]),
        torch.tensor([0.0, 1.0, 0.0]),
    )
    found = float(turning_point(third, likes, truth))
    assert abs(found - 0.462) < 5e-4, f"of the lesson's three texts: expected 0.462, found {found:.4g}"
    for seed, size in enumerate((3, 3, 3, 6, 20)):
        generator = torch.Generator().manual_seed(seed)
        reference = torch.randn(size, generator=generator, dtype=torch.float64).log_softmax(dim=0)
        proxy = torch.linspace(0.0, 1.5, size, dtype=torch.float64)
        gold = 2.0 * proxy - 1.3 * proxy**2  # what the proxy promises is true up to a point

        texts = list(zip(reference.tolist(), proxy.tolist(), gold.tolist()))

        def earned(inverse_beta, texts=texts):
            weights = [math.exp(r + inverse_beta * p) for r, p, _ in texts]
            return sum(w * g for w, (_, _, g) in zip(weights, texts)) / sum(weights)

        found = float(turning_point(reference, proxy, gold))
        best = max(range(201), key=lambda n: earned(n / 20)) / 20
        assert earned(found) >= earned(best) - 1e-9, (
            f"at lambda {found:.4g} gold is {earned(found):.6g}, at {best:.4g} it is {earned(best):.6g}"
        )
        never = float(turning_point(reference, proxy, -proxy))
        assert abs(never) < 1e-6, f"where gold never rises: expected 0, found {never:.4g}"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the best of n, the baseline, and the two sides of the story's one line, from (1), (3), (4) and (5).
""",
        minutes=35,
        difficulty="medium",
        functions=("best_of_n", "leave_one_out", "tilt", "covariance"),
    ),
    "turning_point": Exercise(
        title="A penalty that stops at the peak",
        task=r"""
Someone who knew the gold reward could choose the best $\beta$. By (5) gold rises as long as its covariance
with the proxy is positive. If that crosses zero once, halving an interval finds where: write it. For the
three texts of section 3 it is $\lambda = 0.462$. Which $\beta$ is that? And how is one chosen for `maximise`?
""",
        minutes=25,
        difficulty="medium",
        solution=turning_point,
        check=check_turning_point,
        hints=(
            "Halve an interval: the peak is to the right of where the covariance under (4) is positive.",
            "A proxy that is minus the gold reward: the covariance is never positive, and the answer is 0.",
            "low, high = 0.0, hardest",
        ),
        edits={
            "asks_the_reference": Edit(
                function="turning_point",
                old="(ref_log_probs + middle * proxy).softmax(dim=0)",
                new="ref_log_probs.softmax(dim=0)",
                says="takes the covariance among the reference's texts, wherever the policy is",
            ),
            "forgets_the_reference": Edit(
                function="turning_point",
                old="(ref_log_probs + middle * proxy)",
                new="(middle * proxy)",
                says="forgets how likely the reference found each text",
            ),
            "wrong_half": Edit(
                function="turning_point",
                old="if slope > 0",
                new="if slope < 0",
                says="goes on in the wrong half",
            ),
            "beta_for_lambda": Edit(
                function="turning_point",
                old="middle * proxy)",
                new="proxy / middle)",
                says="takes lambda for beta",
            ),
        },
        answer=r"""
$\beta = 1 / 0.462 = 2.2$. `maximise` needs the log-probabilities first, then `rewards -= beta * (log_probs -
ref_log_probs).detach()` before the baseline. At an optimum $\beta$ is what the last nat brought: the slope of
the proxy (in its own units) over the divergence, at gold's peak. Nobody knows gold, so the peak must be
looked for with people.
""",
    ),
    "ask_again": Exercise(
        title="Ask again",
        task="""
Label 500 pairs of the *optimised* policy, train the reward model on all pairs, and maximise again. What
moves, the height of the peak or its place?
""",
        minutes=30,
        difficulty="hard",
        answer="""
Both, and the place more: the proxy has now seen gushing and echoes lose. It will be found out again further
away. This loop, policy, pairs, reward model, is how it is done at scale (D1).
""",
    ),
}
