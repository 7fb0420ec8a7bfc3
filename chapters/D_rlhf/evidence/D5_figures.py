"""D5's figures: accuracy on the sums, the reward-KL chart of the token world, the estimators of the KL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chapters.D_rlhf.evidence.D5_tools import key
from chapters.utils import plotting

if TYPE_CHECKING:
    from torch import Tensor

    from chapters.utils.runlog import RunLog

METHOD_COLOURS = (plotting.BLUE, plotting.SKY, plotting.GREEN, plotting.PURPLE)


def draw_sums(runs: list[dict], variants: Sequence[str], num_updates: int, log: RunLog) -> None:
    """Accuracy, loss and gradient, pass@k of the first run; every run's variants after `num_updates`."""
    figure, axes = plotting.new_figure(2, 2, width=6.8, height=4.4)
    metrics = runs[0]["metrics"]
    for name, colour, label in (("ours", plotting.BLUE, "ours"), ("trl", plotting.ORANGE, "TRL")):
        for how, line in (("greedy", "-"), ("sampled", ":")):
            if f"{name}_{how}" in metrics:
                curve = zip(*metrics[f"{name}_{how}"])
                words = f"{label}, {how}"
                if how == "greedy":
                    words += f" ({metrics[f'{name}_cpu_seconds'][-1][1]:.0f} CPU s in all)"
                axes[0, 0].plot(*curve, color=colour, linestyle=line, label=words)
    axes[0, 0].axhline(0.9, **plotting.REFERENCE)
    axes[0, 0].set(xlabel="update", ylabel="share of held-out sums right", ylim=(0, 1.02))
    axes[0, 0].set_title("Right or wrong is all it is told")
    axes[0, 0].legend(loc="lower right")
    labels = {"reward": "mean reward", "gradient": "norm of its gradient", "loss": "loss"}
    for (what, label), colour in zip(labels.items(), (plotting.GREEN, plotting.PURPLE, plotting.RED)):
        axes[0, 1].plot(*zip(*metrics[f"ours_{what}"]), color=colour, label=label)
    axes[0, 1].set(xlabel="update", ylabel="first pass over each batch")
    axes[0, 1].set_title("The loss is near 0, the gradient is not")
    axes[0, 1].legend(loc="upper left")
    axes[0, 1].set_ylim(None, 1.35 * axes[0, 1].get_ylim()[1])
    for name, colour in (("after", plotting.BLUE), ("before", "grey")):
        entropy = metrics[f"entropy_{name}"][-1][1]
        curve = zip(*metrics[f"pass_{name}"])
        label = f"{name}: {entropy:.2f} nats of entropy a token"
        axes[1, 0].plot(*curve, "o-", color=colour, label=label)
    tries = [k for k, _ in metrics["pass_after"]]
    axes[1, 0].set(xlabel="k, answers to each sum", ylabel="pass@k", xscale="log", ylim=(0, 1.04))
    axes[1, 0].set_xticks(tries, [str(k) for k in tries])
    axes[1, 0].minorticks_off()
    axes[1, 0].set_title("One try gains most")
    axes[1, 0].legend(loc="lower right")
    rows: dict[str, list[float]] = {}
    for name in variants:
        metric = "ours_sampled" if name == "GRPO" else f"{key(name)}_sampled"
        found = [dict(run["metrics"].get(metric, [])).get(num_updates) for run in runs]
        rows[name] = [value for value in found if value is not None]
    rows = {name: values for name, values in rows.items() if values}
    plotting.dot_rows(axes[1, 1], rows, [plotting.BLUE, *[plotting.ORANGE] * len(rows)])
    axes[1, 1].set(xlabel=f"share right after {num_updates} updates, sampled", title="One switch at a time")
    log.figure(figure)


def draw_chart(world: Any, beta: float, ends: dict, points: dict, labels: dict, log: RunLog) -> None:
    """Reward against KL, and the KL of each prompt: where methods ended, and where they had to end.

    `ends` and `points` hold log-probabilities of all completions, [N, M].
    """
    import numpy as np

    def place(log_probs: Tensor) -> tuple[float, float]:
        return float(world.kl(log_probs)), float(world.expected_reward(log_probs))

    figure, (ax, bars) = plotting.new_figure(1, 2, width=7.4, height=5.4)
    ax.plot(*world.frontier(np.geomspace(0.05, 20.0, 80)), label="best possible", **plotting.REFERENCE)
    dots = [place(world.best_of_n(n)) for n in (1, 2, 4, 8, 16, 32, 64)]
    ax.plot(*zip(*dots), "s", color=plotting.ORANGE, markersize=6, label="best of n = 1, 2, 4 … 64")
    best, look = world.optimum(beta), {"color": plotting.RED, "markersize": 22, "zorder": 1}
    ax.plot(*place(best), "*", label=f"optimum at beta {beta:g}", **look)
    colours = dict(zip(ends, METHOD_COLOURS))
    for (name, end), size in zip(ends.items(), (12, 6, 9, 9)):
        ax.plot(*place(end), "o", color=colours[name], markersize=size, label=labels[name])
    for number, point in enumerate(points.values()):
        label = None if number else "where the expected update is 0"
        look = {"color": "black", "markersize": 14, "markeredgewidth": 1.6, "zorder": 5}
        ax.plot(*place(point), "x", label=label, **look)
    right = max(dots[-1][0], *(place(lp)[0] for lp in ends.values())) + 0.4
    shown = np.array([dot for dot in (*dots, *map(place, ends.values()))])
    ax.set(xlabel="KL from the reference (nats)", ylabel="expected reward", xlim=(-0.1, right))
    ax.set(ylim=(-0.1, 1.25 * shown[:, 1].max()), title="Token world: where each method ends")
    ax.legend(loc="lower right", fontsize=10)

    ref = world.reference_log_probs()
    spreads = (ref.exp() * world.rewards**2).sum(1).sqrt().tolist()  # the mean is 0
    kinds = {f"optimum at beta {beta:g}": (best, plotting.RED)}
    kinds |= {f"{labels[name]}, expected update 0": (lp, colours[name]) for name, lp in points.items()}
    for number, (label, (log_probs, colour)) in enumerate(kinds.items()):
        kls = (log_probs.exp() * (log_probs - ref)).sum(1).tolist()
        bars.bar(np.arange(len(kls)) + 0.27 * (number - 1), kls, width=0.25, color=colour, label=label)
    bars.set_xticks(range(len(spreads)), [f"spread of rewards {spread:.1f}" for spread in spreads])
    bars.set(ylabel="KL from the reference (nats)", title="What the division does to each prompt")
    bars.set_ylim(0, 1.35 * bars.get_ylim()[1])
    bars.legend(loc="upper right", fontsize=10)
    log.figure(figure, "chart")


def draw_estimators(runs: list[dict], changes: Sequence[str], log: RunLog) -> None:
    """k1, k2, k3 as values on the first run's world and as gradients; one change on the token world."""
    import numpy as np

    figure, axes = plotting.new_figure(1, 3, width=5.6, height=4.6)
    curves = {
        name: np.array([v for _, v in series])
        for name, series in runs[0]["metrics"].items()
        if name[:3] == "kl_"
    }
    exact = curves["kl_exact_mean"]
    looks = {
        "k1": (plotting.BLUE, "-", 0.12),
        "k2": (plotting.RED, "-", 0.0),
        "k3": (plotting.GREEN, "--", 0.3),
    }
    for kind, (colour, line, shade) in looks.items():
        means, spreads = curves[f"kl_{kind}_mean"], curves[f"kl_{kind}_deviation"]
        axes[0].plot(exact, means, line, color=colour, label=f"{kind}, mean")
        if shade:
            label = f"{kind}, ± deviation of a text"
            edges = (means - spreads, means + spreads)
            axes[0].fill_between(exact, *edges, color=colour, alpha=shade, linewidth=0, label=label)
    axes[0].plot(exact, exact, label="exact KL", **plotting.REFERENCE)
    axes[0].set(xlabel="exact KL (nats)", ylabel="estimate (nats)", title="As values")
    axes[0].legend(loc="upper left", fontsize=10)
    pairs = [(kind, unit) for kind in looks for unit in ("texts", "tokens")]
    rows = {f"{k} of {unit}": [last(run, f"cosine_{k}_{unit}") for run in runs] for k, unit in pairs}
    plotting.dot_rows(axes[1], rows, [looks[kind][0] for kind, _ in pairs])
    axes[1].axvline(1.0, **plotting.REFERENCE)
    axes[1].set(xlim=(-0.05, 1.05), xlabel="cosine with the gradient of KL(pi || ref)", title="As gradients")
    rows = {name: [last(run, f"gap_{key(name)}") for run in runs] for name in changes}
    plotting.dot_rows(axes[2], rows, [plotting.BLUE, *[plotting.ORANGE] * (len(rows) - 1)])
    for row, found in enumerate(rows.values()):
        if np.median(found) < 0:
            words = f"◀ {np.median(found):.1f}: worse than no training"
            axes[2].text(0.01, row, words, va="center", color=plotting.RED, fontsize=11)
    axes[2].set(xlim=(0.0, 1.03), xlabel="share of the gap closed", title="One change on the token world")
    log.figure(figure, "kl")


def last(run: dict, metric: str) -> float:
    """A run's latest value of a metric."""
    return run["metrics"][metric][-1][1]
