"""The parts of GRPO that D5 teaches and later lessons use unchanged."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

EPS = 1e-4
"""Added to a group's standard deviation before dividing by it, as TRL does."""
NUM_WARMUP = 10
"""Updates over which the step size rises: Adam's first steps are its wildest."""
Groups = Float[Tensor, "N G"]
Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]


# same-as: D5.advantages
def advantages(rewards: Groups, baseline: str = "group_mean", divide: bool = True) -> Groups:
    """How much better each completion is than its group, of two at least: one alone has no measure."""
    size = rewards.shape[1]
    if size < 2:
        raise ValueError("a group of one completion has nothing to be compared with")
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    # of equal rewards the mean leaves nothing but rounding: it must not be divided by rounding
    centred = centred.masked_fill(~informative(rewards)[:, None], 0.0)
    if baseline == "leave_one_out":
        centred = centred * size / (size - 1)
    if divide:
        centred = centred / (rewards.std(dim=1, keepdim=True) + EPS)
    return centred


def informative(rewards: Groups) -> Bool[Tensor, " N"]:
    """Which groups hold different rewards: the others have no advantages."""
    return rewards.amax(dim=1) > rewards.amin(dim=1)


# same-as: D5.importance_ratio
def importance_ratio(log_probs: Grid, old_log_probs: Grid, mask: Mask, level: str) -> Grid:
    """New over old probability of each token; at level "sequence" all tokens of a completion share one."""
    log_ratio = (log_probs - old_log_probs) * mask
    if level == "sequence":
        lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)  # [B, 1]
        log_ratio = (log_ratio.sum(dim=1, keepdim=True) / lengths).expand_as(log_ratio)
    return log_ratio.exp()


# same-as: D5.average
def average(losses: Grid, mask: Mask, kind: str) -> Float[Tensor, ""]:
    """One number from the loss of each token; a completion without tokens counts as 0."""
    lengths = mask.sum(dim=1)  # [B]
    sums = (losses * mask).sum(dim=1)  # [B]
    if kind == "completions":
        return (sums / lengths.clamp(min=1)).mean()
    if kind == "tokens":
        return sums.sum() / lengths.sum().clamp(min=1)
    return (sums / mask.shape[1]).mean()


def schedule(i: int, num_updates: int) -> float:
    """Share of the learning rate at update `i`: it rises, stays, and falls over the last two fifths."""
    return min(1.0, (i + 1) / NUM_WARMUP, (1.0 - i / num_updates) / 0.4)
