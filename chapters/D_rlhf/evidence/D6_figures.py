"""D6's two figures: what became of the rewrites in numbers, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chapters.utils import plotting
from chapters.utils.evaluation import bootstrap_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from chapters.utils.runlog import RunLog

LOOKS = {
    "sft": ("imitation (SFT)", plotting.ORANGE),
    "ours": ("our PPO", plotting.BLUE),
    "trl": ("TRL's PPO", plotting.GREEN),
}
SHARES = {"wins": "win rate\nover SFT", "content": "content\nkept", "polite": "polite"}


def draw_outcome(found: dict[str, dict[str, np.ndarray]], log: RunLog) -> None:
    """Outcome with intervals; score against time; reward against divergence; lengths. One colour a model."""
    figure, axes = plotting.new_figure(2, 2, width=6.2, height=4.1)
    axes = axes.flatten()
    _shares(axes[0], found)
    for name in (name for name in found if name != "sft"):
        label, color = LOOKS[name]
        seconds, scores = log.series(f"{name}_cpu_seconds")[1], log.series(f"{name}_score")[1]
        axes[1].plot(seconds, scores, ".-", color=color, label=label)
        steps, kl = log.series(f"{name}_kl")
        axes[2].plot(steps, log.series(f"{name}_reward")[1], color=color, label=f"{label}: reward")
        axes[2].plot(steps, kl, ":", color=color, label=f"{label}: divergence")
    axes[1].axhline(found["sft"]["score"].mean(), label="imitation (SFT)", **plotting.REFERENCE)
    axes[1].set(xlabel="CPU seconds of learning", ylabel="judge's score on held-out requests")
    axes[1].set(xlim=(0, None), title="What it costs")
    axes[1].legend(loc="center right")
    axes[2].set(xlabel="update", ylabel="learned reward, KL from SFT (nats)", title="On training requests")
    axes[2].set_yscale("symlog", linthresh=4.0)  # a batch with one strange text has a large divergence
    axes[2].set_yticks([0, 1, 2, 3, 4, 10, 40], ["0", "1", "2", "3", "4", "10", "40"])
    axes[2].set_ylim(-0.5, 200.0)
    axes[2].legend(loc="upper center", ncols=2, fontsize=10)
    for name, one in found.items():
        label, color = LOOKS[name]
        counts = np.bincount(one["length"].astype(int), minlength=20) / len(one["length"])
        axes[3].plot(counts, color=color, label=f"{label}, mean {one['length'].mean():.1f}")
    axes[3].set(xlabel="words in a rewrite", ylabel="share of rewrites", title="Lengths drift and pile up")
    axes[3].set_xticks(range(0, 21, 4))
    axes[3].set_ylim(0, 1.35 * axes[3].get_ylim()[1])
    axes[3].legend(loc="upper right", fontsize=10)
    log.figure(figure)


def _shares(ax: Axes, found: dict[str, dict[str, np.ndarray]]) -> None:
    for shift, name in zip((-0.2, 0.0, 0.2), found):
        label, color = LOOKS[name]
        for x, key in enumerate(SHARES):
            if (name, key) == ("sft", "wins"):
                continue
            ax.plot(
                [x + shift] * 2, bootstrap_interval(found[name][key]), color=color, linewidth=4, alpha=0.4
            )
            ax.plot(x + shift, found[name][key].mean(), "o", color=color, label=label if x == 1 else None)
    ax.plot([-0.4, 0.4], [0.75, 0.75], label="bars", **plotting.REFERENCE)
    ax.plot([1.6, 2.4], [0.95, 0.95], **plotting.REFERENCE)
    ax.set(xlim=(-0.5, 2.5), ylim=(None, 1.03), title="Held-out requests", ylabel="share (95 % interval)")
    ax.set_xticks(range(3), list(SHARES.values()))
    ax.legend(loc="lower left", fontsize=10)


def draw_rewrites(
    requests: list[str], texts: dict[str, list[str]], scores: dict[str, np.ndarray], log: RunLog, num: int = 6
) -> None:
    """The first held-out requests, and below each what every model makes of it, with the judge's score."""
    block = len(texts) + 2  # lines: a request, its rewrites, an empty one
    figure, ax = plotting.new_figure(width=11.5, height=0.3 * num * block)
    ax.axis("off")
    for row in range(num):
        for line, (name, rewrites) in enumerate([("", requests), *texts.items()]):
            label, color = LOOKS.get(name, ("", "black"))
            look = {"va": "center", "fontsize": 12, "color": color, "transform": ax.transAxes}
            y = 1.0 - (row * block + line + 0.5) / (num * block)
            ax.text(0.18 if name else 0.0, y, rewrites[row], fontweight=None if name else "bold", **look)
            if name:
                ax.text(0.02, y, label, **look)
                ax.text(1.0, y, f"{scores[name][row]:.1f}", ha="right", **look)
    ax.set_title("The first held-out requests, their rewrites, and the judge's scores", loc="left")
    log.figure(figure, "samples")
