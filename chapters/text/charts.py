"""Charts of chapter D that more than one lesson draws, or a lesson and its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chapters.exact.judges import at_divergence
from chapters.utils import plotting
from chapters.utils.evaluation import bootstrap_interval

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


REWRITERS = {
    "sft": ("imitation (SFT)", plotting.ORANGE),
    "ours": ("our PPO", plotting.BLUE),
    "trl": ("TRL's PPO", plotting.GREEN),
}
"""Names of models that rewrite, with what charts call them."""


def draw_rewriter(found: dict[str, dict[str, np.ndarray]], log: RunLog) -> None:
    """What became of the rewrites: shares of them, their lengths, and learned reward and KL on the way."""
    figure, (shares, lengths, way) = plotting.new_figure(1, 3, width=5.2, height=4.2)
    draw_shares(shares, found)
    for name, one in found.items():
        label, color = REWRITERS[name]
        counts = np.bincount(one["length"].astype(int), minlength=20) / len(one["length"])
        lengths.plot(counts, color=color, label=f"{label}, mean {one['length'].mean():.1f}")
    lengths.set(xlabel="words in a rewrite", ylabel="share of rewrites", title="Lengths grow and pile up")
    lengths.set_xticks(range(0, 21, 4))
    lengths.set_ylim(0, 1.35 * lengths.get_ylim()[1])
    lengths.legend(loc="upper right", fontsize=10)
    draw_reward_and_kl(way, ["ours"], log)
    log.figure(figure)


def draw_shares(ax: Axes, found: dict[str, dict[str, np.ndarray]]) -> None:
    """Win rate over imitation, content kept and politeness of each model, with 95 % intervals."""
    shown = {"wins": "win rate\nover SFT", "content": "content\nkept", "polite": "polite"}
    for shift, name in zip((-0.2, 0.0, 0.2), found):
        label, color = REWRITERS[name]
        for x, key in enumerate(shown):
            if (name, key) == ("sft", "wins"):
                continue  # one half, by definition
            interval = bootstrap_interval(found[name][key])
            ax.plot([x + shift] * 2, interval, color=color, linewidth=4, alpha=0.4)
            ax.plot(x + shift, found[name][key].mean(), "o", color=color, label=label if x == 1 else None)
    ax.plot([-0.4, 0.4], [0.75, 0.75], label="bars", **plotting.REFERENCE)
    ax.plot([1.6, 2.4], [0.95, 0.95], **plotting.REFERENCE)
    ax.set(xlim=(-0.5, 2.5), ylim=(None, 1.03), title="Held-out requests", ylabel="share (95 % interval)")
    ax.set_xticks(range(3), list(shown.values()))
    ax.legend(loc="lower left", fontsize=10)


def draw_reward_and_kl(ax: Axes, names: list[str], log: RunLog) -> None:
    """Learned reward (`<name>_reward`) and divergence from imitation (`<name>_kl`) of each update."""
    for name in names:
        label, color = REWRITERS[name]
        ax.plot(*log.series(f"{name}_reward"), color=color, label=f"{label}: reward")
        ax.plot(*log.series(f"{name}_kl"), ":", color=color, label=f"{label}: KL")
    ax.set(xlabel="update", ylabel="learned reward, and KL in nats", title="On training requests")
    ax.set_yscale("symlog", linthresh=4.0)  # a batch with one strange text has a large divergence
    ax.set_yticks([0, 1, 2, 3, 4, 10, 40], ["0", "1", "2", "3", "4", "10", "40"])
    ax.set_ylim(-0.5, 200.0)
    ax.legend(loc="upper left", ncols=len(names), fontsize=10)


def draw_ends_and_ways(ends: dict[str, Any], world: TokenWorld, cfg: Any, log: RunLog) -> None:
    """D14: where each loss ends beside the frontier; the gap on the way, by fixed pairs and by fresh ones."""
    figure, (chart, curves) = plotting.new_figure(1, 2, width=6.2, height=4.4)
    chart.plot(*world.frontier(np.geomspace(0.05, 50.0, 80)), label="best possible", **plotting.REFERENCE)
    colors = (plotting.BLUE, plotting.GREEN, plotting.RED, plotting.ORANGE, plotting.PURPLE)
    for (name, table), color, marker in zip(ends.items(), colors, "*sDoX", strict=True):
        place = float(world.kl(table)), float(world.expected_reward(table))
        chart.plot(*place, marker, color=color, markersize=11, label=name)
    chart.set(xlabel="KL from the reference (nats)", ylabel="expected reward", title="Where each loss ends")
    chart.set_xlim(-0.1, 1.15 * max(float(world.kl(table)) for table in ends.values()))
    chart.set_ylim(None, 1.8 * max(float(world.expected_reward(table)) for table in ends.values()))
    chart.legend(loc="upper left", ncols=2)
    for name, label, color in (
        ("often", f"{cfg.num_pairs:,} fixed pairs, {cfg.num_epochs} passes", plotting.RED),
        ("online", "the policy's own pairs", plotting.BLUE),
    ):
        curves.plot(*log.series(f"token_gap_{name}"), color=color, label=label)
    stops = [log.series(f"token_gap_{name}") for name in ("once", "twice")]
    places = [steps[-1] for steps, _ in stops], [gaps[-1] for _, gaps in stops]
    curves.plot(*places, "o", color=plotting.RED, label="stopped after 1 and 2 passes")
    curves.axhline(1.0, **plotting.REFERENCE)
    curves.set(xlabel="gradient step", ylabel="share of the gap closed", title="Which pairs")
    curves.legend(loc="best")
    log.figure(figure)


def draw_estimators(labels: dict[str, str], log: RunLog) -> None:
    """Bias against spread, and where each estimator ends: `bias_`, `spread_` and `end_<name>` of a run."""
    figure, (chart, ends) = plotting.new_figure(1, 2, width=6.2, height=4.8)
    colours = dict(zip(labels, (*plotting.COLOURS, plotting.YELLOW, "grey", "black")))
    for name, label in labels.items():
        at = log.last(f"bias_{name}"), log.last(f"spread_{name}")
        chart.plot(*at, "o", markersize=11, color=colours[name], label=label)
    chart.legend(loc="lower left", fontsize=10)
    chart.set(xlabel="bias / norm of the exact gradient", ylabel="standard deviation / same norm")
    chart.set(title="One text's estimate", xlim=(-0.05, None), ylim=(0, None))
    rows = {label: [log.last(f"end_{name}")] for name, label in labels.items()}
    draw_shortfalls(ends, rows, list(colours.values()))
    for row, (values, colour) in enumerate(zip(rows.values(), colours.values())):
        ends.plot(max(1.0 - values[0], 1e-6), row, "o", markersize=11, color=colour)
    ends.legend(loc="lower left", fontsize=10)
    ends.set_title("Where it ends")
    log.figure(figure)


def draw_shortfalls(ax: Axes, rows: dict[str, list[float]], colours: list[str]) -> None:
    """A dot for each end: how far its objective, as a share of the best one's, is below 1, at least 1e-6."""
    missing = {label: [max(1.0 - value, 1e-6) for value in values] for label, values in rows.items()}
    plotting.dot_rows(ax, missing, colours)
    most = max(1.0, *(2.0 * max(values) for values in missing.values()))
    ax.set_xlim(5e-7, most)
    ax.set_xscale("log")
    ax.axvline(1e-3, label="left of this: ends there", **plotting.REFERENCE)
    ax.set_xlabel("1 - objective / the best adapter's")


LABELLERS = {
    "people": ("people (the gold rule)", plotting.BLUE),
    "corrected": ("judge, swapped and corrected", plotting.GREEN),
    "swapped": ("judge, swapped", plotting.ORANGE),
    "judge": ("judge as it comes", plotting.RED),
}
"""Who labels pairs in D11, with what charts call them."""


def draw_judge(
    found: dict[str, float],
    ideal: dict[str, float],
    rewards: dict[str, np.ndarray],
    gold: np.ndarray,
    log: RunLog,
) -> None:
    """D11: a judge's leanings beside the ideal reader's; gold reward against KL by who labelled the pairs."""
    figure, (bars, chart) = plotting.new_figure(1, 2, width=5.8, height=4.2)
    places = np.arange(len(found))
    bars.bar(places - 0.2, list(found.values()), 0.38, color=plotting.ORANGE, label="the judge")
    label = "an ideal reader of the comparisons"
    bars.bar(places + 0.2, list(ideal.values()), 0.38, color="lightgrey", label=label)
    bars.axhline(0.0, label="people", **plotting.REFERENCE)
    bars.set_xticks(places, ("standing first", "one filler more", "the own style"))
    highest, lowest = max(0.1, *found.values(), *ideal.values()), min(0.0, *found.values())
    bars.set_ylim(None, 1.45 * highest - 0.45 * lowest)  # room for the legend
    bars.set(ylabel="log-odds of being preferred", title="What the judge likes")
    bars.legend(loc="upper left")

    divergences = np.linspace(0.02, 2.0, 40)
    best = [at_divergence(gold, kl) @ gold for kl in divergences]
    chart.plot(divergences, best, label="best possible", **plotting.REFERENCE)
    for name, (label, color) in LABELLERS.items():
        curve = [at_divergence(rewards[name], kl) @ gold for kl in divergences]
        chart.plot(divergences, curve, color=color, label=f"labels: {label}")
    chart.set(
        xlabel="KL from the first policy (nats)", ylabel="gold reward (log-odds)", title="What is learnt"
    )
    chart.legend(fontsize=10)
    log.figure(figure)
