"""From a command line to a run: parse, check, run `main`, print the claims, exit with the right code."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib
import io
import itertools
import json
import os
import platform
import resource
import sys
import time
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chapters.utils import stopping
from chapters.utils.errors import UsageError
from chapters.utils.files import write_json
from chapters.utils.runlog import RunLog, new_run_folder
from chapters.utils.tracking import TRACKERS, make_trackers

PASSED, CLAIM_FAILED, WRONG_USAGE = 0, 1, 2
DISK_FULL = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter", "unexpected pos")
CHECKS: list[Callable[[Any], None]] = []
"""What other rooms look at before a run: each is called with its Config, and may raise UsageError."""
RESUMERS: list[Callable[[Path, str, dict], Path]] = []
"""What finds the folder of a run that is to go on, or raises UsageError: `text.checkpoint`, if it is used."""
RUNS = Path(os.environ.get("RL_RUNS") or Path(__file__).resolve().parents[2] / "runs")


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
    evidence: bool = False
    """After the lesson also measure the evidence beside it: ablations, peers, parity, cost."""
    out: Path = RUNS
    """Folder for what the run writes; it gets <lesson>/<time>-seed<n>/."""
    track: typing.Literal[TRACKERS] = "none"  # type: ignore[valid-type]
    """Mirror the metrics: tensorboard, or wandb (offline unless WANDB_MODE says otherwise)."""
    resume: Path | None = None
    """Go on with a run that was stopped, given its folder and the same flags; for lessons that can go on."""
    save_every: typing.Annotated[float, in_range(0.0, 1e6)] = 60.0
    """Seconds between what such a lesson saves to go on from; 0: after each update."""


def run_lesson(
    main: Callable[[Any, RunLog], None], config_class: type, smoke: dict, quick: bool = False
) -> None:
    """Run a lesson as a script (never returns: exits 0, 1, 2 or 128 + signal) or in a notebook (returns).

    In a notebook the configuration is the default one, or the smoke one if `quick` or if RL_SMOKE is set;
    RL_RUNS names another folder than `runs/`.
    """
    lesson_file = Path(main.__globals__.get("__file__", "notebook.py"))
    if "ipykernel" in sys.modules:
        options = RunOptions(smoke=quick or bool(os.environ.get("RL_SMOKE")))
        cfg = config_class(**(smoke if options.smoke else {}))
        execute(main, cfg, lesson_file, options)
        return
    stopping.start()
    try:
        evidence = None
        if "--evidence" in sys.argv[1:]:
            # the evidence imports its lesson by name: let it find the one that is running
            sys.modules.setdefault(_module_name(lesson_file), sys.modules[main.__module__])
            evidence = find_evidence(lesson_file)
        cfg, extra, options = parse(
            config_class, smoke, sys.argv[1:], prog=f"python {lesson_file.name}", evidence=evidence
        )
        log = execute(main, cfg, lesson_file, options, extra=extra)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    except Exception as error:  # libraries that save have errors of their own
        if not any(said in str(error) for said in DISK_FULL):
            raise
        print("error: the disk is full: free some space, or use another (--out, RL_CACHE)", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    except KeyboardInterrupt:
        stopping.leave()
    sys.exit(CLAIM_FAILED if failed_claims(log) else PASSED)


def find_evidence(lesson_file: Path) -> types.ModuleType:
    """The module `evidence/<ID>.py` beside a lesson. Raises UsageError if the lesson has none."""
    lesson = lesson_id(lesson_file)
    path = lesson_file.parent / "evidence" / f"{lesson}.py"
    if not path.exists():
        raise UsageError(f"--evidence: {lesson} has none (there is no {_short(path)})")
    return importlib.import_module(f"{_module_name(lesson_file).rpartition('.')[0]}.evidence.{lesson}")


def lesson_id(lesson_file: Path) -> str:
    """C3 of .../C3_ppo_from_scratch.py."""
    return lesson_file.stem.split("_")[0]


def _module_name(lesson_file: Path) -> str:
    return f"chapters.{lesson_file.parent.name}.{lesson_file.stem}"


def parse(
    config_class: type, smoke: dict, argv: Sequence[str], prog: str, evidence: types.ModuleType | None = None
) -> tuple[Any, Any, RunOptions]:
    """(Config, the evidence's Config or None, RunOptions) from flags.

    Raises UsageError on anything unknown or out of range.
    """
    import tyro

    words = [word for flag in argv for word in flag.split("=", 1)]
    if ("--out", "") in itertools.pairwise(words):
        raise UsageError("--out '' names no folder (allowed: a folder, . for this one)")
    classes, defaults = {"config": config_class}, {"config": smoke}
    if evidence:
        classes["extra"], defaults["extra"] = evidence.Config, evidence.SMOKE
    # --smoke changes the defaults; flags given beside it still win
    bases = [cls(**(defaults[name] if "--smoke" in argv else {})) for name, cls in classes.items()]
    every = dataclasses.make_dataclass("Lesson", [*classes.items(), ("run", RunOptions)], frozen=True)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            parsed = tyro.cli(
                every,
                args=list(argv),
                default=every(*bases, RunOptions()),
                prog=prog,
                description=config_class.__doc__,
                use_underscores=False,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):  # --help
            raise
        raise UsageError(_one_line(printed.getvalue(), *classes.values())) from None
    extra = getattr(parsed, "extra", None)
    for cfg in (parsed.config, extra, parsed.run):
        if cfg is not None:
            check_ranges(cfg)
    return parsed.config, extra, parsed.run


def ranges(config_class: type) -> dict[str, Range]:
    """The fields whose annotation states a range, and the seed, which every library must be able to take."""
    hints = typing.get_type_hints(config_class, include_extras=True)
    marks = ((name, mark) for name, hint in hints.items() for mark in getattr(hint, "__metadata__", ()))
    found = {name: mark for name, mark in marks if isinstance(mark, Range)}
    return {"seed": Range(0, 999_999), **found} if hints.get("seed") is int else found


def check_ranges(cfg: Any) -> None:
    """Raise UsageError for the first field outside the range its annotation states."""
    for name, allowed in ranges(type(cfg)).items():
        value = getattr(cfg, name)
        if not allowed.low <= value <= allowed.high:
            told = f"{max(min(value, 1e300), -1e300):g}"  # no float holds every whole number
            raise UsageError(f"{_flag(name)} {told} is out of range (allowed: {allowed})")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _one_line(box: str, *classes: type) -> str:
    """tyro's message as one line, and what is allowed: what stands between its title and its next rule.

    A terminal without UTF-8 gets no frame, and rules of hyphens.
    """
    body: list[str] = []
    for line in (line.strip("│ ") for line in box.splitlines()[1:]):
        if line and not line.strip("─-"):
            if body:
                break
        elif line:
            body.append(line)
    body = body if len(body) < 20 else [*body[:2], "…", *body[-4:]]  # who gave a megabyte knows it
    message = " ".join(body) or " ".join(box.split())
    if message.startswith("Unrecognized"):
        names = [field.name for cls in (*classes, RunOptions) for field in dataclasses.fields(cls)]
        message += f" (allowed: {', '.join(map(_flag, names))})"
    for name, allowed in {name: mark for cls in classes for name, mark in ranges(cls).items()}.items():
        if message.startswith(f"Error parsing {_flag(name)}:"):
            message += f" (allowed: {allowed})"
    return message


def execute(
    main: Callable[[Any, RunLog], None],
    cfg: Any,
    lesson_file: Path,
    options: RunOptions,
    print_claims: bool = True,
    extra: Any = None,
) -> RunLog:
    """Run `main(cfg, log)` in a new run folder and return the log; with --evidence its `measure` too.

    However the run ends, `run.json` says so ("passed", "failed", "interrupted", "refused", "crashed"); what
    was measured by then is on disk. Raises UsageError if the folder cannot be written.
    """
    import psutil

    lesson = lesson_id(lesson_file)
    for check in CHECKS:
        check(cfg)
    evidence = find_evidence(lesson_file) if options.evidence else None
    config = dataclasses.asdict(cfg)
    if options.resume and not RESUMERS:
        raise UsageError(f"--resume: {lesson} saves nothing to go on from (allowed: run it again)")
    try:
        found = RESUMERS[0](options.resume, lesson, config) if options.resume else None
        folder = found or new_run_folder(Path(options.out), lesson, cfg.seed)
    except OSError as error:
        raise UsageError(f"--out {options.out}: cannot write there ({error.strerror})") from None
    if evidence:
        extra = extra or evidence.Config(**(evidence.SMOKE if options.smoke else {}))
        config["evidence"] = dataclasses.asdict(extra)
    write_json(folder / "config.json", config)
    run = {"lesson": lesson, "seed": cfg.seed, "smoke": options.smoke, "evidence": options.evidence}
    since = psutil.Process().create_time()  # by its process a run that was killed is known as lost
    run |= {"status": "running", "process": {"host": platform.node(), "pid": os.getpid(), "since": since}}
    run["started"] = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
    write_json(folder / "run.json", run)
    trackers = make_trackers(options.track, folder, lesson, config)
    log = RunLog(folder, lesson, smoke=options.smoke, trackers=trackers)
    log.options = options
    start, cpu_start = time.monotonic(), time.process_time()
    run["status"] = "crashed"
    stopping.then("raise")
    try:
        main(cfg, log)
        run["lesson_cpu_seconds"] = round(time.process_time(), 3)  # of the whole process, imports included
        run["lesson_rows"] = log.num_rows
        if evidence:
            log.in_evidence = True
            evidence.measure(cfg, extra, log)
        run["status"] = "failed" if failed_claims(log) else "passed"
    except BaseException as error:
        stopping.then("wait")
        if not isinstance(error, KeyboardInterrupt) and not stopping.asked:
            run["status"] = "refused" if isinstance(error, UsageError) else "crashed"
            raise
        run["status"] = "interrupted"
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"interrupted: what was measured so far is in {_short(folder)}", file=sys.stderr)
        raise error if isinstance(error, KeyboardInterrupt) else stopping.Stopped() from None
    finally:
        stopping.then("wait")
        run["seconds"] = round(time.monotonic() - start, 3)
        run["cpu_seconds"] = round(time.process_time() - cpu_start, 3)
        run["peak_memory_mb"] = peak_memory_mb()
        log.close()
        write_json(folder / "run.json", run)
    stopping.then("leave")
    if print_claims:
        _print_claims(log, lesson_file, run["seconds"], evidence is None)
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


def _print_claims(log: RunLog, lesson_file: Path, seconds: float, more: bool) -> None:
    """The table of claims; below it what else can be measured, and for each failure its recorded seeds."""
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
    if "ipykernel" in sys.modules:  # where its figures have been shown
        print(f"{seconds:.1f} s")
    else:
        print("".join(f"figure: {_short(figure)}\n" for figure in log.figures), end="")
        print(f"{seconds:.1f} s, everything is in {_short(log.folder)}")

    ledger = _ledger(lesson_file)
    claims = ledger.get("claims", {})
    others = sum(bool(entry.get("evidence")) for entry in claims.values())
    if more and others and not log.smoke:
        takes = ledger["evidence_seconds"]
        print(f"rl run {log.lesson} --evidence measures {others} more claims, in about {takes:.0f} s")
    for claim in failed_claims(log):
        history = claims.get(claim.name, {}).get("held", "").replace("/", " of ")
        seen = f"; it holds on {history} recorded seeds" if history else "; no recorded runs to compare with"
        print(f"claim failed: {claim.name} = {claim.value:.4g}, bound {claim.bound}{seen}", file=sys.stderr)


def _ledger(lesson_file: Path) -> dict:
    """The lesson's committed ledger; empty if it cannot be read."""
    try:
        path = lesson_file.parent / "results" / f"{lesson_id(lesson_file)}.json"
        ledger = json.loads(path.read_text(encoding="utf-8"))
        return ledger if isinstance(ledger, dict) else {}
    except (OSError, ValueError):
        return {}
