"""Who reaches a threshold, after how much computing, and does it stay there? What both benchmarks share.

A run is one contender and one seed in one fresh process (`worker.py`). Runs alternate between contenders, one
at a time, so that whatever else the machine does hits all alike. Each is saved as soon as it is done.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from chapters.utils import UsageError, bootstrap_interval, plotting, stopping, write_atomic
from chapters.utils.evaluation import sustained
from chapters.utils.files import jsonable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
IN_A_ROW = 3
"""Checks in a row at the threshold that make it sustained; it is known, and timed, at the last of them."""
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu",
}  # fmt: skip
SMOKE = {"num_env_steps": 512, "eval_every": 256, "num_eval_episodes": 2, "smoke": True}


@dataclass(frozen=True)
class Contender:
    """One learner: which function runs it, with which settings, on how many seeds."""

    name: str
    label: str
    runner: str
    """`module:function`, called with the job and a recorder."""
    seeds: int = 3
    num_env_steps: int = 0
    """For the peers; a lesson says so itself."""
    settings: dict[str, Any] = field(default_factory=dict)
    smoke: dict[str, Any] = field(default_factory=dict)
    """What else a smoke run changes in the settings."""
    imports: tuple[str, ...] = ()
    """Modules that it needs; importing them belongs to its start-up."""
    environment: str = ""
    """Requirements file of an environment of its own; empty: the course's."""
    eval_every: int = 0
    """Steps between its checks, if not as many as for the race's others."""
    lacks: Callable[[], str] | None = None
    """Why it cannot run here, or "" if it can: for what needs an extra of the course's environment."""


@dataclass(frozen=True)
class Race:
    """A task and who runs on it."""

    name: str
    env_id: str
    threshold: float
    eval_every: int
    contenders: tuple[Contender, ...]
    pairs: tuple[tuple[str, str], ...]
    """(ours, theirs) to be compared over the seeds that both ran."""
    num_eval_episodes: int = 100
    best: Callable[[int], float] | None = None
    """What the computed optimum earns from the starts that a seed is checked on, where it is known."""

    def job(self, contender: Contender, seed: int, smoke: bool = False) -> dict[str, Any]:
        """What the worker is told."""
        told = {name: getattr(contender, name) for name in ("runner", "num_env_steps", "settings", "imports")}
        told |= {"env_id": self.env_id, "eval_every": contender.eval_every or self.eval_every}
        told |= {"seed": seed, "smoke": False}
        told |= {"num_eval_episodes": self.num_eval_episodes}
        if smoke:
            told |= SMOKE | {"settings": contender.settings | contender.smoke}
        return json.loads(json.dumps(told))  # as it will be read back


# Running


def python_of(contender: Contender) -> Path:
    """The interpreter of a contender's environment, made if need be. Raises UsageError if that fails."""
    if contender.lacks and (why := contender.lacks()):
        raise UsageError(why)
    if not contender.environment:
        return Path(sys.executable)
    requirements = HERE / contender.environment
    folder = ROOT / "runs" / "peers" / requirements.parent.name / requirements.stem
    python, finished = folder / "bin" / "python", folder / "finished"
    if finished.exists() and finished.read_text(encoding="utf-8") == requirements.read_text(encoding="utf-8"):
        return python
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    print(f"making an environment for {contender.label} ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    version = ".".join(platform.python_version_tuple()[:2])
    for command in (
        [uv, "venv", "--quiet", "--python", version, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder.parent)
        except FileNotFoundError:
            raise UsageError("uv is not installed: run ./setup.sh once") from None
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no reason given"])[0]
            raise UsageError(f"no environment: is the package index in reach? ({reason})") from None
    write_atomic(finished, requirements.read_text(encoding="utf-8"))
    return python


def launch(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    """Run a job in a fresh process on one thread. Raises UsageError with its last line if it fails."""
    python = python_of(contender)
    told = json.dumps(job | {"spawned": time.time()})
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    stopping.then("wait")  # while it is being started, nobody could end it
    process = subprocess.Popen(
        [python, "-m", "benchmarks.worker", told],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stopping.then("raise")
        if stopping.asked:
            raise stopping.Stopped
        printed, said = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise UsageError((said.strip().splitlines() or [f"exit code {process.returncode}"])[-1])
    return json.loads(printed.strip().splitlines()[-1])


def machine() -> str:
    """What the times were measured on."""
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}"


COSTS = (
    "num_env_steps", "learning_cpu_seconds", "import_cpu_seconds", "import_wall_seconds",
    "warm_up_cpu_seconds", "peak_memory_mb",
)  # fmt: skip
"""What a run cost: numbers, of which the first two are above 0."""
SHORTEST = 1e-4
"""Seconds that a check takes at least: times are kept to four digits behind the point."""


def load(path: Path) -> dict[str, Any]:
    """Saved results, or those of a race that has not begun. Raises UsageError, one line, if damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {"machine": machine(), "runs": []}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})"
        ) from None
    try:
        results = json.loads(text)
        _read_through(results)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UsageError(f"{path}: damaged results ({reason}); restore it, or move it away") from None
    return results


def _read_through(results: dict[str, Any]) -> None:
    """Raise one of many errors if anything that tables or plot read is not there or of another kind."""
    _require(isinstance(results["machine"], str), "machine is no text")
    for at, run in enumerate(results["runs"]):
        _require(isinstance(run["contender"], str), f"run {at}: contender is no text")
        _require(type(run["job"]["seed"]) is int, f"run {at}: its seed is no whole number")
        numbers = [run[name] for name in COSTS]
        for check in run["checks"]:
            _, _, cpu, wall = check
            _require(cpu >= SHORTEST and wall >= SHORTEST, f"run {at}: a check after no time")
            numbers += check
        _require(all(map(_is_number, numbers)), f"run {at}: what should be a number is none")
        _require(min(numbers[:2]) > 0, f"run {at}: no steps, or no seconds")
        _require(
            all(isinstance(v, str) for v in run["versions"].values()), f"run {at}: versions are no texts"
        )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e12


def save(path: Path, results: dict[str, Any]) -> None:
    """One line a run, so that a difference can be read."""
    lines = ",\n".join(json.dumps(jsonable(run)) for run in results["runs"])
    write_atomic(path, f'{{"machine": {json.dumps(results["machine"])}, "runs": [\n{lines}\n]}}\n')


def run_all(
    race: Race,
    path: Path,
    *,
    only: list[str] | None = None,
    quick: bool = False,
    fresh: bool = False,
    launch: Callable[[Contender, dict[str, Any]], dict[str, Any]] = launch,
) -> list[str]:
    """Do every run that is not in `path` yet; returns a line for each contender that failed."""
    chosen = [contender for contender in race.contenders if not only or contender.name in only]
    if unknown := set(only or ()) - {contender.name for contender in chosen}:
        known = ", ".join(contender.name for contender in race.contenders)
        raise UsageError(f"--only {sorted(unknown)[0]}: no such contender (there are {known})")
    results = load(path)
    if not fresh and results["machine"] != machine():
        raise UsageError(f"{path.name} was measured on {results['machine']}: take --fresh or another --out")
    names = {contender.name for contender in chosen}
    if fresh:
        kept = [run for run in results["runs"] if run["contender"] not in names]
        results = {"machine": machine(), "runs": kept if results["machine"] == machine() else []}
    failed: dict[str, str] = {}
    for seed in range(1 if quick else max(contender.seeds for contender in chosen)):
        for contender in chosen:
            job = race.job(contender, seed)
            if seed >= contender.seeds or contender.name in failed or find(results, contender.name, job):
                continue
            try:
                measured = launch(contender, job)
            except UsageError as error:
                failed[contender.name] = f"{contender.label}: {error}"
                print(failed[contender.name], file=sys.stderr, flush=True)
                continue
            mine = {"contender": contender.name, "job": job, **measured}
            results["runs"] = [run for run in results["runs"] if identity(run) != identity(mine)] + [mine]
            save(path, results)
            crossed = crossing(mine["checks"], race.threshold)
            when = f"after {crossed.cpu:.2f} CPU s" if crossed else "not sustained"
            print(f"{contender.label}, seed {seed}: {race.threshold:g} {when}", flush=True)
    return list(failed.values())


def find(results: dict[str, Any], name: str, job: dict[str, Any]) -> bool:
    """Whether this very job was done before."""
    return any(run["contender"] == name and run["job"] == job for run in results["runs"])


def identity(run: dict[str, Any]) -> tuple[str, int]:
    return run["contender"], run["job"]["seed"]


# What the runs say


@dataclass(frozen=True)
class Crossing:
    """When a threshold was reached."""

    step: int
    cpu: float
    wall: float
    later: float
    """Share of the checks from there on, this one included, that are at the threshold or above."""


def crossing(checks: list[list[float]], threshold: float, in_a_row: int = IN_A_ROW) -> Crossing | None:
    """The check [step, mean return, CPU s, wall s] that completes the first `in_a_row` at the threshold."""
    scores = [score for _, score, _, _ in checks]
    at = sustained(scores, threshold, in_a_row)
    if at is None:
        return None
    step, _, cpu, wall = checks[at]
    later = scores[at:]
    return Crossing(int(step), cpu, wall, sum(score >= threshold for score in later) / len(later))


@dataclass(frozen=True)
class Summary:
    """One contender over its seeds; times are infinite on a seed that never got there."""

    runs: list[dict[str, Any]]
    first: list[float]
    """CPU seconds to the first check at the threshold."""
    sustained: list[float]
    wall: list[float]
    steps: list[float]
    later: list[float]
    """Share of later checks that hold; only seeds that got there."""
    regret: list[float]
    """How far the last check is below the computed optimum, from the same starts; empty if none is known."""

    def median(self, key: str) -> float:
        return statistics.median(run[key] for run in self.runs)

    @property
    def steps_per_second(self) -> float:
        return statistics.median(run["num_env_steps"] / run["learning_cpu_seconds"] for run in self.runs)

    @property
    def reached(self) -> int:
        return sum(math.isfinite(seconds) for seconds in self.sustained)


def summarise(race: Race, runs: list[dict[str, Any]]) -> Summary:
    first = [crossing(run["checks"], race.threshold, 1) for run in runs]
    held = [crossing(run["checks"], race.threshold) for run in runs]
    column = lambda crossings, name: [getattr(c, name) if c else math.inf for c in crossings]  # noqa: E731
    return Summary(
        runs, column(first, "cpu"), column(held, "cpu"), column(held, "wall"), column(held, "step"),
        [c.later for c in held if c],
        [race.best(run["job"]["seed"]) - run["checks"][-1][1] for run in runs if race.best and run["checks"]],
    )  # fmt: skip


def summaries(race: Race, results: dict[str, Any]) -> dict[str, Summary]:
    """Contender name -> summary, in the race's order; only those that ran."""
    found = {}
    for contender in race.contenders:
        runs = [run for run in results["runs"] if run["contender"] == contender.name]
        if runs:
            found[contender.name] = summarise(race, sorted(runs, key=lambda run: run["job"]["seed"]))
    return found


def ratio_of_medians(ours: Summary, theirs: Summary) -> tuple[int, float, tuple[float, float]]:
    """(seeds that both ran, their median over ours of CPU seconds to sustained, 95 % bootstrap interval).

    Of medians the bootstrap nearly keeps its promise from five seeds on; with three it covers three quarters
    (lesson B8): then there is none.
    """
    mine, others = ({run["job"]["seed"]: s for run, s in zip(x.runs, x.sustained)} for x in (ours, theirs))
    seeds = sorted(mine.keys() & others.keys())
    a, b = [mine[seed] for seed in seeds], [others[seed] for seed in seeds]

    def ratio(chosen: Any) -> float:
        below = statistics.median(a[int(i)] for i in chosen)
        return statistics.median(b[int(i)] for i in chosen) / below if math.isfinite(below) else 0.0

    finite = len(seeds) >= 5 and all(map(math.isfinite, a + b))
    interval = bootstrap_interval(range(len(seeds)), ratio) if finite else (math.nan, math.nan)
    return len(seeds), ratio(range(len(seeds))), interval


# Tables


def number(value: float) -> str:
    """Three figures that a reader can compare; a dash for what never happened."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def span(values: list[float]) -> str:
    """Median, and the range where there is more than one value."""
    low, middle, high = (number(f(values)) for f in (min, statistics.median, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables(race: Race, results: dict[str, Any]) -> str:
    """The generated block of the README."""
    found = summaries(race, results)
    labels = {contender.name: contender.label for contender in race.contenders}
    if not found:
        return "\nNot measured yet.\n\n"
    head = (
        "learner", "sustained on", f"CPU s to the first {race.threshold:g}", "CPU s until sustained",
        "seconds until sustained", "steps until sustained", "later checks that hold",
    )  # fmt: skip
    rows = [
        (labels[name], f"{one.reached} of {len(one.runs)} seeds", span(one.first), span(one.sustained),
         number(statistics.median(one.wall)), number(statistics.median(one.steps)),
         f"{100 * statistics.mean(one.later):.0f} %" if one.later else "–") for name, one in found.items()
    ]  # fmt: skip
    if race.best:
        head = (*head, "regret at the last check")
        rows = [(*row, span(one.regret)) for row, one in zip(rows, found.values())]
    speed = markdown(head, rows)
    cost = markdown(
        ("learner", "steps", "steps per CPU s", "imports, CPU s", "imports, s", "warm-up or compiling, CPU s",
         "peak memory, MB"),
        [(labels[name], number(one.median("num_env_steps")), number(one.steps_per_second),
          number(one.median("import_cpu_seconds")), number(one.median("import_wall_seconds")),
          number(one.median("warm_up_cpu_seconds")), number(one.median("peak_memory_mb")))
         for name, one in found.items()],
    )  # fmt: skip
    compared = [(ours, theirs) for ours, theirs in race.pairs if ours in found and theirs in found]
    rows = []
    for ours, theirs in compared:
        seeds, ratio, (low, high) = ratio_of_medians(found[ours], found[theirs])
        interval = f"{number(low)} to {number(high)}" if math.isfinite(low) else "–"
        speedup = found[ours].steps_per_second / found[theirs].steps_per_second
        what = f"{labels[theirs]} over {labels[ours]}"
        rows.append((what, str(seeds), number(ratio), interval, number(speedup)))
    head = ("compared", "paired seeds", "median CPU s until sustained: theirs over ours", "95 % interval",
            "steps per CPU s: ours over theirs")  # fmt: skip
    return (
        f"\nMedian over seeds (range). {results['machine']}; {versions(results)}.\n\n"
        f"{speed}\n{cost}\n{markdown(head, rows)}\n"
    )


def versions(results: dict[str, Any]) -> str:
    """Every version that took part, once."""
    seen: dict[str, set[str]] = {}
    for run in results["runs"]:
        for package, version in run["versions"].items():
            seen.setdefault(package, set()).add(version)
    return ", ".join(f"{package} {' and '.join(sorted(found))}" for package, found in sorted(seen.items()))


def block(name: str) -> re.Pattern:
    return re.compile(rf"(<!-- benchmark: {name} -->\n).*?(<!-- /benchmark -->)", re.DOTALL)


def render(text: str, race: Race, results: dict[str, Any]) -> str:
    """`text` with the race's block made anew."""
    return block(race.name).sub(lambda match: match[1] + tables(race, results) + match[2], text)


# Plot


def draw(race: Race, results: dict[str, Any], path: Path) -> None:
    """Left how fast, right for how long; a dot for each seed, a bar for their median."""
    import io

    import numpy as np
    from matplotlib import ticker

    found = summaries(race, results)
    labels = {contender.name: contender.label for contender in race.contenders}
    figure, (fast, stays) = plotting.new_figure(1, 2, width=7.2, height=1.6 + 0.42 * len(found))
    finite = [value for one in found.values() for value in one.sustained if math.isfinite(value)]
    low, high = (min(finite) / 1.6, max(finite) * 5) if finite else (0.1, 10.0)
    colors = [plotting.BLUE if labels[name].startswith("ours") else plotting.ORANGE for name in found]
    plotting.dot_rows(fast, {labels[name]: one.sustained for name, one in found.items()}, colors)
    for row, (one, color) in enumerate(zip(found.values(), colors)):
        later = 100 * np.array(one.later)
        if not len(later):
            continue  # an empty row of unclipped dots would break the layout
        stays.barh(row, later.mean(), color=color, alpha=0.35)
        stays.plot(later, np.full(len(later), row), "o", color=color, markersize=6, alpha=0.6, clip_on=False)
    stays.set_yticks(range(len(found)), [""] * len(found))
    stays.set_ylim(*fast.get_ylim())
    stays.grid(axis="y", visible=False)
    fast.set(xscale="log", xlim=(low, high))
    for text in fast.texts:  # how many never: inside, at the right, where there is room
        text.set(x=0.99, ha="right")
    fast.set_xlabel(f"CPU seconds of learning until {race.threshold:g} is sustained")
    fast.set_title(f"{race.env_id}: how fast? (a dot a seed, and the median)")
    fast.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    fast.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    fast.xaxis.set_minor_formatter(ticker.NullFormatter())
    stays.set(xlim=(0, 100), xlabel=f"checks at {race.threshold:g} or above, from then on (%)")
    stays.set_title("Does it last?")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


# Command line


def command(
    race: Race,
    only: list[str] | None = None,
    quick: bool = False,
    fresh: bool = False,
    table: bool = False,
    out: Path | None = None,
) -> int:
    """What `cartpole.py` and `pendulum.py` do; returns the exit code."""
    return in_a_line(lambda: _command(race, only, quick, fresh, table, out))


def _command(
    race: Race, only: list[str] | None, quick: bool, fresh: bool, table: bool, out: Path | None
) -> int:
    out = out or (ROOT / "runs" / "benchmarks" if quick else HERE / "results")
    path, failed = out / f"{race.name}.json", []
    if not table:
        try:
            failed = run_all(race, path, only=only, quick=quick, fresh=fresh)
        except KeyboardInterrupt:
            print(f"interrupted: {path} has what was measured; the same command goes on", file=sys.stderr)
            return 128 + (stopping.asked or signal.SIGINT)
    results = load(path)
    if results["runs"]:
        draw(race, results, path.with_suffix(".png"))
    if out == HERE / "results":
        readme = HERE / "README.md"
        write_atomic(readme, render(readme.read_text(encoding="utf-8"), race, results))
    else:
        print(tables(race, results))
    for line in failed:
        print(f"left out: {line}", file=sys.stderr)
    return 1 if failed else 0


def heed_signals() -> None:
    """SIGTERM and SIGHUP end a race as Ctrl-C does, and with it the run that is under way."""
    stopping.start()
    stopping.then("raise")


def in_a_line(work: Callable[[], int | None]) -> int:
    """The exit code of a command; what goes wrong is one line, as everywhere in the course."""
    try:
        return work() or 0
    except UsageError as error:
        told, code = f"error: {error}", 2
    except KeyboardInterrupt:
        told, code = "interrupted", 128 + (stopping.asked or signal.SIGINT)
    except OSError as error:
        told, code = f"error: {error.filename or 'a file'}: {error.strerror or error}", 2
    except Exception as error:
        if not hasattr(error, "format_message"):  # of click: an unknown option, a missing value
            raise
        told, code = f"error: {error.format_message()} (see --help)", 2
    print(told, file=sys.stderr)
    return code


def main(race: Race) -> None:
    """Parse the command line by typer and run."""

    def run(
        only: Annotated[list[str] | None, Option(help="Only this contender; may be repeated.")] = None,
        quick: Annotated[bool, Option("--quick", help="One seed each, into runs/benchmarks.")] = False,
        fresh: Annotated[bool, Option("--fresh", help="Run again what was run before.")] = False,
        table: Annotated[bool, Option("--table", help="Only table and plot, of what is saved.")] = False,
        out: Annotated[Path | None, Option(help="Where results are. Default: benchmarks/results.")] = None,
    ) -> None:
        raise typer.Exit(command(race, only, quick, fresh, table, out))

    run.__doc__ = f"Race on {race.env_id}: who reaches {race.threshold:g}, how fast, and does it last?"
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(run)
    heed_signals()
    sys.exit(in_a_line(lambda: app(standalone_mode=False)))
