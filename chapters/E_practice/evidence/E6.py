"""E6's evidence: (4) on worlds that are known, a linear system, C6's SAC, and branches that are too long."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from chapters.C_policy_gradients import C6_sac_td3 as c6
from chapters.E_practice import E6_mbpo as lesson
from chapters.E_practice.checks.E6 import EDITS
from chapters.envs.linear_system import BatchedLinearSystem
from chapters.envs.replay import ReplayBuffer
from chapters.exact import lqr, pendulum, straying
from chapters.exact.mdp import MDP, evaluate_exactly, random_mdp
from chapters.exact.simulation import breaking_world, total_variation
from chapters.utils import RunLog, in_range, plotting, seed_everything
from chapters.utils.edits import edited
from chapters.utils.evaluation import sustained

SYSTEM = lqr.mass_on_a_line()
LENGTHS = (1, 2, 5, 10, 20, 50, 100)
GAMMA = 0.9  # of the random worlds
TOLERANCE = 0.05  # the course's for a network, as in C6


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_worlds: Annotated[int, in_range(1, 10_000)] = 200
    """Random worlds on which (4) is held against exact values."""
    num_linear_steps: Annotated[int, in_range(20, 10_000_000)] = 400
    """Real steps from which the linear system's model is learnt."""
    num_linear_fits: Annotated[int, in_range(1, 10_000_000)] = 1000
    """Gradient steps of that model."""
    num_sac_steps: Annotated[int, in_range(4, 10_000_000)] = 3960
    """Real steps that C6's SAC has at most."""
    variants_every: Annotated[int, in_range(1, 10_000)] = 100
    """Seeds divisible by this also train the variants of MBPO that are drawn beside it."""
    long_length: Annotated[int, in_range(1, 1000)] = 100
    """Steps of a branch that is too long."""


SMOKE = {
    "num_worlds": 3, "num_linear_steps": 32, "num_linear_fits": 5, "num_sac_steps": 80, "long_length": 6,
}  # fmt: skip


# The bound (4)


def branch_values(
    world: MDP, model: np.ndarray, policy: np.ndarray, lengths: tuple[int, ...]
) -> dict[int, np.ndarray]:
    """[S] for each length: the discounted reward of so many steps in the model, exact values behind them."""
    chain = np.einsum("sa,sat->st", policy, model)
    paid = (policy * world.R).sum(axis=1)
    values, found = evaluate_exactly(world, policy), {}
    for k in range(max(lengths) + 1):
        if k in lengths:
            found[k] = values
        values = paid + world.gamma * chain @ values
    return found


def worst_miss(world: MDP, model: np.ndarray, policy: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    """[len(lengths)]: by how much a branch misses the value of its first state, at the worst state."""
    values = evaluate_exactly(world, policy)
    return np.array([np.abs(v - values).max() for v in branch_values(world, model, policy, lengths).values()])


def value_bounds(error: float, max_reward: float, gamma: float) -> np.ndarray:
    """(4) for each of LENGTHS."""
    return np.array([lesson.value_bound(error, k, max_reward, gamma) for k in LENGTHS])


def broken_share(chance: float) -> np.ndarray:
    """Miss over (4) for each of LENGTHS: in the model a sound world breaks with this chance."""
    sound, breaks = (breaking_world(one, 2.0, GAMMA) for one in (0.0, chance))
    missed = worst_miss(sound, breaks.P, np.ones((2, 1)), LENGTHS)
    return missed / value_bounds(chance, 2.0, GAMMA)


def counted_share(number: int, rng: np.random.Generator) -> np.ndarray:
    """Miss over (4) for each of LENGTHS: a random world, its pairs counted 4, 20, 36 or 52 times."""
    world = random_mdp(rng, 8, 3, GAMMA, spread=0.3)
    world = world._replace(R=rng.random(world.R.shape))
    counts = rng.multinomial(4 + 16 * (number % 4), world.P)
    model = counts / counts.sum(axis=2, keepdims=True)
    missed = worst_miss(world, model, rng.dirichlet(np.ones(3), size=8), LENGTHS)
    return missed / value_bounds(total_variation(world.P, model), 1.0, GAMMA)


def claim_value_bound(extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    """Counted models of random worlds, and the world that breaks, in which one step meets the bound."""
    shares = np.array([counted_share(number, rng) for number in range(extra.num_worlds)])
    broken = broken_share(0.01)
    for k, one, other in zip(LENGTHS, shares.max(axis=0), broken):
        part = 1 - GAMMA**k  # of E2's bound, the one for ever
        log.write(k, counted_miss=part * one, broken_miss=part * other, bound_part=part)
    log.claim(
        "value_bound",
        "no branch in a counted model misses its first state's value by more than (4)",
        shares.max(),
        at_most=1.0 + 1e-9,
        unit="largest miss / bound",
        source="exact values; the proof in section 2",
        always=True,
    )
    log.claim(
        "bound_is_met",
        "where a model takes a sound world for one that may break, a branch of one step meets (4)",
        broken[0],
        near=(1.0, 1e-9),
        unit="miss / bound",
        source="closed form",
        always=True,
    )


# A linear system


def linear_model(extra: Config, cfg: lesson.Config) -> tuple[lesson.Model, Tensor]:
    """(the lesson's model of the linear system, the states it was learnt from) after random pushes."""
    seed_everything(cfg.seed)
    rng = np.random.default_rng([cfg.seed, 5])
    envs = BatchedLinearSystem(16, *SYSTEM[:4], max_episode_steps=5)
    obs, _ = envs.reset(seed=cfg.seed)
    real = ReplayBuffer(extra.num_linear_steps + 16)
    for _ in range(max(1, extra.num_linear_steps // 16)):
        actions = rng.uniform(-2.0, 2.0, size=(16, 1)).astype(np.float32)
        next_obs, rewards, _, truncated, infos = envs.step(actions)
        successor = lesson.true_next_obs(next_obs, truncated, infos)
        counts = rng.poisson(1.0, (16, cfg.num_members)).astype(np.float32)
        step = {"obs": obs, "actions": actions, "rewards": rewards.astype(np.float32), "counts": counts}
        real.add(**step, next_obs=successor.astype(np.float32))
        obs = next_obs
    model = lesson.Model(2, 1, cfg)
    model.measure_units(real.sample(len(real), rng))
    for share in (1.0, 0.3, 0.1, 0.03):  # a falling step size, so that the weights come to rest
        model.optimizer.lr = share * cfg.learning_rate
        model.fit(real, max(1, extra.num_linear_fits // 4), cfg.minibatch_size)
    return model, torch.from_numpy(real.arrays["obs"][: len(real)])


def slopes(predict: Callable, obs: Tensor, actions: Tensor) -> np.ndarray:
    """[2, 3]: the slope of the members' mean next state in state and action, averaged over rows: A and B."""
    inputs = [obs.clone().requires_grad_(), actions.clone().requires_grad_()]
    said = predict(*inputs)[0].mean(dim=0)  # [B, 2]
    rows = [
        torch.cat(torch.autograd.grad(said[:, i].sum(), inputs, retain_graph=True), dim=1) for i in (0, 1)
    ]
    return torch.stack(rows).mean(dim=1).numpy()


def branch_gradient(step: Callable, gain: np.ndarray, starts: Tensor, length: int) -> np.ndarray:
    """[2]: the slope of a branch's mean discounted reward in the gain of u = -K x, by the chain rule.

    step(obs, actions) -> (next_obs, rewards), through which gradients flow.
    """
    K = torch.tensor(gain, dtype=starts.dtype, requires_grad=True)  # [1, 2]
    obs, total = starts, torch.zeros((), dtype=starts.dtype)
    for i in range(length):
        obs, rewards = step(obs, -obs @ K.T)
        total = total + SYSTEM.gamma**i * rewards.mean()
    return torch.autograd.grad(total, K)[0].numpy()[0]


def exact_step(obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """The linear system itself."""
    A, B, Q, R = (torch.from_numpy(matrix) for matrix in SYSTEM[:4])
    costs = (obs @ Q * obs).sum(dim=1) + (actions @ R * actions).sum(dim=1)
    return obs @ A.T + actions @ B.T, -costs


def planned_cost(found: np.ndarray) -> float:
    """What the best gain for the slopes [2, 3] costs, as a multiple of the least cost; infinite at worst."""
    learnt = SYSTEM._replace(A=found[:, :2].astype(float), B=found[:, 2:].astype(float))
    try:
        gain = lqr.best_gain(learnt, lqr.riccati(learnt))
        P = lqr.evaluate_exactly(SYSTEM, gain).P
    except RuntimeError:  # as a hardly trained model may have it
        return float("inf")
    return float(np.trace(P) / np.trace(lqr.riccati(SYSTEM)))


def linear(extra: Config, cfg: lesson.Config, log: RunLog) -> None:
    """The model's slopes, the gradient through its branches, and what a plan made in it costs."""
    model, obs = linear_model(extra, cfg)
    near = obs[obs.abs().amax(dim=1) < 1.5]
    actions = 2.0 * torch.rand(len(near), 1) - 1.0
    found = slopes(model.predict, near, actions)  # [2, 3]
    exact = np.concatenate([SYSTEM.A, SYSTEM.B], axis=1)
    log.claim(
        "slope_error",
        "on a linear system the slope of what the ensemble foresees is the system's own",
        np.abs(found - exact).max() / np.abs(exact).max(),
        at_most=TOLERANCE,
        unit="largest difference, of the largest number",
        source="A and B; 5 % is the course's tolerance for a network",
    )
    log.claim(
        "planned_cost",
        "a gain that is planned in the model costs hardly more in the world than Riccati's",
        planned_cost(found),
        at_most=1.0 + TOLERANCE,
        unit="of the least cost, mean over states",
        source="Riccati's equation, exact costs; 5 % is the course's tolerance for a network",
    )
    gain = 0.5 * lqr.best_gain(SYSTEM, lqr.riccati(SYSTEM))

    def imagined(obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        next_obs, rewards = model.predict(obs, actions)
        return next_obs.mean(dim=0), rewards.mean(dim=0)

    errors = []
    for k in (1, 2, 5, 10, 20):
        right = branch_gradient(exact_step, gain, near.double(), k)
        errors.append(
            np.linalg.norm(branch_gradient(imagined, gain, near, k) - right) / np.linalg.norm(right)
        )
        log.write(k, gradient_error=errors[-1])


# Real steps


def steps_to_goal(metrics: dict, name: str) -> float:
    """Real steps until three checks in a row have shown the goal; infinite if none did."""
    checks = metrics[f"{name}_return"]
    at = sustained([value for _, value in checks], lesson.GOAL)
    return float("inf") if at is None else float(checks[at][0])


def sac(extra: Config, cfg: lesson.Config, log: RunLog) -> None:
    """C6's SAC from the same seed, checked as often and from the same starts."""
    own = c6.Config(seed=cfg.seed, num_env_steps=extra.num_sac_steps, eval_every=cfg.eval_every)
    c6.train(own, log, name="sac")
    theirs = min(steps_to_goal(log.metrics, "sac"), extra.num_sac_steps)  # a bound against the claim
    log.claim(
        "real_steps",
        "MBPO holds -200 after at most a third of the real steps of C6's SAC",
        steps_to_goal(log.metrics, "mbpo") / theirs,
        at_most=1 / 3,
        unit="of SAC's real steps, the same seed",
        source="the course's aim; three checks in a row, every so many steps, from the same starts",
    )


def many_updates(cfg: lesson.Config, log: RunLog) -> None:
    """SAC on real transitions alone, with MBPO's gradient steps: is it the model that saves steps?"""
    idle = replace(cfg, num_branches=1, branch_length=1, num_fits=1)  # nothing uses the model
    edited(lesson, EDITS["real_only"]).train(idle, log, name="real_only")
    steps = {f"{name}_steps": steps_to_goal(log.metrics, name) for name in ("mbpo", "real_only")}
    log.write(cfg.num_env_steps, **{name: min(value, 2 * cfg.num_env_steps) for name, value in steps.items()})


def regret(cfg: lesson.Config, policy: Callable) -> float:
    """What the computed optimum earns more from the same starts."""
    return lesson.score(pendulum.optimal_policy, cfg, 20_000) - lesson.score(policy, cfg, 20_000)


def flattery(learner: lesson.Learner, cfg: lesson.Config) -> tuple[float, float]:
    """(what episodes of the policy pay in the model, what they pay in the world), means over 200 starts."""
    rng = np.random.default_rng([cfg.seed, 7])
    starts = np.stack([rng.uniform(-np.pi, np.pi, 200), rng.uniform(-1.0, 1.0, 200)], axis=1)
    with torch.no_grad():
        dreamed, lived = straying.returns(learner.model.predict, learner.agent.greedy, starts)
    return float(dreamed.mean()), float(lived.mean())


def variants(extra: Config, cfg: lesson.Config, log: RunLog) -> None:
    """One model, trusted for too long; and the same, learnt from random steps alone, and never again."""
    num_branches = max(1, cfg.num_branches * cfg.branch_length // extra.long_length)
    long = replace(cfg, num_members=1, branch_length=extra.long_length, num_branches=num_branches)
    frozen = replace(long, fit_every=cfg.num_env_steps + cfg.num_envs)
    learners = {"mbpo": log.kept["learner"]}
    learners |= {
        name: lesson.train(own, log, name=name) for name, own in (("long", long), ("frozen", frozen))
    }
    for name, learner in learners.items():
        dreamed, lived = flattery(learner, cfg)
        log.write(cfg.num_env_steps, **{f"{name}_dreamed": dreamed, f"{name}_lived": lived})


# Together


def claim_policy(cfg: lesson.Config, log: RunLog) -> None:
    """What is lost to the optimum, and how far branches stray."""
    log.claim(
        "mbpo_regret",
        "from the same starts MBPO stays behind the computed optimum by no more than that goal does",
        regret(cfg, log.kept["learner"].agent.greedy),
        at_most=pendulum.MEAN_OPTIMUM - lesson.GOAL,
        unit="of return, mean of 100 episodes",
        source="dynamic programming; the goal of -200",
    )
    log.write(cfg.num_env_steps, best_return=lesson.score(pendulum.optimal_policy, cfg, 10_000))
    strays, bounds = log.kept["strays"], log.kept["bounds"]
    for k, (row, bound) in enumerate(zip(strays.strayed, bounds), start=1):
        median, high = np.quantile(row, (0.5, 0.95))
        log.write(k, strayed=median, strayed_high=high, stray_bound=bound)
    missed, apart = strays.missed[: cfg.branch_length].ravel(), strays.apart[: cfg.branch_length].ravel()
    low, high = np.quantile(apart, (0.1, 0.9))
    log.claim(
        "disagreement_tells",
        "in the tenth of steps on which members disagree most the model misses by more than in the least",
        missed[apart >= high].mean() / missed[apart <= low].mean(),
        at_least=1.0,
        unit="times the miss",
        source="1 if disagreement told nothing",
    )


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_policy(cfg, log)
    claim_value_bound(extra, np.random.default_rng([cfg.seed, 4]), log)
    linear(extra, cfg, log)
    sac(extra, cfg, log)
    many_updates(cfg, log)
    if cfg.seed % extra.variants_every == 0:  # they are shown, and nothing is claimed of them
        variants(extra, cfg, log)
    draw([log.metrics], log)
    draw_bounds([log.metrics], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: the figures."""
    metrics = [run["metrics"] for run in runs]
    draw(metrics, log)
    draw_bounds(metrics, log)


def curves_of(runs: list[dict], name: str) -> np.ndarray:
    """[runs, checks, (step, value)]."""
    return np.array([run[name] for run in runs])


def draw(runs: list[dict], log: RunLog) -> None:
    """Regret against real steps, and how far branches stray."""
    figure, (left, right) = plotting.new_figure(ncols=2)
    best = np.array([run["best_return"][0][1] for run in runs])
    for name, label, color in (
        ("mbpo", "MBPO", plotting.BLUE),
        ("real_only", "SAC, MBPO's updates", plotting.PURPLE),
        ("sac", "SAC as in C6", plotting.GREEN),
    ):
        curves = curves_of(runs, f"{name}_return")
        plotting.seed_band(
            left, curves[0, :, 0], np.maximum(best[:, None] - curves[:, :, 1], 1.0), label, color
        )
    curve = np.array(runs[0].get("frozen_return", np.zeros((0, 2))))  # of one seed
    left.plot(
        curve[:, 0], np.maximum(best[0] - curve[:, 1], 1.0), "--", color=plotting.ORANGE, label="frozen model"
    )
    left.axhline(best.mean() - lesson.GOAL, label="a return of -200", **plotting.REFERENCE)
    left.set(xlabel="real steps", ylabel="regret to the optimum", yscale="log", title="Pendulum")
    left.set_ylim(2, 2500)  # room below all curves, for the legend
    left.legend(loc="lower right", fontsize=9)
    for name, label, style in (
        ("strayed", "half of the branches", {"color": plotting.BLUE}),
        ("strayed_high", "19 of 20 branches", {"color": plotting.ORANGE}),
        ("stray_bound", "all, by (5)", plotting.REFERENCE),
    ):
        curves = curves_of(runs, name)
        right.plot(curves[0, :, 0], np.median(curves[:, :, 1], axis=0), label=label, **style)
    right.axhline(np.pi, color="black", linewidth=0.8, label="upside down")
    right.set(
        xlabel="steps k of a branch", ylabel="radians from the world's path", yscale="log", ylim=(None, 300)
    )
    right.set_title("How far branches stray")
    right.legend()
    log.figure(figure)


def draw_bounds(runs: list[dict], log: RunLog) -> None:
    """(4) on a random world, and the gradient through branches of a linear system."""
    figure, (left, right) = plotting.new_figure(ncols=2)
    for name, label, style in (
        ("bound_part", "at most, by (4)", plotting.REFERENCE),
        ("broken_miss", "a world that may break", {"color": plotting.ORANGE, "marker": "o"}),
        ("counted_miss", "worst of the counted worlds", {"color": plotting.BLUE, "marker": "o"}),
    ):
        curves = curves_of(runs, name)
        left.plot(curves[0, :, 0], np.median(curves[:, :, 1], axis=0), label=label, **style)
    left.set(xlabel="steps k of a branch", ylabel="value missed / E2's bound", xscale="log", yscale="log")
    left.set_title("What a branch misses")
    left.legend()
    curves = curves_of(runs, "gradient_error")
    plotting.seed_band(right, curves[0, :, 0], 100 * curves[:, :, 1], "through the ensemble")
    right.set(xlabel="steps k of a branch", ylabel="% of the exact gradient", ylim=(0, None))
    right.set_title("A linear system: error of the gradient")
    right.legend()
    log.figure(figure, "bounds")
