"""Around D5's lesson: the sums as tokens, the likeliest answer, tables of claims."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from chapters.utils.runlog import RunLog

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


def key(name: str) -> str:
    """A metric's name from a label."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def encoded_sums(tokenizer: Any, held_out: bool = False) -> tuple[list[str], tuple]:
    """(texts of one part of the split, what a lesson's task holds: ids, mask, EOS, padding, score)."""
    import torch

    from chapters.envs import arithmetic

    prompts = arithmetic.all_prompts(held_out)
    encoded = tokenizer(prompts, return_tensors="pt", padding=True)

    def score(rows: Tensor, completion_ids: Tensor) -> Tensor:
        asked = [prompts[row] for row in rows.tolist()]
        return torch.from_numpy(arithmetic.grade(tokenizer, asked, completion_ids.tolist())).float()

    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    return prompts, (encoded["input_ids"], encoded["attention_mask"], *ends, score)


def encoded_world(world: Any) -> tuple:
    """What a lesson's task holds, of a token world: ids, mask, EOS, padding, score."""
    from chapters.envs.token_world import EOS

    prompts = world.prompt_ids

    def score(rows: Tensor, completion_ids: Tensor) -> Tensor:
        return world.reward(prompts[rows], completion_ids)

    return prompts, prompts.new_ones(prompts.shape), EOS, world.pad_id, score


def greedy(policy: nn.Module) -> Callable:
    """The policy so sharp that sampling takes the likeliest token."""

    def sharpened(**inputs: Any) -> Any:
        out = policy(**inputs)
        out.logits = 1e4 * out.logits
        return out

    return sharpened


def claim_all(log: RunLog, rows: Iterable[tuple], **rule: Any) -> None:
    """A claim for each row: name, statement, value, bounds as a dictionary; `rule` holds for all of them."""
    for name, statement, value, bounds in rows:
        log.claim(name, statement, float(value), **{**rule, **bounds})


def seconds_to(log: RunLog, name: str, bars: dict[str, float]) -> float:
    """CPU seconds of learning until a measurement first met all bars; infinite if none did."""
    seconds = log.series(f"{name}_cpu_seconds")[1]
    series = [log.series(f"{name}_{what}")[1] for what in bars]
    met = (s for s, *found in zip(seconds, *series) if all(f >= b for f, b in zip(found, bars.values())))
    return next(met, math.inf)


def every_completion(world: Any) -> dict[str, Tensor]:
    """A token world's completions after each of its prompts, [N M] rows, in a batch's names."""
    import torch

    prompt_ids = world.prompt_ids.repeat_interleave(len(world.completion_ids), dim=0)
    return {
        "prompt_ids": prompt_ids, "prompt_mask": torch.ones_like(prompt_ids),
        "completion_ids": world.completion_ids.repeat(world.num_prompts, 1),
        "completion_mask": world.completion_mask.repeat(world.num_prompts, 1),
    }  # fmt: skip


def watcher(
    name: str, count: Callable, cfg: Any, log: RunLog, every: int = 10
) -> Callable[[nn.Module, int, float], None]:
    """Measures every so many updates; `count(policy, n)` says how many of n answers to each sum are right."""

    def watch(policy: nn.Module, step: int, seconds: float) -> None:
        if step % every == 0 or step == cfg.num_updates:
            sharp, drawn = count(greedy(policy), 1)[0].mean(), count(policy, 4)[0].mean() / 4
            found = {"greedy": sharp, "sampled": drawn, "cpu_seconds": seconds}
            log.write(step, **{f"{name}_{what}": value for what, value in found.items()})

    return watch


def counter(answer_groups: Callable, log_probs_of: Callable, test: Any, cfg: Any) -> Callable:
    """`count(policy, num)`: (how many of `num` answers to each sum are right, entropy of a token in nats)."""
    import torch

    def count(policy: Any, num: int) -> tuple[np.ndarray, float]:
        generator, rows = torch.Generator().manual_seed(10_000 + cfg.seed), torch.arange(len(test.prompt_ids))
        right, surprise, written = torch.zeros(len(rows)), 0.0, 0
        for start in range(0, num, 8):  # few at a time: memory
            changed = dataclasses.replace(cfg, group_size=min(8, num - start))
            batch = answer_groups(policy, test, rows, generator, changed)
            right += batch["rewards"].view(len(rows), -1).sum(dim=1)
            with torch.no_grad():  # minus the mean log-probability of what was sampled estimates the entropy
                surprise -= log_probs_of(policy, batch).sum().item()
            written += batch["completion_mask"].sum().item()
        return right.long().numpy(), surprise / written

    return count
