"""Exercises of D15: its functions, and what goes beyond them."""

import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def best_factor(policy: Tensor, reference: Tensor) -> float:
    """The c of eq. (E2), from the probabilities [M] of all completions under policy and reference."""
    u = (reference / policy).log()
    change = u.exp() - 1.0  # its mean is 0
    return ((policy * u * change).sum() / (policy * change**2).sum()).item()


def check_best_factor(best_factor):
    """The variance at the factor found against that at factors around it, from sums over completions."""
    by_hand = best_factor(torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5]))
    assert math.isclose(by_hand, 0.74, abs_tol=0.005), f"of the task's two policies: {float(by_hand):.4g}"
    for seed, size in enumerate((2, 3, 10, 40)):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(2, size, generator=generator, dtype=torch.float64)
        policy, reference = logits.softmax(dim=1)

        pairs = list(zip(policy.tolist(), reference.tolist()))

        def variance(c, pairs=pairs):
            first = second = 0.0
            for p, q in pairs:
                estimate = math.log(p / q) + c * (q / p - 1)
                first, second = first + p * estimate, second + p * estimate**2
            return second - first**2

        found = float(best_factor(policy, reference))
        for step in (1e-3, 0.1, 1.0):
            assert variance(found) <= min(variance(found - step), variance(found + step)), (
                f"c = {found:.4g}: another one has less variance"
            )


def next_token_kl(logits: Tensor, ref_logits: Tensor, completion_mask: Tensor) -> Tensor:
    """The sums of eq. (E3), [B], from the logits [B, T, V] of completions and their mask [B, T]."""
    log_probs, ref_log_probs = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    divergence = (log_probs.exp() * (log_probs - ref_log_probs)).sum(dim=-1)  # [B, T]
    return (divergence * completion_mask).sum(dim=1)


def check_next_token_kl(next_token_kl):
    for seed, (num, length, size) in enumerate(((1, 1, 2), (3, 4, 5), (6, 2, 9))):
        generator = torch.Generator().manual_seed(seed)
        logits, ref_logits = torch.randn(2, num, length, size, generator=generator, dtype=torch.float64)
        lengths = torch.randint(1, length + 1, (num,), generator=generator)
        mask = torch.arange(length) < lengths[:, None]
        found = next_token_kl(logits, ref_logits, mask)
        assert found.shape == (num,)
        for b in range(num):
            total = 0.0
            for t in range(int(lengths[b])):
                weights, ref_weights = (
                    [math.exp(x) for x in row[b, t].tolist()] for row in (logits, ref_logits)
                )
                for w, r in zip(weights, ref_weights):
                    p, q = w / sum(weights), r / sum(ref_weights)
                    total += p * math.log(p / q)
            assert math.isclose(found[b], total, rel_tol=1e-9), f"completion {b}: {found[b]:.6g}"


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the three estimates, the loss of each token, and the advantages of a group that holds every completion,
from (1), (5) and (6).
""",
        minutes=30,
        difficulty="medium",
        functions=("kl_estimate", "token_losses", "exact_advantages"),
    ),
    "best_factor": Exercise(
        title="A free number",
        task=r"""
As $e^u - 1$ has mean 0, this is right as a value for every $c$, and it is $k_3$ for $c = 1$:

$$k = -u + c\,(e^u - 1) \tag{E1}$$

A term with mean 0 that is added to lower the variance is called a *control variate*. The least variance is at

$$c = \frac{\mathbb E_\pi[u\,(e^u - 1)]}{\mathbb E_\pi[(e^u - 1)^2]} \tag{E2}$$

Write this $c$, and try it on $\pi = (0.8, 0.2)$, $\pi_\text{ref} = (0.5, 0.5)$, then on policies that are
nearly equal. And what is the mean gradient of (E1), if it stands in a loss?
""",
        minutes=25,
        difficulty="medium",
        solution=best_factor,
        check=check_best_factor,
        hints=(
            "The variance is a parabola in c; (E2) is its lowest point. Means are weighed by the policy.",
            "Nearly equal policies have a small u, and e^u - 1 is nearly u: c is nearly 1.",
            "u = (reference / policy).log()",
        ),
        edits={
            "plain_means": Edit(
                function="best_factor",
                old="(policy * u * change).sum() / (policy * change**2).sum()",
                new="(u * change).sum() / (change**2).sum()",
                says="means over completions that forget how likely they are",
            ),
            "reference_samples": Edit(
                function="best_factor",
                old="(policy * u * change).sum() / (policy * change**2).sum()",
                new="(reference * u * change).sum() / (reference * change**2).sum()",
                says="means as if the reference had written the completions",
            ),
            "ratio_upside_down": Edit(
                function="best_factor",
                old="(reference / policy).log()",
                new="(policy / reference).log()",
                says="turns the ratio upside down: then the mean of e^u - 1 is not 0",
            ),
        },
        answer=r"""
About 0.74 for the two given policies, and nearly 1 for nearly equal ones: that is what recommends $k_3$ as a
value. In a loss the mean gradient is
$-c\, \mathbb E_{\pi_\text{ref}}[\nabla \log \pi] = c\, \nabla\, \mathrm{KL}(\pi_\text{ref} \Vert \pi)$.
So $c$, which is free as a value, sets the penalty's strength.
""",
    ),
    "next_token_kl": Exercise(
        title="Ask every token",
        task=r"""
No estimate is needed for the *next* token: its divergence is a sum over the vocabulary. Add it up along a
completion that was sampled.

$$\textstyle\sum_t m_t \sum_v \pi(v \mid y_{<t})\, \bigl[\log \pi(v \mid y_{<t}) -
\log \pi_\text{ref}(v \mid y_{<t})\bigr] \tag{E3}$$

Its mean over sampled completions is the divergence. Which token is drawn at $t$ adds no noise to the term of
$t$. Does it have the right gradient in a loss?
""",
        minutes=20,
        difficulty="medium",
        solution=next_token_kl,
        check=check_next_token_kl,
        hints=(
            "Probabilities come from log_softmax over the last dimension, for policy and reference alike.",
            "If policy and reference agree in every row, it is 0; padding never counts.",
            "log_probs, ref_log_probs = logits.log_softmax(-1), ref_logits.log_softmax(-1)",
        ),
        edits={
            "other_direction": Edit(
                function="next_token_kl",
                old="log_probs.exp() * (log_probs - ref_log_probs)",
                new="ref_log_probs.exp() * (ref_log_probs - log_probs)",
                says="takes the other direction of the divergence",
            ),
            "padding_counted": Edit(
                function="next_token_kl",
                old="(divergence * completion_mask)",
                new="divergence",
                says="counts what stands behind the end",
            ),
            "not_normalised": Edit(
                function="next_token_kl",
                old="logits.log_softmax(-1), ref_logits.log_softmax(-1)",
                new="logits, ref_logits",
                says="takes logits for log-probabilities",
            ),
        },
        answer=r"""
No. Its mean gradient is that of $k_2$ of tokens: autograd still does not see that a token decides which come
next.
""",
    ),
}
