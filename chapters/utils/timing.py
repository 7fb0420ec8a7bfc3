"""CPU time: what an algorithm costs, whatever else the machine is doing."""

from __future__ import annotations

import time


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
