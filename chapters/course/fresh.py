"""Claims on fresh seeds: runs on seeds that no ledger holds, of which the verdicts are kept.

A bound that holds on the recorded seeds may owe it to them. `rl record B4 --fresh --seeds 200:210` tries
others and adds them to `results/fresh/B4.json`: the seeds, and for each claim that failed on some of them
the values there. CONTRIBUTING.md shows the table of all lessons.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from chapters.course import ledger
from chapters.course.catalog import Item, lessons
from chapters.utils.claims import Claim
from chapters.utils.files import write_json


def path_of(item: Item) -> Path:
    """Where the verdicts of a lesson's fresh runs are kept."""
    return item.results / "fresh" / f"{item.id}.json"


def load(item: Item) -> dict:
    """{"seeds": [...], "failed": {claim: {seed: value}}}; without seeds if there was no fresh run.

    Raises `ledger.LedgerError` if the file is damaged.
    """
    path = path_of(item)
    if not path.exists():
        return {"seeds": [], "failed": {}}
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        [seed + 0 for seed in book["seeds"]], [len(values) for values in book["failed"].values()]
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise ledger.LedgerError(f"{path}: damaged ({type(error).__name__}): git checkout it") from None
    return book


def record(
    item: Item, seeds: list[int], jobs: int = 1, say=print, far: Callable[[Path], Iterator] | None = None
) -> dict:
    """Run a lesson with all its evidence on fresh seeds and keep the verdicts.

    Raises ValueError if a seed is not fresh, and `ledger.RecordError` if a run breaks; then nothing is kept.
    """
    known = {run["seed"] for run in ledger.load(item)["runs"]}
    if used := sorted(known & set(seeds)):
        raise ValueError(f"--seeds: {used} stand in the ledger of {item.id} (allowed: others)")
    with tempfile.TemporaryDirectory() as scratch:
        found = {}
        with contextlib.closing(ledger.each_seed(item, seeds, jobs, Path(scratch), far)) as ended:
            for seed, run in ended:
                found[seed] = run["claims"]
                failed = [claim.name for claim in found[seed] if not claim.holds]
                verdict = f"failed: {', '.join(failed)}" if failed else "all claims hold"
                say(f"{item.id} seed {seed}: {verdict}")
    return keep(item, found)


def keep(item: Item, found: dict[int, Iterable[Claim]]) -> dict:
    """Add the claims of fresh runs, by seed, to those that are kept."""
    book = load(item)
    for seed, claims in found.items():
        book["seeds"] = sorted({*book["seeds"], seed})
        for values in book["failed"].values():
            values.pop(str(seed), None)  # the seed was run anew
        for claim in claims:
            if not claim.holds:
                book["failed"].setdefault(claim.name, {})[str(seed)] = claim.value
    book["failed"] = {name: values for name, values in book["failed"].items() if values}
    path_of(item).parent.mkdir(exist_ok=True)
    write_json(path_of(item), book)
    return book


def forget(item: Item) -> None:
    """Drop the verdicts of a lesson that is recorded anew: they are those of other settings or other code."""
    path_of(item).unlink(missing_ok=True)


def allowed(num_seeds: int) -> int:
    """On how many fresh seeds a claim may fail: one of twenty; one of ten where there are fewer."""
    return max(1, num_seeds // 20)


def table() -> str:
    """A row for each lesson: how many fresh seeds, how many of them every claim held on, and what failed."""
    rows = ["", "| lesson | fresh seeds | every claim holds on | claims that failed |", "|---|---|---|---|"]
    for item in lessons():
        book = load(item)
        seeds, failed = book["seeds"], book["failed"]
        bad = {seed for values in failed.values() for seed in values}
        names = ", ".join(f"`{name}` on {len(values)}" for name, values in failed.items())
        rows.append(f"| {item.id} | {len(seeds) or '–'} | {len(seeds) - len(bad) or '–'} | {names or '–'} |")
    return "\n".join([*rows, "", ""])
