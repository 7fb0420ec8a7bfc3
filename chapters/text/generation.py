"""Writing with a language model, and how likely what it wrote was: D2 shows both, later lessons import them.

A policy is called like a transformers model, so `TabularPolicy` and GPT-2 are both good. Prompts are padded
on the left, completions on the right.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


# same-as: D2.positions
def positions(mask: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position of each token in its own text: padding on the left does not count."""
    return (mask.cumsum(1) - 1).clamp(min=0)


# same-as: D2.sample
@torch.no_grad()
def sample(
    policy: Callable, prompt_ids: Int[Tensor, "B P"], prompt_mask: Int[Tensor, "B P"], num_tokens: int,
    eos_id: int, pad_id: int, generator: torch.Generator,
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:  # fmt: skip
    """Continue each prompt by up to `num_tokens`. Returns (completion_ids, completion_mask).

    The mask is True up to and including the first EOS; behind it stands padding.
    """
    ids, mask, cache = prompt_ids, prompt_mask, None
    position_ids = positions(prompt_mask)  # [B, P]
    done = torch.zeros(len(prompt_ids), dtype=torch.bool)  # [B]
    completion_ids = torch.full((len(prompt_ids), num_tokens), pad_id)  # [B, T]
    completion_mask = torch.zeros_like(completion_ids, dtype=torch.bool)  # [B, T]
    for t in range(num_tokens):
        out = policy(
            input_ids=ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache,
            use_cache=True,
        )  # fmt: skip
        probs = out.logits[:, -1].softmax(-1)  # [B, V]
        token = torch.multinomial(probs, 1, generator=generator)[:, 0].masked_fill(done, pad_id)  # [B]
        completion_ids[:, t], completion_mask[:, t] = token, ~done
        done = done | (token == eos_id)
        if done.all():
            break
        # the next call sees one new token; the cache remembers what stands before it
        cache, ids, position_ids = out.past_key_values, token[:, None], position_ids[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return completion_ids, completion_mask


# same-as: D2.token_log_probs
def token_log_probs(
    policy: Callable, prompt_ids: Int[Tensor, "B P"], prompt_mask: Int[Tensor, "B P"],
    completion_ids: Int[Tensor, "B T"], completion_mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T"]:  # fmt: skip
    """log pi(token | everything before it) of each completion token; 0 where the mask is False."""
    ids = torch.cat([prompt_ids, completion_ids], dim=1)  # [B, P + T]
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)
    logits = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits
    predicting = logits[:, prompt_ids.shape[1] - 1 : -1]  # [B, T, V]: the position before a token predicts it
    chosen = predicting.log_softmax(-1).gather(-1, completion_ids[..., None])[..., 0]
    return chosen.masked_fill(~completion_mask, 0.0)  # eq. (1): their sum is log pi(y | x)


# same-as: D2.masked_mean
def masked_mean(numbers: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean over the tokens that exist; 0 without any."""
    if not mask.any():
        return numbers.new_zeros(())
    return (numbers * mask).sum() / mask.sum()


def log_probs_by_length(
    policy: Callable, prompt_ids: Int[Tensor, "B P"], prompt_mask: Int[Tensor, "B P"],
    completion_ids: Int[Tensor, "B T"], completion_mask: Bool[Tensor, "B T"], num_groups: int = 4,
) -> Float[Tensor, "B T"]:  # fmt: skip
    """What `token_log_probs` gives, sooner: texts of like length share a pass, and little is padding."""
    order = completion_mask.sum(1).argsort(stable=True)
    parts = []
    for rows in order.chunk(num_groups):
        longest = int(completion_mask[rows].sum(1).max())
        completions = completion_ids[rows, :longest], completion_mask[rows, :longest]
        found = token_log_probs(policy, prompt_ids[rows], prompt_mask[rows], *completions)
        parts.append(torch.nn.functional.pad(found, (0, completion_mask.shape[1] - longest)))
    return torch.cat(parts)[order.argsort()]
