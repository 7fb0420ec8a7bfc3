"""The `rl` command. It lists and finds lessons without importing one, so it answers at once."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import runpy
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chapters.course import catalog
from chapters.utils import stopping
from chapters.utils.errors import in_a_line
from chapters.utils.lesson import CLAIM_FAILED, RUNS, WRONG_USAGE, UsageError

if TYPE_CHECKING:
    from chapters.course import plans, remote

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
day = typer.Typer(no_args_is_help=True, help="The learning log under days/.")
app.add_typer(day, name="day")
rate = typer.Typer(no_args_is_help=True, help="Preferences that people gave (D6).")
app.add_typer(rate, name="rate")
dev = typer.Typer(no_args_is_help=True, help="For those who write the course.")
app.add_typer(dev, name="dev")
site = typer.Typer(no_args_is_help=True, help="The course as pages to read in a browser, offline.")
app.add_typer(site, name="site")

DAYS = Path(os.environ.get("RL_DAYS") or catalog.ROOT / "days")  # empty is as good as unset
PRACTICE = Path(os.environ.get("RL_PRACTICE") or catalog.ROOT / "practice")
GOALS = catalog.ROOT / "planning" / "learning_goals.md"
Functions = Annotated[
    str, typer.Argument(metavar="LESSON[.EXERCISE]", help="Like C3, C3.gae, C3.2 or C3.bug.")
]
On = Annotated[
    Literal["local", "ray"], typer.Option(help="Processes on this machine, or tasks on a Ray cluster.")
]
Address = Annotated[
    str,
    typer.Option(metavar="HOST:PORT", help="With --on ray: a cluster that is there; else one is started."),
]
OneFunction = Annotated[str, typer.Argument(metavar="LESSON.EXERCISE", help="Like C3.gae, or C3.bug.")]
Lesson = Annotated[str, typer.Argument(help="A lesson's id, such as B1.", show_default=False)]


def main() -> None:
    """Entry point: wrong usage is one line and exit code 2, a signal is one line and 128 + its number."""
    stopping.any_letter()
    stopping.start()
    stopping.then("raise")
    code, told = _outcome()
    stopping.then("leave" if not stopping.asked else "wait")
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:  # a disk that is full; a reader that has seen enough is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        if error.errno != errno.EPIPE:
            code, told = WRONG_USAGE, f"error: the output cannot be written ({error.strerror})"
    if told:
        with contextlib.suppress(OSError):  # the exit code says it too
            print(told, file=sys.stderr)
    others = {*threading.enumerate()} - {threading.main_thread()}
    if not all(thread.daemon for thread in others):  # a learner's file started one: nobody waits for its end
        os._exit(code)
    sys.exit(code)


def _outcome() -> tuple[int, str]:
    """(exit code, the last line to say) of the command that was given."""
    try:
        code = app(standalone_mode=False) or 0
        if not stopping.asked:  # else typer made an exit code of Ctrl-C
            return code, ""
        return 128 + stopping.asked, "interrupted"
    except (KeyboardInterrupt, typer.Abort, EOFError):
        return 128 + (stopping.asked or signal.SIGINT), "interrupted"
    except UsageError as error:
        return WRONG_USAGE, f"error: {error}"
    except Exception as error:
        if stopping.asked:
            return 128 + stopping.asked, "interrupted"
        # click's usage errors: unknown command, missing argument, unknown option
        if hasattr(error, "format_message"):
            said = error.format_message()
            return WRONG_USAGE, said if said.startswith(
                "Usage:"
            ) else f"error: {in_a_line(said)} (see rl --help)"
        if isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            return WRONG_USAGE, f"error: {in_a_line(f'{where}{error.strerror or error}')}"
        raise


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
    """The syllabus: title, seconds (the lesson, all with its evidence), what the ledger says, your status."""
    from chapters.course import ledger
    from chapters.course.progress import own_status

    print(f"{'id':<4}{'title':<46}{'kind':<8}{'time':>6}{'all':>7}  {'ledger':<12}{'you'}")
    for item in catalog.items():
        kind = {"py": "lesson", "md": "note", "sh": "set-up"}[item.kind]
        alone = whole = verdict = you = ""
        if item.kind == "py":
            you = own_status(item, RUNS)
            verdict = "not recorded"
            try:
                short = ledger.in_short(item)
                verdict = "{}/{} hold".format(*short.verdict)
                alone, whole = (f"{seconds:.0f} s" for seconds in short.times)
            except FileNotFoundError:
                pass
            except ledger.LedgerError as error:
                verdict = "damaged"
                print(f"warning: {error}", file=sys.stderr)
        print(f"{item.id:<4}{item.title[:44]:<46}{kind:<8}{alone:>6}{whole:>7}  {verdict:<12}{you}".rstrip())


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
    _look_at_files(item, ctx.args)
    sys.argv = [str(item.path), *ctx.args]
    stopping.then("leave")  # until it has something to keep
    runpy.run_path(str(item.path), run_name="__main__")  # exits with the lesson's own code


def _look_at_files(item: catalog.Item, flags: list[str]) -> None:
    """Refuse a --model or --pairs that cannot be had now, not after the seconds that imports take."""
    words = [word for flag in flags for word in flag.split("=", 1)]
    after = dict(itertools.pairwise(words))  # the last of each flag, as the lesson takes it
    text = item.path.read_text(encoding="utf-8")
    if "--model" in after and "\n    model: str" in text:
        from chapters.text.models import find_model

        find_model(after["--model"])
    if "--pairs" in after and "\n    pairs: Path" in text:
        from chapters.text.preference_files import read

        read(Path(after["--pairs"]))


@app.command("break")
def break_(
    lesson: Lesson,
    edit: Annotated[str | None, typer.Argument(help="Name of the edit; without one, all are listed.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="Seed of both runs.")] = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="Run both in seconds, with tiny settings.")] = False,
) -> None:
    """Break a lesson by a named edit: show the diff, run it beside the right one, say what fails."""
    from chapters.course import breaking
    from chapters.utils.edits import EditError

    item = find(lesson)
    if edit is None:
        print("\n".join(breaking.table(item)))
        print(f"\nrl break {item.id} NAME shows one and runs it beside the right lesson.")
        return
    chosen = breaking.find_edit(item, edit)
    try:
        print(breaking.diff_of(item, chosen))
        print(f"\n{item.id}, {edit}: {chosen.says}")
        print(breaking.verdict_of_check(item, chosen))
        print("running the lesson, then the edited one ...", flush=True)
        found = breaking.compare(item, chosen, seed, smoke, RUNS / "break")
    except EditError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(CLAIM_FAILED) from None
    print("\n".join(breaking.report(found)))
    folder = (found.broken or found.right).folder
    if picture := breaking.side_by_side(found, folder / f"{item.id}_{edit}.png"):
        print(f"figure: {_short(picture)}")
    if not smoke and (found.surprises() or found.untold()):
        raise typer.Exit(CLAIM_FAILED)


def _functions(what: str) -> tuple[catalog.Item, str]:
    """The lesson, and the exercise or "" for all, of `C3.gae`, `C3`, `practice/C3.py` or its bug's file."""
    if what.endswith(".py"):
        what = Path(what).stem.replace("_bug", ".bug")
    lesson, _, name = what.partition(".")
    item = find(lesson)
    if name.isdecimal():
        from chapters.course.parts import exercises_of

        name = "bug" if int(name) == len(exercises_of(item)) + 1 else name  # the last that a lesson lists
    return item, name


@app.command()
def exercise(
    what: Functions,
    reset: Annotated[bool, typer.Option("--reset", help="Put your file aside and begin anew.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Write a lesson's exercises as stubs into practice/, for you to fill; what is there stays.

    C3.gae writes one function, C3.2 the second exercise, C3.bug a function with a mistake in it to be found.
    """
    from chapters.course import bugs, practice

    item, name = _functions(what)
    path = bugs.path_of(item, PRACTICE) if name == "bug" else practice.path_of(item, PRACTICE)
    aside = None
    with contextlib.ExitStack() as stack:
        if reset and path.exists():
            if not yes:
                typer.confirm(f"Begin {what} anew? A copy of {_short(path)} is kept.", abort=True)
            anew = practice.put_aside(path) if name == "bug" else practice.reset(item, path, name)
            aside = stack.enter_context(anew)
            if name == "bug":
                bugs.give_up(item, PRACTICE)
        if name == "bug":
            path, said = bugs.write(item, PRACTICE)
        else:
            path, added = practice.write(item, PRACTICE, name)
            said = ", ".join(added) if added else "nothing was missing"
    if aside:
        print(f"what you had written is now in {_short(aside)}")
    print(f"{_short(path)}: {said}")
    if name == "bug":
        return
    print(
        f"write the bodies, then: rl grade {item.id}{'.' * bool(name)}{name}   (--watch grades at each save)"
    )


@app.command()
def grade(
    what: Functions,
    file: Annotated[Path | None, typer.Argument(help="Your file, if not practice/LESSON.py.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Grade at each save, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the grades for a program.")] = False,
    train: Annotated[
        bool, typer.Option("--train", help="Train with your functions: probes, then the lesson's own task.")
    ] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="With --train: in seconds, tiny settings.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="With --train: the seed.")] = 0,
) -> None:
    """Grade your own versions of a lesson's functions, and say what a mistake looks like."""
    import time

    from chapters.course import bugs, grading, practice

    item, name = _functions(what)
    if what.endswith(".py"):
        file = file or Path(what)
    path = file or (bugs if name == "bug" else practice).path_of(item, PRACTICE)
    if train:
        if name or watch:
            raise UsageError(f"--train takes a whole lesson, once: rl grade {item.id} --train")
        _train(item, path, as_json, smoke, seed)
        return
    if smoke or seed:
        raise UsageError(f"--smoke and --seed go with --train: rl grade {item.id} --train")
    while True:
        saved = grading.last_saved(path)
        try:
            failed = _graded(item, name, path, as_json)
        except UsageError as error:
            if as_json:
                _print_json({"lesson": item.id, "file": str(path), "error": str(error)})
            if not watch:
                raise typer.Exit(WRONG_USAGE) if as_json else error from None
            if not as_json:
                print(error, flush=True)
        if not watch:
            break
        while grading.last_saved(path) == saved:
            time.sleep(0.1)
    if failed:
        raise typer.Exit(CLAIM_FAILED)


def _graded(item: catalog.Item, name: str, path: Path, as_json: bool) -> bool:
    """Grade once, say what was found and keep it; returns whether something failed."""
    from chapters.course import bugs, grading, shown, telling

    if name == "bug":
        grades, lines = bugs.grade(item, path, PRACTICE)
    else:
        grades = grading.graded(item, grading.text_of(path), name, str(path))
        lines = list(telling.report(item, grades, path))
    if as_json:
        _print_json(telling.as_dict(item, grades, path))
    else:
        print("\n".join(lines), flush=True)
    if name != "bug":
        shown.keep(item, grades, PRACTICE)
    return any(one.state == "failed" for one in grades)


def _train(item: catalog.Item, path: Path, as_json: bool, smoke: bool, seed: int) -> None:
    """Train with the functions of a file, and say what holds. Ctrl-C ends it in one line."""
    import contextlib

    from chapters.course import grading, training

    aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    try:
        text = grading.text_of(path)
        with aside:  # whatever functions or libraries print, a program reads JSON and nothing else
            for said in training.train(item, text, str(path), seed, smoke, RUNS / "practice"):
                if isinstance(said, training.Trained):
                    found = said
                elif not as_json:
                    print(said, flush=True)
    except KeyboardInterrupt:
        if training.running:
            stopping.leave()  # the run has said already that it was interrupted
        raise
    except UsageError as error:
        if not as_json:
            raise
        _print_json({"lesson": item.id, "file": str(path), "error": str(error)})
        raise typer.Exit(WRONG_USAGE) from None
    training.keep(item, found, smoke, PRACTICE)
    if as_json:
        _print_json(training.as_dict(item, found, path))
    if not found.holds:
        raise typer.Exit(CLAIM_FAILED)


def _print_json(found: dict) -> None:
    import json

    print(json.dumps(found), flush=True)


@app.command()
def hint(what: OneFunction) -> None:
    """Show the next hint for an exercise: the idea, an example or limiting case, the first line."""
    from chapters.course import bugs, practice

    item, name = _functions(what)
    if name == "bug":
        steps, total = bugs.next_hint(item, PRACTICE)
    else:
        steps, total = practice.next_hint(item, name, PRACTICE)
    print("\n\n".join(f"hint {number} of {total}\n{step}" for number, step in enumerate(steps, 1)))
    if len(steps) == total:
        print(f"\nThat was the last one. The right version, and why it is right: rl solution {what}")


@app.command()
def solution(
    what: OneFunction,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Show the right version of a function, and why it is so; asks first, unless yours has passed."""
    from chapters.course import bugs, grading, practice, shown

    item, name = _functions(what)
    if name == "bug":
        text = bugs.solution(item, PRACTICE)
        if not yes:
            typer.confirm("It is not found yet. Show it?", abort=True)
        bugs.give_up(item, PRACTICE)
        print(text)
        return
    text = practice.solution(item, name)
    if not yes and not practice.question_of(item, name):
        book = shown.read(PRACTICE)
        if not all(shown.passed(book, item, one) for one in grading.tasks_for(item, name)):
            typer.confirm(f"{what} has not passed yet. Show the right version?", abort=True)
    print(text)


@app.command("next")
def next_() -> None:
    """What to do next: a lesson, and the notes before it."""
    from chapters.course import overview

    print("\n".join(overview.next_lines(_plan(), RUNS)))


@app.command()
def status() -> None:
    """What you have passed, and how well you predicted it."""
    from chapters.course import overview

    lines = [*overview.status_lines(_plan(), RUNS), *_prediction_lines(short=True)]
    if (PRACTICE / "progress.json").exists():
        from chapters.course import shown

        if own := shown.status_lines(PRACTICE):
            lines += ["shown by your own version, not by the lesson's code:", *(f"  {line}" for line in own)]
    print("\n".join(lines))


def _plan() -> plans.Plan | None:
    """The plan you follow. One that cannot be read is told, and passed over."""
    from chapters.course import plans

    try:
        return plans.chosen(DAYS)
    except plans.PlanError as error:
        print(f"warning: {error}; going on without one", file=sys.stderr)
        return None


@app.command("plan")
def plan_(
    name: Annotated[str, typer.Argument(help="weekend, five-days, six-weeks; or none.")] = "",
) -> None:
    """Show the study plan you follow, or choose one.

    `rl next` and `rl status` then go by it.
    """
    from chapters.course import overview, plans
    from chapters.course.journal import JournalError

    try:
        plan = plans.choose(name, DAYS) if name else plans.chosen(DAYS)
        print("\n".join(overview.plan_lines(plan, RUNS) if plan else overview.plans_lines()))
    except (JournalError, plans.PlanError) as error:
        raise UsageError(str(error)) from None


def _prediction_lines(short: bool) -> list[str]:
    """How well you predicted: the mean score and, unless `short`, a line for each prediction."""
    from chapters.course import predictions

    found, problems = predictions.load(DAYS)
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    return predictions.report(predictions.score(found, RUNS), short)


@app.command()
def predict(
    lesson: Annotated[
        str, typer.Argument(help="A lesson's id; without one, your predictions are listed.")
    ] = "",
    claim: Annotated[list[str] | None, typer.Option(help="NAME=0.8; may be given several times.")] = None,
    every: Annotated[str | None, typer.Option("--all", help="One probability for all claims.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=999_999, help="Only a run with this seed counts.")
    ] = None,
    note: Annotated[str, typer.Option(help="Why you think so.")] = "",
) -> None:
    """Write down what you expect of a lesson before you run it.

    It asks how likely each claim is to hold; the next full run of the lesson scores you (`rl status`).
    """
    from datetime import datetime

    from chapters.course import predictions
    from chapters.course.progress import full_runs

    if not lesson:
        if claim or every or seed is not None or note:
            raise UsageError("predict of which lesson? (rl predict LESSON --all 0.9)")
        lines = _prediction_lines(short=False)
        print("\n".join(lines) or "No predictions yet: rl predict LESSON, before you run it.")
        return
    item = find(lesson)
    if full_runs(item.id, RUNS):
        print(
            f"You have run {item.id} before: rl status tells such predictions from those before a first run."
        )
    cut_off = False
    try:
        claims = predictions.claims_ahead(item)
        if claim or every is not None:
            chosen = predictions.from_options(claims, claim or [], every)
        elif not sys.stdin.isatty():
            raise UsageError("no terminal to ask in: state --claim NAME=0.8 or --all 0.9")
        else:
            claims, chosen = predictions.open_ones(claims), {}
            try:
                _ask_for(item, claims, chosen)
                if chosen and not note:
                    note = typer.prompt("\nWhy? (Enter for no note)", default="", show_default=False)
            except (KeyboardInterrupt, typer.Abort, EOFError):
                cut_off = True  # the answers that were given are kept
        if chosen:
            made = predictions.Prediction(item.id, datetime.now().astimezone(), chosen, seed, note)
            path = predictions.save(made, DAYS)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if chosen:
        print(f"{chr(10) * cut_off}{len(chosen)} of {len(claims)} claims predicted: {_short(path)}")
        flags = f" --seed {seed}" if seed is not None else ""
        print(f"It is scored by your next full run: rl run {item.id}{flags}")
    else:
        print("nothing predicted, nothing written")
    if cut_off:
        raise typer.Abort


def _ask_for(item: catalog.Item, claims: list, chosen: dict[str, float]) -> None:
    from chapters.course import predictions

    print(f"{item.id} · {item.title}\n{item.question}")
    print("How likely is each to hold in your next full run? 80 or 0.8; Enter passes one over, Ctrl-C ends.")
    predictions.ask_each(
        claims, lambda text: typer.prompt(text, default="", show_default=False), chosen=chosen
    )


def _short(path: Path) -> str:
    return str(path.relative_to(catalog.ROOT) if path.is_relative_to(catalog.ROOT) else path)


@app.command("goals")
def goals_() -> None:
    """The learning goals, and what shows them: your own version, or the lesson's code in a run of yours.

    The goals stand in planning/learning_goals.md.
    """
    from chapters.course import goals

    book = {}
    if (PRACTICE / "progress.json").exists():
        from chapters.course import shown

        book = shown.read(PRACTICE)

    try:
        found = goals.load(GOALS)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{_short(GOALS)}: cannot be read ({reason})") from None
    for line in goals.report(found, RUNS, book):
        print(line)
    if not found:
        raise UsageError(f"{_short(GOALS)}: no goal in it (a goal: - [ ] I can … (claim `B1.success_4x4`))")
    if faults := goals.faults(found):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UsageError(f"{_short(GOALS)}, {faults[0]}{more}")


@app.command()
def record(
    lesson: Lesson,
    seeds: Annotated[str, typer.Option(help="0:5 is 0 to 4; 1,7,9 is those.")] = "0:5",
    restamp: Annotated[
        bool, typer.Option("--restamp", help="Only renew the stamp; refuse if a number changed.")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Only the smoke run's numbers, after its sizes changed.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Keep the verdicts on seeds that the ledger does not hold.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds at a time; times then include the crowd.")] = 1,
    on: On = "local",
    address: Address = "",
) -> None:
    """Measure a lesson over several seeds and write its ledger and figures."""
    from chapters.course import fresh as fresh_runs
    from chapters.course import ledger, tables

    item = find(lesson)
    only = [name for name, asked in (("--fresh", fresh), ("--restamp", restamp), ("--smoke", smoke)) if asked]
    if len(only) > 1:
        raise UsageError(f"{' and '.join(only)}: one or the other")
    place, far = _place(on, address, jobs), None
    if place.on == "ray":
        if restamp or smoke:
            raise UsageError(f"{only[0]} runs here (allowed with --on ray: --fresh, or neither)")
        from chapters.course.remote import each_seed

        def far(scratch: Path):
            return each_seed(item, ledger.parse_seeds(seeds), place, scratch)

    try:
        if restamp:
            ledger.restamp(item)
        elif smoke:
            ledger.record_smoke(item)
        elif fresh:
            fresh_runs.record(item, ledger.parse_seeds(seeds), jobs, far=far)
        else:
            book = ledger.record(item, ledger.parse_seeds(seeds), jobs, far=far)
            fresh_runs.forget(item)
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
    if not only and held < total:
        raise typer.Exit(CLAIM_FAILED)


def _place(on: str, address: str, jobs: int) -> remote.Place:
    """Where to run, refused at once if it cannot be."""
    from chapters import cluster
    from chapters.course.remote import Place

    if address and on != "ray":
        raise UsageError("--address goes with --on ray")
    if on == "ray" and (why := cluster.missing()):
        raise UsageError(f"--on ray: {why}")
    return Place(on, address, jobs)


@app.command("sweep")
def sweep_(
    lesson: Lesson,
    seeds: Annotated[str, typer.Option(help="0:64 is 0 to 63; 1,7,9 is those.")] = "0:5",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=V1,V2 of a setting of the lesson; given several times: a grid."),
    ] = None,
    on: On = "local",
    address: Address = "",
    jobs: Annotated[int, typer.Option(min=0, max=4096, help="Runs at a time; 0: one for each core.")] = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny settings: each run takes seconds.")] = False,
    evidence: Annotated[bool, typer.Option("--evidence", help="Measure the lesson's evidence too.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to keep it in, if not runs/sweeps.")] = None,
) -> None:
    """Run a lesson over seeds and settings: one table, one figure, with intervals.

    What has been run is kept: after any end, the same command goes on from there, and one with more seeds or
    values runs what is new. Exit code 1 if a run broke; claims that fail are what a sweep is for.
    """
    from chapters.course import sweep as sweeps

    item = find(lesson)
    place = _place(on, address, jobs)
    flags = tuple(flag for flag, given in (("--smoke", smoke), ("--evidence", evidence)) if given)
    sweep = sweeps.plan(item, seeds, settings or [], flags, (out or RUNS / "sweeps").absolute())
    try:
        with sweeps.alone(sweep):
            runs = sweeps.Runs(sweep, say=lambda line: print(line, flush=True))
            if runs.done:
                print(f"{runs.done} of {runs.total} runs are there already", flush=True)
            try:
                runs.make(place)
            except KeyboardInterrupt:
                print(f"{runs.kept} of {runs.total} runs are kept: the same command goes on from there")
                raise
            lines = sweeps.write(sweep)
    except OSError as error:
        raise UsageError(f"--out {sweep.folder}: cannot write there ({error.strerror or error})") from None
    print("\n".join(lines))
    print(f"everything is in {_short(sweep.folder)}: sweep.json, sweep.md, {item.id}_sweep.png, the runs")
    if runs.broken:
        shown = "; ".join(runs.broken[:3])
        print(f"{len(runs.broken)} of {runs.total} runs broke: {shown} (see *.error.txt)", file=sys.stderr)
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


@app.command("diagnose")
def diagnose_(
    run: Annotated[
        str, typer.Argument(help="A run's folder, LESSON/FOLDER, or a lesson's id (its latest run).")
    ],
) -> None:
    """Say from a run's metrics what is wrong with its learner, and by what evidence."""
    from chapters.course import diagnose

    for line in diagnose.report(diagnose.run_folder(run, RUNS)):
        print(line)


@rate.command("export")
def rate_export(
    ratings: Annotated[Path, typer.Argument(help="Where D6 kept them: runs/D6/ratings.sqlite.")],
    file: Annotated[Path, typer.Argument(help="The .jsonl file to write.")],
    chat: Annotated[
        bool, typer.Option("--chat", help="As messages, for models with a chat template.")
    ] = False,
) -> None:
    """Write the preferences of a file of ratings as TRL reads them, and --pairs of D3, D4 and D6."""
    from chapters.rating.__main__ import write

    print(write(ratings, file, chat))


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
        written = to_notebook(item, path)
    except OSError as error:
        raise UsageError(f"--out {path}: cannot write there ({error.strerror})") from None
    print(written)


SiteFolder = Annotated[Path, typer.Option(help="Folder of the site.", show_default="site")]


@site.command("build")
def site_build(out: SiteFolder = catalog.ROOT / "site") -> None:
    """Write every lesson, note, day and plan as a page; nothing is run. Exit code 1 if something is amiss."""
    from chapters.course.site.build import build

    warnings = build(out.absolute())
    print("\n".join([*warnings, f"open {_short(out.absolute() / 'index.html')}, or: rl site serve"]))
    if warnings:
        raise typer.Exit(CLAIM_FAILED)


@site.command("epub")
def site_epub(
    out: Annotated[Path, typer.Option(help="The file.", show_default="course.epub")] = catalog.ROOT
    / "course.epub",
) -> None:
    """Write the notes and lessons as an EPUB. Exit code 1 if something is amiss."""
    from chapters.course.site.book import make

    warnings = make(out.absolute())
    print("\n".join([*warnings, _short(out.absolute())]))
    if warnings:
        raise typer.Exit(CLAIM_FAILED)


@site.command("serve")
def site_serve(
    out: SiteFolder = catalog.ROOT / "site",
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes any free one.")] = 8000,
) -> None:
    """Build the site, as far as something changed, and show it at 127.0.0.1 until Ctrl-C."""
    from chapters.course.site.build import build, require, server

    require()
    with server(out.absolute(), port) as serving:  # first: a port in use is known before the build
        print("\n".join(build(out.absolute())), end="", flush=True)
        print(f"http://127.0.0.1:{serving.server_address[1]} (Ctrl-C ends)", flush=True)
        serving.serve_forever()


@dev.command("check-exercises")
def check_exercises(
    lesson: Annotated[str, typer.Argument(help="A lesson's id; without one, all of them.")] = "",
    keep: Annotated[
        bool, typer.Option("--record", help="Keep what was found, for the table in CONTRIBUTING.")
    ] = False,
) -> None:
    """Grade the graders: stubs, right answers in several idioms, and every named mistake."""
    from chapters.course import graders
    from chapters.course.parts import tasks_of

    wrong = False
    for item in [find(lesson)] if lesson else catalog.lessons():
        found = [graders.examine(task) for task in tasks_of(item).values()]
        strays = graders.strays(item)
        print("\n".join([*graders.report(item, found), *(f"  {stray}" for stray in strays)]), flush=True)
        wrong |= bool(strays) or any(one.faults for one in found)
        if keep:
            graders.record(item, found)
    if wrong:
        raise typer.Exit(CLAIM_FAILED)


@day.command("new")
def day_new() -> None:
    """Start days/DayNN from the template."""
    from chapters.course.journal import JournalError, new_day

    try:
        print(_short(new_day(DAYS)))
    except JournalError as error:
        raise UsageError(str(error)) from None


@day.command("list")
def day_list() -> None:
    """All days: number, date, hypothesis → verdict. What is missing or cannot be read stands in brackets."""
    from shutil import get_terminal_size

    from chapters.course.journal import days, read_day

    width = get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    for folder in (found := days(DAYS)):
        print(read_day(folder).line(width))
    if not found:
        print("No day yet: rl day new starts the first.")


@day.command("log")
def day_log(
    run: Annotated[
        str,
        typer.Argument(
            metavar="LESSON|RUN", help="B3: its latest run; or a run folder, B3/20261120-093000-seed0."
        ),
    ],
) -> None:
    """Append a run (config, metrics, verdict, figure) to the latest day."""
    from chapters.course.journal import JournalError, log_run

    try:
        print(_short(log_run(run, DAYS, RUNS)))
    except JournalError as error:
        raise UsageError(str(error)) from None


if __name__ == "__main__":
    main()
