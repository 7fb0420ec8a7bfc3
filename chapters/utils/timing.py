"""What an algorithm costs, whatever else the machine is doing: CPU time, and memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class CpuClock:
    """A stopwatch of this process's CPU seconds; `with clock:` counts, everything outside does not.

    >>> clock = CpuClock()
    >>> with clock:
    ...     total = sum(range(1000))
    >>> clock.seconds >= 0
    True
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> CpuClock:
        self._start = time.process_time()
        return self

    def __exit__(self, *exception) -> None:
        self.seconds += time.process_time() - self._start


class PeakMemory:
    """`with PeakMemory() as peak:` the process's largest resident memory meanwhile, in `peak.megabytes`."""

    def __enter__(self) -> PeakMemory:
        import psutil

        self._process, self._over = psutil.Process(), threading.Event()
        self.megabytes = self._process.memory_info().rss / 1e6
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.megabytes = max(self.megabytes, self._process.memory_info().rss / 1e6)

    def __exit__(self, *exception) -> None:
        self._over.set()
        self._thread.join()


def seconds_of(work: Callable[[], object], calls: int = 20, rounds: int = 5) -> float:
    """CPU seconds of one call of `work`, the best of several rounds: the rest is the machine's doing."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(calls):
            work()
        best = min(best, (time.process_time() - start) / calls)
    return best
