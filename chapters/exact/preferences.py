"""Preferences over a listed set of completions: who beats whom, and what the optimum does to both of a pair.

Everything is a sum over N prompts and their M completions: rewards and log-probabilities are tables [N, M].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

Table = Float[Tensor, "N M"]


def chance_to_win(rewards: Table, log_probs: Table, hard: bool = False) -> Table:
    """Probability that each completion is preferred to a random one, drawn by `log_probs`.

    By Bradley and Terry's rule, or by a judge who always prefers the higher reward (a tie is worth a half).
    """
    chances = []
    for row, probs in zip(rewards, log_probs.exp()):
        gap = row[:, None] - row[None]  # [M, M]
        wins = (1 + gap.sign()) / 2 if hard else gap.sigmoid()
        chances.append(wins @ probs)
    return torch.stack(chances)


def displacement(log_ratios: Table, rewards: Table, log_probs: Table) -> tuple[float, float]:
    """Mean of `log_ratios` over the chosen and over the rejected completions of all pairs.

    Both completions of a pair are drawn by `log_probs`; which one is chosen, by Bradley and Terry's rule.
    """
    wins, probs = chance_to_win(rewards, log_probs), log_probs.exp()
    log_ratios = log_ratios.masked_fill(probs == 0, 0.0)  # what is never written counts nothing
    chosen, rejected = ((2 * share * probs * log_ratios).sum(1).mean() for share in (wins, 1 - wins))
    return float(chosen), float(rejected)


def centred_by_length(rewards: Table, log_probs: Table, lengths: Int[Tensor, " M"]) -> Table:
    """The rewards less their mean at each length: what is left tells nothing of length."""
    probs, centred = log_probs.exp(), rewards.clone()
    for length in lengths.unique():
        same = lengths == length
        means = (probs * rewards)[:, same].sum(1, keepdim=True) / probs[:, same].sum(1, keepdim=True)
        centred[:, same] -= means
    return centred


def best_scores(
    rows: Int[Tensor, "B 2"],
    labels: Float[Tensor, " B"],
    weights: Float[Tensor, " B"],
    num: int,
    margin: float = 0.0,
    num_steps: int = 30,
) -> Float[Tensor, " num"]:
    """The scores of `num` answers, mean 0, at which the weighted logistic loss of pairs is least.

    A pair of the answers `rows` costs -p log sigmoid(s_1 - s_2 - margin) - (1 - p) log sigmoid(s_2 - s_1 -
    margin). The loss is convex; Newton's method, with steps of at most 1. Pairs must join all answers, and no
    label may be beyond doubt, or there is no end.
    """
    scores = torch.zeros(num, dtype=torch.float64)
    for _ in range(num_steps):
        gap = scores[rows[:, 0]] - scores[rows[:, 1]]
        up, down = (margin - gap).sigmoid(), (margin + gap).sigmoid()
        slope = weights * (-labels * up + (1 - labels) * down)  # [B], by the gap
        bend = weights * (labels * up * (1 - up) + (1 - labels) * down * (1 - down))
        gradient = torch.zeros_like(scores).index_add(0, rows[:, 0], slope).index_add(0, rows[:, 1], -slope)
        across = torch.zeros(num, num, dtype=torch.float64)
        across = across.index_put((rows[:, 0], rows[:, 1]), bend, accumulate=True)
        across = across + across.T
        hessian = across.sum(1).diag() - across
        hessian = hessian + hessian.diagonal().mean() / num  # a common constant is free: hold it
        step = torch.linalg.solve(hessian, gradient)
        scores = scores - step * min(1.0, 1.0 / max(1e-12, float(step.abs().max())))
    return scores - scores.mean()


def solve_sum_to_one(log_probs: Callable[[Tensor], Table]) -> Table:
    """The policy among `log_probs(c)`, growing in c [N, 1], whose probabilities sum to 1; by halving."""
    low, high = torch.full((1, 1), -1e3, dtype=torch.float64), torch.full((1, 1), 1e3, dtype=torch.float64)
    for _ in range(80):
        middle = (low + high) / 2
        too_large = log_probs(middle).logsumexp(dim=1, keepdim=True) > 0  # [N, 1]
        low, high = torch.where(too_large, low, middle), torch.where(too_large, middle, high)
    return log_probs(low)


def kto_end(liked: Table, ref_log_probs: Table, beta: float) -> Table:
    """Where the loss of ethayarajh2024kto ends if its reference point is 0, for beta of at most 1 (D14).

    An answer that is liked less than half of the time is lost. For the others a last bit of probability gains
    the same: (2 q - 1) beta sigmoid'(beta h) = exp(h - multiplier), with h the log-ratio."""
    gain = (2 * liked - 1).clamp(min=0.0)

    def h(multiplier: Tensor) -> Table:
        """The log-ratios at a multiplier, by halving: the right side grows faster than the left."""
        low, high = torch.full_like(gain, -200.0), torch.full_like(gain, 200.0)
        for _ in range(60):
            middle = (low + high) / 2
            gain_of_more = logsigmoid(beta * middle) + logsigmoid(-beta * middle)
            left = (beta * gain).log() + gain_of_more
            rises = left > middle - multiplier  # in logarithms
            low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
        return low.masked_fill(gain == 0, -torch.inf)

    return solve_sum_to_one(lambda multiplier: ref_log_probs + h(multiplier))
