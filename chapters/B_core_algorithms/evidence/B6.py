"""B6's evidence: each addition against an exact answer; all, all but one and none of them on the road."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from scipy import integrate, stats

from chapters.B_core_algorithms import B6_rainbow as lesson
from chapters.B_core_algorithms.checks.B6 import EDITS
from chapters.B_core_algorithms.checks.B6_exercises import exact_target, n_step_bias, noise_variance
from chapters.envs.crossing import ROAD
from chapters.envs.long_chain import LongChain
from chapters.envs.replay import SumTree
from chapters.exact.crossing import crossing_mdp, regret
from chapters.exact.mdp import advantages_of, policy_iteration, q_from_v
from chapters.exact.returns import DICE, cdf, return_distributions, uniform_cdf
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

WITHOUT = {
    "plain": "no double",
    "one_stream": "no dueling",
    "one_step": "no n-step returns",
    "uniform": "no priorities",
    "mean_only": "no distribution",
    "quiet": "no noise",
}
"""The six edits, each of which takes one addition away."""
LABELS = {"rainbow": "all six"} | WITHOUT | {"none": "none"}
DOORS = 15
NUM_ATOMS = (11, 21, 51)


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_draws: Annotated[int, in_range(1000, 10_000_000)] = 100_000
    """Draws of noise, and of noisy action values."""
    num_chain_steps: Annotated[int, in_range(1, 10_000_000)] = 6000
    """Environment steps in front of the doors."""


SMOKE = {"num_draws": 20_000, "num_chain_steps": 640}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_distributions(log)
    claim_replay(cfg, log)
    claim_n_steps(cfg, log)
    claim_noise(cfg, extra, log)
    claim_maximum(extra, log)
    claim_doors(cfg, extra, log)
    for name in (*WITHOUT, "none"):
        edits = [EDITS[edit] for edit in (WITHOUT if name == "none" else (name,))]
        edited(lesson, *edits).train(cfg, log, name=name)
    log.write(0, **{f"{name}_mean_regret": mean_regret(log.metrics, name) for name in LABELS})
    draw_all([log.metrics], log)


def mean_regret(metrics: dict, name: str) -> float:
    """Over all checks of a run."""
    return float(np.mean([value for _, value in metrics[f"{name}_regret"]]))


# Distributions


def fixed_point(chain: list, gamma: float, atoms: Float[np.ndarray, " Z"]) -> Float[np.ndarray, "S Z"]:
    """Where C51's backups settle, of each state; `chain` may lead back, its end is worth 0."""
    support = torch.from_numpy(atoms)
    end = lesson.project(torch.ones(1, 1).expand(1, len(atoms)).double() / len(atoms),
                         torch.zeros(1).double(), torch.zeros(1).double(), support)  # fmt: skip
    found = end.repeat(len(chain) + 1, 1)
    for _ in range(200):
        rows = [
            sum(
                step.chance
                * lesson.project(
                    found[step.next_state][None],
                    torch.tensor([step.reward], dtype=torch.float64),
                    torch.tensor([gamma], dtype=torch.float64),
                    support,
                )
                for step in outcomes
            )
            for outcomes in chain
        ]
        updated = torch.cat([*rows, end])
        if torch.equal(updated, found):
            break
        found = updated
    return found.numpy()


def steps_cdf(chances: Float[np.ndarray, " Z"], atoms, x: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """The distribution function of chances on atoms."""
    return cdf(dict(zip(atoms.tolist(), chances.tolist())), x)


def projected_uniform(atoms: Float[np.ndarray, " Z"]) -> Float[np.ndarray, " Z"]:
    """Equation (6) of the uniform distribution on atoms from 0 to 1: half a share for the outermost."""
    chances = np.full(len(atoms), 1 / (len(atoms) - 1))
    chances[[0, -1]] /= 2
    return chances


def distance_to_uniform(chances: Float[np.ndarray, " Z"], atoms: Float[np.ndarray, " Z"]) -> float:
    """The integral of (F - G)^2: F is flat between atoms, G is straight."""
    heights = np.cumsum(chances)[:-1]
    edges = (heights - atoms[:-1], heights - atoms[1:])  # F - G at both ends of each gap
    return float((np.diff(atoms) * (edges[0] ** 2 + edges[0] * edges[1] + edges[1] ** 2) / 3).sum())


def claim_distributions(log: RunLog) -> None:
    from chapters.exact.returns import Outcome

    coin = [[Outcome(0.5, 0.0, 0), Outcome(0.5, 0.5, 0)]]
    ratios = []
    for num_atoms in NUM_ATOMS:
        atoms = np.linspace(0.0, 1.0, num_atoms)
        found = fixed_point(coin, 0.5, atoms)[0]
        distance = distance_to_uniform(found, atoms)
        bound = distance_to_uniform(projected_uniform(atoms), atoms) / (1 - 0.5)
        ratios.append(distance / bound)
        log.write(num_atoms, coin_distance=distance, coin_bound=bound, coin_mean=found @ atoms)
    log.claim(
        "coin_within_bound",
        "C51's fixed point for a coin tossed for ever is as near to the uniform truth as (7) promises",
        max(ratios),
        at_most=1.0,
        unit="squared distance / bound",
        source="rowland2018analysis; closed form of the coin's returns",
        always=True,
    )
    atoms = np.linspace(-5.0, 9.0, 15)
    found, exact = fixed_point(DICE, 1.0, atoms), return_distributions(DICE, 1.0)
    gap = max(
        abs(chance - exact[state].get(float(atom), 0.0))
        for state in range(len(DICE))
        for atom, chance in zip(atoms, found[state])
    )
    log.claim(
        "exact_on_atoms",
        "where all returns lie on atoms, C51's fixed point is the exact distribution of a chain's returns",
        gap,
        at_most=1e-12,
        unit="largest difference of a chance",
        source="all paths of the chain",
        always=True,
    )
    atoms = np.linspace(-5.0, 9.0, 51)
    found, exact = fixed_point(DICE, 0.9, atoms), return_distributions(DICE, 0.9)
    means = [sum(value * chance for value, chance in one.items()) for one in exact[:-1]]
    log.claim(
        "means_exact",
        "between atoms its means are still exact",
        np.abs(found[:-1] @ atoms - means).max(),
        at_most=1e-9,
        source="all paths of the chain",
        always=True,
    )


# Replay, n steps, noise, maxima


def claim_replay(cfg: lesson.Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 2))
    weights = lesson.priority(rng.exponential(size=1000))
    tree = SumTree(1000)
    tree.set(np.arange(1000), weights)
    chances = weights / weights.sum()
    gradients = rng.normal(size=(1000, 5))
    mean = (chances * lesson.importance(chances, 1000, 1.0)) @ gradients
    log.claim(
        "replay_unbiased",
        "at beta = 1 the mean gradient of prioritised draws is that of uniform ones",
        np.abs(mean - gradients.mean(axis=0)).max(),
        at_most=1e-9,
        unit="largest difference",
        source="enumeration of all transitions",
        always=True,
    )
    numbers = rng.random(20_000) * weights.sum()
    log.claim(
        "tree_is_right",
        "the sum tree finds what adding up all weights finds",
        (tree.find(numbers) != np.searchsorted(np.cumsum(weights), numbers, side="right")).sum(),
        at_most=0,
        unit="of 20,000 draws",
        source="brute force",
        always=True,
    )


def claim_n_steps(cfg: lesson.Config, log: RunLog) -> None:
    """On the road, with the best policy's values, from the data of one that takes a tenth at random."""
    mdp = crossing_mdp(ROAD, cfg.gamma, lesson.SLIP)
    V, policy, _ = policy_iteration(mdp)
    behaviour = 0.9 * policy + 0.1 / mdp.R.shape[1]
    optimum, gaps, worst = q_from_v(mdp, V), [], 0.0
    for n in (1, 2, 3, 5, 10):
        by_formula = n_step_bias(mdp, behaviour, advantages_of(mdp, policy), n)
        gaps.append(np.abs(exact_target(mdp, behaviour, V, n) - optimum - by_formula).max())
        worst = max(worst, by_formula.max())
        log.write(n, n_step_bias=by_formula[~mdp.terminal].mean())
    log.claim(
        "n_step_bias",
        "n-step targets from another policy's data miss the optimum by what (4) says",
        max(gaps),
        at_most=1e-10,
        unit="largest difference",
        source="all rewards added up",
        always=True,
    )
    log.claim(
        "n_step_pessimistic",
        "and never from above",
        worst,
        at_most=1e-12,
        source="no action is better than the best",
        always=True,
    )


def claim_noise(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    torch.manual_seed(cfg.seed)
    layer, x = lesson.NoisyLinear(6, 3, 0.5), torch.randn(6)
    with torch.no_grad():
        quiet, outputs = layer(x), []
        for _ in range(extra.num_draws // 10):
            layer.draw(1.0)
            outputs.append(layer(x))
        outputs = torch.stack(outputs).double()  # [draws, 3]
        expected = noise_variance(x, layer.weight_spread, layer.bias_spread).double()
    off = (outputs.mean(dim=0) - quiet).abs() / expected.sqrt() * len(outputs) ** 0.5
    log.claim(
        "noise_mean",
        "noise leaves the mean of a layer's outputs alone",
        float(off.max()),
        at_most=5.0,
        unit="standard errors",
        source="equation (9): f has mean 0",
        always=True,
    )
    log.claim(
        "noise_variance",
        "and has the variance of (10)",
        float((outputs.var(dim=0) / expected - 1).abs().max()),
        at_most=0.2,
        unit="relative error",
        source="equation (10)",
        always=True,
    )


def claim_maximum(extra: Config, log: RunLog) -> None:
    online_q, target_q = torch.randn(2, extra.num_draws, 10)
    plain = target_q.gather(1, lesson.next_actions(target_q, target_q)[:, None]).mean()
    double = target_q.gather(1, lesson.next_actions(online_q, target_q)[:, None]).mean()
    density = lambda x: 10 * x * stats.norm.pdf(x) * stats.norm.cdf(x) ** 9  # noqa: E731
    exact = integrate.quad(density, -10, 10)[0]
    error = 5 / extra.num_draws**0.5
    for name, says, value, truth in (
        ("plain_maximum", "ten actions worth 0 seem worth the mean of the largest of ten", plain, exact),
        ("double_maximum", "to a judge with noise of its own they seem worth nothing", double, 0.0),
    ):
        log.claim(
            name,
            says,
            float(value),
            near=(truth, error),
            unit="standard deviations of the noise",
            source="the integral over the largest of ten normal numbers; independence",
            always=True,
        )
    value, advantages = torch.randn(100, 1, 4), torch.randn(100, 5, 4)
    log.claim(
        "value_is_mean",
        "dueling's V is the mean of the actions' outputs, whatever is added to all advantages",
        float((lesson.dueling(value, advantages + 7.0).mean(dim=1) - value[:, 0]).abs().max()),
        at_most=1e-5,
        unit="largest difference",
        source="identity",
        always=True,
    )


# The doors, and the figures


def claim_doors(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    settings = {"seed": cfg.seed, "num_env_steps": extra.num_chain_steps, "gamma": 0.99}
    arrivals = {}
    for name, module in (("noise", lesson), ("random", edited(lesson, EDITS["quiet"]))):
        envs = LongChain(lesson.NUM_ENVS, DOORS)
        agent = module.train(module.Config(**settings, noise_size=2.0, noise_every=DOORS), log, envs, name)
        arrivals[name] = envs.num_arrivals
        agent.online.draw(0.0)
        through = bool((module.act(agent, envs.pictures, 0.0) == 1).all())
        log.write(0, **{f"doors_{name}": envs.num_arrivals, f"through_{name}": through})
    log.claim(
        "noise_gets_through",
        "with noise that is held, the greedy policy goes through all 15 doors",
        log.last("through_noise"),
        at_least=1.0,
        unit="1 for yes",
        source="exact: the only optimal policy",
        seeds="4/5",
    )
    log.claim(
        "random_never_arrives",
        "random actions never come to the end, not once",
        arrivals["random"],
        at_most=0,
        unit="arrivals",
        source="a chance of 1 in 32,768 for each episode of coin tosses",
        seeds="4/5",
    )


def summarise(runs: list[dict], log: RunLog) -> None:
    """The paired differences over all recorded seeds, and the figures."""
    metrics = [run["metrics"] for run in runs]
    for name in LABELS:
        worse = [mean_regret(run, name) - mean_regret(run, "rainbow") for run in metrics]
        log.write(0, **{f"{name}_minus_rainbow": np.median(worse)})
        log.write(0, **{f"{name}_minus_rainbow_low": min(worse), f"{name}_minus_rainbow_high": max(worse)})
    draw_all(metrics, log)


def draw_all(runs: list[dict], log: RunLog) -> None:
    draw_ablation(runs, log)
    draw_parts(runs, log)


def draw_ablation(runs: list[dict], log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=7.0, height=4.6)
    rows = {label: [mean_regret(run, name) for run in runs] for name, label in LABELS.items()}
    colors = [plotting.BLUE, *[plotting.SKY] * len(WITHOUT), plotting.ORANGE]
    plotting.dot_rows(ax, rows, colors)
    staying = regret(np.full(125, 4), ROAD, lesson.Config().gamma, lesson.SLIP)
    ax.plot([], [], "k|", markersize=14, markeredgewidth=3, label="median of the seeds")
    ax.axvline(staying, label="who never moves", **plotting.REFERENCE)
    ax.set(xlabel="regret in discounted arrivals, mean over training", title="All, all but one, none")
    ax.legend(loc="lower right", bbox_to_anchor=(0.95, 0.0))
    log.figure(figure)


def draw_parts(runs: list[dict], log: RunLog) -> None:
    from chapters.exact.returns import Outcome

    figure, (left, right) = plotting.new_figure(1, 2)
    coin = [[Outcome(0.5, 0.0, 0), Outcome(0.5, 0.5, 0)]]
    x = np.linspace(-0.2, 1.2, 1401)
    for num_atoms, color in ((11, plotting.ORANGE), (51, plotting.BLUE)):
        atoms = np.linspace(0.0, 1.0, num_atoms)
        found = fixed_point(coin, 0.5, atoms)[0]
        left.plot(x, steps_cdf(found, atoms, x), color=color, label=f"C51 with {num_atoms} atoms")
    left.plot(x, uniform_cdf(x), label="exact: uniform", **plotting.REFERENCE)
    left.set(title="A coin tossed for ever", xlabel="return", ylabel="chance of at most as much")
    left.legend()
    arrivals = {
        label: [run[f"doors_{name}"][-1][1] for run in runs]
        for name, label in (("noise", "noise, held"), ("random", "random actions"))
    }
    plotting.dot_rows(right, arrivals, (plotting.BLUE, plotting.ORANGE))
    right.set(title=f"Through {DOORS} doors", xlabel="arrivals in training (a dot a seed)")
    log.figure(figure, "parts")
