"""E10's evidence: closed forms in tables, fitted evaluation against the truth, and how much must be good."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar

from chapters.E_practice import E10_offline_rl as lesson
from chapters.E_practice.checks.E10_exercises import fitted_table
from chapters.envs import evaluate
from chapters.envs.bench import ANYWHERE, CONTROLLER, NUM_MACHINES, machines, record
from chapters.envs.cartpole import BatchedCartPole
from chapters.envs.replay import ReplayBuffer
from chapters.exact.logs import best_in_data, counted, expectile, in_sample_values
from chapters.exact.mdp import MDP, evaluate_exactly, grid_mdp, policy_iteration, q_from_v, random_mdp
from chapters.utils import RunLog, in_range, plotting

GRID = ("...G", "..P.", "....")
NUM_GOOD = (0, 1, 4, 10)  # of ten machines; the lesson itself has another number
TAUS = (0.5, 0.7, 0.9, 0.99, 0.999, 0.9999)
LOG_SIZES = (500, 2000, 8000, 32_000)
SHARERS = {"clone": ("clone", plotting.BLUE), "cql": ("CQL", plotting.GREEN)}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_worlds: Annotated[int, in_range(1, 1000)] = 8
    """Random finite worlds in which the bounds are looked at."""
    num_logs: Annotated[int, in_range(2, 1000)] = 40
    """Logs of each size, from which a policy is evaluated in a table."""


SMOKE = {"num_worlds": 3, "num_logs": 3}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 1))  # not the draws of the lesson itself
    claim_fixed_point(cfg, log, rng)
    claim_bounds(cfg, extra, log, rng)
    claim_expectiles(log)
    claim_in_sample(extra, log, rng)
    claim_counted(extra, log, rng)
    claim_forecasts(cfg, log)
    claim_shares(cfg, log)
    draw_all([log.metrics], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    metrics = [run["metrics"] for run in runs]
    lesson.draw(metrics, log)
    draw_all(metrics, log)
    shares = {method: np.array([sorted(run[f"share_{method}"]) for run in metrics]) for method in SHARERS}
    ahead = np.median(shares["cql"] - shares["clone"], axis=0)[:, 1]  # at each share
    mixed = (shares["cql"][0, :, 0] > 0) & (shares["cql"][0, :, 0] < NUM_MACHINES)
    log.claim(
        "ahead_at_each_share",
        "at each share of good machines but none and all, CQL earns more than the clone, median of the seeds",
        ahead[mixed].min(),
        at_least=0.0,
        unit="difference of mean returns, smallest of the shares",
        source="the clone of the same log, on the same episodes",
    )


# CQL in a table


def two_policies(
    rng: np.random.Generator, num_states: int, num_actions: int
) -> tuple[np.ndarray, np.ndarray]:
    """(one to evaluate, one that wrote the log and takes every action at least now and then)."""
    policy, behaviour = rng.dirichlet(np.ones(num_actions), size=(2, num_states))
    return policy, 0.9 * behaviour + 0.1 / num_actions


def minimised(
    mdp: MDP, policy: np.ndarray, behaviour: np.ndarray, alpha: float, num_backups: int
) -> np.ndarray:
    """Q after so many backups, each fitted by minimising CQL's loss on every pair, numerically."""
    Q = np.zeros(mdp.R.shape)
    for _ in range(num_backups):
        targets = q_from_v(mdp, (policy * Q).sum(axis=1))

        def loss(flat: np.ndarray, targets: np.ndarray = targets) -> tuple[float, np.ndarray]:
            errors = flat.reshape(targets.shape) - targets
            pulled = alpha * (policy - behaviour)
            value = (0.5 * behaviour * errors**2 + pulled * flat.reshape(targets.shape)).sum()
            return float(value), (behaviour * errors + pulled).ravel()

        Q = minimize(loss, Q.ravel(), jac=True, method="BFGS", options={"gtol": 1e-10}).x.reshape(Q.shape)
    return Q


def claim_fixed_point(cfg: lesson.Config, log: RunLog, rng: np.random.Generator) -> None:
    mdp = random_mdp(rng, num_states=4, num_actions=3, gamma=0.5)
    policy, behaviour = two_policies(rng, 4, 3)
    closed = lesson.priced_q(mdp, policy, cfg.alpha * lesson.prices(policy, behaviour))
    log.claim(
        "fixed_point",
        "CQL's loss, minimised backup after backup, ends at the closed form (3)",
        np.abs(minimised(mdp, policy, behaviour, cfg.alpha, 40) - closed).max(),
        at_most=1e-6,
        unit="largest difference of a value",
        source="eq. (3) by a linear solve",
        always=True,
    )


def claim_bounds(cfg: lesson.Config, extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    """Over random worlds: V from below, by how much, and that Q is bounded only without the push up."""
    above_v, gaps, above_q, above_q_alone = [], [], [], []
    for _ in range(extra.num_worlds):
        mdp = random_mdp(rng, num_states=6, num_actions=3, gamma=0.9)
        policy, behaviour = two_policies(rng, 6, 3)
        V = evaluate_exactly(mdp, policy)
        Q = q_from_v(mdp, V)
        costs = cfg.alpha * lesson.prices(policy, behaviour)
        chi2 = ((policy - behaviour) ** 2 / behaviour).sum(axis=1)
        met = evaluate_exactly(mdp._replace(R=np.repeat(chi2[:, None], 3, axis=1)), policy)
        believed = (policy * lesson.priced_q(mdp, policy, costs)).sum(axis=1)
        above_v.append((believed - V).max())
        gaps.append(np.abs(V - believed - cfg.alpha * met).max())
        one_step = mdp._replace(gamma=0.0)  # nothing follows, so nothing outweighs what is subsidised
        above_q.append((lesson.priced_q(one_step, policy, costs) - mdp.R).max(axis=1).min())
        above_q_alone.append((lesson.priced_q(mdp, policy, cfg.alpha * policy / behaviour) - Q).max())
    exactly = {"source": "kumar2020cql; exact values", "always": True}
    log.claim(
        "values_above",
        "in no state of any of these worlds is a value of CQL's above the true one",
        max(above_v),
        at_most=1e-12,
        unit="largest difference over states and worlds",
        **exactly,
    )
    log.claim(
        "chi_squared",
        "what is missing is alpha times the discounted chi squared that the policy meets",
        max(gaps),
        at_most=1e-10,
        unit="largest difference over states and worlds",
        **exactly,
    )
    log.claim(
        "some_action_above",
        "but where nothing follows, the value of some action is above the true one in every state",
        min(above_q),
        at_least=0.0,
        unit="largest difference over the actions, smallest over states and worlds",
        **exactly,
    )
    log.claim(
        "actions_above",
        "without the push upwards no action's value is",
        max(above_q_alone),
        at_most=1e-12,
        unit="largest difference over pairs and worlds",
        **exactly,
    )


# IQL in a table


def fitted_expectile(chance: float, tau: float) -> float:
    """What minimises the lesson's loss for values 0 and 1, the second with a chance in steps of 0.01."""
    num_ones = round(100 * chance)
    values = torch.tensor([0.0] * (100 - num_ones) + [1.0] * num_ones, dtype=torch.float64)
    loss = lambda m: float(lesson.expectile_loss(values - m, tau))  # noqa: E731
    return float(minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-9}).x)


def claim_expectiles(log: RunLog) -> None:
    misses = []
    for chance in (0.1, 0.25, 0.5):
        for tau in (0.3, 0.5, 0.7, 0.9, 0.99):
            closed = tau * chance / (tau * chance + (1 - tau) * (1 - chance))
            by_rounds = expectile(np.array([[0.0, 1.0]]), np.array([[1 - chance, chance]]), tau)[0]
            misses += [abs(fitted_expectile(chance, tau) - closed), abs(by_rounds - closed)]
    log.claim(
        "expectile_gap",
        "of two actions the lopsided square finds the expectile of (6)",
        max(misses),
        at_most=1e-5,
        unit="largest difference",
        source="eq. (6) for two actions, where m = 1 tau p / (tau p + (1 - tau)(1 - p))",
        always=True,
    )


def claim_in_sample(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    """Values of IQL in worlds where each state has an action that the log never took."""
    rises, shares, halves = [], [], []
    for world in range(extra.num_worlds):
        mdp = random_mdp(rng, num_states=6, num_actions=4, gamma=0.9)
        _, behaviour = two_policies(rng, 6, 4)
        behaviour[np.arange(6), rng.integers(4, size=6)] = 0.0
        behaviour /= behaviour.sum(axis=1, keepdims=True)
        values = np.array([in_sample_values(mdp, behaviour, tau, 400) for tau in TAUS])
        best = best_in_data(mdp, behaviour)
        rises.append(np.diff(values, axis=0).min())
        halves.append(np.abs(values[0] - evaluate_exactly(mdp, behaviour)).max())
        rarest = behaviour[behaviour > 0].min()
        span = np.ptp(mdp.R) / (1 - mdp.gamma)
        allowed = (1 - TAUS[-1]) / (TAUS[-1] * rarest) * span / (1 - mdp.gamma)
        shares.append(np.abs(best - values[-1]).max() / allowed)
        if not world:
            optimum = policy_iteration(mdp)[0].mean()
            for tau, row in zip(TAUS, values):
                log.write(0, **{f"in_sample_{tau:g}": row.mean()})
            log.write(0, in_sample_best=best.mean(), optimum=optimum)
    exactly = {"source": "kostrikov2022iql, lemma 2 and theorem 3", "always": True}
    log.claim(
        "half_is_the_log",
        "at tau 0.5 IQL's values are those of the policy that wrote the log",
        max(halves),
        at_most=1e-9,
        unit="largest difference over states and worlds",
        source="exact policy evaluation",
        always=True,
    )
    log.claim(
        "rises_with_tau",
        "with tau the values rise in every state",
        min(rises),
        at_least=-1e-12,
        unit="smallest rise over states, steps and worlds",
        **exactly,
    )
    log.claim(
        "best_in_data",
        "as tau goes to 1 they come to the best policy that takes only actions of the log",
        max(shares),
        at_most=1.0,
        unit="distance at tau 0.9999 / what one step's error allows",
        **exactly,
    )


# Fitted evaluation


def draw_log(mdp: MDP, size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Transitions from pairs drawn evenly, with normal noise on the rewards."""
    going_on = np.flatnonzero(~mdp.terminal)
    obs, actions = rng.choice(going_on, size=size), rng.integers(mdp.R.shape[1], size=size)
    sums = mdp.P[obs, actions].cumsum(axis=1)
    next_obs = (rng.random((size, 1)) > sums[:, :-1]).sum(axis=1)
    return {
        "obs": obs,
        "actions": actions,
        "rewards": mdp.R[obs, actions] + 0.5 * rng.normal(size=size),
        "next_obs": next_obs,
        "terminated": mdp.terminal[next_obs],
    }


def claim_counted(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    """In a table: where the sweeps end, and how fast the error falls."""
    mdp = grid_mdp(GRID, gamma=0.9, slip=0.2)
    policy, _ = two_policies(rng, *mdp.R.shape)
    exact = q_from_v(mdp, evaluate_exactly(mdp, policy))[~mdp.terminal]
    errors, gap = [], 0.0
    for size in LOG_SIZES:
        squares = []
        for repeat in range(extra.num_logs):
            data = draw_log(mdp, size, rng)
            world = counted(data, *mdp.R.shape, mdp.gamma)
            Q = q_from_v(world, evaluate_exactly(world, policy))
            squares.append(np.mean((Q[~mdp.terminal] - exact) ** 2))
            if size == LOG_SIZES[0] and not repeat:
                gap = np.abs(fitted_table(data, policy, mdp.gamma, 300) - Q).max()
        errors.append(np.sqrt(np.mean(squares)))
    log.claim(
        "counted_world",
        "in a table fitted evaluation ends at the exact values of the counted world",
        gap,
        at_most=1e-9,
        unit="largest difference of a value",
        source="a linear solve; 0.9^300 of the distance is left",
        always=True,
    )
    log.claim(
        "fitted_slope",
        "its error against the true values falls as one over the root of the log's length",
        np.polyfit(np.log(LOG_SIZES), np.log(errors), 1)[0],
        near=(-0.5, 0.1),
        unit="slope, log-log",
        source="central limit theorem; exact values",
    )


def discounted(policy: lesson.Policy, starts: np.ndarray, gamma: float) -> np.ndarray:
    """1 - gamma^steps of one episode from each start: the value in the lesson's units.

    What the limit of 500 steps cuts off is worth gamma^500, nothing that a float of this size holds.
    """
    envs = BatchedCartPole(len(starts))
    envs.reset(seed=0)
    envs.state = np.array(starts, dtype=float)
    obs, steps, alive = envs.state.astype(np.float32), np.zeros(len(starts)), np.ones(len(starts), dtype=bool)
    while alive.any():
        with torch.inference_mode():
            actions = policy(torch.from_numpy(obs)).numpy()
        obs, _, terminated, truncated, _ = envs.step(actions)
        steps += alive
        alive &= ~(terminated | truncated)
    return 1 - gamma**steps


def forecast(policy: lesson.Policy, data: ReplayBuffer, starts: np.ndarray, cfg: lesson.Config) -> float:
    """What fitted evaluation says of a policy, on average over the starts."""
    judge = lesson.train(partial(lesson.fitted_loss, policy=policy), data, cfg)
    obs = torch.from_numpy(starts.astype(np.float32))
    with torch.inference_mode():
        return float(lesson.pick(judge.target(obs), policy(obs)).mean())


def the_opposite(obs: torch.Tensor) -> torch.Tensor:
    """What most machines of the bench do, mostly."""
    return (obs @ torch.from_numpy(CONTROLLER).float() <= 0).long()


def claim_forecasts(cfg: lesson.Config, log: RunLog) -> None:
    """On CartPole: forecasts from the bench's log, and one from a log without what is asked about."""
    starts = np.random.default_rng((cfg.seed, 3)).uniform(-ANYWHERE, ANYWHERE, size=(200, 4))
    policies = {"opposite": the_opposite}
    for name, method in (("bench", "clone"), ("bench", "dqn"), ("good", "dqn")):
        policies[f"{name}_{method}"] = lesson.policy_of(method, log.kept[f"{name}_{method}"])
    misses = []
    for name, policy in policies.items():
        told = forecast(policy, log.kept["bench"], starts, cfg)
        true = discounted(policy, starts, cfg.gamma).mean()
        misses.append(abs(told - true))
        log.write(0, **{f"told_{name}": told, f"true_{name}": true})
    log.claim(
        "forecast_error",
        "forecasts from the misleading log miss the measured values of four policies by little",
        np.mean(misses),
        at_most=0.1,
        unit="mean difference, of a most of 1",
        source="measured returns; a tenth of the range of values",
    )
    with torch.inference_mode():
        obs = torch.from_numpy(log.kept["good"].arrays["obs"])
        belief = float(log.kept["good_dqn"].target(obs).amax(dim=1).mean())
    log.write(0, good_dqn_belief=belief)
    log.claim(
        "belief",
        "on the good log DQN believes in more than any policy can be worth",
        belief,
        at_least=1.0,
        unit="mean of the best action's value",
        source="rewards of 1 - gamma add up to 1 at most",
    )
    upright = np.random.default_rng((cfg.seed, 4)).uniform(-0.05, 0.05, size=(200, 4))
    policy = policies["good_dqn"]
    told = forecast(policy, log.kept["good"], upright, cfg)
    true = discounted(policy, upright, cfg.gamma).mean()
    log.write(0, told_blind=told, true_blind=true)
    log.claim(
        "blind_forecast",
        "from the good log, which lacks what DQN's policy does, a forecast of it is worth nothing",
        abs(told - true),
        at_least=0.25,
        unit="forecast against measured value, difference, of a most of 1",
        source="measured returns; a quarter of the range of values",
    )


# How much of the log must be good


def claim_shares(cfg: lesson.Config, log: RunLog) -> None:
    log.claim(
        "dqn_over_clone",
        "where most of the log is wrong, DQN earns more than the clone, too",
        log.last("bench_dqn") - log.last("bench_clone"),
        at_least=0.0,
        unit="difference of mean returns",
        source="the clone of the same log, on the same episodes",
    )
    for method in SHARERS:
        log.write(cfg.num_good, **{f"share_{method}": log.last(f"bench_{method}")})
    for num_good in NUM_GOOD:
        data = record(machines(num_good), cfg.num_steps, cfg.seed, anywhere=True)
        for method in SHARERS:
            policy = lesson.policy_of(method, lesson.train(lesson.METHODS[method], data, cfg))
            returns = evaluate(policy, "CartPole-v1", seed=cfg.seed + 10_000)
            log.write(num_good, **{f"share_{method}": returns.mean()})


# Figures


def draw_all(runs: list[dict], log: RunLog) -> None:
    draw_shares(runs, log)
    draw_forecasts(runs, log)
    draw_expectiles(runs[0], log)


def draw_shares(runs: list[dict], log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=7.2)
    for method, (label, color) in SHARERS.items():
        curves = np.array(
            [sorted(run[f"share_{method}"]) for run in runs]
        )  # [runs, shares, (machines, return)]
        plotting.seed_band(ax, 100 * curves[0, :, 0] / NUM_MACHINES, curves[:, :, 1], label, color)
    ax.axhline(lesson.SOLVED, label="solved (475)", **plotting.REFERENCE)
    ax.set(xlabel="machines that are wired rightly, %", ylabel="return, mean of 100 episodes", ylim=(0, 510))
    ax.set_title("How much of the log must be good?")
    ax.legend()
    log.figure(figure, "share")


def draw_forecasts(runs: list[dict], log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=6.4)
    names = {
        "opposite": "the opposite of the controller",
        "bench_clone": "clone",
        "bench_dqn": "DQN",
        "good_dqn": "DQN of the good log",
        "blind": "the same, from the good log (clipped)",
    }
    for (name, label), color, marker in zip(names.items(), plotting.COLOURS, "osD^X"):
        true, told = ([run[f"{what}_{name}"][-1][1] for run in runs] for what in ("true", "told"))
        ax.plot(true, np.clip(told, -0.2, 1.2), marker, color=color, alpha=0.8, label=label)
    ax.plot([0, 1], [0, 1], label="forecast = measured", **plotting.REFERENCE)
    ax.set(xlabel="measured value (1: never falls)", ylabel="forecast", xlim=(0, 1.05), ylim=(-0.25, 1.25))
    ax.set_title("Fitted evaluation")
    ax.legend(fontsize=9, loc="lower right")
    log.figure(figure, "fitted")


def draw_expectiles(run: dict, log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=6.4)
    values = [run[f"in_sample_{tau:g}"][-1][1] for tau in TAUS]
    ax.plot(range(len(TAUS)), values, "o-", color=plotting.PURPLE, label="IQL's values")
    best, optimum = run["in_sample_best"][-1][1], run["optimum"][-1][1]
    ax.axhline(best, label="best policy with actions of the log", **plotting.REFERENCE)
    ax.axhline(optimum, color=plotting.RED, linestyle=":", label="best policy of all")
    ax.set_xticks(range(len(TAUS)), [f"{tau:g}" for tau in TAUS])
    ax.set(xlabel="expectile tau", ylabel="value, mean of the states", title="The best that the log knows")
    ax.legend()
    log.figure(figure, "expectiles")
