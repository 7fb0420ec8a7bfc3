"""Texts that a policy and a world write by turns: what D9's rollouts ask of a world, and a calculator's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from chapters.envs import calculator
from chapters.envs.tool_world import NEVER


@runtime_checkable
class Dialogue(Protocol):
    """Prompts, who answers within a text, and what a text is worth in the end."""

    prompt_ids: Int[Tensor, "N P"]
    prompt_mask: Int[Tensor, "N P"]
    pad_id: int
    num_tokens: int
    """T: the longest text after a prompt, whoever wrote it."""

    def secrets(self, rows: list[int], generator: torch.Generator) -> list:
        """What the world knows of each text and the policy does not."""

    def reply(self, row: int, secret: Any, written: list[int]) -> tuple[list[int], bool]:
        """(tokens that the world puts behind `written`, whether the text is over); asked after each token."""

    def reward(self, row: int, secret: Any, written: list[int]) -> float:
        """What a text is worth that is over, or that has reached its length."""


@dataclass
class Text:
    """One text while it is written."""

    row: int
    """The number of its problem."""
    secret: Any
    """What the world knows of it, and the policy does not."""
    written: list = field(default_factory=list)
    """Its tokens behind the prompt."""
    own: list[bool] = field(default_factory=list)
    """For each, whether the agent wrote it."""
    waiting: list = field(default_factory=list)
    """Tokens that the world has still to put in."""
    over: bool = False


def padded(texts: list[Text], dialogue: Dialogue) -> dict[str, Tensor]:
    """Texts of different lengths as tensors [B, T]: tokens, where there are any, whose they are."""
    ids = torch.full((len(texts), dialogue.num_tokens), dialogue.pad_id)
    exists = torch.zeros_like(ids, dtype=torch.bool)
    own = exists.clone()
    for b, text in enumerate(texts):
        ids[b, : len(text.written)] = torch.tensor(text.written)
        exists[b, : len(text.written)] = True
        own[b, : len(text.own)] = torch.tensor(text.own)
    return {"completion_ids": ids, "completion_mask": exists, "agent_mask": own}


def pulls(slopes: Float[Tensor, "B T"], batch: dict[str, Tensor]) -> dict[str, float]:
    """Where a loss pulls, from its slopes with respect to each token's log-probability.

    `world_pull` is the share on tokens of the world; `early_pull`, in texts that have such tokens, the share
    on the agent's tokens before the last of them; `answered` the share of such texts.
    """
    size = slopes.abs()
    world = batch["completion_mask"] & ~batch["agent_mask"]
    spoken_later = world.flip(1).cumsum(dim=1).flip(1) > 0  # the world still speaks, here or further on
    answered = world.any(dim=1)
    total, of_answered = size.sum(), size[answered].sum()
    return {
        "world_pull": (size[world].sum() / total.clamp(min=1e-30)).item(),
        "early_pull": (size[spoken_later & ~world].sum() / of_answered.clamp(min=1e-30)).item(),
        "answered": answered.float().mean().item(),
    }


def forbidden(policy: Callable, token: int) -> Callable:
    """The policy as if it could not write one of its tokens."""

    def silenced(**inputs: Any) -> Any:
        out = policy(**inputs)
        out.logits[..., token] = NEVER
        return out

    return silenced


class CalculatorDialogue:
    """Problems of `chapters.envs.calculator`, for a language model; the operands are no secret."""

    num_tokens = calculator.TEXT_TOKENS

    def __init__(self, tokenizer: Any, pairs: Any) -> None:
        """pairs: [num, 2], the operands of each problem."""
        self.tokenizer, self.pairs = tokenizer, pairs.tolist()
        texts = [calculator.problem(a, b) for a, b in self.pairs]
        encoded = tokenizer(texts, return_tensors="pt", padding=True)
        self.prompt_ids, self.prompt_mask = encoded["input_ids"], encoded["attention_mask"]
        self.pad_id, self.eos_id = tokenizer.pad_token_id, tokenizer.eos_token_id
        self.call_id, self.go_id = tokenizer.convert_tokens_to_ids([calculator.CALL, calculator.GO])

    def secrets(self, rows: list[int], generator: torch.Generator) -> list:
        return [None] * len(rows)

    def reply(self, row: int, secret: Any, written: list[int]) -> tuple[list[int], bool]:
        if written[-1] != self.go_id:
            return [], written[-1] == self.eos_id
        words = calculator.reply(self.text(written))
        return self.tokenizer(words)["input_ids"] if words else [], False

    def reward(self, row: int, secret: Any, written: list[int]) -> float:
        """1 if what stands behind the last call, or all there is, is the answer and the end of text."""
        right = calculator.answer(*self.pairs[row])
        return float(self.text(written).rpartition(";")[2] == right + self.tokenizer.eos_token)

    def text(self, written: list[int]) -> str:
        """The characters, special tokens included: one that is dropped could make a wrong text right."""
        return "".join(self.tokenizer.convert_ids_to_tokens(written))
