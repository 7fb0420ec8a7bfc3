"""Sums written out step by step: a chain of thought so short that every chain can be listed.

A problem is four digits, `3852=`. Its right chain is the running sums modulo 10, `168`: 3 + 8 is 11, so 1;
1 + 5 is 6; 6 + 2 is 8. The last one is the answer, the two before it are the steps that lead there. Every
character is a token, a chain has three of them, and there are a thousand chains: the value of every beginning
is a finite sum.

One problem in five is held out and never trained on in any form.
"""

from __future__ import annotations

from functools import cache

import numpy as np

NUM_DIGITS = 4
"""Digits in a problem."""
NUM_STEPS = NUM_DIGITS - 1
"""T: running sums in a chain, the answer included."""
BASE = 10
HELD_OUT_SHARE = 0.2
CHARACTERS = tuple("0123456789=")
FREQUENCY = 0.75
"""In texts a digit is so often met, against the one below it: numbers in the world are mostly small, too.

Without that no digit of a problem says anything about the answer unless all others are known, and a small
model that learns from texts stays at chance for very long.
"""


@cache
def _split() -> tuple[np.ndarray, np.ndarray]:
    """(train, held out), each [num, 4]: which problem goes where never changes."""
    problems = np.stack(np.unravel_index(np.arange(BASE**NUM_DIGITS), (BASE,) * NUM_DIGITS), axis=1)
    order = np.random.default_rng(8_101).permutation(len(problems))
    cut = round(HELD_OUT_SHARE * len(problems))
    return problems[np.sort(order[cut:])], problems[np.sort(order[:cut])]


def problems(held_out: bool = False) -> np.ndarray:
    """All problems of one part of the split as digits [num, 4], always in the same order."""
    return _split()[int(held_out)].copy()


def chains(digits: np.ndarray) -> np.ndarray:
    """The right chain of each problem: running sums modulo 10, [num, 4] -> [num, 3]."""
    return np.cumsum(digits, axis=1)[:, 1:] % BASE


def prompt(digits: np.ndarray) -> str:
    """`3852=` for the digits 3, 8, 5, 2."""
    return "".join(map(str, digits.tolist())) + "="


def write_chains(rng: np.random.Generator, num_texts: int, held_out: bool = False) -> list[str]:
    """Problems drawn with replacement, small digits more often, each with its right chain: `3852=168`."""
    part = _split()[int(held_out)]
    weights = FREQUENCY ** part.sum(axis=1)
    chosen = part[rng.choice(len(part), size=num_texts, p=weights / weights.sum())]
    return [prompt(row) + "".join(map(str, chain.tolist())) for row, chain in zip(chosen, chains(chosen))]
