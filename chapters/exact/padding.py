"""The best text for a reward of tokens, where a step may be padded: dynamic programming over all texts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TokenReward = Callable[[Tensor, Tensor, Tensor, bool], Tensor]
"""(value of a text before a token, value after it, outcome it brings, whether it ends the text) -> reward."""


def best_text(values: list[Tensor], num_tokens: int, reward: TokenReward) -> tuple[Tensor, Tensor, Tensor]:
    """(reward, outcome, tokens) of the text with the most reward, of each problem: [N] each.

    values: of every beginning, the empty one first, [N], [N, V], [N, V, V], ..., the last those of the whole
    chains, their outcomes. A token is one of V digits, or padding, after which a text is worth what it was.
    With its last digit a text ends, or with outcome 0 after `num_tokens`. Of equally good tokens the first
    is taken, and padding comes last.
    """
    num_steps = len(values) - 1
    nothing = [torch.zeros_like(value) for value in values]
    best, outcome, length = nothing, nothing, nothing  # still to come, when no token is left
    for left in range(1, num_tokens + 1):
        found = []
        for t in range(num_steps):
            here, longer = values[t][..., None], values[t + 1]
            whole = t + 1 == num_steps
            brings = longer if whole else torch.zeros_like(longer)
            step = reward(here, longer, brings, whole or left == 1) + best[t + 1]
            pad = reward(here, here, torch.zeros_like(here), left == 1) + best[t][..., None]
            worth, choice = torch.cat([step, pad], dim=-1).max(dim=-1, keepdim=True)
            gained = torch.cat([brings + outcome[t + 1], outcome[t][..., None]], dim=-1)
            written = torch.cat([length[t + 1], length[t][..., None]], dim=-1) + 1.0
            found.append([worth[..., 0], *(x.gather(-1, choice)[..., 0] for x in (gained, written))])
        best, outcome, length = ([*column, nothing[-1]] for column in zip(*found))
    return best[0], outcome[0], length[0]
