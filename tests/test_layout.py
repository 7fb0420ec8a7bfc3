"""Imports run one way: course, evidence, checks, lessons, then text, exact and envs, then utils."""

import ast
import functools
from pathlib import Path

import pytest

from chapters.course.catalog import CHAPTERS, ITEM, ROOT

BELOW = {"utils", "exact", "envs", "text", "rating", "diagnosis", "cluster"}
ALLOWED = {  # a room -> the rooms that it may import from, besides its own
    "utils": set(),
    "exact": {"utils"},
    "envs": {"utils"},
    "text": {"utils", "exact", "envs"},
    "rating": {"utils"},
    "diagnosis": {"utils"},
    "exercises": {"utils"},
    "cluster": {"utils"},
    "lesson": BELOW,
    "checks": BELOW | {"exercises", "lesson"},
    "evidence": BELOW | {"lesson", "checks"},
    "course": BELOW | {"exercises", "lesson", "checks", "evidence"},
}
ZOO = "chapters.E_practice.E3_bug_zoo"
"""The one lesson about other lessons: it breaks their learners by their own named edits."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in CHAPTERS.rglob("*.py")}


def room(module: str) -> str:
    """The room that a module belongs to: a folder of `chapters`, or its place in a chapter."""
    parts = module.split(".")
    if parts[1] in ALLOWED:
        return parts[1]
    return parts[2] if len(parts) > 2 and parts[2] in ALLOWED else "lesson"


def imports(module: str) -> set[str]:
    """Every module of the project that a module imports, wherever in the file and for whatever purpose."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("chapters."):
                found.add(name if name in MODULES else name.rpartition(".")[0])
    return {name for name in found if name in MODULES and name.count(".")} - {module}


@functools.cache  # not when tests are collected, which every worker does
def graph() -> dict[str, set[str]]:
    return {module: imports(module) for module in MODULES if module.count(".")}


@pytest.mark.parametrize("module", sorted(module for module in MODULES if module.count(".")))
def test_imports_run_one_way(module):
    own = room(module)
    for other in graph()[module]:
        theirs = room(other)
        if module == ZOO and theirs in ("lesson", "checks"):
            continue
        if own == theirs == "lesson":
            assert not ITEM.match(MODULES[other].name), f"{module} imports another lesson, {other}"
            continue
        assert own == theirs or theirs in ALLOWED[own], f"{module} ({own}) imports {other} ({theirs})"


def test_there_is_no_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, f"a circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module in done:
            return
        path.append(module)
        for other in sorted(graph().get(module, ())):
            if other != module.rpartition(".")[0]:  # a package that gathers its own modules is no circle
                visit(other)
        path.pop()
        done.add(module)

    for module in sorted(graph()):
        visit(module)


def test_utils_is_small_and_shared():
    """At most 1,500 lines, and no file that only one lesson (with its evidence and checks) imports."""
    files = list((CHAPTERS / "utils").glob("*.py"))
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 1500
    for path in files:
        module = module_name(path)
        if path.name == "__init__.py":
            continue
        users = {name for name, found in graph().items() if module in found}
        if module in graph()["chapters.utils"]:
            users |= {name for name, found in graph().items() if "chapters.utils" in found}
        owners = {MODULES[name].stem.split("_")[0] if room(name) != "utils" else "utils" for name in users}
        assert "utils" in owners or len(owners) > 1, f"{path.name} serves only {owners}"


def test_every_evidence_and_checks_file_belongs_to_a_lesson():
    for path in [*CHAPTERS.glob("*_*/evidence/*.py"), *CHAPTERS.glob("*_*/checks/*.py")]:
        if path.name != "__init__.py":
            lesson = path.stem.split("_")[0]
            assert list(path.parent.parent.glob(f"{lesson}_*.py")), f"{path.name}: no lesson {lesson}"


def test_tests_are_collected_without_xdist_too():
    """As `mutate.py` runs them: an unknown hook would stop pytest."""
    import conftest

    assert conftest.pytest_xdist_make_scheduler.pytest_impl["optionalhook"]
