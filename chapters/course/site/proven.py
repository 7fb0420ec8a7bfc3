"""What is proven: every claim of every ledger on one page, to which each number of a result table leads."""

from __future__ import annotations

import math
import re
from pathlib import Path

from chapters.course import catalog, ledger, tables
from chapters.course.catalog import Item
from chapters.course.site.names import (
    PROVEN,
    anchor_to,
    as_block,
    escaped,
    filters,
    lesson_choices,
    lesson_link,
    name_of,
)
from chapters.utils.claims import Claim

KINDS = {
    "identity": "must hold in the smallest run, too: an identity, a bound, a parity",
    "exact": "the same value on every seed",
    "statistical": "differs from seed to seed",
    "timed": "seconds or a rate, as one machine took them",
}
MARGINS = {
    "fails": "fails on a seed",
    "narrow": "under a tenth of the bound",
    "wide": "a tenth of the bound or more",
}
WIDTH, HEIGHT, RADIUS = 260, 26, 4
INTRODUCTION = f"""# What is proven

Each lesson makes claims: measured values against stated bounds. Here is every one, as the ledgers hold it.
A dot is the value on one seed; the line is the bound, and values are allowed in the shaded part. *Margin*
is how far the worst seed is from the bound, as a share of the bound (of the tolerance, where a value must
be near another).

Kinds: {"; ".join(f"*{kind}*, {means}" for kind, means in KINDS.items())}.
"""


def kind(records: list[Claim]) -> str:
    """Which of KINDS a claim is, from its values on all seeds."""
    first = records[0]
    if first.timed:
        return "timed"
    if first.always:
        return "identity"
    return "exact" if len({record.value for record in records}) == 1 else "statistical"


def margin(records: list[Claim]) -> float:
    """How far the worst value is on the right side of the bound, relative to it; negative where it fails."""
    first, values = records[0], [record.value for record in records]
    if any(map(math.isnan, values)):
        return -math.inf
    if first.near:
        target, tolerance = first.near
        worst = max(abs(value - target) for value in values)
        return 1 - worst / tolerance if tolerance else (0.0 if worst == 0 else -math.inf)
    bound = first.at_most if first.at_least is None else first.at_least
    room = bound - max(values) if first.at_least is None else min(values) - bound
    return room / (abs(bound) or max(map(abs, values)) or 1.0)


def margin_class(room: float) -> str:
    """Which of MARGINS that is."""
    return "fails" if room < 0 else "narrow" if room < 0.1 else "wide"


def dots(records: list[Claim]) -> str:
    """The values of all seeds beside the bound, as a picture of one line."""
    first = records[0]
    values = [record.value for record in records if math.isfinite(record.value)]
    low, high = _allowed(first)
    ends = [*values, *filter(math.isfinite, (low, high))]
    least, most = min(ends), max(ends)
    air = 0.08 * (most - least) or abs(most) or 1.0

    def x(value: float) -> float:
        inside = min(max(value, least - air), most + air)
        return round(RADIUS + (WIDTH - 2 * RADIUS) * (inside - least + air) / (most - least + 2 * air), 1)

    left = x(low) if math.isfinite(low) else 0
    right = x(high) if math.isfinite(high) else WIDTH
    lines = [f'<path class="bound" d="M{x(end)} 0V{HEIGHT}"/>' for end in (low, high) if math.isfinite(end)]
    marks = [_dot(record, x(record.value)) for record in records if math.isfinite(record.value)]
    told = (
        f"{len(records)} values, {min(values, default=math.nan):.4g} to {max(values, default=math.nan):.4g}"
    )
    return (
        f'<svg class="dots" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}; {first.bound}">'
        f'<rect x="{left}" width="{round(right - left, 1)}" height="{HEIGHT}"/>{"".join(lines + marks)}</svg>'
    )


def _dot(record: Claim, x: float) -> str:
    verdict = "holds" if record.holds else "fails"
    return f'<circle class="{verdict}" cx="{x}" cy="{HEIGHT // 2}" r="{RADIUS}"/>'


def _allowed(claim: Claim) -> tuple[float, float]:
    """Where a claim's values may lie."""
    if claim.near:
        return claim.near[0] - claim.near[1], claim.near[0] + claim.near[1]
    return (
        -math.inf if claim.at_least is None else claim.at_least,
        math.inf if claim.at_most is None else claim.at_most,
    )


def rows(item: Item) -> list[str]:
    """The claims of a lesson, as HTML."""
    book = ledger.load(item)
    seeds = [run["seed"] for run in book["runs"]]
    found = []
    for first, records in ledger.claims_of(book):
        held = book["claims"][first.name]["held"]
        found.append(_row(item, records, f"holds on {held} seeds, needs {first.seeds}", seeds))
    pooled = [Claim.from_dict(entry) for entry in book["pooled"]]
    return found + [_row(item, [claim], "one value of all seeds together", []) for claim in pooled]


def _row(item: Item, records: list[Claim], held: str, seeds: list[int]) -> str:
    first, room = records[0], margin(records)
    values = ", ".join(f"{record.value:.4g}" for record in records)
    told = f"seeds {', '.join(map(str, seeds))}: {values}" if seeds else values
    room_told = f"{100 * room:.0f} %" if math.isfinite(room) else "none"
    unit = f" ({escaped(first.unit)})" if first.unit else ""
    return (
        f'<div class="entry" id="{item.id}.{first.name}" data-lesson="{item.id}" data-kind="{kind(records)}" '
        f'data-margin="{margin_class(room)}"><p><b>{escaped(first.statement)}</b>{unit} '
        f"<code>{item.id}.{first.name}</code></p>{dots(records)}"
        f"<p><b>{tables.over_seeds(records)}</b>, bound {first.bound}, {held}; {kind(records)}, "
        f"margin {room_told}. Source: {escaped(first.source) or 'the statement itself'}.</p>"
        f"<details><summary>values</summary><p>{told}</p></details></div>"
    )


def page() -> str:
    """The page, as Markdown."""
    kinds = {name: name for name in KINDS}
    parts = [INTRODUCTION, filters(lesson=lesson_choices(), kind=kinds, margin=MARGINS)]
    for item in catalog.lessons():
        if not item.ledger.exists():
            continue
        book = ledger.load(item)
        versions = ", ".join(f"{name} {version}" for name, version in book["versions"].items())
        parts += [
            f"## {item.id} · {item.title}\n",
            lesson_link(item, PROVEN),
            f"Recorded {book['recorded']} on {book['machine']}, with {versions}.\n",
            as_block(*rows(item)),
        ]
    return "\n".join(parts)


def linked_values(text: str, path: Path) -> str:
    """A text in whose result tables each value leads to its claim."""
    here = name_of(path)

    def block(match: re.Match) -> str:
        item = catalog.find(match["id"])
        if not item.ledger.exists():
            return match[0]
        book = ledger.load(item)
        claims = [*book["claims"].items(), *((entry["name"], entry) for entry in book["pooled"])]
        known = {tables.cell(entry["statement"]): name for name, entry in claims}
        known |= {name: name for name, _ in claims}

        def row(found: re.Match) -> str:
            name = known.get(found[1].strip().removesuffix(" *"))
            if name is None:
                return found[0]
            return f"| {found[1]} | {anchor_to(here, PROVEN, f'{item.id}.{name}', found[2].strip())} |"

        return re.sub(r"^\| (.+?) \| (.+?) \|", row, match[0], flags=re.MULTILINE)

    return tables.RESULTS.sub(block, text)
