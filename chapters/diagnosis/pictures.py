"""Broken runs beside right ones, drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chapters.utils import plotting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = dict[str, list[tuple[int, float]]]  # a run's metrics: name -> [(update, value), ...]


def words(name: str) -> str:
    """A learner or a bug, as figures write it."""
    known = {"none": "healthy", "ppo": "PPO", "dqn": "DQN", "reinforce": "REINFORCE"}
    known |= {"sb3_ppo": "SB3 PPO", "sb3_a2c": "SB3 A2C", "sb3_dqn": "SB3 DQN", "trl_grpo": "TRL GRPO"}
    return known.get(name, name).replace("_", " ")


def symptoms(zoo: dict[tuple[str, str], Rows], shown: dict[str, tuple[str, str]]) -> Figure:
    """For each bug one metric of one learner, broken beside right."""
    figure, axes = plotting.new_figure(math.ceil(len(shown) / 3), 3, width=4.2, height=2.7)
    for ax, (bug, (learner, name)) in zip(axes.flat, shown.items()):
        curves = [(bug, name, "broken", {"color": plotting.RED})]
        curves += [("none", name, "right", {"color": plotting.BLUE, "linestyle": "--"})]
        if name == "eval_return":
            curves += [
                (bug, "eval_return_again", "broken, again", {"color": plotting.ORANGE, "linestyle": ":"})
            ]
        for kind, metric, label, style in curves:
            floor = 1e-8 if bug == "stale_log_probs" else -math.inf  # a log scale has no 0
            found = [(step, max(value, floor)) for step, value in zoo[learner, kind].get(metric, [])]
            series = [pair for pair in found if math.isfinite(pair[1])]
            ax.plot(*zip(*series or [(0, math.nan)]), label=label, **style)
        if bug in ("reward_scale", "stale_log_probs"):
            ax.set_yscale("log")
        if name == "eval_return" or ax is axes.flat[0]:
            ax.legend(fontsize=10)
        ax.set(xlabel=f"update ({words(learner)})", ylabel=name.replace("_", " "))
        ax.set_title(words(bug), fontsize=12)
    for ax in axes.flat[len(shown) :]:
        ax.axis("off")
    return figure
