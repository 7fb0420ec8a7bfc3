"""Rewrites of blunt requests: written, compared in pairs, scored by a reward model; D6 learns from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from chapters.envs.rewriter import blunt_texts, encode_prompts, encode_rewrites, judge
from chapters.text.generation import positions, sample
from chapters.text.models import LoadedModel
from chapters.text.preferences import last_token, preference_probability
from chapters.utils.runlog import RunLog

FAR = 10_000
"""Parts the seeds of what is only measured from those of what is learnt from."""


class Pairs(NamedTuple):
    """Two rewrites of each request, the chosen one apart from the other."""

    requests: list[str]
    chosen: list[str]
    rejected: list[str]

    def pick(self, rows: Iterable) -> Pairs:
        """Some of the pairs, in the order of `rows`."""
        rows = list(rows)
        return Pairs(*([column[row] for row in rows] for column in self))

    def without(self, requests: Iterable[str]) -> Pairs:
        """The pairs whose request is none of `requests`."""
        left_out = set(requests)
        return self.pick(row for row, request in enumerate(self.requests) if request not in left_out)


class Comparisons(NamedTuple):
    """What the judge was shown, and how sure it was of each pair."""

    requests: list[str]
    first: list[str]
    second: list[str]
    probs: Float[np.ndarray, " N"]
    """Chance that the first is preferred."""


def hold_out(pairs: Pairs, every: int = 5) -> tuple[Pairs, Pairs]:
    """(pairs to learn from, pairs to test on): those of every fifth request are for the test."""
    requests = list(dict.fromkeys(pairs.requests))
    tested = set(requests[every - 1 :: every])
    return pairs.without(tested), pairs.without(set(requests) - tested)


def tell_agreement(reward_model: RewardModel, lm: LoadedModel, unseen: Pairs, log: RunLog) -> Tensor:
    """Say and log how many of your answers, none of which was learnt from, the reward model shares.

    Returns by how much it finds the chosen texts better, [B].
    """
    if not unseen.requests:
        return torch.zeros(0)
    with torch.no_grad():
        chosen, rejected = reward_model.margins(lm, unseen)
    share = (chosen > rejected).double().mean().item()
    log.write(0, human_rm_agreement=share, human_held_out=len(unseen.requests))
    print(
        f"Of {len(unseen.requests)} answers that it did not learn from, the reward model shares {share:.0%}."
    )
    return chosen - rejected


def rewrite(
    policy: Callable, lm: LoadedModel, requests: Sequence[str], num_tokens: int, seed: int, chunk: int = 256
) -> list[str]:
    """A sampled rewrite of each request. Requests of one length go together: less padding to compute."""
    generator = torch.Generator().manual_seed(seed)
    tokenizer = lm.tokenizer
    order = sorted(range(len(requests)), key=lambda row: len(requests[row]))
    texts = [""] * len(requests)
    for start in range(0, len(order), chunk):
        rows = order[start : start + chunk]
        prompts = encode_prompts(tokenizer, [requests[row] for row in rows])
        special = tokenizer.eos_token_id, tokenizer.pad_token_id
        ids, _ = sample(policy, *prompts, num_tokens, *special, generator)
        for row, text in zip(rows, tokenizer.batch_decode(ids, skip_special_tokens=True)):
            texts[row] = text.strip()
    return texts


def compare(
    policy: Callable, lm: LoadedModel, num_pairs: int, num_tokens: int, noise: float, seed: int,
    held_out: bool = False,
) -> Comparisons:  # fmt: skip
    """Two rewrites by the policy of each of `num_pairs` requests; where both are equal, it is left out.

    noise: the annotators' temperature, in units of the judge's score.
    """
    requests = blunt_texts([seed, 2, held_out], num_pairs, held_out)
    texts = rewrite(policy, lm, requests * 2, num_tokens, seed + FAR * (1 + held_out))
    rows = [row for row in range(num_pairs) if texts[row] != texts[row + num_pairs]]
    asked = [requests[row] for row in rows]
    first = [texts[row] for row in rows]
    second = [texts[row + num_pairs] for row in rows]
    scores = judge(asked, first).score, judge(asked, second).score
    return Comparisons(asked, first, second, preference_probability(*scores, noise))


def pack(
    prompt_ids: Int[Tensor, "B P"], prompt_mask: Int[Tensor, "B P"],
    completion_ids: Int[Tensor, "B T"], completion_mask: Bool[Tensor, "B T"],
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B L"]]:  # fmt: skip
    """(ids, mask) of whole texts without holes, padded on the right: fewer columns than P + T."""
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)
    longest = int(mask.sum(dim=1).max())
    order = mask.argsort(dim=1, descending=True, stable=True)[:, :longest]
    return ids.gather(1, order), mask.gather(1, order)


class RewardModel(nn.Module):
    """D3's, with a head that prefers nothing at first.

    `base_model_prefix`, the trunk that it names, and `score` are what TRL asks for.
    """

    base_model_prefix = "trunk"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(model.base_model).requires_grad_(True)
        self.score = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, ids: Int[Tensor, "B L"], mask: Int[Tensor, "B L"]) -> Float[Tensor, " B"]:
        hidden = self.trunk(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
        return last_token(self.score(hidden.last_hidden_state)[..., 0], mask)

    def margins(self, lm: LoadedModel, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(rewards of the chosen, rewards of the rejected) [B] each, in one pass."""
        prompts = encode_prompts(lm.tokenizer, pairs.requests * 2)
        rewrites = encode_rewrites(lm.tokenizer, pairs.chosen + pairs.rejected)
        return self(*pack(*prompts, *rewrites)).chunk(2)
