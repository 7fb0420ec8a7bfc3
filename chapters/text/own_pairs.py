"""Preferences of one's own, made into what D3, D4 and D6 learn from, and what can be claimed of them.

A prompt and its completion are made into tokens together, as the model would read the text: made apart, a
word that lies across the border would be cut. The prompt's tokens are those at the beginning that are the
same in the prompt alone and in both texts: both completions continue the same thing, and $Z$ cancels (D4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from chapters.text import preference_files
from chapters.text.models import LoadedModel
from chapters.text.preference_files import Fault, Preference, Said, alike, refusal
from chapters.utils import RunLog, UsageError


class Tokens(NamedTuple):
    """One preference in token ids."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def longest(self) -> int:
        """Tokens of the longer text, with the prompt."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def batches(cfg: Any, lm: LoadedModel, log: RunLog) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(pairs to learn from, pairs held out), as `review_pairs` gives them: prompts apart from completions."""
    return tuple(as_batch(part, lm.tokenizer.pad_token_id) for part in _tokens(cfg, lm, log))


def texts(cfg: Any, lm: LoadedModel, log: RunLog) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(pairs to learn from, pairs held out): ids and mask [2, M, T] of whole texts, padded on the right."""
    learn, test = _tokens(cfg, lm, log)
    if len(learn) < cfg.batch_size:
        told = f"{len(learn)} pairs to learn from are fewer than --batch-size {cfg.batch_size}"
        raise refusal(cfg.pairs, f"{told} (allowed: a smaller batch, or more pairs)")
    return as_texts(learn, lm.tokenizer.pad_token_id), as_texts(test, lm.tokenizer.pad_token_id)


def columns(cfg: Any, lm: LoadedModel, log: RunLog) -> tuple[list[str], list[str], list[str]]:
    """Prompts, chosen and rejected texts, for D6, which has a form of its own: `request => rewrite`."""
    _refuse_evidence(log)
    rows = preference_files.read(cfg.pairs)
    found = preference_files.as_columns(cfg.pairs, rows)
    plain = [
        row._replace(prompt=f"{a} =>", chosen=f" {b}", rejected=f" {c}") for row, a, b, c in zip(rows, *found)
    ]
    _tell(cfg.pairs, [_row_tokens(cfg, lm, row) for row in plain], lm)
    return found


def in_parts(function: Callable[[dict[str, Tensor]], Any], pairs: dict[str, Tensor], size: int) -> Any:
    """What `function` makes of all pairs, a few at a time: the logits of a large model fill the memory."""
    rows = torch.arange(len(pairs["labels"])).split(size)
    parts = [function({name: values[some] for name, values in pairs.items()}) for some in rows]
    if isinstance(parts[0], dict):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return torch.cat(parts)


@torch.no_grad()
def scores(model: nn.Module, texts: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """(scores of the chosen, scores of the rejected) [M] each, by `model(ids, mask)`."""
    rows = torch.arange(texts["ids"].shape[1]).split(size)
    sides = [[model(texts["ids"][side, some], texts["mask"][side, some]) for some in rows] for side in (0, 1)]
    return torch.cat(sides[0]), torch.cat(sides[1])


def claim(margins: Tensor, log: RunLog, left_out: str) -> None:
    """Held-out accuracy: how often the learner finds the chosen one better (a tie counts half).

    margins [M]: its number for the chosen minus that for the rejected. left_out: claims not made of a file.
    """
    right = ((margins > 0).double() + 0.5 * (margins == 0).double()).mean().item()
    low, high = interval(right, len(margins))
    log.write(0, own_accuracy=right, own_held_out=len(margins))
    told = f"{right:.1%} of {len(margins)} held-out pairs are told right"
    print(f"{told} (95 % interval: {low:.1%} to {high:.1%}).")
    print(f"Left out, being about the lesson's own texts and judge: {left_out}.")
    log.claim(
        "own_accuracy",
        "of the file's pairs that were held out more than half are told right",
        right,
        at_least=0.5,
        unit="of the pairs",
        source="a coin",
    )


def interval(share: float, num: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share: nine right of ten leave 0.60 to 0.98.

    >>> [round(end, 2) for end in interval(0.9, 10)]
    [0.6, 0.98]
    """
    middle = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * np.sqrt(share * (1 - share) / num + z**2 / (4 * num**2))
    return float(middle - half), float(middle + half)


def token_ids(tokenizer: Any, row: Preference, word_for_word: bool = False) -> Tokens:
    """Tokens of a preference. Raises Fault if the model cannot tell its two sides apart, or has no template.

    word_for_word: the tokenizer parts words at spaces, so a space is put between prompt and completion, and
    messages are joined by spaces. Elsewhere texts are joined as they stand, as TRL does, and closed by the
    end-of-text token; messages go through the model's own chat template, which closes them.
    """
    eos = tokenizer.eos_token_id
    if isinstance(row.prompt, str) or word_for_word:
        gap = " " if word_for_word else ""
        prompt = _plain(row.prompt)
        start = tokenizer(prompt)["input_ids"]
        whole = [tokenizer(prompt + gap + _plain(said))["input_ids"] for said in row[2:]]
        whole = [ids if ids[-1:] == [eos] else [*ids, eos] for ids in whole]
    elif tokenizer.chat_template is None:
        raise Fault("messages, and the model has no chat template", "texts, or a model with a template")
    else:
        start = _chat(tokenizer, row.prompt, add_generation_prompt=True)
        whole = [_chat(tokenizer, [*row.prompt, *said]) for said in row[2:]]
    if whole[0] == whole[1]:
        raise Fault("chosen and rejected are the same tokens for this model", "words that it knows")
    shared = alike(start, *whole)
    if not shared:  # a prompt of one token that goes on into the completion: begin as any text begins
        first = eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        return Tokens([first], *whole)
    return Tokens(whole[0][:shared], *(ids[shared:] for ids in whole))


def as_batch(rows: Sequence[Tokens], pad_id: int) -> dict[str, Tensor]:
    """Prompts [B, P] padded on the left, completions [B, 2, T] on the right, and labels [B], all 1."""
    num_prompt = max(len(row.prompt) for row in rows)
    num_tokens = max(len(side) for row in rows for side in row[1:])
    prompts = torch.full((len(rows), num_prompt), pad_id)
    prompt_mask = torch.zeros_like(prompts)
    completions = torch.full((len(rows), 2, num_tokens), pad_id)
    completion_mask = torch.zeros_like(completions, dtype=torch.bool)
    for i, row in enumerate(rows):
        prompts[i, num_prompt - len(row.prompt) :] = torch.tensor(row.prompt)
        prompt_mask[i, num_prompt - len(row.prompt) :] = 1
        for side, ids in enumerate(row[1:]):
            completions[i, side, : len(ids)] = torch.tensor(ids)
            completion_mask[i, side, : len(ids)] = True
    return {
        "prompt_ids": prompts,
        "prompt_mask": prompt_mask,
        "completion_ids": completions,
        "completion_mask": completion_mask,
        "labels": torch.ones(len(rows)),
    }


def as_texts(rows: Sequence[Tokens], pad_id: int) -> dict[str, Tensor]:
    """ids and mask [2, M, T]: each prompt with its chosen completion, then with its rejected one."""
    sides = [[[*row.prompt, *row[side]] for row in rows] for side in (1, 2)]
    longest = max(len(ids) for side in sides for ids in side)
    ids = torch.full((2, len(rows), longest), pad_id)
    mask = torch.zeros_like(ids)
    for side, all_ids in enumerate(sides):
        for i, one in enumerate(all_ids):
            ids[side, i, : len(one)] = torch.tensor(one)
            mask[side, i, : len(one)] = 1
    return {"ids": ids, "mask": mask}


def _tokens(cfg: Any, lm: LoadedModel, log: RunLog) -> tuple[list[Tokens], list[Tokens]]:
    """The file's pairs in tokens, split; told in a line or two."""
    _refuse_evidence(log)
    rows = preference_files.read(cfg.pairs)
    found = {row.line: _row_tokens(cfg, lm, row) for row in rows}
    _tell(cfg.pairs, list(found.values()), lm)
    if isinstance(rows[0].prompt, str) and cfg.model != "tiny" and not any(map(_has_border, rows)):
        told = "No prompt ends and no completion begins with a space"
        print(f"{told}: they are joined as they stand, as TRL does.")
    learn, test = preference_files.split(rows, cfg.seed)
    print(f"{len(learn)} pairs to learn from, {len(test)} held out; no prompt is in both.")
    return [found[row.line] for row in learn], [found[row.line] for row in test]


def _row_tokens(cfg: Any, lm: LoadedModel, row: Preference) -> Tokens:
    """Tokens of a line, or its fault in one line."""
    most = getattr(lm.model.config, "max_position_embeddings", None)
    try:
        found = token_ids(lm.tokenizer, row, word_for_word=cfg.model == "tiny")
        if most and found.longest > most:
            lengths = f"prompt {len(found[0])}, chosen {len(found[1])}, rejected {len(found[2])}"
            raise Fault(f"{found.longest} tokens are too long for the model ({lengths})", f"at most {most}")
    except Fault as fault:
        raise refusal(cfg.pairs, fault, row.line) from None
    return found


def _tell(path: Path, rows: Sequence[Tokens], lm: LoadedModel) -> None:
    """How many pairs there are, and how much of them the model does not know."""
    ids = [token for row in rows for part in row for token in part]
    unknown = sum(token == lm.tokenizer.unk_token_id for token in ids) / len(ids)
    print(f"{path}: {len(rows)} pairs, the longest text of {max(row.longest for row in rows)} tokens.")
    if unknown > 0.01 and lm.tokenizer.unk_token_id != lm.tokenizer.eos_token_id:
        print(f"{unknown:.0%} of the tokens are words that the model does not know (--model takes another).")


def _refuse_evidence(log: RunLog) -> None:
    if log.options and log.options.evidence:
        raise UsageError(
            "--pairs and --evidence: the evidence is about the lesson's own pairs (allowed: one)"
        )


def _has_border(row: Preference) -> bool:
    return row.prompt[-1:].isspace() or row.chosen[:1].isspace() or row.rejected[:1].isspace()


def _plain(said: Said) -> str:
    return said if isinstance(said, str) else " ".join(message["content"] for message in said)


def _chat(tokenizer: Any, messages: list, **options: Any) -> list[int]:
    """Messages through the model's own template, whose special tokens stand in its text."""
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except Exception as error:  # a template may refuse what it likes, in its own way
        told = " ".join(str(error).split())[:120]
        raise Fault(f"the model's chat template refuses it ({told})", "what it takes") from None
    return tokenizer(text, add_special_tokens=False)["input_ids"]
