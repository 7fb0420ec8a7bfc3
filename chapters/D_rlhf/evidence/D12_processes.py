"""D12's sampler in a process of its own: the same numbers, and how many batches a second each lag allows.

Both sides of the small model are too quick to be worth two processes. So each waits as long as a larger
model would compute: the sampler a random time, since the longest text of a batch decides, the trainer always
the same. Waits leave the cores free, so a loaded machine changes little.
"""

import dataclasses
import multiprocessing
import queue
import signal
import time
from multiprocessing.queues import Queue
from typing import Any

import numpy as np

from chapters.C_policy_gradients.evidence.C7_processes import RemoteActor
from chapters.D_rlhf import D12_stale_samples as lesson
from chapters.envs.token_world import TokenWorld, token_world
from chapters.text.serving import Sampler
from chapters.utils import RunLog, seed_everything

WAIT = 0.05
"""Seconds that the sampler waits for each batch on average, and the trainer for each update."""
LAGS = (0, 1, 2, 4)


class WaitingSampler(Sampler):
    """A sampler that takes as long as a larger model would."""

    def __init__(self, world: TokenWorld, cfg: lesson.Config) -> None:
        super().__init__(world, cfg)
        self.waits = iter(waits(cfg))

    def answer(self) -> lesson.Batch:
        time.sleep(next(self.waits))
        return super().answer()


class WaitingTrainer:
    """Stands between trainer and sampler: each answer costs the trainer as long as a larger update would."""

    def __init__(self, sampler: Any) -> None:
        self.sampler, self.ask = sampler, sampler.ask

    def answer(self) -> lesson.Batch:
        batch = self.sampler.answer()
        time.sleep(WAIT)
        return batch


def waits(cfg: lesson.Config) -> np.ndarray:
    """Seconds that the sampler waits for each batch: exponential, and known beforehand."""
    num_batches = 1 + len(LAGS) * cfg.num_updates
    return np.random.default_rng([cfg.seed, 12]).exponential(WAIT, size=num_batches)


def serve(asked: Queue, answers: Queue, kind: type[Sampler], settings: dict) -> None:
    """A remote sampler's life: a batch for each set of weights, until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle
    answers.cancel_join_thread()  # what nobody will fetch must not keep this process
    seed_everything(settings["seed"])
    cfg = lesson.Config(**settings)
    sampler = kind(token_world(cfg.seed, **lesson.WORLD), cfg)
    while multiprocessing.parent_process().is_alive():
        try:
            table = asked.get(timeout=1.0)
        except queue.Empty:
            continue
        sampler.ask(table)
        answers.put(sampler.answer())


class RemoteSampler(RemoteActor):
    """A `Sampler` in a process of its own; asked, answering and closed as C7's actor is."""

    def __init__(self, kind: type[Sampler], settings: dict) -> None:
        context = multiprocessing.get_context("spawn")
        self.asked, self.answers = context.Queue(), context.Queue()
        arguments = (self.asked, self.answers, kind, settings)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()

    def ask(self, table: np.ndarray) -> None:
        """Order a batch by these weights, the policy's `table`; it is begun at once."""
        self.asked.put(table)


def shortest_time(sampling: np.ndarray, training: float, lag: int) -> float:
    """Seconds until the last update is done, if nothing but `sampling` [U] and `training` takes time.

    Batch i is begun when the one before is written and the trainer has made i - lag updates; update i when
    the batch is there and the update before is done.
    """
    written, done = 0.0, [0.0] * (lag + 1)  # done[i]: when i - lag updates are made
    for seconds in sampling:
        written = max(written, done[len(done) - 1 - lag]) + seconds
        done.append(max(written, done[-1]) + training)
    return done[-1]


def processes(cfg: lesson.Config, log: RunLog) -> None:
    """One process writes for a trainer at each lag: seconds of wall clock, and the same weights as without.

    Written at each lag: `process_updates_per_second`, of wall clock; `possible_updates_per_second`, if
    nothing but the waits took time; `trainer_cpu_seconds`, of one update in the trainer's process.
    """
    nothing = np.zeros((lesson.WORLD["num_symbols"],) * 2)
    near = Sampler(token_world(cfg.seed, **lesson.WORLD), cfg)
    remote = RemoteSampler(WaitingSampler, dataclasses.asdict(cfg))
    slow, gaps = waits(cfg)[1:].reshape(len(LAGS), -1), []
    measured, shortest = {}, {}  # lag -> seconds
    try:
        for sampler in (near, remote):  # the process has begun then: interpreter, imports, world
            sampler.ask(nothing)
            sampler.answer()
        for lag, sampling in zip(LAGS, slow):
            changed = dataclasses.replace(cfg, lag=lag)
            start, cpu = time.perf_counter(), time.process_time()
            there = lesson.train(changed, log, f"process_{lag}", WaitingTrainer(remote))
            measured[lag], cpu = time.perf_counter() - start, time.process_time() - cpu
            here = lesson.train(changed, log, f"same_{lag}", near)
            gaps.append((there.table - here.table).abs().max().item())
            shortest[lag] = shortest_time(sampling, WAIT, lag)
            log.write(lag, process_updates_per_second=cfg.num_updates / measured[lag])
            log.write(lag, possible_updates_per_second=cfg.num_updates / shortest[lag])
            log.write(lag, trainer_cpu_seconds=cpu / cfg.num_updates)
    finally:
        remote.close()
    claim_processes(max(gaps), measured, shortest, log)


def claim_processes(gap: float, measured: dict[int, float], shortest: dict[int, float], log: RunLog) -> None:
    """The same numbers, no faster than the waits allow, and faster than in turns."""
    old = max(LAGS)
    log.claim(
        "process_gap",
        "a sampler in a process of its own gives the trainer the same weights as one in this process",
        gap,
        at_most=0.0,
        unit="largest difference of a weight",
        source="the schedule of section 5",
        always=True,
        seeds="5/5",
    )
    log.claim(
        "above_shortest",
        "no run takes less time than its waits alone",
        min(measured[lag] / shortest[lag] for lag in LAGS),
        at_least=1.0,
        unit="of the shortest possible time, at the fastest lag",
        source="the order in which batches are asked for, written and learnt from",
        always=True,
        timed=True,
        seeds="5/5",
    )
    log.claim(
        "overlap",
        f"data {old} updates old bring half at least of the speed that overlapping waits could bring",
        measured[0] / measured[old],
        at_least=1.0 + 0.5 * (shortest[0] / shortest[old] - 1.0),
        unit="times the updates a second of lag 0",
        source="the shortest times with these waits, in turns and overlapping",
        timed=True,
        seeds="4/5",
    )
