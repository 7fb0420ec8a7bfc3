"""All figures on one page, and the orders in which the study plans take the lessons."""

from __future__ import annotations

import ast
import functools
import html
import re
from pathlib import Path

from chapters.course import catalog, ledger, plans
from chapters.course.catalog import ROOT
from chapters.course.site.names import (
    FIGURES,
    ORDERS,
    as_block,
    item_in_plan,
    name_of,
    page_files,
    relative,
)

IMAGE = re.compile(r"!\[([^\]]*)\]\(([^()\s]+)\)")


def figures() -> tuple[str, set[Path]]:
    """(the page of all figures as Markdown, the figures)."""
    told, shown, parts = captions(), set(), ["# All figures\n\nAs recorded, with what each shows.\n"]
    for item in catalog.lessons():
        parts.append(
            f"## {item.id} · {item.title}\n\n[The lesson]({relative(name_of(item.path), FIGURES)}.md)\n"
        )
        for path in ledger.own_figures(item):
            caption = told[path]
            parts.append(f"![{caption}]({path.relative_to(ROOT).as_posix()})\n\n{caption}\n")
            shown.add(path)
    return "\n".join(parts), shown


def captions() -> dict[Path, str]:
    """{figure: what it shows}, as the texts say that embed it, else as the function that draws it does."""
    found = {}
    for path in page_files():
        for caption, target in IMAGE.findall(path.read_text(encoding="utf-8")):
            found[(path.parent / target).resolve()] = caption
    for item in catalog.lessons():
        if {*ledger.own_figures(item)} <= found.keys():
            continue
        for path in sorted(item.evidence.parent.glob(f"{item.id}*.py")):
            told = {item.results / name: words for name, words in drawn(path, item.id).items()}
            found = told | found
    return found


def drawn(path: Path, lesson_id: str) -> dict[str, str]:
    """{name of a figure: the docstring of the function of a file that draws it, or the figure's title}."""
    found = {}
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        named = [ast.unparse(call.args[0]) for call in calls if _method(call) == "set_title" and call.args]
        named += [ast.unparse(word.value) for call in calls for word in call.keywords if word.arg == "title"]
        titles = [name.strip("'\"") for name in named if name[:1] in "'\""]
        words = (ast.get_docstring(function) or "; ".join(titles)).split("\n\n")[0]
        for call in calls:
            if _method(call) in ("figure", "film") and words:
                end = [arg.value for arg in call.args[1:] if isinstance(arg, ast.Constant)]
                film = _method(call) == "film"
                name = "_".join([lesson_id, *(end or ["film"] * film)]) + (".gif" if film else ".png")
                found[name] = " ".join(words.split()).rstrip(".").replace("[", "(").replace("]", ")")
    return found


def _method(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def orders() -> str:
    """The study plans as pages to read one after the other."""
    parts = [
        "# Other orders\n\nThe side bar goes chapter by chapter, and so do *next* and *previous*. The study "
        "plans go like this. From a page that you open here, *next* and *previous* keep to its plan.\n"
    ]
    for plan in plans.load().values():
        parts.append(f"## {plan.title}\n\n`rl plan {plan.id}`: {plan.why}.\n")
        for day in plan.days:
            parts.append(f"**{day.name}**\n")
            parts.append("\n".join(f"1. {_step(item_id, plan.id)}" for item_id in day.items) + "\n")
            if day.also:
                parts.append(f"And: {day.also}.\n")
    return "\n".join(parts)


def _step(item_id: str, plan: str) -> str:
    item = plans.find(item_id)
    return f"{item_id} *(planned)*" if item is None else item_in_plan(ORDERS, item, plan)


@functools.cache
def in_order() -> list[tuple[plans.Plan, list[catalog.Item]]]:
    """Each study plan, and its lessons and notes in its order."""
    found = plans.load().values()
    return [(plan, [*filter(None, map(plans.find, dict.fromkeys(plan.items)))]) for plan in found]


def in_plans(item: catalog.Item) -> str:
    """What comes before and after a lesson or note in each study plan, as HTML; "" if it is in none."""
    here, lines = name_of(item.path), []
    for plan, order in in_order():
        if item not in order:
            continue
        at = order.index(item)
        told = f"{html.escape(plan.title)}: {at + 1} of {len(order)}"
        before = item_in_plan(here, order[at - 1], plan.id, "prev") if at else ""
        after = item_in_plan(here, order[at + 1], plan.id, "next") if at + 1 < len(order) else ""
        lines.append(
            f'<p data-plan="{plan.id}"><span>{told}</span> <span>{before}</span> <span>{after}</span></p>'
        )
    if not lines:
        return ""
    label = "Before and after this in the study plans"
    return as_block(
        f'<nav class="orders" aria-label="{label}">',
        f"<details><summary>{label}</summary>",
        *lines,
        "</details></nav>",
    )
