"""Texts of several turns, so few that all can be listed: an agent that may ask a tool before it answers.

One of three letters is hidden, drawn anew for each text; how likely each is depends on the problem. The agent
answers with a letter, and is paid 1 if it is the hidden one. Or it writes `call`: then the tool puts two
tokens into the text, the hidden letter and `back`, at a price. The agent wrote neither of them, and how
likely they are does not depend on its weights. It may call twice; whatever else it writes ends the text.

Every text that can come about is enumerated, with the chance that belongs to the world and the tokens that
belong to the agent: expected returns are sums, and their gradients are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

CALL, BACK, PAD = 0, 4, 5
"""Tokens; 1 to 3 are the letters, and from 6 on there is one for each problem."""
LETTERS, NUM_SYMBOLS = (1, 2, 3), 5
NEVER = -1e4
"""Logit of what is never written: probability exactly 0 in floating point."""


class SharedPolicy(nn.Module):
    """Logits of a token from the problem, the last token and the one before it, added up.

    A network shares weights between all places of a text; so does this one, with 5 x 24 numbers. A table
    with a row for each prefix would not: learning to foretell the tool's words would touch no choice in it.
    Called like a transformers model; its cache is the text so far.
    """

    def __init__(self, num_problems: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.num_ids = PAD + 1 + num_problems
        self.table = nn.Parameter(torch.zeros(3, self.num_ids, NUM_SYMBOLS, dtype=dtype))

    @property
    def device(self) -> torch.device:
        return self.table.device

    def forward(
        self, input_ids: Int[Tensor, "B T"], past_key_values: Tensor | None = None, **_: Any
    ) -> SimpleNamespace:
        """`.logits` [B, T, ids], `.past_key_values` (the text so far)."""
        new = input_ids.shape[1]
        text = input_ids if past_key_values is None else torch.cat([past_key_values, input_ids], dim=1)
        before = torch.cat([text[:, :1], text[:, :-1]], dim=1)  # a problem stands before itself
        problem = text[:, :1].expand_as(text)
        written = sum(table[ids] for table, ids in zip(self.table, (problem, text, before)))[:, -new:]
        never = written.new_full((*written.shape[:2], self.num_ids - NUM_SYMBOLS), NEVER)
        return SimpleNamespace(logits=torch.cat([written, never], dim=-1), past_key_values=text)


@dataclass(frozen=True)
class ToolWorld:
    """The enumerated world; also a dialogue, as `chapters.text.dialogues` says what one is."""

    priors: tuple[tuple[float, float, float], ...] = ((0.7, 0.2, 0.1), (0.34, 0.33, 0.33))
    """How likely each letter is, for each problem: the first can be guessed, the second cannot."""
    price: float = 0.1
    """What a call costs."""
    max_calls: int = 2

    pad_id = PAD

    @property
    def num_tokens(self) -> int:
        """T: the longest text, all calls and an answer."""
        return 3 * self.max_calls + 1

    @property
    def prompt_ids(self) -> Int[Tensor, "N 1"]:
        return torch.arange(len(self.priors))[:, None] + PAD + 1

    @property
    def prompt_mask(self) -> Int[Tensor, "N 1"]:
        return torch.ones_like(self.prompt_ids)

    def secrets(self, rows: list[int], generator: torch.Generator) -> list[int]:
        """The hidden letter of each of so many texts."""
        weights = torch.tensor([self.priors[row] for row in rows])
        return (torch.multinomial(weights, 1, generator=generator)[:, 0] + 1).tolist()

    def reply(self, row: int, secret: int, written: list[int]) -> tuple[list[int], bool]:
        """(what the tool puts behind `written`, which the agent just went on with; whether the text ends)."""
        calls = written.count(CALL)
        if written[-1] == CALL and calls <= self.max_calls:
            return [secret, BACK], False
        return [], True

    def reward(self, row: int, secret: int, written: list[int]) -> float:
        """1 for the hidden letter at the end, less what the calls cost."""
        calls = min(written.count(CALL), self.max_calls)
        return float(written[-1] == secret) - self.price * calls

    def policy(self, seed: int, habit: float = 2.5, dtype: torch.dtype = torch.float64) -> SharedPolicy:
        """A policy of random weights that is inclined, by `habit`, to repeat a letter that it has just read.

        So does a language model that has seen demonstrations. Whoever makes nothing of an answer has no
        reason to ask, and who never asks does not learn to make anything of it.
        """
        policy = SharedPolicy(len(self.priors), dtype)
        noise = torch.randn(policy.table.shape, generator=torch.Generator().manual_seed(seed))
        policy.table.data.copy_(0.3 * noise)
        for letter in LETTERS:
            policy.table.data[2, letter, letter] += habit  # read before the last token, which is `back`
        return policy

    def every_text(self) -> dict[str, Tensor]:
        """A batch of all M texts there are, in the names of D9's rollouts, and `chance` [M].

        `chance` is the world's part of a text's probability: that of its problem and of its hidden letter.
        The agent's part is the product over the tokens in `agent_mask`.
        """
        found: list[tuple[int, int, list[int], list[bool]]] = []
        for row in range(len(self.priors)):
            for secret in LETTERS:
                self._go_on(row, secret, [], [], found)
        ids = torch.full((len(found), self.num_tokens), PAD)
        agent = torch.zeros_like(ids, dtype=torch.bool)
        for m, (_, _, written, own) in enumerate(found):
            ids[m, : len(written)] = torch.tensor(written)
            agent[m, : len(own)] = torch.tensor(own)
        rows = torch.tensor([row for row, *_ in found])
        chance = [self.priors[row][secret - 1] / len(self.priors) for row, secret, *_ in found]
        rewards = [self.reward(row, secret, written) for row, secret, written, _ in found]
        return {
            "prompt_ids": self.prompt_ids[rows],
            "prompt_mask": torch.ones(len(rows), 1, dtype=torch.long),
            "completion_ids": ids,
            "completion_mask": ids != PAD,
            "agent_mask": agent,
            "rewards": torch.tensor(rewards, dtype=torch.float64),
            "problems": rows,
            "chance": torch.tensor(chance, dtype=torch.float64),
        }

    def _go_on(self, row: int, secret: int, written: list[int], own: list[bool], found: list) -> None:
        for token in range(NUM_SYMBOLS):
            text, agent = [*written, token], [*own, True]
            answer, over = self.reply(row, secret, text)
            if over:
                found.append((row, secret, text, agent))
            else:
                self._go_on(row, secret, text + answer, agent + [False] * len(answer), found)

    def best_return(self, calls: bool = True) -> float:
        """The highest expected return of any policy: for each problem, guess the likeliest letter, or ask.

        One call tells everything, so no policy calls twice. `calls`: whether the tool may be used.
        """
        guesses = [max(prior) for prior in self.priors]
        ask = 1.0 - self.price if calls else 0.0
        return sum(max(guess, ask) for guess in guesses) / len(guesses)
