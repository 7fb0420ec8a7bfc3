"""What D3 needs around its reward model: texts as padded tokens, scores of many texts, a gradient's test."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def encode(tokenizer: Any, texts: Sequence[str], side: str = "right") -> tuple[Tensor, Tensor]:
    """(ids, mask) [B, T] of texts, each closed by the end-of-sequence token, padded on `side`."""
    closed = [f"{text} {tokenizer.eos_token}" for text in texts]
    batch = tokenizer(closed, return_tensors="pt", padding=True, padding_side=side)
    return batch["input_ids"], batch["attention_mask"]


def score_texts(scorer: Callable, tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """Scores [B] of texts by `scorer(ids, mask)`, float64; texts of like length go together."""
    import torch

    order = np.argsort([len(text.split()) for text in texts], kind="stable")
    scores = np.zeros(len(texts))
    with torch.no_grad():
        for rows in np.array_split(order, math.ceil(len(texts) / 256)):
            scores[rows] = scorer(*encode(tokenizer, [texts[row] for row in rows])).numpy()
    return scores


def as_tokens(pairs: dict, tokenizer: Any) -> dict[str, Tensor]:
    """ids and mask [2, M, T] of the chosen texts and of the rejected ones, by the labels of the pairs."""
    first, second = pairs["texts"]
    chosen = [a if label else b for a, b, label in zip(first, second, pairs["labels"])]
    rejected = [b if label else a for a, b, label in zip(first, second, pairs["labels"])]
    ids, mask = encode(tokenizer, chosen + rejected)
    return {"ids": ids.unflatten(0, (2, -1)), "mask": mask.unflatten(0, (2, -1))}


def gradient_gap(loss: Callable[[], Tensor], weights: list, seed: int, size: float = 1e-5) -> float:
    """Largest relative gap between gradient and central differences, along three random ways through all
    weights (float64). The weights are left as they were."""
    import torch
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    here = parameters_to_vector(weights).detach().clone()
    gradient = parameters_to_vector(torch.autograd.grad(loss(), weights))
    generator, worst = torch.Generator().manual_seed(seed), 0.0
    for _ in range(3):
        way, ends = torch.randn(len(here), generator=generator, dtype=here.dtype), []
        for step in (size, -size):
            vector_to_parameters(here + step * way, weights)
            ends.append(loss().item())
        worst = max(worst, abs((ends[0] - ends[1]) / (2 * size) / (gradient @ way).item() - 1))
    vector_to_parameters(here, weights)
    return worst
