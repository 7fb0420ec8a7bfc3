"""`practice/`: a lesson's functions to be written by the learner, and what has been shown there.

A practice file is a script and, through jupytext, a notebook. It is the learner's own: what stands in it is
never changed, only what is missing is added at its end.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import time
from pathlib import Path

from chapters.course.catalog import ROOT, Item, lessons
from chapters.course.grading import DEFINITIONS, Grade, checks_for, equations_of, parsed
from chapters.course.parts import checks_of, function_checks
from chapters.utils.files import write_atomic, write_json
from chapters.utils.lesson import UsageError


def path_of(item: Item, folder: Path) -> Path:
    """Where a lesson's practice file stands."""
    return folder / f"{item.id}.py"


def write(item: Item, folder: Path, name: str = "") -> tuple[Path, list[str]]:
    """Write the stubs of a lesson, or of one function; returns the file and the functions that were added.

    Raises UsageError if there is no such function, or if the file that is there is no Python.
    """
    checks = checks_for(item, name)
    path = path_of(item, folder)
    text = path.read_text(encoding="utf-8") if path.exists() else head(item)
    there = {node.name for node in parsed(text, str(path)).body if isinstance(node, DEFINITIONS)}
    order = [node.name for node in nodes_of(item) if node.name in checks]
    added = [function for function in order if function not in there and name in ("", function)]
    if added or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text + "".join(cell(item, function) for function in added))
    return path, added


def nodes_of(item: Item) -> list[ast.FunctionDef | ast.ClassDef]:
    """The functions and classes of a lesson in their order."""
    tree = ast.parse(item.path.read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, DEFINITIONS)]


def node_of(item: Item, name: str) -> ast.FunctionDef | ast.ClassDef:
    """One checked function of a lesson. Raises UsageError if there is none of that name, or no name."""
    if not name:
        raise UsageError(f"name one function: {item.id}.{next(iter(checks_for(item, '')))}, say")
    checks_for(item, name)
    return next(node for node in nodes_of(item) if node.name == name)


def first_line(node: ast.FunctionDef | ast.ClassDef) -> int:
    """Where a definition begins, decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def head(item: Item) -> str:
    """Title, how to grade, and the lesson's imports and names of shapes."""
    source = item.path.read_text(encoding="utf-8")
    kept = [
        ast.get_source_segment(source, node)
        for node in ast.parse(source).body
        if isinstance(node, (ast.Import, ast.ImportFrom)) or is_alias(node)
    ]
    return (
        f'# %% [markdown]\nr"""\n# {item.id} · {item.title}: yours\n\n'
        f"Write each body in place of `...`, with the lesson beside you: `{item.path.relative_to(ROOT)}`.\n"
        f"`rl grade {item.id}` says what passes and what a mistake looks like; `--watch` at each save.\n"
        f'"""\n\n# %%\nfrom __future__ import annotations\n' + "\n".join(kept) + "\n"
    )


def is_alias(node: ast.stmt) -> bool:
    """Whether a statement names a kind of array: `Grid = Float[Tensor, "T N"]`."""
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)


def cell(item: Item, name: str) -> str:
    """A function's equations, signature and docstring, and a body to be written."""
    source = item.path.read_text(encoding="utf-8")
    node = node_of(item, name)
    equations = "\n\n".join(f"$${equation.partition(' ')[2]}$$" for equation in equations_of(item, name))
    above = f'\n\n# %% [markdown]\nr"""\n{equations}\n"""\n' if equations else "\n\n"
    return f"{above}\n# %%\n{stub(source, node)}\n"


def stub(source: str, node: ast.FunctionDef | ast.ClassDef) -> str:
    """Decorators, signature and docstring; of a class, those of each method."""
    lines = source.splitlines()
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        parts = [signature(lines, node)] + [stub(source, method) for method in methods]
        return "\n\n".join(parts)
    return f"{signature(lines, node)}\n{' ' * (node.col_offset + 4)}...  # yours"


def signature(lines: list[str], node: ast.FunctionDef | ast.ClassDef) -> str:
    """The lines down to the docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    end = first.end_lineno if documented else first.lineno - 1
    return "\n".join(lines[first_line(node) - 1 : end])


def solution(item: Item, name: str) -> str:
    """The lesson's own function, and the equations that it stands for."""
    node = node_of(item, name)
    lines = item.path.read_text(encoding="utf-8").splitlines()
    equations = [f"equation {equation}" for equation in equations_of(item, name)]
    return "\n".join([*lines[first_line(node) - 1 : node.end_lineno], "", *equations])


def hints(item: Item, name: str) -> list[str]:
    """Three steps towards a function: what it stands for, an example by hand, and how its body begins.

    Raises UsageError if there is no such function. A lesson without an example of it gives two.
    """
    node = node_of(item, name)
    source = item.path.read_text(encoding="utf-8")
    above = [line for line in source.splitlines()[: node.lineno] if line.startswith("## ")]
    section = f"it belongs to section {above[-1].lstrip('# ')}" if above else ""
    equations = [f"equation {equation}" for equation in equations_of(item, name)]
    idea = "\n".join([ast.get_docstring(node) or "", *equations, section])
    blocks = re.findall(r"```python\n(.*?)```", source, re.DOTALL)
    by_hand = next((block for block in blocks if re.search(rf"\b{name}\(", block)), "")
    body = node.body[1:] if ast.get_docstring(node) else node.body
    first = ast.get_source_segment(source, body[0]) if body else ""
    begins = "the first line: " + (first or "").splitlines()[0] if first else ""
    return [step.strip() for step in (idea, by_hand, begins) if step.strip()]


# What was shown


def progress(folder: Path) -> dict[str, dict]:
    """{"C3.gae": {"passed": "2026-11-27", "failed": 2}}; a damaged file is put aside, with a word."""
    path = folder / "progress.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): dict(entry) for name, entry in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        aside = path.with_suffix(".damaged")
        os.replace(path, aside)
        print(f"{path}: was damaged, is now {aside.name}; what you pass is counted anew", file=sys.stderr)
        return {}


def keep(item: Item, grades: list[Grade], folder: Path) -> None:
    """Add grades to what was shown: a pass stays, failures are counted until then."""
    book = progress(folder)
    for grade in grades:
        entry = book.setdefault(f"{item.id}.{grade.function}", {}) if grade.state != "not begun" else {}
        if grade.state == "passed":
            entry.setdefault("passed", time.strftime("%Y-%m-%d"))
        elif grade.state == "failed" and "passed" not in entry:
            entry["failed"] = int(entry.get("failed", 0)) + 1
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "progress.json", book)


def next_hint(item: Item, name: str, folder: Path) -> list[str]:
    """The hints shown so far and one more; how many were shown is kept."""
    steps = hints(item, name)
    book = progress(folder)
    entry = book.setdefault(f"{item.id}.{name}", {})
    entry["hints"] = min(int(entry.get("hints", 0)) + 1, len(steps))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "progress.json", book)
    return steps[: entry["hints"]]


def status_lines(folder: Path) -> list[str]:
    """What you have written yourself, a line for each lesson that was begun."""
    book = progress(folder)
    lines = []
    for item in lessons():
        passed = sum("passed" in entry for name, entry in book.items() if name.partition(".")[0] == item.id)
        if passed:
            total = len(function_checks(checks_of(item)))
            lines.append(f"{item.id}: {passed} of {total} functions in your own version")
    return lines
