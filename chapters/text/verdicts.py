"""A language model as a judge: how much likelier one word is than another, right after a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from chapters.text.models import LoadedModel, load_model
from chapters.text.recipes import review_recipe
from chapters.utils.lesson import UsageError


def verdict_logits(
    lm: LoadedModel, questions: Sequence[str], words: Sequence[str], chunk: int = 256
) -> Float[np.ndarray, " B"]:
    """Log-odds (nats) that a question goes on with the first of two `words`, and not with the second.

    Of a word of several tokens the first one counts. Texts are padded on the left, so all end in the
    last column. Raises UsageError if the tokenizer does not tell the words apart.
    """
    import torch  # it takes seconds, and only a judge of this kind needs it

    from chapters.text.generation import positions

    spaced = [f" {word}" for word in words]
    tokens = [ids[0] for ids in lm.tokenizer(spaced, add_special_tokens=False)["input_ids"]]
    if tokens[0] == tokens[1]:
        raise UsageError(f"--model: its tokenizer does not tell the words {words[0]} and {words[1]} apart")
    found = []
    for start in range(0, len(questions), chunk):
        batch = lm.tokenizer(list(questions[start : start + chunk]), return_tensors="pt", padding=True)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with torch.no_grad():
            out = lm.model(
                input_ids=ids, attention_mask=mask, position_ids=positions(mask), logits_to_keep=1
            )  # of the last column only: all of them, over a large vocabulary, take gigabytes
        logits = out.logits[:, -1]
        found.append((logits[:, tokens[0]] - logits[:, tokens[1]]).double().numpy())
    return np.concatenate(found)


def load_judge(name: str, words: Sequence[str]) -> Callable[[Sequence[str]], Float[np.ndarray, " B"]]:
    """The model that `--model name` asks for: a function from questions to log-odds of the first of `words`.

    Raises UsageError, one line, if it cannot be had.
    """
    lm = load_model(name, review_recipe())  # the recipe is for a tiny model, which reads no questions
    return lambda questions: verdict_logits(lm, questions, words)
