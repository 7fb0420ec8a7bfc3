"""B7's evidence: a counted model, sweeping on finer mazes, who finds the shortest path, changes, bounds."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated

import numpy as np
from jaxtyping import Float

from chapters.B_core_algorithms import B7_dyna_q as lesson
from chapters.B_core_algorithms.checks.B7_exercises import counted_model
from chapters.envs.gridworld import BatchedGridWorld
from chapters.envs.mazes import BOTH_GAPS, GAP_LEFT, GAP_RIGHT, MAZE, Mazes, finer
from chapters.envs.vector import true_next_obs
from chapters.exact.mazes import steps_from_start
from chapters.exact.mdp import MDP, evaluate_exactly, greedy_policy, grid_mdp, policy_iteration, q_from_v
from chapters.exact.simulation import breaking_world, coupling_bound, simulation_bound, total_variation
from chapters.utils import RunLog, in_range, plotting

GOAL = "".join(MAZE).index("G")
START = "".join(MAZE).index("S")
FACTORS = (1, 2, 4)  # how much finer the maze is cut
BACKUPS = (184, 748, 3004)  # pairs of its states and actions
SAMPLES = (1, 3, 10, 30, 100, 300, 1000)  # tries of each pair that a model is counted from
MAX_PATH = 1000


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    slippery_steps: Annotated[int, in_range(10, 10**6)] = 2000
    """Steps of each of ten random walkers from which a model of the slippery world is counted."""
    num_orders: Annotated[int, in_range(1, 1000)] = 5
    """Random orders of backups that are averaged."""
    num_worlds: Annotated[int, in_range(1, 10_000)] = 200
    """Random worlds for each size, discount and kind, in which the simulation bound is checked."""
    num_counted: Annotated[int, in_range(1, 1000)] = 200
    """Random worlds of which a model is counted from few tries and from many."""
    blocking_steps: Annotated[int, in_range(1, 10**6)] = 1000
    """Steps before the way is blocked; twice as many follow."""
    num_blocked: Annotated[int, in_range(1, 10_000)] = 200
    """Agents there: the standard error of a share of so many is at most 3.5 %; of the lesson's 50, 7 %."""


SMOKE = {
    "slippery_steps": 200,
    "num_orders": 1,
    "num_worlds": 10,
    "num_counted": 2,
    "blocking_steps": 100,
    "num_blocked": 1,
}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 1))  # not the draws of the lesson itself
    claim_planned(cfg, extra, log)
    claim_sweeping(cfg, extra, rng, log)
    claim_paths(cfg, log)
    claim_changes(cfg, extra, log)
    claim_bounds(extra, rng, log)
    claim_counted(extra, rng, log)
    draw_all([log.metrics], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    metrics = [run["metrics"] for run in runs]
    lesson.draw(metrics, log)
    draw_all(metrics, log)


# A counted model, planned out


def walk_at_random(num_steps: int, seed: int) -> tuple:
    """Every step (as in the lesson) of ten walkers in A3's slippery world, one after the other."""
    envs, rng = BatchedGridWorld(10), np.random.default_rng(seed)
    obs, _ = envs.reset(seed=seed)
    steps = []
    for _ in range(num_steps):
        actions = rng.integers(4, size=10)
        next_obs, rewards, terminated, truncated, infos = envs.step(actions)
        steps.append(
            (obs, actions, rewards, true_next_obs(next_obs, terminated | truncated, infos), terminated)
        )
        obs = next_obs
    return tuple(map(np.concatenate, zip(*steps)))


def claim_planned(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    step = walk_at_random(extra.slippery_steps, cfg.seed)
    model = counted_model(*step, num_states=12, num_actions=4, gamma=cfg.gamma)
    planned, _ = lesson.prioritised_sweeping(model, theta=1e-11)
    log.claim(
        "planned_is_exact",
        "planning to the end in a model counted from a slippery world gives that model's exact optimum",
        np.abs(planned - q_from_v(model, policy_iteration(model)[0])).max(),
        at_most=1e-8,
        unit="largest difference",
        source="policy iteration with linear solves",
        always=True,
    )


# Prioritised sweeping and random order


def random_order(mdp: MDP, exact: Float[np.ndarray, "S A"], rng: np.random.Generator) -> int:
    """Backups of random pairs until all action values are exact; for a world in which nothing is random."""
    num_actions = exact.shape[1]
    next_state, rewards = mdp.P.argmax(axis=2).ravel().tolist(), mdp.R.ravel().tolist()
    pairs = np.flatnonzero(np.repeat(~mdp.terminal, num_actions))  # [pairs] state * A + action
    wrong = np.abs(exact.ravel()) > 1e-12
    targets, wrong, left = exact.ravel().tolist(), wrong.tolist(), int(wrong.sum())
    values, backups = [0.0] * len(mdp.R), 0  # values only rise: those from below are exact at last
    while left:
        for pair in rng.choice(pairs, size=1000).tolist():
            backups += 1
            q = rewards[pair] + mdp.gamma * values[next_state[pair]]
            values[pair // num_actions] = max(values[pair // num_actions], q)
            if wrong[pair] and abs(q - targets[pair]) <= 1e-12:
                wrong[pair] = False
                left -= 1
                if not left:
                    return backups
    return backups


def claim_sweeping(cfg: lesson.Config, extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    ratios = []
    for factor, pairs in zip(FACTORS, BACKUPS):
        maze = grid_mdp(finer(MAZE, factor), cfg.gamma)
        q, order = lesson.prioritised_sweeping(maze, theta=0.0)  # from 0 each error goes exactly
        orders = [random_order(maze, q * ~maze.terminal[:, None], rng) for _ in range(extra.num_orders)]
        log.write(pairs, swept=len(order), at_random=np.mean(orders))
        ratios.append(np.mean(orders) / len(order))
        if factor == 1:
            continue  # the lesson's own claim
        log.claim(
            f"backups_{factor}x",
            f"one backup for each pair also where each cell is cut into {factor} x {factor}",
            len(order),
            near=(pairs, 0.0),
            unit="backups",
            source="counted: free cells without the goal, times 4",
            always=True,
        )
    log.claim(
        "random_order_ratio",
        "random order needs this many times the backups of prioritised sweeping, on the coarsest maze",
        ratios[0],
        at_least=5.0,
        unit="times the backups",
        source="suttonbarto2018, section 8.4: often by a factor of 5 to 10",
    )


# Paths, and what the agents know


def planned_out(memory: lesson.Memory, gamma: float) -> lesson.Tables:
    """Each agent's action values once it has planned to the end in what it remembers; untried is worth 0."""
    agents = np.arange(len(memory.met))[:, None, None]
    q = np.zeros_like(memory.rewards)
    while True:
        going_on = gamma * ~memory.terminated * q.max(axis=2)[agents, memory.next_obs]
        updated = (memory.rewards + going_on) * (memory.last_tried > 0)
        if (updated == q).all():
            return q
        q = updated


def path_lengths(q: lesson.Tables) -> Float[np.ndarray, " R"]:
    """Steps of each greedy agent to the goal of the book's maze; infinite if it walks in circles."""
    landing, agents = Mazes(1, MAZE).landing, np.arange(len(q))
    cells, lengths = np.full(len(q), START), np.full(len(q), np.inf)
    for step in range(1, MAX_PATH + 1):
        cells = landing[cells, q[agents, cells].argmax(axis=1)]
        lengths = np.where((cells == GOAL) & np.isinf(lengths), step, lengths)
    return lengths


def claim_paths(cfg: lesson.Config, log: RunLog) -> None:
    shortest = steps_from_start(MAZE)
    for n in lesson.PLANS:
        q, memory = log.kept[f"n{n}"]
        own, planned = path_lengths(q), path_lengths(planned_out(memory, cfg.gamma))
        known = (memory.last_tried > 0).sum(axis=(1, 2)).mean() / BACKUPS[0]
        log.write(n, own_shortest=(own == shortest).mean(), planned_shortest=(planned == shortest).mean())
        log.write(n, as_planned=(own == planned).mean(), known_pairs=known)
    own, as_planned = (dict(log.metrics[name]) for name in ("planned_shortest", "as_planned"))
    log.claim(
        "plan_finds_shortest",
        "planned to the end, what agents remember that never planned holds the shortest path",
        own[0],
        at_least=0.95,
        unit="share of agents",
        source="exact: 14 steps",
        seeds="9/10",
    )
    log.claim(
        "nothing_left_to_plan",
        "with n = 50 the greedy path is as short as planning to the end would make it",
        as_planned[50],
        at_least=0.95,
        unit="share of agents",
        source="exact plan in each agent's memory",
        seeds="9/10",
    )


# Mazes that change


def write_regret(
    world: str, earned: dict[str, np.ndarray], grids: tuple, before: int, epsilon: float, log: RunLog
) -> None:
    """Regret against the best policy that explores as much, of each maze while it stands."""
    num_steps = len(earned["plain"])
    rates = [1 / steps_from_start(grid, epsilon) for grid in grids]
    best = np.cumsum(np.where(np.arange(num_steps) < before, *rates))
    log.write(before, **{f"{world}_changes": before})
    for name, rewards in earned.items():
        regret = best - np.cumsum(rewards.mean(axis=1))
        for step in [*range(50, num_steps, 50), num_steps]:
            log.write(step, **{f"{world}_regret_{name}": regret[step - 1]})


def claim_changes(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    earned = log.kept["shortcut"]
    write_regret("shortcut", earned, (GAP_LEFT, BOTH_GAPS), cfg.steps_each, cfg.epsilon, log)
    log.claim(
        "plain_misses_shortcut",
        "in the end Dyna-Q earns no more than one could without the shortcut",
        earned["plain"][-cfg.steps_each // 3 :].mean(),
        at_most=1 / steps_from_start(GAP_LEFT),
        unit="goals per step",
        source="exact: one over the shortest path before the change",
        seeds="9/10",
    )
    before = extra.blocking_steps
    many = replace(cfg, num_agents=extra.num_blocked)
    earned = lesson.learn_changing((GAP_RIGHT, GAP_LEFT), (before, 2 * before), many)
    write_regret("blocking", earned, (GAP_RIGHT, GAP_LEFT), before, cfg.epsilon, log)
    half = 0.5 / steps_from_start(GAP_LEFT, cfg.epsilon)
    rates = {name: rewards[-before:].mean(axis=0) for name, rewards in earned.items()}  # [R]
    log.claim(
        "plus_finds_detour",
        "after its way was blocked Dyna-Q+ earns at least half of what the best does that explores as much",
        rates["plus"].mean(),
        at_least=half,
        unit="goals per step",
        source="half of the exact optimum",
        seeds="9/10",
    )
    log.claim(
        "plain_stays_blocked",
        "at least half of the Dyna-Q agents earn less than half of that",
        np.median(rates["plain"]),
        at_most=half,
        unit="goals per step, median agent",
        source="half of the exact optimum",
        seeds="9/10",
    )


# The simulation bound


def random_rows(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> np.ndarray:
    """Distributions over the last axis; the smaller the spread, the fewer outcomes share the chance."""
    weights = rng.gamma(spread, size=shape) + 1e-9
    return weights / weights.sum(axis=-1, keepdims=True)


def value_errors(num_worlds: int, num_states: int, gamma: float, spread: float, rng) -> np.ndarray:
    """[worlds, 2]: the largest error of a random policy's value in a wrong model over either bound."""
    shape = (num_worlds, num_states, 3)  # [M, S, A]
    P, other = (random_rows(rng, (*shape, num_states), spread) for _ in range(2))
    model = P + 10 ** rng.uniform(-3, 0, (num_worlds, 1, 1, 1)) * (other - P)
    policy, rewards = random_rows(rng, shape, spread), rng.random(shape)
    paid = (policy * rewards).sum(axis=2)[..., None]  # [M, S, 1]
    chains = (np.einsum("msa,msat->mst", policy, one) for one in (P, model))
    values = [np.linalg.solve(np.eye(num_states) - gamma * chain, paid) for chain in chains]
    errors = np.abs(values[0] - values[1]).max(axis=(1, 2))
    distances = [total_variation(P[m], model[m]) for m in range(num_worlds)]
    bounds = [(coupling_bound(d, 1.0, gamma), simulation_bound(d, 1.0, gamma)) for d in distances]
    return errors[:, None] / np.array(bounds)


def claim_bounds(extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    kinds = list(product((2, 4, 8), (0.5, 0.9, 0.99), (0.1, 1.0)))
    shares = np.concatenate([value_errors(extra.num_worlds, *kind, rng) for kind in kinds])
    for name, says, share in (
        ("coupling_bound", "no value of a policy in a wrong model misses by more than the middle of (4)", 0),
        ("simulation_bound", "nor by more than the simulation bound on the right of (4)", 1),
    ):
        log.claim(
            name,
            says,
            shares[:, share].max(),
            at_most=1.0,
            unit="largest error / bound",
            source="exact values of both; the proof in section 4",
            always=True,
        )
    met = []
    for chance, gamma in product((0.001, 0.01, 0.1, 1.0), (0.5, 0.9, 0.99)):
        worlds = (breaking_world(broken, 2.0, gamma) for broken in (0.0, chance))
        good, bad = (evaluate_exactly(world, np.ones((2, 1)))[0] for world in worlds)
        met.append((good - bad) / coupling_bound(chance, 2.0, gamma))
    log.claim(
        "bound_is_met",
        "in the world that may break the error is the middle of (4)",
        max(met, key=lambda share: abs(share - 1)),
        near=(1.0, 1e-9),
        unit="error / bound, the furthest",
        source="closed form",
        always=True,
    )


def some_worlds(num_worlds: int, gamma: float, rng: np.random.Generator) -> list[MDP]:
    """Worlds of 8 states and 3 actions in which a few outcomes share the chance; rewards are up to 1."""
    never = np.zeros(8, dtype=bool)
    return [
        MDP(random_rows(rng, (8, 3, 8), 0.3), rng.random((8, 3)), never, gamma) for _ in range(num_worlds)
    ]


def claim_counted(extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    """Models counted from m tries of each pair: the value's error, the loss of acting by them, the bound."""
    gamma, worst, means = 0.9, 0.0, []
    worlds = some_worlds(extra.num_counted, gamma, rng)  # the same for every m
    for tries in SAMPLES:
        rows = []
        for world in worlds:
            model = world._replace(P=rng.multinomial(tries, world.P) / tries)
            best, policy, _ = policy_iteration(world)
            error = np.abs(evaluate_exactly(model, policy) - best).max()
            believed = greedy_policy(q_from_v(model, policy_iteration(model)[0]))
            loss = (best - evaluate_exactly(world, believed)).max()
            bound = simulation_bound(total_variation(world.P, model.P), 1.0, gamma)
            worst = max(worst, loss / (2 * bound))
            rows.append((error, loss, bound))
        means.append(np.mean(rows, axis=0))
        log.write(tries, counted_error=means[-1][0], counted_loss=means[-1][1], counted_bound=means[-1][2])
    log.claim(
        "loss_bound",
        "acting by the best plan in a counted model never loses more than twice the bound",
        worst,
        at_most=1.0,
        unit="largest loss / bound",
        source="the bound once for the best policy, once for the planned one",
        always=True,
    )
    log.claim(
        "counted_slope",
        "a counted model's values err as one over the root of the number of tries",
        np.polyfit(np.log(SAMPLES[2:]), np.log([mean[0] for mean in means[2:]]), 1)[0],
        near=(-0.5, 0.1),
        unit="slope, log-log",
        source="central limit theorem",
        seeds="9/10",
    )


# Figures, from one run's metrics or several's


def draw_all(runs: list[dict], log: RunLog) -> None:
    draw_changes(runs, log)
    draw_plans(runs, log)
    draw_bound(runs, log)


def draw_changes(runs: list[dict], log: RunLog) -> None:
    figure, axes = plotting.new_figure(1, 2, width=7.0)
    worlds = (("shortcut", "A shortcut opens"), ("blocking", "The way is blocked"))
    for ax, (world, title) in zip(axes, worlds):
        for name, label, color in (("plain", "Dyna-Q", plotting.ORANGE), ("plus", "Dyna-Q+", plotting.BLUE)):
            rows = np.array([run[f"{world}_regret_{name}"] for run in runs])  # [runs, points, (step, regret)]
            plotting.seed_band(ax, rows[0, :, 0], rows[:, :, 1], label, color)
        ax.axvline(runs[0][f"{world}_changes"][0][0], label="the maze changes", **plotting.REFERENCE)
        ax.set(title=title, xlabel="environment steps", ylabel="regret, in goals", ylim=(0, None))
        ax.legend(loc="lower right")
    log.figure(figure, "changes")


def draw_plans(runs: list[dict], log: RunLog) -> None:
    """Left, whose path is the shortest; right, how many backups a plan takes."""
    figure, (paths, sweeps) = plotting.new_figure(1, 2)
    places = np.arange(len(lesson.PLANS))
    for offset, name, label, color in (
        (-0.2, "own_shortest", "on the path that they take", plotting.ORANGE),
        (0.2, "planned_shortest", "by solving all that they remember", plotting.BLUE),
    ):
        shares = 100 * np.array([run[name] for run in runs])[:, :, 1]  # [runs, n]
        paths.bar(places + offset, np.median(shares, axis=0), 0.36, color=color, label=label)
        spread = [
            np.median(shares, axis=0) - shares.min(axis=0),
            shares.max(axis=0) - np.median(shares, axis=0),
        ]
        paths.errorbar(
            places + offset, np.median(shares, axis=0), spread, fmt="none", ecolor="black", capsize=4
        )
    paths.set_xticks(places, [f"n = {n}" for n in lesson.PLANS])
    paths.set(
        title="Who finds the shortest path?",
        ylabel="agents that find it (%)",
        ylim=(0, 139),
        yticks=range(0, 101, 20),
    )
    paths.legend(loc="upper left", title=f"median and range of {len(runs)}")
    for name, label, color in (
        ("at_random", "pairs in random order", plotting.ORANGE),
        ("swept", "prioritised sweeping", plotting.BLUE),
    ):
        rows = np.array([run[name] for run in runs])  # [runs, mazes, (pairs, backups)]
        sweeps.plot(rows[0, :, 0], np.median(rows[:, :, 1], axis=0), "o-", color=color, label=label)
    sweeps.plot(rows[0, :, 0], rows[0, :, 0], label="one backup for each pair", **plotting.REFERENCE)
    sweeps.set(
        title="Backups until all is exact", xlabel="pairs of state and action", ylabel="backups in all"
    )
    sweeps.set(xscale="log", yscale="log")
    sweeps.set_xticks(rows[0, :, 0], [f"{pairs:,.0f}" for pairs in rows[0, :, 0]])
    sweeps.set_xticks([], minor=True)
    sweeps.legend()
    log.figure(figure, "plans")


def draw_bound(runs: list[dict], log: RunLog) -> None:
    figure, ax = plotting.new_figure(width=7.2)
    rows = np.array([run["counted_bound"] for run in runs])
    ax.plot(
        rows[0, :, 0], np.median(rows[:, :, 1], axis=0), label="bound (4) on the error", **plotting.REFERENCE
    )
    for name, label, color in (
        ("counted_error", "error of its values", plotting.ORANGE),
        ("counted_loss", "lost by acting on it", plotting.BLUE),
    ):
        rows = np.array([run[name] for run in runs])
        plotting.seed_band(ax, rows[0, :, 0], rows[:, :, 1], label, color)
    ax.set(xscale="log", yscale="log", xlabel="tries of each state and action", ylabel="discounted reward")
    ax.set_title("How wrong is a counted model?")
    ax.legend(loc="lower left")
    log.figure(figure, "bound")
