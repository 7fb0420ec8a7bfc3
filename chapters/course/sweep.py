"""A sweep: one lesson over seeds and settings, by processes here or by Ray's tasks on a cluster.

    runs/sweeps/C3/<stamp>/                    all runs of one version of the lesson's code
        learning_rate=0.001/seed0/             one run, whole: it has its name only when it is
        sweep.json, sweep.md, C3_sweep.png     every number but times; the table; the figure
        times.json                             what differs from one machine to the next

A run is written under a temporary name and renamed when it has ended: one file operation, which a kill comes
before or after. What has its name is done, whatever happened since, and is never run again; what has not was
not done. So the folder is its own journal, and the same command goes on where the last one was cut off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chapters.course import children, ledger, remote
from chapters.course.catalog import Item
from chapters.course.parts import evidence_of, lesson_of
from chapters.utils import plotting
from chapters.utils.claims import Claim
from chapters.utils.files import jsonable, write_atomic, write_json
from chapters.utils.lesson import CHECKS, UsageError, parse
from chapters.utils.runlog import is_timing

MOST_RUNS = 10_000
"""Of one sweep: more is a slip of the hand."""
MOST_PANELS = 6
"""Claims in the figure; the table has all of them."""
PART = ".part-"
"""A folder with this prefix holds a run that has not ended."""


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    label: str
    """learning_rate=0.001 num_envs=8, by values and not by how they were typed; "defaults" without any."""
    flags: tuple[str, ...]
    """The lesson's own flags for it."""

    @property
    def folder(self) -> str:
        """A file name that no other setting has."""
        plain = re.sub(r"[^\w=.+,-]", "_", self.label.replace(" ", ","))
        if plain == self.label.replace(" ", ",") and len(plain) <= 80:
            return plain
        return f"{plain[:60]}-{hashlib.sha256(self.label.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Sweep:
    """What is to be run, and where it is kept."""

    item: Item
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    flags: tuple[str, ...]
    """--smoke and --evidence, as far as they were given."""
    folder: Path

    def place(self, setting: Setting, seed: int) -> Path:
        """Where a run stands once it is whole."""
        return self.folder / setting.folder / f"seed{seed}"

    def runs(self) -> Iterator[tuple[Setting, int]]:
        """All of them: every setting with the first seed, then with the second, so that any end is fair."""
        return ((setting, seed) for seed in self.seeds for setting in self.settings)

    def command(self, setting: Setting, seed: int) -> list[str]:
        """The flags of one run."""
        return ["--seed", str(seed), *setting.flags, *self.flags]


# ---------------------------------------------------------------------------------------------------------
# What is asked for, refused before anything starts


def plan(item: Item, seeds: str, texts: list[str], flags: tuple[str, ...], root: Path) -> Sweep:
    """The sweep that a command line asks for. Raises UsageError on whatever no run could be made of."""
    lesson = lesson_of(item)
    evidence = None
    if "--evidence" in flags:
        evidence = evidence_of(item)
        if evidence is None:
            raise UsageError(f"--evidence: {item.id} has none")
    try:
        numbers = ledger.parse_seeds(seeds)
    except ValueError as error:
        raise UsageError(str(error)) from None
    classes = [lesson.Config, *([evidence.Config] if evidence else [])]
    grid = _grid(item, texts, {field.name: field for cls in classes for field in dataclasses.fields(cls)})
    size = len(numbers) * math.prod(len(values) for values in grid.values())
    if size > MOST_RUNS:
        raise UsageError(f"--seeds, --set: {size} runs in all (allowed: up to {MOST_RUNS})")
    settings: dict[str, Setting] = {}
    for values in itertools.product(*grid.values()):
        chosen = [flag for flags_of_value in values for flag in flags_of_value]
        cfg, extra, _ = parse(lesson.Config, lesson.SMOKE, [*chosen, *flags], item.id, evidence)
        for check in CHECKS:
            check(cfg)
        label = _label(grid, cfg, extra)
        if label in settings:
            raise UsageError(f"--set: {label} stands there twice (allowed: each value once)")
        settings[label] = Setting(label, tuple(chosen))
    version = "".join([ledger.stamp(item), *flags]).replace("--", "-")
    return Sweep(item, tuple(settings.values()), tuple(numbers), flags, root / item.id / version)


def _grid(item: Item, texts: list[str], fields: dict[str, dataclasses.Field]) -> dict[str, list[list[str]]]:
    """Of each name the values, each as flags of the lesson: {"gamma": [["--gamma=0.9"], ["--gamma=1"]]}."""
    grid: dict[str, list[list[str]]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        shown = " ".join(text.split())[:60]
        if not equals or not name:
            raise UsageError(f"--set {shown}: not a setting (like learning_rate=1e-3,3e-3)")
        if name == "seed":
            raise UsageError(f"--set {shown}: seeds are given by --seeds (like --seeds 0:64)")
        if name not in fields:
            allowed = ", ".join(other for other in fields if other != "seed")
            raise UsageError(f"--set {shown}: {item.id} has no such setting (allowed: {allowed})")
        if name in grid:
            raise UsageError(f"--set {name} is given twice (allowed: once, as {name}=v1,v2)")
        words = [value.strip() for value in values.split(",")]
        if "" in words:
            raise UsageError(f"--set {shown}: a value is missing (like {name}=v1,v2)")
        grid[name] = [_flags(name, word, fields[name].type in (bool, "bool")) for word in words]
    return grid


def _flags(name: str, word: str, is_bool: bool) -> list[str]:
    """A value as the lesson's command line takes it: a switch by its name, words one after another."""
    flag = name.replace("_", "-")
    if is_bool:
        if word.lower() not in ("true", "false"):
            raise UsageError(f"--set {name}={word[:40]}: not a switch (allowed: true, false)")
        return [f"--{flag}" if word.lower() == "true" else f"--no-{flag}"]
    return [f"--{flag}", *word.split()] if len(word.split()) > 1 else [f"--{flag}={word}"]


def _label(grid: dict, cfg: Any, extra: Any) -> str:
    """The setting by its values, so that 1e-3 and 0.001 are the same one."""
    told = [f"{name}={getattr(cfg if hasattr(cfg, name) else extra, name)}" for name in grid]
    return " ".join(" ".join(text.split()) for text in told) or "defaults"


# ---------------------------------------------------------------------------------------------------------
# Running


@contextlib.contextmanager
def alone(sweep: Sweep) -> Iterator[None]:
    """Nobody else works in the sweep's folder meanwhile; what a kill left half-made there is cleared away."""
    import filelock

    sweep.folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(sweep.folder / ".lock", timeout=0)  # the system takes it from who is killed
    try:
        lock.acquire()
    except filelock.Timeout:
        told = f"another rl sweep of {sweep.item.id} is at work in {sweep.folder}"
        raise UsageError(f"{told} (allowed: wait for it, or another --out)") from None
    try:
        _clear(sweep)
        yield
        _clear(sweep)
    finally:
        lock.release()


def _clear(sweep: Sweep) -> None:
    for left in sweep.folder.glob(f"{PART}*"):
        shutil.rmtree(left, ignore_errors=True)


class Runs:
    """Makes the runs that are missing, says how far it is, and remembers which of them broke."""

    def __init__(self, sweep: Sweep, say=print) -> None:
        self.sweep, self.say = sweep, say
        everything = list(sweep.runs())
        self.missing = [
            (setting, seed) for setting, seed in everything if not sweep.place(setting, seed).exists()
        ]
        self.total = len(everything)
        self.done = self.total - len(self.missing)
        self.broken: list[str] = []
        self._lock, self._begun, self._ended = threading.Lock(), time.monotonic(), 0

    @property
    def kept(self) -> int:
        """How many are done, by now or before."""
        return self.done - len(self.broken)

    def make(self, place: remote.Place) -> None:
        """Make those that are missing. Raises UsageError if there is no Ray where it is asked for."""
        if not self.missing:
            return
        if place.on == "ray":
            self.there(place)
        else:
            self.here(place.num_jobs)

    def there(self, place: remote.Place) -> None:
        """As tasks of Ray."""
        commands = {run: self.sweep.command(*run) for run in self.missing}
        with contextlib.closing(remote.each(self.sweep.item, commands, place)) as ended:
            for run, one in ended:
                if one.broke:
                    self.broke(run, one.broke)
                    continue
                part = Path(tempfile.mkdtemp(prefix=PART, dir=self.sweep.folder))
                try:
                    self.keep(run, one.unpack(part / "run"), one.used)
                finally:
                    shutil.rmtree(part, ignore_errors=True)

    def here(self, jobs: int) -> None:
        """In processes on this machine, `jobs` at a time."""
        with contextlib.closing(children.each(self._one_here, self.missing, jobs)) as ended:
            for _ in ended:
                pass

    def _one_here(self, run: tuple[Setting, int]) -> dict:
        part = Path(tempfile.mkdtemp(prefix=PART, dir=self.sweep.folder))
        try:
            used = ledger.run_process(
                self.sweep.item, self.sweep.command(*run), part, env=remote.environment()
            )
            self.keep(run, next(part.glob("*/*/")), used)
        except ledger.RecordError as error:
            if not children.ending():
                self.broke(run, str(error))
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return {}

    def keep(self, run: tuple[Setting, int], folder: Path, used: dict) -> None:
        """A run that has ended gets its name: from here on it is done."""
        place = self.sweep.place(*run)
        write_json(folder / "process.json", used)
        place.parent.mkdir(exist_ok=True)
        place.with_suffix(".error.txt").unlink(missing_ok=True)
        os.rename(folder, place)
        claims = ledger.read_back(place, used)["claims"]
        enforced = [claim for claim in claims if claim.always or "--smoke" not in self.sweep.flags]
        failed = [claim.name for claim in enforced if not claim.holds]
        verdict = f"failed: {', '.join(failed)}" if failed else "all claims hold"
        self._tell(run, f"{used['seconds']:.1f} s, {verdict}")

    def broke(self, run: tuple[Setting, int], why: str) -> None:
        """A run that came to no verdict is told, and tried again by the next command."""
        place = self.sweep.place(*run)
        write_atomic(place.with_suffix(".error.txt"), why + "\n")
        self.broken.append(f"{run[0].label} seed {run[1]}")
        self._tell(run, f"broke: {why.splitlines()[-1][:200]}")

    def _tell(self, run: tuple[Setting, int], what: str) -> None:
        with self._lock:
            self.done += 1
            self._ended += 1
            left = (time.monotonic() - self._begun) / self._ended * (self.total - self.done)
            more = f"about {duration(left)} left" if self.done < self.total else "the last"
            setting, seed = run
            name = f"{self.sweep.item.id} {setting.label} seed {seed}"
            self.say(f"{name}: {what} ({self.done} of {self.total}, {more})")


def duration(seconds: float) -> str:
    """In the unit that one would say it in: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# ---------------------------------------------------------------------------------------------------------
# What came out


def collect(sweep: Sweep) -> dict[str, dict[int, dict]]:
    """The runs that are done, by setting and seed, as `ledger.read_back` reads them."""
    found: dict[str, dict[int, dict]] = {setting.label: {} for setting in sweep.settings}
    for setting, seed in sweep.runs():
        place = sweep.place(setting, seed)
        if place.exists():
            try:
                used = json.loads((place / "process.json").read_text(encoding="utf-8"))
                found[setting.label][seed] = ledger.read_back(place, used)
            except (OSError, KeyError, TypeError, ValueError) as error:
                told = f"{place}: damaged ({type(error).__name__})"
                raise UsageError(f"{told}: delete it, and the same command runs it again") from None
    return found


def summary(sweep: Sweep, found: dict[str, dict[int, dict]]) -> tuple[dict, dict]:
    """(every number but times, the times): the first is the same to the last digit wherever a sweep ran."""
    numbers: dict[str, Any] = {
        "lesson": sweep.item.id,
        "stamp": ledger.stamp(sweep.item),
        "flags": sweep.flags,
        "seeds": sweep.seeds,
        "settings": {},
    }
    times: dict[str, Any] = {}
    for label, runs in found.items():
        claims = {name: _over_seeds(records) for name, records in _claims(runs).items()}
        rows = {
            seed: {name: rows[-1][1] for name, rows in run["metrics"].items() if not is_timing(name)}
            for seed, run in runs.items()
        }
        timed = {name for name, entry in claims.items() if entry.get("timed")}
        numbers["settings"][label] = {
            "claims": {name: entry for name, entry in claims.items() if name not in timed},
            "metrics": rows,
        }
        used = ("seconds", "cpu_seconds", "peak_memory_mb")
        times[label] = {
            "claims": {name: claims[name] for name in sorted(timed)},
            "runs": {seed: {name: run[name] for name in used} for seed, run in runs.items()},
        }
    return jsonable(numbers), jsonable(times)


def _claims(runs: dict[int, dict]) -> dict[str, dict[int, Claim]]:
    """The claims of some runs, by name and seed."""
    found: dict[str, dict[int, Claim]] = {}
    for seed, run in runs.items():
        for claim in run["claims"]:
            found.setdefault(claim.name, {})[seed] = claim
    return found


def _over_seeds(records: dict[int, Claim]) -> dict:
    """One claim over seeds: its values, and the median with its interval over those that are numbers."""
    import numpy as np

    from chapters.exact.intervals import median_interval, median_ranks

    first = next(iter(records.values()))
    values = {seed: claim.value for seed, claim in records.items()}
    finite = [value for value in values.values() if math.isfinite(value)]
    return {
        "statement": first.statement,
        "unit": first.unit,
        "bound": first.bound,
        "timed": first.timed,
        "held": f"{sum(claim.holds for claim in records.values())}/{len(records)}",
        "mean": statistics.fmean(finite) if finite else None,
        "median": statistics.median(finite) if finite else None,
        "interval_of_median": median_interval(np.array(finite)).tolist() if len(finite) > 1 else None,
        "covers": median_ranks(len(finite))[1] if len(finite) > 1 else None,
        "values": values,
    }


def table(numbers: dict, times: dict) -> list[str]:
    """A row for each claim and setting, as a table that reads well in a terminal too."""
    rows = [("claim", "setting", "median", "interval (how often it holds the median)", "bound", "holds")]
    entries = {
        label: {**setting["claims"], **times[label]["claims"]}
        for label, setting in numbers["settings"].items()
    }
    names = list(dict.fromkeys(name for claims in entries.values() for name in claims))
    for name in names:
        for label, claims in entries.items():
            if name in claims:
                entry = claims[name]
                told = (_number(entry["median"]), _interval(entry), entry["bound"])
                rows.append((name, label, *told, entry["held"]))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4g}"


def _interval(entry: dict) -> str:
    """The interval of the median, and what it covers: lesson B8 audits it."""
    if not entry["interval_of_median"]:
        return "–"
    low, high = entry["interval_of_median"]
    return f"{low:.4g} to {high:.4g} ({100 * entry['covers']:.0f} %)"


def draw(numbers: dict) -> Any:
    """A panel for each claim whose values differ, a row for each setting: its seeds, median and interval."""
    import numpy as np

    settings = numbers["settings"]
    names = list(dict.fromkeys(name for setting in settings.values() for name in setting["claims"]))
    moving = [name for name in names if len({v for _, values in _values(settings, name) for v in values}) > 1]
    shown = (moving or names)[:MOST_PANELS]
    ncols = min(len(shown), 3)
    nrows = -(-len(shown) // ncols)
    figure, axes = plotting.new_figure(nrows, ncols, width=4.6, height=1.8 + 0.5 * len(settings))
    axes = np.atleast_1d(axes).ravel()
    for at, (ax, name) in enumerate(zip(axes, shown)):
        _panel(ax, settings, name)
        ax.set_yticks(range(len(settings)), list(settings) if at % ncols == 0 else [""] * len(settings))
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _panel(ax: Any, settings: dict, name: str) -> None:
    """One claim: each row is a setting."""
    for row, (label, values) in enumerate(_values(settings, name)):
        entry = settings[label]["claims"][name]
        said = (lambda text: text) if row == 0 else (lambda text: None)
        spread = [row + 0.18 * (2 * at / max(1, len(values) - 1) - 1) for at in range(len(values))]
        ax.plot(values, spread, "o", color=plotting.SKY, markersize=4, alpha=0.7, label=said("one seed"))
        if ends := entry["interval_of_median"]:
            label = said("interval of the median")
            ax.plot(ends, [row, row], color=plotting.BLUE, linewidth=4, label=label)
        if entry["median"] is not None:
            ax.plot([entry["median"]], [row], "o", color="black", markersize=7, label=said("median"))
    first = next(setting["claims"][name] for setting in settings.values() if name in setting["claims"])
    if bound := re.match(r"[≥≤]? ?(-?[\d.]+(e[+-]?\d+)?)", first["bound"]):
        ax.axvline(float(bound[1]), label="what the lesson claims", **plotting.REFERENCE)
    title = f"{name} ({first['bound']})"
    ax.set(xlabel=first["unit"], ylim=(len(settings) - 0.5, -0.5))
    ax.set_title(title, fontsize=12)
    ax.grid(axis="y", visible=False)


def _values(settings: dict, name: str) -> Iterator[tuple[str, list[float]]]:
    """The values of a claim that are numbers, by setting."""
    for label, setting in settings.items():
        if name in setting["claims"]:
            yield label, [value for value in setting["claims"][name]["values"].values() if value is not None]


def write(sweep: Sweep) -> list[str]:
    """Write what the runs that are done say: numbers, times, table and figure. Returns lines to print."""
    found = collect(sweep)
    if not any(found.values()):
        return []
    numbers, times = summary(sweep, found)
    write_json(sweep.folder / "sweep.json", numbers)
    write_json(sweep.folder / "times.json", times)
    lines = table(numbers, times)
    seeds = f"{len(sweep.seeds)} seeds, {sweep.seeds[0]} to {sweep.seeds[-1]}"
    head = f"{sweep.item.id} · {sweep.item.title}, swept over {len(sweep.settings)} settings and {seeds}."
    write_atomic(sweep.folder / "sweep.md", "\n".join([head, "", *lines, ""]))
    import io

    picture = io.BytesIO()
    draw(numbers).savefig(picture, format="png", metadata={"Software": None})
    write_atomic(sweep.folder / f"{sweep.item.id}_sweep.png", picture.getvalue())
    return lines
