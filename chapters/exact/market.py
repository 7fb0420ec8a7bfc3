"""A market maker's quotes: exact values in discrete time, and the continuous-time equation by integration.

The model is that of `avellaneda2008market` and `cartea2015algorithmic`: orders come at a constant rate, and
reach a quote at some distance from the mid price (its depth) with a probability that falls exponentially.
Inventory is penalised while it is held and at the end. The state is time and inventory; the price is a
martingale whatever is quoted, and so drops out of every mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

ASK, BID = 0, 1
"""The last axis of depths: where we sell, where we buy."""
MAX_SWEEPS = 1000
"""Alternations of the best ask and the best bid before the search for both gives up."""


class Market(NamedTuple):
    """What the world is like; money in cents, time in hours."""

    arrival_rate: float = 20.0
    """Buyers that come in an hour, and sellers that do; at most one of each in a step."""
    depth_decay: float = 1.5
    """Of those who come, exp(-depth_decay * depth) reach a quote at that depth."""
    running_penalty: float = 0.2
    """What holding q shares for an hour counts against us, over q^2."""
    final_penalty: float = 0.1
    """What holding q shares at the end counts against us, over q^2."""
    volatility: float = 1.0
    """Standard deviation of the price's own change within an hour."""
    adverse: float = 0.0
    """How far each buyer moves the price up and each seller down, whether or not they trade with us."""
    max_inventory: int = 8
    """Shares held, or owed, at most: at the limit the side that would pass it takes no order."""
    num_steps: int = 50
    """Steps of a session."""
    duration: float = 1.0
    """Hours of a session."""

    @property
    def dt(self) -> float:
        """Hours of a step."""
        return self.duration / self.num_steps

    @property
    def inventories(self) -> Int[np.ndarray, " S"]:
        """Every inventory, from the largest debt up: number s stands for s - max_inventory shares."""
        return np.arange(-self.max_inventory, self.max_inventory + 1)


def fill_chances(market: Market, depths: Float[np.ndarray, "S 2"]) -> Float[np.ndarray, "S 2"]:
    """The chance that a step fills each quote: 0 where it would pass the limit. Depths below 0 count as 0."""
    chances = market.arrival_rate * market.dt * np.exp(-market.depth_decay * np.maximum(depths, 0.0))
    chances[0, ASK] = chances[-1, BID] = 0.0
    return chances


def toll(market: Market) -> float:
    """What a fill costs on average, because the price then moves against the share that was traded.

    A buyer lifts the price by `adverse`; a seller who comes in the same step takes that back.
    """
    return market.adverse * (1.0 - market.arrival_rate * market.dt)


def neighbours(later: Float[np.ndarray, " S"]) -> Float[np.ndarray, "S 2"]:
    """The value after a sale and after a purchase; 0 where none is possible."""
    return np.stack([np.append(0.0, later[:-1]), np.append(later[1:], 0.0)], axis=1)


def step_values(
    market: Market, depths: Float[np.ndarray, "S 2"], later: Float[np.ndarray, " S"]
) -> Float[np.ndarray, " S"]:
    """Mean reward of a step with these quotes, and what follows it, from each inventory."""
    chances = fill_chances(market, depths)
    sold, bought = chances.T
    after = neighbours(later)
    unchanged = sold * bought + (1 - sold) * (1 - bought)
    earned = (chances * (np.maximum(depths, 0.0) - toll(market))).sum(axis=1)
    held = market.running_penalty * market.dt * market.inventories**2
    moved = sold * (1 - bought) * after[:, ASK] + bought * (1 - sold) * after[:, BID]
    return earned - held + moved + unchanged * later


def final_values(market: Market) -> Float[np.ndarray, " S"]:
    """What is left to come when the session is over."""
    return -market.final_penalty * market.inventories.astype(float) ** 2


def evaluate(market: Market, depths: Float[np.ndarray, "T S 2"]) -> Float[np.ndarray, "T1 S"]:
    """The exact value of any quotes, which may depend on time and inventory."""
    values = [final_values(market)]
    for quotes in depths[::-1]:
        values.append(step_values(market, quotes, values[-1]))
    return np.array(values[::-1])


def utility(market: Market, depths: Float[np.ndarray, "T S 2"]) -> float:
    """The value of quotes from the start, where nothing is held."""
    return float(evaluate(market, depths)[0, market.max_inventory])


def best_step(market: Market, later: Float[np.ndarray, " S"]) -> Float[np.ndarray, "S 2"]:
    """The quotes that make `step_values` largest.

    Given the chance of the other side's fill, the gain of a quote is its chance times (depth - its price in
    later value), whose one maximum is known. Ask and bid are improved in turn until neither moves.
    """
    ahead = neighbours(later) - later[:, None]  # [S, 2] what a fill of one side alone changes
    depths = np.full((len(later), 2), 1.0 / market.depth_decay)
    for _ in range(MAX_SWEEPS):
        before = depths.copy()
        for side in (ASK, BID):
            other = fill_chances(market, depths)[:, 1 - side]
            gain = (1 - other) * ahead[:, side] - other * ahead[:, 1 - side] - toll(market)
            depths[:, side] = np.maximum(1.0 / market.depth_decay - gain, 0.0)
        if np.abs(depths - before).max() < 1e-12:
            return depths
    raise RuntimeError(f"ask and bid still move after {MAX_SWEEPS} sweeps")


def optimum(market: Market) -> tuple[Float[np.ndarray, "T1 S"], Float[np.ndarray, "T S 2"]]:
    """(values, depths) of the best quotes there are, by dynamic programming."""
    values, depths = [final_values(market)], []
    for _ in range(market.num_steps):
        depths.append(best_step(market, values[-1]))
        values.append(step_values(market, depths[-1], values[-1]))
    return np.array(values[::-1]), np.array(depths[::-1])


def constant(market: Market, depth: float) -> Float[np.ndarray, "T S 2"]:
    """The same depth on both sides, whatever the time and the inventory."""
    return np.full((market.num_steps, 2 * market.max_inventory + 1, 2), depth)


def best_constant(market: Market) -> tuple[float, float]:
    """(depth, utility) of the best quotes that know neither time nor inventory."""
    from scipy.optimize import minimize_scalar

    grid = np.linspace(0.0, 10.0 / market.depth_decay, 41)
    best = grid[np.argmax([utility(market, constant(market, depth)) for depth in grid])]
    near = (max(best - grid[1], 0.0), best + grid[1])
    found = minimize_scalar(
        lambda depth: -utility(market, constant(market, depth)),
        bounds=near,
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(found.x), float(-found.fun)


def hjb_values(market: Market) -> Float[np.ndarray, "T1 S"]:
    """The continuous-time values h(t, q) at the steps' times, by integrating their differential equation.

    -dh/dt = -running_penalty q^2 + the sum over sides of max over depth of rate(depth) (depth + what a fill
    changes), from h = -final_penalty q^2 at the end backwards. Depths below 0 are allowed here.
    """
    from scipy.integrate import solve_ivp

    q, decay = market.inventories, market.depth_decay

    def slope(_: float, h: np.ndarray) -> np.ndarray:
        change = np.diff(h)  # [S - 1] of one share more
        gains = np.exp(decay * np.array([-change, change]) - 1.0) * market.arrival_rate / decay
        sold, bought = np.append(0.0, gains[0]), np.append(gains[1], 0.0)
        return sold + bought - market.running_penalty * q**2

    times = np.linspace(0.0, market.duration, market.num_steps + 1)  # before the end
    found = solve_ivp(
        slope,
        (0.0, market.duration),
        final_values(market),
        method="LSODA",
        t_eval=times,
        rtol=1e-10,
        atol=1e-11,
    )
    if not found.success:
        raise RuntimeError(f"the equation could not be integrated: {found.message}")
    return found.y.T[::-1]
