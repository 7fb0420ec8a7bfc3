"""The ledger: what a lesson measured over several seeds, recorded, committed and rechecked by the tests."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chapters.course.catalog import Item
from chapters.utils.claims import Claim
from chapters.utils.files import jsonable, write_atomic, write_json
from chapters.utils.lesson import CLAIM_FAILED, PASSED
from chapters.utils.runlog import RunLog, is_timing, read_metrics

PACKAGES = ("numpy", "scipy", "torch", "jax", "gymnasium", "stable-baselines3", "transformers", "trl")
SHARED = ("statement", "unit", "source", "seeds", "always", "timed")
"""Fields of a claim that are the same on every seed."""
TOLERANCE = 1e-3
"""Relative difference allowed between a fingerprint and a fresh smoke run, for other machines' rounding."""


class RecordError(Exception):
    """A run that was to be recorded broke; the message ends with what it printed."""


def record(item: Item, seeds: list[int], jobs: int = 1, say=print) -> dict:
    """Run a lesson once per seed in fresh processes and write its ledger and figures. Returns the ledger.

    Nothing is written unless every run comes to its end. `jobs` > 1 runs several seeds at a time: faster,
    but the recorded times then include the crowd.
    """
    with tempfile.TemporaryDirectory() as scratch:
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(_run, item, seed, Path(scratch), ()) for seed in seeds]
            runs = []
            for seed, future in zip(seeds, futures):
                run = future.result()
                runs.append(run)
                failed = [claim.name for claim in run["claims"] if not claim.holds]
                verdict = f"failed: {', '.join(failed)}" if failed else "all claims hold"
                say(f"{item.id} seed {seed}: {run['seconds']:.1f} s, {verdict}")
        smoke = _run(item, seeds[0], Path(scratch), ("--smoke",))
        pooled, pooled_figures = _summarise(item, runs, Path(scratch) / "summary")
        ledger = _compose(item, runs, smoke, pooled)
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
    """Renew the stamp after an edit that changed no number. Raises RecordError if one did change."""
    ledger = load(item)
    seed = ledger["runs"][0]["seed"]
    with tempfile.TemporaryDirectory() as scratch:
        smoke = _run(item, seed, Path(scratch), ("--smoke",))
        say(f"{item.id} smoke run: {smoke['seconds']:.1f} s")
        differences = compare_fingerprints(ledger["fingerprint"], fingerprint(smoke["folder"]))
        run = _run(item, seed, Path(scratch), ())
        say(f"{item.id} seed {seed}: {run['seconds']:.1f} s")
        fresh = _seed_entry(run)
        for kind in ("metrics", "claims"):
            differences += _differences(ledger["runs"][0][kind], fresh[kind], kind)
    if differences:
        raise RecordError(f"numbers changed, so record again: {'; '.join(differences[:3])}")
    ledger["stamp"] = stamp(item)
    ledger["config"] = {key: value for key, value in run["config"].items() if key != "seed"}
    write_json(item.ledger, ledger)


def load(item: Item) -> dict:
    """The ledger of a lesson. Raises FileNotFoundError if it was never recorded."""
    return json.loads(item.ledger.read_text(encoding="utf-8"))


def own_figures(item: Item) -> list[Path]:
    """The lesson's committed figures: B1.png, B1_cliff.png, B1_film.gif."""
    pattern = re.compile(rf"^{item.id}(_\w+)?\.(png|gif)$")
    folder = item.results
    return sorted(path for path in folder.glob("*") if pattern.match(path.name)) if folder.exists() else []


def stamp(item: Item) -> str:
    """A hash of the lesson's code: prose, comments and blank lines do not count, everything else does."""
    import jupytext

    notebook = jupytext.reads(item.path.read_text(encoding="utf-8"), fmt="py:percent")
    code = [
        line.rstrip()
        for cell in notebook.cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16]


def claims_of(ledger: dict) -> Iterator[tuple[Claim, list[Claim]]]:
    """Each per-seed claim of a ledger as (its first record, its records on all seeds)."""
    for name, entry in ledger["claims"].items():
        common = {key: entry[key] for key in SHARED if key in entry}
        records = [Claim.from_dict({"name": name, **common, **run["claims"][name]}) for run in ledger["runs"]]
        yield records[0], records


def verify(item: Item, ledger: dict, defaults: dict) -> list[str]:
    """What is wrong with a ledger: verdicts are recomputed from values, nothing stored is believed."""
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
    if ledger["config"] != {key: value for key, value in jsonable(defaults).items() if key != "seed"}:
        problems.append("recorded with another configuration than today's defaults")
    if ledger["stamp"] != stamp(item):
        problems.append(f"the code changed since: `rl record {item.id} --restamp`, or record again")
    if item.budget is None or seconds(ledger) > item.budget:
        problems.append(f"a full run takes {seconds(ledger):.0f} s, the budget is {item.budget} s")
    return problems


def seconds(ledger: dict) -> float:
    """What a full run takes: the median over seeds of the CPU seconds of the whole process, imports included.

    CPU seconds, because wall seconds tell as much about what else the machine did during the recording. On a
    quiet machine a run takes no longer than this, save for pauses.
    """
    return statistics.median(run["cpu_seconds"] for run in ledger["runs"])


def verdict(ledger: dict) -> tuple[int, int]:
    """(claims that hold, claims) over per-seed and pooled claims."""
    outcomes = [
        first.enough(sum(claim.holds for claim in records), len(records))
        for first, records in claims_of(ledger)
    ]
    outcomes += [Claim.from_dict(entry).holds for entry in ledger["pooled"]]
    return sum(outcomes), len(outcomes)


def fingerprint(folder: Path) -> dict:
    """The numbers of a run by which another run is recognised: every metric and claim but timings."""
    metrics = {
        name: {"count": len(rows), "mean": _mean([v for _, v in rows]), "last": rows[-1][1]}
        for name, rows in read_metrics(folder).items()
        if not is_timing(name)
    }
    claims = {
        claim["name"]: claim["value"]
        for claim in json.loads((folder / "claims.json").read_text(encoding="utf-8"))
        if not claim.get("timed")
    }
    return jsonable({"metrics": metrics, "claims": claims})


def compare_fingerprints(recorded: dict, fresh: dict) -> list[str]:
    """Where two fingerprints differ by more than the tolerance, in words; empty if they agree."""
    problems = _differences(recorded["claims"], fresh["claims"], "claim", small_is_equal=True)
    if recorded["metrics"].keys() != fresh["metrics"].keys():
        return [*problems, f"metrics {sorted(recorded['metrics'].keys() ^ fresh['metrics'].keys())} differ"]
    for name, numbers in recorded["metrics"].items():
        problems += _differences(numbers, fresh["metrics"][name], f"metric {name}", small_is_equal=True)
    return problems


def _differences(recorded: dict, fresh: dict, what: str, small_is_equal: bool = False) -> list[str]:
    if recorded.keys() != fresh.keys():
        return [f"{what}: {sorted(recorded.keys() ^ fresh.keys())} on one side only"]
    problems = []
    for name, old in recorded.items():
        new = fresh[name]
        if isinstance(old, dict):  # a claim's entry: only its value is a measurement
            if old.get("timed"):
                continue
            old, new = old["value"], new["value"]
        if is_timing(name) or old is new is None:
            continue
        # rounding errors (1e-16 against 3e-16) are no difference between machines; 1e-5 is what parity allows
        absolute = 1e-5 if small_is_equal else 0.0
        if old is None or new is None or not math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=absolute):
            problems.append(f"{what} {name}: recorded {old}, now {new}")
    return problems


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _run(item: Item, seed: int, scratch: Path, flags: tuple[str, ...]) -> dict:
    """One fresh process; its run folder read back, with wall and CPU seconds of the whole process."""
    out = scratch / f"{'smoke' if flags else 'full'}-{seed}"
    command = [sys.executable, str(item.path), "--seed", str(seed), "--out", str(out), *flags]
    with tempfile.TemporaryFile() as printed:
        start = time.monotonic()
        process = subprocess.Popen(
            command, stdout=printed, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        if process.returncode not in (PASSED, CLAIM_FAILED) or not list(out.glob("*/*/claims.json")):
            printed.seek(0)
            tail = printed.read().decode(errors="replace").strip().splitlines()[-15:]
            raise RecordError(f"{item.id} seed {seed} exited {process.returncode}:\n" + "\n".join(tail))
    (folder,) = out.glob("*/*/")

    def read(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    unit = 1 if platform.system() == "Darwin" else 1024  # of ru_maxrss
    return {
        "seed": seed,
        "folder": folder,
        "config": read("config.json"),
        "metrics": read_metrics(folder),
        "claims": [Claim.from_dict(fields) for fields in read("claims.json")],
        "figures": sorted(path for path in folder.iterdir() if path.suffix in (".png", ".gif")),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_mb": round(usage.ru_maxrss * unit / 1e6),
    }


def _summarise(item: Item, runs: list[dict], folder: Path) -> tuple[list[Claim], list[Path]]:
    """The lesson's own claims and figures over all seeds, if it has a `summarise(runs, log)`."""
    if "def summarise(" not in item.path.read_text(encoding="utf-8"):
        return [], []
    summarise = importlib.import_module(item.module).summarise
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
    summarise(plain, log)
    log.close()
    return log.claims, log.figures


def _seed_entry(run: dict) -> dict:
    measured = ("value", "at_least", "at_most", "near", "timed")
    return {
        "seed": run["seed"],
        "seconds": run["seconds"],
        "cpu_seconds": run["cpu_seconds"],
        "peak_memory_mb": run["peak_memory_mb"],
        "claims": {
            claim.name: {key: value for key, value in claim.to_dict().items() if key in measured}
            for claim in run["claims"]
        },
        "metrics": jsonable({name: rows[-1][1] for name, rows in run["metrics"].items()}),
    }


def _compose(item: Item, runs: list[dict], smoke: dict, pooled: list[Claim]) -> dict:
    from chapters.utils.evaluation import bootstrap_interval

    names = [[claim.name for claim in run["claims"]] for run in runs]
    if any(other != names[0] for other in names):
        raise RecordError(f"{item.id} makes different claims on different seeds")
    claims: dict[str, Any] = {}
    for records in zip(*(run["claims"] for run in runs)):
        first, values = records[0], [claim.value for claim in records]
        held = sum(claim.holds for claim in records)
        fields = {"statement": first.statement, "unit": first.unit, "source": first.source}
        claims[first.name] = {
            **{key: value for key, value in fields.items() if value},
            "seeds": first.seeds,
            **({"always": True} if first.always else {}),
            **({"timed": True} if first.timed else {}),
            "held": f"{held}/{len(records)}",
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
            "interval_of_mean": bootstrap_interval(values),
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
        "config": {key: value for key, value in runs[0]["config"].items() if key != "seed"},
        "smoke_seconds": smoke["cpu_seconds"],
        "claims": claims,
        "pooled": [claim.to_dict() for claim in pooled],
        "runs": [_seed_entry(run) for run in runs],
        "fingerprint": fingerprint(smoke["folder"]),
    }


def parse_seeds(text: str) -> list[int]:
    """`0:5` is 0, 1, 2, 3, 4; `1,7,9` is those. Raises ValueError with what is allowed."""
    try:
        if ":" in text:
            first, last = (int(part) for part in text.split(":"))
            seeds = list(range(first, last))
        else:
            seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise ValueError(f"--seeds {text}: not a range of seeds (like 0:5, or 1,7,9)")
    return seeds
