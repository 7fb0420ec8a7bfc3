"""Preferences in a file of one's own, for `--pairs`: read line by line, and refused at the first fault.

One JSON object a line with TRL's columns, all texts or all lists of messages; without `prompt` it is what
the other two begin with alike:

    {"prompt": "the film was", "chosen": " a joy .", "rejected": " too long ."}
    {"prompt": [{"role": "user", "content": "…"}], "chosen": [{"role": "assistant", "content": "…"}], …}

Neither torch nor transformers is imported here: they take seconds, and a fault is told at once.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chapters.utils import lesson
from chapters.utils.errors import UsageError

COLUMNS = ("prompt", "chosen", "rejected")
ROLES = ("system", "user", "assistant")
MOST_BYTES = 256 * 2**20
"""Of a file: what is larger is hardly a list of preferences, and is not read into memory."""
LEAST_PAIRS, EVERY = 10, 5
"""Pairs that a file must have; one prompt in so many is held out."""

Said = str | list[dict[str, str]]
"""A text, or messages {"role": …, "content": …}."""


class Preference(NamedTuple):
    """One line of a file."""

    line: int
    """Its number, from 1."""
    prompt: Said
    chosen: Said
    rejected: Said


class Fault(Exception):
    """What is wrong with a line, and what is allowed."""

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(f"{what} (allowed: {allowed})")


def refusal(path: Path, what: object, line: int = 0) -> UsageError:
    """The one line for a file that cannot be used."""
    return UsageError(f"--pairs {path}{f', line {line}' if line else ''}: {what}")


def read(path: Path) -> list[Preference]:
    """The preferences of a file. Raises UsageError, one line: the first fault and what is allowed."""
    lines, whole = _lines(path)
    found: list[Preference] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        try:
            columns = _object(line, cut_off=number == len(lines) and not whole)
            _columns(columns)
            _same_form(columns, found)
            row = Preference(number, *_parts(columns))
            text = json.dumps(row[1:])
            if text in seen:
                raise Fault(f"the same as line {seen[text]}", "each preference once")
        except Fault as fault:
            raise refusal(path, fault, number) from None
        seen[text] = number
        found.append(row)
    if len(found) < LEAST_PAIRS:
        raise refusal(path, f"{len(found)} pairs are too few (allowed: at least {LEAST_PAIRS})")
    if (prompts := len({prompt_of(row) for row in found})) < EVERY:
        told = f"{prompts} different prompts are too few, as one in {EVERY} is held out"
        raise refusal(path, f"{told} (allowed: at least {EVERY})")
    return found


def split(rows: Sequence[Preference], seed: int) -> tuple[list[Preference], list[Preference]]:
    """(pairs to learn from, pairs held out), in random order; one prompt in five is held out, with its pairs.

    A file is often sorted, so neither the held-out prompts nor the order may be the file's.
    """
    rng = np.random.default_rng(seed)
    prompts = list(dict.fromkeys(map(prompt_of, rows)))
    held_out = {prompts[i] for i in rng.permutation(len(prompts))[: math.ceil(len(prompts) / EVERY)]}
    mixed = [rows[i] for i in rng.permutation(len(rows))]
    return (
        [row for row in mixed if prompt_of(row) not in held_out],
        [row for row in mixed if prompt_of(row) in held_out],
    )


def prompt_of(row: Preference) -> str:
    """What tells one prompt from another."""
    return json.dumps(row.prompt)


def as_columns(path: Path, rows: Sequence[Preference]) -> tuple[list[str], list[str], list[str]]:
    """Prompts, chosen, rejected as texts without spaces around them, for a lesson with a form of its own.

    Of messages one question and one answer are taken. Raises UsageError where there are more.
    """
    columns: tuple[list[str], list[str], list[str]] = [], [], []
    for row in rows:
        for column, name, said in zip(columns, COLUMNS, row[1:]):
            if not isinstance(said, str) and len(said) > 1:
                told = f"{name} has {len(said)} messages (allowed here: one of the user, one answer)"
                raise refusal(path, told, row.line)
            column.append((said if isinstance(said, str) else said[0]["content"]).strip())
    return columns


def check(cfg: Any) -> None:
    """Look at the file that a lesson's `--pairs` names, before the lesson does anything."""
    if getattr(cfg, "pairs", None) is None:
        return
    rows = read(cfg.pairs)
    if hasattr(cfg, "rater"):  # D6, whose pairs may also come from a rater
        if cfg.rater != "heuristic" or cfg.rate or cfg.rate_web:
            raise UsageError("--pairs and a rater: two sources of preferences (allowed: one of them)")
        as_columns(cfg.pairs, rows)


lesson.CHECKS.append(check)


# Below: one line, from bytes to a preference


def _lines(path: Path) -> tuple[list[bytes], bool]:
    """(the lines, without empty ones at the end; whether the last is closed)."""
    try:
        if path.is_dir():
            raise refusal(path, "is a folder (allowed: a file, one JSON object a line)")
        if not path.exists():
            raise refusal(path, "there is no such file")
        if not path.is_file():
            raise refusal(path, "is no regular file")
        if (size := path.stat().st_size) > MOST_BYTES:
            told = f"has {size / 2**20:,.0f} MiB (allowed: at most {MOST_BYTES / 2**20:.0f})"
            raise refusal(path, told)
        data = path.read_bytes()
    except OSError as error:
        raise refusal(path, f"cannot be read ({error.strerror})") from None
    except ValueError:  # a name with a NUL in it
        raise refusal(os.fspath(path).replace("\0", "\\0"), "is no name of a file") from None
    if data.startswith(b"\xef\xbb\xbf"):
        raise refusal(path, "begins with a byte order mark (allowed: UTF-8 without one)", 1)
    if not data.strip():
        raise refusal(path, "is empty (allowed: one JSON object a line)")
    lines = data.rstrip(b" \t\r\n").split(b"\n")  # not at other letters that end a line: JSON may hold them
    return lines, data.endswith(b"\n")


def _object(line: bytes, cut_off: bool) -> dict[str, Any]:
    """The JSON object of a line, strictly: no NaN, no key twice."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise Fault(f"no UTF-8 (byte {error.start + 1} is {line[error.start]:#04x})", "UTF-8") from None
    if "\0" in text:
        raise Fault("a NUL byte", "text in UTF-8")
    if not text.strip():
        raise Fault("an empty line", "one JSON object a line")
    try:
        found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        end = ", the last and not closed: was the file cut off?" if cut_off else ""
        raise Fault(
            f"no JSON: {error.msg.lower()} at letter {error.colno}{end}", "one object a line"
        ) from None
    except (RecursionError, ValueError):  # brackets without end, a number of thousands of digits
        raise Fault("JSON that nobody can read", "an object of texts or messages") from None
    if not isinstance(found, dict):
        raise Fault(f"{_kind(found)}, no object", '{"prompt": …, "chosen": …, "rejected": …}')
    return found


def _no_constant(name: str) -> None:
    raise Fault(f"{name}, which is no JSON", "texts or messages")


def _no_key_twice(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Fault(f"{key!r} stands twice in one object", "each name once")
        found[key] = value
    return found


def _kind(value: object) -> str:
    """How JSON calls what Python read."""
    names = {str: "a text", list: "a list", dict: "an object", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _columns(columns: dict[str, Any]) -> None:
    """Refuse columns that are missing, unknown, of a wrong type, or empty."""
    allowed = "prompt, chosen, rejected; or the last two alone"
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise Fault(f"unknown column {unknown[0]!r}", allowed)
    if missing := [name for name in COLUMNS[1:] if name not in columns]:
        raise Fault(f"no column {missing[0]!r}", allowed)
    for name, said in columns.items():
        if isinstance(said, str):
            _text(name, said)
        elif isinstance(said, list):
            _messages(name, said)
        else:
            raise Fault(f"{name} is {_kind(said)}", "a text or a list of messages")
    if len({type(said) for said in columns.values()}) > 1:
        raise Fault("texts and messages in one line", "all texts or all messages")
    _order(columns)


def _text(name: str, text: str) -> None:
    """Refuse what no tokenizer can read, or nobody wrote."""
    if not text.strip():
        raise Fault(f"{name} is empty", "a text")
    if "\0" in text:
        raise Fault(f"{name} has a NUL in it", "text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Fault(f"{name} has half a letter in it, {text[error.start]!a}", "what UTF-8 can hold") from None


def _messages(name: str, messages: list) -> None:
    """Refuse a list that holds anything but messages."""
    if not messages:
        raise Fault(f"{name} is empty", "at least one message")
    for count, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            parts = f" with {', '.join(map(repr, message))}" if isinstance(message, dict) else ""
            raise Fault(f"message {count} of {name} is {_kind(message)}{parts}", '{"role": …, "content": …}')
        if message["role"] not in ROLES:
            raise Fault(f"message {count} of {name} has the role {message['role']!r}", ", ".join(ROLES))
        if not isinstance(message["content"], str):
            raise Fault(f"message {count} of {name} holds {_kind(message['content'])}", "a text")
        _text(f"message {count} of {name}", message["content"])


def _order(columns: dict[str, Any]) -> None:
    """Refuse messages that do not take turns: a system's first if at all, then user and assistant.

    A prompt ends with the user, and what is chosen or rejected begins and ends with the assistant.
    """
    for name in COLUMNS[1:]:
        if isinstance(columns[name], str):
            continue
        roles = [message["role"] for message in [*columns.get("prompt", []), *columns[name]]]
        turns = roles[1:] if roles[0] == "system" else roles
        wanted = (["user", "assistant"] * len(turns))[: len(turns)]
        if turns != wanted or not turns or turns[-1] != "assistant":
            raise Fault(
                f"roles up to the end of {name}: {', '.join(roles)}", "user, assistant, in turn; system first"
            )
    prompt = columns.get("prompt")
    if isinstance(prompt, list) and prompt[-1]["role"] != "user":
        raise Fault(f"prompt ends with the {prompt[-1]['role']}", "the user last")


def _same_form(columns: dict[str, Any], found: list[Preference]) -> None:
    """Refuse a line of another form than the first: half of a file would be read as something else."""
    if not found:
        return
    kinds = [
        "messages" if isinstance(said, list) else "texts" for said in (columns["chosen"], found[0].chosen)
    ]
    if kinds[0] != kinds[1]:
        raise Fault(f"{kinds[0]}, though line 1 has {kinds[1]}", "one form in the whole file")


def _parts(columns: dict[str, Any]) -> tuple[Said, Said, Said]:
    """(prompt, chosen, rejected), the prompt taken off where it stands in both."""
    chosen, rejected = columns["chosen"], columns["rejected"]
    if _bare(chosen) == _bare(rejected):
        raise Fault("chosen and rejected are the same", "two that differ")
    if "prompt" in columns:
        return columns["prompt"], chosen, rejected
    shared = alike(chosen, rejected)
    if isinstance(chosen, str):  # up to the last space that they share: no word is torn
        shared = max((at for at in range(shared) if chosen[at].isspace()), default=0)
        shared = len(chosen[:shared].rstrip())
    elif shared and chosen[shared - 1]["role"] != "user":
        shared -= 1
    if not shared:
        raise Fault(
            "no prompt, and chosen and rejected do not begin alike", "a prompt, or a shared beginning"
        )
    parts = chosen[:shared], chosen[shared:], rejected[shared:]
    if not (parts[1] and parts[2]) or not all(map(_bare, parts)):
        raise Fault("chosen or rejected is empty behind what they share", "two texts that go on")
    return parts


def alike(*sequences: Sequence) -> int:
    """How many items texts or lists have in common at their beginning.

    >>> alike("the film", "the food", "the foot")
    5
    """
    count = 0
    while all(len(one) > count for one in sequences) and all(
        one[count] == sequences[0][count] for one in sequences
    ):
        count += 1
    return count


def _bare(said: Said) -> Any:
    """A text without the spaces around it; messages likewise."""
    if isinstance(said, str):
        return said.strip()
    return [(message["role"], message["content"].strip()) for message in said]
