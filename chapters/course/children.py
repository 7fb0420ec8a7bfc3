"""Lessons in processes of their own, several at a time, which end with the block that started them."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chapters.utils import stopping

PATIENCE = 10.0
"""Seconds that a child has to write what it measured, before it is killed."""
_lock = threading.Lock()
_running: set[subprocess.Popen] = set()
_closed = False


def start(command: list[str], **options: Any) -> subprocess.Popen:
    """A process that `end_all` ends. Raises KeyboardInterrupt when everything is being ended."""
    with _lock:
        if _closed:
            raise KeyboardInterrupt
        process = subprocess.Popen(command, **options)
        _running.add(process)
    return process


def end(process: subprocess.Popen) -> None:
    """End one child: it is asked to, so that it leaves nothing half-written, and killed if it does not."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def forget(process: subprocess.Popen) -> None:
    """It has ended."""
    with _lock:
        _running.discard(process)


def ending() -> bool:
    """Whether everything is being ended: what breaks now, breaks by that."""
    return _closed or bool(stopping.asked)


def end_all() -> None:
    """Ask every running child to end. Whoever waits for one is soon told that it did."""
    global _closed
    with _lock:
        _closed = True
        children = list(_running)
    for process in children:
        with contextlib.suppress(OSError):
            process.terminate()
        killer = threading.Timer(PATIENCE, process.kill)
        killer.daemon = True
        killer.start()


def each(work: Callable[[Any], dict], things: Iterable, jobs: int) -> Iterator[tuple[Any, dict]]:
    """(thing, work(thing)) in order, `jobs` at a time. An error, a signal or `close` ends the rest first."""
    global _closed
    _closed = False
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = [(thing, pool.submit(work, thing)) for thing in things]
        for thing, future in futures:
            yield thing, future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        end_all()
        raise
    finally:
        pool.shutdown()
        _closed = False
