"""Exercises of D13: its functions, and what goes beyond them."""

import itertools
import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def passing(ref_log_probs: Tensor, rewards: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """(log-probabilities [N, M] of a completion that passed, its KL from the reference [N]), eq. (E1)."""
    kept = ref_log_probs.masked_fill(rewards < threshold, -torch.inf)
    log_share = kept.logsumexp(dim=1)  # [N]: how likely a completion passes
    return kept - log_share[:, None], -log_share


def check_passing(passing):
    """By sums over completions, at thresholds that all, some and one of them meet."""
    generator = torch.Generator().manual_seed(0)
    logits, rewards = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64)
    rewards[:, 3] = rewards[:, 5] = 2.5  # equal ones, and the best of each prompt
    log_probs = logits.log_softmax(dim=1)
    for threshold in (-10.0, 0.0, 2.5):
        found, kls = passing(log_probs, rewards, threshold)
        for n in range(3):
            probs = log_probs[n].exp().tolist()
            share = sum(p for p, r in zip(probs, rewards[n].tolist()) if r >= threshold)
            total = 0.0
            for m, (p, r) in enumerate(zip(probs, rewards[n].tolist())):
                expected = p / share if r >= threshold else 0.0
                total += expected * math.log(expected / p) if expected else 0.0
                assert math.isclose(found[n, m].exp(), expected, rel_tol=1e-9, abs_tol=1e-12), (
                    f"threshold {threshold}, completion {m}: expected {expected:.6g}"
                )
            assert math.isclose(kls[n], total, rel_tol=1e-9, abs_tol=1e-9), (
                f"threshold {threshold}: KL {total:.6g} expected, {float(kls[n]):.6g} found"
            )


def centred(worth: Tensor, mask: Tensor) -> Tensor:
    """Worths [B, T] less the mean of the *other* texts' at the same place, eq. (E2); 0 without a token."""
    exists = mask.to(worth.dtype)
    kept = worth * exists
    others = (exists.sum(dim=0) - exists).clamp(min=1.0)  # [B, T]
    return (kept - (kept.sum(dim=0) - kept) / others) * exists


def check_centred(centred):
    """One token at a time, with texts of many lengths; alone at its place, a token keeps its worth."""
    for seed, (num, length) in enumerate(((2, 3), (5, 4), (1, 2))):
        generator = torch.Generator().manual_seed(seed)
        worth = torch.randn(num, length, generator=generator, dtype=torch.float64)
        mask = torch.arange(length) < torch.randint(1, length + 1, (num, 1), generator=generator)
        found = centred(worth, mask)
        for b, t in itertools.product(range(num), range(length)):
            others = [worth[i, t].item() for i in range(num) if i != b and mask[i, t]]
            expected = worth[b, t].item() - (sum(others) / len(others) if others else 0.0)
            expected = expected if mask[b, t] else 0.0
            assert math.isclose(found[b, t], expected, rel_tol=1e-9, abs_tol=1e-12), (
                f"text {b}, token {t}: expected {expected:.6g}, found {float(found[b, t]):.6g}"
            )


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the exact best of n, what a token is worth to the student that wrote it, and the divergence of whole
distributions, from (1), (4) and (5).
""",
        minutes=35,
        difficulty="medium",
        functions=("best_of_n", "on_policy_worth", "next_token_kl"),
    ),
    "passing": Exercise(
        title="What passes",
        task=r"""
Rejection sampling keeps every completion that earns $\tau$ at least. Write its exact distribution, and show
that its divergence is a single number:

$$\pi_\tau(y) = \frac{\pi_\text{ref}(y)\, \mathbb{1}[r(y) \ge \tau]}{P_\tau}, \qquad
\mathrm{KL}(\pi_\tau \Vert \pi_\text{ref}) = -\log P_\tau, \qquad
P_\tau = \textstyle\sum_{r(y) \ge \tau} \pi_\text{ref}(y) \tag{E1}$$

Then draw its reward against its divergence for some thresholds, beside `world.best_of_n` and the most that is
possible, `world.best_reward`.
Which spends its divergence better, a threshold or the best of $n$?
""",
        minutes=20,
        difficulty="easy",
        solution=passing,
        check=check_passing,
        hints=(
            "Inside the sum of the divergence the log-ratio is the same for every completion that is kept.",
            "If all pass, nothing moves; if only the best does, the divergence is minus its log-probability.",
            "kept = ref_log_probs.masked_fill(rewards < threshold, -torch.inf)",
        ),
        edits={
            "strictly_above": Edit(
                function="passing",
                old="rewards < threshold",
                new="rewards <= threshold",
                says="rejects what earns just the threshold",
            ),
            "keeps_failures": Edit(
                function="passing",
                old="rewards < threshold",
                new="rewards >= threshold",
                says="keeps what did not pass",
            ),
            "not_normalised": Edit(
                function="passing",
                old="kept - log_share[:, None], -log_share",
                new="kept, -log_share",
                says="does not divide by the share that passes",
            ),
            "share_itself": Edit(
                function="passing",
                old=", -log_share",
                new=", log_share",
                says="the sign of the divergence: it is never negative",
            ),
        },
        answer=r"""
The best of $n$: a threshold treats what just passes and what passes by far alike. The best of $n$ in turn
minds ranks alone, not by how much an answer is better. The frontier's weights $e^{r/\beta}$ mind the reward
itself: both lie under it.
""",
    ),
    "centred": Exercise(
        title="A baseline is free here too",
        task=r"""
In (4) the mean of $A_t$ is minus a divergence: below 0. So a token is pushed down, on the whole, whenever it
is drawn, and up when others are: noise. Take from each worth the mean of the *other* texts of the batch at
the same place, where they have a token; a token that is alone there keeps its worth.

$$A_{it} - \frac{\sum_{j \ne i} m_{jt} A_{jt}}{\sum_{j \ne i} m_{jt}} \tag{E2}$$

Why does the others' mean leave the expected gradient as it is?
Would the mean of all?
""",
        minutes=20,
        difficulty="medium",
        solution=centred,
        check=check_centred,
        hints=(
            "Sum over the batch, take the token's own away, divide by how many others there are.",
            "With two texts each is compared with the other; with one, with nothing.",
            "exists = mask.to(worth.dtype)",
        ),
        edits={
            "own_counts": Edit(
                function="centred",
                old="(kept.sum(dim=0) - kept) / others",
                new="kept.sum(dim=0) / (others + 1.0)",
                says="a token's own worth is in its baseline",
            ),
            "padding_counts": Edit(
                function="centred",
                old="(exists.sum(dim=0) - exists).clamp(min=1.0)",
                new="torch.full_like(exists, max(1, len(exists) - 1))",
                says="divides by all other texts, also those that have ended",
            ),
            "along_the_text": Edit(
                function="centred",
                old="(kept.sum(dim=0) - kept) / others",
                new="(kept.sum(dim=1, keepdim=True) - kept) / others",
                says="the mean along a text instead of over texts",
            ),
        },
        answer=r"""
Another text says nothing about which token was drawn here, so its worth multiplies a mean that is 0,
$\mathbb E[\nabla \log \pi_\theta(y_t)]$. The mean of all holds the token's own worth, too, and shrinks the
gradient by $(B - 1)/B$, as in D5's (2).
""",
    ),
    "ceiling": Exercise(
        title="Better than the teacher?",
        task="""
Which methods of this lesson can make a student that is better than its teacher, or than the model that wrote
what it learns from? And what would a wrong teacher do to each?
""",
        minutes=10,
        difficulty="easy",
        answer=r"""
Those that ask a reward: best of $n$, RFT, expert iteration, GRPO. What the model writes now and then, they
make it write most of the time; what it never writes, they never find. The others end at the teacher itself,
where their divergences, (3) to (5), are least, mistakes and all.
""",
    ),
}
