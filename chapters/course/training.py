"""`rl grade C3 --train`: a lesson that learns with the learner's functions in place of its own.

First on the probe environments, where the lesson has some (`checks/<ID>_probes.py`), then on the lesson's own
task, through its `main`; the claims that `main` makes are the verdict.
"""

from __future__ import annotations

import importlib
import tempfile
import types
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chapters.course import grading, shown
from chapters.course.catalog import Item
from chapters.course.grading import Grade, in_words, is_stub, last_definitions, line_of, parsed
from chapters.course.parts import lesson_of, tasks_of
from chapters.course.spying import no_sudden_end
from chapters.utils.claims import Claim
from chapters.utils.edits import edited
from chapters.utils.lesson import RunOptions, UsageError, execute
from chapters.utils.runlog import RunLog

SHOWS = {
    "ConstantReward": "the value estimate and its loss work at all",
    "RewardByObservation": "the observation reaches the value",
    "DelayedReward": "what comes later is discounted and bootstrapped",
    "ActionMatters": "what went well becomes likelier",
    "BothMatter": "observation and action work together",
    "Endless": "a time limit is not an end: the bootstrap stays",
    "CutShort": "at a time limit the successor is the old episode's",
}


running = False
"""Whether a lesson's `main` has begun, which says by itself that it was interrupted."""


@dataclass
class Probed:
    """What became of the learner on one probe."""

    probe: str
    wrongness: float
    allowed: float
    stopped: str = ""

    @property
    def holds(self) -> bool:
        """Whether the probe is solved."""
        return not self.stopped and self.wrongness <= self.allowed


@dataclass
class Trained:
    """What became of the lesson with the learner's functions."""

    grades: list[Grade]
    probes: list[Probed] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    enforced: list[str] = field(default_factory=list)
    """The claims that count: in a smoke run only those that always hold."""
    stopped: str = ""
    """How `main` stopped, if it did not come to its end."""
    folder: Path | None = None

    @property
    def holds(self) -> bool:
        """Whether every check, probe and claim that counts does."""
        held = {claim.name for claim in self.claims if claim.holds}
        passed = all(grade.state == "passed" for grade in self.grades)
        solved = all(one.holds for one in self.probes)
        return passed and solved and not self.stopped and held >= set(self.enforced)


def with_yours(item: Item, source: str, file: str) -> types.ModuleType:
    """A copy of the lesson in which the learner's functions stand. Raises UsageError if one is not begun."""
    defined = last_definitions(parsed(source, file))
    wanted = [name for name, task in tasks_of(item).items() if not task.exercise]
    missing = [name for name in wanted if name not in defined or is_stub(defined[name])]
    if missing:
        raise UsageError(
            f"{file}: not begun: {', '.join(missing)} (--train needs every function of {item.id})"
        )
    module = edited(lesson_of(item))
    grading.run_in(module, source, file)
    return module


def train(item: Item, source: str, file: str, seed: int, smoke: bool, out: Path) -> Iterator[str | Trained]:
    """Lines to print on the way, and the outcome as the last thing.

    Raises UsageError if the file cannot be graded or is not complete.
    """
    global running
    running = False
    module = with_yours(item, source, file)
    wanted = [name for name, task in tasks_of(item).items() if not task.exercise]
    found = Trained([grading.grade_one(tasks_of(item)[name], getattr(module, name)) for name in wanted])
    failed = [grade.function for grade in found.grades if grade.state != "passed"]
    yield f"checks: {len(wanted) - len(failed)} of {len(wanted)} functions pass" + (
        f"; {', '.join(failed)} fails (rl grade {item.id} says why); training all the same" if failed else ""
    )
    for one in probed(item, module, file):
        found.probes.append(one)
        yield line_of_probe(one)
    yield f"training on {item.id}'s own task{' (smoke)' if smoke else ''} ..."
    lesson = lesson_of(item)
    settings = {**(lesson.SMOKE if smoke else {}), "seed": seed}
    options = RunOptions(smoke=smoke, out=out)
    running = True
    try:
        with no_sudden_end():
            log = execute(module.main, module.Config(**settings), item.path, options, print_claims=False)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # whatever a mistake can do
        found.stopped = f"{in_words(error)}{line_of(error, file)}"
        yield f"it stops with {found.stopped}"
    else:
        found.claims, found.folder = log.claims, log.folder
        found.enforced = [claim.name for claim in log.claims if claim.always or not smoke]
        yield from lines_of_claims(item, found)
    running = False
    yield found


def probed(item: Item, module: types.ModuleType, file: str) -> Iterator[Probed]:
    """The learner on each probe of the lesson, one after the other; none if it has no probes."""
    place = item.path.parent / "checks" / f"{item.id}_probes.py"
    if not place.exists():
        return
    probes = importlib.import_module(f"{item.module.rpartition('.')[0]}.checks.{place.stem}")
    for name, allowed in probes.ALLOWED.items():
        with tempfile.TemporaryDirectory() as folder:
            log = RunLog(Path(folder), item.id)
            try:
                with no_sudden_end():
                    off = float(probes.wrongness(module, name, log))
                yield Probed(name, off, allowed)
            except (Exception, SystemExit) as error:  # whatever a mistake can do
                yield Probed(name, float("nan"), allowed, f"{in_words(error)}{line_of(error, file)}")
            finally:
                log.close()


def line_of_probe(one: Probed) -> str:
    """One probe in a line."""
    if one.stopped:
        return f"  ✗ {one.probe}: stops with {one.stopped}"
    if one.holds:
        return f"  ✓ {one.probe}: {SHOWS[one.probe]}"
    off = "the wrong action" if one.wrongness == float("inf") else f"off by {one.wrongness:.2g}"
    return f"  ✗ {one.probe}: {off}, allowed {one.allowed:g}; it shows whether {SHOWS[one.probe]}"


def lines_of_claims(item: Item, found: Trained) -> Iterator[str]:
    """Claim by claim whether it holds, and the verdict."""
    for claim in found.claims:
        mark = "✓" if claim.holds else "✗" if claim.name in found.enforced else "–"
        value = f"{claim.value:.4g} {claim.unit}".strip()
        yield f"  {mark} {claim.name}: {claim.statement} ({value}; bound {claim.bound})"
    held = [claim.name for claim in found.claims if claim.holds and claim.name in found.enforced]
    yield f"claims of {item.id} that hold with your functions: {len(held)} of {len(found.enforced)}"
    if len(found.enforced) < len(found.claims):
        yield "– needs a full run, without --smoke"


def keep(item: Item, found: Trained, smoke: bool, folder: Path) -> None:
    """Write down which claims held in a full run, if the functions were all right; the best run stays."""
    if smoke or any(grade.state != "passed" for grade in found.grades):
        return
    with shown.changing(folder) as book:
        entry = book.setdefault(f"{item.id}.train", {})
        before = entry.get("held") if isinstance(entry.get("held"), list) else []
        held = [claim.name for claim in found.claims if claim.holds]
        entry["held"] = max(before, held, key=len)
        if found.holds:
            entry.setdefault("passed", shown.today())


def as_dict(item: Item, found: Trained, path: Path) -> dict:
    """The outcome for programs."""
    return {
        "lesson": item.id,
        "file": str(path),
        "functions": list(map(asdict, found.grades)),
        "probes": [{**asdict(one), "holds": one.holds} for one in found.probes],
        "claims": [{**claim.to_dict(), "counts": claim.name in found.enforced} for claim in found.claims],
        "stopped": found.stopped,
        "holds": found.holds,
    }
