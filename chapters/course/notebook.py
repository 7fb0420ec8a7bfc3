"""A lesson as a Jupyter notebook that is pleasant to read before anything has run, and to run.

The text and the code are the lesson's. What is added: a first cell that installs the course where it is
missing; after each function its worked example as a cell of its own, with the output that the tests hold it
to; the recorded figures inside the text; and the run in one cell, before the text that looks at it.
"""

from __future__ import annotations

import ast
import base64
import doctest
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chapters.course.catalog import CHAPTERS, ROOT, Item
from chapters.utils.files import write_atomic

EXAMPLE = re.compile(r"^```python\n(?=>>> )(.*?)^```\n?", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## ", re.MULTILINE)
VERDICT = "**The verdict.**"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^()\s]+)\)")
ADDRESS = re.compile(r"(?:https://(?:[^@/\s]+@)?|(?:ssh://)?git@)([\w.-]+)[:/]([\w./~-]+?)(?:\.git)?/?")
TYPES = {".png": "image/png", ".gif": "image/gif"}
PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}
FIRST = """\
# Run this first. Where the course is installed it does nothing more. On Colab it installs it, with all its
# libraries: some minutes, once in each session. If Colab asks for a restart of the session, say yes, run this
# cell again and go on. In VS Code and JupyterLab choose the Python of the course's folder, .venv, as kernel.
import importlib.util
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="IProgress not found")  # a library's word on its progress bars
COURSE = {address!r}  # where pip finds the course: "git+https://" and the address of your copy

if any(importlib.util.find_spec(name) is None for name in ("chapters", "jaxtyping")):
    assert COURSE, "the course is not installed here: put the address of your copy into COURSE"
    %pip install --quiet "rl-curriculum{extra} @ {{COURSE}}"

import chapters

# the run log is told which lesson this is
__file__ = str(Path(chapters.__file__).parent / {folder!r} / {name!r})"""
RUN_TEXT = """\
## The run

`main` puts everything together and makes the lesson's claims; its run is one cell. `QUICK = True` makes a
tiny run in seconds: it shows that everything works, and only what must always hold is asked of it. The whole
run takes {seconds:.0f} s or less on two cores. Its figure appears below it; the text after it speaks of the
recorded one."""
RUN = """\
QUICK = False  # True: a tiny run, in seconds

run_lesson(main, Config, SMOKE, quick=QUICK)"""


def to_notebook(item: Item, path: Path) -> Path:
    """Write the lesson to `path` as .ipynb."""
    import jupytext

    notebook = jupytext.read(item.path, fmt="py:percent")
    notebook.cells = [_first(item), *run_before_the_look(item, alive(notebook.cells))]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = self_contained(cell.source, item.path.parent, path.absolute().parent)
    notebook.metadata["kernelspec"] = PYTHON
    write_atomic(path, jupytext.writes(notebook, fmt="ipynb"))
    return path


def _first(item: Item) -> Any:
    """The cell that sees to it that the course is there, and tells the run log which lesson this is."""
    extra = f"[{item.extra}]" if item.extra else ""
    folder = item.path.parent.relative_to(CHAPTERS).as_posix()
    return _code(FIRST.format(address=address(), extra=extra, folder=folder, name=item.path.name))


def address() -> str:
    """Where pip finds the course: the clone's origin, without what one signs in with; "" if nowhere."""
    ask = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = ADDRESS.fullmatch(told)
    return f"git+https://{found[1]}/{found[2]}" if found else ""


# ---------------------------------------------------------------------------------------------------------
# Worked examples


def alive(cells: list[Any]) -> list[Any]:
    """The cells, with each worked example behind the last function that it needs, or where it stood.

    An example stays in the text, too, where its functions come later: there it is followed by hand.
    """
    homes = {name: place for place, node in _statements(cells) for name in _names_of(node)}
    needs = {name: _used(node) & homes.keys() for _, node in _statements(cells) for name in _names_of(node)}
    behind: dict[tuple[int, int], list[Any]] = {}  # {(number of a cell, its last line): what follows}
    pieces: dict[int, list[Any]] = {}  # {number of a cell of text: the cells that it is cut into}
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            for text in _docstrings(cell.source):
                behind.setdefault(_last(text, homes, needs), []).extend(example_cells(text))
            continue
        pieces[number], shown = [], 0
        for found in EXAMPLE.finditer(cell.source):
            last = _last(found[1], homes, needs)
            if last[0] > number:
                behind.setdefault(last, []).extend(example_cells(found[1]))
            else:
                pieces[number] += [*_text(cell.source[shown : found.start()]), *example_cells(found[1])]
                shown = found.end()
        pieces[number] += _text(cell.source[shown:])
    return [
        part
        for number, cell in enumerate(cells)
        for part in (pieces[number] if number in pieces else _cut(number, cell.source, behind))
    ]


def _cut(number: int, source: str, behind: dict[tuple[int, int], list[Any]]) -> Iterator[Any]:
    """A cell of code, cut behind each function that an example follows."""
    lines, start = source.splitlines(), 0
    for end in sorted(line for place, line in behind if place == number):
        yield from _code_if_any(lines[start:end])
        yield from behind[number, end]
        start = end
    yield from _code_if_any(lines[start:])


def _code_if_any(lines: list[str]) -> list[Any]:
    text = "\n".join(lines).strip("\n")
    return [_code(text)] if text else []


def _text(source: str) -> list[Any]:
    from nbformat.v4 import new_markdown_cell

    return [new_markdown_cell(source.strip("\n"))] if source.strip() else []


def _code(source: str, outputs: list[Any] | None = None) -> Any:
    from nbformat.v4 import new_code_cell

    return new_code_cell(source, outputs=outputs or [])


def example_cells(text: str) -> list[Any]:
    """An example as cells: one for each answer, with what was typed before it, and the answer as output."""
    from nbformat.v4 import new_output

    cells, typed = [], []
    for example in doctest.DocTestParser().get_examples(text):
        typed.append(example.source.rstrip("\n"))
        if not example.want:
            continue
        prints = example.source.startswith(("print(", "for ", "with "))
        if prints:
            output = new_output("stream", name="stdout", text=example.want)
        else:
            output = new_output("execute_result", {"text/plain": example.want.rstrip("\n")})
        cells.append(_code("\n".join(typed), [output]))
        typed = []
    return [*cells, _code("\n".join(typed))] if typed else cells


def _statements(cells: list[Any]) -> Iterator[tuple[tuple[int, int], ast.stmt]]:
    """((number of its cell, its last line), statement) of all code."""
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                yield (number, node.end_lineno or 0), node


def _names_of(node: ast.stmt) -> set[str]:
    """The names that a statement at the top gives."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(name.asname or name.name).partition(".")[0] for name in node.names}
    targets = [*getattr(node, "targets", []), *filter(None, [getattr(node, "target", None)])]
    return {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}


def _used(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _docstrings(source: str) -> Iterator[str]:
    """The docstrings that hold an example."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            text = ast.get_docstring(node) or ""
            if ">>> " in text:
                yield f"{node.name}\n{text}"


def _last(text: str, homes: dict[str, tuple[int, int]], needs: dict[str, set[str]]) -> tuple[int, int]:
    """(number of the cell, line) behind which all is there that an example needs, and what that needs."""
    sources = "".join(example.source for example in doctest.DocTestParser().get_examples(text))
    known, waiting = set(), _used(ast.parse(sources)) & homes.keys()
    while waiting:
        known |= waiting
        waiting = set().union(*(needs[name] for name in waiting)) - known
    return max((homes[name] for name in known), default=(0, 0))


# ---------------------------------------------------------------------------------------------------------
# The run, figures and links


def run_before_the_look(item: Item, cells: list[Any]) -> list[Any]:
    """The cells with `main` and its run before the section that looks at what came out, the verdict's."""
    last = next(i for i, cell in enumerate(cells) if VERDICT in cell.source)
    number, start = max(_headings(cells[: last + 1]))
    text = cells[number].source
    *main, script = cells[last + 1 :]
    rest, _, _ = script.source.partition('if __name__ == "__main__":')
    seconds = item.budgets[0] if item.budgets else 60
    return [
        *cells[:number],
        *_text(text[:start]),
        *_text(RUN_TEXT.format(seconds=seconds)),
        *main,
        *_code_if_any(rest.splitlines()),
        _code(RUN),
        *_text(text[start:]),
        *cells[number + 1 : last + 1],
    ]


def _headings(cells: list[Any]) -> Iterator[tuple[int, int]]:
    """(number of a cell, where in it) of each heading of a section before the verdict."""
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            text = cell.source.partition(VERDICT)[0]
            yield from ((number, found.start()) for found in HEADING.finditer(text))


def self_contained(text: str, source: Path, folder: Path) -> str:
    """Markdown with its figures inside, for a notebook in `folder`; links lead to files from there.

    Pictures are data, not attachments of the cell, which Colab does not show. Where the notebook stands
    outside of the course, the words of a link stay, without the way.
    """

    def lead(found: re.Match) -> str:
        shown, label, target = found.groups()
        path = Path(os.path.normpath(source / target.partition("#")[0]))
        if re.match(r"\w+:|#", target) or not path.exists():
            return found[0]
        if path.suffix in TYPES:
            data = base64.b64encode(path.read_bytes()).decode()
            picture = f"![{' '.join(label.split())}](data:{TYPES[path.suffix]};base64,{data})"
            return picture if shown else f"{label}:\n\n{picture}\n\n"
        inside = folder.is_relative_to(ROOT) and path.is_relative_to(ROOT)
        return f"[{label}]({Path(os.path.relpath(path, folder)).as_posix()})" if inside else label

    return LINK.sub(lead, text)
