"""Learners under one clock: who reaches a threshold in how many CPU seconds, and does it stay there?"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

from chapters.utils import plotting
from chapters.utils.runlog import RunLog

Metrics = dict[str, list]


class Scores:
    """The evaluations of one learner while it trains; the clock stands still during each.

    Writes `<name>_return` and `<name>_cpu_seconds` at each one, and keeps a copy of the best network
    in `best` and the last one itself in `last`.
    Create it when everything that should not count (imports, construction) is done.
    """

    def __init__(self, name: str, score: Callable[[Any], float], log: RunLog) -> None:
        self.name, self.score, self.log = name, score, log
        self.seconds, self.best_return, self.best, self.last = 0.0, -math.inf, None, None
        self._resumed = time.process_time()

    def measure(self, step: int, network: Any) -> None:
        """Evaluate `network` after `step` environment steps."""
        self.seconds += time.process_time() - self._resumed
        score = self.score(network)
        self.log.write(step, **{f"{self.name}_return": score, f"{self.name}_cpu_seconds": self.seconds})
        self.last = network
        if score > self.best_return:
            self.best_return, self.best = score, copy.deepcopy(network)
        self._resumed = time.process_time()


def first_crossing(metrics: Metrics, name: str, threshold: float) -> tuple[float, float]:
    """(CPU seconds until an evaluation first reached the threshold, share of those from it on that did).

    (infinity, 0) if none did. metrics: name -> [(step, value), ...], as run logs and ledgers keep them.
    """
    solved = [value >= threshold for _, value in metrics[f"{name}_return"]]
    if True not in solved:
        return math.inf, 0.0
    first = solved.index(True)
    return metrics[f"{name}_cpu_seconds"][first][1], sum(solved[first:]) / len(solved[first:])


def draw_race(log: RunLog, runs: list[Metrics], labels: dict[str, str], threshold: float) -> None:
    """A row for each learner, a dot for each run, a bar for their median: how fast, and for how long."""
    import numpy as np

    figure, (fast, stays) = plotting.new_figure(1, 2, height=1.6 + 0.5 * len(labels))
    for row, (name, color) in enumerate(zip(labels, plotting.COLOURS)):
        seconds, shares = np.array([first_crossing(run, name, threshold) for run in runs]).T  # [runs] each
        for ax, values in ((fast, seconds), (stays, 100 * shares)):
            median = np.median(values)
            ax.barh(row, median if np.isfinite(median) else 0.0, color=color, alpha=0.4)
            ax.plot(values, np.full(len(runs), row), "o", color=color, markersize=6, alpha=0.8, clip_on=False)
        if never := int(np.isinf(seconds).sum()):
            fast.text(0.99, row, f"{never} of {len(runs)} never", transform=fast.get_yaxis_transform(),
                      ha="right", va="center", fontsize=10)  # fmt: skip
    fast.set_yticks(range(len(labels)), labels.values())
    stays.set_yticks(range(len(labels)), [""] * len(labels))
    for ax in (fast, stays):
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    fast.set(xlabel=f"CPU seconds to the first {threshold:g}", xlim=(0, None), title="How fast?")
    stays.set(xlabel=f"later evaluations at {threshold:g} or above (%)", xlim=(0, 100), title="Does it last?")
    log.figure(figure)
