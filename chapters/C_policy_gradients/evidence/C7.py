"""C7's evidence: the exact fixed point, lags with and without correction, real processes, stale tokens.

Everything about the fixed point and about tokens is computed by enumeration: no sampling noise. Only the
lags are learnt, and only the throughput is timed.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from chapters.C_policy_gradients import C7_impala_vtrace as lesson
from chapters.C_policy_gradients.checks.C7 import EDITS
from chapters.C_policy_gradients.evidence.C7_processes import processes
from chapters.envs.token_world import TabularPolicy, TokenWorld, token_world
from chapters.exact.mdp import MDP, evaluate_exactly
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

LAGS = (0, 4, 16, 64)  # updates
BOUNDS = (0.25, 0.5, 1.0, 2.0, 4.0, 1e9)  # of the ratio
DRAWN_BOUNDS = np.geomspace(0.01, 100.0, 41)
STEP_SIZE = 4.0
STEPS = (0, 1, 2, 4, 8, 16, 32)  # exact gradient steps between the policy that wrote and the one that learns
WEIGHTINGS = {  # how each token of a stale text is weighed -> label
    "sequence": "the whole text's ratio",
    "token": "each token's ratio, at most 1",
    "none": "no weights",
}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_timed_updates: Annotated[int, in_range(1, 100_000)] = 150
    """Updates in each measurement of throughput."""
    num_lag_steps: Annotated[int, in_range(1, 100_000_000)] = 204_800
    """Environment steps of each learner in the comparison of lags."""


SMOKE = {"num_timed_updates": 4, "num_lag_steps": 2048}


# The fixed point, exactly


def random_world(seed: int, num_states: int = 6, num_actions: int = 3) -> tuple[MDP, np.ndarray, np.ndarray]:
    """(a random process without an end, the learner's policy, an older one), tables [S, A]."""
    rng = np.random.default_rng([seed, 7])
    P = rng.dirichlet(np.full(num_states, 0.5), size=(num_states, num_actions))
    R = rng.normal(size=(num_states, num_actions))
    mdp = MDP(P, R, np.zeros(num_states, dtype=bool), 0.9)
    policy, behaviour = rng.dirichlet(np.ones(num_actions), size=(2, num_states))
    return mdp, policy, behaviour


def expected_target(
    mdp: MDP, policy: np.ndarray, behaviour: np.ndarray, V: np.ndarray, rho_bar: float, c_bar: float
) -> Float[np.ndarray, " S"]:
    """The mean V-trace target of each state over the older policy's endless steps: (1) and (2), summed up."""
    ratio = policy / behaviour
    error = np.minimum(rho_bar, ratio) * (mdp.R + mdp.gamma * mdp.P @ V - V[:, None])  # [S, A]
    carried = np.einsum("sa,sat->st", behaviour * np.minimum(c_bar, ratio), mdp.P)  # [S, S]
    mean_error = (behaviour * error).sum(axis=1)
    return V + np.linalg.solve(np.eye(len(V)) - mdp.gamma * carried, mean_error)


def fixed_point(mdp, policy, behaviour, rho_bar: float, c_bar: float, num_sweeps: int = 1500) -> np.ndarray:
    """Where a critic rests that goes to its mean target again and again, from 0."""
    V = np.zeros(len(mdp.R))
    for _ in range(num_sweeps):
        V = expected_target(mdp, policy, behaviour, V, rho_bar, c_bar)
    return V


def fixed_points(seed: int, log: RunLog) -> None:
    """V-trace's resting point against the value of (4)'s policy, for each bound and two bounds c."""
    mdp, policy, behaviour = random_world(seed)
    gaps = []
    for rho_bar in BOUNDS:
        between = evaluate_exactly(mdp, lesson.clipped_policy(policy, behaviour, rho_bar))
        for c_bar in (0.25, 1.0):
            found = fixed_point(mdp, policy, behaviour, rho_bar, min(c_bar, rho_bar))
            gaps.append(np.abs(found - between).max())
    log.claim(
        "fixed_point_gap",
        "a critic that follows V-trace rests at the value of (4)'s policy, with any c_bar <= rho_bar",
        max(gaps),
        at_most=1e-8,
        unit="largest difference in value",
        source="(4), its policy evaluated by a linear solve",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "unbounded_gap",
        "without a bound on rho a critic comes to rest at the value of the learner's own policy",
        np.abs(fixed_point(mdp, policy, behaviour, 1e9, 1.0) - evaluate_exactly(mdp, policy)).max(),
        at_most=1e-8,
        unit="largest difference in value",
        source="(4) with no bound",
        always=True,
        seeds="10/10",
    )


def distances(seed: int, num_worlds: int = 100) -> Float[np.ndarray, "W K"]:
    """How far (4)'s value is from the learner's for each bound; 1 is as far as the older policy's value."""
    found = []
    for number in range(num_worlds):
        mdp, policy, behaviour = random_world(1000 * seed + number)
        ours, theirs = (evaluate_exactly(mdp, one) for one in (policy, behaviour))
        between = [
            evaluate_exactly(mdp, lesson.clipped_policy(policy, behaviour, bound)) for bound in DRAWN_BOUNDS
        ]
        found.append([np.linalg.norm(one - ours) / np.linalg.norm(theirs - ours) for one in between])
    return np.array(found)


# Lags, with and without the correction


def lags(cfg: lesson.Config, log: RunLog) -> None:
    """Learners whose data is 0 to 64 updates old; `lag_<lag>_<name>_return`, reported and not barred."""
    for name, module in (("vtrace", lesson), ("uncorrected", edited(lesson, EDITS["uncorrected"]))):
        for lag in LAGS:
            whole = f"lag_{lag}_{name}"
            agent = module.train(dataclasses.replace(cfg, lag=lag), log, name=whole)
            fresh = lesson.score(agent, cfg, 20_000)
            kl = np.mean(log.series(f"{whole}_kl")[1])
            log.write(lag, **{f"{name}_fresh_return": fresh, f"{name}_mean_kl": kl})


# The same question for language models, by enumeration


def token_log_probs(world: TokenWorld, policy: TabularPolicy) -> Float[Tensor, "N M L"]:
    """Log-probability of every token of every completion, 0 past its end; gradients flow."""
    num = len(world.completion_ids)
    prompts = world.prompt_ids.repeat_interleave(num, dim=0)  # [N M, 1]
    text = torch.cat([prompts, world.completion_ids.repeat(world.num_prompts, 1)], dim=1)
    logits = policy(input_ids=text).logits[:, :-1]
    chosen = logits.log_softmax(-1).gather(-1, text[:, 1:, None])[..., 0]
    mask = world.completion_mask.repeat(world.num_prompts, 1)
    return chosen.masked_fill(~mask, 0.0).reshape(world.num_prompts, num, -1)


def token_weights(new: Tensor, old: Tensor, weighting: str) -> Float[Tensor, "N M L"]:
    """What each token of a stale text counts; `new` and `old`: log-probabilities of its tokens."""
    if weighting == "sequence":
        return (new - old).sum(-1, keepdim=True).exp().expand_as(new)
    if weighting == "token":
        return (new - old).exp().clamp(max=1.0)
    return torch.ones_like(new)


def stale_gradient(
    world: TokenWorld, policy: TabularPolicy, old: Tensor, weighting: str
) -> tuple[Tensor, float]:
    """(exact mean of the estimated gradient of E[r], its mean squared norm), over the old policy's texts.

    One text's estimate is the sum over its tokens of weight times advantage times the gradient of the token's
    log-probability; the advantage is its reward less the learner's mean reward after the prompt.
    """
    new = token_log_probs(world, policy)
    with torch.no_grad():
        ours, theirs = new.sum(-1).exp(), old.sum(-1).exp()  # [N, M]
        advantage = world.rewards - (ours * world.rewards).sum(1, keepdim=True)
        factor = token_weights(new, old, weighting) * advantage[..., None] * world.completion_mask
        share = theirs / world.num_prompts
        rows = policy.prefix_rows(
            torch.cat([world.prompt_ids.repeat_interleave(new.shape[1], 0),
                       world.completion_ids.repeat(world.num_prompts, 1)], dim=1)
        )[:, :-1].reshape(new.shape)  # fmt: skip
        probs = policy.table[rows].softmax(-1)
        # of one token: one-hot less probabilities, whose squared length is 1 - 2 p(token) + sum of p squared
        length = 1 - 2 * new.exp() + probs.square().sum(-1)
        squared = (share * (factor.square() * length * world.completion_mask).sum(-1)).sum()
    (mean,) = torch.autograd.grad((share[..., None] * factor * new).sum(), policy.table)
    return mean, float(squared)


def tokens(seed: int, log: RunLog) -> None:
    """Bias and spread of three weightings as the learner moves away from the policy that wrote the texts."""
    world = token_world(seed, num_symbols=6)
    policy = world.reference(torch.float64)
    old = token_log_probs(world, policy).detach()
    gaps, excess = [], []
    for step in range(max(STEPS) + 1):
        (exact,) = torch.autograd.grad(
            world.expected_reward(token_log_probs(world, policy).sum(-1)), policy.table
        )
        if step == 0:
            unit = float(exact.norm())
        if step in STEPS:
            gone = (old - token_log_probs(world, policy).detach()).sum(-1)  # [N, M]: of whole texts
            found = {name: stale_gradient(world, policy, old, name) for name in WEIGHTINGS}
            for name, (mean, squared) in found.items():
                bias = float((mean - exact).norm() / unit)
                spread = (squared - float(mean.square().sum())) ** 0.5 / unit
                log.write(step, **{f"tokens_{name}_bias": bias, f"tokens_{name}_spread": spread})
            log.write(step, tokens_kl=float((old.sum(-1).exp() * gone).sum(1).mean()))
            gaps.append(log.last("tokens_sequence_bias"))
            excess.append(found["token"][1] / found["none"][1])
        with torch.no_grad():
            policy.table += STEP_SIZE * exact
    claim_tokens(max(gaps), max(excess), log)


def claim_tokens(gap: float, excess: float, log: RunLog) -> None:
    """What holds of the three weightings at every distance, and at the largest."""
    log.claim(
        "sequence_bias",
        "weighed by the whole text's ratio, stale texts give the learner's exact gradient on average",
        gap,
        at_most=1e-9,
        unit="of the first gradient's norm",
        source="enumeration of all texts",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "token_second_moment",
        "weights of at most 1 a token never raise the mean square of a text's estimate",
        excess,
        at_most=1.0 + 1e-12,
        unit="of the mean square without weights",
        source="each weight is at most 1, and the tokens of a text move different rows",
        always=True,
        seeds="10/10",
    )
    last = {name: log.last(f"tokens_{name}_bias") for name in WEIGHTINGS}
    log.claim(
        "token_bias",
        "after 32 steps truncated token weights have a bias, and a smaller one than no weights",
        last["token"] / last["none"],
        at_most=1.0,
        unit="of the bias without weights",
        source="enumeration of all texts",
        seeds="10/10",
    )


# Figures


def draw_fixed_point(found: Float[np.ndarray, "W K"], log: RunLog) -> None:
    """How far what is learnt is from the learner's value, against the bound, over random worlds."""
    figure, ax = plotting.new_figure()
    low, middle, high = np.quantile(found, (0.1, 0.5, 0.9), axis=0)
    ax.fill_between(DRAWN_BOUNDS, low, high, alpha=0.2, linewidth=0, label="middle 80 % of 100 worlds")
    ax.semilogx(DRAWN_BOUNDS, middle, label="their median")
    ax.axhline(1.0, label="1: as far as the older policy's", color="grey", linestyle=":")
    ax.axhline(0.0, label="0: the learner's value", **plotting.REFERENCE)
    ax.axvline(1.0, color="grey", linewidth=0.8, label="the lesson's bound")
    ax.set(xlabel=r"$\bar\rho$, the bound on the ratio", title="What is learnt", ylim=(-0.1, 2.1))
    ax.set(ylabel="distance from the learner's value")
    ax.legend(loc="upper right", fontsize=10)
    log.figure(figure, "fixed_point")


def draw_lesson(runs: list[dict], log: RunLog) -> None:
    """The lesson's learner over all runs."""
    figure, ax = plotting.new_figure()
    curves = [np.transpose(run["metrics"]["ours_return"]) for run in runs]
    label = f"data {lesson.Config.lag} updates old"
    plotting.seed_band(ax, curves[0][0] / 1000, [curve[1] for curve in curves], label)
    ax.axhline(lesson.SOLVED, label="solved", **plotting.REFERENCE)
    ax.set(xlabel="thousand environment steps", ylabel="greedy return", title="Learning from older steps")
    ax.set_ylim(0, 520)
    ax.legend(loc="lower right")
    log.figure(figure)


def draw_lags(runs: list[dict], log: RunLog) -> None:
    """Fresh return and divergence by lag, median and range over runs."""
    figure, axes = plotting.new_figure(1, 2)
    looks = {"vtrace": ("V-trace", plotting.BLUE), "uncorrected": ("no correction", plotting.ORANGE)}
    for ax, what in zip(axes, ("fresh_return", "mean_kl")):
        for name, (label, color) in looks.items():
            curves = [[value for _, value in run["metrics"][f"{name}_{what}"]] for run in runs]
            plotting.seed_band(ax, range(len(LAGS)), curves, label, color)
        ax.set_xticks(range(len(LAGS)), [str(lag) for lag in LAGS])
        ax.set_xlabel("age of the data, in updates")
    axes[0].axhline(lesson.SOLVED, label="solved", **plotting.REFERENCE)
    axes[0].set(ylabel="greedy return of the last policy", title="What older data costs", ylim=(0, 520))
    axes[1].set(
        ylabel="KL from the policy that acted", title="How far the learner has gone on", yscale="symlog"
    )
    axes[1].set_yscale("symlog", linthresh=1e-3)
    axes[1].set_ylim(0, None)
    for ax in axes:
        ax.legend()
    log.figure(figure, "lags")


def draw_tokens(log: RunLog) -> None:
    """Bias and spread of the three weightings against the divergence."""
    figure, axes = plotting.new_figure(1, 2)
    kl = log.series("tokens_kl")[1]
    for ax, what in zip(axes, ("bias", "spread")):
        for name, label in WEIGHTINGS.items():
            ax.plot(kl[1:], log.series(f"tokens_{name}_{what}")[1][1:], "o-", label=label)
        ax.set(xscale="log", xlabel="KL from the writer to the learner (nats)")
    axes[0].set(ylabel="bias / norm of the first gradient", title="Wrong on average by", ylim=(-0.3, None))
    axes[1].set(
        ylabel="standard deviation / same norm", title="Spread of one text's estimate", ylim=(0, None)
    )
    axes[0].legend()
    log.figure(figure, "tokens")


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    fixed_points(cfg.seed, log)
    draw_fixed_point(distances(cfg.seed), log)
    tokens(cfg.seed, log)
    draw_tokens(log)
    processes(cfg, extra.num_timed_updates, log)
    every = max(1, extra.num_lag_steps // 5)
    lags(
        dataclasses.replace(cfg, num_env_steps=extra.num_lag_steps, eval_every=every, num_eval_episodes=20),
        log,
    )
    draw_lags([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    draw_lesson(runs, log)
    draw_lags(runs, log)
