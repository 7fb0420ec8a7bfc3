"""B2's evidence: first against every visit, intervals, control's policy, another's hands, the published walk.

The one-state loop: with chance p the state leads back to itself, else to the end; every step pays 1. An
episode of L steps visits the state L times, with returns L, L - 1, ... 1, and its value is V = 1/(1 - p).
Given the number of steps in n episodes, all ways of cutting it into episodes are equally likely; counting
them gives the expectations V of first-visit and (n V + 1)/(n + 1) of every-visit. After one episode their
mean squared errors are p/(1 - p)^2 and p (1 + p)/(4 (1 - p)^2): the biased one is the better
(singh1996replacing).
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

from chapters.B_core_algorithms import B2_monte_carlo_methods as lesson
from chapters.envs.blackjack import HIT, SHAPE, STICK, BatchedBlackjack, play_hands
from chapters.exact.blackjack import PLAYED, policy_values, solve_blackjack
from chapters.exact.random_walk import walk_values
from chapters.utils import RunLog, in_range, plotting

STICK_FROM = ((17, 13, 13, 12, 12, 12, 17, 17, 17, 17), (19, 18, 18, 18, 18, 18, 18, 18, 19, 19))
"""The published optimum: stick from this sum on, by dealer's card 1 to 10, without and with a usable ace."""
NUM_EPISODES = 10  # of each experiment in the loop
OFF_POLICY_START = (1, 2, 13)  # usable ace, the dealer shows 2, sum 13: suttonbarto2018, example 5.4


@dataclass(frozen=True)
class Config:
    """The one-state loop, and hands played by a coin."""

    loop_probability: Annotated[float, in_range(0.0, 0.95)] = 0.8
    """Chance of staying in the one-state loop."""
    num_experiments: Annotated[int, in_range(100, 1_000_000)] = 20_000
    """Repetitions of the experiment in the one-state loop, ten episodes each."""
    num_coin_hands: Annotated[int, in_range(100, 10_000_000)] = 200_000
    """Hands from one state by a player who tosses a coin, to evaluate another policy."""


SMOKE = {"num_experiments": 2000, "num_coin_hands": 20_000}


def loop_estimates(
    p: float, num_experiments: int, num_episodes: int, rng: np.random.Generator
) -> Float[np.ndarray, "2 E n"]:
    """First-visit (row 0) and every-visit estimates of E experiments after 1, 2, ... n episodes."""
    lengths = rng.geometric(1 - p, num_experiments * num_episodes)  # [N]
    running = np.arange(lengths.max())[:, None] < lengths  # [T, N]
    returns = lesson.discounted_returns(running.astype(float), gamma=1.0)  # every step pays 1
    shape = num_experiments, num_episodes
    estimates = []
    for counted in (lesson.first_visits(np.where(running, 0, -1)), running):
        totals = np.where(counted, returns, 0.0).sum(axis=0).reshape(shape).cumsum(axis=1)
        counts = counted.sum(axis=0).reshape(shape).cumsum(axis=1)
        estimates.append(totals / counts)
    return np.stack(estimates)


def expected_loop_estimates(p: float, num_episodes: int) -> Float[np.ndarray, "2 n"]:
    """What the two estimates are on average after 1, 2, ... n episodes."""
    n = np.arange(1, num_episodes + 1)
    value = 1 / (1 - p)
    return np.stack([np.full(num_episodes, value), (n * value + 1) / (n + 1)])


def standard_errors(sums: Float[np.ndarray, "3 ..."]) -> Float[np.ndarray, "..."]:
    """Standard error of each mean return, from its visit sums."""
    count = np.maximum(sums[0], 2)
    variance = np.maximum(sums[2] / count - (sums[1] / count) ** 2, 0.0)
    return np.sqrt(variance / (count - 1))


def importance_returns(
    rewards: Float[np.ndarray, "T N"], ratios: Float[np.ndarray, "T N"], gamma: float
) -> Float[np.ndarray, "T N"]:
    """Returns of episodes that another policy played, weighted step by step: the lesson's eq. (3)."""
    returns = np.zeros_like(rewards)
    following = np.zeros_like(rewards[0])  # [N]
    for t in reversed(range(len(rewards))):
        following = ratios[t] * (rewards[t] + gamma * following)
        returns[t] = following
    return returns


def claim_loop(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    p = extra.loop_probability
    rng = np.random.default_rng(cfg.seed)
    estimates = loop_estimates(p, extra.num_experiments, NUM_EPISODES, rng)  # [2, E, n]
    means = estimates.mean(axis=1)  # [2, n]
    exact = expected_loop_estimates(p, NUM_EPISODES)
    for n in range(NUM_EPISODES):
        log.write(n + 1, loop_first=means[0, n], loop_every=means[1, n])
    deviations = np.abs(means - exact) / (estimates.std(axis=1) / np.sqrt(extra.num_experiments))
    for row, name in enumerate(("first", "every")):
        log.claim(
            f"loop_{name}_visit_mean",
            f"in the loop, {name}-visit estimates average what theory says, after 1 to 10 episodes",
            deviations[row].max(),
            at_most=4.5,
            unit="standard errors",
            source="the exact expectation",
            always=True,
        )
    first, every = ((estimates[:, :, 0] - 1 / (1 - p)) ** 2).mean(axis=1)
    log.claim(
        "loop_squared_errors",
        "after one episode the biased every-visit estimate has the smaller mean squared error",
        every / first,
        near=((1 + p) / 4, 0.05),
        unit="every-visit / first-visit",
        source="the exact errors; singh1996replacing",
    )
    draw_loop(means, exact, log)


def claim_prediction(cfg: lesson.Config, log: RunLog) -> None:
    policy = log.kept["policy"]
    sums = log.kept["sums"]
    exact = policy_values(policy)[PLAYED]
    estimates = (sums[1] / np.maximum(sums[0], 1)).reshape(SHAPE)[PLAYED]  # [2, 10, 10]
    errors = standard_errors(sums).reshape(SHAPE)[PLAYED]
    log.write(2**cfg.num_doublings * cfg.batch_size, expected_error=np.sqrt((errors**2).mean()))
    log.claim(
        "interval_coverage",
        "95 % confidence intervals contain the exact value in about 95 % of the states",
        (np.abs(estimates - exact) <= 1.96 * errors).mean(),
        near=(0.945, 0.045),
        unit="share of 200 states",
        source="central limit theorem; exact values by dynamic programming",
    )
    states, _, _ = play_hands(policy, cfg.batch_size, np.random.default_rng(cfg.seed))
    log.claim(
        "visits_coincide",
        "no state recurs within a hand of Blackjack, so first- and every-visit are the same",
        ((states >= 0) & ~lesson.first_visits(states)).sum(),
        at_most=0,
        unit="repeated visits",
        source="the rules of the game",
        always=True,
    )


def claim_control(cfg: lesson.Config, log: RunLog) -> None:
    """In general exploring starts have no proof of convergence, and there are counterexamples for some starts
    (suttonbarto2018, section 5.3; tsitsiklis2002optimistic).
    """
    exact = solve_blackjack()
    optimal = np.where(exact[HIT] > exact[STICK], HIT, STICK)
    published = np.where(np.arange(12, 22) >= np.array(STICK_FROM)[:, :, None], STICK, HIT)  # [2, 10, 10]
    log.claim(
        "optimum_as_published",
        "the policy that dynamic programming finds is the published one",
        (optimal[PLAYED] != published).sum(),
        at_most=0,
        unit="states that differ",
        source="suttonbarto2018, figure 5.2",
        always=True,
    )
    sums = log.kept["control_sums"]
    learned = log.kept["learned"]
    clear = np.abs(exact[HIT] - exact[STICK]) > 3 * np.hypot(*standard_errors(sums))
    log.write(cfg.num_control_batches * cfg.batch_size, close_states=(~clear)[PLAYED].sum())
    log.claim(
        "control_is_optimal",
        "control chooses as the optimum does wherever the actions differ by more than 3 standard errors",
        ((learned != optimal) & clear)[PLAYED].sum(),
        at_most=0,
        unit="wrong states of 200",
        source="exact dynamic programming",
    )
    q = sums[1] / np.maximum(sums[0], 1)
    draw_blackjack(np.where(learned == HIT, q[HIT], q[STICK]), learned, exact, log)


def claim_importance(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """The lesson's policy from one state, by the hands of a player who tosses a coin at each step."""
    policy = log.kept["policy"]
    rng = np.random.default_rng(cfg.seed)
    start = tuple(np.full(extra.num_coin_hands, part) for part in OFF_POLICY_START)
    rewards, ratios = play_by_coin(policy, start, rng)
    returns = importance_returns(rewards, ratios, gamma=1.0)[0]
    _, _, own_rewards = play_hands(policy, extra.num_coin_hands, rng, start)
    own = lesson.discounted_returns(own_rewards, gamma=1.0)[0]
    log.write(extra.num_coin_hands, importance_variance=returns.var(), own_variance=own.var())
    exact = policy_values(policy)[OFF_POLICY_START]
    log.claim(
        "importance_mean",
        "weighted by the ratios, the hands of a player who tosses a coin average another policy's value",
        np.abs(returns.mean() - exact) / (returns.std() / np.sqrt(len(returns))),
        at_most=4.5,
        unit="standard errors",
        source="exact value by dynamic programming",
        always=True,
    )


def play_by_coin(
    policy: np.ndarray, start: tuple, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "T N"], Float[np.ndarray, "T N"]]:
    """Rewards, and ratios of `policy` to a player who hits or sticks with equal chance at each step."""
    env = BatchedBlackjack(len(start[0]), rng)
    usable, showing, total = env.reset(start)
    rewards, ratios = [], []
    running = np.ones(env.num_hands, dtype=bool)
    while running.any():
        wanted = policy[usable, showing, np.minimum(total, 21)]
        actions = rng.integers(2, size=env.num_hands)
        ratios.append(np.where(running, (actions == wanted) / 0.5, 1.0))
        (usable, showing, total), paid, done = env.step(actions)
        rewards.append(paid)
        running = ~done
    return np.stack(rewards), np.stack(ratios)


def claim_walk(log: RunLog) -> None:
    num_states = lesson.NUM_WALK_STATES
    log.claim(
        "walk_values",
        "the random walk's Bellman equations have the solution -0.9, -0.8, ... 0.9",
        np.abs(walk_values(num_states) - np.linspace(-0.9, 0.9, num_states)).max(),
        at_most=1e-12,
        unit="largest difference",
        source="closed form; suttonbarto2018, example 7.1",
        always=True,
    )
    best = log.kept["best"]
    log.claim(
        "best_n_between",
        "the best n lies between the two ends: 2, 4 or 8",
        min(best, key=best.get),
        near=(5, 3),
        unit="steps",
        source="suttonbarto2018, figure 7.2",
    )
    log.claim(
        "n_step_beats_td0",
        "with the best step size for each, 4-step TD has a smaller error than TD(0)",
        best[4] / best[1],
        at_most=0.9,
        unit="ratio of errors",
        source="suttonbarto2018, figure 7.2",
        always=True,
    )
    log.claim(
        "walk_error",
        "the smallest error of 4-step TD over the first ten episodes is the published one",
        best[4],
        near=(0.265, 0.02),
        unit="RMS error",
        source="suttonbarto2018, figure 7.2, read off",
    )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_loop(cfg, extra, log)
    claim_prediction(cfg, log)
    claim_control(cfg, log)
    claim_importance(cfg, extra, log)
    claim_walk(log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The lesson's figure from all recorded seeds, and the slope without most of its noise."""
    lesson.draw([run["metrics"] for run in runs], log)
    curves = np.array([run["metrics"]["blackjack_error"] for run in runs])  # [seeds, checkpoints, 2]
    log.claim(
        "error_slope_pooled",
        "pooled over the seeds, the slope of the error is -1/2",
        np.polyfit(np.log(curves[0, :, 0]), np.log(curves[:, :, 1]).mean(axis=0), 1)[0],
        near=(-0.5, 0.05),
        unit="slope, log-log",
        source="central limit theorem; exact values by dynamic programming",
    )


def draw_loop(means: np.ndarray, exact: np.ndarray, log: RunLog) -> None:
    """Mean estimates [2, n] after 1 to n episodes on their exact expectations."""
    figure, ax = plotting.new_figure()
    episodes = np.arange(1, means.shape[1] + 1)
    for row, (name, marker) in enumerate((("first-visit", "o"), ("every-visit", "s"))):
        ax.plot(episodes, exact[row], **plotting.REFERENCE)
        ax.plot(episodes, means[row], marker, color=plotting.COLOURS[row], label=name)
    ax.plot([], [], label="exact expectation", **plotting.REFERENCE)
    ax.set(xlabel="episodes", ylabel="mean estimate", title="One-state loop: who is biased?")
    ax.legend(loc="lower right")
    log.figure(figure, "loop")


def draw_blackjack(values: np.ndarray, policy: np.ndarray, exact: np.ndarray, log: RunLog) -> None:
    """Value surfaces with the exact ones as a wire frame; policies with the exact boundary."""
    figure, axes = plotting.new_figure(2, 2, width=5.6, height=4.4)
    cards, totals = np.meshgrid(np.arange(1, 11), np.arange(12, 22), indexing="ij")
    optimal = exact[HIT] > exact[STICK]
    for usable, name in enumerate(("no usable ace", "usable ace")):
        axes[0, usable].remove()
        surface = figure.add_subplot(2, 2, 1 + usable, projection="3d")
        surface.plot_surface(
            cards, totals, values[PLAYED][usable], cmap="viridis", vmin=-1, vmax=1, alpha=0.8
        )
        frame = exact.max(axis=0)[PLAYED][usable]
        surface.plot_wireframe(cards, totals, frame, color="black", linewidth=0.6)
        surface.set(xlabel="dealer's card", ylabel="player's sum", zlabel="value", zlim=(-1, 1))
        surface.set_title(f"Value, {name} (wire: exact)")
        surface.view_init(elev=28, azim=-130)

        flat = axes[1, usable]
        flat.imshow(policy[PLAYED][usable].T, origin="lower", cmap="cividis", extent=(0.5, 10.5, 11.5, 21.5))
        x, y = np.meshgrid(np.linspace(0.5, 10.5, 1000), np.linspace(11.5, 21.5, 1000))
        border = np.kron(optimal[PLAYED][usable].T, np.ones((100, 100)))
        flat.contour(x, y, border, [0.5], colors="white", linestyles="--", linewidths=2.5)
        flat.set(xlabel="dealer's card (1: ace)", ylabel="player's sum")
        flat.set_title(f"Policy, {name} (dashed: exact)")
        flat.set(xticks=range(1, 11), yticks=range(12, 22, 2))
        flat.grid(False)
        flat.text(5.5, 20, "stick", color="white", ha="center", va="center")
        flat.text(5.5 if usable else 8, 14, "hit", color="black", ha="center", va="center")
    log.figure(figure, "blackjack")
