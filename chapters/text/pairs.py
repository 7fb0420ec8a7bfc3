"""Pairs of completions, of the token world or of reviews, and how good a policy's reviews are.

A pair's prompt stands once, its two completions side by side: `prompt_ids` and `prompt_mask` [B, P],
`completion_ids` and `completion_mask` [B, 2, T]; `labels` [B] is the probability that the first is preferred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chapters.envs.reviews import PROMPTS, sentiment
from chapters.envs.token_world import TokenWorld
from chapters.text.generation import sample, token_log_probs
from chapters.text.models import LoadedModel
from chapters.text.tasks import every_completion, log_probs_of

TEXT = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")


def world_pairs(
    world: TokenWorld, weights: Tensor, num: int, labels: str = "soft"
) -> Callable[[torch.Generator], dict[str, Tensor]]:
    """`draw(generator)`: `num` fresh pairs of the token world, as many of each prompt.

    weights: [N, M], completions are drawn in proportion to them. labels: "soft" is Bradley and Terry's
    probability itself, "sampled" one draw from it, "hard" the verdict of a judge who always prefers the
    higher reward (a tie is worth a half). Each pair brings the reference's `ref_log_probs` [B, 2, T] along.
    """
    every = every_completion(world)
    with torch.no_grad():
        every["ref_log_probs"] = log_probs_of(world.reference(), every)
    each, num_completions = num // world.num_prompts, world.rewards.shape[1]
    prompts = torch.arange(world.num_prompts).repeat_interleave(each)  # [B]

    def draw(generator: torch.Generator) -> dict[str, Tensor]:
        rows = torch.multinomial(weights, 2 * each, replacement=True, generator=generator)  # [N, 2 B / N]
        rows = rows.reshape(-1, 2)  # [B, 2]
        first, second = world.rewards[prompts[:, None], rows].float().unbind(1)
        chances = (first - second).sigmoid()
        if labels == "hard":
            chances = (1 + (first - second).sign()) / 2
        elif labels == "sampled":
            chances = torch.bernoulli(chances, generator=generator)
        rows = prompts[:, None] * num_completions + rows
        pairs = {name: every[name][rows] for name in ("completion_ids", "completion_mask", "ref_log_probs")}
        prompt_ids = world.prompt_ids[prompts]
        return {
            "prompt_ids": prompt_ids,
            "prompt_mask": torch.ones_like(prompt_ids),
            **pairs,
            "labels": chances,
        }

    return draw


@torch.no_grad()
def write_reviews(
    policy: Callable, tokenizer: Any, num: int, num_tokens: int, seed: int
) -> tuple[dict[str, Tensor], list[str]]:
    """(batch, texts): completions of each prompt in turn, `num` rounded up to an even number of rounds."""
    encoded = tokenizer(list(PROMPTS), return_tensors="pt", padding=True)
    rounds = 2 * -(-num // (2 * len(PROMPTS)))
    prompt_ids, prompt_mask = (encoded[name].repeat(rounds, 1) for name in ("input_ids", "attention_mask"))
    special = tokenizer.eos_token_id, tokenizer.pad_token_id
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for rows in torch.arange(len(prompt_ids)).split(20 * len(PROMPTS)):
        parts.append(sample(policy, prompt_ids[rows], prompt_mask[rows], num_tokens, *special, generator))
    ids, mask = (torch.cat(part) for part in zip(*parts))
    texts = tokenizer.batch_decode(torch.cat([prompt_ids, ids], dim=1), skip_special_tokens=True)
    return dict(zip(TEXT, (prompt_ids, prompt_mask, ids, mask))), texts


def review_pairs(lm: LoadedModel, num_pairs: int, num_tokens: int, seed: int) -> dict[str, Tensor]:
    """Pairs of the model's own reviews after the same prompt, by their sentiment; ties are dropped.

    `labels` [B] are 1: the verdict never varies.
    """
    written, _ = write_reviews(lm.model, lm.tokenizer, 7 * num_pairs // 2, num_tokens, seed)
    # a text that was cut off is closed
    written["completion_ids"][written["completion_mask"].all(1), -1] = lm.tokenizer.eos_token_id
    whole = torch.cat([written["prompt_ids"], written["completion_ids"]], dim=1)
    texts = lm.tokenizer.batch_decode(whole, skip_special_tokens=True)
    # the prompts come round in turn: rows that lie one round apart continue the same prompt
    scores = torch.from_numpy(sentiment(texts)).reshape(-1, 2, len(PROMPTS))
    order = scores.argsort(dim=1, descending=True)
    rows = torch.arange(scores.numel()).reshape(scores.shape).gather(1, order)
    rows = rows.transpose(1, 2)[scores[:, 0] != scores[:, 1]]  # [pairs that differ, 2]: chosen, rejected
    generator = torch.Generator().manual_seed(seed)
    rows = rows[torch.randperm(len(rows), generator=generator)[:num_pairs]]
    prompts = {name: written[name][rows[:, 0]] for name in TEXT[:2]}
    completions = {name: written[name][rows] for name in TEXT[2:]}
    return {**prompts, **completions, "labels": torch.ones(len(rows))}


@torch.no_grad()
def judge(
    policy: Callable, lm: LoadedModel, num: int, num_tokens: int, seed: int
) -> tuple[dict[str, float], list[str]]:
    """({measure: value}, texts) of fresh reviews by `policy`, beside those of `lm` after the same prompts."""
    usual = sentiment(write_reviews(lm.model, lm.tokenizer, num, num_tokens, seed + 20_000)[1])  # [B]
    batch, texts = write_reviews(policy, lm.tokenizer, num, num_tokens, seed + 10_000)
    good = sentiment(texts)
    written = [batch[name] for name in TEXT]
    log_probs, ref_log_probs = token_log_probs(policy, *written), token_log_probs(lm.model, *written)
    lengths = written[3].sum(1)
    found = {
        "win_rate": np.mean((good > usual) + 0.5 * (good == usual)),
        "kl": (log_probs - ref_log_probs).sum(1).mean(),
        "sentiment": good.mean(),
        "positive": (good > 0).mean(),
        "perplexity": (-ref_log_probs.sum() / lengths.sum()).exp(),
        "distinct": len(set(texts)) / len(good),
        "length": lengths.float().mean(),
    }
    return {name: float(value) for name, value in found.items()}, texts
