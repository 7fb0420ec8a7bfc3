"""Signals at random moments over run, record, a loop of runs and rating; what each left behind is looked at.

    .venv/bin/python tests/signals.py --count 100 --seed 0        # some seconds each, not part of the tests

After SIGINT and SIGTERM a command says one line, ends with 128 + signal, and its run is "interrupted"; after
SIGKILL nothing is said and the run is "lost". After any of them every JSON file parses, every acknowledged
answer is kept, and no process is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path

import psutil

from chapters.course.progress import read_run

ROOT = Path(__file__).resolve().parents[1]
RL = shutil.which("rl", path=str(Path(sys.executable).parent)) or "rl"
SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}
RATING = '''
from chapters.utils import stopping

stopping.start()  # as `rl run` does before a lesson's own imports

from dataclasses import dataclass
from chapters.rating import Pair, RatingStore, Session, rate_in_browser
from chapters.utils.lesson import run_lesson

@dataclass(frozen=True)
class Config:
    """A lesson that has 500 pairs rated."""
    seed: int = 0

def main(cfg, log):
    log.write(0, ready=1)
    pairs = [Pair(str(i), f"prompt {i}", "a" * i, "b" * i) for i in range(1, 501)]
    with RatingStore(log.folder.parent / "ratings.sqlite") as store:
        rate_in_browser(Session(pairs, store), open_browser=False)

run_lesson(main, Config, {})
'''


@dataclass
class Trial:
    """One command, one signal, one moment."""

    kind: str
    name: str
    delay: float
    faults: list[str] = field(default_factory=list)
    outcome: str = ""
    answers: int = 0


def command(kind: str, out: Path) -> list[str]:
    """What is started."""
    if kind == "run":
        return [RL, "run", "B1", "--out", str(out)]
    if kind == "record":
        return [RL, "record", "B1", "--fresh", "--seeds", "900:904", "--jobs", "2"]
    if kind == "loop":
        once = f"{RL} run B0 --smoke --out {out} --seed $seed"
        return ["bash", "-c", f"for seed in 1 2 3; do {once} || exit; done"]
    (out / "B1_rating.py").write_text(RATING, encoding="utf-8")
    return [sys.executable, str(out / "B1_rating.py"), "--out", str(out)]


def heed() -> None:
    """Signals act in the child, whoever started this program in the background; it leads its own group."""
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.setpgid(0, 0)


def rate(printed: Path, seconds: float) -> int:
    """Answer pairs on the page for so long; how many answers were acknowledged."""
    late = time.monotonic() + 60
    while not (found := re.search(r"http://127\S+\s", printed.read_text())):
        if time.monotonic() > late:
            return 0
        time.sleep(0.05)
    until = time.monotonic() + seconds
    base = found[0].partition("/?")[0]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    count = 0
    try:
        opener.open(found[0], timeout=5).read()
        state = json.load(opener.open(f"{base}/state", timeout=5))
        while time.monotonic() < until:
            body = json.dumps({"choice": "left", "token": state["token"]}).encode()
            headers = {"Content-Type": "application/json", "Origin": base}
            request = urllib.request.Request(f"{base}/answer", body, headers)
            state = json.load(opener.open(request, timeout=5))
            count += 1
    except (OSError, ValueError, urllib.error.URLError):
        pass
    return count


def attempt(trial: Trial, scratch: Path) -> None:
    """Start, wait, send the signal, look."""
    out = scratch / "out"
    temporary = scratch / "tmp"
    printed = scratch / "stdout"
    for folder in (out, temporary):
        folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "RL_RUNS": str(out)}
    with printed.open("w") as stdout, (scratch / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            command(trial.kind, out), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            env=environment, preexec_fn=heed,
        )  # fmt: skip
        until = time.monotonic() + trial.delay
        if trial.kind == "rating" and trial.delay > 2:  # else the signal may come before the page
            trial.answers = rate(printed, trial.delay - 2)
            until = 0.0
        time.sleep(max(0.0, until - time.monotonic()))
        family = [psutil.Process(process.pid)] if process.poll() is None else []
        family += [child for parent in family for child in parent.children(recursive=True)]
        number = getattr(signal, trial.name)
        if process.poll() is None and trial.kind == "loop":
            os.killpg(process.pid, number)  # as a terminal does
        elif process.poll() is None:
            process.send_signal(number)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            trial.faults.append("it did not end in 60 s")
            process.kill()
            code = process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    if alive:
        trial.faults.append(f"{len(alive)} orphans")
        for orphan in alive:
            orphan.kill()
    look(trial, code, scratch)


def look(trial: Trial, code: int, scratch: Path) -> None:
    """Everything that must hold afterwards."""
    said = (scratch / "stderr").read_text()
    lines = [line for line in said.splitlines() if line.strip()]
    hit = code in (SIGNALS[trial.name], -int(getattr(signal, trial.name)))
    trial.outcome = "interrupted" if hit else "ended before"
    if not hit and code not in (0, 1):
        trial.faults.append(f"exit code {code}")
    if hit and trial.name != "SIGKILL" and trial.kind != "loop" and code != SIGNALS[trial.name]:
        trial.outcome = "before Python"  # it had not set its handlers up yet
    if "Traceback" in said:
        trial.faults.append(f"traceback: {lines[-1][:200]}")
    elif trial.outcome == "interrupted" and trial.name != "SIGKILL":
        told = [line for line in lines if not line.startswith("claim failed")]
        if len(told) != 1 or not told[0].startswith("interrupted"):
            trial.faults.append(f"{len(told)} lines: {told[:3]}")
    for path in (path for path in scratch.rglob("*.json") if path.is_file()):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            trial.faults.append(f"torn: {path.name}")
    for path in scratch.rglob("metrics.jsonl"):
        rows = path.read_text(encoding="utf-8").split("\n")
        for row in rows[:-1]:  # behind the last line break only a kill leaves half a row; readers skip it
            json.loads(row)
        if rows[-1] and trial.name != "SIGKILL":
            trial.faults.append("torn: metrics.jsonl")
    for path in scratch.rglob("out/*/*/run.json"):
        status = read_run(path.parent)["status"]
        allowed = {"lost", "passed", "failed", "interrupted"}
        if status not in allowed - ({"lost"} if trial.name != "SIGKILL" else set()):
            trial.faults.append(f"status {status}")
    if trial.name != "SIGKILL":
        if left := [path.name for path in (scratch / "tmp").iterdir()]:
            trial.faults.append(f"left in TMPDIR: {left[:3]}")
        if half := [path.name for path in (scratch / "out").rglob(".*") if path.name != ".lock"]:
            trial.faults.append(f"half-written: {half[:3]}")
    for path in scratch.rglob("ratings.sqlite"):
        with sqlite3.connect(path) as store:
            assert store.execute("pragma integrity_check").fetchone() == ("ok",)
            table = next(
                name for (name,) in store.execute("select name from sqlite_master") if "event" in name
            )
            (kept,) = store.execute(f"select count(*) from {table}").fetchone()
        if kept < trial.answers:
            trial.faults.append(f"{trial.answers - kept} answers lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds before the signal, at most")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    outcomes: Counter[tuple[str, str, str]] = Counter()
    answers, faults = 0, 0
    for at in range(options.count):
        kind = rng.choice(("run", "record", "loop", "rating"))
        trial = Trial(kind, rng.choice([*SIGNALS]), rng.uniform(0.1, options.longest))
        with tempfile.TemporaryDirectory() as scratch:
            attempt(trial, Path(scratch))
        outcomes[trial.kind, trial.name, trial.outcome] += 1
        answers += trial.answers
        faults += bool(trial.faults)
        told = "; ".join(trial.faults) or "as it should be"
        print(
            f"{at:3} {trial.kind:<7}{trial.name:<8}{trial.delay:4.1f} s {trial.outcome:<13} {told}",
            flush=True,
        )
    for (kind, name, outcome), count in sorted(outcomes.items()):
        print(f"{kind:<7} {name:<8} {outcome:<13} {count}")
    print(f"{options.count} trials, {faults} with faults; {answers} answers acknowledged")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
