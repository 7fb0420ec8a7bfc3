"""Noisy comparisons of reviews, and a reward model fitted to them: D3 shows both, others import them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from chapters.envs.reviews import PROMPTS, gold_reward
from chapters.text.checkpoint import resumable
from chapters.text.generation import positions, sample
from chapters.text.models import LoadedModel
from chapters.utils.optim import Adam
from chapters.utils.runlog import RunLog

Row = Float[np.ndarray, " M"]


# same-as: D3.preference_probability
def preference_probability(first: Row, second: Row, temperature: float) -> Row:
    """Probability that an annotator likes the first text of a pair better (bradleyterry1952rank)."""
    return 1.0 / (1.0 + np.exp(-(first - second) / temperature))


# same-as: D3.expected_accuracy
def expected_accuracy(differences: Row, probability: Row) -> float:
    """How often the sign of the score differences agrees with an annotator, the labels averaged out."""
    right = np.where(differences > 0, probability, 1.0 - probability)
    return float(np.where(differences == 0, 0.5, right).mean())


# same-as: D3.bradley_terry_loss
def bradley_terry_loss(
    chosen: Float[Tensor, " M"], rejected: Float[Tensor, " M"], margin: float | Float[Tensor, " M"] = 0.0
) -> Float[Tensor, ""]:
    """Minus the mean log-probability that the chosen text wins."""
    return -nn.functional.logsigmoid(chosen - rejected - margin).mean()


# same-as: D3.last_token
def last_token(scores: Float[Tensor, "B T"], mask: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """The score at the last real token, padding on either side."""
    columns = torch.arange(mask.shape[1])
    last = (columns * mask).argmax(dim=1)  # [B]
    return scores.gather(1, last[:, None])[:, 0]


# same-as: D3.RewardModel
class RewardModel(nn.Module):
    """A language model's body, and one number read off its last hidden state."""

    def __init__(self, language_model: nn.Module, eos_id: int, like_id: int) -> None:
        super().__init__()
        self.body = copy.deepcopy(language_model.base_model)
        self.score = nn.Linear(self.body.config.hidden_size, 1, bias=False)
        nn.init.normal_(self.score.weight, std=0.02)
        embeddings = self.body.get_input_embeddings().weight.data  # [V, D]
        embeddings[eos_id] = embeddings[like_id]

    def forward(self, ids: Int[Tensor, "B T"], mask: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
        hidden = self.body(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
        return last_token(self.score(hidden.last_hidden_state)[..., 0], mask)


# same-as: D3.step_size
def step_size(step: int, num_steps: int, warmup_share: float = 0.1) -> float:
    """Share of the learning rate at `step`: from 0 up to 1, then down to 0, each in a line."""
    warmup = max(1, int(warmup_share * num_steps))
    return min(step / warmup, (num_steps - step) / max(1, num_steps - warmup))


# same-as: D3.train_reward_model
def train_reward_model(model: nn.Module, pairs: dict, cfg: Any, log: RunLog) -> nn.Module:
    """Fit `model` to pairs: tensors ids and mask [2, M, T], the chosen texts before the rejected ones.

    cfg: with seed, num_epochs, batch_size and learning_rate.
    """
    generator = torch.Generator().manual_seed(cfg.seed)
    optimizer = Adam(model.parameters(), lr=cfg.learning_rate)
    num_pairs = pairs["ids"].shape[1]
    num_steps = cfg.num_epochs * (num_pairs // cfg.batch_size)
    order = torch.arange(num_pairs)
    for step in resumable(log, num_steps, "steps", (model, optimizer, generator, order)):
        start = step * cfg.batch_size % (num_pairs - num_pairs % cfg.batch_size)
        if start == 0 and step > 0:
            order.copy_(order[torch.randperm(num_pairs, generator=generator)])
        rows = order[start : start + cfg.batch_size]
        ids, mask = (pairs[key][:, rows].flatten(0, 1) for key in ("ids", "mask"))
        longest = int(mask.sum(dim=1).max())
        chosen, rejected = model(ids[:, :longest], mask[:, :longest]).chunk(2)
        loss = bradley_terry_loss(chosen, rejected)
        optimizer.lr = cfg.learning_rate * step_size(step, num_steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def write_texts(
    language_model: LoadedModel, prompts: Sequence[str], num_tokens: int, generator: torch.Generator
) -> tuple[list[str], tuple]:
    """(the prompts with their completions as texts, what `token_log_probs` needs to judge them)."""
    model, tokenizer = language_model
    batch = tokenizer(list(prompts), return_tensors="pt", padding=True)
    inputs = (batch["input_ids"], batch["attention_mask"])
    written = sample(model, *inputs, num_tokens, tokenizer.eos_token_id, tokenizer.pad_token_id, generator)
    completions = tokenizer.batch_decode(written[0], skip_special_tokens=True)
    return [f"{prompt} {text}".strip() for prompt, text in zip(prompts, completions)], (*inputs, *written)


def collect_pairs(
    base: LoadedModel, num_pairs: int, seed: int, num_tokens: int, temperature: float
) -> dict[str, Any]:
    """Two completions of each prompt, the probability that annotators prefer the first, and a label."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    prompts = [PROMPTS[number] for number in rng.integers(len(PROMPTS), size=num_pairs)]
    sides: list[list[str]] = [[], []]
    for start in range(0, num_pairs, 512):
        for side in sides:
            side += write_texts(base, prompts[start : start + 512], num_tokens, generator)[0]
    probability = preference_probability(*map(gold_reward, sides), temperature)
    return {"texts": sides, "probability": probability, "labels": rng.random(num_pairs) < probability}


def encode(tokenizer: Any, texts: Sequence[str], side: str = "right") -> tuple[Tensor, Tensor]:
    """(ids, mask) [B, T] of texts, each closed by the end-of-sequence token, padded on `side`."""
    closed = [f"{text} {tokenizer.eos_token}" for text in texts]
    batch = tokenizer(closed, return_tensors="pt", padding=True, padding_side=side)
    return batch["input_ids"], batch["attention_mask"]


def as_tokens(pairs: dict, tokenizer: Any) -> dict[str, Tensor]:
    """ids and mask [2, M, T] of the chosen texts and of the rejected ones, by the labels of the pairs."""
    first, second = pairs["texts"]
    chosen = [a if label else b for a, b, label in zip(first, second, pairs["labels"])]
    rejected = [b if label else a for a, b, label in zip(first, second, pairs["labels"])]
    ids, mask = encode(tokenizer, chosen + rejected)
    return {"ids": ids.unflatten(0, (2, -1)), "mask": mask.unflatten(0, (2, -1))}


def score_texts(scorer: Callable, tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """Scores [B] of texts by `scorer(ids, mask)`, float64; texts of like length go together."""
    order = np.argsort([len(text.split()) for text in texts], kind="stable")
    scores = np.zeros(len(texts))
    with torch.no_grad():
        for rows in np.array_split(order, math.ceil(len(texts) / 256)):
            scores[rows] = scorer(*encode(tokenizer, [texts[row] for row in rows])).numpy()
    return scores


def marks(tokenizer: Any) -> tuple[int, int]:
    """(id of the end-of-sequence token, id of the full stop): EOS starts out as a full stop."""
    eos_id, stop_id = tokenizer.convert_tokens_to_ids([tokenizer.eos_token, "."])
    return eos_id, eos_id if stop_id is None else stop_id
