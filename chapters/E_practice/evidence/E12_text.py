"""Three tables for a small language model, learnt one after another: sums, differences, products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from chapters.exact.goals import Task
from chapters.text.models import Recipe, make_model, make_tokenizer

SIGNS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
SPREAD = 5.0  # times GPT-2's own first weights: with those this small a model stands still for 100 steps


class Answering(nn.Module):
    """A causal language model as a network from prompts [N, 4] to the logits of the next token."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, prompt_ids: Tensor) -> Tensor:
        return self.model(input_ids=prompt_ids, use_cache=False).logits[:, -1]


def table_tasks(base: int) -> tuple[list[Task], Answering]:
    """(the three tables, an untrained model): texts such as `3 + 5 =`, to be answered modulo `base`."""
    vocabulary = (*map(str, range(base)), *SIGNS, "=")
    recipe = Recipe("tables", vocabulary, lambda rng, num: [], width=32, num_layers=1, context=4)
    tokenizer = make_tokenizer(recipe)
    model = Answering(make_model(recipe, len(tokenizer)))
    with torch.no_grad():
        for one in model.parameters():
            if one.dim() > 1:
                one.mul_(SPREAD)
    return [table_task(tokenizer, base, sign) for sign in SIGNS], model


def table_task(tokenizer: Any, base: int, sign: str) -> Task:
    """One table, all of it: the score is the share of prompts whose likeliest next token is right."""
    pairs = [(a, b) for a in range(base) for b in range(base)]
    prompt_ids = torch.tensor([tokenizer.encode(f"{a} {sign} {b} =") for a, b in pairs])
    answers = [tokenizer.encode(str(SIGNS[sign](a, b) % base))[0] for a, b in pairs]
    labels = torch.tensor(answers)

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return (model(prompt_ids).argmax(dim=1) == labels).float().mean().item()

    return Task(prompt_ids, lambda model: nn.functional.cross_entropy(model(prompt_ids), labels), score)


def doubt(model: nn.Module, task: Task) -> float:
    """1 less the chance of the likeliest answer, mean over a task's inputs."""
    with torch.no_grad():
        return 1.0 - model(task.inputs).softmax(dim=1).amax(dim=1).mean().item()
