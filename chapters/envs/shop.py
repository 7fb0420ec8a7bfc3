"""A shop that answers requests: all kinds of replies are listed, and it is known what comparisons tell.

A reply promises the same thing or another, today or someday, is kind or not, may be padded with words that
say nothing, and opens in one of two styles that mean the same. What makes it better, to people, is its first
three features. Comparisons as they are collected tell of the other two as well, and of who stood first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from chapters.utils.progress import track

COLOURS = ("red", "blue", "green", "white", "black", "pink")
THINGS = ("cup", "lamp", "chair", "coat", "clock")
OPENERS, ITEMS, TIMES, MANNERS = (
    ("sure", "gladly"),
    ("other", "same"),
    ("someday", "today"),
    ("hurry", "thanks"),
)
FILLER, MOST = "really", 3
"""What a reply is padded with, at most so often."""
PRINCIPLES = ("be right", "be kind")
"""What a judge may be told to go by, in words."""
VERDICTS = ("first", "second")
"""What a judge answers."""
FEATURES, NUM_VALUES = ("item", "time", "kind", "padding", "own style"), (2, 2, 2, MOST + 1, 2)
REQUESTS = tuple(f"a {colour} {thing}" for colour in COLOURS for thing in THINGS)


@dataclass(frozen=True)
class Habits:
    """How comparisons come about, in log-odds; all but `gold` is worth nothing to people."""

    gold: tuple[float, float, float] = (1.5, 1.0, 2.0)
    """What item, time and kindness say of which reply is better, where the principle asks for them."""
    position: float = 0.6
    """The better reply stands first more often."""
    padding: float = 0.4
    """The better reply was written with more care, and is longer: for each filler."""
    own: float = 0.8
    """The better reply more often has the style that will be the judge's own."""

    def weights(self, principle: int) -> Float[np.ndarray, " 5"]:
        """What each feature says under one of `PRINCIPLES`."""
        item, time, kind = self.gold
        asked = (item, time, 0.0) if principle == 0 else (0.0, 0.0, kind)
        return np.array([*asked, self.padding, self.own])


def kinds(most: int = MOST) -> Float[np.ndarray, "M 5"]:
    """All kinds of replies with up to `most` fillers, by their features; own style: the second opener."""
    found = np.array(list(itertools.product(*map(range, NUM_VALUES))), dtype=np.float64)
    return found[found[:, FEATURES.index("padding")] <= most]


def worth(replies: Float[np.ndarray, "M 5"], habits: Habits) -> Float[np.ndarray, " M"]:
    """The gold rule: what replies are worth to people, by both principles, in log-odds."""
    return replies[:, :3] @ np.array(habits.gold)


def reply(features: Float[np.ndarray, " 5"]) -> str:
    """The words of one kind of reply."""
    item, time, kind, padding, own = (int(value) for value in features)
    return " ".join([OPENERS[own], *[FILLER] * padding, ITEMS[item], TIMES[time], MANNERS[kind]])


def question(principle: str, request: str, first: str, second: str) -> str:
    """What a judge reads; the next word is to be one of `VERDICTS`."""
    return f"{principle} . {request} . first {first} . second {second} . better"


def draw_kinds(
    rng: np.random.Generator, weights: Float[np.ndarray, "B 5"]
) -> tuple[Float[np.ndarray, "B 5"], Float[np.ndarray, "B 5"]]:
    """(better replies, worse ones), each feature drawn by itself.

    A value v comes up in proportion to exp(+- v weight / 2). By Bayes' rule a difference in v then tells
    weight times itself of which reply is the better one, in log-odds.
    """
    sides = []
    for sign in (0.5, -0.5):
        columns = []
        for column, size in zip(weights.T, NUM_VALUES):
            odds = np.exp(sign * column[:, None] * np.arange(size))  # [B, values]
            upto = (odds / odds.sum(axis=1, keepdims=True)).cumsum(axis=1)
            columns.append((rng.random((len(weights), 1)) > upto[:, :-1]).sum(axis=1))
        sides.append(np.stack(columns, axis=1).astype(np.float64))
    return sides[0], sides[1]


def write_comparisons(
    rng: np.random.Generator, num: int, habits: Habits
) -> tuple[list[str], Float[np.ndarray, " B"]]:
    """(questions, 1 where the first reply was the better one), as they are collected.

    The log-odds of "first" are the difference of the features times `weights`, plus `position`, whatever the
    request: the verdict of an ideal reader of such data.
    """
    principles, requests = rng.integers(len(PRINCIPLES), size=num), rng.integers(len(REQUESTS), size=num)
    better, worse = draw_kinds(rng, np.stack([habits.weights(row) for row in principles]))
    first_wins = rng.random(num) < 1 / (1 + np.exp(-habits.position))
    questions = []
    for row in range(num):
        sides = [reply(better[row]), reply(worse[row])]
        ordered = sides if first_wins[row] else sides[::-1]
        questions.append(question(PRINCIPLES[principles[row]], REQUESTS[requests[row]], *ordered))
    return questions, first_wins.astype(np.float64)


def write_verdicts(rng: np.random.Generator, num: int, habits: Habits) -> list[str]:
    """Comparisons as they are collected, each closed by the verdict: what a judge learns to go on with."""
    questions, first_won = write_comparisons(rng, num, habits)
    return [f"{asked} {VERDICTS[0 if won else 1]}" for asked, won in zip(questions, first_won)]


def write_answers(rng: np.random.Generator, num: int, most: int = MOST) -> list[str]:
    """Requests with replies of every kind alike: what a writer reads who knows no better."""
    listed = kinds(most)
    rows, requests = rng.integers(len(listed), size=num), rng.integers(len(REQUESTS), size=num)
    return [f"{REQUESTS[request]} . {reply(listed[row])}" for row, request in zip(rows, requests)]


def vocabulary() -> tuple[str, ...]:
    """Every word of requests, replies, principles and verdicts, sorted."""
    texts = (*REQUESTS, *OPENERS, *ITEMS, *TIMES, *MANNERS, *PRINCIPLES, *VERDICTS, FILLER, ". better")
    return tuple(sorted({word for text in texts for word in text.split()}))


def words_by_place(question: str) -> list[str]:
    """Each word of a question with its part (request, first or second) and, in a reply, the principle.

    >>> words_by_place("be kind . a red cup . first sure . second gladly . better")
    ['request a', 'request red', 'request cup', 'be kind, first sure', 'be kind, second gladly']
    """
    principle, request, *replies, _ = question.split(" . ")
    found = [f"request {word}" for word in request.split()]
    for text in replies:
        place, *words = text.split()
        found += [f"{principle}, {place} {word}" for word in words]
    return found


def count_words(questions: Sequence[str], known: Sequence[str]) -> Float[np.ndarray, "B V"]:
    """How often each of the `known` words, as `words_by_place` names them, stands in each question."""
    columns = {word: column for column, word in enumerate(known)}
    found = np.zeros((len(questions), len(known)))
    for row, question in enumerate(questions):
        for word in words_by_place(question):
            if word in columns:  # of a word that nobody knows, nothing is said
                found[row, columns[word]] += 1
    return found


def ask(
    judge: Callable[[list[str]], Float[np.ndarray, " B"]],
    replies: Float[np.ndarray, "M 5"],
    requests: Int[np.ndarray, "M M"],
) -> Float[np.ndarray, "P M M"]:
    """What a judge says, under each principle, of every ordered pair of replies, the first one in the row.

    judge: from questions to log-odds of "first". requests: the number of the request that a pair answers.
    """
    texts = [reply(features) for features in replies]
    rows = [(principle, *row) for principle in PRINCIPLES for row in zip(texts, requests)]
    found = []
    for principle, first, row in track(rows, "judge", "answers"):  # each beside all: a large model takes long
        asked = [question(principle, REQUESTS[n], first, second) for n, second in zip(row, texts)]
        found.append(judge(asked))
    return np.array(found).reshape(len(PRINCIPLES), len(texts), len(texts))
