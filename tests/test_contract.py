"""Every lesson has the form that CONTRIBUTING.md describes: the same things stand in the same place."""

import ast
import builtins
import dataclasses
import doctest
import importlib
import inspect
import io
import re

import jupytext
import pytest

from chapters.course.catalog import CHAPTERS, ROOT, find, items, lessons
from chapters.course.parts import checks_of, edits_of, evidence_of, exercises_of, function_checks
from chapters.utils.edits import edited

LESSONS = pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
HEADER = (
    r"^# {id} · ",
    r"\*\*Question\.\*\*",
    r"\*\*Before this:\*\*",
    r"\*\*Next:\*\*",
    r"\*\*Time\.\*\* (At most )?\d+ s on 2 cores(; with all evidence \d+ s)?\.",
    r"^References:",
    r"^Symbols:",
)
ENDING = (
    r"!\[[^\]]{20,}\]\(results/{id}\.png\)",
    r"\*\*The verdict\.\*\*",
    r"<!-- results: {id} -->",
    r"\*\*Break it\.\*\*",
    r"\*\*Exercises\.\*\*",
)
MAX_LINES, MAX_FUNCTION_LINES, MAX_NESTING = 400, 50, 2


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
    assert "<!-- results" not in item.text, (
        "the table stands at the end: the reader has not met the words yet"
    )


@LESSONS
def test_lesson_ends_with_look_verdict_results_break_and_exercises(item):
    positions = []
    for pattern in ENDING:
        found = re.search(pattern.replace("{id}", item.id), source(item))
        assert found, f"{item.id} lacks {pattern}"
        positions.append(found.start())
    assert positions[1:] == sorted(positions[1:])


@LESSONS
def test_worked_examples_come_out_as_written(item, monkeypatch):
    """Doctests in docstrings and in the text's python blocks, run in the lesson's own namespace."""
    lesson = importlib.import_module(item.module)
    notebook = jupytext.reads(source(item), fmt="py:percent")
    blocks = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    blocks = [block for text in blocks for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    tests = [parser.get_doctest(block, vars(lesson), item.id, str(item.path), 0) for block in blocks]
    tests += doctest.DocTestFinder().find(lesson, item.id, module=lesson)
    printed = io.StringIO()
    monkeypatch.setattr(
        builtins, "_", None, raising=False
    )  # doctest puts the last value there, for all who follow
    for test in tests:
        runner.run(test, out=printed.write, clear_globs=False)
    assert runner.tries, f"{item.id} has no worked example"
    assert not runner.failures, printed.getvalue()


@LESSONS
def test_exercises_have_an_answer_or_a_grader(item):
    """Two at least are graded; what is not graded has its answer."""
    exercises = exercises_of(item)
    assert f"<!-- exercises: {item.id} -->" in source(item)
    assert 2 <= len(exercises) <= 5
    graded = [name for one in exercises.values() for name in one.functions]
    graded += [name for name, one in exercises.items() if one.solution]
    assert len(graded) >= 2
    assert len(set(graded)) == len(graded)
    checks = function_checks(checks_of(item))
    for name, one in exercises.items():
        assert set(one.functions) <= set(checks), f"{item.id}.{name}: no check of the lesson grades it"
        if one.solution:
            assert one.solution.__name__ == name
            assert name not in checks, f"{item.id}.{name} is a function of the lesson"
            assert len(one.hints) == 3
            assert len(one.edits) >= 2
            assert all(edit.function == name for edit in one.edits.values())
            one.check(one.solution)
        else:
            assert one.functions or one.answer, f"{item.id}.{name} is neither graded nor answered"


def rejects(check, wrong) -> bool:
    try:
        check(wrong)
    except Exception:
        return True
    return False


@LESSONS
def test_the_check_of_an_exercise_rejects_its_mistakes(item):
    for name, one in exercises_of(item).items():
        for edit in one.edits.values():
            wrong = getattr(edited(inspect.getmodule(one.solution), edit), name)
            assert rejects(one.check, wrong), f"{item.id}.{name} passes although it {edit.says}"


@LESSONS
def test_what_a_lesson_says_can_be_broken_can_be(item):
    named = re.findall(rf"rl break {item.id} (\w+)", source(item))
    assert len(named) >= 2
    assert set(named) <= set(edits_of(item))


@LESSONS
def test_evidence_has_its_parts(item):
    evidence = evidence_of(item)
    if evidence is None:
        return
    assert list(inspect.signature(evidence.measure).parameters) == ["cfg", "extra", "log"]
    assert evidence.Config.__dataclass_params__.frozen
    own = {field.name for field in dataclasses.fields(evidence.Config)}
    assert set(evidence.SMOKE) <= own
    assert not own & {field.name for field in dataclasses.fields(importlib.import_module(item.module).Config)}
    for path in item.evidence.parent.glob(f"{item.id}*.py"):
        for function, _ in functions(ast.parse(path.read_text(encoding="utf-8"))):
            lines = function.end_lineno - function.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{path.name}: {function.name} has {lines} lines"


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


def test_only_c8_may_be_skipped_where_its_extra_is_missing():
    assert {item.id: item.extra for item in lessons() if item.extra} == {"C8": "scale"}
    assert [item.id for item in lessons() if item.lacks] in ([], ["C8"])


def written_lines(item) -> int:
    """Lines of a lesson without the generated ones."""
    text = re.sub(r"(?s)(<!-- (results|exercises): \w+ -->).*?(<!-- /\2 -->)", r"\1\n\3", source(item))
    return len(text.splitlines())


@LESSONS
def test_readable_in_one_scroll(item):
    assert written_lines(item) <= MAX_LINES
    for function, nesting in functions(ast.parse(source(item))):
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


COPIES = re.compile(r"# same-as: ([A-E]\d+)\.(\w+)\n(?:@.*\n)*(?:def|class) (\w+)")
COPYING = [path for path in CHAPTERS.rglob("*.py") if "# same-as: " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", COPYING, ids=lambda path: path.stem)
def test_copies_meet_the_check_of_their_original(path):
    """`# same-as: A3.bellman_backup` above a def: the original's check runs on the copy."""
    text = path.read_text(encoding="utf-8")
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    marks = COPIES.findall(text)
    assert len(marks) == text.count("# same-as: "), "a mark stands right above its def"
    for original, name, copy in marks:
        function_checks(checks_of(find(original)))[name](getattr(module, copy))


def test_every_numbered_file_is_found_and_no_id_is_used_twice():
    ids = [item.id for item in items()]
    assert len(ids) == len(set(ids))
    numbered = [path for path in CHAPTERS.glob("[A-E]_*/*.*") if re.match(r"[A-E]\d", path.name)]
    assert len(numbered) == len(ids), "a numbered file has a name the catalog does not know"


def test_nothing_machine_specific_is_committed():
    """No absolute path of one machine in the ledgers."""
    for ledger in ROOT.glob("chapters/*/results/*.json"):
        assert not re.search(r'"/(home|root|Users|tmp)', ledger.read_text(encoding="utf-8")), ledger.name
