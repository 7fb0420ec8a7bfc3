"""The pictures of D6's evidence: our PPO beside TRL's in numbers, and what each model writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chapters.text.charts import REWRITERS, draw_reward_and_kl, draw_shares
from chapters.utils import plotting

if TYPE_CHECKING:
    from chapters.utils.runlog import RunLog


def draw_peer(found: dict[str, dict[str, np.ndarray]], log: RunLog) -> None:
    """Outcome with intervals; the judge's score against time; learned reward and KL on the way."""
    figure, (shares, cost, way) = plotting.new_figure(1, 3, width=5.2, height=4.2)
    draw_shares(shares, found)
    for name in ("ours", "trl"):
        label, color = REWRITERS[name]
        seconds, scores = log.series(f"{name}_cpu_seconds")[1], log.series(f"{name}_score")[1]
        cost.plot(seconds, scores, ".-", color=color, label=label)
    cost.axhline(found["sft"]["score"].mean(), label="imitation (SFT)", **plotting.REFERENCE)
    cost.set(xlabel="CPU seconds of learning", ylabel="judge's score on held-out requests")
    cost.set(xlim=(0, None), title="What it costs")
    cost.legend(loc="center right")
    draw_reward_and_kl(way, ["ours", "trl"], log)
    log.figure(figure, "trl")


def draw_rewrites(
    requests: list[str], texts: dict[str, list[str]], scores: dict[str, np.ndarray], log: RunLog, num: int = 6
) -> None:
    """The first held-out requests, and below each what every model makes of it, with the judge's score."""
    block = len(texts) + 2  # lines: a request, its rewrites, an empty one
    figure, ax = plotting.new_figure(width=11.5, height=0.3 * num * block)
    ax.axis("off")
    for row in range(num):
        for line, (name, rewrites) in enumerate([("", requests), *texts.items()]):
            label, color = REWRITERS.get(name, ("", "black"))
            look = {"va": "center", "fontsize": 12, "color": color, "transform": ax.transAxes}
            y = 1.0 - (row * block + line + 0.5) / (num * block)
            ax.text(0.18 if name else 0.0, y, rewrites[row], fontweight=None if name else "bold", **look)
            if name:
                ax.text(0.02, y, label, **look)
                ax.text(1.0, y, f"{scores[name][row]:.1f}", ha="right", **look)
    ax.set_title("The first held-out requests, their rewrites, and the judge's scores", loc="left")
    log.figure(figure, "samples")
