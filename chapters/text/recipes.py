"""The small models of chapter D, each a recipe: a language of `chapters/envs`, a size, a training budget."""

from __future__ import annotations

from chapters.envs import arithmetic, calculator, reviews, rewriter, running_sums
from chapters.text import kuhn_words
from chapters.text.models import Recipe


def review_recipe(num_steps: int = 300) -> Recipe:
    """The small GPT-2 that chapter D fine-tunes: 0.4 M parameters, trained on the review grammar alone."""
    return Recipe("reviews", reviews.vocabulary(), reviews.write_reviews, num_steps=num_steps, context=48)


def rewriter_recipe(num_steps: int = 300) -> Recipe:
    """The small GPT-2 that has read office notes and has not yet been asked to rewrite anything."""
    return Recipe("office", rewriter.vocabulary(), rewriter.write_notes, num_steps=num_steps, context=48)


def arithmetic_recipe(num_steps: int = 120) -> Recipe:
    """A small GPT-2 over characters, one layer and 52,000 parameters; held-out sums are kept from it.

    Stopped this early, it is right on a third of the held-out sums if the likeliest digits are taken, and on
    a tenth if they are sampled: a base for reinforcement learning.
    """
    return Recipe(
        "arithmetic",
        arithmetic.CHARACTERS,
        arithmetic.write_problems,
        split="characters",
        num_steps=num_steps,
        width=64,
        num_layers=1,
        context=16,
    )


def calculator_recipe(num_steps: int = 400) -> Recipe:
    """A small GPT-2 over characters that has read solved products; three in ten of them call a calculator.

    It has learnt to call, and to copy what it is told; products it cannot work out.
    """
    return Recipe(
        "calculator",
        calculator.CHARACTERS,
        calculator.write_demonstrations,
        split="characters",
        num_steps=num_steps,
        lr=6e-3,
        width=64,
        num_layers=1,
        context=24,
    )


def kuhn_recipe(num_steps: int = 150) -> Recipe:
    """A small GPT-2 that has read games of Kuhn poker between players who bet and pass evenly."""
    return Recipe(
        "kuhn", kuhn_words.VOCABULARY, kuhn_words.write_games, num_steps=num_steps, width=32, num_layers=1,
        context=24,
    )  # fmt: skip


def running_sums_recipe(num_steps: int = 180) -> Recipe:
    """A small GPT-2 over characters that has read running sums written out, never those that are held out."""
    return Recipe(
        "running-sums",
        running_sums.CHARACTERS,
        running_sums.write_chains,
        split="characters",
        num_steps=num_steps,
        width=64,
        num_layers=1,
        context=16,
    )
