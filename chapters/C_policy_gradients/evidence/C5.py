"""C5's evidence: the theory on random processes, the linear algebra, a library's step, PPO and other steps.

Every other version of the learner is the lesson with a named edit, or with other settings.
"""

import copy
import dataclasses
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from chapters.C_policy_gradients import C3_ppo_from_scratch as ppo
from chapters.C_policy_gradients import C5_trpo as lesson
from chapters.C_policy_gradients.checks.C5 import EDITS
from chapters.C_policy_gradients.checks.C5_exercises import cautious_gain
from chapters.envs import make_envs
from chapters.envs.agents import ActorCritic
from chapters.envs.on_policy import Batch, collect, normalise, prepare
from chapters.exact.mdp import MDP, advantages_of, evaluate_exactly, visits
from chapters.exact.trust_regions import gradient_and_fisher, random_pair
from chapters.utils import RunLog, in_range, plotting, seed_everything
from chapters.utils.edits import edited
from chapters.utils.evaluation import crossing

Table = Float[np.ndarray, "S A"]
RACE = {  # who runs on CartPole: name -> label in the figure
    "ours": "TRPO",
    "ppo": "PPO (C3)",
    "damped": "damping 0.1",
    "plain_gradient": "plain gradient",
    "no_line_search": "no line search",
}
STOCK_DAMPING = 0.1  # what sb3-contrib, Spinning Up and others take unless told otherwise


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_pairs: Annotated[int, in_range(10, 1_000_000)] = 4000
    """Random pairs of policies, each in a random process."""


SMOKE = {"num_pairs": 300}


# The theory, where all can be computed


def gains(mdp: MDP, old: Table, new: Table, start: np.ndarray) -> Float[np.ndarray, " 5"]:
    """What going from `old` to `new` adds: in truth, by the lemma, by the surrogate, and at least.

    The last two are guaranteed: by (2), and by the bound in the mean, (E1).
    """
    truth = start @ (evaluate_exactly(mdp, new) - evaluate_exactly(mdp, old))
    advantages = advantages_of(mdp, old)
    lemma = lesson.gain(advantages, new, visits(mdp, new, start), mdp.gamma)
    visited = visits(mdp, old, start)
    surrogate = lesson.gain(advantages, new, visited, mdp.gamma)
    guaranteed = lesson.guaranteed_gain(mdp, old, new, start)
    in_the_mean = cautious_gain(advantages, old, new, visited, mdp.gamma)
    return np.array([truth, lemma, surrogate, guaranteed, in_the_mean])


def bound(pairs: list[tuple], log: RunLog) -> None:
    """The lemma and the guarantee on random pairs of policies."""
    truth, lemma, surrogate, guaranteed, in_the_mean = np.transpose([gains(*pair) for pair in pairs])
    log.write(0, better_share=(truth > 0).mean(), guaranteed_share=(guaranteed > 0).mean())
    log.write(0, mean_guaranteed_share=(in_the_mean > 0).mean())
    log.claim(
        "lemma_gap",
        "the gain is the old advantages' mean over the new policy's visits and actions",
        (np.abs(truth - lemma) / np.maximum(1.0, np.abs(truth))).max(),
        at_most=1e-9,
        unit="largest difference",
        source="kakade2002approximately, lemma 6.1; exact returns",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "bound_broken",
        "no new policy, near or far, gains less than (2) guarantees",
        (truth < guaranteed - 1e-9).sum(),
        at_most=0,
        unit="random pairs of policies",
        source="schulman2015trpo, theorem 1; exact returns",
        always=True,
        seeds="10/10",
    )
    log.claim(
        "mean_bound_broken",
        "nor less than (E1) guarantees, by the mean over the visited states",
        (truth < in_the_mean - 1e-9).sum(),
        at_most=0,
        unit="random pairs of policies",
        source="(E1): achiam2017cpo, corollary 1; exact returns",
        always=True,
        seeds="10/10",
    )
    price, error = surrogate - guaranteed, np.abs(truth - surrogate)
    log.claim(
        "price_over_error",
        "the price that (2) charges for distance is larger than the surrogate's error",
        np.median(price / np.maximum(error, 1e-12)),
        at_least=1.0,
        unit="times the error, median pair",
        source="schulman2015trpo, theorem 1",
        always=True,
        seeds="10/10",
    )
    draw_bound(price, error, log)


def natural_gradient(mdp: MDP, policy: Table, start: np.ndarray) -> Table:
    """By conjugate gradients on the enumerated Fisher matrix; its mean under the policy taken off."""
    advantages = advantages_of(mdp, policy)
    g, fisher = gradient_and_fisher(policy, visits(mdp, policy, start), advantages, mdp.gamma)
    g, fisher = torch.from_numpy(g), torch.from_numpy(fisher)
    x = lesson.conjugate_gradients(lambda v: fisher @ v, g, num_steps=200).numpy().reshape(policy.shape)
    return x - (policy * x).sum(axis=1, keepdims=True)  # a number for each state changes no softmax


def units_change(mdp: MDP, policy: Table, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How much (the natural, the plain) step turns if the logits are written as M times other numbers."""
    g, fisher = gradient_and_fisher(policy, visits(mdp, policy, start), advantages_of(mdp, policy), mdp.gamma)
    fisher += 1e-3 * np.eye(len(g))  # a matrix with an inverse; it transforms as the Fisher matrix does
    M = rng.normal(size=fisher.shape)
    natural, plain = np.linalg.solve(fisher, g), g
    other_natural = M @ np.linalg.solve(M.T @ fisher @ M, M.T @ g)  # in logits again
    other_plain = M @ (M.T @ g)
    both = ((natural, other_natural), (plain, other_plain))
    return np.array([1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in both])


def natural(pairs: list[tuple], cfg: lesson.Config, log: RunLog) -> None:
    """What the natural gradient is on tables of logits, and what it does not depend on."""
    gaps = []
    for mdp, policy, _, start in pairs[:100]:
        exact = advantages_of(mdp, policy) / (1 - mdp.gamma)  # eq. (5)
        gaps.append(np.abs(natural_gradient(mdp, policy, start) - exact).max() / np.abs(exact).max())
    log.claim(
        "natural_gap",
        "with a logit for each state and action the natural gradient is A / (1 - gamma)",
        max(gaps),
        at_most=1e-5,
        unit="of the largest entry, 100 processes",
        source="kakade2001natural; the Fisher matrix by enumeration",
        always=True,
        seeds="10/10",
    )
    rng = np.random.default_rng(cfg.seed)
    turned = np.array([units_change(mdp, policy, start, rng) for mdp, policy, _, start in pairs[:100]])
    log.write(0, plain_turned=np.median(turned[:, 1]))
    log.claim(
        "natural_turned",
        "with weights that mix the logits in another way, the natural step still moves the logits as it did",
        turned[:, 0].max(),
        at_most=1e-6,
        unit="1 - cosine, the worst of 100",
        source="F becomes M^T F M and g becomes M^T g",
        always=True,
        seeds="10/10",
    )


# The linear algebra, on a network's real batch


def one_batch(cfg: lesson.Config, hidden: int = 64) -> tuple[ActorCritic, Batch]:
    """(an agent whose weights prefer something, what an update learns from after one rollout)."""
    seed_everything(cfg.seed)
    envs = make_envs(cfg.env_id, cfg.num_envs)
    agent = ActorCritic(envs, hidden)
    with torch.no_grad():
        for weight in agent.actor.parameters():
            weight += 0.1 * torch.randn_like(weight)
    obs, _ = envs.reset(seed=cfg.seed)
    rollout, _ = collect(agent, envs, obs, np.random.default_rng(cfg.seed), cfg)
    batch = prepare(agent, rollout, cfg)
    batch["advantages"] = normalise(batch["advantages"])
    batch["old_policy"] = agent.actor(batch["obs"]).log_softmax(dim=1).detach()
    return agent, batch


def in_double(agent: ActorCritic, batch: Batch) -> None:
    """Both in 64 bits, in place."""
    agent.double()
    batch.update({name: x.double() if x.is_floating_point() else x for name, x in batch.items()})
    batch["old_policy"] = agent.actor(batch["obs"]).log_softmax(dim=1).detach()
    batch["old_log_probs"] = batch["old_policy"].gather(1, batch["actions"].unsqueeze(1)).squeeze(1)


def policy_gradient(agent: ActorCritic, batch: Batch) -> Float[Tensor, " P"]:
    """The slope of the surrogate at the actor's weights."""
    surrogate, _ = lesson.surrogate_and_kl(agent, batch)
    return lesson.flat(torch.autograd.grad(surrogate, list(agent.actor.parameters())))


def explicit_fisher(agent: ActorCritic, batch: Batch) -> Float[Tensor, "P P"]:
    """Equation (3) as it stands: every state of the batch, every action, the outer product of the score."""
    weights = list(agent.actor.parameters())
    log_probs = agent.actor(batch["obs"]).log_softmax(dim=1)  # [B, A]
    total = 0.0
    for row in log_probs:
        for log_prob in row:
            score = lesson.flat(torch.autograd.grad(log_prob, weights, retain_graph=True))
            total = total + log_prob.exp().detach() * torch.outer(score, score)
    return total / len(log_probs)


def algebra(cfg: lesson.Config, log: RunLog) -> None:
    """Products with a matrix that is never written down, and what conjugate gradients make of them."""
    small = dataclasses.replace(cfg, num_envs=8, num_steps=16)
    agent, batch = one_batch(small, hidden=8)
    in_double(agent, batch)
    fisher = explicit_fisher(agent, batch)
    product = lesson.fisher_products(agent, batch, 0.0)
    found = torch.stack([product(unit) for unit in torch.eye(len(fisher), dtype=torch.float64)])
    log.claim(
        "fisher_gap",
        "products by two backward passes equal those with the matrix of outer products",
        ((found - fisher).abs().max() / fisher.abs().max()).item(),
        at_most=1e-9,
        unit="of the largest entry",
        source="(3), every state and action written out; 64 bits",
        always=True,
        seeds="10/10",
    )
    damped = lesson.fisher_products(agent, batch, cfg.damping)
    g = policy_gradient(agent, batch)
    exact = torch.linalg.solve(fisher + cfg.damping * torch.eye(len(g)), g)
    for num_steps in (1, 2, 5, 10, 20, 50, 100, 300):
        x = lesson.conjugate_gradients(damped, g, num_steps)
        log.write(num_steps, cg_gap=((x - exact).norm() / exact.norm()).item())
    log.claim(
        "cg_gap",
        "conjugate gradients find the solution of the linear system",
        log.last("cg_gap"),
        at_most=1e-6,
        unit="of its length",
        source="a direct solve with the explicit matrix; 64 bits",
        always=True,
        seeds="10/10",
    )


# A library's step from the same weights and batch


def sb3_train(agent: ActorCritic, batch: Batch, cfg: lesson.Config) -> dict[str, Tensor]:
    """sb3-contrib's gradient, first product with the Fisher matrix (and of what), and step of the weights.

    Its line search measures the KL the other way round, so that it may halve once more or less than ours.
    """
    from sb3_contrib import TRPO
    from stable_baselines3.common.logger import Logger

    size = len(batch["obs"])
    model = TRPO(
        "MlpPolicy", cfg.env_id, device="cpu", n_steps=size, batch_size=size, n_critic_updates=1,
        cg_max_steps=cfg.num_cg_steps, cg_damping=cfg.damping, target_kl=cfg.max_kl,
        line_search_shrinking_factor=0.5, line_search_max_iter=cfg.num_halvings + 1,
    )  # fmt: skip
    policy, net, buffer = model.policy, model.policy.mlp_extractor, model.rollout_buffer
    layers = [*net.policy_net[::2], policy.action_net]
    theirs = [weight for layer in layers for weight in (layer.weight, layer.bias)]
    for copied, original in zip(theirs, agent.actor.parameters(), strict=True):
        copied.data.copy_(original.data)
    buffer.observations[:, 0], buffer.actions[:, 0] = batch["obs"], batch["actions"].reshape(size, 1)
    buffer.log_probs[:, 0], buffer.advantages[:, 0] = batch["old_log_probs"], batch["advantages"]
    buffer.returns[:, 0], buffer.full = batch["returns"], True
    seen: dict[str, Tensor] = {}
    gradient_of, product_of = model._compute_actor_grad, model.hessian_vector_product

    def watch_gradient(*arguments):
        found = gradient_of(*arguments)
        seen["gradient"] = found[1].detach()
        return found

    def watch_product(weights, slope, vector, **more):
        found = product_of(weights, slope, vector, **more)
        seen.update({} if "product" in seen else {"vector": vector.clone(), "product": found.detach()})
        return found

    model._compute_actor_grad, model.hessian_vector_product = watch_gradient, watch_product
    before = lesson.flat(theirs).detach().clone()
    model.set_logger(Logger(None, []))
    model.train()
    return seen | {"step": lesson.flat(theirs).detach() - before}


def parity(cfg: lesson.Config, log: RunLog) -> None:
    """Gradient, product and step beside sb3-contrib's.

    Its conjugate gradients start from noise, so that the steps agree once both have come to the solution.
    """
    cfg = dataclasses.replace(cfg, num_cg_steps=50)
    agent, batch = one_batch(cfg)
    theirs = sb3_train(agent, batch, cfg)
    product = lesson.fisher_products(agent, batch, cfg.damping)(theirs["vector"])
    for what, ours in (("gradient", policy_gradient(agent, batch)), ("product", product)):
        log.claim(
            f"sb3_{what}_gap",
            f"our {'policy gradient' if what == 'gradient' else 'product with F'} equals sb3-contrib's",
            ((ours - theirs[what]).norm() / theirs[what].norm()).item(),
            at_most=1e-4,
            unit="of its length, same weights and batch",
            source="sb3-contrib's TRPO, run in the same process; 32 bits",
            always=True,
            seeds="10/10",
        )
    step = lesson.trust_region_step(agent, batch, cfg).detach()
    log.write(0, sb3_step_ratio=(step.norm() / theirs["step"].norm()).item())
    log.claim(
        "sb3_step_cosine",
        "with the linear system solved, our step and sb3-contrib's point the same way",
        torch.cosine_similarity(step, theirs["step"], dim=0).item(),
        at_least=0.999,
        unit="cosine, same weights and batch",
        source="sb3-contrib's TRPO, run in the same process; 32 bits",
        always=True,
        seeds="10/10",
    )


# CartPole


def watched(cfg: lesson.Config, log: RunLog) -> None:
    """The lesson's training once more: what each update's mean KL hides, and what new states say."""
    module = edited(lesson)
    update, previous = module.update, []

    def measured(agent: ActorCritic, optimizer, batch: Batch, cfg: lesson.Config) -> float:
        if previous:  # these states were gathered by the policy that the last update made
            with torch.no_grad():
                old = previous[0].actor(batch["obs"]).log_softmax(dim=1)
                now = agent.actor(batch["obs"]).log_softmax(dim=1)
            log.write(len(log.metrics.get("fresh_kl", [])), fresh_kl=lesson.mean_kl(old, now).item())
        previous[:] = [copy.deepcopy(agent)]
        kl = update(agent, optimizer, batch, cfg)
        with torch.no_grad():
            new = agent.actor(batch["obs"]).log_softmax(dim=1)
        worst = (batch["old_policy"].exp() * (batch["old_policy"] - new)).sum(dim=1).max()
        log.write(len(log.metrics.get("worst_kl", [])), worst_kl=worst.item())
        return kl

    module.update = measured
    module.train(cfg, log, make_envs(cfg.env_id, cfg.num_envs), "watched")
    log.claim(
        "worst_state",
        "some update moves the policy further than delta in a single state of its batch",
        max(log.series("worst_kl")[1]) / cfg.max_kl,
        at_least=1.0,
        unit="of delta, the largest of all",
        source="(2) asks for the largest KL of any state, (7) bounds the mean",
        seeds="10/10",
    )


def race(cfg: lesson.Config, log: RunLog) -> None:
    """PPO with C3's settings, and the lesson with another step, each with the same checks."""
    shared = ("seed", "env_id", "num_env_steps", "eval_every", "num_eval_episodes")
    ppo.train(ppo.Config(**{name: getattr(cfg, name) for name in shared}), log, name="ppo")
    lesson.train(dataclasses.replace(cfg, damping=STOCK_DAMPING), log, name="damped")
    for name in ("plain_gradient", "no_line_search"):
        version(name).train(cfg, log, name=name)
    log.claim(
        "unchecked_kl",
        "without the line search, some update moves the policy further than delta",
        max(log.series("no_line_search_kl")[1]) / cfg.max_kl,
        at_least=1.0,
        unit="of delta, the largest",
        source="the bowl (3) is an approximation",
        seeds="9/10",
    )
    for name in RACE:
        seconds, steps = crossing(log.metrics, name, lesson.SOLVED)
        log.write(cfg.num_env_steps, **{f"{name}_sustained_steps": steps})
        log.write(cfg.num_env_steps, **{f"{name}_sustained_cpu_seconds": seconds})


def version(name: str) -> ModuleType:
    """The lesson with the edit of that name."""
    return edited(lesson, EDITS[name])


# Figures, and claims over all seeds


def draw_bound(price: np.ndarray, error: np.ndarray, log: RunLog) -> None:
    """What the guarantee charges for distance, and how wrong the surrogate really is."""
    figure, ax = plotting.new_figure()
    ax.loglog(
        price, np.maximum(error, 1e-12), ".", color=plotting.BLUE, markersize=3, label="a pair of policies"
    )
    ends = np.array([price.min(), price.max()])
    ax.loglog(ends, ends, label="the guarantee fails above", **plotting.REFERENCE)
    ax.set(xlabel="price that (2) charges for the distance", ylabel="error of the surrogate")
    ax.set(title="The guarantee holds, and is dear", ylim=(1e-10, None))
    ax.legend(loc="upper left")
    log.figure(figure, "bound")


def one_knob(p: float) -> Table:
    """A policy that has one weight for both states: action 1 with chance p, wherever it is."""
    return np.array([[1 - p, p]] * 2)


def draw_gains(ax, max_kl: float) -> None:
    """Truth, surrogate and guarantee of turning the one knob, in a process where it pays only at first.

    Action 1 pays 1 in state 0 and leads to state 1, where it costs 2 and stays; action 0 leads to state 0.
    """
    home, away = [1.0, 0.0], [0.0, 1.0]
    P, R = np.array([[home, away], [home, away]]), np.array([[0.0, 1.0], [0.0, -2.0]])
    mdp = MDP(P, R, np.zeros(2, dtype=bool), gamma=0.8)
    chances = np.linspace(0.1, 0.4, 121)
    found = [gains(mdp, one_knob(chances[0]), one_knob(p), np.array(home)) for p in chances]
    truth, _, surrogate, guaranteed, _ = np.transpose(found)
    kl = [(one_knob(0.1)[0] * np.log(one_knob(0.1)[0] / one_knob(p)[0])).sum() for p in chances]
    ax.plot(chances, surrogate, "--", color=plotting.ORANGE, label="surrogate")
    ax.plot(chances, truth, color=plotting.BLUE, label="truth")
    ax.plot(chances, guaranteed, ":", color=plotting.RED, label="guarantee (2)")
    ax.axvline(np.interp(max_kl, kl, chances), label=rf"KL = $\delta$ = {max_kl:g}", **plotting.REFERENCE)
    ax.axhline(0.0, color="black", linewidth=1.0)
    ax.set(xlabel="probability of action 1 in both states", ylabel="gain in return", ylim=(-0.4, 0.8))
    ax.set_title("What a step is worth")
    ax.legend(loc="lower center")


def draw(runs: list[dict], log: RunLog, max_kl: float = lesson.Config.max_kl) -> None:
    """The gains, how far each update of the first run moved, and the score over all runs."""
    figure, axes = plotting.new_figure(1, 3, width=5.2)
    draw_gains(axes[0], max_kl)
    first = runs[0]["metrics"]
    for name, look in {
        "no_line_search": {"color": plotting.ORANGE, "marker": "x", "label": "no line search"},
        "ppo": {"color": plotting.GREEN, "marker": "s", "label": "PPO, its own estimate"},
        "ours": {"color": plotting.BLUE, "marker": "o", "label": "TRPO"},
    }.items():
        steps, kl = np.transpose(first[f"{name}_kl"])
        axes[1].semilogy(steps / 1e3, np.maximum(kl, 1e-5), linestyle="", markersize=5, **look)
    axes[1].axhline(max_kl, label=r"$\delta$", **plotting.REFERENCE)
    axes[1].set(
        xlabel="thousand environment steps", ylabel="KL of the update", title="How far each update moved"
    )
    for name, colour in (("ppo", plotting.GREEN), ("ours", plotting.BLUE)):
        curves = [np.transpose(run["metrics"][f"{name}_return"]) for run in runs]
        plotting.seed_band(axes[2], curves[0][0] / 1e3, [curve[1] for curve in curves], RACE[name], colour)
    axes[2].axhline(lesson.SOLVED, label="solved", **plotting.REFERENCE)
    axes[2].set(
        xlabel="thousand environment steps", ylabel="mean greedy return", title="CartPole", ylim=(0, None)
    )
    axes[1].legend()
    axes[2].legend()
    log.figure(figure)


def draw_race(runs: list[dict], log: RunLog) -> None:
    """Steps and seconds to a sustained 475, a dot for each run and a bar for their median."""
    figure, axes = plotting.new_figure(1, 2, width=6.4)
    for ax, column, unit in ((axes[0], 1, 1e-3), (axes[1], 0, 1.0)):
        rows = {
            label: [unit * crossing(run["metrics"], name, lesson.SOLVED)[column] for run in runs]
            for name, label in RACE.items()
        }
        colors = [plotting.BLUE, plotting.GREEN, *[plotting.ORANGE] * (len(rows) - 2)]
        plotting.dot_rows(ax, rows, colors)
    axes[0].set(xlabel="thousand environment steps to a sustained 475", title="Data")
    axes[1].set(xlabel="CPU seconds to a sustained 475", title="Computing")
    log.figure(figure, "race")


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed)
    pairs = [random_pair(rng) for _ in range(extra.num_pairs)]
    bound(pairs, log)
    natural(pairs, cfg, log)
    algebra(cfg, log)
    parity(cfg, log)
    watched(cfg, log)
    race(cfg, log)
    draw([{"metrics": log.metrics}], log, cfg.max_kl)
    draw_race([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """Over all recorded seeds: TRPO beside PPO, and what the direction is worth."""

    def median(name: str, column: int) -> float:
        # a run that never got there counts as if it had at its last check: a bound against our claims
        lasts = [run["metrics"][f"{name}_cpu_seconds"][-1][::-1] for run in runs]
        found = [crossing(run["metrics"], name, lesson.SOLVED) for run in runs]
        return float(np.median([min(one[column], last[column]) for one, last in zip(found, lasts)]))

    log.claim(
        "steps_beside_ppo",
        "TRPO needs no more environment steps than C3's PPO to a sustained 475",
        median("ours", 1) / median("ppo", 1),
        at_most=1.0,
        unit="times PPO's, medians",
        source="engstrom2020implementation: with equal details, TRPO is as good as PPO",
    )
    log.claim(
        "seconds_beside_ppo",
        "TRPO needs at most twice the CPU seconds of C3's PPO to a sustained 475",
        median("ours", 0) / median("ppo", 0),
        at_most=2.0,
        unit="times PPO's, medians",
        source="products with F cost several gradients a step",
        timed=True,
    )
    log.claim(
        "plain_steps",
        "the plain gradient, held to the same delta, needs more environment steps to a sustained 475",
        median("plain_gradient", 1) / median("ours", 1),
        at_least=1.0,
        unit="times TRPO's, medians",
        source="kakade2001natural",
    )
    draw(runs, log)
    draw_race(runs, log)
