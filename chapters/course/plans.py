"""Study plans: which items in which order, from `planning/study_plans.toml`; the hours are computed.

Reading time is a word a second, code included: slow enough to stop and think. Run time is what the ledger
measured for one full run. Exercises take the minutes that stand beside them, and the bug of each lesson
BUG_MINUTES. What a plan proposes beside that has no hours: it takes what you give it.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from chapters.course import catalog, ledger
from chapters.course.journal import locked
from chapters.utils.files import write_json
from chapters.utils.lesson import UsageError

PLACE = catalog.ROOT / "planning" / "study_plans.toml"
WORDS_A_MINUTE = 60
BUG_MINUTES = 10


class PlanError(UsageError):
    """The plans or the choice of one cannot be used; the message is one line."""


@dataclass(frozen=True)
class Day:
    name: str
    items: tuple[str, ...]
    also: str = ""


@dataclass(frozen=True)
class Plan:
    id: str
    title: str
    why: str
    days: tuple[Day, ...]

    @property
    def items(self) -> list[str]:
        return [item for day in self.days for item in day.items]


def load(path: Path = PLACE) -> dict[str, Plan]:
    """The plans by id. Raises PlanError with what is wrong with the file."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        plans = {name: _plan(name, fields) for name, fields in tables.items()}
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror})") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise PlanError(f"{path}: not study plans ({reason})") from None
    if not plans:
        raise PlanError(f"{path}: no plan in it")
    return plans


def _plan(name: str, fields: dict) -> Plan:
    if not all(isinstance(day["items"], list) for day in fields["days"]):
        raise ValueError(f"{name}: a day whose items are no list")
    days = tuple(Day(day["name"], tuple(day["items"]), day.get("also", "")) for day in fields["days"])
    if not days:
        raise ValueError(f"{name}: no day in it")
    for day in days:
        if not all(isinstance(word, str) for word in (day.name, day.also, *day.items)):
            raise ValueError(f"{name}: a day whose name, items or also is no text")
    return Plan(name, str(fields["title"]), str(fields.get("why", "")), days)


def choose(name: str, days: Path) -> Plan | None:
    """Follow a plan from now on, or with "none" none. Raises PlanError if there is no such plan."""
    plans = load()
    if name != "none" and name not in plans:
        raise PlanError(f"no plan {name!r} (there are: {', '.join(plans)}; or none)")
    with locked(days):
        if name == "none":
            (days / "plan.json").unlink(missing_ok=True)
            return None
        write_json(days / "plan.json", {"plan": name, "chosen": time.strftime("%Y-%m-%d")})
    return plans[name]


def chosen(days: Path) -> Plan | None:
    """The plan that was chosen, None if there is none. Raises PlanError if that cannot be told."""
    path = days / "plan.json"
    try:
        name = json.loads(path.read_text(encoding="utf-8-sig"))["plan"]
    except FileNotFoundError:
        return None
    except (KeyError, OSError, RecursionError, TypeError, ValueError):
        raise PlanError(
            f"{path} cannot be read: choose a plan again (rl plan NAME, or rl plan none)"
        ) from None
    plans = load()
    if not isinstance(name, str) or name not in plans:
        raise PlanError(f"{path}: no plan {name!r} (there are: {', '.join(plans)}; rl plan NAME)")
    return plans[name]


def find(item_id: str) -> catalog.Item | None:
    """The item, or None while it is only planned."""
    try:
        return catalog.find(item_id)
    except KeyError:
        return None


def minutes(item_id: str) -> tuple[float, float]:
    """(reading, running) of an item; a lesson that was not recorded counts with its budget."""
    item = find(item_id)
    if item is None or item.kind == "sh":
        return 0.0, 0.0
    words = _words(item.path.read_text(encoding="utf-8"))
    return words / WORDS_A_MINUTE, (_run_seconds(item) if item.kind == "py" else 0.0) / 60


@functools.lru_cache(maxsize=128)  # an item stands in several plans
def _words(text: str) -> int:
    """How many words an item has, without its table of results."""
    text = re.sub(r"<!-- results:.*?<!-- /results -->", "", text, flags=re.DOTALL)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def _run_seconds(item: catalog.Item) -> float:
    try:
        return ledger.in_short(item).times[1]
    except (KeyError, OSError, TypeError, ValueError):
        return item.budgets[1] if item.budgets else 0.0


def day_minutes(day: Day) -> tuple[float, float]:
    """(reading, running) of all items of a day."""
    times = [minutes(item) for item in day.items]
    return sum(read for read, _ in times), sum(run for _, run in times)


def exercise_minutes(item_id: str) -> float:
    """What a lesson's exercises take; read from their table as text, for importing it would import torch."""
    item = find(item_id)
    path = item.path.parent / "checks" / f"{item.id}_exercises.py" if item else None
    if path is None or not path.exists():
        return 0.0
    try:
        given = _minutes_given(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return 0.0
    return float(sum(given) + BUG_MINUTES) if given else 0.0


@functools.lru_cache(maxsize=128)  # an item stands in several plans
def _minutes_given(text: str) -> list[float]:
    """The minutes of each exercise in a table of them."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [
        keyword.value.value
        for call in calls
        if ast.unparse(call.func) == "Exercise"
        for keyword in call.keywords
        if keyword.arg == "minutes" and isinstance(keyword.value, ast.Constant)
    ]


def day_exercises(day: Day) -> float:
    """The minutes of all exercises of a day."""
    return sum(map(exercise_minutes, day.items))


def duration(total: float) -> str:
    """Minutes as people say them; rounded, so that a changed sentence changes no table."""
    if total < 52.5:
        step = 1 if total < 9.5 else 5
        return f"{max(1, step * round(total / step))} min" if total else "–"
    return f"{round(total / 15) / 4:g} h"
