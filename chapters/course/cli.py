"""The `rl` command. It lists and finds lessons without importing one, so it answers at once."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from chapters.course import catalog
from chapters.utils.lesson import CLAIM_FAILED, INTERRUPTED, RUNS, WRONG_USAGE, UsageError

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
day = typer.Typer(no_args_is_help=True, help="The learning log under days/.")
app.add_typer(day, name="day")

DAYS = catalog.ROOT / "days"
Lesson = Annotated[str, typer.Argument(help="A lesson's id, such as B1.", show_default=False)]


def main() -> None:
    """Entry point: wrong usage is one line and exit code 2, Ctrl-C is exit code 130."""
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except (typer.Abort, EOFError):
        code = INTERRUPTED
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        code = WRONG_USAGE
    except Exception as error:
        # click's usage errors: unknown command, missing argument, unknown option
        if not hasattr(error, "format_message"):
            raise
        print(f"error: {error.format_message()} (see rl --help)", file=sys.stderr)
        code = WRONG_USAGE
    sys.exit(code or 0)


def find(lesson: str, kinds: tuple[str, ...] = ("py",)) -> catalog.Item:
    """The item called `lesson`. Raises UsageError, with a hint if it is a note or the set-up."""
    try:
        return catalog.find(lesson, kinds)
    except KeyError as error:
        try:
            other = catalog.find(lesson)
        except KeyError:
            raise UsageError(error.args[0]) from None
        what = "a note to read" if other.kind == "md" else "the set-up: run ./setup.sh"
        raise UsageError(f"{other.id} is {what} ({other.path.relative_to(catalog.ROOT)})") from None


@app.command("list")
def list_() -> None:
    """The syllabus: title, measured time, verdict of the ledger, your own status."""
    from chapters.course import ledger
    from chapters.course.progress import own_status

    print(f"{'id':<4}{'title':<46}{'kind':<8}{'time':>6}  {'ledger':<12}{'you'}")
    for item in catalog.items():
        kind = {"py": "lesson", "md": "note", "sh": "set-up"}[item.kind]
        time = verdict = you = ""
        if item.kind == "py":
            you = own_status(item, RUNS)
            verdict = "not recorded"
            if item.ledger.exists():
                book = ledger.load(item)
                held, total = ledger.verdict(book)
                time, verdict = f"{ledger.seconds(book):.0f} s", f"{held}/{total} hold"
        print(f"{item.id:<4}{item.title[:44]:<46}{kind:<8}{time:>6}  {verdict:<12}{you}".rstrip())


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def run(ctx: typer.Context, lesson: Lesson) -> None:
    """Run a lesson; flags behind its id are the lesson's own (rl run B1 --help)."""
    if lesson in ("--help", "-h"):
        print(
            "Usage: rl run LESSON [FLAGS]\n\nThe same as running the file. rl run B1 --help lists B1's flags."
        )
        return
    item = find(lesson)
    sys.argv = [str(item.path), *ctx.args]
    runpy.run_path(str(item.path), run_name="__main__")  # exits with the lesson's own code


@app.command("next")
def next_() -> None:
    """What to do next: the first lesson you have not passed, and the notes before it."""
    from chapters.course.progress import own_status

    notes: list[catalog.Item] = []
    for item in catalog.items():
        if item.kind == "md":
            notes.append(item)
        elif item.kind == "py" and own_status(item, RUNS) == "passed":
            notes.clear()
        elif item.kind == "py":
            for note in notes:
                print(f"read  {note.id} · {note.title}: {note.path.relative_to(catalog.ROOT)}")
            print(f"run   {item.id} · {item.title}: rl run {item.id}")
            print(f"      {item.question}")
            return
    print("You have passed every lesson. rl day new starts an experiment of your own.")


@app.command()
def status() -> None:
    """What you have passed, per chapter (read from runs/)."""
    from chapters.course.progress import own_status

    for chapter in sorted({item.chapter for item in catalog.lessons()}):
        states = [(item, own_status(item, RUNS)) for item in catalog.lessons() if item.chapter == chapter]
        passed = sum(state == "passed" for _, state in states)
        print(f"Chapter {chapter}: {passed} of {len(states)} lessons passed")
        for item, state in states:
            print(f"  {item.id:<4}{item.title[:50]:<52}{state or 'not run yet'}")


@app.command()
def record(
    lesson: Lesson,
    seeds: Annotated[str, typer.Option(help="0:5 is 0 to 4; 1,7,9 is those.")] = "0:5",
    restamp: Annotated[
        bool, typer.Option("--restamp", help="Only renew the stamp; refuse if a number changed.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds at a time; times then include the crowd.")] = 1,
) -> None:
    """Measure a lesson over several seeds and write its ledger and figures."""
    from chapters.course import ledger, tables

    item = find(lesson)
    try:
        if restamp:
            ledger.restamp(item)
        else:
            book = ledger.record(item, ledger.parse_seeds(seeds), jobs)
            held, total = ledger.verdict(book)
            print(f"{item.id}: {held} of {total} claims hold -> {item.ledger.relative_to(catalog.ROOT)}")
    except ValueError as error:
        raise UsageError(str(error)) from None
    except FileNotFoundError:
        raise UsageError(f"{item.id} was never recorded: rl record {item.id} --seeds 0:5") from None
    except ledger.RecordError as error:
        print(f"not recorded: {error}", file=sys.stderr)
        raise typer.Exit(CLAIM_FAILED) from None
    tables.update()
    if not restamp and held < total:
        raise typer.Exit(CLAIM_FAILED)


@app.command("tables")
def tables_(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if something would.")
    ] = False,
) -> None:
    """Make the generated blocks of README, notes and lesson headers anew from the ledgers."""
    from chapters.course import tables

    changed = tables.update(check)
    for path in changed:
        print(f"{'out of date' if check else 'updated'}: {path.relative_to(catalog.ROOT)}")
    if check and changed:
        raise typer.Exit(CLAIM_FAILED)


@app.command()
def doctor() -> None:
    """Check Python, packages, devices and a 5-second self-test; say what to do about each problem."""
    from chapters.course.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name:<12} {finding.found}")
        if not finding.ok:
            print(f"     -> {finding.advice}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(CLAIM_FAILED)


@app.command()
def notebook(
    lesson: Lesson,
    out: Annotated[
        Path | None, typer.Option(help="Where to write it; default: beside you, as LESSON.ipynb.")
    ] = None,
) -> None:
    """Write a lesson as a Jupyter notebook."""
    from chapters.course.notebook import to_notebook

    item = find(lesson)
    path = out or Path(item.path.stem + ".ipynb")
    try:
        print(to_notebook(item, path))
    except OSError as error:
        raise UsageError(f"--out {path}: cannot write there ({error.strerror})") from None


@day.command("new")
def day_new() -> None:
    """Start days/DayNN from the template."""
    from chapters.course.journal import new_day

    print(new_day(DAYS).relative_to(catalog.ROOT))


@day.command("log")
def day_log(lesson: Lesson) -> None:
    """Append a lesson's latest run (config, metrics, verdict, figure) to the latest day."""
    from chapters.course.journal import JournalError, log_run

    try:
        print(log_run(find(lesson), DAYS, RUNS).relative_to(catalog.ROOT))
    except JournalError as error:
        raise UsageError(str(error)) from None
