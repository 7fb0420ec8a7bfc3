"""Our own trainers on D7's budget: the same texts or as many, batches, passes and step sizes as TRL's.

The parts are those of D2 to D5; what stands here is the loop around them, and RLOO's loss as TRL defines it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from chapters.D_rlhf import D2_rlhf_llm_with_pytorch as ppo_lesson
from chapters.D_rlhf import D4_direct_preference_optimization as dpo_lesson
from chapters.D_rlhf import D5_grpo_verifiable_rewards as grpo_lesson
from chapters.D_rlhf import D7_trl_trainers as lesson
from chapters.D_rlhf.D15_kl_penalty_placement import penalised_rewards
from chapters.text import grpo, tasks
from chapters.text.generation import masked_mean, token_log_probs
from chapters.text.models import LoadedModel
from chapters.text.ppo import PolicyWithValue, update
from chapters.text.preferences import RewardModel, bradley_terry_loss, marks
from chapters.text.rewriting import pack
from chapters.text.trainers import Judged
from chapters.utils.optim import Adam


def copied(lm: LoadedModel) -> nn.Module:
    return copy.deepcopy(lm.model).requires_grad_(True)


def steps(optimizer: Adam, num: int, learning_rate: float) -> Iterator[int]:
    """0 to num - 1, while the step size falls to 0 in a line, as transformers' default does."""
    for i in range(num):
        optimizer.lr = learning_rate * (1.0 - i / num)
        yield i


def learn_pairs(model: nn.Module, loss_of: Callable, num_pairs: int, cfg: lesson.Config) -> nn.Module:
    """Passes over the pairs, each in a new order; `loss_of(rows)` is what a step lowers."""
    generator = torch.Generator().manual_seed(cfg.seed)
    orders = [torch.randperm(num_pairs, generator=generator) for _ in range(cfg.num_epochs)]
    batches = [rows for order in orders for rows in order.split(lesson.ROUND // 2)]
    optimizer = Adam(model.parameters(), lr=cfg.learning_rate)
    for i in steps(optimizer, len(batches), cfg.learning_rate):
        optimizer.zero_grad()
        loss_of(batches[i]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval().requires_grad_(False)


def sft(lm: LoadedModel, pairs: dict[str, Tensor], cfg: lesson.Config) -> nn.Module:
    policy = copied(lm)

    def loss_of(rows: Tensor) -> Tensor:
        prompts = pairs["prompt_ids"][rows], pairs["prompt_mask"][rows]
        chosen = pairs["completion_ids"][rows, 0], pairs["completion_mask"][rows, 0]
        return -masked_mean(token_log_probs(policy, *prompts, *chosen), chosen[1])

    return learn_pairs(policy, loss_of, len(pairs["labels"]), cfg)


def reward(lm: LoadedModel, judged: Judged, cfg: lesson.Config) -> nn.Module:
    torch.manual_seed(cfg.seed)  # the head's first weights
    scorer = RewardModel(lm.model, *marks(lm.tokenizer))
    sides = [judged.whole(side) for side in ("chosen", "rejected")]

    def loss_of(rows: Tensor) -> Tensor:
        texts = [side[row] for side in sides for row in rows.tolist()]
        batch = lm.tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        chosen, rejected = scorer(batch["input_ids"], batch["attention_mask"]).chunk(2)
        return bradley_terry_loss(chosen, rejected)

    return learn_pairs(scorer.requires_grad_(True), loss_of, len(judged.prompt), cfg)


def dpo(lm: LoadedModel, pairs: dict[str, Tensor], cfg: lesson.Config) -> nn.Module:
    policy = copied(lm)
    pairs = dpo_lesson.add_reference(pairs, lm.model)
    settings = dpo_lesson.Config(beta=cfg.beta)

    def loss_of(rows: Tensor) -> Tensor:
        return dpo_lesson.pair_loss(policy, {name: values[rows] for name, values in pairs.items()}, settings)[
            0
        ]

    return learn_pairs(policy, loss_of, len(pairs["labels"]), cfg)


def rloo_loss(
    log_probs: Float[Tensor, "B T"], batch: dict[str, Tensor], clip_eps: float = 0.2
) -> Float[Tensor, ""]:
    """TRL's: one ratio for a whole text, clipped; batch: `old_log_probs`, mask [B, T], advantages [B]."""
    mask = batch["completion_mask"]
    ratio = ((log_probs - batch["old_log_probs"]) * mask).sum(dim=1, keepdim=True).exp()  # [B, 1]
    return -grpo_lesson.clipped_objective(ratio, batch["advantages"][:, None], clip_eps, clip_eps).mean()


def group_settings(cfg: lesson.Config) -> grpo_lesson.Config:
    """D5's configuration of TRL's default GRPO on this budget."""
    return grpo_lesson.Config(
        seed=cfg.seed, beta=cfg.beta, average="tokens", group_size=cfg.group_size, num_epochs=cfg.num_epochs,
        num_prompts=cfg.rounds_a_batch * lesson.ROUND // cfg.group_size, num_updates=cfg.num_batches,
    )  # fmt: skip


def groups(name: str, lm: LoadedModel, cfg: lesson.Config) -> nn.Module:
    """GRPO, or RLOO with the penalty taken from the reward."""
    policy, settings = copied(lm), group_settings(cfg)
    task = tasks.reviews_task(lm.tokenizer, cfg.num_tokens)
    rng, generator = np.random.default_rng(cfg.seed), torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate)
    for _ in steps(optimizer, cfg.num_batches, cfg.learning_rate):
        batch = grpo_lesson.collect(policy, lm.model, task, rng, generator, settings)
        if name == "grpo":
            grpo_lesson.update(policy, optimizer, batch, settings)
            continue
        batch["advantages"] = rloo_advantages(batch, cfg)
        for _ in range(cfg.num_epochs):
            optimizer.zero_grad()
            rloo_loss(tasks.log_probs_of(policy, batch), batch).backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    return policy.eval().requires_grad_(False)


def rloo_advantages(batch: dict[str, Tensor], cfg: lesson.Config) -> Float[Tensor, " B"]:
    """Penalised rewards less the mean of the group's others."""
    judged = batch["old_log_probs"], batch["ref_log_probs"], batch["completion_mask"]
    rewards = penalised_rewards(batch["rewards"].float(), *judged, cfg.beta)
    return grpo.advantages(rewards.view(-1, cfg.group_size), "leave_one_out", divide=False).flatten()


def ppo(lm: LoadedModel, reward_model: nn.Module, cfg: lesson.Config) -> nn.Module:
    """D2's, paid by TRL's reward model, with a critic that starts at nothing."""
    policy = PolicyWithValue(copied(lm)).requires_grad_(True)
    batch_size = cfg.rounds_a_batch * lesson.ROUND
    settings = ppo_lesson.Config(beta=cfg.beta, num_prompts=batch_size, num_epochs=cfg.num_epochs)
    task = tasks.reviews_task(lm.tokenizer, cfg.num_tokens)

    def score(rows: Tensor, completion_ids: Tensor) -> Tensor:
        texts = task.prompt_ids[rows], task.prompt_mask[rows], completion_ids, completion_ids != task.pad_id
        return scores(reward_model, *texts)

    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(policy.parameters(), lr=cfg.learning_rate, eps=1e-5)
    for _ in steps(optimizer, cfg.num_batches, cfg.learning_rate):
        batch = ppo_lesson.collect(policy, lm.model, task._replace(score=score), generator, settings)
        update(policy, optimizer, batch, ppo_lesson.minibatch_loss, generator, settings)
    return policy.eval().requires_grad_(False)


@torch.no_grad()
def scores(reward_model: nn.Module, *texts: Tensor) -> Float[Tensor, " B"]:
    """What a classifier of transformers gives whole texts: prompts and completions with their masks."""
    ids, mask = pack(*texts)
    return reward_model(input_ids=ids, attention_mask=mask).logits[:, 0]


class Logits(nn.Module):
    """D3's reward model, called as transformers calls a classifier."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.scorer(input_ids, attention_mask)[:, None])


def train_all(
    lm: LoadedModel, judged: Judged, pairs: dict[str, Tensor], reward_model: Any, cfg: lesson.Config,
    timed: Callable[[str, Callable], Any],
) -> dict[str, nn.Module]:  # fmt: skip
    """{name: what it made}; `timed(name, work)` does the work and logs what it cost."""
    work = {
        "sft": lambda: sft(lm, pairs, cfg),
        "reward": lambda: reward(lm, judged, cfg),
        "dpo": lambda: dpo(lm, pairs, cfg),
        "grpo": lambda: groups("grpo", lm, cfg),
        "rloo": lambda: groups("rloo", lm, cfg),
        "ppo": lambda: ppo(lm, reward_model, cfg),
    }
    return {f"ours_{name}": timed(f"ours_{name}", one) for name, one in work.items()}
