"""Who compares the texts of a lesson: flags, files and figures around `chapters.rating`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chapters.rating import (
    NoPreference,
    Pair,
    RatingStore,
    ScriptedRater,
    Session,
    export,
    rate_in_browser,
    rate_in_terminal,
)
from chapters.rating.web import listen_on
from chapters.utils.lesson import UsageError
from chapters.utils.runlog import RunLog

Columns = tuple[list[str], list[str], list[str]]
"""Prompts, chosen texts, rejected texts."""
CRITERION = "Which rewrite would you rather receive? Polite, nothing lost, nothing invented, few words."
NUM_REPEATS = 10
"""Pairs shown twice, so that consistency can be judged: at most a quarter of all, and at least a tenth."""
Prefers = Callable[[str, str, str], float]
"""(prompt, first, second) -> above 0 if the first text is better, below 0 if the second is."""


def who_rates(cfg: Any) -> str:
    """The one rater that --rater, --rate and --rate-web ask for. Raises UsageError if they disagree.

    A person is told what happens before the first pair appears. Nor is a port that cannot be had found late.
    """
    asked = {f"--rater {cfg.rater}": cfg.rater} if cfg.rater != "heuristic" else {}
    asked |= {"--rate": "terminal"} if cfg.rate else {}
    asked |= {"--rate-web": "web"} if cfg.rate_web else {}
    if len(set(asked.values())) > 1:
        raise UsageError(f"{' and '.join(asked)}: more than one rater (allowed: one of them)")
    who = next(iter(asked.values()), "heuristic")
    if who == "web":
        listen_on(cfg.port).close()  # a port in use is told now, not when the texts are written
    if who in ("terminal", "web"):
        where = "here" if who == "terminal" else "on a page whose address stands here then"
        print(
            f"First the texts to compare are written, which can take minutes; you rate them {where}.",
            flush=True,
        )
    return who


def to_rate(prompts: Sequence[str], first: Sequence[str], second: Sequence[str], num: int) -> list[Pair]:
    """The first few pairs in the form that raters are shown."""
    return [Pair(f"{row:04d}", *texts) for row, texts in enumerate(zip(prompts[:num], first, second))]


def read_ratings(path: Path) -> Columns:
    """An exported file, read as TRL's trainers read it: by `datasets`, columns prompt, chosen, rejected."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        columns = Dataset.from_json(str(path), cache_dir=cache).to_dict()
    return columns["prompt"], columns["chosen"], columns["rejected"]


def ask(who: str, pairs: Sequence[Pair], prefers: Prefers, cfg: Any, log: RunLog) -> Columns:
    """The ratings of `who`, or none: asked for as far as they are missing, exported to the run's folder.

    They are kept in `cfg.ratings` or, if that is None, beside the lesson's runs, so that a later run goes on
    with them; whatever else is in the file counts too. Those of smoke runs, whose texts are nonsense, are
    kept in a file of their own. Logged: how many, how often the judge `prefers` the chosen text (no opinion
    counts half), and how often a pair shown twice was answered alike.
    """
    if who == "heuristic":
        return [], [], []
    name = "ratings-scripted.sqlite" if who == "scripted" else "ratings.sqlite"
    path = cfg.ratings or log.folder.parent / name
    if log.smoke:
        path = path.with_stem(f"{path.stem}-smoke")
    share = max(0.1, min(0.25, NUM_REPEATS / len(pairs)))
    with RatingStore(path) as store:
        session = Session(pairs, store, seed=cfg.seed, repeat_share=share, criterion=CRITERION)
        if who == "scripted":
            ScriptedRater(prefers, noise=0.1, seed=cfg.seed).rate(session)
        elif who == "terminal":
            rate_in_terminal(session)
        else:
            rate_in_browser(session, cfg.port)
        try:
            export(store, store.pairs(), log.folder / "ratings.jsonl")
        except NoPreference:
            print("No preference was given: the lesson goes on with the judge's comparisons alone.")
            return [], [], []
        seen = session.consistency()
    found = read_ratings(log.folder / "ratings.jsonl")
    liking = [prefers(*row) for row in zip(*found)]
    agreement = sum((like > 0) + 0.5 * (like == 0) for like in liking) / len(liking)
    log.write(0, rated_pairs=len(liking), rated_agreement=agreement, rated_consistency=seen.agreement[0])
    print(
        f"{len(liking)} preferences; the judge shares {agreement:.0%} of them. "
        f"Of {seen.num_repeats} pairs shown twice, {seen.num_same} were answered alike."
    )
    return found


def scripted_ratings(pairs: Sequence[Pair], prefers: Prefers, log: RunLog) -> tuple[Columns, Columns]:
    """A script in a person's place: (what it prefers, what comes back from its exported ratings)."""
    path, expected = log.folder / "scripted.jsonl", ([], [], [])
    with RatingStore(path.with_suffix(".sqlite")) as store:
        ScriptedRater(prefers).rate(Session(pairs, store))
        export(store, pairs, path)
    for pair in pairs:
        if liking := prefers(pair.prompt, pair.first, pair.second):
            texts = (pair.first, pair.second) if liking > 0 else (pair.second, pair.first)
            for column, text in zip(expected, (pair.prompt, *texts)):
                column.append(text)
    return expected, read_ratings(path)
