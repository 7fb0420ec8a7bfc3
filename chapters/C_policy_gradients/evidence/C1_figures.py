"""C1's figures: bias and noise on the chain, three learners on CartPole, the library on LunarLander."""

import numpy as np

from chapters.C_policy_gradients.C1_actor_critic_methods_a2c import SOLVED
from chapters.utils import RunLog, plotting

LABELS = {"reinforce": "REINFORCE (C0)", "a2c": "A2C, ours", "sb3": "A2C, SB3"}
COLOURS = {"reinforce": plotting.ORANGE, "a2c": plotting.BLUE, "sb3": plotting.GREEN}


def draw_chain(
    curves: dict[str, np.ndarray],
    half_wrong: dict[str, np.ndarray],
    lambdas: tuple,
    steps_ahead: tuple,
    log: RunLog,
) -> None:
    """Bias against noise for two critics, and the error over lambda under the first."""
    figure, (left, middle, right) = plotting.new_figure(1, 3, width=5.2)
    for ax, data, title, marked_n, marked_lambda in (
        (left, curves, "Critic wrong everywhere", (2, 5, 8), (0.0, 0.7, 0.9, 1.0)),
        (middle, half_wrong, "Critic wrong in every other state", (1, 2, 3, 5), (0.9, 1.0)),
    ):
        _bias_and_noise(ax, data["n_step"], steps_ahead, marked_n, "n", plotting.ORANGE)
        _bias_and_noise(ax, data["gae"], lambdas, marked_lambda, "λ", plotting.BLUE)
        ax.plot([], [], "o", color="grey", label="measured mean")
        ax.set(xlabel="|bias| of the estimated Q", title=title, xlim=(-0.02, 0.38), ylim=(0, 1))
    left.set_ylabel("standard deviation of one estimate")
    left.legend(fontsize=11, loc="lower left")
    errors = np.hypot(curves["gae"][:, 0], curves["gae"][:, 2] / 16**0.5)
    right.plot(lambdas, errors, "o-", color=plotting.BLUE)
    right.set(xlabel="λ", ylabel="RMS error of a mean over 16", xlim=(-0.02, 1.02), ylim=(0, None))
    right.set_title("In between is best")
    log.figure(figure, "gae")


def _bias_and_noise(ax, rows: np.ndarray, knobs: tuple, marked: tuple, label: str, color: str) -> None:
    """One family: a line through the exact biases, points at the measured ones, some knobs in words."""
    bias, measured, deviation = rows.T
    ax.plot(np.abs(bias), deviation, color=color, linewidth=1.5, label={"λ": "GAE", "n": "n steps"}[label])
    ax.plot(np.abs(measured), deviation, "o", color=color)
    for x, y, knob in zip(np.abs(bias), deviation, knobs):
        if knob in marked:
            above = label == "n" or knob == 1  # n stands above its points, lambda below, where there is room
            place, side = ((4, 8), "left") if above else ((-4, -16), "right")
            ax.annotate(
                f"{label} = {knob:g}",
                (x, y),
                place,
                textcoords="offset points",
                ha=side,
                color=color,
                fontsize=11,
            )


def draw_learners(metrics: list[dict], log: RunLog) -> None:
    """A panel for each learner, a line for each seed, and the steps to 475; one entry of `metrics` a seed."""
    figure, axes = plotting.new_figure(2, 2, width=6.0, height=3.6)
    panels = dict(zip(LABELS, axes.flat))
    for name, ax in panels.items():
        grid = np.arange(0, max(step for one in metrics for step, _ in one[f"{name}_return"]) + 1, 2048)
        curves = np.array([np.interp(grid, *zip(*one[f"{name}_return"])) for one in metrics])
        ax.plot(grid / 1000, curves.T, color=COLOURS[name], linewidth=0.9, alpha=0.7)
        median = np.median(curves, axis=0)
        ax.plot(grid / 1000, median, color="black", linewidth=2.5, label=f"median of {len(curves)}")
        ax.plot([], [], color="grey", linewidth=0.9, label="a seed")
        ax.axhline(SOLVED, label=f"threshold {SOLVED:.0f}", **plotting.REFERENCE)
        ax.set(title=LABELS[name], ylabel="greedy return", xlim=(0, 100), ylim=(0, 505))
    axes[0, 0].legend(loc="lower right", fontsize=10)
    axes[1, 0].set_xlabel("environment steps (thousands)")
    _draw_crossings(axes[1, 1], metrics)
    log.figure(figure)


def _draw_crossings(ax, metrics: list[dict]) -> None:
    """When each seed first reached the threshold, and when it had held it for three checks."""
    for row, name in enumerate(LABELS):
        for kind, face, offset in (("first", "none", -0.15), ("third", COLOURS[name], 0.15)):
            steps = np.array([one[f"{name}_{kind}_steps"][-1][1] for one in metrics]) / 1000
            steps = steps[np.isfinite(steps)]
            ax.plot(steps, np.full(len(steps), row + offset), "o", color=COLOURS[name], mfc=face)
    ax.plot([], [], "o", color="grey", mfc="none", label="first check at 475")
    ax.plot([], [], "o", color="grey", label="third in a row")
    ax.set(yticks=range(3), yticklabels=LABELS.values(), xlim=(0, 100), ylim=(2.5, -0.9))
    ax.set(xlabel="environment steps (thousands)", title="Steps to 475, one point a seed")
    ax.legend(loc="upper right", fontsize=10, ncols=2)


def draw_lander(metrics: list[dict], log: RunLog) -> None:
    """One entry of `metrics` a seed."""
    figure, ax = plotting.new_figure(width=8.0)
    for number, one in enumerate(metrics):
        color, end = plotting.COLOURS[number % 6], one["lander_after"][-1][0] / 1000
        steps, values = np.array(one.get("lander_training_return", [(0, np.nan)])).T
        ax.plot(steps / 1000, values, color=color)
        ax.plot(0, one["lander_before"][-1][1], "o", color=color, mfc="none", markersize=9)
        ax.plot(end, one["lander_after"][-1][1], "o", color=color, markersize=9)
    ax.plot([], [], "o", color="grey", mfc="none", label="untrained")
    ax.plot([], [], "o", color="grey", label="trained")
    ax.plot([], [], color="grey", label="while training, last 100 episodes")
    ax.axhline(200.0, label="solved (200)", **plotting.REFERENCE)
    ax.set(xlabel="environment steps (thousands)", ylabel="mean return", title="A2C on LunarLander, by seed")
    ax.legend(loc="lower right", fontsize=10)
    log.figure(figure, "lander")
