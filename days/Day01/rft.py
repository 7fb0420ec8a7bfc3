"""Files and graders of a reinforcement fine-tuning job, in the service's own format, checked and run here.

The training and validation files are JSON lines: `messages` that end with a user message, and beside them the fields that
a grader may refer to. A grader is a JSON object; `grade` runs it on this machine as the service would, so that a
grader can be tried on a thousand answers before one of them costs anything.
"""

from __future__ import annotations

import ast
import copy
import difflib
import json
import math
import operator
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from chapters.envs import arithmetic
from chapters.utils.files import write_atomic

HERE = Path(__file__).resolve().parent
DATA, GRADERS, SCHEMAS = HERE / "data", HERE / "graders", HERE / "schemas"
INSTRUCTION = "Add the two numbers. Write the digits of the sum in reverse order, the last one first, and nothing else."
NUM_TRAINING, NUM_VALIDATION = 200, 60


class FormatError(Exception):
    """A file or grader that the service would refuse; the message is one line with file and line number."""


# Files


def make_line(a: int, b: int) -> dict:
    """One training line: the problem as a user message, and what the graders need to know."""
    prompt = f"{INSTRUCTION}\n{arithmetic.problem(a, b)}"
    return {"messages": [{"role": "user", "content": prompt}], "reference_answer": arithmetic.answer(a, b)}


def make_files(folder: Path = DATA) -> None:
    """Write training.jsonl and validation.jsonl; no pair of operands is in both, in either order."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name, held_out, count in (("training", False, NUM_TRAINING), ("validation", True, NUM_VALIDATION)):
        pairs = arithmetic.operands(held_out)
        chosen = pairs[rng.choice(len(pairs), size=count, replace=False)]
        lines = [json.dumps(make_line(a, b)) for a, b in chosen.tolist()]
        write_atomic(folder / f"{name}.jsonl", "\n".join(lines) + "\n")


@cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    """The validator of schemas/<schema>.schema.json."""
    found = json.loads((SCHEMAS / f"{schema}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def check(value: Any, schema: str, where: str) -> None:
    """Raise FormatError with the first thing that is wrong."""
    error = jsonschema.exceptions.best_match(validator(schema).iter_errors(value))
    if error is not None:
        place = error.json_path.removeprefix("$").lstrip(".")
        raise FormatError(f"{where}: {place or 'the object'}: {error.message[:160]}")


def read_lines(path: Path) -> list[dict]:
    """The items of a JSONL file, each checked. Raises FormatError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FormatError(f"{path.name}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path.name}: is not UTF-8") from None
    items = []
    # not splitlines: a text may hold other ends of line, such as U+2028, which end no line of JSON
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        where = f"{path.name} line {number}"
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{where}: no JSON ({str(error)[:100]})") from None
        check(item, "line", where)
        if item["messages"][-1]["role"] != "user":  # JSON Schema cannot point at a list's last element
            raise FormatError(f"{where}: messages: the last one must be the user's")
        items.append(item)
    if not items:
        raise FormatError(f"{path.name}: is empty")
    return items


def read_grader(path: Path) -> dict:
    """A grader from its file, checked, its formula too. Raises FormatError."""
    try:
        grader = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FormatError(f"{path.name}: cannot be read as JSON ({reason[:100]})") from None
    check(grader, "grader", path.name)
    if grader["type"] == "multi":
        calculate(grader["calculate_output"], dict.fromkeys(grader["graders"], 1.0))
    return grader


# Templates


def fill(template: str, item: dict, sample: dict) -> str:
    """Replace each {{ item.field }} and {{ sample.field }}. Raises FormatError for a field that is not there."""

    def value(match: re.Match) -> str:
        found: Any = {"item": item, "sample": sample}
        for part in match[1].strip().split("."):
            if not isinstance(found, dict) or part not in found:
                there = ", ".join(found) if isinstance(found, dict) else "no names"
                raise FormatError(f"{{{{{match[1][:60]}}}}}: there is no {part[:60]!r} (there are: {there})")
            found = found[part]
        return str(found)

    return re.sub(r"\{\{(.+?)\}\}", value, template)


# Graders


def grade(grader: dict, item: dict, answer: str, judge: Callable[[list[dict]], float] | None = None) -> float:
    """The grade of an answer, as the service would give it: 0 to 1 unless a score model has another range.

    An answer that breaks a Python grader gets 0. `judge(messages)` stands for the score model's call.
    """
    sample = {"output_text": answer}
    match grader["type"]:
        case "string_check":
            return string_check(grader, item, sample)
        case "text_similarity":
            return text_similarity(grader, item, sample)
        case "python":
            return python_grade(grader["source"], item, sample)
        case "score_model":
            return score_model(grader, item, sample, judge)
        case "multi":
            parts = {name: grade(part, item, answer, judge) for name, part in grader["graders"].items()}
            return calculate(grader["calculate_output"], parts)
    raise FormatError(f"grader type {grader['type']!r} is unknown")


def string_check(grader: dict, item: dict, sample: dict) -> float:
    """eq, ne: equal or not; like, ilike: the reference occurs in the input, case kept or ignored."""
    text, reference = fill(grader["input"], item, sample), fill(grader["reference"], item, sample)
    holds = {
        "eq": text == reference,
        "ne": text != reference,
        "like": reference in text,
        "ilike": reference.lower() in text.lower(),
    }
    return float(holds[grader["operation"]])


def text_similarity(grader: dict, item: dict, sample: dict) -> float:
    """fuzzy_match as the share of matching characters. The other metrics run on the service only."""
    if grader["evaluation_metric"] != "fuzzy_match":
        raise FormatError(f"{grader['evaluation_metric']} runs on the service only (here: fuzzy_match)")
    text, reference = fill(grader["input"], item, sample), fill(grader["reference"], item, sample)
    return difflib.SequenceMatcher(None, text, reference).ratio()


@cache
def compiled(source: str) -> Callable[[dict, dict], float]:
    """`grade` of a Python grader's source. The source is ours; only the answer is foreign, and it is data."""
    namespace: dict[str, Any] = {}
    try:
        exec(compile(source, "<python grader>", "exec"), namespace)
    except (Exception, SystemExit) as error:
        raise FormatError(f"a Python grader's source cannot be run ({type(error).__name__}: {str(error)[:100]})") from None
    if not callable(namespace.get("grade")):
        raise FormatError("a Python grader must define grade(sample, item)")
    return namespace["grade"]


def python_grade(source: str, item: dict, sample: dict) -> float:
    """Call grade(sample, item); an exception or anything but a finite number is 0, as on the service."""
    function = compiled(source)
    try:
        value = float(function(dict(sample), copy.deepcopy(item)))
    except (Exception, SystemExit):
        return 0.0
    return value if math.isfinite(value) else 0.0


def score_model(grader: dict, item: dict, sample: dict, judge: Callable | None) -> float:
    """The judge's number, kept within the grader's range; what is no number is the lower end."""
    if judge is None:
        raise FormatError(f"{grader['name']}: a score model needs a model to ask (pass judge=)")
    low, high = grader.get("range", (0.0, 1.0))
    messages = [{**message, "content": fill(message["content"], item, sample)} for message in grader["input"]]
    try:
        value = float(judge(messages))
    except (TypeError, ValueError):
        return float(low)
    return min(max(value, low), high) if math.isfinite(value) else float(low)


OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable] = {"min": min, "max": max, "abs": abs}


def calculate(formula: str, values: dict[str, float]) -> float:
    """A multi-grader's formula: names, numbers, + - * /, min, max, abs. Raises FormatError for anything else."""

    def evaluate(node: ast.AST) -> float:
        match node:
            case ast.Expression(body=body):
                return evaluate(body)
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name) if name in values:
                return values[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](evaluate(left), evaluate(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -evaluate(operand)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS and arguments:
                return FUNCTIONS[name](*map(evaluate, arguments))
        raise FormatError(
            f"calculate_output {formula[:60]!r}: {ast.unparse(node)[:60]!r} is not allowed"
            f" (graders: {', '.join(values)}; + - * /, min, max, abs)"
        )

    try:
        value = evaluate(ast.parse(formula, mode="eval"))
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):  # what cannot be read, or is too large
        raise FormatError(f"calculate_output {formula[:60]!r} is no formula") from None
    except (ZeroDivisionError, TypeError):
        return 0.0
    return value if math.isfinite(value) else 0.0


def main() -> None:
    sys.path.insert(0, str(HERE.parent))
    from experiment import heed_signals, script

    if __name__ == "__main__":
        heed_signals()

    def write() -> str:
        make_files()
        return f"wrote {DATA / 'training.jsonl'} and validation.jsonl"

    script({"": write})


if __name__ == "__main__":
    main()
