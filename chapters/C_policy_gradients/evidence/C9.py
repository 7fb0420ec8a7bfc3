"""C9's evidence: formula, simulator and interval against exact numbers, other critics, and other markets.

What quotes are worth in a market that is not the one they were found in is exact here: dynamic programming
evaluates the quotes of one market in another.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import numpy as np
from jaxtyping import Float

from chapters.C_policy_gradients import C9_market_making as lesson
from chapters.C_policy_gradients.checks.C9 import EDITS
from chapters.envs.market import draw_sessions, play, price_moves
from chapters.exact.market import (
    ASK,
    BID,
    Market,
    best_constant,
    constant,
    hjb_values,
    optimum,
    utility,
)
from chapters.utils import RunLog, in_range, plotting
from chapters.utils.edits import edited

ABLATIONS = {"to_the_end": "returns to the end", "blind_critic": "critic blind to inventory"}
FACTORS = np.linspace(0.5, 2.0, 13)  # believed number over the market's
NUM_DRAWN = 2000  # sessions behind the bands of a figure
TOLLS = np.linspace(0.0, 1.0, 11)  # mean loss to informed traders for each fill, times kappa


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_checked: Annotated[int, in_range(10, 200_000)] = 20_000
    """Sessions in which the simulator is held against dynamic programming."""


SMOKE = {"num_checked": 1000}


@cache
def best_quotes(market: Market) -> tuple[float, lesson.Depths]:
    """(utility, depths) of the best quotes."""
    values, depths = optimum(market)
    return float(values[0, market.max_inventory]), depths


def riskless(market: Market) -> Market:
    """The same without penalties, and with a limit that no session can pass."""
    return market._replace(running_penalty=0.0, final_penalty=0.0, max_inventory=market.num_steps)


def with_toll(market: Market, cost: float) -> Market:
    """The same with informed traders, to whom a fill loses `cost` cents on average."""
    return market._replace(adverse=cost / (1.0 - market.arrival_rate * market.dt))


def shares(quotes: list, markets: list[Market]) -> Float[np.ndarray, " K"]:
    """What quotes earn of the best that their market allows."""
    return np.array(
        [utility(market, depths) / best_quotes(market)[0] for depths, market in zip(quotes, markets)]
    )


def believing(market: Market, name: str, factors: np.ndarray) -> Float[np.ndarray, " K"]:
    """The part left to the best quotes of a market in which one number is `factors` times what it is."""
    models = [market._replace(**{name: factor * getattr(market, name)}) for factor in factors]
    return shares([best_quotes(model)[1] for model in models], [market] * len(factors))


def claim_formula(market: Market, log: RunLog) -> None:
    continuous = lesson.closed_form_values(market)
    log.claim(
        "closed_form_gap",
        "the matrix exponential solves the equation in continuous time, as integrating it shows",
        np.abs(continuous - hjb_values(market)).max(),
        at_most=1e-6,
        unit="largest difference, cents",
        source="eq. (3), by an integrator of differential equations",
        always=True,
    )
    numbers = np.array([50, 100, 200, 400])
    finer = [best_quotes(market._replace(num_steps=int(number)))[0] for number in numbers]
    gaps = np.abs(np.array(finer) - continuous[0, market.max_inventory])
    log.claim(
        "continuous_limit",
        "with shorter steps the optimum of dynamic programming becomes the formula's value",
        np.polyfit(np.log(1 / numbers), np.log(gaps), 1)[0],
        near=(1.0, 0.1),
        unit="slope of log error against log step",
        source="an equation in time, solved in steps, errs in proportion to the step",
        always=True,
    )
    log.claim(
        "constant_share",
        "the best depth that knows neither time nor inventory gives away a seventh",
        best_constant(market)[1] / best_quotes(market)[0],
        near=(0.8508, 0.001),
        unit="of the optimum's utility",
        source="an earlier computation on a grid, 7.571 of 8.899",
        always=True,
    )


def errors_off(market: Market, num_sessions: int, rng: np.random.Generator) -> float:
    """How far simulated utility of the best quotes is from the exact one, in standard errors."""
    exact, depths = best_quotes(market)
    paid = play(market, depths, draw_sessions(market, num_sessions, rng)).rewards.sum(axis=0)
    off = abs(paid.mean() - exact)
    return float(off / (paid.std(ddof=1) / np.sqrt(num_sessions)))


def claim_simulator(market: Market, cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 1))
    for name, world in (("", market), ("_informed", with_toll(market, 0.2))):
        log.claim(
            f"simulator_error{name}",
            "simulated sessions average to what dynamic programming says"
            + (", also where buyers and sellers move the price" if name else ""),
            errors_off(world, extra.num_checked, rng),
            at_most=4.5,
            unit="standard errors",
            source="exact dynamic programming",
            always=True,
        )


def claim_interval(market: Market, log: RunLog) -> None:
    ours, oracle = log.kept["ours"], log.kept["oracle"]
    share, half = lesson.paired_share(ours, oracle)
    exact = utility(market, log.kept["learned"]) / best_quotes(market)[0]
    log.claim(
        "interval_error",
        "the part earned, measured with common random numbers, is the exact one",
        abs(share - exact) / (half / 1.96),
        at_most=4.5,
        unit="standard errors",
        source="exact dynamic programming",
        always=True,
    )
    apart = np.hypot(ours.std(ddof=1), share * oracle.std(ddof=1))
    log.claim(
        "common_numbers_variance",
        "meeting the same sessions takes nine tenths of the variance out of the comparison",
        ((ours - share * oracle).std(ddof=1) / apart) ** 2,
        at_most=0.1,
        unit="of the variance with different sessions",
        source="two good quoters share the luck of a session",
        seeds="9/10",
    )


def claim_critics(market: Market, cfg: lesson.Config, log: RunLog) -> None:
    best, flat = best_quotes(market)[0], best_constant(market)[1]
    lost = {"ours": best - utility(market, log.kept["learned"])}
    for name in ABLATIONS:
        depths = edited(lesson, EDITS[name]).train(cfg, log, market, name=f"share_{name}")
        lost[name] = best - utility(market, depths)
    log.claim(
        "critic_pays",
        "advantages (9) lead to quotes that lose less utility than those by returns to the end do",
        lost["ours"] / lost["to_the_end"],
        at_most=1.0,
        unit="ratio of the utilities lost",
        source="equal batches, equal updates",
        seeds="9/10",
    )
    log.claim(
        "blind_critic_gap",
        "with a critic that does not see the inventory most of the gap to the optimum stays open",
        1 - lost["blind_critic"] / (best - flat),
        at_most=0.5,
        unit="of the gap between the best constant depth and the optimum",
        source="eq. (4): without later values every depth is 1/kappa, worse than the best constant",
        seeds="9/10",
    )


def claim_riskless(market: Market, log: RunLog) -> None:
    """Where inventory costs nothing, what a wrong belief costs has a formula."""
    free = riskless(market)
    x = 1 / FACTORS
    off = np.abs(believing(free, "depth_decay", FACTORS) - x * np.exp(1 - x)).max()
    naive = best_quotes(free)[1]
    tolled = shares([naive] * len(TOLLS), [with_toll(free, c / free.depth_decay) for c in TOLLS])
    off_toll = np.abs(tolled - (1 - TOLLS) * np.exp(TOLLS)).max()
    for name, statement, value in (
        ("riskless_decay", "quotes for a wrong kappa' earn x exp(1 - x), x = kappa / kappa',", off),
        ("riskless_toll", "quotes at 1/kappa, each fill losing c, earn (1 - kappa c) exp(kappa c)", off_toll),
    ):
        log.claim(
            name,
            f"where inventory is free, {statement} of the optimum's utility",
            value,
            at_most=1e-9,
            unit="largest difference",
            source="eq. (4) in eq. (1), against dynamic programming",
            always=True,
        )


def claim_misfit(market: Market, log: RunLog) -> dict[str, np.ndarray]:
    """What a wrong belief costs in the lesson's market; returns the curves."""
    curves = {name: believing(market, name, FACTORS) for name in ("depth_decay", "arrival_rate")}
    learned, naive = log.kept["learned"], best_quotes(market)[1]
    others = [market._replace(depth_decay=market.depth_decay / factor) for factor in FACTORS]
    curves["elsewhere"] = shares([naive] * len(others), others)
    curves["learned"] = shares([learned] * len(others), others)
    tolled = [with_toll(market, cost / market.depth_decay) for cost in TOLLS]
    curves["naive"] = np.array([utility(world, naive) for world in tolled])
    curves["naive_learned"] = np.array([utility(world, learned) for world in tolled])
    curves["informed"] = np.array([best_quotes(world)[0] for world in tolled])
    lost = {name: 1 - curves[name].min() for name in ("depth_decay", "arrival_rate")}
    log.write(0, lost_by_decay=lost["depth_decay"], lost_by_rate=lost["arrival_rate"])
    log.claim(
        "rate_against_decay",
        "off by a factor of up to two, a wrong lambda costs less than a tenth of what a wrong kappa costs",
        lost["arrival_rate"] / lost["depth_decay"],
        at_most=0.1,
        unit="ratio of the largest losses",
        source="eq. (4): lambda moves the depths through later values only",
        always=True,
    )
    log.claim(
        "informed_break_even",
        "where each fill loses 1/kappa to informed traders, the quotes of a market without them earn nothing",
        curves["naive"][-1] / curves["informed"][-1],
        at_most=0.0,
        unit="of that market's optimum",
        source="exact dynamic programming; (1 - kappa c) exp(kappa c) is 0 there",
        always=True,
    )
    # reported and not claimed: how near the learned quotes stay to the best ones is a matter of training
    log.write(0, learned_elsewhere=np.abs(curves["learned"] - curves["elsewhere"]).max())
    return curves


def draw_lesson(runs: list[dict], market: Market, log: RunLog) -> None:
    """Quotes halfway through a session; the utility lost by the lesson's learner and by two others."""
    figure, (left, right) = plotting.new_figure(1, 2, width=6.2, height=4.6)
    q, (best, depths) = market.inventories, best_quotes(market)
    sides = ("ask", slice(1, None), plotting.RED), ("bid", slice(None, -1), plotting.BLUE)
    for side, (name, taken, color) in enumerate(sides):
        quotes = np.maximum([run[f"learned_{name}"] for run in runs], 0.0)[:, taken, 1]
        left.plot(q[taken], quotes.T, "o", color=color, markersize=4, alpha=0.6)
        left.plot([], [], "o", color=color, markersize=4, label=f"learned {name}, seeds: {len(runs)}")
        left.plot(q[taken], depths[market.num_steps // 2, taken, side], **plotting.REFERENCE)
    left.plot([], [], label="optimal", **plotting.REFERENCE)
    left.axhline(1 / market.depth_decay, color="grey", linestyle=":", label="1/κ, were inventory free")
    left.set(xlabel="inventory (shares)", ylabel="depth (cents)", title="Quotes after half an hour")
    left.set(ylim=(-0.05, 2.7))
    left.legend(fontsize=10, loc="upper center", ncols=2)
    rows = {
        "share": ("the lesson", plotting.PURPLE),
        "share_to_the_end": ("returns to the end", plotting.ORANGE),
    }
    rows["share_blind_critic"] = ("critic blind to inventory", plotting.GREEN)
    for key, (label, color) in rows.items():
        curves = np.array([run[key] for run in runs])  # [seeds, updates, (sessions, share)]
        lost = np.clip(100 * (1 - curves[:, :, 1]), 1e-2, None)
        plotting.seed_band(right, curves[0, :, 0] / 1000, lost, label, color)
    right.axhline(
        100 * (1 - best_constant(market)[1] / best), label="best constant depth", **plotting.REFERENCE
    )
    right.set(yscale="log", ylim=(0.03, 300), xlabel="sessions learned from (thousands)")
    right.set(ylabel="utility lost (% of optimum)", title="What is lost against the optimum")
    right.legend(fontsize=9, loc="upper right")
    log.figure(figure)


def draw_misfit(curves: dict[str, np.ndarray], market: Market, log: RunLog) -> None:
    """Loss by wrong beliefs: the decay, the rate, and traders who know more."""
    figure, (left, middle, right) = plotting.new_figure(1, 3, width=4.9)
    x = 1 / FACTORS
    left.plot(FACTORS, 100 * curves["depth_decay"], color=plotting.BLUE, label="best quotes for κ'")
    left.plot(FACTORS, 100 * x * np.exp(1 - x), label="x exp(1 − x), x = κ/κ'", **plotting.REFERENCE)
    left.set(xlabel="believed κ' / the market's κ", title="Who pays how much")
    middle.plot(FACTORS, 100 * curves["arrival_rate"], color=plotting.GREEN, label="best quotes for λ'")
    middle.axhline(100, label="optimum", **plotting.REFERENCE)
    middle.set(xlabel="believed λ' / the market's λ", title="How many come")
    for ax in (left, middle):
        ax.set(ylim=(60, 104), ylabel="utility (% of optimum)")
    cost = TOLLS / market.depth_decay
    right.plot(cost, curves["informed"], label="optimum that knows", **plotting.REFERENCE)
    right.plot(cost, curves["naive"], color=plotting.RED, label="optimum of the simulator")
    right.plot(cost, curves["naive_learned"], "o", color=plotting.PURPLE, label="learned in the simulator")
    right.axhline(curves["naive"][0], color="grey", linestyle=":", label="what the simulator says")
    right.set(
        xlabel="loss to the informed per fill (cents)", ylabel="utility (cents)", title="Who knows more"
    )
    right.set(ylim=(-1, 14))
    for ax in (left, middle, right):
        ax.legend(fontsize=10, loc="lower right" if ax is not right else "upper right")
    log.figure(figure, "misfit")


def draw_session(market: Market, learned: np.ndarray, log: RunLog) -> None:
    """One session acted out; then inventories, learned and at the best constant depth, of many sessions."""
    sessions = draw_sessions(market, NUM_DRAWN, np.random.default_rng(2))
    minutes = 60 * market.dt * np.arange(market.num_steps + 1)
    played = play(market, learned, sessions)
    price = np.append(0.0, price_moves(market, sessions)[:, 0].cumsum())
    figure, (top, bottom) = plotting.new_figure(2, 1, width=8.0, height=3.2)
    top.step(minutes, price, where="post", color="black", linewidth=1.2, label="mid price")
    marks = (ASK, 1, plotting.RED, "ask", "v"), (BID, -1, plotting.BLUE, "bid", "^")
    for side, sign, color, label, marker in marks:
        quote = price[:-1] + sign * np.maximum(played.depths[:, 0, side], 0.0)
        filled = played.fills[:, 0, side]
        top.step(minutes[:-1], quote, where="post", color=color, linewidth=1.2, label=label)
        top.plot(minutes[:-1][filled], quote[filled], marker, color=color, label=f"{label} filled")
    ask, bid = np.maximum(played.depths[:, 0], 0.0).T
    between = price[:-1] + (ask - bid) / 2
    top.step(minutes[:-1], between, ":", where="post", color="grey", label="halfway")
    low, high = top.get_ylim()
    top.set(
        ylabel="price (cents)",
        title="One session of the learned quotes",
        ylim=(low, high + 0.35 * (high - low)),
    )
    top.legend(fontsize=10, ncols=6, loc="upper center")
    flat = play(market, constant(market, best_constant(market)[0]), sessions)
    for name, one, color in (
        ("best constant depth", flat, plotting.ORANGE),
        ("learned", played, plotting.PURPLE),
    ):
        ends = np.percentile(one.inventory, (5, 95), axis=1)
        bottom.fill_between(
            minutes, *ends, step="post", color=color, alpha=0.35, label=f"{name}: 90 % of sessions"
        )
    bottom.step(
        minutes, played.inventory[:, 0], where="post", color=plotting.PURPLE, label="learned: this session"
    )
    bottom.axhline(0, **plotting.REFERENCE)
    bottom.set(xlabel="minutes", ylabel="inventory (shares)", ylim=(-9, 12))
    bottom.legend(fontsize=10, loc="upper left", ncols=2)
    log.figure(figure, "session")


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    market = Market(depth_decay=cfg.depth_decay, running_penalty=cfg.running_penalty)
    learned = log.kept["learned"]
    for number, (ask, bid) in enumerate(learned[market.num_steps // 2]):
        log.write(number, learned_ask=ask, learned_bid=bid)  # step: the inventory's number
    claim_formula(market, log)
    claim_simulator(market, cfg, extra, log)
    claim_interval(market, log)
    claim_critics(market, cfg, log)
    claim_riskless(market, log)
    curves = claim_misfit(market, log)
    draw_lesson([log.metrics], market, log)
    draw_misfit(curves, market, log)
    draw_session(market, learned, log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The learners over all recorded seeds."""
    draw_lesson([run["metrics"] for run in runs], Market(), log)
