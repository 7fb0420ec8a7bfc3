"""The pictures of D4: where each kind of label leads on the token world, and what the model writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chapters.utils import plotting

if TYPE_CHECKING:
    from chapters.envs.token_world import TokenWorld
    from chapters.utils.runlog import RunLog

LABELS = {
    "soft": "soft labels", "uniform": "soft, uniform pairs", "sampled": "sampled labels, fresh pairs",
    "fixed": "sampled, 20,000 fixed pairs", "hard": "hard labels", "smoothed": "hard, smoothed by 0.1",
    "ipo": "IPO, hard labels", "mean": "mean over tokens", "along": "reference trains along",
}  # fmt: skip
COLOURS = {
    "soft": plotting.BLUE, "sampled": plotting.SKY, "fixed": plotting.ORANGE, "hard": plotting.RED,
    "ipo": plotting.PURPLE,
}  # fmt: skip
TRAINERS = {"ours": "ours", "trl": "TRL", "trl_precomputed": "TRL, reference\ncomputed first"}


def draw_chart(ax: Any, world: TokenWorld, betas: Sequence[float], cfg: Any, log: RunLog) -> None:
    """Reward against KL: the frontier, the optimum, best-of-n, and where each kind of label leads."""
    ax.plot(*world.frontier(np.geomspace(0.1, 10, 60)), label="exact frontier", **plotting.REFERENCE)
    best, several = world.optimum(cfg.world_beta), [world.best_of_n(2**k) for k in range(7)]
    kl, reward = ([float(measure(lp)) for lp in several] for measure in (world.kl, world.expected_reward))
    ax.plot(kl, reward, "o", color="grey", markersize=4, label="best of n = 1 … 64")
    widest = 3.5
    for name, color in COLOURS.items():
        kl, reward = log.series(f"token_kl_{name}")[1], log.series(f"token_reward_{name}")[1]
        widest = max(widest, 1.1 * max(kl))
        ax.plot([0.0, *kl], [0.0, *reward], color=color, linewidth=1.2, alpha=0.6)
        ax.plot(kl[-1], reward[-1], "o", color=color, markersize=9, label=LABELS[name])
    for beta in betas:
        kl, reward = log.last(f"token_kl_beta_{beta:g}"), log.last(f"token_reward_beta_{beta:g}")
        ax.plot(kl, reward, "D", color=plotting.BLUE, markersize=6)
        ax.annotate(f"β = {beta:g}", (kl, reward), (8, -9), textcoords="offset points", fontsize=10)
    star = float(world.kl(best)), float(world.expected_reward(best))
    ax.plot(*star, "*", color="black", markersize=20, zorder=1, label=f"optimum at β = {cfg.world_beta:g}")
    ax.set(xlabel="KL from the reference (nats)", ylabel="expected reward", xlim=(-0.1, widest))
    ax.set_title("Token world")
    ax.legend(fontsize=9.5, loc="lower right")


def draw_results(
    world: TokenWorld, betas: Sequence[float], found: dict, costs: dict, cfg: Any, log: RunLog
) -> None:
    """The chart, the gaps, the log-probabilities on the way, and what TRL needs for the same."""
    figure, ((chart, gaps), (curves, beside)) = plotting.new_figure(2, 2, width=6.6, height=4.8)
    draw_chart(chart, world, betas, cfg, log)
    closed = [log.last(f"token_gap_{name}") for name in LABELS]
    colors = [COLOURS.get(name, "grey") for name in LABELS]
    gaps.barh(list(LABELS.values()), np.clip(closed, -0.3, 1), color=colors)
    for row, value in enumerate(closed):
        text = f"{value:.3f}" if value > -1 else f"{value:.1f}"
        box = {"color": "white", "pad": 0.5, "alpha": 0.9}
        gaps.text(max(value, 0.0) + 0.02, row, text, va="center", fontsize=11, bbox=box)
    gaps.axvline(0.95, **plotting.REFERENCE)
    gaps.set(xlabel="share of the gap to the optimum closed", xlim=(-0.3, 1.25))
    gaps.set(title="One factor at a time", ylim=(len(LABELS) - 0.4, -0.6))
    for name, color in (("chosen", plotting.GREEN), ("rejected", plotting.RED)):
        curves.plot(*log.series(f"dpo_{name}"), color=color, label=name)
    curves.plot(*log.series("dpo_margin"), color=plotting.BLUE, linestyle=":", label="chosen minus rejected")
    curves.axhline(0.0, **plotting.REFERENCE)
    num_steps = len(log.metrics["dpo_margin"])
    for epoch in range(1, cfg.num_epochs):
        label = "next pass over the pairs" if epoch == 1 else None
        curves.axvline(epoch * num_steps / cfg.num_epochs - 0.5, color="grey", linewidth=1, label=label)
    curves.set(xlabel="gradient step", ylabel="log-probability over the base's (nats)")
    curves.set_title("Reviews: the chosen fall as well")
    curves.legend(loc="lower left")
    seconds = [costs[name][0] for name in TRAINERS]
    beside.barh(list(TRAINERS.values()), seconds, color=[plotting.BLUE, *[plotting.ORANGE] * 2])
    for row, name in enumerate(TRAINERS):
        text = f" {costs[name][0]:.1f} s, {costs[name][1]:,.0f} MB\n"
        text += f" wins {found[name]['win_rate']:.2f}, KL {found[name]['kl']:.1f}"
        beside.text(costs[name][0], row, text, va="center", fontsize=11)
    beside.set(xlim=(0, 1.6 * max(seconds)), ylim=(2.6, -0.6), xlabel="CPU seconds of training")
    beside.set_title("Beside TRL, on the same pairs")
    for ax in (gaps, beside):
        ax.grid(axis="y", visible=False)
    log.figure(figure)


def draw_samples(texts: dict[str, list[str]], log: RunLog, num: int = 7) -> None:
    """What is written after the same prompts, before and after."""
    figure, axes = plotting.new_figure(len(texts), 1, width=9.0, height=0.28 * num + 0.5)
    for ax, (title, written) in zip(axes, texts.items()):
        ax.axis("off")
        ax.set_title(title, loc="left")
        for row, text in enumerate(written[:num]):
            short = text if len(text) < 100 else text[:97] + " …"
            ax.text(0.0, 1 - (row + 0.5) / num, short, family="monospace", fontsize=10, va="center")
    log.figure(figure, "samples")
