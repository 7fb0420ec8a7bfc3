"""Sums whose answers can be checked: the smallest world of verifiable rewards.

A problem is `07+35=`, its answer `24`: the digits of 42 with the last one first, because that is the order in
which a sum is worked out, so that the carry is known before it is needed. Operands have two digits, so that
tens stand under tens and all prompts are equally long. Every character is a token. One problem in five is
held out, by its operands, and never trained on in any form: neither in that order nor in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LARGEST = 49
"""Operands run from 0 to this; an answer has one or two digits."""
HELD_OUT_SHARE = 0.2
CHARACTERS = tuple("0123456789+=")
ANSWER_TOKENS = 4
"""Tokens a policy may write: two digits, the end, and one to be wrong with."""


def split_pairs(low: int, high: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train, held out), each [num, 2]: all pairs of the numbers `low` to `high`.

    An unordered pair goes to one part with both its orders, so that no part knows the other turned round.
    """
    numbers = range(low, high + 1)
    pairs = np.array([(a, b) for a in numbers for b in numbers if a <= b])
    order = np.random.default_rng(seed).permutation(len(pairs))
    cut = round(HELD_OUT_SHARE * len(pairs))
    halves = []
    for rows in (order[cut:], order[:cut]):
        one_way = pairs[np.sort(rows)]
        mirrored = one_way[one_way[:, 0] != one_way[:, 1]][:, ::-1]
        halves.append(np.concatenate([one_way, mirrored]))
    return halves[0], halves[1]


@cache
def _split() -> tuple[np.ndarray, np.ndarray]:
    """The two parts of all problems: which unordered pair of operands goes where never changes."""
    return split_pairs(0, LARGEST, seed=2_501)


def operands(held_out: bool = False) -> np.ndarray:
    """All pairs of operands [num, 2] of one part of the split, always in the same order."""
    return _split()[int(held_out)].copy()


def problem(a: int, b: int) -> str:
    """The prompt: `07+35=`."""
    return f"{a:02d}+{b:02d}="


def answer(a: int, b: int) -> str:
    """The digits of the sum, the last one first: `24` for 42."""
    return str(a + b)[::-1]


def write_problems(rng: np.random.Generator, num_problems: int, held_out: bool = False) -> list[str]:
    """Problems drawn with replacement, each with its answer: `07+35=24`."""
    pairs = _split()[int(held_out)]
    chosen = pairs[rng.integers(len(pairs), size=num_problems)]
    return [problem(a, b) + answer(a, b) for a, b in chosen.tolist()]


def write_prompts(rng: np.random.Generator, num_prompts: int, held_out: bool = False) -> list[str]:
    """The same without the answers: `07+35=`."""
    return [text.partition("=")[0] + "=" for text in write_problems(rng, num_prompts, held_out)]


def all_prompts(held_out: bool = True) -> list[str]:
    """Every problem of one part of the split, in a fixed order: what to measure accuracy on."""
    return [problem(a, b) for a, b in _split()[int(held_out)].tolist()]


def verify(prompts: Sequence[str], completions: Sequence[str]) -> np.ndarray:
    """1.0 for each completion that is exactly the answer, else 0.0. Returns float64 [num].

    A completion is the text before the end token. Decode it with the special tokens *kept*: a decoder that
    drops an unknown token turns a wrong text into a right one, and a policy will find that out.
    """
    right = []
    for prompt, completion in zip(prompts, completions, strict=True):
        a, b = prompt.removesuffix("=").split("+")
        right.append(completion == answer(int(a), int(b)))
    return np.array(right, dtype=np.float64)


def grade(
    tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]]
) -> np.ndarray:
    """`verify` for tokens: what stands before the first end token must be the answer. float64 [num]."""
    texts = []
    for ids in completion_ids:
        ids = list(map(int, ids))
        end = ids.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in ids else len(ids)
        texts.append(tokenizer.decode(ids[:end]))
    return verify(prompts, texts)
