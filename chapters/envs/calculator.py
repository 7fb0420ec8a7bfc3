"""Products that a small language model cannot work out, and a calculator that it may call.

A problem is `37*84=`; its answer is the product's last three digits, `108`, since 37 * 84 = 3108. A solver
may answer at once. Or it writes a call, `C37*84>`, and the calculator's words `108;` are put into the text:
it did not write them. Then it goes on writing. What the calculator is given is what it works out, wrong
operands included; a call that cannot be read gets `E;`. Every character is a token. One problem in five is
held out, in either order of its operands.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from chapters.envs.arithmetic import split_pairs

CHARACTERS = tuple("0123456789*=C>;E")
CALL, GO = "C", ">"
"""The first and the last character of a call."""
SMALLEST, LARGEST, MODULUS = 10, 99, 1000
CALL_SHARE = 0.3
"""Share of the demonstrations that call the calculator; the others answer at once."""
TEXT_TOKENS = 16
"""The longest text after a problem: a call (7), its answer (4), an answer (3), the end, one more."""


@cache
def _split() -> tuple[np.ndarray, np.ndarray]:
    """The two parts of all problems: which unordered pair of operands goes where never changes."""
    return split_pairs(SMALLEST, LARGEST, seed=3_109)


def operands(held_out: bool = False) -> np.ndarray:
    """All pairs of operands [num, 2] of one part of the split, always in the same order."""
    return _split()[int(held_out)].copy()


def problem(a: int, b: int) -> str:
    """The prompt: `37*84=`."""
    return f"{a}*{b}="


def answer(a: int, b: int) -> str:
    """The last three digits of the product: `108`."""
    return f"{a * b % MODULUS:03d}"


def call(a: int, b: int) -> str:
    """What a solver writes to have a product worked out: `C37*84>`."""
    return f"{CALL}{a}*{b}{GO}"


def reply(written: str) -> str:
    """What the calculator puts into a text that ends in `written`; nothing if that is no call.

    >>> reply("C37*84>"), reply("C37*8>"), reply("108")
    ('108;', 'E;', '')
    """
    if not written.endswith(GO) or CALL not in written:
        return ""
    found = re.search(r"C(\d\d)\*(\d\d)>$", written)
    return answer(int(found[1]), int(found[2])) + ";" if found else "E;"


def write_demonstrations(rng: np.random.Generator, num_texts: int) -> list[str]:
    """Solved problems of the training part: `37*84=108`, or `37*84=C37*84>108;108`."""
    pairs = _split()[0]
    chosen = pairs[rng.integers(len(pairs), size=num_texts)].tolist()
    calls = rng.random(num_texts) < CALL_SHARE
    texts = []
    for (a, b), asks in zip(chosen, calls):
        tool = call(a, b) + reply(call(a, b)) if asks else ""
        texts.append(problem(a, b) + tool + answer(a, b))
    return texts
