"""The ledger: what a lesson measured over several seeds, recorded, committed and rechecked by the tests."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import statistics
import subprocess
import tarfile
import tempfile
import time
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chapters.course import children, rounding
from chapters.course.catalog import ROOT, Item
from chapters.course.parts import edits_of, evidence_of
from chapters.utils.claims import Claim
from chapters.utils.files import jsonable, write_atomic, write_json
from chapters.utils.lesson import CLAIM_FAILED, PASSED, UsageError
from chapters.utils.runlog import RunLog, is_timing, read_metrics

PACKAGES = ("numpy", "scipy", "torch", "jax", "gymnasium", "stable-baselines3", "transformers", "trl", "ray")
SHARED = ("statement", "unit", "source", "seeds", "always", "timed", "evidence")
"""Fields of a claim that are the same on every seed."""
BOUNDS = ("at_least", "at_most", "near")
"""Fields of a claim of which it has exactly one: its direction is which, its bound is what stands in it."""
TOLERANCE = 1e-3
"""Relative difference allowed between a fingerprint and a fresh smoke run, for other machines' rounding."""
LARGEST_SEED = 999_999
"""As every lesson allows it."""
MOST_SEEDS = 1000
"""Of one recording: more would take days."""
LESSON_SECONDS = 60
"""What a lesson's own run, without its evidence, may take at most."""
ROUNDING = 1e-5
"""Absolute difference allowed: rounding errors (1e-16 against 3e-16) are no difference between machines."""


ITEM_FILE = re.compile(r"([A-E]\d+)(_\w+)?")


class RecordError(Exception):
    """A run that was to be recorded broke; the message ends with what it printed."""


class Short(NamedTuple):
    """A ledger in short."""

    verdict: tuple[int, int]
    """(claims that hold, claims)."""
    times: tuple[float, float]
    """CPU seconds of (the lesson, the lesson and all its evidence)."""
    claims: tuple[str, ...]
    """The names of the claims that each run makes."""
    pooled: tuple[str, ...]
    """The names of those made over all recorded seeds."""


class LedgerError(UsageError, ValueError):
    """A ledger that cannot be read; the message is one line."""


def record(
    item: Item, seeds: list[int], jobs: int = 1, say=print, far: Callable[[Path], Iterator] | None = None
) -> dict:
    """Run a lesson once per seed in fresh processes and write its ledger and figures. Returns the ledger.

    Nothing is written unless every run comes to its end. `jobs` > 1 runs several seeds at a time: faster,
    but the recorded times then include the crowd. `far` makes the runs elsewhere (`remote.each_seed`).
    """
    with tempfile.TemporaryDirectory() as scratch:
        # the cheap part first: what breaks it must not cost the hour that full runs may take
        found, smoke = smoke_fingerprint(item, seeds[0], Path(scratch))
        runs = []
        with contextlib.closing(each_seed(item, seeds, jobs, Path(scratch), far)) as ended:
            for seed, run in ended:
                runs.append(run)
                failed = [claim.name for claim in run["claims"] if not claim.holds]
                verdict = f"failed: {', '.join(failed)}" if failed else "all claims hold"
                say(f"{item.id} seed {seed}: {run['seconds']:.1f} s, {verdict}")
        runs.sort(key=lambda run: seeds.index(run["seed"]))
        pooled, pooled_figures = _summarise(item, runs, Path(scratch) / "summary")
        ledger = _compose(item, runs, smoke, found, pooled)
        figures = {path.name: path for path in runs[0]["figures"]} | {
            path.name: path for path in pooled_figures
        }
        item.results.mkdir(exist_ok=True)
        for old in own_figures(item):
            if old.name not in figures:
                old.unlink()
        for name, path in figures.items():
            write_atomic(item.results / name, path.read_bytes())
    write_json(item.ledger, ledger)
    return ledger


def restamp(item: Item, say=print) -> None:
    """Renew the stamp after an edit that changed no number and no bound. Raises RecordError if one did.

    Where this processor rounds otherwise than the one that recorded, the lesson as it was then runs here too,
    and those two are compared. What a claim says, its unit and its source may have changed: they are taken
    over from the code. So are the words in a figure, unless figures show all seeds, or other numbers.
    """
    ledger = load(item)
    seed = ledger["runs"][0]["seed"]
    with tempfile.TemporaryDirectory() as scratch:
        found, smoke = smoke_fingerprint(item, seed, Path(scratch))
        say(f"{item.id} smoke run: {smoke['seconds']:.1f} s")
        run = run_once(item, seed, Path(scratch))
        say(f"{item.id} seed {seed}: {run['seconds']:.1f} s")
        moved = _differing_runs(ledger["runs"][0], run)
        rounded = bool(moved) and checkout(item, ledger["stamp"], Path(scratch) / "then")
        if rounded:
            say(f"{item.id}: other numbers than those recorded; by rounding? As recorded, it runs here too")
            then = run_once(item, seed, Path(scratch), root=Path(scratch) / "then")
            say(f"{item.id} seed {seed}, as recorded: {then['seconds']:.1f} s")
            moved = _differing_runs(_seed_entry(then), run)
        figures = {path.name: path.read_bytes() for path in run["figures"]}
    if ledger["fingerprint"].get("compared") and not all(map(rounding.can, rounding.SETTINGS)):
        say("this processor cannot do all settings: what is compared stays as it was")
        kept = ledger["fingerprint"]
    else:
        kept = found
    if not ledger["fingerprint"].get("compared"):  # recorded before fingerprints knew of rounding
        ledger["fingerprint"] = found
    differences = [*compare_fingerprints(ledger["fingerprint"], found), *moved]
    for claim in run["claims"]:
        entry = ledger["claims"].get(claim.name, {})
        for field in ("seeds", "always", "timed", "evidence"):
            if entry.get(field, False) != getattr(claim, field):
                differences.append(f"claim {claim.name}: {field} is now {getattr(claim, field)}")
    if differences:
        raise RecordError(f"numbers changed, so record again: {'; '.join(differences[:3])}")
    for claim in run["claims"]:
        ledger["claims"][claim.name].update(_said(claim))
    ledger.update(
        title=item.title,
        stamp=stamp(item),
        config=_lesson_config(run),
        evidence_config=run["config"].get("evidence", {}),
        fingerprint=kept,
    )
    if not (rounded or hasattr(evidence_of(item), "summarise")):  # else figures show other numbers
        for name, picture in figures.items():
            write_atomic(item.results / name, picture)
    write_json(item.ledger, ledger)


def record_smoke(item: Item, say=print) -> None:
    """Take the smoke run's fingerprint anew, after `SMOKE` alone changed: no seed's numbers depend on it.

    What was not compared before stays out where this processor cannot do all settings. Raises RecordError if
    other code changed, if the smoke run makes other claims than the ledger holds, or if one that must always
    hold does not.
    """
    ledger = load(item)
    if ledger["stamp"] != stamp(item):
        raise RecordError(f"other code than SMOKE changed: rl record {item.id} --restamp, or record again")
    with tempfile.TemporaryDirectory() as scratch:
        found, smoke = smoke_fingerprint(item, ledger["runs"][0]["seed"], Path(scratch))
    if not all(map(rounding.can, rounding.SETTINGS)):
        whole = found["compared"].split()[-1]
        found = _also_in(found, ledger["fingerprint"])
        found["compared"] = f"{_count(found)} of {whole}"
    say(f"{item.id} smoke run: {smoke['cpu_seconds']:.1f} CPU s, {found['compared']} numbers compared")
    problems = differing_claims(ledger, smoke["claims"])
    problems += [f"{claim.name} fails" for claim in smoke["claims"] if claim.always and not claim.holds]
    if problems:
        raise RecordError("; ".join(problems[:3]))
    ledger.update(fingerprint=found, smoke_seconds=smoke["cpu_seconds"])
    write_json(item.ledger, ledger)


def checkout(item: Item, recorded: str, to: Path) -> bool:
    """Put the repository, as it stood when the ledger was committed, into `to`. False, and nothing is put
    there, if that ledger had another stamp than `recorded`, or this is no clone.
    """

    def git(*words: str) -> bytes:
        return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout

    path = item.ledger.relative_to(ROOT).as_posix()
    try:
        commit = git("log", "-1", "--format=%H", "--", path).decode().strip()
        if not commit or recorded.encode() not in git("show", f"{commit}:{path}"):
            return False
        told = git("archive", commit)
    except (OSError, subprocess.CalledProcessError):
        return False
    with tarfile.open(fileobj=io.BytesIO(told)) as archive:
        archive.extractall(to, filter="data")
    return True


def smoke_fingerprint(item: Item, seed: int, scratch: Path) -> tuple[dict, dict]:
    """(fingerprint of a smoke run without what rounding alone moves, the run on this machine as it is)."""
    smoke = run_once(item, seed, scratch, "--smoke")
    whole = fingerprint(smoke["folder"])
    others = []
    for setting in (*filter(rounding.can, rounding.SETTINGS), *rounding.NOISE):
        run = run_once(item, seed, scratch, "--smoke", setting=setting)
        others.append(fingerprint(run["folder"]))
    try:
        kept = rounding.stable(whole, others)
    except ValueError as error:
        raise RecordError(f"{item.id}: other rounding, other measurements: {error}") from None
    return {**kept, "compared": f"{_count(kept)} of {_count(whole)}"}, smoke


def _also_in(numbers: Any, others: Any) -> Any:
    """A nested dictionary without the numbers that another one leaves out; groups new to it stay whole."""
    if not isinstance(numbers, dict):
        return numbers
    return {
        name: _also_in(value, others.get(name, value))
        for name, value in numbers.items()
        if name in others or isinstance(value, dict)
    }


def _count(numbers: Any) -> int:
    """How many numbers a nested dictionary holds."""
    if isinstance(numbers, dict):
        return sum(map(_count, numbers.values()))
    return isinstance(numbers, int | float) and not isinstance(numbers, bool)


def load(item: Item) -> dict:
    """The ledger of a lesson. Raises FileNotFoundError if there is none, LedgerError if it is damaged."""
    return json.loads(_sound(item)[0])


def in_short(item: Item) -> Short:
    """What a list says of a ledger; nearly for nothing where it was read before. Raises as `load`."""
    return _sound(item)[1]


def _sound(item: Item) -> tuple[str, Short]:
    """The text of a ledger that can be used, and what it holds in short."""
    try:
        text = item.ledger.read_text(encoding="utf-8")
        return text, _read_through(text)
    except FileNotFoundError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        told = " ".join(reason.split())[:120]
        raise LedgerError(
            f"{item.ledger}: damaged ledger ({told}): git checkout it, or record again"
        ) from None


@functools.lru_cache(maxsize=64)  # `rl goals` asks for each ledger ten times: a text is read through once
def _read_through(text: str) -> Short:
    """Use every part of a ledger that a list, a table or a test uses; what is missing or no number raises."""
    book = json.loads(text)
    pooled = tuple(entry["name"] for entry in book["pooled"])
    short = Short(verdict(book), times(book), (*book["claims"],), pooled)
    "".join(first.bound for first, _ in claims_of(book))
    for name, entry in book["claims"].items():
        numbers = [
            entry["median"],
            entry["min"],
            entry["max"],
            *(run["claims"][name]["value"] for run in book["runs"]),
        ]
        all(number is None or float(number) for number in numbers)
        "".join((name, entry["statement"], entry["held"], entry["seeds"]))
    for run in book["runs"]:
        float(run["peak_memory_mb"] + run["seed"])
        dict(run["metrics"])
    float(book["smoke_seconds"] + book["evidence_seconds"])
    "".join((book["machine"], book["stamp"], book["title"]))
    dict(book["config"]), dict(book["evidence_config"]), dict(book["fingerprint"])
    return short


def own_figures(item: Item) -> list[Path]:
    """The lesson's committed figures: B1.png, B1_cliff.png, B1_film.gif."""
    pattern = re.compile(rf"^{item.id}(_\w+)?\.(png|gif)$")
    folder = item.results
    return sorted(path for path in folder.glob("*") if pattern.match(path.name)) if folder.exists() else []


def stamp(item: Item) -> str:
    """A hash of the lesson's code, its evidence's, and the edits that this trains.

    Prose, docstrings, comments and blank lines do not count, nor do the sizes of a smoke run (`SMOKE`), whose
    numbers have a fingerprint of their own; everything else does.
    """
    import jupytext

    notebook = jupytext.reads(item.path.read_text(encoding="utf-8"), fmt="py:percent")
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    beside = sorted(item.evidence.parent.glob(f"{item.id}*.py"))
    beside = [path for path in beside if ITEM_FILE.fullmatch(path.stem)[1] == item.id]  # C1, but not C10
    texts += [path.read_text(encoding="utf-8") for path in beside]
    lines = [line.rstrip() for text in texts for line in _that_computes(text) if line.strip()]
    if evidence_of(item):
        source = "\n".join(texts)
        lines += [f"{e.old} -> {e.new}" for name, e in edits_of(item).items() if f'"{name}"' in source]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _that_computes(code: str) -> list[str]:
    """The lines of a text without its comments, its docstrings and what assigns `SMOKE`."""
    lines = code.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(code)):
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        says = isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)
        alone = says and not lines[node.lineno - 1][: node.col_offset].strip()
        if alone or [getattr(target, "id", None) for target in targets] == ["SMOKE"]:
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return lines


def claims_of(ledger: dict) -> Iterator[tuple[Claim, list[Claim]]]:
    """Each per-seed claim of a ledger as (its first record, its records on all seeds)."""
    for name, entry in ledger["claims"].items():
        common = {key: entry[key] for key in SHARED if key in entry}
        records = [Claim.from_dict({"name": name, **common, **run["claims"][name]}) for run in ledger["runs"]]
        yield records[0], records


def verify(item: Item, ledger: dict, defaults: dict, evidence_defaults: dict | None = None) -> list[str]:
    """What is wrong with a ledger: verdicts are recomputed from values, nothing stored is believed.

    That its claims say and demand what the code does is checked with the fingerprint: `differing_claims`.
    """
    problems = []
    for first, records in claims_of(ledger):
        held = sum(claim.holds for claim in records)
        if not first.enough(held, len(records)):
            problems.append(f"{first.name} holds on {held}/{len(records)} seeds, needs {first.seeds}")
        if ledger["claims"][first.name]["held"] != f"{held}/{len(records)}":
            problems.append(f"{first.name}: stored verdict differs from its values")
    for entry in ledger["pooled"]:
        claim = Claim.from_dict(entry)
        if not claim.holds:
            problems.append(f"{claim.name} = {claim.value:.4g} over all seeds, needs {claim.bound}")
    if len(ledger["runs"]) < 5:
        problems.append(f"only {len(ledger['runs'])} seeds recorded, needs 5")
    for key, now in (("config", defaults), ("evidence_config", evidence_defaults or {})):
        if ledger[key] != {name: value for name, value in jsonable(now).items() if name != "seed"}:
            problems.append(f"{key}: recorded with other settings than today's defaults")
    if ledger["stamp"] != stamp(item):
        problems.append(f"the code changed since: `rl record {item.id} --restamp`, or record again")
    if item.budgets is None:
        problems.append("the header states no time")
    else:
        for what, took, budget in zip(("the lesson", "all of it"), times(ledger), item.budgets):
            if took > budget:
                problems.append(f"{what} takes {took:.0f} s, the header says {budget:g} s")
    if times(ledger)[0] > LESSON_SECONDS:
        problems.append(
            f"a lesson's own run takes at most {LESSON_SECONDS} s, this one {times(ledger)[0]:.0f} s"
        )
    return problems


def differing_claims(ledger: dict, fresh: list[Claim]) -> list[str]:
    """Where the claims that the code makes now differ from the ledger's in anything but their values.

    fresh: the claims of a smoke run, whose bounds may depend on the run's size; those are compared with the
    smoke run's in the fingerprint. Here: which claims there are, on how many seeds they must hold, in which
    direction, what they say, and by what right.
    """
    problems = []
    now = {claim.name: claim for claim in fresh}
    if now.keys() != ledger["claims"].keys():
        problems.append(f"claims {sorted(now.keys() ^ ledger['claims'].keys())} on one side only")
    for first, _ in claims_of(ledger):
        claim = now.get(first.name, first)
        for field in SHARED:
            if getattr(claim, field) != getattr(first, field):
                problems.append(f"claim {first.name}: {field} is {getattr(claim, field)!r} in the code")
        if direction(claim) != direction(first):
            problems.append(
                f"claim {first.name}: {direction(first)} in the ledger, {direction(claim)} in the code"
            )
    return problems


def direction(claim: Claim) -> str:
    """Which bound a claim has: at_least, at_most or near."""
    return next(name for name in BOUNDS if getattr(claim, name) is not None)


def times(ledger: dict) -> tuple[float, float]:
    """What (the lesson, the lesson and all its evidence) take: medians over seeds, in CPU seconds.

    CPU seconds of the whole process, imports included, because wall seconds tell as much about what else the
    machine did during the recording. On a quiet machine a run takes no longer than this, save for pauses.
    """
    runs = ledger["runs"]
    alone = statistics.median(run.get("lesson_cpu_seconds", run["cpu_seconds"]) for run in runs)
    return alone, statistics.median(run["cpu_seconds"] for run in runs)


def verdict(ledger: dict) -> tuple[int, int]:
    """(claims that hold, claims) over per-seed and pooled claims."""
    outcomes = [
        first.enough(sum(claim.holds for claim in records), len(records))
        for first, records in claims_of(ledger)
    ]
    outcomes += [Claim.from_dict(entry).holds for entry in ledger["pooled"]]
    return sum(outcomes), len(outcomes)


def fingerprint(folder: Path, lesson_only: bool = False) -> dict:
    """The numbers by which a run is recognised: every metric and claim but timings, and every bound.

    lesson_only: of what was measured before the evidence began.
    """
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    rows = run["lesson_rows"] if lesson_only else None
    metrics = {
        name: {"count": len(rows), "mean": _mean([v for _, v in rows]), "last": rows[-1][1]}
        for name, rows in read_metrics(folder, rows).items()
        if not is_timing(name)
    }
    claims = {}
    for fields in json.loads((folder / "claims.json").read_text(encoding="utf-8")):
        if lesson_only and fields.get("evidence"):
            continue
        claim = Claim.from_dict(fields)
        bound = direction(claim)
        target = dict(zip(("target", "tolerance"), claim.near)) if claim.near else getattr(claim, bound)
        claims[claim.name] = {bound: target} if claim.timed else {"value": claim.value, bound: target}
    return jsonable({"metrics": metrics, "claims": claims})


def compare_fingerprints(recorded: dict, fresh: dict) -> list[str]:
    """Where a fresh fingerprint differs from a recorded one, in words; empty if they agree.

    Names must be the same; numbers are compared where the recorded one has them: what rounding alone moves
    was left out of it.
    """
    problems = []
    for kind in ("metrics", "claims"):
        if recorded[kind].keys() != fresh[kind].keys():
            problems.append(f"{kind} {sorted(recorded[kind].keys() ^ fresh[kind].keys())} on one side only")
            continue
        problems += _moved(recorded[kind], fresh[kind], kind)
    return problems


def _moved(recorded: Any, fresh: Any, what: str) -> Iterator[str]:
    if isinstance(recorded, dict):
        for name, value in recorded.items():
            if name not in fresh:
                yield f"{what}.{name} is gone"
            else:
                yield from _moved(value, fresh[name], f"{what}.{name}")
    elif recorded is None or fresh is None:
        if recorded is not fresh:
            yield f"{what}: recorded {recorded}, now {fresh}"
    elif not math.isclose(recorded, fresh, rel_tol=TOLERANCE, abs_tol=ROUNDING):
        yield f"{what}: recorded {recorded}, now {fresh}"


def _differences(recorded: dict, fresh: dict, what: str) -> list[str]:
    """The same for two full runs of one seed on one machine: every number but timings, and every bound."""
    if recorded.keys() != fresh.keys():
        return [f"{what}: {sorted(recorded.keys() ^ fresh.keys())} on one side only"]
    problems = []
    for name, old in recorded.items():
        new = fresh[name]
        if not isinstance(old, dict):
            old, new = {"value": old}, {"value": new}
        if old.keys() != new.keys():
            problems.append(f"{what} {name}: {sorted(old.keys() ^ new.keys())} on one side only")
            continue
        skip = is_timing(name) or old.get("timed")
        for field in old:
            if not (skip and field == "value") and not _close(old[field], new[field]):
                problems.append(f"{what} {name}: {field} recorded {old[field]}, now {new[field]}")
    return problems


def _differing_runs(old: dict, run: dict) -> list[str]:
    """Where a run differs from one that a ledger holds, in metrics and claims."""
    new = _seed_entry(run)
    return [problem for what in ("metrics", "claims") for problem in _differences(old[what], new[what], what)]


def _close(old: Any, new: Any) -> bool:
    if isinstance(old, list | tuple):
        return len(old) == len(new) and all(map(_close, old, new))
    if isinstance(old, bool) or old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-9)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def each_seed(
    item: Item, seeds: list[int], jobs: int, scratch: Path, far: Callable[[Path], Iterator] | None = None
) -> Iterator[tuple[int, dict]]:
    """(seed, its run) as the runs end, in processes here unless `far` makes them elsewhere."""
    return far(scratch) if far else children.each(lambda seed: run_once(item, seed, scratch), seeds, jobs)


def run_once(
    item: Item, seed: int, scratch: Path, *flags: str, setting: str = "", root: Path | None = None
) -> dict:
    """One fresh process, evidence included; its run folder read back, with seconds of the whole process.

    root: another version of the repository, whose lesson is run instead.
    """
    out = scratch / f"{'smoke' if flags else 'full'}-{seed}{setting}{root.name if root else ''}"
    flags += ("--evidence",) if item.evidence.exists() else ()
    elsewhere = {}
    if root:
        item = Item(item.id, item.kind, root / item.path.relative_to(ROOT))
        elsewhere = {"env": {**os.environ, "PYTHONPATH": str(root)}, "cwd": root}
    used = run_process(item, ["--seed", str(seed), *flags], out, setting, **elsewhere)
    return read_back(next(out.glob("*/*/")), used)


def run_process(
    item: Item,
    flags: list[str],
    out: Path,
    setting: str = "",
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> dict:
    """A lesson in a fresh process that writes to `out`; returns what the process used.

    Raises RecordError, with the last that it printed, if it came to no verdict.
    """
    with tempfile.TemporaryFile() as printed:
        start = time.monotonic()
        process = children.start(
            rounding.command(setting, item.path, [*flags, "--out", str(out)]),
            stdout=printed,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env or rounding.environment(setting),
            cwd=cwd,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            children.end(process)
            raise
        finally:
            children.forget(process)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        if process.returncode not in (PASSED, CLAIM_FAILED) or not list(out.glob("*/*/claims.json")):
            printed.seek(0)
            tail = printed.read().decode(errors="replace").strip().splitlines()[-15:]
            told = " ".join(flags).removeprefix("--")
            raise RecordError(f"{item.id} {told} exited {process.returncode}:\n" + "\n".join(tail))
    unit = 1 if platform.system() == "Darwin" else 1024  # of ru_maxrss
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_mb": round(usage.ru_maxrss * unit / 1e6),
    }


def read_back(folder: Path, used: dict) -> dict:
    """What a run left in its folder, and what its process used, as a ledger is made from it."""

    def read(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    run = read("run.json")
    return {
        "seed": run["seed"],
        "folder": folder,
        "config": read("config.json"),
        "metrics": read_metrics(folder),
        "claims": [Claim.from_dict(fields) for fields in read("claims.json")],
        "figures": sorted(path for path in folder.iterdir() if path.suffix in (".png", ".gif")),
        "lesson_cpu_seconds": run["lesson_cpu_seconds"],
        **used,
    }


def _summarise(item: Item, runs: list[dict], folder: Path) -> tuple[list[Claim], list[Path]]:
    """Claims and figures over all seeds, if the evidence has a `summarise(runs, log)`."""
    evidence = evidence_of(item)
    if not hasattr(evidence, "summarise"):
        return [], []
    log = RunLog(folder, item.id)
    plain = [
        {
            "seed": run["seed"],
            "config": run["config"],
            "metrics": run["metrics"],
            "claims": {claim.name: claim.value for claim in run["claims"]},
        }
        for run in runs
    ]
    log.in_evidence = True
    evidence.summarise(plain, log)
    log.close()
    return log.claims, log.figures


def _seed_entry(run: dict) -> dict:
    measured = ("value", *BOUNDS, "timed")
    return {
        "seed": run["seed"],
        "lesson_cpu_seconds": run["lesson_cpu_seconds"],
        "seconds": run["seconds"],
        "cpu_seconds": run["cpu_seconds"],
        "peak_memory_mb": run["peak_memory_mb"],
        "claims": {
            claim.name: {key: value for key, value in claim.to_dict().items() if key in measured}
            for claim in run["claims"]
        },
        "metrics": jsonable({name: rows[-1][1] for name, rows in run["metrics"].items()}),
    }


def _compose(item: Item, runs: list[dict], smoke: dict, found: dict, pooled: list[Claim]) -> dict:
    names = [[claim.name for claim in run["claims"]] for run in runs]
    if any(other != names[0] for other in names):
        raise RecordError(f"{item.id} makes different claims on different seeds")
    claims: dict[str, Any] = {}
    for records in zip(*(run["claims"] for run in runs)):
        first, values = records[0], [claim.value for claim in records]
        held = sum(claim.holds for claim in records)
        claims[first.name] = {
            **_said(first),
            "seeds": first.seeds,
            **{name: True for name in ("always", "timed", "evidence") if getattr(first, name)},
            "held": f"{held}/{len(records)}",
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
        }
    installed = {dist.metadata["Name"].lower(): dist.version for dist in importlib.metadata.distributions()}
    return {
        "lesson": item.id,
        "title": item.title,
        "recorded": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()}
        | {name: installed[name] for name in PACKAGES if name in installed},
        "stamp": stamp(item),
        "config": _lesson_config(runs[0]),
        "evidence_config": runs[0]["config"].get("evidence", {}),
        "smoke_seconds": smoke["cpu_seconds"],
        "evidence_seconds": statistics.median(run["cpu_seconds"] - run["lesson_cpu_seconds"] for run in runs),
        "claims": claims,
        "pooled": [claim.to_dict() for claim in pooled],
        "runs": [_seed_entry(run) for run in runs],
        "fingerprint": found,
    }


def _said(claim: Claim) -> dict[str, str]:
    """What a claim says, its unit and its source, as far as it has them."""
    fields = {"statement": claim.statement, "unit": claim.unit, "source": claim.source}
    return {name: text for name, text in fields.items() if text}


def _lesson_config(run: dict) -> dict:
    return {name: value for name, value in run["config"].items() if name not in ("seed", "evidence")}


def parse_seeds(text: str) -> list[int]:
    """`0:5` is 0, 1, 2, 3, 4; `1,7,9` is those. Raises ValueError with what is allowed."""
    try:
        if ":" in text:
            first, last = (int(part) for part in text.split(":"))
            seeds = range(first, last)
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    shown = " ".join(text.split())[:40]
    few = len(seeds) <= MOST_SEEDS  # of more, not even the least is looked for
    if not seeds or (few and min(seeds) < 0):
        raise ValueError(f"--seeds {shown}: not a range of seeds (like 0:5, or 1,7,9)")
    if not few or max(seeds) > LARGEST_SEED:
        raise ValueError(
            f"--seeds {shown}: too large (allowed: up to {MOST_SEEDS} seeds, 0 to {LARGEST_SEED})"
        )
    if len({*seeds}) < len(seeds):
        raise ValueError(f"--seeds {shown}: a seed stands there twice (allowed: each once)")
    return list(seeds)
