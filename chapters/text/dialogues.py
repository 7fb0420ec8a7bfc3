"""Texts that a policy and a world write by turns: what D9's rollouts ask of a world, and a calculator's."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from chapters.envs import calculator


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
