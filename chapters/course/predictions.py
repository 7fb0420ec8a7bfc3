"""Predictions: what you expect of a run before it, scored afterwards.

Each `rl predict` writes one file, `days/predictions/<time>-<lesson>.json`: plain, yours to edit, and read
anew each time. A prediction is scored by the first full run of its lesson that was started after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from chapters.course import ledger
from chapters.course.catalog import Item
from chapters.course.journal import JournalError, locked
from chapters.course.progress import claims_of_run, full_runs, moment, started
from chapters.utils.claims import Claim
from chapters.utils.files import write_json

COIN = 0.25
"""The Brier score of who always says 50 %."""


@dataclass(frozen=True)
class Prediction:
    """The probabilities that claims of a lesson will hold, written down at a time."""

    lesson: str
    predicted: datetime
    claims: dict[str, float]
    seed: int | None = None
    """Only a run with this seed counts; None: any."""
    note: str = ""


@dataclass(frozen=True)
class Score:
    """A prediction beside the run that decides it; no run yet: `run` is None."""

    prediction: Prediction
    run: Path | None = None
    knew: bool = False
    """There was a full run of the lesson before the prediction."""
    outcomes: dict[str, tuple[float, bool]] = field(default_factory=dict)
    """Claim -> (probability, whether it held), less what a later prediction for the same run replaced."""
    gone: tuple[str, ...] = ()
    """Claims that the run does not make (any more)."""


def brier(scores: list[Score]) -> tuple[float, int]:
    """(mean squared distance of probability and outcome, how many outcomes); (nan, 0) without any."""
    squares = [(said - held) ** 2 for score in scores for said, held in score.outcomes.values()]
    return (sum(squares) / len(squares) if squares else float("nan")), len(squares)


def probability(text: str) -> float:
    """`0.8`, `80%` or `80`: a whole number above 1 is per cent. Raises ValueError with what is allowed."""
    text = text.strip()
    percent = text.endswith("%") or (text.isascii() and text.isdigit() and text.lstrip("0") not in ("", "1"))
    try:
        value = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{text[:40]!r} is not a probability (allowed: 0 to 1, or 0% to 100%)")
    return value


def claims_ahead(item: Item) -> list[Claim]:
    """What a lesson's own run will claim, from its ledger. Raises JournalError if there is none to read."""
    try:
        return [first for first, _ in ledger.claims_of(ledger.load(item)) if not first.evidence]
    except FileNotFoundError:
        raise JournalError(f"{item.id} was never recorded, so its claims are not known yet") from None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise JournalError(f"{item.ledger}: cannot be read ({type(error).__name__}: {error})") from None


def from_options(claims: list[Claim], stated: list[str], every: str | None) -> dict[str, float]:
    """Claim -> probability from `--claim name=0.8` (any number) and `--all 0.9`. Raises ValueError."""
    names = [claim.name for claim in claims]
    chosen = dict.fromkeys(names, probability(every)) if every is not None else {}
    seen: set[str] = set()
    for entry in stated:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--claim {entry}: not of the form NAME=0.8")
        if name not in names:
            raise ValueError(f"--claim {name}: no such claim (there are: {', '.join(names)})")
        if name in seen:
            raise ValueError(f"--claim {name} is given twice")
        seen.add(name)
        chosen[name] = probability(value)
    return chosen


def open_ones(claims: list[Claim]) -> list[Claim]:
    """Those worth asking for: an identity or a bound that must always hold is no question."""
    return [claim for claim in claims if not claim.always] or claims


def ask_each(
    claims: list[Claim],
    ask: Callable[[str], str],
    say: Callable = print,
    chosen: dict[str, float] | None = None,
) -> dict[str, float]:
    """Ask for each claim; an empty answer passes it over, a wrong one is asked again.

    Answers go into `chosen` as they are given, so that who interrupts has kept them.
    """
    chosen = {} if chosen is None else chosen
    for number, claim in enumerate(claims, 1):
        say(f"\n{number}/{len(claims)} {claim.name}: {claim.statement.rstrip('.')}")
        while answer := ask(
            f"    {claim.bound} {claim.unit}".rstrip() + ". Probability that it holds"
        ).strip():
            try:
                chosen[claim.name] = probability(answer)
                break
            except ValueError as error:
                say(f"    {error}")
    return chosen


def save(prediction: Prediction, days: Path) -> Path:
    """Write a prediction to a file of its own, whole or not at all; returns its path."""
    fields = {
        "lesson": prediction.lesson,
        "predicted": prediction.predicted.isoformat(timespec="milliseconds"),
        **({"seed": prediction.seed} if prediction.seed is not None else {}),
        **({"note": prediction.note} if prediction.note else {}),
        "claims": prediction.claims,
    }
    with locked(days):
        stem = f"{prediction.predicted:%Y%m%d-%H%M%S}-{prediction.lesson}"
        path, count = days / "predictions" / f"{stem}.json", 1
        while path.exists():
            count += 1
            path = path.with_name(f"{stem}-{count}.json")
        write_json(path, fields)
    return path


def load(days: Path) -> tuple[list[Prediction], list[str]]:
    """(the predictions, oldest first; a line for each file that is none). Nothing is changed."""
    found, problems = [], []
    for path in sorted((days / "predictions").glob("*.json")):
        try:
            found.append(_parse(json.loads(path.read_text(encoding="utf-8-sig"))))
        except (OSError, RecursionError, ValueError) as error:
            reason = str(error).splitlines()[0]
            problems.append(f"{path} is passed over and left as it is: {reason}")
    return sorted(found, key=lambda prediction: prediction.predicted), problems


def _parse(fields: object) -> Prediction:
    """Raises ValueError with the first thing that is wrong."""
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    for name, kind in (("lesson", str), ("claims", dict)):
        if not isinstance(fields.get(name), kind):
            raise ValueError(f"{name!r} is missing or not of the right kind")
    for name, value in fields["claims"].items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"claim {name!r}: {value!r} is not a probability (allowed: 0 to 1)")
    seed = fields.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ValueError(f"seed {seed!r} is not a whole number")
    return Prediction(
        fields["lesson"], moment(fields.get("predicted")), fields["claims"], seed, str(fields.get("note", ""))
    )


def score(predictions: list[Prediction], runs: Path) -> list[Score]:
    """Each prediction beside its run. Where two claim the same of one run, the later one counts."""
    scores = []
    decided: set[tuple[Path, str]] = set()
    for prediction in reversed(predictions):
        history = full_runs(prediction.lesson, runs)
        times = [started(*entry) for entry in history]
        knew = any(when < prediction.predicted for when in times)
        after = [
            folder
            for when, (folder, run) in zip(times, history)
            if when >= prediction.predicted and prediction.seed in (None, run.get("seed"))
        ]
        if not after:
            scores.append(Score(prediction, knew=knew))
            continue
        # a run of a part of the lesson decides only as long as there is none that makes all these claims
        whole = (folder for folder in after if prediction.claims.keys() <= claims_of_run(folder).keys())
        folder = next(whole, after[0])
        made = claims_of_run(folder)
        fresh = {name: said for name, said in prediction.claims.items() if (folder, name) not in decided}
        decided |= {(folder, name) for name in fresh}
        outcomes = {name: (said, made[name].holds) for name, said in fresh.items() if name in made}
        gone = tuple(name for name in prediction.claims if name not in made)
        scores.append(Score(prediction, folder, knew, outcomes, gone))
    return scores[::-1]


def report(scores: list[Score], short: bool) -> list[str]:
    """In words: the mean score and how many wait and, unless `short`, each prediction; [] without any."""
    lines = [] if short else [_line(entry) for entry in scores]
    mean, count = brier(scores)
    waiting = sum(entry.run is None for entry in scores)
    told = []
    if count:
        told.append(f"mean Brier score {mean:.3f} over {count} claims (0 is best; always 50 % scores {COIN})")
        unseen, how_many = brier([entry for entry in scores if not entry.knew])
        if 0 < how_many < count:
            told.append(f"{unseen:.3f} over the {how_many} made before a first run")
    if waiting:
        told.append(f"{waiting} {'waits' if waiting == 1 else 'wait'} for a full run")
    return [*lines, f"Predictions: {'; '.join(told)}"] if told else lines


def _line(score: Score) -> str:
    made = score.prediction
    head = f"{made.lesson:<4}{made.predicted:%Y-%m-%d %H:%M}  "
    if score.run is None:
        seed = "" if made.seed is None else f" --seed {made.seed}"
        return f"{head}{len(made.claims)} claims wait for a full run: rl run {made.lesson}{seed}"
    told = []
    if score.outcomes:
        mean, count = brier([score])
        held = sum(held for _, held in score.outcomes.values())
        told.append(f"Brier score {mean:.3f}, {held} of {count} claims held")
        name, (said, _) = max(score.outcomes.items(), key=lambda entry: abs(entry[1][0] - entry[1][1]))
        told.append(f"furthest off: {name} at {said:g}")
    if len(score.outcomes) + len(score.gone) < len(made.claims):
        told.append("replaced by a later prediction" if not told else "the rest replaced by a later one")
    if score.gone:
        told.append(f"not claimed by the run: {', '.join(score.gone)}")
    return f"{head}{'; '.join(told)} ({made.lesson}/{score.run.name})"
