"""D15's evidence: the estimates along the way, RLOO, the undivided form, the division, one change each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from chapters.D_rlhf import D15_kl_penalty_placement as lesson
from chapters.D_rlhf.checks.D15 import EDITS
from chapters.envs.token_world import TokenWorld
from chapters.text import tasks
from chapters.text.grpo import importance_ratio
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

RULE = {"source": "enumeration of all completions"}
SHARES = np.linspace(0.1, 1.0, 7)
"""Places between the reference and where GRPO in its published form ends; the fourth is the lesson's."""
CHANGES: dict[str, dict[str, Any]] = {  # from GRPO with the penalty in the reward, undivided
    "penalty in the reward": {},
    "mean of each completion's mean": {"average": "completions"},
    "one mean over tokens": {"average": "tokens"},
    "divided by deviation": {"divide": True},
    "128 groups of 2": {"num_prompts": 128, "group_size": 2},
    "32 groups of 8": {"num_prompts": 32, "group_size": 8},
    "2 groups of 128": {"num_prompts": 2, "group_size": 128},
    **{f"{kind} in the loss": {"kl_in": "loss", "kl_kind": kind} for kind in lesson.KINDS},
    "k3 x ratio in the loss": {"kl_in": "loss"},
}
LABELS = {
    "grpo_kl": "penalty in the reward, undivided",
    "rloo": "RLOO",
    "dr_grpo": "k3 in the loss, undivided (Dr. GRPO's)",
    "stock": "GRPO, its published form",
}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    group_size_of_changes: Annotated[int, in_range(2, 10_000)] = 32
    """Completions of each prompt where one thing is changed at a time: few, so that noise can matter."""
    num_updates_of_changes: Annotated[int, in_range(1, 100_000)] = 400
    """Updates there: what a change does is seen long before a learner stands still."""


SMOKE = {"group_size_of_changes": 8, "num_updates_of_changes": 3}


def key(name: str) -> str:
    """A metric's name from a label."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def all_estimates(world: TokenWorld, policy: nn.Module) -> dict[str, Tensor]:
    """The lesson's exact estimates, and two that it only speaks of.

    `forward` is KL(ref || pi); `k3_ratio` the k3 of each token times its importance ratio.
    """
    found = lesson.exact_estimates(world, policy)
    batch = tasks.every_completion(world)
    mask, ref = batch["completion_mask"], batch["ref_log_probs"]
    log_probs = tasks.log_probs_of(policy, batch)
    whole, ref_whole = log_probs.sum(dim=1), ref.sum(dim=1)
    found["forward"] = (ref_whole.exp() * (ref_whole - whole)).sum() / world.num_prompts
    probs = whole.detach().exp() / world.num_prompts
    ratio = importance_ratio(log_probs, log_probs.detach(), mask, "token")
    corrected = ratio * lesson.kl_estimate(log_probs, ref, "k3") * mask
    found["k3_ratio"] = (probs * corrected.sum(dim=1)).sum()
    return found


def deviations(world: TokenWorld, policy: nn.Module) -> dict[str, float]:
    """Standard deviation of one completion's estimate, the sum over its tokens."""
    batch = tasks.every_completion(world)
    with torch.no_grad():
        log_probs = tasks.log_probs_of(policy, batch)
        probs = log_probs.sum(dim=1).exp() / world.num_prompts
        found = {}
        for kind in lesson.KINDS:
            estimate = lesson.kl_estimate(log_probs, batch["ref_log_probs"], kind)
            sums = (estimate * batch["completion_mask"]).sum(dim=1)
            mean = (probs * sums).sum()
            found[kind] = (probs * (sums - mean) ** 2).sum().sqrt().item()
    return found


def write_values(world: TokenWorld, point: nn.Module, log: RunLog) -> None:
    """Mean and deviation of each estimate on the way to where GRPO ends."""
    for i, share in enumerate(SHARES):
        policy = world.reference(torch.float64)
        policy.table.data.lerp_(point.table.data, share)
        found = lesson.exact_estimates(world, policy)
        log.write(i, kl_exact_mean=found["exact"].item())
        for kind, deviation in deviations(world, policy).items():
            log.write(
                i, **{f"kl_{kind}_mean": found[f"{kind}_tokens"].item(), f"kl_{kind}_deviation": deviation}
            )


def claim_estimates(world: TokenWorld, policy: nn.Module, log: RunLog) -> None:
    """As values and as gradients, at the lesson's policy."""
    found = all_estimates(world, policy)
    slopes = {name: torch.autograd.grad(found[name], policy.table, retain_graph=True)[0] for name in found}
    wanted = slopes["exact"]
    for name, slope in slopes.items():
        cosine = torch.cosine_similarity(slope.flatten(), wanted.flatten(), 0)
        log.write(0, **{f"cosine_{name}": cosine.item()})
    identity = {**RULE, "always": True, "seeds": "10/10"}
    gap = abs(found["k1_tokens"] - found["exact"]).item()
    log.claim(
        "k1_value", "as a value, k1 is right on average", gap, at_most=1e-10, unit="nats off", **identity
    )

    def off(name: str, target: Tensor) -> float:
        return ((slopes[name] - target).norm() / wanted.norm()).item()

    identity |= {"at_most": 1e-8, "unit": "of the divergence's"}
    says = "k2 of whole completions in the loss has the gradient of KL(pi || ref)"
    log.claim("gradient_k2_texts", says, off("k2_completions", wanted), **identity)
    says = "k3 of whole completions in the loss has the gradient of KL(ref || pi)"
    log.claim("gradient_k3_texts", says, off("k3_completions", slopes["forward"]), **identity)
    says = "k3 of tokens, times the ratio, has the gradient of k2 of tokens"
    log.claim("gradient_k3_ratio", says, off("k3_ratio", slopes["k2_tokens"]), **identity)
    log.claim(
        "gradient_k3_tokens",
        "k3 of tokens, GRPO's, has not the gradient of KL(pi || ref)",
        off("k3_tokens", wanted),
        at_least=0.05,
        unit="of the divergence's",
        seeds="10/10",
        **RULE,
    )


def learn(module: ModuleType, cfg: lesson.Config, log: RunLog, name: str) -> None:
    """Train the lesson, or an edited one, and report where it ends."""
    world = log.kept["world"]
    policy = module.train(world, cfg, log, name)
    lesson.report(world, policy, cfg.beta, log, "{}_" + name)


def claim_ends(cfg: lesson.Config, log: RunLog) -> nn.Module:
    """RLOO, and the undivided form, whose own fixed point is returned."""
    world = log.kept["world"]
    undivided = replace(cfg, divide=False, average="constant")
    rloo = edited(lesson, EDITS["leave_one_out"])
    learn(rloo, replace(undivided, kl_in="reward"), log, "rloo")
    learn(lesson, undivided, log, "dr_grpo")
    point, left = lesson.fixed_point(world, undivided)
    lesson.report(world, point, cfg.beta, log, "fixed_{}_dr_grpo")
    log.write(0, update_left_dr_grpo=left)

    says = "RLOO closes the gap between the reference and the exact optimum"
    log.claim("gap_rloo", says, log.last("gap_rloo"), at_least=0.95, unit="of the gap", **RULE)
    pairs = [
        (log.last(f"{what}_dr_grpo"), log.last(f"fixed_{what}_dr_grpo"))
        for what in ("token_kl", "token_reward")
    ]
    far = max(abs(end / fixed - 1.0) for end, fixed in pairs)
    says = "Dr. GRPO's undivided loss, with k3 added, ends where its expected update is 0"
    log.claim("distance_dr_grpo", says, far, at_most=0.05, unit="off in KL or reward", **RULE)
    left = max(log.last(f"update_left_{name}") for name in ("dr_grpo", "stock"))
    says = "at the two fixed points hardly anything is left of the expected update"
    log.claim("update_left", says, left, at_most=1e-3, unit="of the first one", **RULE)
    return point


def claim_division(cfg: lesson.Config, log: RunLog) -> None:
    """Dividing is having beta sigma for beta, shown on the expected gradient of GRPO where it ends."""
    world, policy = log.kept["world"], log.kept["point"]
    batch = tasks.every_completion(world)
    probs = world.log_probs(policy).detach().exp()
    centred = lesson.exact_advantages(world.rewards, probs, divide=False)
    sigma = (probs * centred**2).sum(dim=1).sqrt()  # [N]

    def gradient(beta: float, divide: bool) -> Tensor:
        changed = replace(cfg, beta=beta, divide=divide)
        loss = lesson.expected_loss(policy, batch, world.rewards, changed)
        return torch.autograd.grad(loss, policy.table)[0].view(len(sigma), -1)  # [N, its rows]

    found = gradient(2 * cfg.beta, True)  # at another beta, where it is not 0
    same = [gradient(2 * cfg.beta * s, False)[i] / s for i, s in enumerate(sigma.tolist())]
    log.claim(
        "beta_sigma",
        "to divide by the standard deviation is to have beta times it in beta's place",
        ((found - torch.stack(same)).norm() / found.norm()).item(),
        at_most=1e-8,
        unit="of the expected gradient",
        always=True,
        seeds="10/10",
        **RULE,
    )
    log.write(0, **{f"sigma_of_prompt_{i}": value for i, value in enumerate(sigma.tolist())})


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    world, point = log.kept["world"], log.kept["point"]
    write_values(world, point, log)
    claim_estimates(world, log.kept["between"], log)
    undivided = claim_ends(cfg, log)
    claim_division(cfg, log)
    corrected = edited(lesson, EDITS["times_ratio"])
    few = replace(
        cfg,
        group_size=extra.group_size_of_changes,
        num_updates=extra.num_updates_of_changes,
        **lesson.IN_REWARD,
    )
    for name, changes in CHANGES.items():
        module = corrected if name.startswith("k3 x ratio") else lesson
        learn(module, replace(few, **changes), log, key(name))
    draw_ends(world, undivided, cfg.beta, log)
    draw_estimates([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figure over all seeds."""
    draw_estimates(runs, log)


def last(run: dict, metric: str) -> float:
    """A run's latest value of a metric."""
    return run["metrics"][metric][-1][1]


def draw_ends(world: TokenWorld, undivided: nn.Module, beta: float, log: RunLog) -> None:
    """Reward against KL with best-of-n beside it, and the KL of each prompt where two forms are at rest."""
    figure, (chart, bars) = plotting.new_figure(1, 2, width=7.0, height=5.0)
    chart.plot(*world.frontier(np.geomspace(0.2, 20.0, 80)), label="best possible", **plotting.REFERENCE)
    best_of = [world.best_of_n(n) for n in (1, 2, 4, 8, 16, 32, 64)]
    dots = [(float(world.kl(lp)), float(world.expected_reward(lp))) for lp in best_of]
    chart.plot(*zip(*dots), "s", color=plotting.ORANGE, markersize=6, label="best of n = 1, 2, 4 … 64")
    best = world.optimum(beta)
    star = float(world.kl(best)), float(world.expected_reward(best))
    chart.plot(*star, "*", color=plotting.RED, markersize=22, zorder=1, label=f"optimum at beta {beta:g}")
    colours = dict(zip(LABELS, (plotting.BLUE, plotting.SKY, plotting.GREEN, plotting.PURPLE)))
    for (name, label), size in zip(LABELS.items(), (12, 6, 9, 9)):
        at = log.last(f"token_kl_{name}"), log.last(f"token_reward_{name}")
        chart.plot(*at, "o", color=colours[name], markersize=size, label=label)
    for name in ("dr_grpo", "stock"):
        at = log.last(f"fixed_token_kl_{name}"), log.last(f"fixed_token_reward_{name}")
        label = "where the expected update is 0" if name == "stock" else None
        chart.plot(*at, "x", color="black", markersize=14, zorder=5, label=label)
    chart.set(xlabel="KL from the reference (nats)", ylabel="expected reward", title="Where each ends")
    chart.legend(loc="lower right", fontsize=10)

    ref = world.reference_log_probs()
    spreads = (ref.exp() * world.rewards**2).sum(1).sqrt().tolist()  # their mean is 0
    kinds = {f"optimum at beta {beta:g}": (best, plotting.RED)}
    kinds[LABELS["dr_grpo"]] = (world.log_probs(undivided).detach(), plotting.GREEN)
    kinds[LABELS["stock"]] = (world.log_probs(log.kept["point"]).detach(), plotting.PURPLE)
    for number, (label, (log_probs, colour)) in enumerate(kinds.items()):
        kls = (log_probs.exp() * (log_probs - ref)).sum(1).tolist()
        bars.bar(np.arange(len(kls)) + 0.27 * (number - 1), kls, width=0.25, color=colour, label=label)
    bars.set_xticks(range(len(spreads)), [f"rewards with spread {spread:.1f}" for spread in spreads])
    bars.set(ylabel="KL from the reference (nats)", title="What the division does to each prompt")
    bars.set_ylim(0, 1.35 * bars.get_ylim()[1])
    bars.legend(loc="upper right", fontsize=10)
    log.figure(figure, "ends")


def draw_estimates(runs: Sequence[dict], log: RunLog) -> None:
    """As values on the first run's world; as gradients, and after one change each, a dot for each run."""
    figure, (values, gradients, changes) = plotting.new_figure(1, 3, width=5.6, height=4.6)
    curves = {
        name: np.array([value for _, value in series])
        for name, series in runs[0]["metrics"].items()
        if name.startswith("kl_")
    }
    exact = curves["kl_exact_mean"]
    looks = {
        "k1": (plotting.BLUE, "-", 0.12),
        "k2": (plotting.RED, "-", 0.0),
        "k3": (plotting.GREEN, "--", 0.3),
    }
    for kind, (colour, line, shade) in looks.items():
        means, spreads = curves[f"kl_{kind}_mean"], curves[f"kl_{kind}_deviation"]
        values.plot(exact, means, line, color=colour, label=f"{kind}, mean")
        if shade:
            edges = (means - spreads, means + spreads)
            look = {"color": colour, "alpha": shade, "linewidth": 0}
            values.fill_between(exact, *edges, label=f"{kind}, ± deviation of a completion", **look)
    values.plot(exact, exact, label="exact KL", **plotting.REFERENCE)
    values.set(xlabel="exact KL (nats)", ylabel="estimate (nats)", title="As values")
    values.legend(loc="upper left", fontsize=10)

    rows = {label: [last(run, f"off_{name}") for run in runs] for name, label in lesson.BARS.items()}
    colours = [*[plotting.BLUE] * 3, *[plotting.ORANGE] * 3, plotting.GREEN]
    plotting.dot_rows(gradients, rows, colours)
    gradients.set(xlim=(-0.03, 1.05), title="As gradients")
    gradients.set(xlabel="distance from the gradient of KL(pi || ref), relative")

    rows = {name: [last(run, f"gap_{key(name)}") for run in runs] for name in CHANGES}
    plotting.dot_rows(changes, rows, [plotting.BLUE, *[plotting.ORANGE] * (len(rows) - 1)])
    for row, found in enumerate(rows.values()):
        if np.median(found) < 0:
            words = f"◀ {np.median(found):.1f}: worse than no training"
            changes.text(0.01, row, words, va="center", color=plotting.RED, fontsize=11)
    changes.set(xlim=(0.0, 1.03), xlabel="share of the gap closed", title="One change on the token world")
    log.figure(figure, "estimates")
