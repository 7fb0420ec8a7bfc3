"""D5 is killed at random moments and goes on: it must end with the weights of a run that was left alone.

    python tests/kill_and_resume.py --kills 20 --seed 0

Each run is a process, killed by SIGKILL after a time drawn anew, wherever it then is: loading, sampling, in
the middle of writing what it saves. It goes on with `--resume` until it comes to its end; then the next one
begins, until as many were killed as were asked for. Exit code 1 if any weight or metric differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

from chapters.course.catalog import find
from chapters.D_rlhf import D5_grpo_verifiable_rewards as lesson
from chapters.utils.lesson import RunOptions, UsageError, execute
from chapters.utils.runlog import is_timing, read_metrics

SETTINGS = {"pretrain_steps": 10, "num_prompts": 2, "group_size": 4, "num_epochs": 2}


def run(cfg: lesson.Config, out: Path, resume: Path | None) -> None:
    """One process: to the end, whose weights it leaves in `out`, or until it is killed. Never returns."""
    code = 3
    try:
        options = RunOptions(smoke=True, out=out, resume=resume, save_every=0.0)
        log = execute(lesson.main, cfg, find("D5").path, options, print_claims=False)
        weights = dict(log.kept["policy"].named_parameters())
        save_file({name: one.detach() for name, one in weights.items()}, out / "half.safetensors")
        os.replace(out / "half.safetensors", out / "weights.safetensors")
        code = 0
    except UsageError as error:
        print(error, file=sys.stderr, flush=True)
        code = 2 if "it had saved nothing yet" in str(error) else 3
    finally:
        os._exit(code)


def start(cfg: lesson.Config, out: Path, resume: Path | None, seconds: float | None) -> int:
    """Exit code of a process that is killed after so many seconds; -9 if it was."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        run(cfg, out, resume)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def metrics(folder: Path) -> dict:
    return {name: values for name, values in read_metrics(folder).items() if not is_timing(name)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=60)
    asked = parser.parse_args()
    cfg = lesson.Config(**SETTINGS, num_updates=asked.updates)
    lesson.draw = lambda log: None  # what takes seconds, and comes when the weights are there
    draw, root = random.Random(asked.seed), Path(tempfile.mkdtemp())
    began = time.monotonic()
    (root / "alone").mkdir()
    assert start(cfg, root / "alone", None, None) == 0
    whole = time.monotonic() - began
    right = load_file(root / "alone" / "weights.safetensors")
    (folder,) = (root / "alone" / "D5").iterdir()
    expected, kills, ended, steps = metrics(folder), 0, 0, []
    while kills < asked.kills or not ended:
        out = root / f"run{ended}"
        out.mkdir()
        resume = None
        while True:
            last = kills >= asked.kills
            code = start(cfg, out, resume, None if last else draw.uniform(0.0, whole))
            if code == 0:
                break
            if code == 2:  # killed before it had saved: nothing to go on from
                resume = None
                shutil.rmtree(out / "D5")
                continue
            assert code == -signal.SIGKILL, code
            kills += 1
            if (out / "weights.safetensors").exists():
                break
            folders = list((out / "D5").iterdir()) if (out / "D5").exists() else []
            resume = folders[0] if folders and (folders[0] / "run.json").exists() else None
            steps.append(
                max((step for step, _ in read_metrics(resume).get("ours_loss", [(0, 0)])), default=0)
                if resume
                else 0
            )
            if not resume:
                shutil.rmtree(out / "D5", ignore_errors=True)
        found = load_file(out / "weights.safetensors")
        assert found.keys() == right.keys()
        same = all(bool((found[name] == right[name]).all()) for name in right)
        (folder,) = (out / "D5").iterdir()
        if not same or metrics(folder) != expected:
            print(f"run {ended}: {'metrics' if same else 'weights'} differ")
            return 1
        ended += 1
    shutil.rmtree(root)
    print(json.dumps({"kills": kills, "runs": ended, "killed_at_update": steps, "seconds": round(whole, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
