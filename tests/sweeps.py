"""`rl sweep` killed by SIGKILL at random moments and begun again, until it ends; then the runs are counted.

    .venv/bin/python tests/sweeps.py --kills 20 --seed 0          # seconds a kill, not part of the tests

Every run must stand in the folder once and be the file it was when it was first kept, and the numbers must be
the same bytes as those of a sweep that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
RL = shutil.which("rl", path=str(Path(sys.executable).parent)) or "rl"
PROCESS_ENDS = 15.0
"""Seconds after a kill in which every process that the sweep had started must be gone."""


def command(out: Path, num_seeds: int, more: list[str]) -> list[str]:
    seeds = ["--seeds", f"0:{num_seeds}", "--set", "num_walk_runs=10,20"]
    return [RL, "sweep", "B2", "--smoke", *seeds, "--jobs", "2", "--out", str(out), *more]


def kept(out: Path) -> dict[str, tuple[int, int]]:
    """The runs that have their name: which files they are."""
    found = [path for path in out.glob("B2/*/*/seed*") if path.is_dir()]
    return {
        f"{path.parent.name}/{path.name}": (path.stat().st_ino, path.stat().st_ctime_ns) for path in found
    }


def killed(out: Path, lines: int, delay: float, num_seeds: int, more: list[str]) -> tuple[bool, list[str]]:
    """Start a sweep, kill it `delay` s after its n-th line: (whether it ended before, what is wrong)."""
    before = kept(out)
    printed = out.with_suffix(".printed")
    family: dict[int, psutil.Process] = {}
    with printed.open("w") as stdout:
        process = subprocess.Popen(command(out, num_seeds, more), cwd=ROOT, stdout=stdout)
    until = None if lines else time.monotonic() + delay
    while process.poll() is None and (until is None or time.monotonic() < until):
        for child in psutil.Process(process.pid).children(recursive=True):
            family[child.pid] = child
        if until is None and printed.read_text().count(" of ") >= lines:
            until = time.monotonic() + delay
        time.sleep(0.02)
    if ended := process.poll() is not None:
        assert process.returncode == 0, process.returncode
    else:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(family.values(), timeout=PROCESS_ENDS)
    faults = [f"left: {' '.join(one.cmdline())[:80]}" for one in alive]
    for one in alive:
        one.kill()
    after = kept(out)
    faults += [f"{name} was made again" for name, file in before.items() if after.get(name) != file]
    return ended, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=12, help="seeds of the sweep, with two settings each")
    parser.add_argument("--longest", type=float, default=2.0, help="seconds after a line, at most")
    parser.add_argument("--on", default="local")
    options = parser.parse_args()
    more = ["--on", options.on] if options.on != "local" else []
    rng = random.Random(options.seed)
    count = faults = at_work = 0
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "disturbed"
        out.mkdir()
        while count < options.kills:
            lines, delay = rng.choice((0, 1, 2, 3)), rng.uniform(0.0, options.longest)
            ended, wrong = killed(out, lines, delay, options.seeds, more)
            if ended and not wrong:  # all runs are there: begin anew with what follows
                options.seeds += 4
                continue
            count += 1
            faults += bool(wrong)
            parts = len(list(out.glob("B2/*/.part-*")))
            at_work += bool(parts)
            told = "; ".join(wrong) or "as it should be"
            when = f"{count:3} SIGKILL {delay:3.1f} s after line {lines}"
            print(f"{when}, {len(kept(out)):3} kept, {parts} half-made: {told}", flush=True)
        before = kept(out)
        subprocess.run(command(out, options.seeds, more), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        whole = kept(out)
        faults += any(whole[name] != file for name, file in before.items())
        calm = Path(scratch) / "calm"
        subprocess.run(command(calm, options.seeds, []), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        same = [next(where.glob("B2/*/sweep.json")).read_bytes() for where in (out, calm)]
        left = [str(path) for path in out.glob("B2/*/.part-*")]
        torn = 0
        for path in out.rglob("*.json"):
            try:
                json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                torn += 1
    expected = 2 * options.seeds
    print(f"{count} kills, {at_work} of them amid a run; {faults} with faults")
    print(f"runs in the end: {len(whole)} of {expected}, {len(left)} half-made, {torn} torn files")
    print(f"the numbers are {'' if same[0] == same[1] else 'NOT '}the bytes of an undisturbed sweep")
    sys.exit(0 if not faults and len(whole) == expected and same[0] == same[1] and not (left or torn) else 1)


if __name__ == "__main__":
    main()
