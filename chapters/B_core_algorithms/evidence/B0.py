"""B0's evidence: ties and the order of the arms, published shares, the gradient bandit, Thompson's limit."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from scipy.special import betainc, softmax

from chapters.B_core_algorithms import B0_multi_armed_bandits as lesson
from chapters.B_core_algorithms.checks.B0 import EDITS
from chapters.envs.bandits import play
from chapters.exact.bandits import expected_maximum, lai_robbins, log_slope
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

NUM_ORDER_PLAYS = 100  # after these a greedy agent has settled
ORDERS = ("as drawn", "best last", "best first")
DECADES = 10.0 ** np.arange(1, 13)  # horizons [H] of the game with a known best arm


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    gradient_alpha: Annotated[float, in_range(0.0, 10.0)] = 0.1
    """Step size of the gradient bandit."""
    gradient_shift: Annotated[float, in_range(-100.0, 100.0)] = 4.0
    """What the gradient bandit's arms pay more than the testbed's (as in Sutton and Barto's figure 2.5)."""
    num_known_runs: Annotated[int, in_range(10, 1_000_000)] = 20_000
    """Repetitions of the game in which the best arm's mean is known."""


SMOKE = {"num_known_runs": 2500}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 1))  # not the draws of the lesson itself
    claim_ties(rng, log)
    claim_order(cfg, rng, log)
    claim_shares(cfg, log)
    claim_rivals(log)
    claim_gradient_bandit(cfg, extra, rng, log)
    claim_epsilon_regret(log)
    claim_thompson(cfg, log)
    claim_known_best(extra, rng, log)
    draw_testbed([{"metrics": log.metrics}], log)
    draw_slope([{"metrics": log.metrics}], log)
    draw_order([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together, and the Thompson slope without most of its noise."""
    lesson.draw([run["metrics"] for run in runs], log)
    draw_testbed(runs, log)
    draw_slope(runs, log)
    draw_order(runs, log)
    _, slopes = mean_curve(runs, "slope_thompson")
    log.claim(
        "thompson_slope_pooled",
        "pooled over the seeds, the last decade's slope of Thompson's regret is within 20 % of the constant",
        slopes[-1],
        near=(1.0, 0.2),
        unit="slope / C",
        source="lai1985asymptotically, kaufmann2012thompson (asymptotic)",
    )


# Ties, and the order in which the arms are listed


def tie_bias(num_arms: int, rng: np.random.Generator, num_draws: int = 50_000) -> float:
    """Largest deviation of an arm's share from 1/K when all arms are tied, in standard errors."""
    picks = lesson.random_argmax(np.zeros((num_draws, num_arms)), rng)
    shares = np.bincount(picks, minlength=num_arms) / num_draws
    return float(np.abs(shares - 1 / num_arms).max() / np.sqrt((1 - 1 / num_arms) / num_arms / num_draws))


def claim_ties(rng: np.random.Generator, log: RunLog) -> None:
    log.claim(
        "ties_at_random",
        "tied arms are chosen equally often: the largest deviation is sampling noise",
        tie_bias(lesson.NUM_ARMS, rng),
        at_most=4.5,
        unit="standard errors",
        source="binomial distribution",
        always=True,
    )


def greedy_share(module, means: Float[np.ndarray, "B K"], rng: np.random.Generator) -> float:
    """On how many bandits the module's greedy agent plays the best arm once it has settled."""
    agent = module.ValueAgent(means.shape, module.greedy_rule(0.0))
    return float(play(agent, means, NUM_ORDER_PLAYS, rng).optimal[-1])


def claim_order(cfg: lesson.Config, rng: np.random.Generator, log: RunLog) -> None:
    """The greedy agent on the same bandits, listed in three orders; right, and with the first maximum."""
    drawn = rng.standard_normal((cfg.num_bandits, lesson.NUM_ARMS))
    rising = np.sort(drawn, axis=1)
    listed = dict(zip(ORDERS, (drawn, rising, rising[:, ::-1])))
    naive = edited(lesson, EDITS["first_maximum"])
    shares = {order: greedy_share(lesson, means, rng) for order, means in listed.items()}
    for order, means in listed.items():
        key = order.replace(" ", "_")
        naive_share = greedy_share(naive, means, rng)
        log.write(NUM_ORDER_PLAYS, **{f"random_{key}": shares[order], f"first_maximum_{key}": naive_share})
    share = (shares["as drawn"] + shares["best last"]) / 2
    log.claim(
        "order_does_not_matter",
        "thanks to random ties the greedy agent finds the best arm as often when it is listed last",
        abs(shares["as drawn"] - shares["best last"]) / np.sqrt(2 * share * (1 - share) / cfg.num_bandits),
        at_most=4.5,
        unit="standard errors",
        source="exchangeability of the arms",
        always=True,
    )


# The testbed


def claim_shares(cfg: lesson.Config, log: RunLog) -> None:
    testbed = log.kept["testbed"]
    for name, curves in testbed.items():
        for step in range(10, len(curves.reward) + 1, 10):
            log.write(step, **{f"reward_{name}": curves.reward[step - 10 : step].mean()})
    for name, published in (("greedy", 1 / 3), ("epsilon_0.01", 0.6)):
        log.claim(
            f"optimal_share_{name}",
            f"{name.replace('_', ' ')} plays the best arm as often as published",
            testbed[name].optimal[-100:].mean(),
            near=(published, 0.05),
            unit="share of the last 100 steps",
            source="suttonbarto2018, figure 2.2 and its text",
        )
    ceiling = 1 - 0.1 + 0.1 / lesson.NUM_ARMS
    log.claim(
        "epsilon_ceiling",
        "epsilon 0.1 never plays the best arm more often than its ceiling, plus four standard errors",
        testbed["epsilon_0.1"].optimal.max(),
        at_most=ceiling + 4 * np.sqrt(ceiling * (1 - ceiling) / cfg.num_bandits),
        unit="share of one step",
        source="exact: exploring hits the best arm once in K times",
        always=True,
    )


def claim_rivals(log: RunLog) -> None:
    testbed = log.kept["testbed"]
    for rival in ("greedy", "epsilon_0.01", "epsilon_0.1"):
        ahead = testbed["ucb"].bandit_reward - testbed[rival].bandit_reward  # [B] on the same bandits
        log.claim(
            f"ucb_beats_{rival}",
            f"UCB earns more than {rival.replace('_', ' ')} (lower end of the difference's 95 % interval)",
            ahead.mean() - 1.96 * ahead.std() / np.sqrt(len(ahead)),
            at_least=0.0,
            unit="reward per step",
            source="suttonbarto2018, figure 2.4",
        )


# The gradient bandit: a policy without values


def gradient_step(
    logits: Float[np.ndarray, "B K"],
    actions: Int[np.ndarray, " B"],
    rewards: Float[np.ndarray, " B"],
    baseline: Float[np.ndarray, " B"],
    alpha: float,
) -> Float[np.ndarray, "B K"]:
    """One step of stochastic gradient ascent on the expected reward (williams1992reinforce).

    H(b) <- H(b) + alpha (r - baseline) (1[b = a] - pi(b)), with pi = softmax(H). The last bracket is minus
    the gradient of the cross-entropy loss on the label a. On average over a ~ pi the step is the gradient of
    the expected reward, whatever the baseline; a good one makes it steadier.
    """
    chosen = np.arange(logits.shape[1]) == actions[:, None]  # [B, K] one-hot
    return logits + alpha * (rewards - baseline)[:, None] * (chosen - softmax(logits, axis=1))


class GradientAgent:
    """Softmax policy; the baseline is the mean of the earlier rewards, or 0 without one."""

    def __init__(self, shape: tuple[int, int], alpha: float, use_baseline: bool = True):
        self.logits = np.zeros(shape)  # [B, K]
        self.baseline = np.zeros(shape[0])  # [B]
        self.alpha = alpha
        self.use_baseline = use_baseline
        self.num_plays = 0

    def act(self, num_plays: int, rng: np.random.Generator) -> np.ndarray:
        gumbel = -np.log(-np.log(1.0 - rng.random(self.logits.shape)))
        return np.argmax(self.logits + gumbel, axis=1)  # argmax of logit + Gumbel noise ~ softmax

    def learn(self, actions: np.ndarray, rewards: np.ndarray) -> None:
        self.logits = gradient_step(self.logits, actions, rewards, self.baseline, self.alpha)
        self.num_plays += 1
        if self.use_baseline:
            counts = np.full(len(rewards), float(self.num_plays))
            self.baseline = lesson.updated_mean(self.baseline, counts, rewards)


def gradient_error(num_arms: int, rng: np.random.Generator) -> float:
    """Largest difference between the mean of the step over actions and the gradient of sum pi(a) q(a)."""
    logits, q = rng.standard_normal((2, num_arms))
    pi = softmax(logits)  # [K]
    baseline = np.full(num_arms, rng.standard_normal())  # any number will do
    stepped = gradient_step(np.tile(logits, (num_arms, 1)), np.arange(num_arms), q, baseline, 1.0)
    return float(np.abs(pi @ (stepped - logits) - pi * (q - pi @ q)).max())


def claim_gradient_bandit(cfg: lesson.Config, extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    log.claim(
        "gradient_bandit_is_gradient",
        "averaged over actions, the gradient bandit's step is the exact gradient, with any baseline",
        gradient_error(lesson.NUM_ARMS, rng),
        at_most=1e-12,
        source="closed form; suttonbarto2018, section 2.8",
        always=True,
    )
    means = extra.gradient_shift + rng.standard_normal((cfg.num_bandits, lesson.NUM_ARMS))
    late = {}
    for name, use_baseline in (("gradient", True), ("gradient_no_baseline", False)):
        agent = GradientAgent(means.shape, extra.gradient_alpha, use_baseline)
        curves = play(agent, means, cfg.num_steps, rng)
        late[name] = curves.optimal[-100:].mean()
        for step in range(10, cfg.num_steps + 1, 10):
            log.write(step, **{f"optimal_{name}": curves.optimal[step - 10 : step].mean()})
    log.claim(
        "baseline_helps",
        "on rewards shifted by 4 the baseline lets the gradient bandit find the best arm far more often",
        late["gradient"] - late["gradient_no_baseline"],
        at_least=0.2,
        unit="difference of shares",
        source="suttonbarto2018, figure 2.5",
    )


# Regret on two Bernoulli arms


def claim_epsilon_regret(log: RunLog) -> None:
    regret = log.kept["bernoulli"]["epsilon"].regret
    half = len(regret) // 2
    slope = (regret[-1] - regret[half - 1]) / (len(regret) - half)
    log.claim(
        "epsilon_regret_linear",
        "a fixed epsilon keeps paying epsilon times the mean gap per step (second half of the run)",
        slope / (0.1 * (max(lesson.MEANS) - np.mean(lesson.MEANS))),
        near=(1.0, 0.05),
        unit="measured / exact",
        source="exact slope of epsilon-greedy with correct estimates",
    )


def claim_thompson(cfg: lesson.Config, log: RunLog) -> None:
    regret = log.kept["bernoulli"]["thompson"].regret
    constant = lai_robbins(lesson.MEANS)
    for stop in DECADES[1:][DECADES[1:] <= cfg.horizon].astype(int):
        log.write(stop, slope_thompson=log_slope(regret, stop // 10, stop) / constant)

    def distance(plays: int) -> float:
        return abs(1 - regret[plays - 1] / (constant * np.log(plays)))

    log.claim(
        "thompson_approaches",
        "Thompson's regret per ln T is nearer to the constant at the end than after a hundredth of the plays",
        distance(cfg.horizon) / distance(cfg.horizon // 100),
        at_most=1.0,
        unit="ratio of distances",
        source="kaufmann2012thompson (asymptotic)",
    )


def known_best_regret(
    mean: float, best: float, horizons: Float[np.ndarray, " H"], num_runs: int, rng: np.random.Generator
) -> Float[np.ndarray, " H"]:
    """Thompson's mean regret at each horizon when only the worse arm must be learned.

    Nothing changes until that arm is played, and the waiting time is geometric: it is drawn in one go.
    """
    if not mean < best:
        raise ValueError(f"the known arm must be the better one, not {best} against {mean}")
    successes, failures, time = np.zeros((3, num_runs))
    pulls = np.zeros(len(horizons))
    while time.min() < horizons[-1]:
        # P(theta > best) for theta ~ Beta(1 + S, 1 + F): how likely each step is to play the worse arm
        chance = np.maximum(betainc(1.0 + failures, 1.0 + successes, 1.0 - best), 1e-300)
        time += np.maximum(np.ceil(np.log(1.0 - rng.random(num_runs)) / np.log1p(-chance)), 1.0)
        pulls += (time[:, None] <= horizons).mean(axis=0)
        success = rng.random(num_runs) < mean  # [R]
        successes += success
        failures += ~success
    return (best - mean) * pulls


def claim_known_best(extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    best, mean = lesson.MEANS
    constant = lai_robbins(lesson.MEANS)
    regret = known_best_regret(mean, best, DECADES, extra.num_known_runs, rng)  # [H]
    for decade in range(1, len(DECADES)):
        slope = (regret[decade] - regret[decade - 1]) / np.log(10)
        log.write(int(DECADES[decade]), slope_known=slope / constant)
    log.claim(
        "thompson_slope_known_best",
        "with a known best arm the slope from T = 10^6 to 10^12 reaches the constant to within 5 %",
        (regret[11] - regret[5]) / np.log(DECADES[11] / DECADES[5]) / constant,
        near=(1.0, 0.05),
        unit="slope / C",
        source="lai1985asymptotically (asymptotic)",
    )


# Figures, from one run or from several


def mean_curve(runs: list[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, mean over the runs) of one metric."""
    rows = np.array([run["metrics"][name] for run in runs])  # [runs, points, (step, value)]
    return rows[0, :, 0], rows[:, :, 1].mean(axis=0)


def draw_testbed(runs: list[dict], log: RunLog) -> None:
    """Rewards of the value agents, and what a baseline does for the gradient bandit."""
    figure, (left, right) = plotting.new_figure(1, 2)
    for name in ("ucb", "epsilon_0.1", "epsilon_0.01", "greedy"):
        left.plot(*mean_curve(runs, f"reward_{name}"), label=name.replace("ucb", "UCB").replace("_", " "))
    best = expected_maximum(lesson.NUM_ARMS)
    left.axhline(best, label=f"best arm always: {best:.2f}", **plotting.REFERENCE)
    left.set(xlabel="plays", ylabel="mean reward", ylim=(0, 1.65), title="Reward")
    left.legend(loc="lower right")
    for name, label in (("gradient", "with baseline"), ("gradient_no_baseline", "without")):
        steps, shares = mean_curve(runs, f"optimal_{name}")
        right.plot(steps, 100 * shares, label=label)
    right.set(xlabel="plays", ylabel="bandits playing the best arm (%)", ylim=(0, 100))
    right.set_title("Gradient bandit, rewards shifted by 4")
    right.legend(loc="lower right")
    log.figure(figure, "testbed")


def draw_slope(runs: list[dict], log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=7.2)
    for name, label, color in (
        ("thompson", "Thompson", plotting.GREEN),
        ("known", "Thompson, best arm known", plotting.SKY),
    ):
        ax.plot(*mean_curve(runs, f"slope_{name}"), marker="o", color=color, label=label)
    ax.axhline(1, label="Lai and Robbins' limit", **plotting.REFERENCE)
    ax.set(xscale="log", xlabel="plays T", ylabel="slope in the decade up to T / C", ylim=(0, 1.1))
    ax.set_title("Slope of regret against ln T")
    ax.legend(loc="lower right")
    log.figure(figure, "slope")


def draw_order(runs: list[dict], log: RunLog) -> None:
    """On how many bandits the greedy agent finds the best arm, by the order in which the arms are listed."""
    rows = {}
    for rule, label in (("random", "random ties"), ("first_maximum", "first maximum")):
        for order in ORDERS:
            _, share = mean_curve(runs, f"{rule}_{order.replace(' ', '_')}")
            rows[f"{label}, {order}"] = 100 * share[-1]
    figure, ax = plotting.new_figure(width=7.2)
    plotting.bar_rows(ax, rows, [plotting.BLUE] * len(ORDERS) + [plotting.ORANGE] * len(ORDERS))
    ax.set(xlabel="bandits on which greedy settles on the best arm (%)", xlim=(0, 100))
    ax.set_title("Who wins a tie?")
    log.figure(figure, "order")
