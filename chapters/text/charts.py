"""Charts of chapter D that more than one lesson draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chapters.utils import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from chapters.envs.token_world import TokenWorld
    from chapters.utils.runlog import RunLog


def draw_frontier(
    ax: Axes, world: TokenWorld, beta: float, log: RunLog | None = None, suffix: str = ""
) -> None:
    """The best reward at each KL, the best of n samples of the reference, and the optimum at `beta`.

    With a log also the way that training went (`token_kl<suffix>`, `token_reward<suffix>`).
    """
    ax.plot(*world.frontier(np.geomspace(0.1, 20.0, 60)), label="best possible", **plotting.REFERENCE)
    best = [world.best_of_n(n) for n in (1, 2, 4, 8, 16, 32, 64)]
    points = [(float(world.kl(lp)), float(world.expected_reward(lp))) for lp in best]
    ax.plot(*zip(*points), "s", color="grey", markersize=5, label="best of n = 1, 2, 4 … 64")
    star = world.optimum(beta)
    place = float(world.kl(star)), float(world.expected_reward(star))
    ax.plot(*place, "*", color="black", markersize=18, zorder=1, label=f"optimum at β = {beta:g}")
    ax.set(xlabel="KL from the reference (nats)", ylabel="expected reward", xlim=(-0.1, 4.5))
    if log:
        path = log.series(f"token_kl{suffix}")[1], log.series(f"token_reward{suffix}")[1]
        ax.plot(*path, "o-", color=plotting.BLUE, markersize=3, label="on the way")
    ax.set_title("Token world: exact")
    ax.legend(loc="lower right")


def draw_score_and_kl(ax: Axes, log: RunLog, name: str, best: float) -> None:
    """How score and divergence of a language model went (`<name>_score`, `<name>_kl`), and the best of 16."""
    ax.plot(*log.series(f"{name}_score"), color=plotting.BLUE, label="score, mean of a batch")
    ax.plot(*log.series(f"{name}_kl"), color=plotting.ORANGE, label="KL from the reference (nats)")
    ax.axhline(best, label="score of the reference's best of 16", **plotting.REFERENCE)
    ax.set(xlabel="update", ylabel="score, and nats", title="The language model")
    ax.set_ylim(None, 1.5 * max(best, *log.series(f"{name}_kl")[1]))
    ax.legend(loc="upper left")
