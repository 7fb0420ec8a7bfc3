"""The learning log: one folder a day, plain Markdown, readable and editable without this tool."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chapters.course import catalog, ledger
from chapters.course.progress import claims_of_run, only_numbers, read_json, read_run, runs_of
from chapters.utils.files import write_atomic
from chapters.utils.lesson import UsageError
from chapters.utils.runlog import is_timing, read_metrics

PATIENCE = 10.0
"""Seconds for which a writer waits for another."""
DAY = re.compile(r"^Day(\d+)$")
SHOWN, LINES = 8, 20
"""How many metrics of a run, and how many lines of a text that it wrote, the log quotes."""
VERDICTS = ("supported", "refuted", "mixed", "open")
PROMPT = "What do I expect, and why? (Write it before the run.)"
TEMPLATE = """# Day {number:02d} · {date}

**Hypothesis.** {prompt}

## Set-up

What I change, what I keep, how many seeds.

## Result

**Verdict.** open

## What surprised me

## Lessons learned

## Next
"""


class JournalError(UsageError):
    """Nothing to write, or nowhere to write it; the message is one line."""


@dataclass(frozen=True)
class Day:
    """What `rl day list` shows of a day. `marks` say what is missing or cannot be read."""

    name: str
    date: str = ""
    hypothesis: str = ""
    verdict: str = ""
    marks: tuple[str, ...] = ()

    def line(self, width: int | None = None) -> str:
        """One line; in `width` columns the hypothesis gives way."""
        head = f"{self.name:<6}  {self.date:<10}  "
        tail = "  ".join(
            filter(None, [self.verdict and f"→ {self.verdict}", *map("[{}]".format, self.marks)])
        )
        room = max(20, width - len(head) - len(tail) - 1) if width else None
        told = textwrap.shorten(self.hypothesis, room, placeholder=" …") if room else self.hypothesis
        return head + " ".join(filter(None, [told, tail]))


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """One writer at a time under `root`, which is made if need be. Raises JournalError if it cannot be.

    The lock is the system's: it falls with the process that holds it, however that ends.
    """
    from filelock import FileLock, Timeout

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock := root / ".lock", timeout=PATIENCE):
            yield
    except Timeout:
        if not lock.exists():  # some file systems do not say that nothing can be made in them
            raise JournalError(f"{root}: cannot write there (a file cannot be made)") from None
        raise JournalError(f"{root}: another rl has been writing there for {PATIENCE:g} s") from None
    except OSError as error:
        raise JournalError(f"{root}: cannot write there ({error.strerror})") from None


def days(root: Path) -> list[Path]:
    """The day folders, in order of their number."""
    if not root.is_dir():
        return []
    found = [(int(match[1]), path) for path in root.iterdir() if (match := DAY.match(path.name))]
    return [path for _, path in sorted(found)]


def new_day(root: Path) -> Path:
    """Start the next day: `DayNN/README.md` from the template. Returns its path.

    The folder is made whole under another name and then renamed: a kill leaves a day or none.
    """
    with locked(root):
        for leftover in root.glob(".draft-*"):  # of a start that was killed: we hold the lock
            shutil.rmtree(leftover, ignore_errors=True)
        existing = days(root)
        number = int(DAY.match(existing[-1].name)[1]) + 1 if existing else 1
        draft = Path(tempfile.mkdtemp(dir=root, prefix=".draft-"))
        try:
            draft.chmod(0o755)  # mkdtemp makes it private
            text = TEMPLATE.format(number=number, date=time.strftime("%Y-%m-%d"), prompt=PROMPT)
            write_atomic(draft / "README.md", text)
            return draft.rename(root / f"Day{number:02d}") / "README.md"
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def read_day(folder: Path) -> Day:
    """A day as its README tells it. People edit these: whatever cannot be read becomes a mark."""
    try:
        raw = (folder / "README.md").read_bytes()
    except FileNotFoundError:
        return Day(folder.name, marks=("no README.md",))
    except OSError as error:
        return Day(folder.name, marks=(f"README.md cannot be read: {error.strerror}",))
    marks = []
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", errors="replace")
        marks.append("README.md is not UTF-8")
    lines = _without_comments("\n".join(text.splitlines())).split("\n")
    headings = (re.search(r"\d{4}-\d\d-\d\d", line) for line in lines if line.startswith("# "))
    heading = next(filter(None, headings), None)
    hypothesis, verdict = _passage(lines, "Hypothesis"), _passage(lines, "Verdict")
    if not hypothesis or hypothesis == PROMPT:
        hypothesis = ""
        marks.append("no hypothesis yet")
    word = re.match(r"\W*(\w+)", verdict)
    if not word:
        marks.append("no verdict")
    elif word[1].lower() not in VERDICTS:
        marks.append(f"verdict {verdict[:20]!r} is none of {', '.join(VERDICTS)}")
    verdict = word[1].lower() if word and word[1].lower() in VERDICTS else "open"
    return Day(folder.name, heading[0] if heading else "", hypothesis, verdict, tuple(marks))


def _without_comments(text: str) -> str:
    """The text without `<!-- … -->`; one that nothing closes stays."""
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start)) >= 0:
        kept.append(text[at:start])
        at = end + len("-->")
    return "".join([*kept, text[at:]])


def _passage(lines: list[str], name: str) -> str:
    """The paragraph behind **Name.**, else the one below the first heading of that name; on one line."""
    marked = re.compile(rf"\*\*{name}\W{{0,9}}?\*\*[.:]?(.*)", re.IGNORECASE)
    headed = re.compile(rf"#+ *{name}\b", re.IGNORECASE)
    paragraph: list[str] = []
    below = None
    for number, line in enumerate(lines):
        if found := marked.search(line):
            paragraph = [found[1], *_paragraph(lines[number + 1 :])]
            break
        if below is None and headed.match(line):
            below = number + 1
    else:
        if below is not None:
            paragraph = _paragraph(itertools.dropwhile(lambda line: not line.strip(), lines[below:]))
    text = " ".join(paragraph)
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _paragraph(lines: Iterable[str]) -> list[str]:
    """The lines before the first that is empty or a heading."""
    return list(itertools.takewhile(lambda line: line.strip() and not line.startswith("#"), lines))


def find_run(name: str, runs: Path) -> Path:
    """The run folder to log: of a lesson (`B3`) its latest, else the folder named by `name`.

    `name` is a path, or one below `runs` such as `B3/20261120-093000-seed0`.
    """
    if not (named := [item.id for item in catalog.lessons() if item.id.lower() == name.lower()]):
        for folder in (Path(name), runs / name):
            if read_run(folder):
                return folder.resolve()
        known = ", ".join(item.id for item in catalog.lessons())
        raise JournalError(f"no lesson or run {name!r} (lessons: {known}; a run: B3/20261120-093000-seed0)")
    if not (found := runs_of(named[0], runs)):
        raise JournalError(f"no run of {named[0]} to log yet: `rl run {named[0]}`")
    ended = [folder for folder, run in found if run["status"] != "running"]
    return ended[-1] if ended else found[-1][0]


def log_run(name: str, root: Path, runs: Path) -> Path:
    """Append a run (see `find_run`) to the latest day, its figures copied beside it. Returns the README."""
    if not (existing := [path for path in days(root) if path.is_dir()]):
        raise JournalError("no day to log to yet: start one with `rl day new`")
    folder = find_run(name, runs)
    run = read_run(folder) or {}
    day, lesson = existing[-1], str(run.get("lesson", folder.parent.name))
    readme = day / "README.md"
    marker = f"<!-- run: {lesson}/{folder.name} -->"
    try:
        entry = _entry(lesson, folder, run)
    except (
        ArithmeticError,
        AttributeError,
        KeyError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise JournalError(f"{folder}: not a whole run ({type(error).__name__}: {error})") from None
    with locked(root):
        try:
            text = readme.read_bytes().decode() if readme.exists() else f"# {day.name}\n"
        except UnicodeDecodeError:
            raise JournalError(f"{readme} is not UTF-8: save it as UTF-8, so that nothing is lost") from None
        if marker in text:
            raise JournalError(f"{day.name} has this run already ({lesson}/{folder.name})")
        for figure in _figures(folder):
            temporary = day / f".{figure.name}"
            shutil.copyfile(figure, temporary)
            os.replace(temporary, day / f"{folder.name}-{figure.name}")
        write_atomic(readme, f"{text.rstrip()}\n\n{marker}\n{entry}")
    return readme


def _figures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".gif"))


def _entry(lesson: str, folder: Path, run: dict) -> str:
    config = read_json(folder / "config.json")
    kind = "smoke run" if run.get("smoke") else "run"
    try:
        title = f"{lesson} · {catalog.find(lesson).title}"
    except KeyError:
        title = lesson
    lines = [f"### {title}: {kind} {run['status']} in {run.get('seconds', 0):.0f} s", ""]
    lines += [_settings(lesson, config), ""]
    if claims := claims_of_run(folder):
        lines += ["| claim | value | bound | holds |", "|---|---|---|---|"]
        for claim in claims.values():
            verdict = "yes" if claim.holds else "**no**"
            value = f"{claim.value:.4g} {claim.unit}".strip()
            lines.append(f"| {claim.statement} | {value} | {claim.bound} | {verdict} |".replace("\n", " "))
        lines.append("")
    found = {name: only_numbers(rows) for name, rows in read_metrics(folder).items() if not is_timing(name)}
    if metrics := {name: rows for name, rows in found.items() if rows}:
        longest = sorted(metrics, key=lambda name: -len(metrics[name]))[:SHOWN]  # the curves
        last = ", ".join(f"{name} {metrics[name][-1][1]:.4g}" for name in longest)
        more = f"; {len(metrics) - SHOWN} more in its metrics.jsonl" if len(metrics) > SHOWN else ""
        lines += [f"Last metrics: {last}{more}.", ""]
    lines += [f"![{path.stem}]({folder.name}-{path.name})\n" for path in _figures(folder)]
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".txt", ".md")):
        text = path.read_text(encoding="utf-8", errors="replace").splitlines()
        quoted = ["    " + line for line in text[:LINES]] + ["    …"] * (len(text) > LINES)
        lines += [f"{path.name}:", "", *quoted, ""]
    entry = "\n".join(lines).rstrip() + "\n"
    entry.encode()  # a name or a statement that no file can hold is refused here
    return entry


def _settings(lesson: str, config: dict) -> str:
    """The seed, and the settings that differ from those that the lesson was recorded with."""
    defaults = {}
    with contextlib.suppress(KeyError, FileNotFoundError, ledger.LedgerError):
        book = ledger.load(catalog.find(lesson, kinds=("py",)))
        defaults = {**book["config"], "evidence": book["evidence_config"]}
    changed = {
        key: value for key, value in config.items() if key != "seed" and value != defaults.get(key, ...)
    }
    if isinstance(own := changed.pop("evidence", None), dict):
        usual = defaults.get("evidence", {})
        changed |= {key: value for key, value in own.items() if value != usual.get(key, ...)}
    told = [f"seed {config.get('seed')}", *(f"`{key}={value}`" for key, value in changed.items())]
    rest = "the rest" if changed else "everything"
    return f"Settings: {', '.join(told)}" + (f"; {rest} as recorded." if defaults else ".")
