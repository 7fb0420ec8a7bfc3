"""An actor of C7 in a process of its own, and how many steps a second that brings."""

import dataclasses
import multiprocessing
import queue
import signal
import time
from multiprocessing.queues import Queue

import numpy as np

from chapters.C_policy_gradients import C7_impala_vtrace as lesson
from chapters.utils import RunLog, seed_everything

WAIT = 0.02  # seconds that a rollout takes longer in a world that keeps its actor waiting


def serve(asked: Queue, answers: Queue, kind: type[lesson.Actor], settings: dict, index: int) -> None:
    """A remote actor's life: a rollout for each set of weights, until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the learner's to handle
    seed_everything(settings["seed"])
    actor = kind(lesson.Config(**settings), index)
    while multiprocessing.parent_process().is_alive():
        try:
            weights = asked.get(timeout=1.0)
        except queue.Empty:
            continue
        actor.ask(weights)
        answers.put(actor.answer())


class RemoteActor:
    """An `Actor` in a process of its own, which works while the learner learns."""

    def __init__(self, kind: type[lesson.Actor], settings: dict, index: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.asked, self.answers = context.Queue(), context.Queue()
        arguments = (self.asked, self.answers, kind, settings, index)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()

    def ask(self, weights: lesson.Weights) -> None:
        """Order a rollout by these weights; it is begun at once."""
        self.asked.put(weights)

    def answer(self) -> lesson.Rollout:
        """The rollout that was ordered first. RuntimeError if the process has died."""
        while True:
            try:
                return self.answers.get(timeout=1.0)
            except queue.Empty:
                if not self.process.is_alive():
                    raise RuntimeError("an actor's process has ended before its rollout was done") from None

    def close(self) -> None:
        """End the process; what it was still asked is dropped."""
        self.asked.cancel_join_thread()
        self.process.terminate()
        self.process.join()


class WaitingActor(lesson.Actor):
    """An actor whose world makes it wait: a simulator elsewhere, a person, a slow disk."""

    def answer(self) -> lesson.Rollout:
        time.sleep(WAIT)
        return super().answer()


def timed(kind: type, count: int, cfg: lesson.Config, log: RunLog) -> tuple[float, np.ndarray]:
    """(environment steps a second, final weights) with `count` processes; 0: one actor in this process."""
    cfg = dataclasses.replace(cfg, num_actors=max(1, count))
    seed_everything(cfg.seed)
    first = lesson.weights_of(lesson.ActorCritic(lesson.make_envs(cfg.env_id, 1)))
    remote = [RemoteActor(kind, dataclasses.asdict(cfg), index) for index in range(count)]
    actors = remote or [kind(cfg, 0)]
    try:
        for actor in actors:
            actor.ask(first)
        for actor in actors:  # all have begun: interpreter, imports, environments
            actor.answer()
        start = time.perf_counter()
        agent = lesson.train(cfg, log, actors, name=f"{kind.__name__}_{count}")
        seconds = time.perf_counter() - start
    finally:
        for actor in remote:
            actor.close()
    return cfg.num_env_steps / seconds, lesson.weights_of(agent)


def processes(cfg: lesson.Config, num_updates: int, log: RunLog) -> None:
    """Equal numbers from processes; steps a second without, with one and with two of them."""
    num_env_steps = num_updates * cfg.num_envs * cfg.num_steps
    cfg = dataclasses.replace(cfg, num_env_steps=num_env_steps, eval_every=10**6)
    rates, weights = {}, {}
    most = 1 if log.smoke else 2  # processes
    for kind in (lesson.Actor, WaitingActor):
        for count in range(most + 1):
            rates[kind, count], weights[kind, count] = timed(kind, count, cfg, log)
            log.write(count, **{f"{kind.__name__}_steps_per_second": rates[kind, count]})
    log.claim(
        "process_gap",
        "an actor in a process of its own gives the learner the same weights as one in this process",
        np.abs(weights[lesson.Actor, 1] - weights[lesson.Actor, 0]).max(),
        at_most=0.0,
        unit="largest difference of a weight",
        source="the schedule of section 3",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "overlap",
        "in a world that keeps an actor waiting, two processes give more steps a second than none",
        rates[WaitingActor, most] / rates[WaitingActor, 0],
        at_least=1.5,
        unit="times the steps a second",
        source="two actors wait at the same time, and the learner learns meanwhile: 2 and more",
        timed=True,
        seeds="9/10",
    )
