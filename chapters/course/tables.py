"""Generated blocks: no number in a note, a header or the README was typed by hand.

A block stands between `<!-- results: B1 -->` and `<!-- /results -->`; other tables stand in the same way
between `exercises: B1`, `syllabus`, `plans` or `fresh seeds`. `rl tables` rewrites what is between them; a
test fails when that would change anything. `<!-- results: B1 name, other -->` shows only the claims named.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from chapters.course import catalog, fresh, graders, ledger, pictures, plans
from chapters.course.parts import exercises_of
from chapters.exact.intervals import median_interval, median_ranks
from chapters.exercises import Exercise
from chapters.utils.claims import Claim
from chapters.utils.files import write_atomic

RESULTS = re.compile(
    r"(<!-- results: (?P<id>[A-E]\d+)(?: (?P<only>[\w, ]+))? -->\n).*?(<!-- /results -->)", re.DOTALL
)
SYLLABUS = re.compile(r"(<!-- syllabus -->\n).*?(<!-- /syllabus -->)", re.DOTALL)
EXERCISES = re.compile(r"(<!-- exercises: (?P<id>[A-E]\d+) -->\n).*?(<!-- /exercises -->)", re.DOTALL)
WIDTH = 110
PLANS = re.compile(r"(<!-- plans -->\n).*?(<!-- /plans -->)", re.DOTALL)
GRADERS = re.compile(r"(<!-- graders -->\n).*?(<!-- /graders -->)", re.DOTALL)
FRESH = re.compile(r"(<!-- fresh seeds -->\n).*?(<!-- /fresh seeds -->)", re.DOTALL)


def documents() -> list[Path]:
    """Every file that may hold a generated block."""
    found = [catalog.ROOT / "README.md", catalog.ROOT / "CONTRIBUTING.md"]
    found += [catalog.ROOT / "benchmarks" / "README.md", *(catalog.ROOT / "planning").glob("*.md")]
    found += [*catalog.CHAPTERS.glob("*/*.md"), *catalog.CHAPTERS.glob("*/*.py")]
    return sorted(path for path in found if path.exists())


def render(path: Path) -> str:
    """The text of `path` with its generated blocks made anew."""
    text = path.read_text(encoding="utf-8")
    if path.parent == catalog.CHAPTERS / "course":  # this module's own docstring is no document
        return text

    def results(match: re.Match) -> str:
        table = run_table(match["id"]) if path.suffix == ".py" else results_table(match["id"], match["only"])
        return match[1] + table + match[4]

    text = RESULTS.sub(results, text)
    text = EXERCISES.sub(lambda match: match[1] + exercise_list(catalog.find(match["id"])) + match[3], text)
    text = SYLLABUS.sub(lambda match: match[1] + syllabus_table(path) + match[2], text)
    text = GRADERS.sub(lambda match: match[1] + graders.table() + match[2], text)
    text = FRESH.sub(lambda match: match[1] + fresh.table() + match[2], text)
    return PLANS.sub(lambda match: match[1] + plan_tables(path) + match[2], text)


def exercise_list(item: catalog.Item, help_for: Callable[[str, Exercise], str] | None = None) -> str:
    """The exercises of a lesson as its reader sees them: the task, how to begin, the answer folded away.

    What `help_for` says of one stands between its task and its answer.
    """
    parts = [
        _exercise(item, i, name, one, help_for(name, one) if help_for else "")
        for i, (name, one) in enumerate(exercises_of(item).items(), 1)
    ]
    bug = (
        f"*{item.id}.{len(parts) + 1} · Find the bug* (10 minutes). `rl exercise {item.id}.bug` writes a "
        "function of this lesson with a mistake in it; mend it."
    )
    return "\n" + "\n".join([*parts, "\n".join(textwrap.wrap(bug, WIDTH)), "", ""])


def _exercise(item: catalog.Item, number: int, name: str, one: Exercise, help_text: str) -> str:
    graded = [f"`rl exercise {item.id}.{function}`" for function in one.functions or [name]]
    begin = f" {', '.join(graded)}." if one.functions or one.solution else ""
    head = f"*{item.id}.{number} · {one.title}* ({one.minutes} minutes, {one.difficulty}). "
    first, *rest = (head + one.task.strip() + begin).split("\n\n")
    lines = ["\n".join(textwrap.wrap(" ".join(first.split()), WIDTH, break_on_hyphens=False)), *rest]
    text = "\n\n".join(lines) + "\n" + help_text
    if one.answer:
        text += f"\n<details><summary>Answer</summary>\n\n{one.answer.strip()}\n</details>\n"
    return text


def update(check: bool = False) -> list[Path]:
    """Renew all generated blocks and the picture; with `check` only say what would change."""
    changed = pictures.update(check)
    for path in documents():
        fresh = render(path)
        if fresh != path.read_text(encoding="utf-8"):
            changed.append(path)
            if not check:
                write_atomic(path, fresh)
    return changed


def results_table(lesson: str, only: str | None = None) -> str:
    """For a note: what a lesson measured, in sentences."""
    item = catalog.find(lesson, kinds=("py",))
    if not item.ledger.exists():
        return f"\nNot recorded yet: `rl record {item.id} --seeds 0:5`.\n\n"
    book = ledger.load(item)
    names = {name.strip() for name in only.split(",")} if only else None
    head = (
        f"{item.id} claims",
        f"{_interval(book)} over {len(book['runs'])} seeds",
        "bound",
        "holds",
        "source",
    )
    rows = [
        (cell(claim.statement), f"{value} {claim.unit}".strip(), claim.bound, held, cell(claim.source))
        for claim, value, held in _measured(book)
        if names is None or claim.name in names
    ]
    return "\n" + _markdown(head, rows) + "\n"


def run_table(lesson: str) -> str:
    """For a lesson's end: how to run it, what it takes, what it showed; narrow, and aligned."""
    item = catalog.find(lesson, kinds=("py",))
    if not item.ledger.exists():
        return f"\nNot recorded yet: `rl record {item.id} --seeds 0:5`.\n\n"
    book = ledger.load(item)
    memory = max(run["peak_memory_mb"] for run in book["runs"])
    alone, whole = ledger.times(book)
    more = f"; with `--evidence`: {whole:.0f} s" if book.get("evidence_config") is not None else ""
    took = (
        f"`rl run {item.id}`: {alone:.0f} s{more}, {memory} MB; "
        f"with `--smoke --evidence`: {book['smoke_seconds']:.0f} s.\n"
        f"(Measured: CPU seconds of the whole process on {book['machine']}; the header says "
        "what it may take.)\n\n"
    )
    claims = _measured(book)
    rows = [
        (f"{claim.name}{' *' if claim.evidence else ''}", value, claim.bound, held)
        for claim, value, held in claims
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    rows = [tuple(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    head = ("claim", f"{_interval(book)}, {len(book['runs'])} seeds", "bound", "holds")
    star = (
        "\\* measured by the evidence beside the lesson\n\n"
        if any(one.evidence for one, _, _ in claims)
        else ""
    )
    return f"\n{took}{_markdown(head, rows)}\n{star}{_in_words(claims)}\n"


def _in_words(claims: list[tuple[Claim, str, str]]) -> str:
    """What each row of a lesson's table says, and in what unit, as a list."""
    said = [
        f"- `{claim.name}`: {claim.statement}{f' ({claim.unit})' if claim.unit else ''}"
        for claim, _, _ in claims
    ]
    lines = [textwrap.fill(one, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for one in said]
    head = "<details><summary>What each row says, and in brackets what its numbers count</summary>"
    return f"{head}\n\n" + "\n".join(lines) + "\n</details>\n"


def _measured(book: dict) -> list[tuple[Claim, str, str]]:
    """(claim, its value over the seeds, on how many it holds) for every claim of a ledger."""
    rows = [
        (first, over_seeds(records), book["claims"][first.name]["held"])
        for first, records in ledger.claims_of(book)
    ]
    for fields in book["pooled"]:
        claim = Claim.from_dict(fields)
        rows.append((claim, _number(claim.value, claim), "pooled" if claim.holds else "**no**"))
    return rows


def _interval(book: dict) -> str:
    """Head of a column of medians, with what their intervals cover: B8 audits it."""
    _, coverage = median_ranks(len(book["runs"]))
    return f"median ({100 * coverage:.0f} % interval)"


def over_seeds(records: list[Claim]) -> str:
    """A claim's median over its seeds, with the interval that lesson B8 recommends; and, where the claim
    fails on a seed beyond that interval, the worst such value: a median does not show it.
    """
    first = records[0]
    values = np.array([claim.value for claim in records], dtype=float)
    if np.isnan(values).any():
        return _number(None, first)
    low, high = median_interval(values)
    ends = [_number(float(value), first) for value in (low, np.median(values), high)]
    text = ends[1] if ends[0] == ends[2] else f"{ends[1]} ({ends[0]} to {ends[2]})"
    failed = [claim for claim in records if not claim.holds and not low <= claim.value <= high]
    if failed:
        worst = max(failed, key=lambda claim: abs(claim.value - _target(claim)))
        text += f"; worst {_number(worst.value, worst)}"
    return text


def _target(claim: Claim) -> float:
    """What a value is measured against: the bound, or the middle of the allowed range."""
    return next(
        bound for bound in (claim.at_least, claim.at_most, (claim.near or (None,))[0]) if bound is not None
    )


def _markdown(head: tuple, rows: list[tuple]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def syllabus_table(document: Path) -> str:
    """Every item of the course: question, measured time, claims held, figure."""
    here = document.parent
    lines = [
        "",
        "| | lesson | question | time (with all evidence) | claims | figure |",
        "|---|---|---|---|---|---|",
    ]
    for item in catalog.items():
        link = f"[{item.title}]({_relative(item.path, here)})"
        time, claims, figure = _kind(item), "", ""
        if item.kind == "py" and item.ledger.exists():
            book = ledger.load(item)
            held, total = ledger.verdict(book)
            alone, whole = ledger.times(book)
            time = f"{alone:.0f} s ({whole:.0f} s)"
            claims = f"{held} of {total} hold, {len(book['runs'])} seeds"
            own = [path for path in ledger.own_figures(item) if path.name == f"{item.id}.png"]
            figure = f'<img src="{_relative(own[0], here)}" width="240" alt="{item.title}">' if own else ""
        lines.append(f"| {item.id} | {link} | {cell(item.question)} | {time} | {claims} | {figure} |")
    return "\n".join(lines) + "\n\n"


def plan_tables(document: Path) -> str:
    """The study plans: one table of all, then each one's days, folded away."""
    lines = [
        "",
        "| plan | days | items | reading | exercises | runs | what it is |",
        "|---|---|---|---|---|---|---|",
    ]
    details = []
    for plan in plans.load().values():
        times = [plans.day_minutes(day) for day in plan.days]
        read, run = (plans.duration(sum(part)) for part in zip(*times))
        work = plans.duration(sum(map(plans.day_exercises, plan.days)))
        row = (f"`rl plan {plan.id}`", len(plan.days), len(plan.items), read, work, run, cell(plan.why))
        lines.append(f"| {' | '.join(map(str, row))} |")
        rows = []
        for day, (read, run) in zip(plan.days, times):
            hours = map(plans.duration, (read, plans.day_exercises(day), run))
            rows.append((day.name, _links(day.items, document.parent), *hours, cell(day.also)))
        table = _markdown(("day", "items", "reading", "exercises", "runs", "and"), rows)
        details += [f"<details><summary>{plan.title}</summary>", "", table, "</details>", ""]
    return "\n".join([*lines, "", *details]) + "\n"


def _links(item_ids: tuple[str, ...], here: Path) -> str:
    """The items as links; what is not built yet is marked."""
    found = [(item_id, plans.find(item_id)) for item_id in item_ids]
    return ", ".join(
        f"[{item.id}]({_relative(item.path, here)})" if item else f"{item_id} *(planned)*"
        for item_id, item in found
    )


def _kind(item: catalog.Item) -> str:
    return {"md": "read", "sh": "set-up", "py": ""}[item.kind]


def _number(value: float | None, claim: Claim) -> str:
    """Three digits, or as many as it takes to stand on the right side of the claim's bound."""
    if value is None:
        return "not a number"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if claim.near is not None:
        return f"{value:.3g}"
    holds = replace(claim, value=value).holds
    written = (f"{value:.{digits}g}" for digits in range(3, 13))
    right = (text for text in written if replace(claim, value=float(text)).holds == holds)
    return next(right, f"{value:.3g}")


def cell(text: str) -> str:
    """A text as it stands in a cell of a table."""
    return text.replace("|", r"\|")


def _relative(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()
