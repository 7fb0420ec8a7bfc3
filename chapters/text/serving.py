"""A policy on the token world that shares its weights; servers that write with it in their own arithmetic.

A language model is trained by one program and written with by another. What this does to learning is D12's.
"""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs.token_world import TabularPolicy, TokenWorld
from chapters.text import tasks
from chapters.text.tasks import log_probs_of


class AdaptedPolicy(TabularPolicy):
    """The world's reference, frozen, and an adapter: `table` [V, V], logits to add for each last token.

    A few weights serve many texts, as in a language model: most distributions are out of its reach.
    """

    def __init__(self, world: TokenWorld) -> None:
        super().__init__(world.num_prompts, world.num_symbols, world.length, torch.float64)
        self.table = nn.Parameter(torch.zeros(world.num_symbols, world.num_symbols, dtype=torch.float64))
        self.reference = world.reference(torch.float64).requires_grad_(False)

    def prefix_rows(self, input_ids: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """The adapter's row after each token; prompts have row 0, after which no other token stands."""
        return input_ids.masked_fill(input_ids >= self.num_symbols, 0)

    def forward(
        self, input_ids: Int[Tensor, "B T"], past_key_values: Tensor | None = None, **_: Any
    ) -> SimpleNamespace:
        """The reference's answer, its `.logits` with the adapter's added."""
        out = self.reference(input_ids, past_key_values)
        out.logits[..., : self.num_symbols] += self.table[self.prefix_rows(input_ids)]
        return out


class Server:
    """Computes the logits of a policy in its own way; called like one.

    `cfg` has what its arithmetic does: it divides logits by `temperature`, adds noise of the standard
    deviation `noise`, drawn once for each prefix and symbol from `seed`, and keeps numbers of the torch type
    `rounding`.
    """

    def __init__(self, policy: nn.Module, world: TokenWorld, cfg: Any) -> None:
        self.policy, self.frame = policy, world.reference()
        self.temperature, self.dtype = cfg.temperature, getattr(torch, cfg.rounding)
        generator = torch.Generator().manual_seed(1000 + cfg.seed)
        shape = world.reference_table.shape  # [S, V]
        self.noise = cfg.noise * torch.randn(shape, generator=generator, dtype=torch.float64)

    def __call__(
        self, input_ids: Int[Tensor, "B T"], past_key_values: Tensor | None = None, **_: Any
    ) -> SimpleNamespace:
        out = self.policy(input_ids, past_key_values)
        rows = self.frame.prefix_rows(out.past_key_values)[:, -input_ids.shape[1] :]
        logits = out.logits / self.temperature
        logits[..., : self.noise.shape[1]] += self.noise[rows]
        out.logits = logits.to(self.dtype).double()
        return out


class Sampler:
    """A server, and the copy of the policy that it writes with: asked with weights, it answers with texts.

    `cfg` is the server's, with `group_size`, the number of texts after each prompt.
    """

    def __init__(self, world: TokenWorld, cfg: Any) -> None:
        self.server, self.task = Server(AdaptedPolicy(world), world, cfg), tasks.world_task(world)
        self.rows = torch.arange(world.num_prompts).repeat_interleave(cfg.group_size)
        self.generator = torch.Generator().manual_seed(cfg.seed)
        self.asked: deque[np.ndarray] = deque()

    def ask(self, table: np.ndarray) -> None:
        """Order a batch by these weights, the policy's `table`."""
        self.asked.append(table)

    @torch.no_grad()
    def answer(self) -> dict[str, np.ndarray]:
        """The batch that was ordered first: a group of texts after each prompt, and their log-probabilities.

        `sampler_log_probs` [B, T] are the server's own numbers.
        """
        self.server.policy.table.copy_(torch.from_numpy(self.asked.popleft()))
        batch = tasks.answer(self.server, self.task, self.rows, self.generator)
        batch["sampler_log_probs"] = log_probs_of(self.server, batch)
        return {name: values.numpy() for name, values in batch.items()}


@torch.no_grad()
def scores(policy: nn.Module, batch: dict[str, Tensor]) -> Float[Tensor, "B T P"]:
    """Gradient of each token's log-probability along `policy.table`, P numbers; 0 in padding.

    It moves the row of the token's prefix, by 1[v = token] - pi(v) for each symbol v.
    """
    text = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    num_rows, size = policy.table.shape
    probs = policy(input_ids=text).logits[:, :-1, :size].softmax(dim=-1)
    chosen = nn.functional.one_hot(batch["completion_ids"].clamp(max=size - 1), size)
    slope = (chosen - probs) * batch["completion_mask"][..., None]  # [B, T, V]
    found = slope.new_zeros(*slope.shape[:2], num_rows, size)
    rows = policy.prefix_rows(text)[:, :-1, None, None].expand(-1, -1, 1, size)
    return found.scatter_(2, rows, slope[:, :, None]).flatten(2)


def best_adapter(world: TokenWorld, beta: float) -> AdaptedPolicy:
    """The adapter with the most E[r] - beta KL, climbed until the exact gradient is 0: no sampler."""
    policy = AdaptedPolicy(world)
    optimizer = torch.optim.LBFGS(
        [policy.table], max_iter=500, tolerance_grad=1e-9, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = -world.objective(world.log_probs(policy), beta)
        found.backward()
        return found

    optimizer.step(loss)
    return policy


def share(world: TokenWorld, policy: nn.Module, best: nn.Module, beta: float) -> float:
    """A policy's E[r] - beta KL over the best one's; the reference has 0."""
    ours, most = (world.objective(world.log_probs(one).detach(), beta) for one in (policy, best))
    return float(ours / most)
