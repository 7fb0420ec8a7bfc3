"""E9's evidence: exact peers, rates, CFR+, self-play with PPO, two kinds of teams, and a film of one."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

from chapters.E_practice import E9_multi_agent as lesson
from chapters.E_practice.checks.E9_exercises import credit_gradient
from chapters.E_practice.evidence import E9_spread as team
from chapters.exact import kuhn
from chapters.utils import RunLog, in_range, plotting

CLIMBING = np.array([[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]])  # what both agents get
AGREEMENTS = (11.0, 7.0, 5.0)  # where neither gains by another action alone, and where they pass the time
TURNS = (np.array([True, False, False, True]), np.array([False, True, True, False]))  # whose places
SPREAD_LEARNERS = {"own": (False, False), "central": (True, False), "numbered": (False, True)}
"""Of each: whether its critic sees all three agents, and whether it is shown lists by number."""
SPREAD_EACH = 10  # updates whose episodes make one point of a curve
TEAMS = {
    "alone": "own gradients,\neither critic",
    "independent": "Q alone",
    "optimistic": "Q, optimistic",
    "joint": "Q of pairs",
}


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    pennies_steps: Annotated[int, in_range(10, 100_000)] = 1000
    """Steps of matching pennies."""
    plus_iterations: Annotated[int, in_range(20, 10**6)] = 2000
    """Iterations of CFR+: a fifth of the lesson's."""
    ppo_updates: Annotated[int, in_range(20, 10**6)] = 2000
    """Updates of self-play with PPO."""
    ppo_games: Annotated[int, in_range(10, 10**6)] = 256
    """Games of each update."""
    ppo_eta: Annotated[float, in_range(0.001, 10.0)] = 0.5
    """Step size of each of an update's epochs, on the mean over its games."""
    num_teams: Annotated[int, in_range(2, 100_000)] = 500
    """Teams of each kind."""
    climb_steps: Annotated[int, in_range(1, 100_000)] = 1000
    """Gradient steps of a team."""
    climb_eta: Annotated[float, in_range(0.001, 1.0)] = 0.1
    """Their step size."""
    climb_episodes: Annotated[int, in_range(1, 100_000)] = 1000
    """Episodes of a team that learns from samples."""
    spread_updates: Annotated[int, in_range(1, 10_000)] = 100
    """Updates of three agents that cover landmarks, of each of the three learners."""
    spread_worlds: Annotated[int, in_range(1, 10_000)] = 32
    """Worlds of each update, an episode of 25 steps in each."""
    spread_tests: Annotated[int, in_range(1, 100_000)] = 1000
    """Worlds in which a policy is judged: the standard error of a mean return is about 0.25."""


SMOKE = {
    "pennies_steps": 50,
    "plus_iterations": 20,
    "ppo_updates": 20,
    "ppo_games": 20,
    "num_teams": 10,
    "climb_steps": 50,
    "climb_episodes": 50,
    "spread_updates": 1,
    "spread_worlds": 2,
    "spread_tests": 20,
}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    claim_pennies(extra, log)
    claim_exact(cfg, log)
    claim_rates(cfg, extra, log)
    claim_ppo(cfg, extra, log)
    claim_credit(cfg, extra, log)
    claim_climbing(cfg, extra, log)
    claim_spread(cfg, extra, log)
    draw_others([log.metrics], log)
    draw_spread([log.metrics], log)
    if not log.smoke:
        film_spread(cfg, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    metrics = [run["metrics"] for run in runs]
    lesson.draw(metrics, log)
    draw_others(metrics, log)
    draw_spread(metrics, log)


# Matching pennies


def claim_pennies(extra: Config, log: RunLog) -> None:
    start, eta, pull, num_steps = (0.4, 0.1), 0.05, 0.2, extra.pennies_steps
    steps = np.arange(num_steps + 1)
    at_once, pulled = (lesson.orbit(start, num_steps, eta=eta, pull=one) for one in (0.0, pull))
    in_turns = lesson.orbit(start, num_steps, eta=eta, turns=True)
    factor = (1 + eta**2) / (1 + eta * pull) ** 2
    log.claim(
        "pennies_identities",
        "matching pennies: (2), what the magnet makes of it, and the average (3) are exact",
        max(
            np.abs((at_once**2).sum(axis=1) / (0.17 * (1 + eta**2) ** steps) - 1).max(),
            np.abs((pulled**2).sum(axis=1) / (0.17 * factor**steps) - 1).max(),
            abs((in_turns[-1, 0] - in_turns[0, 0]) / (eta * num_steps) - in_turns[:-1, 1].mean()),
        ),
        at_most=1e-9,
        unit="largest error",
        source="algebra",
        always=True,
    )


# Poker: exact peers


def claim_exact(cfg: lesson.Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 1))
    some = rng.random((10, 3, 4))
    gaps = [abs(lesson.nash_conv(one) - 2 * kuhn.exploitability(one)) for one in some]
    log.claim(
        "nash_conv_is_exact",
        "NashConv is twice the exploitability found by walking the tree, on ten random strategies",
        max(gaps),
        at_most=1e-12,
        unit="largest difference",
        source="chapters/exact/kuhn.py",
        always=True,
    )
    _, averages = lesson.self_play(
        lesson.regret_step,
        lesson.regret_matching,
        np.zeros((3, 4, 2)),
        lesson.Config(num_iterations=50),
    )
    log.claim(
        "regret_is_exact",
        "from nothing, CFR's average after 50 iterations is that of an implementation that walks the tree",
        np.abs(averages[-1] - kuhn.counterfactual_regret(50)).max(),
        at_most=1e-12,
        unit="largest difference",
        source="chapters/exact/kuhn.py",
        always=True,
    )
    shares = []
    for name in lesson.LEARNERS:
        for one in log.kept[name][1][-1]:
            shares.append(abs(kuhn.value(one, one) - kuhn.VALUE) / lesson.nash_conv(one))
    log.claim(
        "value_within",
        "no average strategy's own value misses -1/18 by more than its NashConv",
        max(shares),
        at_most=1.0,
        unit="largest error / NashConv",
        source="kuhn1950poker for the value; both best responders bound it",
        always=True,
    )


# Poker: rates, and CFR+


def play_plus(start: lesson.Moves, num_iterations: int) -> Float[np.ndarray, "*R 3 4"]:
    """CFR+'s average strategy: no regret is ever below 0, players take turns, late iterations count more."""
    z, strategy = start, lesson.regret_matching(start)
    total, reached = np.zeros_like(strategy), np.zeros_like(strategy)
    for t in range(1, num_iterations + 1):
        for places in TURNS:
            q = lesson.counterfactual_values(strategy)
            added = (z + lesson.advantages(strategy, q)).clip(min=0.0)
            z = np.where(places[:, None], added, z)
            strategy = lesson.regret_matching(z)
        reach = t * lesson.own_reach(strategy)
        total += reach * strategy
        reached += reach
    return np.divide(total, reached, out=np.full_like(total, 0.5), where=reached > 0)


def slope(rows: list[tuple[int, float]], start: int) -> float:
    """Slope of a metric against iterations on logarithmic axes, from an iteration on."""
    t, values = np.array([row for row in rows if row[0] >= start]).T
    return float(np.polyfit(np.log(t), np.log(values), 1)[0])


def claim_rates(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    early = cfg.num_iterations // 100 if cfg.num_iterations > 1000 else 10
    log.claim(
        "regret_slope",
        "the NashConv of CFR's average falls at least about as one over the root of the iterations",
        slope(log.metrics["regret_average"], early),
        at_most=-0.45,
        unit="slope, log-log, over the last two decades",
        source="zinkevich2007cfr: at most a constant times T^-1/2",
    )
    start = np.random.default_rng(cfg.seed).normal(size=(cfg.num_starts, 3, 4, 2))
    plus = np.median(lesson.nash_conv(play_plus(start, extra.plus_iterations)))
    log.write(extra.plus_iterations, plus_average=plus)
    log.claim(
        "plus_is_faster",
        "CFR+ loses no more after 2,000 iterations than CFR after 10,000",
        plus / log.last("regret_average"),
        at_most=1.0,
        unit="ratio of NashConvs",
        source="tammelin2014cfrplus: faster by far in practice",
    )
    log.claim(
        "gradient_average",
        "the policy gradient's average loses at most a quarter of what its strategies do",
        log.last("gradient_average") / np.median([value for _, value in log.metrics["gradient_last"]]),
        at_most=0.25,
        unit="ratio of NashConvs",
        source="section 1: averages converge where strategies circle",
    )


# Poker: self-play with PPO


def play_games(strategy: lesson.Strategy, num_games: int, rng: np.random.Generator) -> tuple:
    """(cards, places, bets, the mover's winnings) of every decision of so many games, [D] each."""
    deals = np.array(kuhn.DEALS)[rng.integers(6, size=num_games)]  # [games, 2]
    higher = np.sign(deals[:, 0] - deals[:, 1])
    luck = rng.random((3, num_games))
    opens = luck[0] < strategy[deals[:, 0], 0]
    second = np.where(opens, 2, 1)
    bets = luck[1] < strategy[deals[:, 1], second]
    asked_again = ~opens & bets
    calls = luck[2] < strategy[deals[:, 0], 3]
    shown = np.where(opens, np.where(bets, 2 * higher, 1), np.where(bets, 0, higher))
    first = np.where(asked_again, np.where(calls, 2 * higher, -1), shown)  # the first player's winnings
    again = np.flatnonzero(asked_again)
    cards = np.concatenate([deals[:, 0], deals[:, 1], deals[again, 0]])
    places = np.concatenate([np.zeros(num_games, dtype=int), second, np.full(len(again), 3)])
    return (
        cards,
        places,
        np.concatenate([opens, bets, calls[again]]),
        np.concatenate([first, -first, first[again]]),
    )


def ppo_update(
    logits: lesson.Strategy, games: tuple, critic: lesson.Strategy, eta: float, clip_eps=0.2, num_epochs=4
) -> lesson.Strategy:
    """C3's clipped surrogate for a table: logits of betting after some epochs on the same games."""
    cards, places, bets, winnings = games
    advantages = winnings - critic[cards, places]
    old = 1 / (1 + np.exp(-logits[cards, places]))
    old_chance = np.where(bets, old, 1 - old)
    for _ in range(num_epochs):
        now = 1 / (1 + np.exp(-logits[cards, places]))
        ratio = np.where(bets, now, 1 - now) / old_chance
        kept = np.where(
            advantages > 0, ratio < 1 + clip_eps, ratio > 1 - clip_eps
        )  # else the minimum is flat
        gradient = kept * ratio * advantages * (bets - now)
        step = np.bincount(cards * 4 + places, gradient, 12).reshape(3, 4)
        logits = logits + eta * step * 12 / len(cards)
    return logits


def play_ppo(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    """Self-play from sampled games; logs the exact NashConv of the last and of the average strategy."""
    rng = np.random.default_rng((cfg.seed, 2))
    logits, critic = rng.normal(size=(3, 4)), np.zeros((3, 4))
    total, reached = np.zeros((3, 4)), np.zeros((3, 4))
    looks = set(lesson.points(extra.ppo_updates))
    for update in range(1, extra.ppo_updates + 1):
        strategy = 1 / (1 + np.exp(-logits))
        reach = lesson.own_reach(strategy)
        total += reach * strategy
        reached += reach
        if update in looks:
            log.write(update, ppo_last=float(lesson.nash_conv(strategy)))
            log.write(update, ppo_average=float(lesson.nash_conv(total / reached)))
        games = play_games(strategy, extra.ppo_games, rng)
        where = games[0] * 4 + games[1]
        counts = np.bincount(where, minlength=12).reshape(3, 4)
        sums = np.bincount(where, games[3], 12).reshape(3, 4)
        logits = ppo_update(logits, games, critic, extra.ppo_eta)
        critic += (
            0.1 * (counts > 0) * (sums / counts.clip(min=1) - critic)
        )  # a running mean, for the next games


def claim_ppo(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    play_ppo(cfg, extra, log)
    late = [value for update, value in log.metrics["ppo_last"] if update >= extra.ppo_updates / 10]
    log.claim(
        "ppo_circles",
        "self-play with PPO: the last strategies lose more than twice what the game is worth",
        np.median(late),
        at_least=-2 * kuhn.VALUE,
        unit="NashConv, coins a game, median over the last nine tenths",
        source="exact best responses; the game is worth 1/18",
    )
    log.claim(
        "ppo_average",
        "its average strategy loses less than half of what its last strategies do",
        log.last("ppo_average") / np.median(late),
        at_most=0.5,
        unit="ratio of NashConvs",
        source="section 1: averages converge where strategies circle",
    )


# The climbing game


def own_credit(first: Float[np.ndarray, " A"], second: Float[np.ndarray, " B"]) -> Float[np.ndarray, "A B"]:
    """What the first agent learns from each pair of actions if it only knows its average reward."""
    return CLIMBING - first @ CLIMBING @ second


def central_credit(
    first: Float[np.ndarray, " A"], second: Float[np.ndarray, " B"]
) -> Float[np.ndarray, "A B"]:
    """The same with a critic that knows what the second agent did."""
    return CLIMBING - first @ CLIMBING


def claim_credit(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 3))
    gaps, ratios = [], []
    for _ in range(extra.num_teams):
        team = rng.dirichlet(np.ones(3), 2)
        alone, central = (credit_gradient(credit(*team), *team) for credit in (own_credit, central_credit))
        gaps.append(np.abs(alone[0] - central[0]).max())
        ratios.append(central[1] / alone[1])
    log.write(0, quieter=np.mean(np.array(ratios) < 1), loudest=max(ratios))
    log.claim(
        "same_gradient",
        "a central critic's mean gradient is that of an agent which knows its own average only",
        max(gaps),
        at_most=1e-12,
        unit="largest difference",
        source="C0: a baseline that does not depend on the action adds 0 (lyu2021contrasting)",
        always=True,
    )


def climb(starts: list[Float[np.ndarray, "R A"]], eta: float, num_steps: int) -> Float[np.ndarray, " R"]:
    """Mean reward of each team in the end, by exact natural gradients: (8) without pull.

    Two starts: two agents, each with its own policy [R, 3]. One start [R, 9]: a policy that chooses jointly.
    """
    logits = [np.log(start) for start in starts]
    for _ in range(num_steps):
        policies = [np.exp(z - z.max(axis=1, keepdims=True)) for z in logits]
        policies = [p / p.sum(axis=1, keepdims=True) for p in policies]
        if len(policies) == 2:
            worth = [policies[1] @ CLIMBING.T, policies[0] @ CLIMBING]
        else:
            worth = [np.broadcast_to(CLIMBING.ravel(), policies[0].shape)]
        logits = [z + eta * w for z, w in zip(logits, worth)]
    return (policies[0] * worth[0]).sum(axis=1)


def learn_from_samples(kind: str, num_teams: int, num_episodes: int, rng: np.random.Generator) -> np.ndarray:
    """Reward [R] of each team's greedy actions in the end; each agent tries anything three times in ten.

    kind: "independent", each agent averages what its own action brought; "optimistic", it keeps the best;
    "joint", both keep the average of each pair of actions.
    """
    rows = np.arange(num_teams)
    q = 0.01 * rng.standard_normal((2, num_teams, 3))  # ties are broken at random
    pairs = 0.01 * rng.standard_normal((num_teams, 9))
    seen, pairs_seen = np.zeros_like(q), np.zeros_like(pairs)
    for _ in range(num_episodes):
        best = (
            np.array(np.unravel_index(pairs.argmax(axis=1), (3, 3))) if kind == "joint" else q.argmax(axis=2)
        )
        tries = rng.random((2, num_teams)) < 0.3
        actions = np.where(tries, rng.integers(3, size=(2, num_teams)), best)
        rewards = CLIMBING[actions[0], actions[1]]
        where = rows, 3 * actions[0] + actions[1]
        pairs_seen[where] += 1
        pairs[where] += (rewards - pairs[where]) / pairs_seen[where]
        for agent in range(2):
            where = agent, rows, actions[agent]
            seen[where] += 1
            averaged = q[where] + (rewards - q[where]) / seen[where]
            q[where] = np.maximum(q[where], rewards) if kind == "optimistic" else averaged
    best = np.array(np.unravel_index(pairs.argmax(axis=1), (3, 3))) if kind == "joint" else q.argmax(axis=2)
    return CLIMBING[best[0], best[1]]


def claim_climbing(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 4))
    starts = [rng.dirichlet(np.ones(3), extra.num_teams) for _ in range(2)]
    pairs = (starts[0][:, :, None] * starts[1][:, None, :]).reshape(-1, 9)
    ends = {"alone": climb(starts, extra.climb_eta, extra.climb_steps)}
    jointly = climb([pairs], extra.climb_eta, extra.climb_steps)
    for kind in ("independent", "optimistic", "joint"):
        ends[kind] = learn_from_samples(kind, extra.num_teams, extra.climb_episodes, rng)
    for kind, rewards in ends.items():
        for reward in AGREEMENTS:
            log.write(0, **{f"{kind}_{reward:.0f}": np.mean(np.abs(rewards - reward) < 0.5)})
    log.claim(
        "jointly_best",
        "one policy over pairs of actions finds 11 from every start",
        np.mean(np.abs(jointly - 11) < 0.5),
        at_least=1.0,
        unit="share of teams",
        source="the odds of the best pair grow by exp(4 eta) a step or more",
    )
    log.claim(
        "alone_misses",
        "agents that climb their own gradients miss 11 from more than half of all starts, with either critic",
        log.last("alone_11"),
        at_most=0.5,
        unit="share of teams",
        source="claus1998dynamics: independent learners hardly ever find it",
    )
    log.claim(
        "optimists_find_it",
        "agents that remember the best of each action find 11 nearly always",
        log.last("optimistic_11"),
        at_least=0.95,
        unit="share of teams",
        source="lauer2000distributed: always, where nothing is random and all is tried",
    )


# Three agents and three landmarks


def claim_spread(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 6))
    tests = (extra.spread_tests, cfg.seed + 10**6)  # worlds that nobody trained in
    fixed = {"random": team.at_random(rng), "nearest": team.to_nearest, "assigned": team.assigned()}
    earned = {name: team.mean_return(act, *tests) for name, act in fixed.items()}
    for name, (central, by_number) in SPREAD_LEARNERS.items():
        actor, returns = team.train(
            central, extra.spread_updates, extra.spread_worlds, cfg.seed, by_number=by_number
        )
        for update in range(0, len(returns), SPREAD_EACH):
            some = returns[update : update + SPREAD_EACH]
            log.write(update + len(some), **{f"spread_{name}": np.mean(some)})
        earned[name] = team.mean_return(team.sampled(actor, rng, by_number=by_number), *tests)
        log.keep(**{f"spread_{name}": actor})
    for name, value in earned.items():
        log.write(extra.spread_updates, **{f"return_{name}": value})
    gap = earned["assigned"] - earned["random"]
    log.claim(
        "assignment_is_ahead",
        "one landmark for each by the least way in all earns more than each going to its nearest",
        earned["assigned"] - earned["nearest"],
        at_least=0.0,
        unit="return of an agent",
        source="two that go to the same landmark leave another bare, and collide",
    )
    log.claim(
        "ahead_of_nearest",
        "three agents that learn earn more than each going to its nearest, with the worse of the two critics",
        min(earned["own"], earned["central"]) - earned["nearest"],
        at_least=0.0,
        unit="return of an agent",
        source="the same worlds, played by that rule, which earns more than random actions",
    )
    log.claim(
        "nearest_first",
        "shown landmarks and others nearest first they earn more than shown them by number",
        earned["own"] - earned["numbered"],
        at_least=0.0,
        unit="return of an agent, critic of one agent",
        source="a list of three and one of two have 12 orders, and all mean the same",
    )
    log.claim(
        "critics_alike",
        "the critics' ends differ by less than a tenth of what lies between random and assignment",
        abs(earned["central"] - earned["own"]) / gap,
        at_most=0.1,
        unit="share of that distance",
        source="the same mean gradient; lyu2021contrasting find no critic ahead in general",
    )


# Figures


def draw_others(runs: list[dict], log: RunLog) -> None:
    """Left, orbits of matching pennies; middle, self-play with PPO; right, where teams end."""
    figure, (coins, poker, teams) = plotting.new_figure(1, 3, width=5.0, height=4.8)
    for label, color, how in (
        ("at once", plotting.ORANGE, {}),
        ("in turns", plotting.BLUE, {"turns": True}),
        ("with a magnet", plotting.GREEN, {"pull": 0.2}),
    ):
        path = lesson.orbit((0.4, 0.0), 600, eta=0.05, **how)
        coins.plot(*path.T, color=color, label=label, linewidth=1.2)
    coins.plot(0, 0, "k+", markersize=12, label="equilibrium")
    coins.set(
        xlabel="the first's leaning to heads, x",
        ylabel="the second's, y",
        title="Matching pennies",
        aspect="equal",
    )
    coins.set(xlim=(-1, 1), ylim=(-1, 1.5), yticks=(-1, -0.5, 0, 0.5, 1))
    coins.legend(ncols=2, loc="upper center", fontsize=10)
    for name, label, color in (
        ("ppo_last", "last", plotting.ORANGE),
        ("ppo_average", "average", plotting.PURPLE),
    ):
        rows = np.array([run[name] for run in runs])  # [runs, points, (update, NashConv)]
        plotting.seed_band(poker, rows[0, :, 0], rows[:, :, 1], label, color)
    poker.axhline(-2 * kuhn.VALUE, label="twice the game's worth", **plotting.REFERENCE)
    poker.set(xscale="log", yscale="log", xlabel="update", ylabel="NashConv (coins a game)")
    poker.set_title("Kuhn poker: PPO in self-play")
    poker.set_yticks((0.03, 0.1, 0.3), ("0.03", "0.1", "0.3"))
    poker.set_yticks([], minor=True)
    poker.legend(loc="lower left", fontsize=10)
    left = np.zeros(len(TEAMS))
    for reward, color in zip(AGREEMENTS, (plotting.GREEN, plotting.BLUE, plotting.ORANGE)):
        shares = 100 * np.array(
            [np.median([run[f"{kind}_{reward:.0f}"][0][1] for run in runs]) for kind in TEAMS]
        )
        teams.barh(list(TEAMS.values()), shares, left=left, color=color, label=f"{reward:.0f}")
        left += shares
    teams.invert_yaxis()
    teams.grid(axis="y", visible=False)
    teams.set(xlabel="teams (%), median of seeds", xlim=(0, 100), title="Climbing game: the end")
    teams.legend(title="reward", loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, fontsize=10)
    log.figure(figure, "others")


def draw_spread(runs: list[dict], log: RunLog) -> None:
    """Return of an agent against updates, with either critic and by number, beside teams without learning."""
    figure, ax = plotting.new_figure(width=7.6, height=5.0)
    for name, label, color in (
        ("own", "critic sees one agent", plotting.ORANGE),
        ("central", "critic sees all three", plotting.BLUE),
        ("numbered", "sees one, lists by number", plotting.PURPLE),
    ):
        rows = np.array([run[f"spread_{name}"] for run in runs])  # [runs, updates, (update, return)]
        plotting.seed_band(ax, rows[0, :, 0], rows[:, :, 1], label, color)
    for name, label, style in (
        ("assigned", "a landmark for each", "--"),
        ("nearest", "each to its nearest", "-."),
        ("random", "at random", ":"),
    ):
        level = np.median([run[f"return_{name}"][0][1] for run in runs])
        ax.axhline(level, label=label, **{**plotting.REFERENCE, "linestyle": style})
    ax.set(xlabel="update (32 episodes each)", ylabel="return of an agent, an episode")
    ax.set(ylim=(-30, 3), title="Three agents cover three landmarks")
    ax.legend(ncols=2, loc="upper left", fontsize=9)
    log.figure(figure, "spread")


def film_spread(cfg: lesson.Config, log: RunLog) -> None:
    """Three agents and three landmarks before and after training, in worlds that nobody trained in."""
    untrained, _ = team.train(True, 0, 1, cfg.seed)
    actors = {"before": untrained, "after": log.kept["spread_central"]}
    rng = np.random.default_rng((cfg.seed, 7))
    acts = {name: team.sampled(actor, rng) for name, actor in actors.items()}
    log.film(team.film_frames(acts, cfg.seed + 10**6), fps=8)
