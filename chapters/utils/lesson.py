"""From a command line to a run: parse, check, run `main`, print the claims, exit with the right code."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
import os
import platform
import resource
import sys
import time
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chapters.utils.files import write_json
from chapters.utils.runlog import RunLog, new_run_folder
from chapters.utils.tracking import TRACKERS, make_trackers

PASSED, CLAIM_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
RUNS = Path(os.environ.get("RL_RUNS", Path(__file__).resolve().parents[2] / "runs"))


class UsageError(Exception):
    """Wrong input: its message is one line that says what is wrong and what is allowed. Exit code 2."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, both included."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


def in_range(low: float, high: float) -> Range:
    """Mark for a Config field: `alpha: Annotated[float, in_range(0.0, 1.0)] = 0.1`."""
    return Range(low, high)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Flags that every lesson has."""

    smoke: bool = False
    """Run a tiny version in seconds; only claims that must always hold are enforced."""
    out: Path = RUNS
    """Folder for what the run writes; it gets <lesson>/<time>-seed<n>/."""
    track: typing.Literal[TRACKERS] = "none"  # type: ignore[valid-type]
    """Mirror the metrics: tensorboard, or wandb (offline unless WANDB_MODE says otherwise)."""


def run_lesson(main: Callable[[Any, RunLog], None], config_class: type, smoke: dict) -> None:
    """Run a lesson as a script (never returns: exits 0, 1, 2 or 130) or inside a notebook (returns).

    In a notebook the configuration is the default one, or the smoke one if RL_SMOKE is set; RL_RUNS names
    another folder than `runs/`.
    """
    lesson_file = Path(main.__globals__.get("__file__", "notebook.py"))
    if "ipykernel" in sys.modules:
        cfg = config_class(**(smoke if os.environ.get("RL_SMOKE") else {}))
        options = RunOptions(smoke=bool(os.environ.get("RL_SMOKE")))
        execute(main, cfg, lesson_file, options)
        return
    try:
        cfg, options = parse(config_class, smoke, sys.argv[1:], prog=f"python {lesson_file.name}")
        log = execute(main, cfg, lesson_file, options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(CLAIM_FAILED if failed_claims(log) else PASSED)


def parse(config_class: type, smoke: dict, argv: Sequence[str], prog: str) -> tuple[Any, RunOptions]:
    """(Config, RunOptions) from flags. Raises UsageError on anything unknown or out of range."""
    import tyro

    # --smoke changes the defaults; flags given beside it still win
    base = config_class(**(smoke if "--smoke" in argv else {}))
    both = dataclasses.make_dataclass("Lesson", [("config", config_class), ("run", RunOptions)], frozen=True)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            parsed = tyro.cli(
                both,
                args=list(argv),
                default=both(base, RunOptions()),
                prog=prog,
                description=config_class.__doc__,
                use_underscores=False,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):  # --help
            raise
        raise UsageError(_one_line(printed.getvalue(), config_class)) from None
    check_ranges(parsed.config)
    return parsed.config, parsed.run


def ranges(config_class: type) -> dict[str, Range]:
    """The fields whose annotation states a range."""
    hints = typing.get_type_hints(config_class, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, Range)}


def check_ranges(cfg: Any) -> None:
    """Raise UsageError for the first field outside the range its annotation states."""
    for name, allowed in ranges(type(cfg)).items():
        value = getattr(cfg, name)
        if not allowed.low <= value <= allowed.high:
            raise UsageError(f"{_flag(name)} {value:g} is out of range (allowed: {allowed})")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _one_line(box: str, config_class: type) -> str:
    """tyro's framed message as one line (the text above the frame's first rule), and what is allowed."""
    body = []
    for line in (line.strip("│ ") for line in box.splitlines() if line.startswith("│")):
        if line.startswith("───"):
            break
        body.append(line)
    message = " ".join(body) or " ".join(box.split())
    if message.startswith("Unrecognized"):
        names = [field.name for cls in (config_class, RunOptions) for field in dataclasses.fields(cls)]
        message += f" (allowed: {', '.join(map(_flag, names))})"
    for name, allowed in ranges(config_class).items():
        if message.startswith(f"Error parsing {_flag(name)}:"):
            message += f" (allowed: {allowed})"
    return message


def execute(
    main: Callable[[Any, RunLog], None],
    cfg: Any,
    lesson_file: Path,
    options: RunOptions,
    print_claims: bool = True,
) -> RunLog:
    """Run `main(cfg, log)` in a new run folder and return the log.

    However the run ends, `run.json` says so ("passed", "failed", "interrupted", "crashed") and what was
    measured by then is on disk. Raises UsageError if the folder cannot be written.
    """
    lesson = lesson_file.stem.split("_")[0]
    try:
        folder = new_run_folder(Path(options.out), lesson, cfg.seed)
    except OSError as error:
        raise UsageError(f"--out {options.out}: cannot write there ({error.strerror})") from None
    config = dataclasses.asdict(cfg)
    write_json(folder / "config.json", config)
    run = {"lesson": lesson, "seed": cfg.seed, "smoke": options.smoke, "status": "running"}
    run["started"] = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
    write_json(folder / "run.json", run)

    log = RunLog(
        folder, lesson, smoke=options.smoke, trackers=make_trackers(options.track, folder, lesson, config)
    )
    start, cpu_start = time.monotonic(), time.process_time()
    run["status"] = "crashed"
    try:
        main(cfg, log)
        run["status"] = "failed" if failed_claims(log) else "passed"
    except KeyboardInterrupt:
        run["status"] = "interrupted"
        print(f"\ninterrupted: what was measured so far is in {_short(folder)}", file=sys.stderr)
        raise
    except UsageError:
        run["status"] = "refused"
        raise
    finally:
        log.close()
        run["seconds"] = round(time.monotonic() - start, 3)
        run["cpu_seconds"] = round(time.process_time() - cpu_start, 3)
        run["peak_memory_mb"] = peak_memory_mb()
        write_json(folder / "run.json", run)
    if print_claims:
        _print_claims(log, lesson_file, run["seconds"])
    return log


def peak_memory_mb() -> int:
    """Peak resident memory of this process in megabytes (ru_maxrss is bytes on macOS, KiB on Linux)."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def failed_claims(log: RunLog) -> list:
    """The enforced claims that do not hold: all of them, or in a smoke run those marked `always`."""
    return [claim for claim in log.claims if not claim.holds and (claim.always or not log.smoke)]


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _print_claims(log: RunLog, lesson_file: Path, seconds: float) -> None:
    """The table of claims; below it, for each failure, how it fares on the recorded seeds."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "claim", "value", "bound", title=f"{log.lesson}: claims", title_justify="left")
    for claim in log.claims:
        enforced = claim.always or not log.smoke
        verdict = "[green]✓[/]" if claim.holds else ("[red]✗[/]" if enforced else "[dim]–[/]")
        unit = f" [dim]{claim.unit}[/]" if claim.unit else ""
        table.add_row(verdict, claim.statement, f"{claim.value:.4g}{unit}", claim.bound)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    if log.smoke:
        console.print("[dim]smoke run: only identities and bounds are enforced; – needs a full run[/]")
    for figure in log.figures:
        print(f"figure: {_short(figure)}")
    print(f"{seconds:.1f} s, everything is in {_short(log.folder)}")

    recorded = _recorded(lesson_file, log.lesson)
    for claim in failed_claims(log):
        history = recorded.get(claim.name)
        seen = f"; it holds on {history} recorded seeds" if history else "; no recorded runs to compare with"
        print(f"claim failed: {claim.name} = {claim.value:.4g}, bound {claim.bound}{seen}", file=sys.stderr)


def _recorded(lesson_file: Path, lesson: str) -> dict[str, str]:
    """Claim name -> "9 of 10", from the lesson's committed ledger."""
    try:
        ledger = json.loads((lesson_file.parent / "results" / f"{lesson}.json").read_text(encoding="utf-8"))
        return {name: entry["held"].replace("/", " of ") for name, entry in ledger["claims"].items()}
    except (OSError, ValueError, KeyError):
        return {}
