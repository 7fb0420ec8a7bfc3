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


def matmul_rate(size: int = 768) -> float:
    """GFLOP a second of a large matrix product in torch: the limit for everything made of products."""
    import torch

    a, b = torch.randn(2, size, size)
    return 2e-9 * size**3 / seconds_of(lambda: a @ b, calls=4)


def product_cost(layers: list, num_rows: int, obs_size: int) -> tuple[float, float]:
    """(GFLOP, CPU seconds) of the bare products in one forward and backward pass of linear layers.

    Each layer needs its output, the gradient of its weights and, unless it reads the observations, that of
    its input.
    """
    import torch

    products = []
    for layer in layers:
        outputs, inputs = layer.weight.shape
        x, g, w = torch.randn(num_rows, inputs), torch.randn(num_rows, outputs), layer.weight.detach()
        products += [(x, w.T), (g.T, x), *([(g, w)] if inputs != obs_size else [])]
    gflop = 2e-9 * sum(a.shape[0] * a.shape[1] * b.shape[1] for a, b in products)
    return gflop, seconds_of(lambda: [a @ b for a, b in products])
