"""Exercises of D8: its functions, and what goes beyond them."""

import itertools
import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def chain_score(scores: Tensor, mask: Tensor, kind: str) -> Tensor:
    """One number for each chain from the scores of its steps: "last", "product" or "weakest"; [B].

    scores: [B, T], between 0 and 1; mask: [B, T], True for the steps that a chain has, its first ones.
    """
    if kind == "last":
        last = mask.sum(dim=1, keepdim=True) - 1  # [B, 1]
        return scores.gather(1, last)[:, 0]
    filled = scores.masked_fill(~mask, 1.0)  # changes neither a product nor a minimum
    return filled.prod(dim=1) if kind == "product" else filled.amin(dim=1)


def check_chain_score(chain_score):
    """Chain by chain, of several lengths; what stands behind a chain's end is seen by none of the three."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([1, 2, 4, 3, 2])
    mask = torch.arange(4) < lengths[:, None]
    scores = torch.where(mask, scores, torch.tensor([0.0, 0.001, 3.0, 0.002], dtype=torch.float64))
    for kind in ("last", "product", "weakest"):
        found = chain_score(scores, mask, kind)
        assert found.shape == (5,), "one number for each chain"
        for b, length in enumerate(lengths.tolist()):
            steps = scores[b, :length].tolist()
            expected = {"last": steps[-1], "product": math.prod(steps), "weakest": min(steps)}[kind]
            assert math.isclose(found[b], expected, rel_tol=1e-9), (
                f"{kind}, chain {b} of {length} steps: expected {expected:.6g}, found {float(found[b]):.6g}"
            )


def discounted_instalments(potentials: Tensor, outcomes: Tensor, gamma: float) -> Tensor:
    """Rewards of steps, [B, T], eq. (E1): their discounted sum keeps the order of the discounted outcomes.

    potentials: [B, T], before each step; outcomes: [B], paid with the last step.
    """
    after = torch.cat([gamma * potentials[:, 1:], outcomes[:, None]], dim=1)
    return after - potentials


def check_discounted_instalments(discounted_instalments):
    """Step by step, and the discounted sum: that of the outcome less the first potential."""
    generator = torch.Generator().manual_seed(1)
    for (num, length), gamma in itertools.product(((1, 1), (3, 4), (2, 2)), (1.0, 0.9, 0.5)):
        potentials = torch.randn(num, length, generator=generator, dtype=torch.float64)
        outcomes = torch.rand(num, generator=generator, dtype=torch.float64)
        found = discounted_instalments(potentials, outcomes, gamma)
        assert found.shape == potentials.shape
        for b in range(num):
            total = sum(gamma**t * found[b, t].item() for t in range(length))
            wanted = gamma ** (length - 1) * outcomes[b].item() - potentials[b, 0].item()
            assert math.isclose(total, wanted, rel_tol=1e-9, abs_tol=1e-12), (
                f"gamma {gamma}, chain {b}: discounted sum {total:.6g}, not {wanted:.6g}"
            )
            for t in range(length - 1):
                expected = gamma * potentials[b, t + 1].item() - potentials[b, t].item()
                assert math.isclose(found[b, t], expected, rel_tol=1e-9, abs_tol=1e-12), (
                    f"gamma {gamma}, chain {b}, step {t}: {expected:.6g}, not {float(found[b, t]):.6g}"
                )


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the value of every beginning, the outcome in instalments, and what a step is credited with, from (1),
(5) and (8).
""",
        minutes=35,
        difficulty="medium",
        functions=("prefix_values", "instalments", "advantages"),
    ),
    "chain_score": Exercise(
        title="One number for a chain",
        task="""
To choose the best of n, the scores of a chain's steps must become one number. Three are in use: the score of
the last step, the product of all (`lightman2024verify`), and the weakest step (`wang2024mathshepherd`).
Chains differ in length; what stands behind a chain's end says nothing. Write all three. Which of them does
padding raise, which does it lower, and which leaves it alone?
""",
        minutes=20,
        difficulty="easy",
        solution=chain_score,
        check=check_chain_score,
        hints=(
            "What may stand in place of a missing step without changing a product, or a minimum?",
            "A chain of one step has the same number by all three.",
            "filled = scores.masked_fill(~mask, 1.0)",
        ),
        edits={
            "padding_scored": Edit(
                function="chain_score",
                old="scores.masked_fill(~mask, 1.0)",
                new="scores",
                says="what stands behind the end is multiplied in",
            ),
            "missing_is_wrong": Edit(
                function="chain_score",
                old="scores.masked_fill(~mask, 1.0)",
                new="scores.masked_fill(~mask, 0.0)",
                says="a step that is not there counts as wrong",
            ),
            "last_place": Edit(
                function="chain_score",
                old="scores.gather(1, last)[:, 0]",
                new="scores[:, -1]",
                says="the last place, not the last step",
            ),
            "one_behind_the_end": Edit(
                function="chain_score",
                old="mask.sum(dim=1, keepdim=True) - 1",
                new="mask.sum(dim=1, keepdim=True).clamp(max=scores.shape[1] - 1)",
                says="one place behind the last step",
            ),
            "strongest": Edit(
                function="chain_score",
                old="filled.amin(dim=1)",
                new="scores.masked_fill(~mask, 0.0).amax(dim=1)",
                says="the strongest step",
            ),
        },
        answer="""
A step that is true and adds nothing scores what stood before it. It leaves the last score alone, and the
weakest; the product it lowers, since no score is above 1. Only a *sum* does it raise.
""",
    ),
    "discounted_instalments": Exercise(
        title="With a discount",
        task=r"""
With $\gamma < 1$ the order of the chains is that of $\gamma^{T-1} r$: sooner is better. Write rewards whose
*discounted* sum telescopes (`ng1999shaping`):

$$\sum_{t=1}^T \gamma^{t-1} F_t = \gamma^{T-1} r - \Phi_0, \qquad
F_t = \gamma \Phi_t - \Phi_{t-1} \;\; (t < T)
\tag{E1}$$

What must $F_T$ be? And what would plain differences, eq. (5),
do to a text that waits?
""",
        minutes=20,
        difficulty="medium",
        solution=discounted_instalments,
        check=check_discounted_instalments,
        hints=(
            "Write down the sum for T = 2 and see what cancels.",
            "With gamma = 1 it is eq. (5).",
            "after = torch.cat([gamma * potentials[:, 1:], outcomes[:, None]], dim=1)",
        ),
        edits={
            "no_discount": Edit(
                function="discounted_instalments",
                old="gamma * potentials[:, 1:]",
                new="potentials[:, 1:]",
                says="plain differences: discounted, they no longer cancel",
            ),
            "discount_before": Edit(
                function="discounted_instalments",
                old="return after - potentials",
                new="return after - gamma * potentials",
                says="the discount at both potentials",
            ),
            "outcome_discounted": Edit(
                function="discounted_instalments",
                old="outcomes[:, None]], dim=1)",
                new="gamma * outcomes[:, None]], dim=1)",
                says="the outcome is paid with the last step, not one step later",
            ),
        },
        answer=r"""
$F_T = r - \Phi_{T-1}$: the outcome is paid with the last step itself. For waiting at a potential
$\Phi_t = \Phi_{t-1} > 0$ plain differences pay 0, where $\gamma \Phi_t - \Phi_{t-1} < 0$ is right. Waiting
then delays only $r - \Phi_{T-1}$, not all of $r$. So before a right answer ($r = 1$) it costs too little, and
before a wrong one ($r = 0$) it pays: what was earned early is taken back late, at a discount.
""",
    ),
    "old_model": Exercise(
        title="A reward model that stays behind",
        task="""
A process reward model was trained on what the policy wrote last week, and is kept while the policy learns.
Which of the three weights in (6) still has the gradient of the outcome, if each is made with last week's V?
""",
        minutes=10,
        difficulty="medium",
        answer=r"""
The first two. $r$ needs no model, and $r - \Phi_{t-1}$ has a baseline that does not know step $t$, however
wrong it is. $\Phi_t - \Phi_{t-1}$ alone is the advantage under last week's policy: it credits a step with
what the old policy would have made of it. Kept for long, it is a reward that can be maximised against (D16).
""",
    ),
}
