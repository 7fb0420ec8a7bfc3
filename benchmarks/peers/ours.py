"""The course's own lessons, as they stand: their `train`, their configuration, our stopwatch.

A lesson evaluates itself, by the same `utils.evaluate`; it is handed one that stops the clock. All else that
`train` does counts, building the networks and writing the run log included.
"""

from __future__ import annotations

import dataclasses
import importlib
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks.worker import Recorder
from chapters.utils import RunLog


class WatchedLog(RunLog):
    """A run log that reports every `..._return` that is written, with the clock's reading."""

    def __init__(self, folder: Path, lesson: str, record: Recorder) -> None:
        super().__init__(folder, lesson)
        self.record = record

    def write(self, step: int, **metrics: float) -> None:
        super().write(step, **metrics)
        for name, value in metrics.items():
            if name.endswith("_return"):
                stem = name.removesuffix("return")
                self.record.note(metrics.get(f"{stem}env_steps", step), value)


def learn(lesson: ModuleType, cfg: Any, record: Recorder, **which: Any) -> None:
    """Run a lesson's `train` on the clock."""
    warm = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(warm.parameters(), fused=True)  # the first one imports torch's compiler
    warm(torch.zeros(1)).sum().backward()
    optimizer.step()
    original, lesson.evaluate = lesson.evaluate, record.evaluate
    try:
        with tempfile.TemporaryDirectory() as folder:
            log = WatchedLog(Path(folder), lesson.__name__.split(".")[-1][:2], record)
            with record.learning():
                lesson.train(cfg, log, **which)
            log.close()
    finally:
        lesson.evaluate = original


def configured(job: dict[str, Any]) -> tuple[ModuleType, Any]:
    """The contender's lesson and its configuration: its own defaults, or those of its smoke run."""
    lesson = importlib.import_module(job["imports"][0])
    changes = lesson.SMOKE if job["smoke"] else {}
    return lesson, lesson.Config(**{"seed": job["seed"], **changes, **job["settings"]})


def cartpole(job: dict[str, Any], record: Recorder) -> int:
    """C0, C3, C5, C7 or B4 with the lesson's own defaults."""
    lesson, cfg = configured(job)
    learn(lesson, cfg, record)
    # REINFORCE counts episodes, and ends on a check
    return getattr(cfg, "num_env_steps", record.checks[-1][0])


def pendulum(job: dict[str, Any], record: Recorder) -> int:
    """C3 on Pendulum, with the settings that its evidence has for it."""
    from chapters.C_policy_gradients.evidence import C3 as evidence

    lesson, cfg = configured(job)
    extra = evidence.Config(**(evidence.SMOKE if job["smoke"] else {}))
    cfg = dataclasses.replace(cfg, **evidence.PENDULUM, num_env_steps=extra.num_pendulum_steps)
    cfg = dataclasses.replace(cfg, eval_every=job["eval_every"])  # finer than the lesson's, as for everyone
    learn(lesson, cfg, record)
    return cfg.num_env_steps


def off_policy(job: dict[str, Any], record: Recorder) -> int:
    """C6's learner of the name that the settings give, with the lesson's own defaults."""
    lesson = importlib.import_module(job["imports"][0])
    changes = lesson.SMOKE if job["smoke"] else {"eval_every": job["eval_every"]}
    cfg = lesson.Config(seed=job["seed"], **changes)
    learn(lesson, cfg, record, name=job["settings"]["name"])
    return cfg.num_env_steps
