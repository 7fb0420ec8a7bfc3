"""A guessing game in tokens: a number below N, k guesses, and after each wrong one the word higher or lower.

The words are the world's. No player finds the number more often than in (2^k - 1) / N of all games: k guesses
with two answers part the numbers into a binary tree of k levels, which has that many places. `most_found`
finds the same by dynamic programming.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn


@cache
def most_found(numbers: int, guesses: int) -> int:
    """Of so many numbers in a row, how many the best player finds within so many guesses."""
    if numbers <= 0 or guesses == 0:
        return 0
    return max(
        1 + most_found(left, guesses - 1) + most_found(numbers - 1 - left, guesses - 1)
        for left in range(numbers)
    )


class GuessingGame:
    """A dialogue, as `chapters.text.dialogues` says what one is; its one prompt says nothing."""

    def __init__(self, num_numbers: int, num_guesses: int) -> None:
        self.num_numbers, self.num_guesses = num_numbers, num_guesses
        self.lower_id, self.higher_id, self.pad_id = num_numbers, num_numbers + 1, num_numbers + 2
        self.num_tokens = 2 * num_guesses - 1
        self.prompt_ids = torch.tensor([[num_numbers + 3]])
        self.prompt_mask = torch.ones_like(self.prompt_ids)

    @property
    def optimum(self) -> float:
        """Share of games that the best player wins."""
        return min(1.0, (2**self.num_guesses - 1) / self.num_numbers)

    def secrets(self, rows: list[int], generator: torch.Generator) -> list[int]:
        return torch.randint(self.num_numbers, (len(rows),), generator=generator).tolist()

    def reply(self, row: int, secret: int, written: list[int]) -> tuple[list[int], bool]:
        if written[-1] == secret or len(written) == self.num_tokens:
            return [], True
        return [self.higher_id if secret > written[-1] else self.lower_id], False

    def reward(self, row: int, secret: int, written: list[int]) -> float:
        """1 if the last guess was right."""
        return float(written[-1] == secret)


class IntervalPolicy(nn.Module):
    """Logits of a guess for each number of guesses made and each interval that is left; at first all alike.

    Called like a transformers model; its cache is the text so far.
    """

    def __init__(self, game: GuessingGame) -> None:
        super().__init__()
        self.game = game
        size = game.num_numbers
        self.table = nn.Parameter(torch.zeros(game.num_guesses, size + 1, size + 1, size))

    def forward(
        self, input_ids: Int[Tensor, "B T"], past_key_values: Tensor | None = None, **_: Any
    ) -> SimpleNamespace:
        """`.logits` [B, T, N], `.past_key_values` (the text so far)."""
        new = input_ids.shape[1]
        text = input_ids if past_key_values is None else torch.cat([past_key_values, input_ids], dim=1)
        low = torch.zeros_like(text[:, 0])
        high = torch.full_like(low, self.game.num_numbers)  # the first number that is too high
        made = torch.zeros_like(low)
        logits = []
        for t in range(text.shape[1]):
            token, before = text[:, t], text[:, max(t - 1, 0)]
            low = torch.where(token == self.game.higher_id, torch.maximum(low, before + 1), low)
            high = torch.where(token == self.game.lower_id, torch.minimum(high, before), high)
            made = made + ((token == self.game.higher_id) | (token == self.game.lower_id))
            logits.append(self.table[made, low.clamp(max=self.game.num_numbers), high])
        never = -1e4 * torch.ones(*text.shape, 4, dtype=self.table.dtype)
        full = torch.cat([torch.stack(logits, dim=1), never], dim=-1)
        return SimpleNamespace(logits=full[:, -new:], past_key_values=text)

    @torch.no_grad()
    def success(self) -> float:
        """Share of games that the policy wins, exactly."""
        probs = self.table.double().softmax(-1).numpy()
        size = self.game.num_numbers
        found = np.zeros((self.game.num_guesses + 1, size + 1, size + 1))  # numbers found of an interval
        for made in range(self.game.num_guesses - 1, -1, -1):
            for low in range(size + 1):
                for high in range(low + 1, size + 1):
                    worth = [
                        1.0 + found[made + 1, low, guess] + found[made + 1, guess + 1, high]
                        if low <= guess < high
                        else found[made + 1, low, high]
                        for guess in range(size)
                    ]
                    found[made, low, high] = probs[made, low, high] @ np.array(worth)
        return float(found[0, 0, size] / size)
