"""Games that were played, side by side, and lines cut out of them to learn from.

`game` is tic-tac-toe, or another of `chapters.envs.boards` where a move is a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from chapters.envs.boards import random_moves

Targets = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Games(NamedTuple):
    """M games of up to T moves; of moves after the end nothing is kept."""

    boards: Int[np.ndarray, "M T1 2"]
    """After an end the last one stays."""
    actions: Int[np.ndarray, "M T"]
    policies: Float[np.ndarray, "M T A"]
    """What the player who chose the move would have chosen, by chances."""
    thought: Bool[np.ndarray, "M T"]
    """Whether the player chose the move; the others were random."""
    lengths: Int[np.ndarray, " M"]
    won: Bool[np.ndarray, " M"]
    """Whether the last move won."""


class Batch(NamedTuple):
    """B lines of K moves, at steps 0 to K or, of moves, 1 to K."""

    planes: Float[torch.Tensor, "B K1 C2"]
    actions: Int[torch.Tensor, "B K"]
    """Those that were played; after an end drawn at random."""
    policies: Float[torch.Tensor, "B K1 A"]
    values: Float[torch.Tensor, "B K1"]
    rewards: Float[torch.Tensor, "B K"]
    thought: Float[torch.Tensor, "B K1"]
    """1 where a player chose: there is a policy to learn."""
    known: Float[torch.Tensor, "B K1"]
    """1 where there is a value to learn: where a player chose, and after the end."""


def play_games(
    game: Any,
    random_plies: Int[np.ndarray, " M"],
    choose: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
) -> Games:
    """Games whose first moves are random, as many as `random_plies` say; then choose(boards) plays.

    `choose` gives (moves, policies) of boards side by side.
    """
    num, most = len(random_plies), game.num_cells
    boards, actions = np.zeros((num, most + 1, 2), dtype=np.int64), np.zeros((num, most), dtype=int)
    policies, thought = np.zeros((num, most, game.num_actions)), np.zeros((num, most), dtype=bool)
    now, lengths = game.start(num), np.zeros(num, dtype=int)
    for ply in range(most):
        going = np.flatnonzero(~game.ended(now))
        actions[going, ply] = random_moves(game.legal(now[going]), rng)
        thinks = going[random_plies[going] <= ply]
        if len(thinks):
            actions[thinks, ply], policies[thinks, ply] = choose(now[thinks])
            thought[thinks, ply] = True
        now[going] = game.play(now[going], actions[going, ply])
        boards[:, ply + 1] = now
        lengths[going] += 1
    return Games(boards, actions, policies, thought, lengths, game.lost(now))


def drawn_lines(
    game: Any, played: Games, num_lines: int, num_moves: int, targets: Targets, rng: np.random.Generator
) -> Batch:
    """Lines that begin at any move of any game, each as likely."""
    moves, ends = rng.integers(played.lengths.sum(), size=num_lines), played.lengths.cumsum()
    rows = np.searchsorted(ends, moves, side="right")
    starts = moves - (ends - played.lengths)[rows]
    return unrolled(game, played, rows, starts, num_moves, targets, rng)


def unrolled(
    game: Any,
    played: Games,
    rows: Int[np.ndarray, " B"],
    starts: Int[np.ndarray, " B"],
    num_moves: int,
    targets: Targets,
    rng: np.random.Generator,
) -> Batch:
    """What followed in games `rows` from times `starts` on.

    targets(times [B, K + 1], lengths [B, 1], won [B, 1]) gives (values, rewards of the next move) [B, K + 1].
    """
    times = starts[:, None] + np.arange(num_moves + 1)
    lengths, row = played.lengths[rows][:, None], rows[:, None]
    values, rewards = targets(times, lengths, played.won[rows][:, None])
    before_end = times < lengths
    last = np.minimum(times, game.num_cells - 1)  # an index that exists
    actions = np.where(
        before_end, played.actions[row, last], rng.integers(game.num_actions, size=times.shape)
    )
    boards = played.boards[row, np.minimum(times, game.num_cells)]
    planes = game.planes(boards.reshape(-1, 2)).reshape(*times.shape, -1)
    thought = played.thought[row, last] & before_end
    parts = played.policies[row, last], values, rewards[:, :-1], thought, thought | ~before_end
    tensors = (torch.from_numpy(np.asarray(part, dtype=np.float32)) for part in parts)
    return Batch(torch.from_numpy(planes), torch.from_numpy(actions[:, :-1]), *tensors)


def turned(game: Any, batch: Batch, pictures: Int[np.ndarray, " B"]) -> Batch:
    """Each line as one of the game's symmetries shows it: boards, moves and policies."""
    orders = torch.from_numpy(game.symmetries()[pictures])  # [B, C] from where each cell comes
    both = torch.cat([orders, orders + game.num_cells], dim=1)[:, None]
    planes = batch.planes.gather(2, both.expand(batch.planes.shape))
    policies = batch.policies.gather(2, orders[:, None].expand(batch.policies.shape))
    actions = orders.argsort(dim=1).gather(1, batch.actions)
    return batch._replace(planes=planes, policies=policies, actions=actions)
