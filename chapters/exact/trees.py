"""Tree search by its definition, one tree in plain Python: how often each move of the root is tried.

For tests of a search that is written for speed. Nothing is shared with one: positions are objects with
dictionaries, players keep their colours, and every value is the *first* player's until a score needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from chapters.exact.games import Played


class Position:
    """A position of the tree: what its moves have earned the first player, and what lies behind them."""

    def __init__(self, game: Any, board: Int[np.ndarray, "1 2"], colour: int, guide: Callable) -> None:
        self.board, self.colour = board, colour
        self.over = bool(game.ended(board)[0])
        prior, value = guide(board)
        worth = float(game.outcomes(board)[0]) if self.over else float(value[0])
        self.for_the_first = worth if colour == 0 else -worth
        moves = [] if self.over else np.flatnonzero(game.legal(board)[0]).tolist()
        self.prior = {move: float(prior[0, move]) for move in moves}
        self.earned: dict[int, list[float]] = {move: [] for move in moves}
        self.behind: dict[int, Position] = {}

    def score(self, move: int, rule: str, c: float) -> float:
        """What is maximised: the mean that the move earned its player, and a bonus if tried little."""
        earned, tried = self.earned[move], sum(map(len, self.earned.values()))
        mean = math.fsum(earned) / len(earned) if earned else 0.0
        if self.colour == 1:
            mean = -mean
        if rule == "ucb":
            return mean + c * math.sqrt(math.log(tried) / len(earned)) if earned else math.inf
        return mean + c * self.prior[move] * math.sqrt(1 + tried) / (1 + len(earned))


def count_visits(
    game: Any,
    board: Int[np.ndarray, "1 2"],
    guide: Callable,
    num_simulations: int,
    rule: Literal["ucb", "puct"],
    c: float,
) -> Int[np.ndarray, " A"]:
    """How often a search tries each move of the root.

    guide(boards [N, 2]) gives a prior [N, A] and values [N] to the player to move. Between equal scores the
    lower move is tried. `kocsis2006uct` for "ucb", `silver2017alphagozero` for "puct".
    """
    root = Position(game, board, 0, guide)
    for _ in range(num_simulations):
        at, way = root, []
        while not at.over:
            best = max(at.earned, key=lambda move: (at.score(move, rule, c), -move))
            way.append((at, best))
            if best not in at.behind:
                one = game.play(at.board, np.array([best]))
                at.behind[best] = Position(game, one, 1 - at.colour, guide)
                at = at.behind[best]
                break
            at = at.behind[best]
        for position, move in way:
            position.earned[move].append(at.for_the_first)
    visits = np.zeros(game.legal(board).shape[1], dtype=int)
    for move, earned in root.earned.items():
        visits[move] = len(earned)
    return visits


# Gumbel search in a learned model (danihelka2022gumbel)


class Imagined:
    """A node of one Gumbel tree: what its moves have brought whoever is to move there."""

    def __init__(self, latent: Any, reward: float, logits: list[float], value: float) -> None:
        self.latent, self.reward, self.logits, self.value = latent, reward, logits, value
        self.brought: dict[int, list[float]] = {move: [] for move in range(len(logits))}
        self.behind: dict[int, Imagined] = {}

    def better(self) -> list[float]:
        """Logits of the improved policy: unknown values are completed by the mixed one (appendix D)."""
        means = {move: math.fsum(found) / len(found) for move, found in self.brought.items() if found}
        num_tried = sum(map(len, self.brought.values()))
        top = max(self.logits)
        mixed = self.value
        if means:
            weights = {move: max(math.exp(self.logits[move] - top), 1e-300) for move in means}
            weighted = math.fsum(weights[move] * means[move] for move in means) / math.fsum(weights.values())
            mixed = (self.value + num_tried * weighted) / (1 + num_tried)
        scale = 0.1 * (50 + max(map(len, self.brought.values())))
        return [logit + scale * means.get(move, mixed) for move, logit in enumerate(self.logits)]


def shares_of(logits: list[float]) -> list[float]:
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / math.fsum(weights) for weight in weights]


def gumbel_search(
    model: Any, seen: np.ndarray, legal: np.ndarray | list, num_simulations: int, gumbels: np.ndarray | list
) -> tuple[list[int], int, list[float]]:
    """(visits of the root's moves, the move played, the improved policy) of one search, as mctx 0.0.71 does.

    `model.look(seen [1, ...])` gives (latents, logits, values), `model.imagine(latents, actions [1])` gives
    (latents, rewards, logits, values), each of one row, the side to move changing with each move. Values are
    not rescaled, and all legal moves are considered. Sequential halving goes by its phases here: of those
    that are level the best go on, one after another, by what is known when it is their turn.
    """
    latents, logits, values = model.look(seen)
    masked = [float(logit) if ok else -1e9 for logit, ok in zip(logits[0], legal)]
    root = Imagined(latents, 0.0, masked, float(values[0]))
    moves = [move for move, ok in enumerate(legal) if ok]
    phases, left = max(1, math.ceil(math.log2(len(moves)))), len(moves)
    spent = visits_before = 0

    def score(move: int) -> float:
        return gumbels[move] + root.better()[move]

    while spent < num_simulations:
        times = max(1, num_simulations // (phases * left))
        for time in range(times):
            for _ in range(min(left, num_simulations - spent)):
                waiting = [move for move in moves if len(root.brought[move]) == visits_before + time]
                simulate(model, root, max(waiting, key=lambda move: (score(move), -move)))
                spent += 1
        visits_before, left = visits_before + times, max(2, left // 2)
    most = max(len(root.brought[move]) for move in range(len(legal)))
    last = [move for move in moves if len(root.brought[move]) == most]
    visits = [len(root.brought[move]) for move in range(len(legal))]
    return visits, max(last, key=lambda move: (score(move), -move)), shares_of(root.better())


def simulate(model: Any, root: Imagined, first: int) -> None:
    """One simulation of a Gumbel tree that begins with this move."""
    way, move = [(root, first)], first
    while move in way[-1][0].behind:
        node = way[-1][0].behind[move]
        num_tried = sum(map(len, node.brought.values()))
        behind = [
            share - len(node.brought[other]) / (1 + num_tried)
            for other, share in enumerate(shares_of(node.better()))
        ]
        move = behind.index(max(behind))
        way.append((node, move))
    parent = way[-1][0]
    latents, rewards, logits, values = model.imagine(parent.latent, np.array([move]))
    new = Imagined(latents, float(rewards[0]), logits[0].astype(float).tolist(), float(values[0]))
    parent.behind[move] = new
    worth = new.value
    for node, taken in reversed(way):
        worth = node.behind[taken].reward - worth
        node.brought[taken].append(worth)


class KnownMoves:
    """In a model's place: it knows what each move of the root is worth, whatever is imagined after it.

    `seen` [N, 2A] holds those values, then logits of the root's prior. So a search's means are exact.
    """

    def look(self, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(latents, logits, values); a latent ends in its worth to the player to move, NaN at a root."""
        num_actions = seen.shape[1] // 2
        latents = np.concatenate([seen, np.full((len(seen), 1), np.nan)], axis=1)
        return latents, seen[:, num_actions:], np.zeros(len(seen))

    def imagine(self, latents: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """(latents, rewards, logits, values); rewards are 0, the worth changes sides with each move."""
        at_root = np.isnan(latents[:, -1])
        values = -np.where(at_root, latents[np.arange(len(actions)), actions], latents[:, -1])
        after = np.concatenate([latents[:, :-1], values[:, None]], axis=1)
        logits = np.zeros((len(latents), latents.shape[1] // 2))
        return after, np.zeros(len(latents)), logits, values


def gumbel_draws(
    search: Callable, q: np.ndarray, logits: np.ndarray, num_simulations: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What the moves of a search with exact values are worth, and what the prior would have drawn, [N] each.

    q [N, A] is what the moves are worth, NaN for illegal ones; `search` as in E8. The prior's own draw is the
    move with the largest sum of logit and noise, of the same noise.
    """
    legal, every = ~np.isnan(q), np.arange(len(q))
    gumbels = rng.gumbel(size=q.shape)
    played = search(KnownMoves(), np.concatenate([q, logits], axis=1), legal, num_simulations, gumbels)[0]
    drawn = np.where(legal, gumbels + logits, -np.inf).argmax(axis=1)
    return q[every, played], q[every, drawn]


def reward_errors(game: Any, model: Any, lines: Played, num_ahead: int) -> np.ndarray:
    """How far the chance that the k-th imagined move won is from whether it did, k = 1, 2, ..., [K].

    The model sees the first board of each line. Moves that won and moves that did not count alike, however
    rare they are: half of each kind's mean.
    """
    latents, errors = model.look(game.planes(lines.boards[:, 0]))[0], []
    for k in range(num_ahead):
        latents, rewards = model.imagine(latents, lines.actions[:, k])[:2]
        going, won = lines.lengths > k, game.lost(lines.boards[:, k + 1])
        apart = np.abs(rewards - won)
        errors.append((apart[going & won].mean() + apart[going & ~won].mean()) / 2)
    return np.array(errors)
