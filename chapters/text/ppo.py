"""PPO over the tokens of a completion: D2 shows every part, later lessons import them.

A batch is a dictionary of tensors with a row for each completion: `prompt_ids`, `prompt_mask`,
`completion_ids`, `completion_mask`, and what is known of each completion or each of its tokens. Prompts are
padded on the left, completions on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from chapters.text.generation import masked_mean, positions, token_log_probs
from chapters.utils.lesson import in_range
from chapters.utils.optim import Adam

Grid, Mask = Float[Tensor, "B T"], Bool[Tensor, "B T"]  # a number, or a flag, for each token
TEXT = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")


@dataclass(frozen=True)
class Settings:
    """D2's numbers of PPO, for a lesson's Config to inherit."""

    seed: int = 0
    """Seed of everything that is drawn."""
    num_epochs: Annotated[int, in_range(1, 100)] = 4
    """Passes over each batch."""
    num_minibatches: Annotated[int, in_range(1, 1000)] = 2
    """Parts of a batch, one gradient step each."""
    gae_lambda: Annotated[float, in_range(0.0, 1.0)] = 0.95
    """0 trusts the critic after one token; 1 takes all rewards to come, and the critic as a baseline."""
    clip_eps: Annotated[float, in_range(0.0, 1.0)] = 0.2
    """How far a token's ratio may move before the reason to move it further is taken away."""
    vf_coef: Annotated[float, in_range(0.0, 100.0)] = 0.1
    """Weight of the value loss."""


# same-as: D2.token_rewards
def token_rewards(
    scores: Float[Tensor, " B"], log_ratio: Grid, completion_mask: Mask, beta: float
) -> Float[Tensor, "B T"]:
    """A KL penalty for each token's `log_ratio`, policy over reference; the score comes with the last."""
    last = completion_mask.sum(dim=1) - 1  # [B]
    rewards = -beta * log_ratio * completion_mask
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


# same-as: D2.gae
def gae(rewards: Grid, values: Grid, completion_mask: Mask, gae_lambda: float) -> Float[Tensor, "B T"]:
    """Advantages of tokens, undiscounted; behind the last token of a completion there is nothing."""
    exists = completion_mask.to(rewards.dtype)
    values = values * exists
    advantages = torch.zeros_like(rewards)
    next_values = torch.zeros_like(rewards[:, 0])  # [B]
    running = torch.zeros_like(rewards[:, 0])  # [B]
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + next_values - values[:, t]
        running = (delta + gae_lambda * running) * exists[:, t]
        advantages[:, t] = running
        next_values = values[:, t]
    return advantages


# same-as: D2.whiten
def whiten(advantages: Grid, mask: Mask) -> Float[Tensor, "B T"]:
    """Mean 0 and standard deviation 1 over the tokens that exist, 0 if they are equal; 0 elsewhere."""
    kept = advantages[mask]
    differ = (kept != kept[:1]).any()  # else rounding would be divided by rounding
    centred = (advantages - masked_mean(advantages, mask)) * mask * differ
    deviation = (centred.pow(2).sum() / (mask.sum() - 1).clamp(min=1)).sqrt()
    return centred / (deviation + 1e-8)


# same-as: C3.clipped_surrogate
def clipped_surrogate(
    ratio: Float[Tensor, "*B"], advantages: Float[Tensor, "*B"], clip_eps: float
) -> Float[Tensor, "*B"]:
    """PPO's objective of each token, to be raised (schulman2017ppo)."""
    clipped = ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)
    return torch.min(ratio * advantages, clipped * advantages)


class PolicyWithValue(nn.Module):
    """A causal language model that also says, after each token, what reward it still expects.

    It trains the model that it is given, in place: give it a copy if that is the reference too.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.value_head = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, **inputs) -> SimpleNamespace:
        """`.logits` [B, T, V], `.values` [B, T], `.past_key_values`."""
        out = self.model.base_model(**inputs)
        hidden = out.last_hidden_state  # [B, T, width]
        values = self.value_head(hidden).squeeze(-1)
        logits = self.model.get_output_embeddings()(hidden)
        return SimpleNamespace(logits=logits, values=values, past_key_values=out.past_key_values)


# same-as: D2.log_probs_and_values
def log_probs_and_values(policy: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """`token_log_probs` and, from the same pass, the value before each completion token: [B, T] each."""
    prompt_ids, prompt_mask, completion_ids, completion_mask = text = [batch[name] for name in TEXT]
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)  # [B, P + T]
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
    log_probs = token_log_probs(lambda **_: out, *text)  # of that pass: none is made twice
    return log_probs, out.values[:, prompt_ids.shape[1] - 1 : -1]


# same-as: D2.minibatch_loss
def minibatch_loss(
    policy: nn.Module, mini: dict[str, Tensor], clip_eps: float, vf_coef: float
) -> tuple[Float[Tensor, ""], Float[Tensor, "B T"]]:
    """(loss, ratio of each token; 1 where there is none).

    The batch also holds `old_log_probs`, `advantages` and `returns`, [B, T] each.
    """
    log_probs, values = log_probs_and_values(policy, mini)
    ratio = (log_probs - mini["old_log_probs"]).exp()
    errors = (values - mini["returns"]).pow(2)  # [B, T]
    losses = vf_coef * errors - clipped_surrogate(ratio, mini["advantages"], clip_eps)
    return masked_mean(losses, mini["completion_mask"]), ratio


def update(
    policy: nn.Module,
    optimizer: Adam,
    batch: dict[str, Tensor],
    loss_of: Callable,
    generator: torch.Generator,
    cfg: Any,
) -> float:
    """C3's update: several passes over one batch, in shuffled minibatches, with a bound on the gradient.

    loss_of: called as `minibatch_loss` is, for (loss, ratio of each token).
    cfg: with num_epochs, num_minibatches, clip_eps and vf_coef.
    Returns how far a ratio of the very first minibatch was from 1, where policy and sampler are still one.
    """
    gaps = []
    for _ in range(cfg.num_epochs):
        for rows in torch.randperm(len(batch["scores"]), generator=generator).chunk(cfg.num_minibatches):
            mini = {name: values[rows] for name, values in batch.items()}
            loss, ratio = loss_of(policy, mini, cfg.clip_eps, cfg.vf_coef)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            gaps.append((ratio.detach() - 1.0).abs().max().item())
    return gaps[0]
