"""A market with one market maker in it: many sessions at once, whose chance is drawn beforehand.

All chance (who comes, what they would pay, how the price moves) stands in `Sessions`, and none of it depends
on what is quoted: several quoters can meet the same buyers and sellers. `market` is everywhere a `Market` of
chapters/exact/market.py, or anything with its fields.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

ASK, BID = 0, 1


class Sessions(NamedTuple):
    """The chance of N sessions; side 0 is the ask, which buyers may take, side 1 the bid."""

    arrivals: Bool[np.ndarray, "T N 2"]
    """Whether a buyer and whether a seller comes."""
    reach: Float[np.ndarray, "T N 2"]
    """The largest depth that they accept."""
    noise: Float[np.ndarray, "T N"]
    """How far the price moves by itself."""


class Played(NamedTuple):
    """What happened in N sessions."""

    inventory: Int[np.ndarray, "T1 N"]
    """Shares held before each step, and at the end."""
    depths: Float[np.ndarray, "T N 2"]
    """What was quoted."""
    fills: Bool[np.ndarray, "T N 2"]
    """Which quotes were taken."""
    rewards: Float[np.ndarray, "T N"]
    """Cash and shares at the mid price: what they gained, less the penalties."""


def draw_sessions(market: Any, num_sessions: int, rng: np.random.Generator) -> Sessions:
    """Sessions that nobody has quoted in yet."""
    shape = (market.num_steps, num_sessions)
    arrivals = rng.random((*shape, 2)) < market.arrival_rate * market.dt
    reach = rng.standard_exponential((*shape, 2)) / market.depth_decay
    return Sessions(arrivals, reach, market.volatility * market.dt**0.5 * rng.standard_normal(shape))


def price_moves(market: Any, sessions: Sessions) -> Float[np.ndarray, "T N"]:
    """How the mid price moves in each step: by itself, up with every buyer and down with every seller."""
    pressure = sessions.arrivals[..., ASK].astype(float) - sessions.arrivals[..., BID]
    return sessions.noise + market.adverse * pressure


def play(
    market: Any,
    depths: Float[np.ndarray, "T S 2"],
    sessions: Sessions,
    noise: Float[np.ndarray, "T N 2"] | None = None,
) -> Played:
    """Quote `depths[t, inventory]` in every session, with `noise` added if there is any.

    A depth below 0 counts as 0. At the limit of the inventory the side that would pass it takes no order.
    """
    limit = market.max_inventory
    moves = price_moves(market, sessions)
    held, quoted, filled, paid = [np.zeros(moves.shape[1], dtype=int)], [], [], []
    for t in range(market.num_steps):
        before = held[-1]
        quotes = depths[t, before + limit] + (0.0 if noise is None else noise[t])  # [N, 2]
        earned = np.maximum(quotes, 0.0)
        room = np.stack([before > -limit, before < limit], axis=1)
        fills = sessions.arrivals[t] & (sessions.reach[t] >= earned) & room
        after = before - fills[:, ASK] + fills[:, BID]
        penalty = market.running_penalty * market.dt * before**2
        paid.append((fills * earned).sum(axis=1) + after * moves[t] - penalty)
        held.append(after)
        quoted.append(quotes)
        filled.append(fills)
    paid[-1] = paid[-1] - market.final_penalty * held[-1] ** 2
    return Played(np.array(held), np.array(quoted), np.array(filled), np.array(paid))
