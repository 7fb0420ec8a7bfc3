"""C0's evidence: the other two weights on CartPole, estimators held against the exact gradient, and a film.

On the small process every batch of three episodes is summed over, so means and variances are exact numbers.
Beside that stands the experiment that one would run in practice: draw many batches and ask whether their mean
could be the exact gradient, by Hotelling's T^2, which is z^2 in several dimensions.
"""

import os
from dataclasses import dataclass
from typing import Annotated

import gymnasium as gym
import numpy as np
from jaxtyping import Float, Int

from chapters.C_policy_gradients import C0_policy_gradients_reinforce as lesson
from chapters.C_policy_gradients.checks import C0 as checks
from chapters.envs import make_envs
from chapters.exact.episodes import (
    EpisodicMDP,
    all_batches,
    all_episodes,
    policy_gradient,
    random_process,
    small_process,
    softmax,
)
from chapters.utils import RunLog, in_range, plotting, seed_everything
from chapters.utils.edits import edited
from chapters.utils.evaluation import crossing

Table = Float[np.ndarray, "S A"]
Steps = Float[np.ndarray, "T N M"]
Numbers = Int[np.ndarray, "T N M"]
LABELS = {"total_return": "total return", "reward_to_go": "reward-to-go", "leave_one_out": "leave-one-out"}
KINDS = (*LABELS, "own_mean", "normalised")
COLOURS = dict(zip(KINDS, (plotting.RED, plotting.ORANGE, plotting.BLUE, plotting.GREEN, plotting.PURPLE)))
ABLATIONS = {"total_return": "total_return", "reward_to_go": "no_baseline"}  # weight -> its edit


@dataclass(frozen=True)
class Config:
    """Estimated gradients on small processes."""

    num_batches: Annotated[int, in_range(100, 1_000_000)] = 20_000
    """M: gradient estimates that are averaged."""
    batch_size: Annotated[int, in_range(2, 1024)] = 16
    """N: episodes in each of them."""
    num_processes: Annotated[int, in_range(1, 100_000)] = 2000
    """Random two-step processes on which reward-to-go is compared with the total return."""


SMOKE = {"num_batches": 2000, "num_processes": 50}


def step_weights(rewards: Steps, gamma: float) -> dict[str, Steps]:
    """The lesson's three weights and the two shortcuts: the mean over all episodes, and that normalised."""
    returns = lesson.rewards_to_go(rewards, gamma)
    discounts = gamma ** np.arange(len(returns))[:, None, None]
    own_mean = discounts * (returns - returns.mean(axis=1, keepdims=True))
    centred = own_mean - own_mean.mean(axis=(0, 1))
    normalised = centred / (centred.std(axis=(0, 1)) + 1e-8)
    return {**lesson.three_weights(rewards, gamma), "own_mean": own_mean, "normalised": normalised}


def gradient_estimates(
    policy: Table, states: Numbers, actions: Numbers, weights: Steps
) -> Float[np.ndarray, "M S A"]:
    """Score times weight, summed over the steps and averaged over the N episodes of each batch."""
    score = lesson.score(policy[states], actions)  # [T, N, M, A]
    visited = np.eye(len(policy))[states]  # [T, N, M, S] a step moves the logits of its own state only
    return np.einsum("tnm,tnms,tnma->msa", weights, visited, score) / states.shape[1]


def estimates_of(
    mdp: EpisodicMDP, policy: Table, kind: str, batches: Int[np.ndarray, "N M"]
) -> Float[np.ndarray, "M S A"]:
    """The estimates from M batches of N episodes, each given by its number among all possible ones."""
    states, actions, _ = all_episodes(mdp, policy)
    states, actions = states[:, batches], actions[:, batches]  # [T, N, M]
    weights = step_weights(mdp.R[states, actions], mdp.gamma)[kind]
    return gradient_estimates(policy, states, actions, weights)


def exact_moments(mdp: EpisodicMDP, policy: Table, kind: str, num_episodes: int) -> tuple[Table, float]:
    """(mean, total variance) of an estimator over all combinations of `num_episodes` episodes."""
    probability = all_episodes(mdp, policy)[2]
    batches = all_batches(len(probability), num_episodes)  # [N, M]
    estimates = estimates_of(mdp, policy, kind, batches)
    chances = probability[batches].prod(axis=0)  # [M]
    mean = np.einsum("m,msa->sa", chances, estimates)
    return mean, float(np.einsum("m,msa->", chances, (estimates - mean) ** 2))


def hotelling(estimates: Float[np.ndarray, "M S A"], target: Table) -> float:
    """T^2 of the hypothesis that the mean of the estimates is `target`, in units of its 99.9 % quantile.

    The logits of a state matter only up to a constant, so one column is left out.
    """
    from scipy.stats import f

    sample = (estimates - target)[..., :-1].reshape(len(estimates), -1)  # [M, p]
    size, p = sample.shape
    mean = sample.mean(axis=0)
    t2 = size * mean @ np.linalg.solve(np.cov(sample.T).reshape(p, p), mean)
    return float(t2 / (p * (size - 1) / (size - p) * f.ppf(0.999, p, size - p)))


def fee_and_refund() -> EpisodicMDP:
    """State 0 charges 5, state 1 pays 5, or 6 for action 1."""
    P = np.zeros((2, 2, 2))
    P[:, :, 1] = 1.0
    return EpisodicMDP(P, np.array([[-5.0, -5.0], [5.0, 6.0]]), 1.0, 2)


def claim_learning(log: RunLog) -> None:
    """How soon the lesson's own learner held the pole."""
    seconds, episodes = crossing(log.metrics, "leave_one_out", lesson.SOLVED)
    log.write(0, sustained_475_cpu_seconds=seconds, sustained_475_episodes=episodes)
    log.claim(
        "cpu_seconds_to_475",
        "REINFORCE holds 475 on CartPole for three checks in a row",
        seconds,
        at_most=2.0,
        unit="CPU s of learning, to the third check",
        source="less than C3 measures for SB3's PPO at rl-zoo's settings",
        seeds="9/10",
        timed=True,
    )


def claim_exact(mdp: EpisodicMDP, policy: Table, exact: Table, log: RunLog) -> None:
    """What the sum over all batches of three episodes settles of the two shortcuts."""
    means = {kind: exact_moments(mdp, policy, kind, 3)[0] for kind in ("own_mean", "normalised")}
    log.claim(
        "own_mean_scale",
        "a baseline that contains its own episode shrinks the gradient by 1 - 1/N",
        (means["own_mean"] * exact).sum() / (exact**2).sum(),
        near=(1 - 1 / 3, 1e-9),
        unit="of the gradient, N = 3",
        source="eq. (9), against all batches of three episodes",
        always=True,
    )
    log.claim(
        "normalised_cosine",
        "the mean of the batch-normalised estimator is no multiple of the gradient",
        (means["normalised"] * exact).sum() / np.sqrt((means["normalised"] ** 2).sum() * (exact**2).sum()),
        at_most=1 - 1e-6,
        unit="cosine to the gradient",
        source="a multiple has cosine 1; all batches of three episodes",
        seeds="9/10",
    )


def claim_sampled(
    mdp: EpisodicMDP, policy: Table, exact: Table, cfg: lesson.Config, extra: Config, log: RunLog
) -> dict[str, tuple[Table, Table]]:
    """What sampled batches say of the same; returns the mean of each estimator and its standard error."""
    probability = all_episodes(mdp, policy)[2]
    rng = np.random.default_rng(cfg.seed + 1)
    batches = rng.choice(len(probability), size=(extra.num_batches, extra.batch_size), p=probability).T
    measured, distance, variance = {}, {}, {}
    for kind in KINDS:
        estimates = estimates_of(mdp, policy, kind, batches)
        error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
        measured[kind] = estimates.mean(axis=0), error
        distance[kind] = hotelling(estimates, exact)
        variance[kind] = estimates.var(axis=0, ddof=1).sum()
    log.write(0, **{f"{kind}_variance": variance[kind] for kind in LABELS})
    unit = {"unit": "of the 99.9 % quantile of Hotelling's T²", "source": "exact gradient", "seeds": "9/10"}
    log.claim(
        "leave_one_out_distance",
        "the mean of sampled leave-one-out estimates is the exact gradient",
        distance["leave_one_out"],
        at_most=1.0,
        **unit,
    )
    for kind, words in (("own_mean", "a mean over the whole batch"), ("normalised", "batch normalisation")):
        statement = f"estimates with {words} do not average to the gradient"
        log.claim(f"{kind}_distance", statement, distance[kind], at_least=1.0, **unit)
    log.claim(
        "baseline_variance_ratio",
        "the leave-one-out baseline lowers the variance where every step is paid",
        variance["leave_one_out"] / variance["reward_to_go"],
        at_most=1.0,
        unit="ratio of variances",
        source="greensmith2004variance",
        seeds="9/10",
    )
    return measured


def claim_counterexample(mdp: EpisodicMDP, policy: Table, log: RunLog) -> list[dict[str, float]]:
    """Variances of the three weights on the small process, and where a fee cancels a refund."""
    processes = (mdp, policy), (fee_and_refund(), np.full((2, 2), 0.5))
    variances = [{kind: 3 * exact_moments(*one, kind, 3)[1] for kind in LABELS} for one in processes]
    log.claim(
        "fee_and_refund_ratio",
        "where an early fee cancels a later payment, reward-to-go is noisier than the total return",
        variances[1]["reward_to_go"] / variances[1]["total_return"],
        at_least=1.0,
        unit="ratio of variances",
        source="all batches of three episodes",
        always=True,
    )
    return variances


def share_noisier(num_processes: int, rng: np.random.Generator) -> float:
    """On which share of random two-step processes the reward-to-go is noisier than the total return."""
    noisier = 0
    for _ in range(num_processes):
        process = random_process(rng, 2, 2, mean_reward=0.0)
        policy = softmax(rng.normal(size=(2, 2)))
        variances = [exact_moments(process, policy, kind, 2)[1] for kind in ("reward_to_go", "total_return")]
        noisier += variances[0] > variances[1]
    return noisier / num_processes


def draw_gradient(
    measured: dict[str, tuple], exact: Table, variances: list[dict], num_episodes: int, log: RunLog
) -> None:
    """Sampled means over the exact gradient; variances on the small process and in the counterexample."""
    figure, (left, *others) = plotting.new_figure(1, 3, width=5.0)
    names = {
        "leave_one_out": "leave-one-out",
        "own_mean": "mean of all",
        "normalised": "normalised, rescaled",
    }
    for place, (kind, label) in enumerate(names.items()):
        mean, error = measured[kind]
        fit = (mean * exact).sum() / (exact**2).sum() if kind == "normalised" else 1.0
        unit = exact * fit
        x = np.arange(len(exact)) + 0.2 * (place - 1)
        height, bar = (mean / unit)[:, 0], (1.96 * error / np.abs(unit))[:, 0]
        left.errorbar(x, height, bar, fmt="o", color=COLOURS[kind], capsize=4, label=label)
    left.axhline(1.0, label="exact gradient", **plotting.REFERENCE)
    left.axhline(1 - 1 / num_episodes, color=COLOURS["own_mean"], linestyle=":", label="1 − 1/N")
    low, high = left.get_ylim()
    left.set(xticks=range(len(exact)), xlabel="state", ylabel="mean / exact (95 % interval)")
    left.set(ylim=(low, high + 0.5 * (high - low)), title="Is it the gradient?")
    left.legend(fontsize=10, loc="upper center", ncols=2)
    for ax, values, title in zip(others, variances, ("Every step is paid", "Fee and refund")):
        bars = ax.bar(range(3), values.values(), color=[COLOURS[kind] for kind in values], width=0.6)
        ax.bar_label(bars, fmt="%.2g")
        ax.set(xticks=range(3), xticklabels=["total\nreturn", "reward-\nto-go", "leave-\none-out"])
        ax.set(ylabel="variance × episodes", title=title)
    log.figure(figure, "gradient")


def draw_learning(metrics: list[dict], log: RunLog) -> None:
    """Greedy return against episodes, a panel for each weight and a line for each seed."""
    figure, axes = plotting.new_figure(1, 3, width=4.6)
    for ax, (kind, title) in zip(axes, LABELS.items()):
        curves = np.array([one[f"{kind}_return"] for one in metrics])  # [seeds, checks, (episodes, return)]
        for curve in curves:
            ax.plot(*curve.T, color=COLOURS[kind], linewidth=0.8, alpha=0.6)
        median = np.median(curves[:, :, 1], axis=0)
        ax.plot(curves[0, :, 0], median, color="black", linewidth=2.5, label=f"median of {len(curves)}")
        ax.axhline(lesson.SOLVED, label=f"threshold {lesson.SOLVED:.0f}", **plotting.REFERENCE)
        ax.plot([], [], color=COLOURS[kind], linewidth=0.8, label="a seed")
        ax.set(xlabel="training episodes", xlim=(0, None), ylim=(0, 505), title=f"Weight: {title}")
    axes[0].set_ylabel("greedy return, mean of 100 episodes")
    axes[0].legend(loc="upper left", bbox_to_anchor=(0.0, 0.93), fontsize=10)
    log.figure(figure)


def film_frames(policies: dict, seed: int, num_steps: int = 240) -> list[np.ndarray]:
    """Greedy episodes from one start, one above the other; a fallen one stays on its last picture."""
    from PIL import Image, ImageDraw

    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pictures without a window
    films = []
    for name, policy in policies.items():
        env = gym.make("CartPole-v1", render_mode="rgb_array")
        obs, _ = env.reset(seed=seed)
        frames, terminated = [], False
        for step in range(1, num_steps + 1):
            if not terminated:
                obs, _, terminated, _, _ = env.step(int(lesson.logits_of(policy, obs).argmax()))
                picture = Image.fromarray(env.render()[120:330])  # without the floor and the empty sky
                text = f"{name}: step {step}" + (", fallen" if terminated else "")
                ImageDraw.Draw(picture).text((12, 4), text, fill="black", font_size=30)
            frames.append(np.asarray(picture))
        env.close()
        films.append(frames[::3])
    return [np.concatenate(pair, axis=0) for pair in zip(*films)]


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_learning(log)
    for name, edit in ABLATIONS.items():
        edited(lesson, checks.EDITS[edit]).train(cfg, log, name=name)
    draw_learning([log.metrics], log)

    rng = np.random.default_rng(cfg.seed)
    mdp, logits = small_process(rng)
    policy = softmax(logits)
    exact = policy_gradient(mdp, policy)
    claim_exact(mdp, policy, exact, log)
    measured = claim_sampled(mdp, policy, exact, cfg, extra, log)
    variances = claim_counterexample(mdp, policy, log)
    log.write(0, share_where_reward_to_go_is_noisier=share_noisier(extra.num_processes, rng))
    draw_gradient(measured, exact, variances, extra.batch_size, log)
    if not log.smoke:
        seed_everything(cfg.seed)  # the initial weights of `train` once more
        before = lesson.make_policy(make_envs(cfg.env_id, 1), cfg.hidden_size)
        log.film(film_frames({"before": before, "after": log.kept["policy"]}, cfg.seed + 20_000))


def summarise(runs: list[dict], log: RunLog) -> None:
    """The learning curves over all recorded seeds."""
    draw_learning([run["metrics"] for run in runs], log)
