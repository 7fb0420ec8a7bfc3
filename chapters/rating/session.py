"""Which pair comes next, on which side each text stands, and how far the rater can be trusted."""

from __future__ import annotations

import datetime
import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from chapters.rating.store import CHOICES, Event, Pair, RatingStore, StaleAnswer, replay
from chapters.utils.lesson import UsageError

OTHER = {"first": "second", "second": "first"}
GAP = 5  # pairs between a pair and its repetition, where there are that many


class Progress(NamedTuple):
    done: int
    total: int


@dataclass(frozen=True)
class Shown:
    """One showing of a pair."""

    pair: Pair
    left: str
    """The text on the left: `first` or `second`."""
    repeat: bool
    """The pair was shown before, with its sides swapped."""
    token: int = 0
    """Number of the rater's latest event when this came into view: an answer must be the very next one."""

    def choice(self, side: str) -> str:
        """`left` and `right` in terms of the pair; anything else as it is."""
        return {"left": self.left, "right": OTHER[self.left]}.get(side, side)

    def text(self, side: str) -> str:
        """The text on the `left` or the `right`."""
        return getattr(self.pair, self.choice(side))


@dataclass(frozen=True)
class Consistency:
    """How far a rater agrees with themselves. Intervals are Wilson's, 95 %."""

    num_repeats: int
    num_same: int
    num_decided: int
    num_left: int

    @property
    def agreement(self) -> tuple[float, float, float]:
        """(share, low, high) of the repeated pairs that were answered the same; skips do not count."""
        return _share(self.num_same, self.num_repeats)

    @property
    def left(self) -> tuple[float, float, float]:
        """(share, low, high) of the preferences that went to the left side; 0.5 is no bias."""
        return _share(self.num_left, self.num_decided)


def _share(count: int, total: int) -> tuple[float, float, float]:
    if not total:
        return float("nan"), 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(method="wilson")
    return count / total, float(interval.low), float(interval.high)


def plan(pairs: Sequence[Pair], seed: int, repeat_share: float) -> list[Shown]:
    """Every pair once in random order, and a share of them again later with the sides swapped.

    Of the pairs in places 1 and 2, 3 and 4, ... one has `first` on the left: sides are balanced wherever one
    stops.
    """
    rng = np.random.default_rng(seed)
    num_pairs = len(pairs)
    order = [pairs[i] for i in rng.permutation(num_pairs)]
    blocks = rng.permuted(np.tile(["first", "second"], ((num_pairs + 1) // 2, 1)), axis=1)
    showings = [
        (float(at), Shown(pair, str(left), repeat=False))
        for at, (pair, left) in enumerate(zip(order, blocks.ravel()))
    ]
    num_repeats = max(1, round(repeat_share * num_pairs)) if repeat_share and num_pairs > 1 else 0
    gap = min(GAP, num_pairs // 2)
    early = max(num_repeats, num_pairs - gap)  # those after which there is room for the gap
    for at in rng.choice(early, size=num_repeats, replace=False).tolist():
        first = showings[at][1]
        later = rng.uniform(at + gap, max(num_pairs, at + gap + 1))
        showings.append((later, Shown(first.pair, OTHER[first.left], repeat=True)))
    return [showing for _, showing in sorted(showings, key=lambda item: item[0])]


class Session:
    """One rater's way through the pairs. Holds nothing that is not in the store, so a kill loses nothing."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        store: RatingStore,
        seed: int = 0,
        repeat_share: float = 0.1,
        rater: str = "me",
        criterion: str = "Which of the two texts is better?",
    ) -> None:
        if not pairs:
            raise UsageError("there are no pairs to rate")
        if not 0 <= repeat_share <= 1:
            raise UsageError(f"repeat_share {repeat_share:g} is out of range (allowed: 0 to 1)")
        if len({pair.id for pair in pairs}) < len(pairs):
            raise UsageError("two pairs have the same id (allowed: each id once)")
        self.store, self.rater, self.criterion = store, rater, criterion
        self._planned = {(shown.pair.key, shown.repeat): shown for shown in plan(pairs, seed, repeat_share)}
        self.token = 0  # number of the rater's latest event that this session has seen
        self._answers: dict[tuple[str, bool], Event] = {}  # those that stand, to pairs of this session
        self._shown: Shown | None = None
        self._since = 0.0
        self._catch_up()

    def next(self) -> Shown | None:
        """What to show now: the first showing without an answer; None when all are answered."""
        self._catch_up()
        if self._shown is None or self._shown.token != self.token:
            self._shown, self._since = self._first_open(), time.monotonic()
        return self._shown

    def answer(self, choice: str, *, token: int | None = None, source: str = "script") -> None:
        """Record `first`, `second`, `tie`, `skip`, or `left`/`right`, for what `next` showed last.

        On disk when this returns. Raises StaleAnswer, and records nothing, if `token` is not that of the pair
        in view or if another process has answered meanwhile.
        """
        shown = self._shown
        if shown is None or token not in (None, shown.token):
            raise StaleAnswer("there is no such pair in view")
        choice = shown.choice(choice)
        if choice not in CHOICES:
            raise UsageError(f"choice {choice!r} is unknown (allowed: {', '.join(CHOICES)}, left, right)")
        self._append(shown, choice, time.monotonic() - self._since, source)

    def undo(self, *, token: int | None = None, source: str = "script") -> bool:
        """Take the latest answer back; its pair comes next again. False if there is none."""
        self._catch_up()
        if token not in (None, self.token):
            raise StaleAnswer("there is no such pair in view")
        if not self._answers:
            return False
        last = self._planned[next(reversed(self._answers))]
        self._append(replace(last, token=self.token), "undo", 0.0, source)
        return True

    @property
    def progress(self) -> Progress:
        """(done, total), repetitions included."""
        return Progress(len(self._answers), len(self._planned))

    def consistency(self) -> Consistency:
        """Agreement on repeated pairs, and preference for a side."""
        answers = self._answers
        keys = [key for key, repeat in answers if repeat and (key, False) in answers]
        twice = [(answers[key, False].choice, answers[key, True].choice) for key in keys]
        twice = [both for both in twice if "skip" not in both]
        decided = [event for event in answers.values() if event.choice in OTHER]
        return Consistency(
            num_repeats=len(twice),
            num_same=sum(one == two for one, two in twice),
            num_decided=len(decided),
            num_left=sum(event.choice == event.left for event in decided),
        )

    def summary(self) -> list[str]:
        """What a rater wants to know at the end, a sentence a line."""
        done, total = self.progress
        kinds = Counter(event.choice for event in self._answers.values())
        seen = self.consistency()
        lines = [
            f"{done} of {total} answered: {_count(seen.num_decided, 'preference')}, "
            f"{_count(kinds['tie'], 'tie')}, {kinds['skip']} skipped."
        ]
        if seen.num_repeats:
            twice, same = _count(seen.num_repeats, "pair"), seen.num_same
            lines.append(f"Of {twice} shown twice, {same} answered the same {_percent(seen.agreement)}.")
        if seen.num_decided:
            times = _count(seen.num_left, "time")
            lines.append(f"The left side was preferred {times} {_percent(seen.left)}; half is no bias.")
        lines.append(f"Every answer is kept in {self.store.path}")
        path = shlex.quote(str(self.store.path))
        lines.append(f"Export: python -m chapters.rating {path} preferences.jsonl")
        return lines

    def _first_open(self) -> Shown | None:
        for key, shown in self._planned.items():
            if key not in self._answers:
                before = self._answers.get((shown.pair.key, False)) if shown.repeat else None
                # the first showing may have come from another seed: swap what was really shown
                return replace(shown, left=OTHER[before.left] if before else shown.left, token=self.token)
        return None

    def _catch_up(self) -> None:
        """Read what this rater did since, here or in another process."""
        for event in self.store.events(self.rater, after=self.token):
            self.token = event.number
            if (event.pair, event.repeat) in self._planned:
                replay(event, self._answers)

    def _append(self, shown: Shown, choice: str, seconds: float, source: str) -> None:
        now, took = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"), round(seconds, 3)
        key, number = shown.pair.key, shown.token + 1
        event = Event(self.rater, number, key, shown.repeat, shown.left, choice, took, now, source)
        self.store.append(shown.pair, event)
        self._shown = None
        self._catch_up()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _percent(share: tuple[float, float, float]) -> str:
    return "({:.0f} %, 95 % interval {:.0f} to {:.0f} %)".format(*(100 * number for number in share))


class ScriptedRater:
    """Takes a person's place; `prefers(prompt, first, second)` is > 0 for the first, < 0 for the second.

    With probability `noise` a showing gets the opposite answer; which ones, depends on the seed alone.
    """

    def __init__(self, prefers: Callable[[str, str, str], float], noise: float = 0.0, seed: int = 0) -> None:
        if not 0 <= noise <= 1:
            raise UsageError(f"noise {noise:g} is out of range (allowed: 0 to 1)")
        self.prefers, self.noise, self.seed = prefers, noise, seed

    def __call__(self, shown: Shown) -> str:
        preference = self.prefers(shown.pair.prompt, shown.pair.first, shown.pair.second)
        choice = "tie" if preference == 0 else "first" if preference > 0 else "second"
        rng = np.random.default_rng([self.seed, int(shown.pair.key, 16), shown.repeat])
        return OTHER.get(choice, choice) if rng.random() < self.noise else choice

    def rate(self, session: Session) -> Progress:
        """Answer everything that is left."""
        while (shown := session.next()) is not None:
            try:
                session.answer(self(shown), source="script")
            except StaleAnswer:  # another process was faster
                continue
        return session.progress
