"""Exercises of C7: its functions, and what goes beyond them."""

import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def token_weights(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor, bound: float) -> Tensor:
    """Truncated importance weights of the tokens of B completions [B, T], 0 where `mask` is 0, eq. (E1).

    log_probs, old_log_probs [B, T]: of each token, by the learner and by the server that wrote it.
    mask [B, T]: 1 for tokens that were written, 0 for padding. No gradient flows through a weight.
    """
    ratio = (log_probs - old_log_probs).detach().exp()
    return ratio.clamp(max=bound) * mask


def check_token_weights(token_weights):
    torch.manual_seed(12)
    for size, length in ((1, 1), (3, 4), (6, 9)):
        for bound in (0.5, 1.0, 2.0):
            log_probs = torch.randn(size, length, dtype=torch.float64).requires_grad_()
            old = torch.randn(size, length, dtype=torch.float64)
            mask = (torch.rand(size, length) < 0.7).double()
            found = token_weights(log_probs, old.clone(), mask.clone(), bound)
            assert not found.requires_grad, "a weight is a constant: its own gradient is not wanted"
            for b in range(size):
                for t in range(length):
                    ratio = math.exp(float(log_probs[b, t].detach()) - float(old[b, t]))
                    expected = min(bound, ratio) * float(mask[b, t])
                    assert math.isclose(found[b, t], expected, rel_tol=1e-9, abs_tol=1e-12)


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="Write V-trace from (1) to (3), and the policy that it answers for from (4).",
        minutes=35,
        difficulty="medium",
        functions=("vtrace", "clipped_policy"),
    ),
    "token_weights": Exercise(
        title="A server that lags behind",
        task=r"""
A language model is trained on completions that a server wrote with older weights. Weigh each token's loss by

$$\min\bigl(\bar\rho,\; \pi_\theta(y_t \mid y_{<t}) / \mu(y_t \mid y_{<t})\bigr) \cdot m_t \tag{E1}$$

where $\mu$ is the server's policy and $m_t = 0$ for padding. No gradient goes through the weight: else the
loss could be lowered by lowering weights.
""",
        minutes=10,
        difficulty="easy",
        solution=token_weights,
        check=check_token_weights,
        hints=(
            "The ratio of two probabilities is the exponential of the difference of their logarithms.",
            "Padding has log-probabilities, too: multiply by the mask last.",
            "ratio = (log_probs - old_log_probs).detach().exp()",
        ),
        edits={
            "upside_down": Edit(
                function="token_weights",
                old="(log_probs - old_log_probs)",
                new="(old_log_probs - log_probs)",
                says="the server's probability over the learner's",
            ),
            "attached": Edit(
                function="token_weights",
                old=".detach().exp()",
                new=".exp()",
                says="lets the gradient flow through the weight",
            ),
            "no_bound": Edit(
                function="token_weights",
                old="ratio.clamp(max=bound) * mask",
                new="ratio * mask",
                says="no bound",
            ),
            "padding_counts": Edit(
                function="token_weights",
                old="ratio.clamp(max=bound) * mask",
                new="ratio.clamp(max=bound)",
                says="gives weights to padding",
            ),
            "bounded_below": Edit(
                function="token_weights",
                old="clamp(max=bound)",
                new="clamp(min=bound)",
                says="bounds from below instead of above",
            ),
        },
        answer=r"""
See "each token's ratio, at most 1" in the last figure: it is no longer right on average, but up to the last
point its spread is the smallest of the three.
""",
    ),
    "older": Exercise(
        title="How old may data be?",
        task="""
`rl run C7 --lag 32`, then the same with `--learning-rate 5e-4 --critic-learning-rate 2.5e-3`. What changed,
and why?
""",
        minutes=10,
        difficulty="easy",
        answer="""
At 32 updates most seeds come near 475 and then fall far; with smaller steps they rise later and end nearer.
Age counts in how far the policy moves meanwhile, not in updates: with a quarter of the step size 32 updates
move it about as far as 8 did.
""",
    ),
}
