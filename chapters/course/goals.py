"""Learning goals: `planning/learning_goals.md` set beside your own runs.

A goal is a checkbox item that ends in what shows that it is reached: ``(claim `B1.success_4x4`)``,
``(claims `C3.gae_gap`, `C3.pull_back`)`` or ``(exercise `B1.2`)``, the second exercise of a lesson or the
second question of a note. Claims are looked up in `runs/`, where the lesson's code shows them, and among what
your own version showed (`practice/progress.json`); so are exercises that a program grades. The others you
judge and tick yourself. The file is only read.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chapters.course import catalog, ledger
from chapters.course.parts import exercises_of
from chapters.course.progress import claims_of_run, full_runs
from chapters.utils.claims import Claim

PLACE = catalog.ROOT / "planning" / "learning_goals.md"
OWN, MET, NOT_YET, TICKED, YOURS = "your own", "met", "not yet", "ticked", "yours to judge"
SAID = {
    OWN: "shown by your own version",
    MET: "shown by the lesson's code",
    NOT_YET: NOT_YET,
    TICKED: TICKED,
    YOURS: YOURS,
}
ITEM = re.compile(r"^ {0,3}[-*] \[(?P<tick>[ xX])\] +(?P<text>.+)$")
TIE = re.compile(r"\((?P<kind>claim|exercise)s? (?P<names>`[^()]+`)\)\W*$")


@dataclass(frozen=True)
class Goal:
    """One item of the file. `names` are (lesson, claim) or (item, number of the exercise)."""

    line: int
    group: str
    text: str
    ticked: bool
    kind: str = ""
    names: tuple[tuple[str, str], ...] = ()


def load(path: Path = PLACE) -> list[Goal]:
    """The goals of the file, in its order. Raises OSError, or UnicodeDecodeError."""
    goals, group = [], ""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            group = line.strip("# ")
        if not (found := ITEM.match(line)):
            continue
        text = found["text"]
        for more in lines[number:]:  # an item goes on in lines that are indented
            if not more.startswith("  ") or ITEM.match(more):
                break
            text += " " + more.strip()
        tie = TIE.search(text)
        names = re.findall(r"`([^`]+)`", tie["names"]) if tie else []
        pairs = tuple((lesson, rest) for lesson, _, rest in (name.partition(".") for name in names))
        said = text[: tie.start()].strip() if tie else text
        goals.append(Goal(number, group, said, found["tick"] != " ", tie["kind"] if tie else "", pairs))
    return goals


def faults(goals: list[Goal]) -> list[str]:
    """What is wrong with the file: a goal tied to nothing, or to what does not exist."""
    found = []
    claims = functools.cache(_claims)  # three hundred claims are of forty lessons
    exercise_fault = functools.cache(_exercise_fault)
    for goal in goals:
        if not goal.names:
            found.append(f"line {goal.line}: ends in no (claim `B1.name`) and no (exercise `B1.2`)")
        for lesson, name in goal.names:
            fault = (
                _claim_fault(lesson, name, claims) if goal.kind == "claim" else exercise_fault(lesson, name)
            )
            found += [f"line {goal.line}: {fault}"] if fault else []
    return found


def _claims(lesson: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a lesson's claims: those made for each seed, those made over all recorded seeds."""
    short = ledger.in_short(catalog.find(lesson, kinds=("py",)))
    return short.claims, short.pooled


def _claim_fault(lesson: str, claim: str, claims: Callable[[str], tuple]) -> str:
    try:
        known, pooled = claims(lesson)
    except KeyError as error:
        return str(error.args[0])
    except (OSError, TypeError, ValueError):
        return f"{lesson} has no ledger to look {claim!r} up in"
    if claim in pooled:
        return f"{lesson}.{claim} is made over all recorded seeds: no run of yours can show it"
    return "" if claim in known else f"no claim {lesson}.{claim} (there are: {', '.join(known)})"


def _exercise_fault(item_id: str, number: str) -> str:
    try:
        count = exercises(catalog.find(item_id, kinds=("py", "md")))
    except KeyError as error:
        return str(error.args[0])
    if number.isdecimal() and 1 <= int(number) <= count:
        return ""
    return f"no exercise {item_id}.{number} ({item_id} has {count})"


def exercises(item: catalog.Item) -> int:
    """How many numbered exercises a lesson has, or questions a note."""
    text = item.path.read_text(encoding="utf-8")
    if item.kind == "md":
        section = text.partition("## Check yourself")[2].partition("\n## ")[0]
        return len(re.findall(r"^\d+\. ", section, re.MULTILINE))
    if numbered := set(re.findall(rf"^\*{item.id}\.(\d+) · ", text, re.MULTILINE)):
        return len(numbered)
    section = text.partition("**Exercises.**")[2].partition('\n"""')[0].partition("\n<details>")[0]
    count = 0
    while re.search(rf"(?:^|\s)(?:\({count + 1}\)|{count + 1}\.)\s", section):
        count += 1
    return count


def state(goal: Goal, runs: Path, book: dict[str, dict] | None = None) -> tuple[str, str]:
    """(your own, met, not yet, ticked or yours to judge; what shows it, or what is nearest to it)."""
    book = book or {}
    if goal.kind != "claim":
        names = ", ".join(map(".".join, goal.names))
        if goal.names and all(_done(item_id, number, book) for item_id, number in goal.names):
            return OWN, f"{goal.kind} {names} passed"
        return (TICKED if goal.ticked else YOURS), f"{goal.kind} {names}".strip()
    lessons = dict.fromkeys(lesson for lesson, _ in goal.names)
    if all(claim in _held(lesson, book) for lesson, claim in goal.names):
        return OWN, f"{' and '.join(lessons)} trained with your functions"
    told = [
        _lesson_state(lesson, [name for of, name in goal.names if of == lesson], runs) for lesson in lessons
    ]
    missing = [words for met, words in told if not met]
    return (NOT_YET, "; ".join(missing)) if missing else (MET, ", ".join(words for _, words in told))


def _held(lesson: str, book: dict[str, dict]) -> list[str]:
    """The claims of a lesson that hold with the learner's functions."""
    held = book.get(f"{lesson}.train", {}).get("held")
    return held if isinstance(held, list) else []


def _done(item_id: str, number: str, book: dict[str, dict]) -> bool:
    """Whether an exercise is one that a program grades, and was passed."""
    begun = any(name.partition(".")[0] == item_id for name in book)
    if not begun or not number.isdecimal():
        return False
    try:
        item = catalog.find(item_id, kinds=("py",))
    except KeyError:
        return False
    table = list(exercises_of(item).values())
    if int(number) == len(table) + 1:
        return bool(book.get(f"{item_id}.bug", {}).get("found"))
    if not 1 <= int(number) <= len(table):
        return False
    one = table[int(number) - 1]
    names = [*one.functions, *([one.solution.__name__] if one.solution else [])]
    return bool(names) and all("passed" in book.get(f"{item_id}.{name}", {}) for name in names)


def _lesson_state(lesson: str, names: list[str], runs: Path) -> tuple[bool, str]:
    """Whether one full run shows all these claims, and which; else the run that comes nearest."""
    history = full_runs(lesson, runs)
    if not history:
        return False, f"no full run of {lesson} yet: rl run {lesson}"
    unmeasured = f"no run of {lesson} measured {', '.join(names)}: rl run {lesson} --evidence"
    nearest = (math.inf, unmeasured)
    for folder, _ in history:
        made = claims_of_run(folder)
        claims = [made[name] for name in names if name in made]
        label = f"{lesson}/{folder.name}"
        if len(claims) == len(names) and all(claim.holds for claim in claims):
            return True, label
        for claim in (claim for claim in claims if not claim.holds):
            value = f"{claim.name} = {claim.value:.4g} {claim.unit}".strip()
            nearest = min(nearest, (_gap(claim), f"{value}, needs {claim.bound} ({label})"))
    return False, nearest[1]


def _gap(claim: Claim) -> float:
    """How far a value lies outside its bound."""
    if math.isnan(claim.value):
        return sys.float_info.max
    if claim.near is not None:
        return abs(claim.value - claim.near[0]) - claim.near[1]
    return claim.at_least - claim.value if claim.at_least is not None else claim.value - claim.at_most


def report(goals: list[Goal], runs: Path, book: dict[str, dict] | None = None) -> list[str]:
    """The goals in words, by group, with how many of each are met."""
    lines: list[str] = []
    for group in dict.fromkeys(goal.group for goal in goals):
        told = [(goal, *state(goal, runs, book)) for goal in goals if goal.group == group]
        counts = [f"{sum(word == which for _, word, _ in told)} {said}" for which, said in SAID.items()]
        lines.append(f"{group}: {', '.join(count for count in counts if not count.startswith('0 '))}")
        for goal, word, why in told:
            note = "; you ticked it" if word == NOT_YET and goal.ticked else ""
            lines += [f"  {word:<14}  {goal.text}", f"  {'':<14}  {why or 'tied to nothing'}{note}"]
    return lines
