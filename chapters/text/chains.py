"""A language model that writes running sums: what it is asked, and its probability of every beginning.

The model may write digits only, so that a completion has exactly three tokens and there are a thousand of
them (chapters/envs/running_sums.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs.running_sums import BASE, NUM_STEPS, chains, problems
from chapters.text import tasks
from chapters.text.generation import sample
from chapters.text.tasks import Task
from chapters.utils.runlog import RunLog

PAD_ID, EOS_ID = 0, 1
FIRST_DIGIT = 3
"""Id of the token `0`: the special tokens stand before it, the other digits and `=` behind it."""


class DigitsOnly(nn.Module):
    """A causal language model over the characters of running sums that cannot write anything but digits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Any:
        out = self.model(**inputs)
        ids = torch.arange(out.logits.shape[-1])
        no_digit = (ids < FIRST_DIGIT) | (ids >= FIRST_DIGIT + BASE)
        out.logits = out.logits.masked_fill(no_digit, -torch.inf)
        return out


def prompt_ids(digits: Int[Tensor, "N D"]) -> Int[Tensor, "N P"]:
    """Token ids of `3852=` for each row of digits."""
    return nn.functional.pad(digits + FIRST_DIGIT, (0, 1), value=FIRST_DIGIT + BASE)


def chains_task(digits: Int[Tensor, "N D"]) -> Task:
    """Problems whose completion is worth 1 if its last digit is the answer, whatever the steps before it."""
    ids, right = prompt_ids(digits), right_chains(digits)

    def score(rows: Tensor, completion_ids: Tensor) -> Tensor:
        return (completion_ids[:, -1] == FIRST_DIGIT + right[rows, -1]).float()

    return Task(ids, torch.ones_like(ids), EOS_ID, PAD_ID, NUM_STEPS, score)


def right_chains(digits: Int[Tensor, "N D"]) -> Int[Tensor, "N T"]:
    """The right running sums of each problem, as digits."""
    return torch.from_numpy(chains(digits.numpy()))


def every_outcome(digits: Int[Tensor, "N D"]) -> Float[Tensor, "N V V V"]:
    """1 where a chain's last digit is the answer, for all thousand chains of each problem."""
    last = nn.functional.one_hot(right_chains(digits)[:, -1], BASE).double()  # [N, V]
    return last[:, None, None].expand(-1, BASE, BASE, -1)


@torch.no_grad()
def next_digit_logits(policy: Callable, digits: Int[Tensor, "N D"]) -> list[Tensor]:
    """Output for every digit after every beginning: float64 [N, 10], [N, 10, 10] and [N, 10, 10, 10].

    Three forward passes' worth in one: of the hundred two-digit beginnings of each problem.
    """
    grid = torch.cartesian_prod(torch.arange(BASE), torch.arange(BASE)) + FIRST_DIGIT  # [100, 2]
    parts = []
    for some in prompt_ids(digits).split(50):  # memory
        ids = torch.cat([some.repeat_interleave(len(grid), dim=0), grid.repeat(len(some), 1)], dim=1)
        logits = policy(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -NUM_STEPS:]
        found = logits[..., FIRST_DIGIT : FIRST_DIGIT + BASE].double()
        parts.append(found.view(len(some), BASE, BASE, NUM_STEPS, BASE))
    every = torch.cat(parts)
    return [every[:, 0, 0, 0], every[:, :, 0, 1], every[:, :, :, 2]]


def next_digit_probs(policy: Callable, digits: Int[Tensor, "N D"]) -> list[Tensor]:
    """Probability of every digit after every beginning, shaped as `next_digit_logits`."""
    return [logits.softmax(dim=-1) for logits in next_digit_logits(policy, digits)]


class StepModel(nn.Module):
    """A causal language model's own output for the token that was written, read as the score of that step.

    So it knows from the start which steps are likely, and has to learn how good they are.
    """

    def __init__(self, policy: DigitsOnly) -> None:
        super().__init__()
        self.model = copy.deepcopy(policy.model)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, asked: Int[Tensor, "B P"], written: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        ids = torch.cat([asked, written], dim=1)
        logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        before = logits[:, asked.shape[1] - 1 : -1]  # the place before a step judges it
        return before.gather(2, written[..., None])[..., 0] + self.bias


def watcher(
    name: str, num_updates: int, seed: int, log: RunLog, every: int = 20
) -> Callable[[Callable, int], None]:
    """A `watch(policy, number of updates)` that samples held-out problems every so many updates.

    `<name>_answers` is the share of right answers, `<name>_chains` of chains without a wrong step: of one
    chain for each problem, and of two before the first update and after the last.
    """
    digits = torch.from_numpy(problems(held_out=True))
    task, right = chains_task(digits), right_chains(digits) + FIRST_DIGIT

    def watch(policy: Callable, step: int) -> None:
        if step % every and step != num_updates:
            return
        num = 2 if step in (0, num_updates) and not log.smoke else 1
        rows = torch.arange(len(right))[:: 50 if log.smoke else 1].repeat_interleave(num)
        batch = tasks.answer(policy, task, rows, torch.Generator().manual_seed(10_000 + seed))
        whole = (batch["completion_ids"] == right[rows]).all(dim=1).float().mean()
        log.write(step, **{f"{name}_answers": batch["rewards"].mean(), f"{name}_chains": whole})

    return watch


@torch.no_grad()
def try_steps(
    policy: Callable, task: Task, rows: Int[Tensor, " B"], num_tries: int, generator: torch.Generator
) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T K"]]:
    """(a chain for each of the problems `rows`, outcomes of K continuations of each of its beginnings).

    The last beginning is the chain itself, of which nothing is left to try: its own outcome stands K times.
    """
    written = tasks.answer(policy, task, rows, generator)
    ids, outcomes = written["completion_ids"], []
    many = rows.repeat_interleave(num_tries)
    for t in range(1, task.num_tokens):
        kept = ids[:, :t].repeat_interleave(num_tries, dim=0)
        asked = torch.cat([task.prompt_ids[many], kept], dim=1)
        rest, _ = sample(
            policy, asked, torch.ones_like(asked), task.num_tokens - t, task.eos_id, task.pad_id, generator
        )
        outcomes.append(task.score(many, torch.cat([kept, rest], dim=1)).view(-1, num_tries))
    outcomes.append(written["rewards"][:, None].expand(-1, num_tries))
    return ids, torch.stack(outcomes, dim=1)
