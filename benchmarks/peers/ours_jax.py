"""Lesson C4: PPO as one compiled function. Compiling is reported apart, as warm-up."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.worker import Recorder
from chapters.C_policy_gradients import C4_ppo_in_jax as lesson


def ppo(job: dict[str, Any], record: Recorder) -> int:
    """One learner. The program is run twice from the same key: once timed without, once with its evaluations.

    Every update of the compiled program does the same work, so a check's time is its share of the whole.
    """
    changes = lesson.SMOKE if job["smoke"] else {}
    cfg = lesson.Config(**{"seed": job["seed"], **changes, **job["settings"]})
    key = jax.random.key(cfg.seed)
    program = jax.jit(partial(lesson.train, cfg=cfg)).lower(key, True).compile()
    jax.block_until_ready(program(key, False))  # a first call also finds memory; it belongs to the warm-up
    with record.learning():
        jax.block_until_ready(program(key, False))
    scores = np.asarray(program(key, True)[1])  # [checks]
    for i, score in enumerate(scores, start=1):
        share = i / len(scores)
        record.add(i * cfg.eval_every, score, share * record.cpu, share * record.wall)
    return len(scores) * cfg.eval_every
