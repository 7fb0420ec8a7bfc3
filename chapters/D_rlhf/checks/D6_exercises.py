"""Exercises of D6: its functions, and what goes beyond them."""

import math

import numpy as np
import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def best_agreement(consistency: float) -> float:
    """Share of a rater's answers that the best model can agree with, eq. (E1).

    consistency: share of pairs shown twice that were answered alike; 0.5 or less: the answers are coins.
    """
    luck = max(0.0, 2.0 * consistency - 1.0)
    return 0.5 + 0.5 * luck**0.5


def check_best_agreement(best_agreement):
    for slip in np.linspace(0.0, 0.5, 11).tolist():
        alike = sum(p * p for p in (slip, 1.0 - slip))  # twice right, or twice the same slip
        found = best_agreement(alike)
        assert math.isclose(found, 1.0 - slip, abs_tol=1e-7), (
            f"one answer in {1 / slip if slip else math.inf:.3g} is a slip: consistency {alike:.4g}, "
            f"expected {1 - slip:.4g}, found {found:.4g}"
        )
    for less in (0.45, 0.2, 0.0):
        assert best_agreement(less) == 0.5, f"consistency {less}: fewer than a coin's, expected 0.5"


def priced_scores(scores: Tensor, completion_mask: Tensor, free: int, price: float) -> Tensor:
    """The learned reward [B], less `price` for each token beyond the first `free`, eq. (E2).

    completion_mask: [B, T], true where there is a token.
    """
    lengths = completion_mask.sum(dim=1)
    return scores - price * (lengths - free).clamp(min=0)


def check_priced_scores(priced_scores):
    generator = torch.Generator().manual_seed(5)
    for num, longest in ((1, 3), (4, 9), (12, 20)):
        scores = torch.randn(num, generator=generator, dtype=torch.float64)
        lengths = torch.randint(0, longest + 1, (num,), generator=generator)
        mask = torch.arange(longest)[None] < lengths[:, None]
        for free, price in ((0, 0.1), (2, 0.25), (longest // 2, 1.0), (longest + 1, 1.0)):
            found = priced_scores(scores, mask, free, price)
            for b in range(num):
                written, expected = 0, scores[b].item()
                for t in range(longest):
                    written += bool(mask[b, t])
                    expected -= price * (bool(mask[b, t]) and written > free)
                assert math.isclose(found[b], expected, rel_tol=1e-5, abs_tol=1e-5), (
                    f"{written} tokens, {free} free at {price}: expected {expected:.6g}, found {found[b]:.6g}"
                )


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="Write the loss of imitation (1), the judge's labels (2), and the epoch that mixes in your own.",
        minutes=35,
        difficulty="medium",
        functions=("imitation_loss", "label", "minibatches"),
    ),
    "rate": Exercise(
        title="Rate 40 pairs yourself",
        task="""
`rl run D6 --rate-web`. How often do you agree with the judge, and with yourself? What does the reward model
make of the answers that it did not learn from? Then prefer the *shorter* text throughout, with
`--human-share 0.6`, and predict the length.
""",
        minutes=20,
        difficulty="easy",
        answer="""
All three shares are printed. What you answer differently the second time, no model can predict. And at most
some eight of your answers are held out: one more or less is over ten percent. The judge penalises words from
the thirteenth on, your answers from the first: expect shorter rewrites.
""",
    ),
    "best_agreement": Exercise(
        title="What no model can beat",
        task=r"""
You saw some pairs twice, and answered a share $c$ of them alike. Say that each answer is a slip with
probability $e \le \tfrac12$, whatever the pair. Two answers are alike if both are slips or none is:

$$c = e^2 + (1 - e)^2 \tag{E1}$$

Return $1 - e$: how often a model that knows your taste can be right.
""",
        minutes=15,
        difficulty="easy",
        solution=best_agreement,
        check=check_best_agreement,
        hints=(
            "Solve (E1) for e; of its two solutions the one up to a half is meant.",
            "Always alike: 1. Alike half of the time, or less by bad luck: a coin, one half.",
            "luck = max(0.0, 2.0 * consistency - 1.0)",
        ),
        edits={
            "itself": Edit(
                function="best_agreement",
                old="0.5 + 0.5 * luck**0.5",
                new="max(0.5, consistency)",
                says="takes the consistency itself: but there both answers slip, and a model's does not",
            ),
            "no_root": Edit(
                function="best_agreement",
                old="luck**0.5",
                new="luck",
                says="the root is missing",
            ),
            "other_solution": Edit(
                function="best_agreement",
                old="0.5 + 0.5",
                new="0.5 - 0.5",
                says="the other solution of (E1): more slips than answers",
            ),
        },
        answer="""
Say that 82 of 100 are answered alike: then $e = 0.1$, and the best model is right in 90. One that agrees with
88 of 100 held-out answers is almost perfect, though 88 sounds poor. The assumption is strong: people slip
where the choice is hard (D1).
""",
    ),
    "priced_scores": Exercise(
        title="A price for words",
        task=r"""
Nobody rewards length, and the rewrites grow. Where raters like long texts, reward models do too, and a price
is put on it. With $|y|$ tokens, $n$ of them free, and price $\lambda$:

$$r'(x, y) = r_\phi(x, y) - \lambda \max(0, |y| - n) \tag{E2}$$

In PPO it would stand in `collect`, where the scores are made.
""",
        minutes=15,
        difficulty="easy",
        solution=priced_scores,
        check=check_priced_scores,
        hints=(
            "How long a completion is, its mask says, not the width of the batch.",
            "A completion of at most n tokens keeps its reward.",
            "lengths = completion_mask.sum(dim=1)",
        ),
        edits={
            "padding_charged": Edit(
                function="priced_scores",
                old="lengths = completion_mask.sum(dim=1)",
                new="lengths = 0 * completion_mask.sum(dim=1) + completion_mask.shape[1]",
                says="charges for padding: all pay for the longest",
            ),
            "short_ones_paid": Edit(
                function="priced_scores",
                old="(lengths - free).clamp(min=0)",
                new="(lengths - free)",
                says="pays for what is shorter than the free length: the empty text earns most",
            ),
            "premium": Edit(
                function="priced_scores",
                old="scores - price",
                new="scores + price",
                says="a premium for words",
            ),
            "nothing_free": Edit(
                function="priced_scores",
                old="(lengths - free)",
                new="torch.where(lengths > free, lengths, 0)",
                says="once beyond the free length, the free tokens are charged as well",
            ),
        },
    ),
}
