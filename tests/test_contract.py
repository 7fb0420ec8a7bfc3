"""Every lesson has the form that CONTRIBUTING.md describes: the same things stand in the same place."""

import ast
import dataclasses
import importlib
import re

import jupytext
import pytest

from chapters.course.catalog import CHAPTERS, ROOT, find, items, lessons
from chapters.course.planting import function_checks
from tests.test_checks import load

LESSONS = pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
HEADER = (
    r"^# {id} · ",
    r"\*\*Question\.\*\*",
    r"\*\*Before this:\*\*",
    r"\*\*Next:\*\*",
    r"\*\*Time budget\.\*\* \d+ s",
    r"<!-- results: {id} -->",
    r"^References:",
    r"^Symbols:",
)
MAX_LINES, MAX_FUNCTION_LINES, MAX_NESTING = 750, 50, 2


def source(item) -> str:
    return item.path.read_text(encoding="utf-8")


def functions(tree: ast.AST, depth: int = 1):
    """(function, nesting of `def`) for every function below `tree`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node, depth
            yield from functions(node, depth + 1)
        else:
            yield from functions(node, depth)


@LESSONS
def test_header_has_its_parts_in_order(item):
    positions = []
    for pattern in HEADER:
        found = re.search(pattern.format(id=item.id), item.text, re.MULTILINE)
        assert found, f"the header of {item.id} lacks {pattern}"
        positions.append(found.start())
    assert positions == sorted(positions)
    assert item.question.endswith("?") or "?" in item.question


@LESSONS
def test_config_explains_every_field(item):
    lesson = importlib.import_module(item.module)
    assert lesson.Config.__dataclass_params__.frozen
    assert dataclasses.fields(lesson.Config)[0].name == "seed"
    assert set(lesson.SMOKE) <= {field.name for field in dataclasses.fields(lesson.Config)}
    (config,) = [node for node in ast.parse(source(item)).body if getattr(node, "name", "") == "Config"]
    for node, after in zip(config.body, [*config.body[1:], None]):
        if isinstance(node, ast.AnnAssign):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert documented, f"{item.id}: Config.{node.target.id} has no docstring under it"


@LESSONS
def test_imports_run_one_way(item):
    for node in ast.walk(ast.parse(source(item))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.startswith("chapters"):
                assert name.split(".")[1] in ("utils", "envs"), f"{item.id} imports {name}"


@LESSONS
def test_nothing_happens_at_import(item):
    """Top-level statements define; the one call is `run_lesson` under `__main__`."""
    for node in ast.parse(source(item)).body:
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) == "__name__ == '__main__'"
            assert ast.unparse(node.body[0]) == "run_lesson(main, Config, SMOKE)"
            continue
        assert isinstance(
            node,
            ast.Import
            | ast.ImportFrom
            | ast.FunctionDef
            | ast.ClassDef
            | ast.Assign
            | ast.AnnAssign
            | ast.Expr,
        ), f"{item.id}, line {node.lineno}"
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), f"{item.id}, line {node.lineno}: work at import"
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                assert name.id[0].isupper(), f"{item.id}: global {name.id} is no constant"


@LESSONS
def test_readable_in_one_scroll(item):
    text = source(item)
    written = re.sub(
        r"(?s)(<!-- results: \w+ -->).*?(<!-- /results -->)", r"\1\n\2", text
    )  # not the generated
    assert len(written.splitlines()) <= MAX_LINES
    for function, nesting in functions(ast.parse(text)):
        lines = function.end_lineno - function.lineno + 1
        assert lines <= MAX_FUNCTION_LINES, f"{item.id}: {function.name} has {lines} lines"
        assert nesting <= MAX_NESTING, f"{item.id}: {function.name} is nested {nesting} deep"


@LESSONS
def test_round_trips_to_a_notebook(item):
    text = source(item)
    assert text.startswith("# %% [markdown]\n")
    notebook = jupytext.reads(text, fmt="py:percent")
    assert notebook.cells[0].cell_type == "markdown"
    assert {cell.cell_type for cell in notebook.cells} == {"markdown", "code"}
    again = jupytext.reads(jupytext.writes(notebook, fmt="py:percent"), fmt="py:percent")
    assert [cell.source for cell in again.cells] == [cell.source for cell in notebook.cells]


@LESSONS
def test_copies_meet_the_check_of_their_original(item):
    """`# same-as: A3.bellman_backup` above a def: the original's check runs on the copy."""
    lesson = importlib.import_module(item.module)
    marks = re.findall(r"# same-as: ([A-E]\d+)\.(\w+)\n(?:@.*\n)*(?:def|class) (\w+)", source(item))
    assert len(marks) == source(item).count("# same-as:"), "a mark stands right above its def"
    for original, name, copy in marks:
        _, checks = load(find(original))
        function_checks(checks)[name](getattr(lesson, copy))


@LESSONS
def test_breaks_something_and_sets_exercises(item):
    assert re.search(r"\*\*Break( it)?\.", source(item))
    assert re.search(r"\*\*Exercises?\.?\*\*", source(item))


def test_every_numbered_file_is_found_and_no_id_is_used_twice():
    ids = [item.id for item in items()]
    assert len(ids) == len(set(ids))
    numbered = [path for path in CHAPTERS.glob("[A-E]_*/*.*") if re.match(r"[A-E]\d", path.name)]
    assert len(numbered) == len(ids), "a numbered file has a name the catalog does not know"


def test_nothing_machine_specific_is_committed():
    """No absolute path of one machine in the ledgers."""
    for ledger in ROOT.glob("chapters/*/results/*.json"):
        assert not re.search(r'"/(home|root|Users|tmp)', ledger.read_text(encoding="utf-8")), ledger.name
