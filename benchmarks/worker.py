"""One contender, one seed, one fresh process: `python -m benchmarks.worker '{"runner": ..., "seed": 0}'`.

Prints one line of JSON. The process is fresh so that imports and peak memory are the contender's own. This
file runs in the peers' environments too, so it needs nothing but numpy, gymnasium and the standard library.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chapters.envs import evaluate
from chapters.utils.lesson import peak_memory_mb

PACKAGES = (
    "numpy", "gymnasium", "torch", "jax", "stable-baselines3", "sb3-contrib", "sbx-rl", "rejax", "ray",
)  # fmt: skip
EVALUATION_SEEDS = 10_000
"""Added to a run's seed: where the starts of the evaluated episodes are drawn from."""


class Recorder:
    """A stopwatch that stands still while a policy is evaluated, and the checks made so far."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.checks, self.due = job, [], job["eval_every"]
        self.cpu = self.wall = 0.0
        self.warm_up_cpu_seconds: float | None = None
        self._running_since: tuple[float, float] | None = None
        self.imported = time.process_time()

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Everything inside counts, checks apart. What came before since the imports is the warm-up."""
        if self.warm_up_cpu_seconds is None:
            self.warm_up_cpu_seconds = time.process_time() - self.imported
        self._start()
        try:
            yield
        finally:
            self._stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing inside counts."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """`utils.evaluate` off the clock: what a lesson is given in its place."""
        with self.paused():
            return evaluate(*args, **kwargs)

    def offer(self, step: int, policy: Callable[[Any], Any]) -> None:
        """Evaluate `policy` after `step` environment steps if a check is due."""
        if step < self.due:
            return
        with self.paused():
            score = self.score(policy)
        self.note(step, score)
        self.due = (step // self.job["eval_every"] + 1) * self.job["eval_every"]

    def score(self, policy: Callable[[Any], Any]) -> float:
        """Mean return of greedy episodes, the same for every contender."""
        returns = evaluate(
            policy,
            self.job["env_id"],
            episodes=self.job["num_eval_episodes"],
            seed=self.job["seed"] + EVALUATION_SEEDS,
        )
        return float(returns.mean())

    def note(self, step: int, mean_return: float) -> None:
        """Keep a check whose score is already known; reads the running clock."""
        cpu, wall = time.process_time() - self._running_since[0], time.perf_counter() - self._running_since[1]
        self.add(step, mean_return, self.cpu + cpu, self.wall + wall)

    def add(self, step: int, mean_return: float, cpu: float, wall: float) -> None:
        """Keep a check whose times are known too."""
        self.checks.append([int(step), round(float(mean_return), 2), round(cpu, 4), round(wall, 4)])

    def _start(self) -> None:
        self._running_since = time.process_time(), time.perf_counter()

    def _stop(self) -> None:
        cpu, wall = self._running_since
        self.cpu, self.wall = self.cpu + time.process_time() - cpu, self.wall + time.perf_counter() - wall


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What one contender did on one seed: checks [step, mean return, CPU s, wall s] and what it cost."""
    module, _, function = job["runner"].partition(":")
    for name in job["imports"]:  # what the contender needs is its own cost
        importlib.import_module(name)
    runner = getattr(importlib.import_module(module), function)
    record = Recorder(job)
    wall = time.time() - job["spawned"] if "spawned" in job else math.nan
    num_env_steps = runner(job, record)
    return {
        "checks": record.checks,
        "num_env_steps": num_env_steps,
        "learning_cpu_seconds": round(record.cpu, 4),
        "learning_wall_seconds": round(record.wall, 4),
        "import_cpu_seconds": round(record.imported, 3),
        "import_wall_seconds": round(wall, 3),
        "warm_up_cpu_seconds": round(record.warm_up_cpu_seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
