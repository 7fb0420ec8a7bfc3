"""Preferences over a listed set of completions: who beats whom, and what the optimum does to both of a pair.

Everything is a sum over N prompts and their M completions: rewards and log-probabilities are tables [N, M].
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

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
