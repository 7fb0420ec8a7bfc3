"""The best text with padding, against a list of all texts."""

import itertools

import pytest
import torch

from chapters.exact.padding import best_text

SIZE, DEPTH, LONGEST = 2, 2, 4
REWARDS = {
    "outcome": lambda before, after, outcome, ended: outcome - 0.01,
    "sum": lambda before, after, outcome, ended: after - 0.01,
    "differences": lambda before, after, outcome, ended: (outcome if ended else after) - before - 0.01,
}


def texts(longest):
    """Every text: digits 0 and 1, and None for padding; the last digit ends it, or the last token."""
    for written in itertools.product((0, 1, None), repeat=longest):
        digits = [number for number, token in enumerate(written, start=1) if token is not None]
        yield written[: digits[DEPTH - 1] if len(digits) >= DEPTH else longest]


def earned(text, values, reward, longest):
    """(reward, outcome) of a text, token by token."""
    total, outcome, start = 0.0, 0.0, ()
    for number, token in enumerate(text, start=1):
        before = values[len(start)][(0, *start)]
        start = start if token is None else (*start, token)
        after = values[len(start)][(0, *start)]
        brings = after if len(start) == DEPTH else torch.zeros(())
        outcome += float(brings)
        total += float(reward(before, after, brings, len(start) == DEPTH or number == longest))
        if len(start) == DEPTH:
            break
    return total, outcome


@pytest.mark.parametrize("kind", list(REWARDS))
@pytest.mark.parametrize("longest", [1, 2, 3, LONGEST])
def test_no_text_has_more(kind, longest):
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        shapes = [(1, *[SIZE] * t) for t in range(DEPTH + 1)]
        values = [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        values[-1] = (values[-1] < 0.5).double()
        found, outcome, length = best_text(values, longest, REWARDS[kind])
        every = {text: earned(text, values, REWARDS[kind], longest) for text in texts(longest)}
        best = max(total for total, _ in every.values())
        assert float(found) == pytest.approx(best)
        ties = [(len(text), worth) for text, (total, worth) in every.items() if total > best - 1e-9]
        assert (int(length), float(outcome)) in ties


def test_any_potential_keeps_the_best_text_and_a_sum_does_not():
    """Guesses for values: what differs by a difference of them is still best by outcome, and short."""
    generator = torch.Generator().manual_seed(1)
    guesses = [torch.rand((20, *[3] * t), generator=generator, dtype=torch.float64) for t in range(4)]
    guesses[-1] = (guesses[-1] < 0.3).double()
    guesses[-1][:, 0, 0, 0] = 1.0
    _, outcome, length = best_text(guesses, 8, REWARDS["differences"])
    assert (outcome == 1.0).all()
    assert (length == 3.0).all()
    _, _, length = best_text(guesses, 8, REWARDS["sum"])
    assert (length == 8.0).all()
