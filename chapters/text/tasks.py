"""What a policy is asked and how a completion is scored: sums to be checked, reviews, and the token world.

A `Task` holds prompts and a `score`. A batch is a dictionary of tensors with a row for each completion; every
lesson that trains by sampling uses the same names in it. Prompts are padded on the left, completions on the
right.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs import arithmetic, reviews
from chapters.envs.token_world import EOS, TokenWorld
from chapters.text.generation import positions, sample, token_log_probs
from chapters.utils.runlog import RunLog


class Task(NamedTuple):
    """What to answer, and what an answer is worth."""

    prompt_ids: Int[Tensor, "N P"]
    prompt_mask: Int[Tensor, "N P"]
    eos_id: int
    pad_id: int
    num_tokens: int
    """T: the longest completion."""
    score: Callable[[Tensor, Tensor], Tensor]
    """(rows of the prompts [B], completion_ids [B, T]) -> rewards [B]."""


def sums_task(tokenizer: Any, held_out: bool = False) -> tuple[list[str], Task]:
    """(prompts as text, task) of one part of the split of all sums; a right answer is worth 1, others 0."""
    prompts = arithmetic.all_prompts(held_out)
    encoded = tokenizer(prompts, return_tensors="pt", padding=True)

    def score(rows: Tensor, completion_ids: Tensor) -> Tensor:
        asked = [prompts[row] for row in rows.tolist()]
        return torch.from_numpy(arithmetic.grade(tokenizer, asked, completion_ids.tolist())).float()

    return prompts, Task(
        prompt_ids=encoded["input_ids"],
        prompt_mask=encoded["attention_mask"],
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
        num_tokens=arithmetic.ANSWER_TOKENS,
        score=score,
    )


def world_task(world: TokenWorld) -> Task:
    """The prompts of a token world, each completion worth what the world's table says."""
    prompts = world.prompt_ids

    def score(rows: Tensor, completion_ids: Tensor) -> Tensor:
        return world.reward(prompts[rows], completion_ids)

    return Task(prompts, torch.ones_like(prompts), EOS, world.pad_id, world.length, score)


def reviews_task(tokenizer: Any, num_tokens: int, cap: float = 3.0) -> Task:
    """Beginnings of a review; the score is the text's positive minus its negative words, cut off at +-cap."""
    encoded = tokenizer(list(reviews.PROMPTS), return_tensors="pt", padding=True)
    prompt_ids = encoded["input_ids"]

    def score(rows: Tensor, completion_ids: Tensor) -> Tensor:
        ids = torch.cat([prompt_ids[rows], completion_ids], dim=1)
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return torch.from_numpy(reviews.sentiment(texts, cap))

    return Task(
        prompt_ids=prompt_ids,
        prompt_mask=encoded["attention_mask"],
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
        num_tokens=num_tokens,
        score=score,
    )


@torch.no_grad()
def answer(
    policy: Callable, task: Task, rows: Int[Tensor, " B"], generator: torch.Generator
) -> dict[str, Tensor]:
    """A batch: one sampled completion of each of the prompts `rows`, and its reward."""
    prompt_ids = task.prompt_ids[rows]
    prompt_mask = task.prompt_mask[rows]
    completion_ids, completion_mask = sample(
        policy, prompt_ids, prompt_mask, task.num_tokens, task.eos_id, task.pad_id, generator
    )
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "rewards": task.score(rows, completion_ids),
    }


def log_probs_of(policy: Callable, batch: dict[str, Tensor]) -> Tensor:
    """`token_log_probs` of a batch, [B, T]."""
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    return token_log_probs(policy, *(batch[name] for name in names))


def next_log_probs_of(policy: Callable, batch: dict[str, Tensor]) -> Float[Tensor, "B T V"]:
    """Log-probability of every token where each token of the completions stands: `log_probs_of` of all."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)  # [B, P + T]
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"].long()], dim=1)
    logits = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits
    return logits[:, batch["prompt_ids"].shape[1] - 1 : -1].log_softmax(-1)


def every_completion(world: TokenWorld) -> dict[str, Tensor]:
    """A batch of all M completions of each of the world's N prompts, N M rows.

    Without rewards, and with the reference's log-probability of each token, in float64.
    """
    prompt_ids = world.prompt_ids.repeat_interleave(len(world.completion_ids), dim=0)
    batch = {
        "prompt_ids": prompt_ids,
        "prompt_mask": torch.ones_like(prompt_ids),
        "completion_ids": world.completion_ids.repeat(world.num_prompts, 1),
        "completion_mask": world.completion_mask.repeat(world.num_prompts, 1),
    }
    with torch.no_grad():
        batch["ref_log_probs"] = log_probs_of(world.reference(torch.float64), batch)
    return batch


def greedy(policy: Callable) -> Callable:
    """The policy made so sharp that sampling takes the likeliest token."""

    def sharpened(**inputs: Any) -> Any:
        out = policy(**inputs)
        out.logits = 1e4 * out.logits
        return out

    return sharpened


def drawn_answers(
    policy: Callable, task: Task, num_samples: int, seed: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """(answers to each prompt, batch), until each prompt has `num_samples` answers; few at a time: memory.

    They are drawn with a generator of their own, so that measuring never changes what is learnt.
    """
    generator = torch.Generator().manual_seed(10_000 + seed)
    for start in range(0, num_samples, 8):
        size = min(8, num_samples - start)
        rows = torch.arange(len(task.prompt_ids)).repeat_interleave(size)
        yield size, answer(policy, task, rows, generator)


def number_right(policy: Callable, task: Task, num_samples: int, seed: int) -> np.ndarray:
    """How many of `num_samples` answers to each prompt earn the reward 1."""
    right = torch.zeros(len(task.prompt_ids))
    for size, batch in drawn_answers(policy, task, num_samples, seed):
        right += batch["rewards"].view(-1, size).sum(dim=1)
    return right.long().numpy()


@torch.no_grad()
def count_right(policy: Callable, task: Task, num_samples: int, seed: int) -> tuple[np.ndarray, float]:
    """(`number_right`, entropy of a token in nats): the entropy takes another pass over what was written."""
    right = torch.zeros(len(task.prompt_ids))
    surprise = 0.0
    num_written = 0
    for size, batch in drawn_answers(policy, task, num_samples, seed):
        right += batch["rewards"].view(-1, size).sum(dim=1)
        # minus the mean log-probability of what was sampled estimates the entropy
        surprise -= log_probs_of(policy, batch).sum().item()
        num_written += int(batch["completion_mask"].sum())
    return right.long().numpy(), surprise / num_written


def pass_at_k(num_correct: Int[np.ndarray, " N"], num_samples: int, k: int) -> float:
    """Chance that one of k answers is right, unbiased (chen2021codex, eq. 1), mean over problems.

    `num_correct` of `num_samples` answers to each problem were right. One of four answers is in three of
    their six pairs; the tempting 1 - (1 - 1/4)^2 = 0.44 is too low.

    >>> pass_at_k(np.array([1]), num_samples=4, k=2)
    0.5
    """
    all_wrong = [math.comb(num_samples - int(c), k) / math.comb(num_samples, k) for c in num_correct]
    return 1.0 - float(np.mean(all_wrong))


def best_of(scores: Float[Tensor, " B"], n: int) -> float:
    """Expected highest of n scores drawn from these, with replacement.

    Of 0 and 3 drawn twice, three pairs in four hold a 3.

    >>> best_of(torch.tensor([3.0, 0.0]), n=2)
    2.25
    """
    below = torch.arange(len(scores) + 1) / len(scores)  # share of the scores up to each, from the lowest
    return float((scores.sort().values * below.pow(n).diff()).sum())


# same-as: D16.best_of_n_kl
def best_of_n_kl(n: int) -> float:
    """Bound on the divergence of the best of n from the policy that wrote them, in nats."""
    return math.log(n) - (n - 1) / n


def accuracy_watcher(
    name: str, task: Task, num_updates: int, seed: int, log: RunLog, every: int = 10
) -> Callable[[nn.Module, int], None]:
    """A `watch(policy, number of updates)` that writes accuracies every so many updates and at the last.

    `<name>_greedy`: share of prompts whose likeliest answer is right; `<name>_sampled`: the mean share of
    four sampled answers; `<name>_cpu_seconds`: spent since the call at step 0, measuring apart.
    """
    start = time.process_time()

    def watch(policy: nn.Module, step: int) -> None:
        nonlocal start
        began = time.process_time()
        if step == 0:
            start = began
        if step % every == 0 or step == num_updates:
            likeliest = number_right(greedy(policy), task, 1, seed)
            drawn = number_right(policy, task, 4, seed)
            log.write(
                step,
                **{
                    f"{name}_greedy": likeliest.mean(),
                    f"{name}_sampled": drawn.mean() / 4,
                    f"{name}_cpu_seconds": began - start,
                },
            )
        start += time.process_time() - began  # as if measuring took no time

    return watch


def gap_watcher(
    suffix: str, world: TokenWorld, beta: float, num_updates: int, log: RunLog, every: int = 4
) -> Callable[[nn.Module, int], None]:
    """A `watch(policy, number of updates)` that writes what is known exactly on the token world.

    `token_gap<suffix>`: share of the way from the reference's objective to the optimum's; `token_kl<suffix>`
    and `token_reward<suffix>`: the policy's divergence from the reference and its expected reward.
    """

    def watch(policy: nn.Module, step: int) -> None:
        if step % every and step != num_updates:
            return
        with torch.no_grad():
            log_probs = world.log_probs(policy)
        log.write(
            step,
            **{
                f"token_gap{suffix}": world.gap_closed(log_probs, beta),
                f"token_kl{suffix}": float(world.kl(log_probs)),
                f"token_reward{suffix}": float(world.expected_reward(log_probs)),
            },
        )

    return watch
