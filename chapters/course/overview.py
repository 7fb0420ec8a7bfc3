"""What comes next and what is done, in order of the course or of the plan you chose; as lines of text."""

from __future__ import annotations

from pathlib import Path

from chapters.course import catalog, plans
from chapters.course.progress import own_status

WAITS = "needs the extra "
"""Begins the state of a lesson that cannot be run here."""


def next_lines(plan: plans.Plan | None, runs: Path) -> list[str]:
    """The first lesson that is not passed, with the notes before it.

    What is only planned is passed over, and so is what needs an extra that is not installed.
    """
    order = catalog.items()
    if plan:
        order = [item for item_id in plan.items if (item := plans.find(item_id))]
    notes: list[str] = []
    for item in order:
        if item.kind == "md":
            notes.append(f"read  {item.id} · {item.title}: {item.path.relative_to(catalog.ROOT)}")
        elif item.kind == "py" and (own_status(item, runs) == "passed" or item.lacks):
            notes.clear()
        elif item.kind == "py":
            run = [f"run   {item.id} · {item.title}: rl run {item.id}", f"      {item.question}"]
            return [*_day_lines(plan, item, runs), *notes, *run]
    whole = f"every lesson of the plan {plan.id}" if plan else "every lesson"
    return [*notes, f"You have passed {whole}. rl day new starts an experiment of your own."]


def _day_lines(plan: plans.Plan | None, item: catalog.Item, runs: Path) -> list[str]:
    """The plan's day to which `item` belongs, and how far its items are."""
    for number, day in enumerate(plan.days if plan else (), 1):
        if item.id in day.items:
            head = f"{plan.title}, day {number} of {len(plan.days)}: {day.name}"
            return [head, f"      {states(day, runs)}"]
    return []


def states(day: plans.Day, runs: Path) -> str:
    """`A1 (read), B1 passed, D9 (planned)`."""
    return ", ".join(_state(item_id, runs) for item_id in day.items)


def _state(item_id: str, runs: Path) -> str:
    if not (item := plans.find(item_id)):
        return f"{item_id} (planned)"
    if item.kind == "py":
        return f"{item_id} {_own(item, runs) or 'not run yet'}"
    return f"{item_id} ({'read' if item.kind == 'md' else './setup.sh'})"


def _own(item: catalog.Item, runs: Path) -> str:
    """What your runs say of a lesson, or that it cannot be run without its extra."""
    return own_status(item, runs) or (WAITS + item.extra if item.lacks else "")


def status_lines(plan: plans.Plan | None, runs: Path) -> list[str]:
    """What is passed: by chapter, or by the days of the plan, the first unfinished one marked as today's."""
    own = {item.id: _own(item, runs) for item in catalog.lessons()}
    optional = {item_id for item_id, state in own.items() if state.startswith(WAITS)}
    titles = {item.id: item.title for item in catalog.lessons()}

    def section(name: str, ids: list[str]) -> list[str]:
        passed = sum(own.get(item_id) == "passed" for item_id in ids)
        lines = [f"{name}: {passed} of {len(ids)} lessons passed"]
        for item_id in ids:
            state = (own[item_id] or "not run yet") if item_id in own else "(planned)"
            lines.append(f"  {item_id:<4}{titles.get(item_id, '')[:50]:<52}{state}")
        return lines

    if not plan:
        chapters = sorted({item_id[0] for item_id in own})
        return [
            line
            for chapter in chapters
            for line in section(f"Chapter {chapter}", [item_id for item_id in own if item_id[0] == chapter])
        ]
    lines, today = [f"{plan.title} (rl plan {plan.id})"], ""
    for day in plan.days:
        ids = [item_id for item_id in day.items if item_id in own or not plans.find(item_id)]
        if not today and any(
            own.get(item_id, "passed") != "passed" for item_id in ids if item_id not in optional
        ):
            today = day.name
        lines += section(f"{'today: ' if day.name == today else ''}{day.name}", ids)
    beside = [item_id for item_id in own if item_id not in plan.items]
    passed = sum(own[item_id] == "passed" for item_id in beside)
    return [*lines, f"beside the plan: {passed} of {len(beside)} lessons passed"]


def plan_lines(plan: plans.Plan, runs: Path) -> list[str]:
    """A plan, day by day: hours, items, what to do beside."""
    lines = [f"{plan.title}: {plan.why}"]
    for number, day in enumerate(plan.days, 1):
        read, run = map(plans.duration, plans.day_minutes(day))
        work = plans.duration(plans.day_exercises(day))
        hours = f"reading {read}, exercises {work}, runs {run}"
        lines += ["", f"{number:>2} {day.name} ({hours})", f"   {states(day, runs)}"]
        if day.also:
            lines.append(f"   and: {day.also}")
    return lines


def plans_lines() -> list[str]:
    """The plans there are, with their hours."""
    lines = []
    for plan in plans.load().values():
        read, run = (plans.duration(sum(part)) for part in zip(*map(plans.day_minutes, plan.days)))
        work = plans.duration(sum(map(plans.day_exercises, plan.days)))
        lines.append(f"rl plan {plan.id:<10} reading {read}, exercises {work}, runs {run}: {plan.why}")
    return lines
