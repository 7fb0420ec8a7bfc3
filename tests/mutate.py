"""Plant errors systematically and see which tests notice: `python tests/mutate.py --count 300 --seed 0`.

A mutant is one small error in one function: a comparison turned, a sign dropped, `min` for `max`, an index
off by one, a mean for a sum, another axis, arguments swapped, a statement such as `optimizer.step()` left
out. It is planted in a copy of the repository, and the tests that belong to the file run there until one
fails. Smoke runs, ledgers and fingerprints are left out: a fingerprint only says that a number moved, and
blesses it at the next recording. What runs is

* for a lesson: the checks of its functions, its worked examples, `tests/test_<ID>.py`;
* for its evidence: `tests/test_<ID>.py` and what `TESTS` adds;
* for the rest: the checks of the originals of its copies (`# same-as:`), and what `TESTS` names; or else,
  for `chapters/exact`, `tests/test_exact_<name>.py`, or else the tests that import it and those of the
  lessons that do, first the one that bears its name.

Functions that draw, that show, or that make claims are left out (`SKIPPED`): a claim's words, bound and
direction are compared with the ledger. That an edit no longer fits its lesson does not count as noticing.

Mutants are drawn evenly over the files, by `--seed`. `--only chapters/exact` keeps to paths that begin so;
`--list` only shows them. Results are kept in `runs/mutants.json`, so that an interrupted run goes on where it
was, and `--again` runs those anew that nothing noticed. One that nothing can notice, because it changes
nothing, stands in `mutants_accepted.toml` with its reason. A mutant costs some seconds, since torch, jax and
the other libraries are imported once: each mutant is tried in a fork of this process. After `--patience` CPU
seconds no further test begins, so that what slow tests alone would notice counts as unnoticed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import hashlib
import importlib
import inspect
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "runs" / "mutants.json"
ACCEPTED = ROOT / "tests" / "mutants_accepted.toml"
COPIED = (
    "chapters",
    "tests",
    "days",
    "planning",
    "benchmarks",
    ".cache",
    "pyproject.toml",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "requirements.txt",
    "setup.sh",
)
HEAVY = (
    "numpy",
    "scipy.stats",
    "scipy.optimize",
    "torch",
    "jax",
    "gymnasium",
    "matplotlib.pyplot",
    "transformers",
    "stable_baselines3",
    "trl",
    "datasets",
    "jaxtyping",
    "beartype",
    "jupytext",
    "pytest",
    "rich.table",
)

FILES = (
    "chapters/[A-E]_*/[A-E]*.py",
    "chapters/[A-E]_*/evidence/[A-E]*.py",
    "chapters/envs/*.py",
    "chapters/exact/*.py",
    "chapters/text/*.py",
    "chapters/utils/*.py",
    "chapters/course/*.py",
    "chapters/diagnosis/*.py",
)
LEFT_OUT = {  # files, or one function of a file
    "chapters/envs/maps.py": "draws",
    "chapters/envs/registration.py": "names only",
    "chapters/envs/visitors.py": "refuses what is not the course's",
    "chapters/text/charts.py": "draws",
    "chapters/text/models.py": "files and what may be loaded",
    "chapters/utils/files.py": "files",
    "chapters/utils/lesson.py": "the command line of a lesson",
    "chapters/utils/plotting.py": "draws",
    "chapters/utils/progress.py": "a progress bar",
    "chapters/utils/stopping.py": "signals",
    "chapters/utils/tracking.py": "trackers",
    "chapters/diagnosis/logs.py": "reads the files of other libraries",
    "chapters/diagnosis/pictures.py": "draws",
    "chapters/diagnosis/files.py": "finds and reads the files of other libraries",
    "chapters/text/recipes.py": "sizes of models",
    "chapters/E_practice/evidence/E3_foreign.py": "runs of other libraries, which rl diagnose then reads",
    "chapters/course/ledger.py:record": "runs of whole lessons in other processes",
    "chapters/course/ledger.py:restamp": "runs of whole lessons in other processes",
    "chapters/course/ledger.py:run_once": "runs of whole lessons in other processes",
    "chapters/course/ledger.py:run_process": "runs of whole lessons in other processes",
    "chapters/course/ledger.py:read_back": "runs of whole lessons in other processes",
    "chapters/course/ledger.py:smoke_fingerprint": "runs of whole lessons in other processes",
}
MEASURING = ("fresh", "goals", "ledger", "predictions", "progress", "rounding")
"""What of `course` claims rest on; the rest talks to the learner."""

TESTS = {
    "chapters/envs/agents.py": ("agents", "C3"),
    "chapters/envs/arithmetic.py": ("measuring", "D5"),
    "chapters/envs/bandits.py": ("B0",),
    "chapters/envs/blackjack.py": ("exact_blackjack", "B2"),
    "chapters/envs/cartpole.py": ("cartpole",),
    "chapters/envs/exploration.py": ("B4",),
    "chapters/envs/gridworld.py": ("A4", "envs"),
    "chapters/envs/jax_networks.py": ("jax_learners", "C4"),
    "chapters/envs/jax_worlds.py": ("jax_learners", "C4"),
    "chapters/envs/market.py": ("exact_market",),
    "chapters/envs/on_policy.py": ("measuring",),
    "chapters/envs/pendulum.py": ("pendulum",),
    "chapters/envs/probes.py": ("envs",),
    "chapters/envs/random_walk.py": ("exact_random_walk", "B2"),
    "chapters/envs/recommendation.py": ("B5", "exact_logged"),
    "chapters/envs/reviews.py": ("language_models", "measuring", "D3"),
    "chapters/envs/rewriter.py": ("rewriting", "measuring", "D6"),
    "chapters/envs/token_world.py": ("token_world", "measuring"),
    "chapters/envs/vector.py": ("measuring", "utils", "cartpole", "env_id"),
    "chapters/exact/kuhn.py": ("exact_kuhn",),
    "chapters/exact/preferences.py": ("exact_preferences", "D14"),
    "chapters/text/generation.py": ("measuring", "D2", "D4"),
    "chapters/text/grpo.py": ("measuring", "D5", "D15"),
    "chapters/text/pairs.py": ("measuring", "D4"),
    "chapters/text/ppo.py": ("measuring", "D2"),
    "chapters/text/preferences.py": ("measuring", "D3", "D6"),
    "chapters/text/recipes.py": ("language_models",),
    "chapters/text/rewriting.py": ("rewriting", "D6"),
    "chapters/text/tasks.py": ("measuring", "D5", "D2", "D15"),
    "chapters/utils/claims.py": ("utils",),
    "chapters/utils/edits.py": ("checks::TestEdits", "break"),
    "chapters/utils/evaluation.py": ("utils", "measuring"),
    "chapters/utils/networks.py": ("measuring", "C3"),
    "chapters/utils/optim.py": ("optim",),
    "chapters/utils/peers.py": ("D4",),
    "chapters/C_policy_gradients/evidence/C3_sb3.py": ("measuring", "C3"),
    "chapters/utils/runlog.py": ("utils", "measuring"),
    "chapters/utils/seeding.py": ("utils",),
    "chapters/utils/timing.py": ("utils", "D4"),
    "chapters/course/fresh.py": ("fresh",),
    "chapters/course/goals.py": ("goals",),
    "chapters/course/ledger.py": (
        "smoke::TestTheLedgerChecksThemselves",
        "smoke::TestAChangedClaimIsNoticed",
        "measuring",
        "rounding",
        "fresh",
        "damage",
    ),
    "chapters/course/predictions.py": ("predict",),
    "chapters/course/progress.py": ("measuring", "goals", "predict"),
    "chapters/course/rounding.py": ("rounding",),
    "chapters/C_policy_gradients/evidence/C3_stage.py": ("stage", "C3"),
    "chapters/diagnosis/names.py": ("foreign_logs", "E3"),
    "chapters/diagnosis/quantities.py": ("E3", "foreign_logs"),
    "chapters/diagnosis/rules.py": ("E3", "foreign_logs"),
}
"""File -> test modules, cheap ones first; those of lessons, evidence and `exact` go by name or by imports."""

SKIPPED = re.compile(r"_?(film|plot|show|render|picture|symbol|cells|report|colours|main|measure|summarise)")
"""Names of functions that draw or show, and of those that only call others and make claims."""
DRAWING = re.compile(r"draw")
"""The same, but not where envs draw cards or requests."""
QUIET = {"claim", "write", "figure", "print", "say", "warn", "set", "set_title", "keep", "getLogger"}
"""Calls inside which nothing is planted."""
SWAPPED = {
    "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "argmax": "argmin",
    "argmin": "argmax", "any": "all", "all": "any", "sum": "mean", "mean": "sum", "cumsum": "cumprod",
    "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like", "ones_like": "zeros_like",
    "floor": "ceil", "sin": "cos", "cos": "sin", "exp": "expm1", "log": "log1p", "sqrt": "abs",
    "softmax": "log_softmax", "median": "mean", "amax": "amin",
}  # fmt: skip
DROPPED = {"abs", "detach", "copy", "clone", "clip", "clamp", "reversed", "sorted", "square", "exp", "log"}
"""Calls that leave their object or first argument as it was, where they are dropped."""
COMPARED = {
    ast.Lt: ("<", ("<=", ">")), ast.LtE: ("<=", ("<", ">=")), ast.Gt: (">", (">=", "<")),
    ast.GtE: (">=", (">", "<=")), ast.Eq: ("==", ("!=",)), ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)), ast.IsNot: ("is not", ("is",)), ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}  # fmt: skip
COMPUTED = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.Pow: ("**", "*"),
    ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "//"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One planted error: what stands between two offsets of a file, and what replaces it."""

    path: str
    function: str
    line: int
    start: int
    end: int
    old: str
    new: str
    kind: str

    which: int = 1
    """The first, second ... of its kind in its function."""

    @property
    def key(self) -> str:
        """Names it for as long as its function stays as it is."""
        old, new = (" ".join(text.split())[:90] for text in (self.old, self.new))
        return f"{self.path}:{self.function}: {self.kind} {self.which}: {old} -> {new or '(nothing)'}"

    def planted(self, source: bytes) -> bytes:
        """The file with the error."""
        return source[: self.start] + self.new.encode() + source[self.end :]


class Planter(ast.NodeVisitor):
    """Finds the places of one function where an error fits."""

    def __init__(self, path: str, source: bytes, function: str) -> None:
        self.path, self.source, self.function = path, source, function
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.found: list[Mutant] = []

    def at(self, line: int, column: int) -> int:
        return self.lines[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()

    def plant(self, kind: str, where: ast.AST | tuple[int, int], new: str) -> None:
        start, end = where if isinstance(where, tuple) else self.span(where)
        old = self.source[start:end].decode()
        line = self.source[:start].count(b"\n") + 1
        if old != new:
            which = 1 + sum(mutant.kind == kind for mutant in self.found)
            self.found.append(Mutant(self.path, self.function, line, start, end, old, new, kind, which))

    def between(self, left: ast.AST, right: ast.AST, operator: str, new: str, kind: str) -> None:
        """Replace the operator that stands between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.source[start:end].decode()
        if (at := gap.find(operator)) >= 0 and gap.count(operator) == 1:
            begin = start + len(gap[:at].encode())
            self.plant(kind, (begin, begin + len(operator)), new)

    def body(self, node: ast.FunctionDef) -> None:
        for statement in node.body:
            self.visit(statement)

    # what nothing is planted in

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.body(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_Import(self, node: ast.Import) -> None:
        pass

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    # what is planted

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:]):
            written, others = COMPARED[type(operator)]
            for other in others:
                self.between(left, right, written, other, "comparison")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        words = isinstance(node.left, ast.JoinedStr) or isinstance(getattr(node.left, "value", None), str)
        if type(node.op) in COMPUTED and not words:
            self.between(node.left, node.right, *COMPUTED[type(node.op)], "arithmetic")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
            written, other = COMPUTED[type(node.op)]
            self.between(node.target, node.value, f"{written}=", f"{other}=", "arithmetic")
            self.between(node.target, node.value, f"{written}=", "=", "accumulation")
        self.visit(node.value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub | ast.Not | ast.Invert):
            if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
                self.plant("sign", node, self.text(node.operand))
                return
            self.plant("sign", node, f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        written, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:]):
            self.between(left, right, written, other, "and/or")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self.plant("condition", node.test, f"not ({self.text(node.test)})")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.plant("condition", node.test, f"not ({self.text(node.test)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.plant("constant", node, str(not value))
        elif isinstance(value, int):
            self.plant("constant", node, str({0: 1, 1: 0}.get(value, value + 1)))
        elif isinstance(value, float):
            self.plant("constant", node, repr({0.0: 1.0, 1.0: 0.0}.get(value, 2 * value)))

    def visit_Subscript(self, node: ast.Subscript) -> None:
        for part in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            self.index(part)
        self.visit(node.value)

    def index(self, part: ast.expr) -> None:
        """An index off by one; a bound of a slice forgotten."""
        if isinstance(part, ast.Slice):
            for bound in (part.lower, part.upper):
                if bound is not None:
                    self.plant("slice", bound, "")
                    self.visit(bound)
        elif isinstance(part, ast.UnaryOp) and isinstance(part.operand, ast.Constant):
            self.plant("index", part, "0")
        elif isinstance(part, ast.Constant) and isinstance(part.value, int):
            self.plant("index", part, str(part.value + 1))
        else:
            self.visit(part)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in QUIET:
            return
        end = self.span(node.func)[1]
        if name in SWAPPED:
            self.plant("function", (end - len(name), end), SWAPPED[name])
        if name in DROPPED:
            method = isinstance(node.func, ast.Attribute)
            owner = self.text(node.func.value) if method else ""
            if not method or owner in ("np", "torch", "jnp", "math", "copy"):
                if node.args:
                    self.plant("dropped call", node, f"({self.text(node.args[0])})")
            else:
                self.plant("dropped call", node, owner)
        for keyword in node.keywords:
            self.axis(keyword)
        plain = [part for part in node.args if isinstance(part, ast.Name | ast.Attribute)]
        if len(plain) >= 2 and name not in ("isinstance", "getattr"):
            first, second = plain[:2]
            start, stop = self.span(first)[0], self.span(second)[1]
            gap = self.source[self.span(first)[1] : self.span(second)[0]].decode()
            self.plant("arguments", (start, stop), f"{self.text(second)}{gap}{self.text(first)}")
        self.visit(node.func)
        for part in node.args:
            self.visit(part)

    def axis(self, keyword: ast.keyword) -> None:
        """Another axis; other numbers go the way of constants."""
        value = keyword.value
        if keyword.arg in ("axis", "dim"):
            if isinstance(value, ast.Constant) and value.value in (0, 1):
                self.plant("axis", value, str(1 - value.value))
            elif self.text(value) == "-1":
                self.plant("axis", value, "0")
        elif keyword.arg not in ("dtype", "unit", "source", "seeds", "bins"):
            self.visit(value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Call):
            return
        call = node.value.func
        name = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
        if name not in QUIET:
            self.plant("statement", node, "pass")
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self.plant("statement", node, "pass")
        self.generic_visit(node)


def makes_claims(node: ast.AST) -> bool:
    """Whether a function calls `log.claim`."""
    calls = (part.func for part in ast.walk(node) if isinstance(part, ast.Call))
    return any(isinstance(call, ast.Attribute) and call.attr == "claim" for call in calls)


def draws(node: ast.FunctionDef) -> bool:
    """Whether a function is given axes or returns a figure."""
    marks = [node.returns, *(part.annotation for part in node.args.args)]
    return any(mark is not None and ast.unparse(mark) in ("Axes", "Figure") for mark in marks)


def functions_of(path: str, tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """(dotted name, definition) of the functions and methods of a file that are not left out."""
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for part in inside:
            if not isinstance(part, ast.FunctionDef) or SKIPPED.match(part.name) or makes_claims(part):
                continue
            if f"{path}:{owner}{part.name}" in LEFT_OUT or draws(part):
                continue
            if not (
                DRAWING.match(part.name) and (re.match("chapters/[A-E]_", path) or "pendulum" in part.name)
            ):
                yield owner + part.name, part


def mutants_of(path: str) -> list[Mutant]:
    """Every error that fits into a file."""
    source = (ROOT / path).read_bytes()
    found = []
    for name, node in functions_of(path, ast.parse(source)):
        planter = Planter(path, source, name)
        planter.body(node)
        found += planter.found
    return found


def is_python(mutant: Mutant) -> bool:
    """Whether the file can still be read with the error in it."""
    try:
        ast.parse(mutant.planted((ROOT / mutant.path).read_bytes()))
    except SyntaxError:
        return False
    return True


def files(only: str) -> list[str]:
    """The files in which errors are planted."""
    paths = sorted(str(path.relative_to(ROOT)) for pattern in FILES for path in ROOT.glob(pattern))
    paths = [path for path in paths if path not in LEFT_OUT and not path.endswith(("__.py", "_figures.py"))]
    paths = [path for path in paths if "/course/" not in path or Path(path).stem in MEASURING]
    return [path for path in paths if path.startswith(only)]


def drawn(count: int, seed: int, only: str) -> list[Mutant]:
    """So many mutants, evenly over the files; which come first in a file hangs on seed and text alone."""

    def place(mutant: Mutant) -> str:
        return hashlib.sha256(f"{seed} {mutant.key}".encode()).hexdigest()

    piles = [sorted(mutants_of(path), key=place) for path in files(only)]
    chosen: list[Mutant] = []
    while any(piles) and len(chosen) < count:
        for pile in piles:
            while pile and not is_python(pile[-1]):
                pile.pop()
        chosen += [pile.pop() for pile in piles if pile][: count - len(chosen)]
    return chosen


class Noticed:
    """Remembers the first test that fails; runs quick tests first, and none any more when patience is out.

    That an edit no longer fits its lesson is no failure.
    """

    def __init__(self, note: Path, took: Path, patience: float) -> None:
        self.note, self.took, self.patience = note, took, patience
        self.known = json.loads(took.read_text()) if took.exists() else {}

    def pytest_collection_modifyitems(self, items: list) -> None:
        direct = [item for item in items if "mutants_direct" in item.nodeid]
        others = [item for item in items if "mutants_direct" not in item.nodeid]
        items[:] = [*direct, *sorted(others, key=self.seconds)]

    def seconds(self, item: Any) -> float:
        """How long a test took; one that has not run yet is taken for quick, if it is not marked as slow."""
        return self.known.get(item.nodeid, self.patience if item.get_closest_marker("slow") else 0.0)

    def pytest_exception_interact(self, node, call, report) -> None:
        if report.failed and not self.note.exists():
            name = node.nodeid or str(node.path)
            self.note.write_text(f"{name}\n{call.excinfo.exconly()[:300]}", encoding="utf-8")

    def pytest_runtest_makereport(self, item, call) -> None:
        if call.excinfo is not None and "EditError" in call.excinfo.typename:
            call.excinfo = None
        seconds = self.known.get(item.nodeid, 0.0) + call.duration * (call.when != "teardown")
        self.known[item.nodeid] = seconds if call.when == "call" else self.known.get(item.nodeid, 0.0)

    def pytest_runtest_protocol(self, item, nextitem) -> None:
        self.known[item.nodeid] = 0.0
        if time.process_time() > self.patience and not self.note.exists():
            item.session.shouldstop = "out of patience"

    def pytest_sessionfinish(self, session) -> None:
        self.took.write_text(json.dumps(self.known))


def take_over(mutant: Mutant, planted: bytes) -> None:
    """Give the imported function the code of the one in the text with the error: no import is made anew."""
    module = sys.modules.get(".".join(Path(mutant.path).with_suffix("").parts))
    if module is None:
        return
    new: Any = compile(planted, module.__file__, "exec", dont_inherit=True)
    old: Any = module
    for part in mutant.function.split("."):
        old = vars(old)[part]
        new = next(code for code in new.co_consts if getattr(code, "co_name", None) == part)
    function_of(old).__code__ = new


def function_of(thing: Any) -> Any:
    """The function as it was written, below decorators, properties and checks of shapes."""
    while not (inspect.isfunction(thing) and not hasattr(thing, "__wrapped__")):
        inner = [getattr(thing, name, None) for name in ("__wrapped__", "fget", "func", "__func__")]
        thing = next(found for found in inner if found is not None)
    return thing


IMPORT = re.compile(r"^ *from (chapters[\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)


@functools.cache
def imports(root: Path) -> dict[str, tuple[str, ...]]:
    """Module -> the test modules that import it, and those of the lessons that do."""
    found: dict[str, list[str]] = {}
    for pattern in ("tests/test_*.py", "chapters/[A-E]_*/[A-E]*.py", "chapters/[A-E]_*/*/[A-E]*.py"):
        for user in sorted(root.glob(pattern)):
            tests = user.parent.name == "tests"
            stem = user.stem.removeprefix("test_") if tests else user.stem.partition("_")[0]
            if not (root / f"tests/test_{stem}.py").exists():
                continue
            for module, names in IMPORT.findall(user.read_text(encoding="utf-8")):
                for name in (module, *(f"{module}.{part}" for part in re.findall(r"\w+", names))):
                    found.setdefault(name, []).append(stem)
    return {name: tuple(dict.fromkeys(stems)) for name, stems in found.items()}


def importing(path: str, root: Path = ROOT) -> tuple[str, ...]:
    """The tests of a file that `TESTS` does not name. Raises SystemExit if there are none.

    pytest, told to run nothing, would run everything.
    """
    if not (found := imports(root).get(".".join(Path(path).with_suffix("").parts), ())):
        raise SystemExit(f"{path}: no test and no lesson imports it; name its tests in TESTS")
    return found


class Room:
    """A copy of the repository in which errors are planted, one at a time."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        nothing = shutil.ignore_patterns("__pycache__", "*.pyc", "*.gif")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.folder / name, ignore=nothing)
            elif (ROOT / name).exists():
                shutil.copy2(ROOT / name, self.folder / name)
        (self.folder / ".venv").symlink_to(ROOT / ".venv")
        self.passing: dict[tuple[str, str], bool] = {}
        self.failing: list[str] = []
        self.planted = 0

    def enter(self, path: str) -> None:
        """Once in the process that tries a file's mutants: imports what its tests import."""
        os.chdir(self.folder)
        os.environ.update(
            RL_MUTATED=path,
            PYTHONPATH=str(self.folder),
            TMPDIR=str(self.folder / "tmp"),
            RL_CACHE=str(self.folder / ".cache"),
        )
        kept = [entry for entry in sys.path if Path(entry) not in (ROOT, ROOT / "tests")]
        sys.path[:] = [str(self.folder), *kept]
        code, _, _ = self.run(path, ["--collect-only", *self.tests_of(path)], here=True)
        if code:
            raise SystemExit(f"the tests of {path} cannot be imported: see {self.folder}/out.txt")

    def run(
        self, path: str, tests: list[str], limit: int = 60, mutant: Mutant | None = None, here: bool = False
    ) -> tuple[int, str, float]:
        """(exit code of pytest, the first failure, CPU seconds) of some tests; in a fork, if not `here`."""
        note = self.folder / "noticed.txt"
        note.unlink(missing_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        tempfile.tempdir = None
        if here:
            return self._pytest(tests, note), "", 0.0
        start = time.monotonic()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 3
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
                if mutant:
                    take_over(mutant, (self.folder / path).read_bytes())
                code = self._pytest(tests, note)
            finally:
                os._exit(code)
        while True:
            done, status, usage = os.wait4(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() - start > 30 * limit:  # it waits for something that never comes
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(status)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        hangs = "hangs" if code in (-signal.SIGXCPU, -signal.SIGKILL) else ""
        told = note.read_text(encoding="utf-8") if note.exists() else hangs
        return code, told, usage.ru_utime + usage.ru_stime

    def _pytest(self, tests: list[str], note: Path) -> int:
        """pytest's exit code, what it prints in a file; 0 also if it ran out of patience."""
        import pytest

        kept = [os.dup(1), os.dup(2)]
        out = os.open(self.folder / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        plugin = Noticed(note, self.folder / "took.json", self.patience)
        flags = ["-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "--tb=short"]
        flags += [f"--deselect={name}" for name in self.failing]
        try:
            code = int(pytest.main([*flags, *tests], plugins=[plugin]))
        finally:
            sys.stdout.flush()
            os.dup2(kept[0], 1), os.dup2(kept[1], 2)
        return 0 if code == 2 and not note.exists() else code

    def tests_of(self, path: str) -> list[str]:
        """What pytest is told to run for a file."""
        stem = Path(path).stem
        lesson = re.match(r"([A-E]\d+)_", f"{stem}_")
        exact = (f"exact_{stem}",) if path.startswith("chapters/exact/") else ()
        named = TESTS.get(path, (lesson[1], "measuring") if lesson else exact)
        if not any((self.folder / f"tests/test_{name.partition('::')[0]}.py").exists() for name in named):
            # those that bear its name first: after so many seconds no further one begins
            named = sorted(importing(path, self.folder), key=lambda name: name != stem)
        pairs = [name.partition("::") for name in named]
        tests = [f"tests/test_{stem}.py{mark}{rest}" for stem, mark, rest in pairs]
        tests = [test for test in tests if (self.folder / test.partition("::")[0]).exists()]
        direct = (
            "[A-E]_" in path or re.match(r"chapters/[A-E]_\w+/[A-E]", path) or "same-as" in self.text(path)
        )
        return ["tests/mutants_direct.py", *tests] if direct else tests

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def passes(self, path: str, test: str) -> bool:
        """Whether a test passes on the right code, or the right code comes to its end in time."""
        if (path, test) not in self.passing:
            tests = self.tests_of(path) if test == "hangs" else [test]
            self.passing[path, test] = self.run(path, tests)[0] == 0
        return self.passing[path, test]

    def verdict(self, mutant: Mutant) -> dict:
        """Whether a test notices, which, and how many CPU seconds it took."""
        place = self.folder / mutant.path
        right, times = place.read_bytes(), (place.stat().st_atime_ns, place.stat().st_mtime_ns)
        if right[mutant.start : mutant.end].decode(errors="replace") != mutant.old:
            raise SystemExit(f"{mutant.path} was edited meanwhile: start again")
        while True:
            self.planted += 1
            try:
                place.write_bytes(mutant.planted(right))  # for what reads it, such as an edit of the lesson
                os.utime(place, (self.planted, self.planted))  # so that no compiled file is taken for it
                code, told, took = self.run(mutant.path, self.tests_of(mutant.path), mutant=mutant)
            finally:
                place.write_bytes(right)
                os.utime(place, ns=times)
            by, _, why = told.partition("\n")
            if not code or self.passes(mutant.path, by):
                return {"caught": code != 0, "by": by, "why": why, "seconds": round(took, 1)}
            if "::" not in by:
                said = (self.folder / "out.txt").read_text(encoding="utf-8", errors="replace")
                raise SystemExit(f"on the right code fails {by}:\n{said[-3000:]}")
            print(f"[left out, as it fails on the right code: {by}]", flush=True)
            self.failing.append(by)


AREAS = ("exact", "utils", "envs", "text", "lessons", "evidence", "course")
"""What a summary counts together; the quickest first."""


def area(path: str) -> str:
    """What a summary counts together."""
    if re.match(r"chapters/[A-E]_", path):
        return "evidence" if "/evidence/" in path else "lessons"
    folder = path.split("/")[1]
    return "course" if folder == "diagnosis" else folder


def accepted() -> dict[str, str]:
    """Mutants that nothing can notice, or that nobody need notice, with the reason."""
    if not ACCEPTED.exists():
        return {}
    return {entry["mutant"]: entry["reason"] for entry in tomllib.loads(ACCEPTED.read_text())["accepted"]}


def counts(results: dict[str, dict], chosen: list[Mutant]) -> dict[str, tuple[int, int, int]]:
    """Area -> (planted, caught, accepted of those that nothing caught)."""
    known = accepted()
    found = {}
    for where in AREAS:
        keys = [mutant.key for mutant in chosen if area(mutant.path) == where and mutant.key in results]
        if keys:
            caught = [key for key in keys if results[key]["caught"]]
            found[where] = len(keys), len(caught), sum(key in known for key in keys if key not in caught)
    return found


def summary(results: dict[str, dict], chosen: list[Mutant]) -> str:
    """Those that nothing noticed, and how many were caught."""
    known = accepted()
    lines = [
        f"{'accepted' if mutant.key in known else 'SURVIVED'} {mutant.key}"
        for mutant in chosen
        if mutant.key in results and not results[mutant.key]["caught"]
    ]
    return "\n".join([*lines, table(results, chosen)])


def table(results: dict[str, dict], chosen: list[Mutant]) -> str:
    """The counts as CONTRIBUTING.md shows them."""
    found = counts(results, chosen)
    rows = ["| errors planted in | planted | caught | caught, % | accepted |", "|---|---|---|---|---|"]
    rows += [
        f"| {name} | {n} | {c} | {c / n:.0%} | {a} |".replace("%", "") for name, (n, c, a) in found.items()
    ]
    planted, caught, equal = (sum(column) for column in zip(*found.values())) if found else (0, 0, 0)
    share = f"{100 * caught / max(1, planted):.0f}"
    return "\n".join([*rows, f"| all | {planted} | {caught} | {share} | {equal} |"])


def publish(text: str) -> None:
    """Write the table between the marks in CONTRIBUTING.md."""
    place = ROOT / "CONTRIBUTING.md"
    marks = re.compile(r"(<!-- mutants -->\n).*?(<!-- /mutants -->)", re.DOTALL)
    page = marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", place.read_text(encoding="utf-8"))
    place.write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="chapters/", help="files whose path begins so")
    parser.add_argument("--again", action="store_true", help="run those anew that nothing noticed")
    parser.add_argument("--patience", type=float, default=20.0, help="CPU seconds after which no test begins")
    parser.add_argument("--list", action="store_true", help="only show the mutants")
    parser.add_argument("--summary", action="store_true", help="only tell what is known")
    parser.add_argument("--publish", action="store_true", help="write what is known into CONTRIBUTING.md")
    options = parser.parse_args()
    chosen = drawn(options.count, options.seed, options.only)
    chosen.sort(key=lambda mutant: (AREAS.index(area(mutant.path)), mutant.path))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.publish:
        left = sum(mutant.key not in results for mutant in chosen)
        if left:
            parser.error(f"{left} of {len(chosen)} were not tried yet: first run it without --publish")
        publish(table(results, chosen))
    if options.list:
        print("\n".join(mutant.key for mutant in chosen))
        return
    if not (options.summary or options.publish):
        todo = [m for m in chosen if m.key not in results or (options.again and not results[m.key]["caught"])]
        try_all(todo, results, options.patience)
    print(summary(results, chosen))


def try_all(todo: list[Mutant], results: dict[str, dict], patience: float) -> None:
    """Plant each, and keep what came of it."""
    os.environ.update(
        HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", JAX_PLATFORMS="cpu", MPLBACKEND="Agg"
    )
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "tests"]
    for name in HEAVY:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    room = Room(patience)
    RESULTS.parent.mkdir(exist_ok=True)
    number = 0
    try:
        for path in dict.fromkeys(mutant.path for mutant in todo):
            here = [mutant for mutant in todo if mutant.path == path]
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                try_file(room, here, f"{number} of {len(todo)} and", results)
            os.waitpid(child, 0)
            number += len(here)
            results.update(json.loads(RESULTS.read_text()))
    finally:
        shutil.rmtree(room.folder, ignore_errors=True)


def try_file(room: Room, mutants: list[Mutant], before: str, results: dict[str, dict]) -> None:
    """Plant errors in one file, in a process of its own; never returns."""
    try:
        room.enter(mutants[0].path)
        for number, mutant in enumerate(mutants, 1):
            found = room.verdict(mutant)
            results[mutant.key] = found
            RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False))
            word = f"caught by {found['by']}" if found["caught"] else "SURVIVED"
            print(f"{before} {number} {mutant.key} | {word} ({found['seconds']} s)", flush=True)
    except (Exception, SystemExit) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
