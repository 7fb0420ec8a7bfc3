"""Grading a learner's functions: passed, failed, or not begun, and what a mistake looks like.

The check of the lesson, or of the exercise beyond it, decides. For a failure the grader shows the smallest
input on which the learner's version and the right one differ, and looks through the named edits of the right
one: an edit that answers alike on every input of the check is named by its line, "looks like: bootstraps
through a terminal state".
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import inspect
import sys
import time
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chapters.course.catalog import Item
from chapters.course.parts import Task, exercises_of, lesson_of, tasks_of
from chapters.course.spying import (
    Call,
    OverTime,
    Paper,
    alike,
    as_array,
    as_exceptions,
    first_difference,
    is_numeric,
    is_tensor,
    replay,
    same_answer,
    shown,
    spied,
    wanting_gradients,
    with_gradient,
    within,
)
from chapters.course.worked import by_hand, words_of
from chapters.utils.lesson import UsageError

SECONDS = 10.0  # a check of a right function takes well under a second
REPLAY_SECONDS = 3.0


@dataclass
class Grade:
    """What is said of one function."""

    function: str
    state: str
    """passed, failed, or not begun."""
    seconds: float = 0.0
    said: str = ""
    """Why it failed, in one line."""
    example: dict[str, str] = field(default_factory=dict)
    """The smallest input that shows the difference: inputs, expected, found, index."""
    by_hand: dict[str, str] = field(default_factory=dict)
    """The lesson's worked example, if it comes out otherwise: asked, expected, found."""
    looks_like: list[str] = field(default_factory=list)
    """Lines of the named edits that answer alike."""
    inputs: int = 0
    """On how many inputs they do."""
    remarks: list[str] = field(default_factory=list)
    """What is not wrong and yet worth saying: it prints, it names its arguments otherwise."""


def graded(item: Item, source: str, name: str = "", file: str = "your file") -> list[Grade]:
    """Grade every function of a lesson's exercises, or those that `name` stands for, in a learner's text.

    Each is judged by itself: what else it calls of the exercises is the right one, so that a mistake in one
    function is not looked for in another.

    Raises UsageError if the text is no Python or stops when it is run, or if there is no such function.
    """
    tasks = tasks_for(item, name)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # more wait for each other on a busy machine, and all count against SECONDS
    defined = last_definitions(parsed(source, file))
    begun = {function for function, node in defined.items() if not is_stub(node)}
    executed(item, source, begun & set(tasks), file)  # a file that stops is told whatever is begun
    own = {
        function: getattr(executed(item, source, {function}, file), function, None)
        for function in tasks
        if function in begun
    }
    strangers = [other for other in defined if other not in tasks_of(item)]
    return [
        grade_one(task, own[function], getattr(own[function], "__globals__", {}))
        if own.get(function) is not None
        else Grade(function, "not begun", said=instead(task, defined, strangers))
        for function, task in tasks.items()
    ]


def tasks_for(item: Item, name: str) -> dict[str, Task]:
    """The functions that a name stands for: one of them, an exercise by name or number, or "" for all.

    Raises UsageError if there is nothing of that name to write.
    """
    tasks, exercises = tasks_of(item), exercises_of(item)
    if not name:
        return tasks
    if name.isdecimal() and 1 <= int(name) <= len(exercises):
        name = list(exercises)[int(name) - 1]
    if name in tasks:
        return {name: tasks[name]}
    if name in exercises and not (exercises[name].functions or exercises[name].solution):
        raise UsageError(
            f"{item.id}.{name} is a question: there is nothing to write (rl solution answers it)"
        )
    if name in exercises:
        solution = exercises[name].solution
        return {
            one: tasks[one]
            for one in (*exercises[name].functions, *([solution.__name__] if solution else []))
        }
    there = dict.fromkeys([*tasks, *exercises, "bug"])
    raise UsageError(f"{item.id} has no exercise {name!r} (there are: {', '.join(there)})")


def text_of(path: Path) -> str:
    """A learner's file. Raises UsageError if it cannot be read."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: not a file (`rl exercise` writes one into practice/)")
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file (`rl exercise` writes one into practice/)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def last_saved(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
WIDTH = 100
"""Letters of a line of source that are shown."""
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
BLOCKS = (ast.If, ast.Try, ast.With)


class NoPython(UsageError):
    """A learner's file that is no Python: a line of its own, and below it the source line with a caret."""

    __str__ = Exception.__str__


def parsed(source: str, file: str) -> ast.Module:
    """The syntax tree of a learner's file. Raises NoPython with line and reason."""
    try:
        return ast.parse(source, file)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise NoPython(f"{file}{line}: is no Python ({error.msg})" + pointed_at(error)) from None
    except ValueError as error:
        raise UsageError(f"{file}: is no Python ({error})") from None
    except (MemoryError, RecursionError):
        raise UsageError(f"{file}: is nested too deep for Python") from None


def pointed_at(error: SyntaxError) -> str:
    """The source line of a syntax error, and a caret below its place; "" if they are not known."""
    if not (error.text and error.text.strip() and error.offset):
        return ""
    line = error.text.rstrip()
    place = min(max(error.offset - 1, 0), len(line))
    begin = max(0, place - WIDTH // 2)  # of a long line the part about its place
    line, place = line[begin : begin + WIDTH], place - begin
    before = "".join("\t" if letter == "\t" else " " for letter in line[:place])
    return f"\n    {line}\n    {before}^"


def last_definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    """What each name of a file stands for at its end: a later stub replaces an earlier body, as in Python."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, DEFINITIONS):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {ast.unparse(target): node for target in node.targets}
        elif isinstance(node, BLOCKS):
            parts = [*node.body, *getattr(node, "orelse", []), *getattr(node, "finalbody", [])]
            found |= last_definitions(ast.Module(parts, []))
    return found


def instead(task: Task, defined: dict[str, ast.stmt], strangers: list[str]) -> str:
    """A line about what stands in a file in place of a function that is not begun, if it is worth one."""
    if task.name not in defined:
        return misnamed(task.name, strangers)
    return no_function(task) if isinstance(defined[task.name], ast.ClassDef) and not task.is_class else ""


def no_function(task: Task) -> str:
    """A line about a class of a function's name."""
    return f"{task.name} is a class in this file, a function is asked for: def {task.name}(...)"


def misnamed(function: str, strangers: list[str]) -> str:
    """A line, if a function that no exercise asks for has a similar name."""
    close = difflib.get_close_matches(function, strangers, 1, 0.6) or [n for n in strangers if function in n]
    return f"there is no {function!r} in this file, but {close[0]!r}" if close else ""


def is_stub(node: ast.stmt) -> bool:
    """Whether a learner has not begun a body: whatever he left in the place of it does nothing.

    It recognises what learners leave, whatever their habit; the course itself leaves nothing unwritten.
    """
    if isinstance(node, ast.ClassDef):
        return all(is_stub(part) for part in node.body)
    if isinstance(node, FUNCTIONS):
        return all(is_stub(part) for part in node.body)
    if isinstance(node, ast.Raise):
        return "NotImplementedError" in ast.unparse(node)
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def executed(item: Item, source: str, names: set[str], file: str) -> types.ModuleType:
    """The learner's file, run among the lesson's names; of the exercises only `names` are the learner's own.

    Raises UsageError if it stops.
    """
    lesson = lesson_of(item)
    right = {name: task.right for name, task in tasks_of(item).items()}
    module = types.ModuleType(lesson.__name__)
    for home in {id(task.home): task.home for task in tasks_of(item).values() if task.exercise}.values():
        module.__dict__.update({key: value for key, value in vars(home).items() if not key.startswith("__")})
    module.__dict__.update({key: value for key, value in (vars(lesson) | right).items() if key not in names})
    module.__dict__["__name__"] = lesson.__name__
    run_in(module, source, file)
    module.__dict__.update({name: one for name, one in right.items() if name not in names})
    return module


def run_in(module: types.ModuleType, source: str, file: str) -> None:
    """Run a learner's file among the names of a module; a stub takes the place of nothing that is there.

    Raises UsageError if it stops.
    """
    stubs = [name for name, node in last_definitions(ast.parse(source)).items() if is_stub(node)]
    own = {name: vars(module)[name] for name in stubs if name in vars(module)}
    try:
        with contextlib.redirect_stdout(Paper()), within(SECONDS), as_exceptions():
            exec(compile(source, file, "exec"), module.__dict__)
    except OverTime:
        raise UsageError(f"{file}: does not end within {SECONDS:.0f} s") from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"{file}{line_of(error, file)}: stops with {in_words(error)}") from None
    module.__dict__.update(own)


def grade_one(task: Task, own: Callable, names: dict | None = None) -> Grade:
    """Put one function to its check, and compare what kind of thing it answers with the right one.

    `names` are those of the learner's file, for the worked example.
    """
    name = task.name
    if not callable(own):
        return Grade(name, "failed", said=f"{name} is a {type(own).__name__}, no function")
    if inspect.isclass(own) and not task.is_class:
        return Grade(name, "failed", said=no_function(task))
    spy, calls = spied(own)
    printed = Paper()
    start = time.monotonic()
    error: BaseException | None = None
    try:
        with contextlib.redirect_stdout(printed), within(SECONDS), as_exceptions():
            task.check(spy)
    except (Exception, SystemExit, OverTime) as raised:
        error = raised
    grade = Grade(name, "failed" if error else "passed", round(time.monotonic() - start, 3))
    grade.remarks += remarks(task, own, calls, printed.getvalue())
    if isinstance(error, OverTime):
        where = line_in(own, error)
        grade.said = f"does not end within {SECONDS:g} s{where}: is there a loop that never stops?"
        return grade
    with contextlib.redirect_stdout(Paper()):
        explain(grade, task, own, calls, error)
        if grade.state == "failed":
            grade.by_hand = by_hand(task, own, names or {})
    if changed := spoilt(task, own, calls):  # most likely the cause of all else
        grade.state = "failed"
        grade.said = ": ".join(filter(None, [f"it changes its argument {changed!r} in place", grade.said]))
    return grade


def spoilt(task: Task, own: Callable, calls: list[Call]) -> str:
    """The argument that a learner's function changes in place and the right one leaves as it is, or ""."""
    changed = changed_argument(own, calls)
    if changed and changed == changed_argument(task.right, inputs_of(task.item, task.name)):
        return ""
    return changed


def remarks(task: Task, own: Callable, calls: list[Call], printed: str) -> list[str]:
    """What is no mistake by itself and yet worth saying."""
    found = []
    if printed:
        found.append("it prints: a function of the course says nothing")
    names = [list(inspect.signature(one).parameters) for one in (own, task.right)]
    if calls and names[0] != names[1]:
        found.append(f"the lesson calls its arguments {', '.join(names[1])}: who names them needs the same")
    return found


def explain(grade: Grade, task: Task, own: Callable, calls: list[Call], error: BaseException | None) -> None:
    """Fill in why, by which input, and what it looks like; an answer of another kind fails after all.

    The inputs are those on which the check calls the right function: a check of a wrong one stops at
    the first that differs, and one input alone may look like several mistakes.
    """
    expected = inputs_of(task.item, task.name)
    try:
        with within(SECONDS):
            answers = list(replay(own, expected))
    except (OverTime, SystemExit):
        answers = []
    pairs = [(mine, theirs) for mine, theirs in zip(answers, expected) if not same_answer(mine, theirs)]
    if error is None:
        pairs = other_kinds(task, own, answers, expected)
        if not pairs:
            return
        grade.state = "failed"
    said = words_of(error) if error else ""
    if isinstance(error, SystemExit):
        said = f"stops with {in_words(error)}{line_in(own, error)}"
    if said.startswith(("Not equal to tolerance", "assert")) or (pairs and said.startswith("Tensor-likes")):
        said = ""
    grade.said = said or ("a value differs from the definition" if pairs else "the check refuses it")
    stopped = error if any(call.error is error for call in calls if call.error) else None
    if pairs:
        mine, theirs = min(pairs, key=lambda pair: (only_slopes_differ(*pair), pair[0].size))
        grade.example = example(own, mine, theirs)
        stopped = stopped or (None if theirs.error else mine.error)
    if stopped:
        grade.said = f"stops with {in_words(stopped)}{line_in(own, stopped)}"
    elif pairs:
        if only_slopes_differ(mine, theirs):
            grade.said = said or "the value is right, its gradient is not"
        grade.said = other_kind(mine, theirs) or grade.said
    grade.looks_like = named_mistakes(task, answers, expected, in_words(error))
    grade.inputs = len(answers)


def other_kinds(
    task: Task, own: Callable, answers: list[Call], expected: list[Call]
) -> list[tuple[Call, Call]]:
    """Pairs of calls whose answers are of another kind, also when every argument asks for a gradient.

    None is wanted of a function that answers constants, nor where the right answer is 0.
    """
    wanted = [] if task.constant else expected
    asking = [Call(wanting_gradients(call.arguments), call.arguments) for call in wanted]
    try:
        with within(SECONDS):
            again = [
                pair for pair in zip(replay(own, asking), replay(task.right, asking)) if not zero(pair[1])
            ]
    except OverTime:
        again = []
    return [pair for pair in (*zip(answers, expected), *again) if other_kind(*pair)]


def zero(call: Call) -> bool:
    """Whether nothing but 0 was answered."""
    return is_numeric(call.answer) and not as_array(call.answer).any()


@functools.cache
def inputs_of(item: Item, name: str) -> list[Call]:
    """What the check asks of the right function, and its answers; nothing for a class."""
    task = tasks_of(item)[name]
    spy, calls = spied(task.right)
    task.check(spy)
    return list(replay(task.right, calls))


@functools.cache
def memory_of(item: Item, name: str, edit: str) -> tuple[Callable, list[Call]]:
    """A version with a named mistake, and its answers so far to the inputs of the check, in order."""
    task = tasks_of(item)[name]
    return task.wrong(task.edits[edit]), []


def answers_alike(task: Task, edit: str, calls: list[Call], right: list[Call]) -> bool:
    """Whether a version with this mistake answers as the learner's does on every input.

    It is asked no further than to the first that differs. One that no input tells from the right version
    explains nothing, unless its mistake is that it changes an argument, and the learner's changes the same.
    """
    wrong, answers = memory_of(task.item, task.name, edit)
    try:
        with within(REPLAY_SECONDS):
            for number, mine in enumerate(calls):
                if number == len(answers):
                    answers += replay(wrong, right[number : number + 1])
                if not same_answer(answers[number], mine):
                    return False
    except OverTime:  # the mistake of this edit is that it does not end
        return False
    if not all(map(same_answer, calls, right)):
        return True
    changed = changed_argument(wrong, answers)
    return bool(changed) and changed_argument(wrong, calls) == changed


def refusal(task: Task, wrong: Callable) -> str:
    """What the check says of a wrong version."""
    try:
        with within(REPLAY_SECONDS):
            task.check(wrong)
    except OverTime:
        return ""
    except (Exception, SystemExit) as error:
        return in_words(error)
    return ""


def named_mistakes(task: Task, calls: list[Call], right: list[Call], said: str) -> list[str]:
    """The lines of the edits that answer as the learner's does, on every input."""
    found = []
    for name, edit in task.edits.items():
        if not calls:  # of a class no calls are known, but what the check says of it
            if refusal(task, task.wrong(edit)) == said:
                found.append(edit.says)
        elif answers_alike(task, name, calls, right):
            found.append(edit.says)
    return found


def example(own: Callable, mine: Call, theirs: Call) -> dict[str, str]:
    """Inputs, expected and found of one call."""
    shown_inputs = ", ".join(f"{name} = {shown(value)}" for name, value in named_arguments(own, mine))
    found = {
        "inputs": shown_inputs,
        "expected": in_words(theirs.error) if theirs.error else shown(theirs.answer),
        "found": in_words(mine.error) if mine.error else shown(mine.answer),
    }
    if theirs.answer is None and mine.answer is None and not (theirs.error or mine.error):
        return found | left_otherwise(own, mine, theirs)
    if only_slopes_differ(mine, theirs):
        return found | slope_otherwise(mine, theirs)
    index = None if mine.error or theirs.error else first_difference(mine.answer, theirs.answer)
    if index:
        right, wrong = (shown(as_array(call.answer)[index]) for call in (theirs, mine))
        there = [
            f"{name} {shown(as_array(value)[index])}"
            for name, value in named_arguments(own, mine)
            if is_numeric(value) and as_array(value).shape == as_array(mine.answer).shape
        ]
        at = f" ({', '.join(there)})" if there else ""
        found["index"] = f"{list(index)}: {right} expected, {wrong} found{at}"
    return found


def only_slopes_differ(mine: Call, theirs: Call) -> bool:
    """Whether two calls answer the same and differ in the gradient alone."""
    if mine.error or theirs.error or not alike(mine.answer, theirs.answer):
        return False
    return not alike(mine.slopes, theirs.slopes)


def slope_otherwise(mine: Call, theirs: Call) -> dict[str, str]:
    """Expected and found where two calls have another slope: the first number of it that differs."""
    for right, wrong in zip(theirs.slopes, mine.slopes):
        if not alike(right, wrong):
            index = first_difference(right, wrong) or ()
            ends = {"expected": (theirs.answer, right), "found": (mine.answer, wrong)}
            return {
                what: f"{shown(answer)}, with slope {shown(as_array(slope)[index])}"
                for what, (answer, slope) in ends.items()
            }
    return {}


def left_otherwise(own: Callable, mine: Call, theirs: Call) -> dict[str, str]:
    """Expected and found of the first argument that two calls left differently; of a network, its weights."""
    ends = [named_arguments(own, Call(call.left, call.left)) for call in (theirs, mine)]
    for (name, right), (_, wrong) in zip(*ends):
        parts = {name: (right, wrong)}
        if hasattr(right, "state_dict"):
            weights = wrong.state_dict()
            parts = {f"{name}.{key}": (value, weights[key]) for key, value in right.state_dict().items()}
        for part, (one, other) in parts.items():
            if not alike(one, other):
                return {"expected": f"{part} {shown(one)}", "found": f"{part} {shown(other)}"}
    return {}


def other_kind(mine: Call, theirs: Call) -> str:
    """A line about type, shape or gradient, if the answers differ in that."""
    if mine.error or theirs.error:
        return ""
    one, other = mine.answer, theirs.answer
    if one is None and other is not None:
        return "returns nothing: is a `return` missing?"
    shape = getattr(other, "shape", None)
    if shape is None:
        return ""
    if isinstance(one, (list, tuple)) or (shape and is_tensor(other) and not is_tensor(one)):
        return f"returns a {type(one).__name__}, expected one {type(other).__name__} of shape {list(shape)}"
    if tuple(getattr(one, "shape", ())) != tuple(shape):
        return f"returns shape {list(getattr(one, 'shape', ()))}, expected {list(shape)}"
    if with_gradient(other) and not with_gradient(one):
        return "returns a constant: no gradient flows"
    if with_gradient(one) and not with_gradient(other):
        return "should return a constant: a gradient flows through it"
    return ""


def changed_argument(own: Callable, calls: list[Call]) -> str:
    """The name of numbers that a call left different from how they came; networks, generators may change."""
    for call in calls:
        came = dict(named_arguments(own, call))
        for name, value in named_arguments(own, Call(call.left, call.left)):
            if (hasattr(value, "shape") or type(value) in (list, dict)) and not alike(came[name], value):
                return name
    return ""


def named_arguments(own: Callable, call: Call) -> list[tuple[str, object]]:
    """(name, value) of each argument, in order."""
    args, kwargs = call.arguments
    try:
        bound = inspect.signature(own).bind(*args, **kwargs)
        return list(bound.arguments.items())
    except (TypeError, ValueError):
        return [(f"argument {number}", value) for number, value in enumerate(args)] + list(kwargs.items())


def in_words(error: BaseException | None) -> str:
    """An exception in one line."""
    text = words_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def line_of(error: BaseException, file: str) -> str:
    """`, line 12` of the learner's file, if the error came from it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""


def line_in(own: Callable, error: BaseException | None) -> str:
    """The line of the learner's function that the error came from."""
    if error is None or not hasattr(own, "__code__"):
        return ""
    return line_of(error, own.__code__.co_filename)
