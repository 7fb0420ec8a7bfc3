"""A page that recommends: who visits, what they click, logs of the old page; and linear bandits in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, softmax


@dataclass(frozen=True)
class Page:
    """A page with S types of visitors and A articles, its old policy, and a new one that never ran."""

    shares: np.ndarray
    """[S] how often each type of visitor comes."""
    clicks: np.ndarray
    """[S, A] the probability that a visitor clicks on an article."""
    old: np.ndarray
    """[S, A] the old page has preferences of its own, right or not, and shows each article now and then."""
    new: np.ndarray
    """[S, A] the new page shows the best article, and one time in ten any."""

    @property
    def value(self) -> float:
        """Expected clicks per visit of the new page."""
        return float(self.shares @ (self.new * self.clicks).sum(axis=1))

    @property
    def article_rates(self) -> np.ndarray:
        """[S, A] a model that does not ask who is looking: each article's click rate on the old page."""
        shown = self.shares[:, None] * self.old
        rates = (shown * self.clicks).sum(axis=0) / shown.sum(axis=0)
        return np.tile(rates, (len(shown), 1))


class Log(NamedTuple):
    """Visits, one entry each; all three of one shape, [n] for a log or [M, n] for M of them."""

    contexts: np.ndarray
    """Type of the visitor."""
    actions: np.ndarray
    """Article that was shown."""
    rewards: np.ndarray
    """1 for a click, else 0."""


def random_page(num_types: int, num_articles: int, rng: np.random.Generator, floor: float = 0.1) -> Page:
    """Tastes and articles are vectors of three numbers: the more they agree, the likelier a click.

    Both policies show each article with probability `floor` / A at least.
    """
    shares = rng.dirichlet(np.full(num_types, 2.0))
    tastes, articles = rng.standard_normal((num_types, 3)), rng.standard_normal((num_articles, 3))
    clicks = expit(tastes @ articles.T - 1.0)
    habits = softmax(rng.standard_normal(clicks.shape), axis=1)
    best = np.eye(num_articles)[clicks.argmax(axis=1)]
    old, new = ((1 - floor) * policy + floor / num_articles for policy in (habits, best))
    return Page(shares, clicks, old, new)


def draw_logs(page: Page, num_logs: int, log_size: int, rng: np.random.Generator) -> Log:
    """Logs [M, n] of independent visits to the old page."""
    shape = num_logs, log_size
    contexts = rng.choice(len(page.shares), size=shape, p=page.shares)
    beyond = rng.random(shape)[..., None] >= page.old.cumsum(axis=1)[contexts][..., :-1]
    actions = beyond.sum(axis=-1)
    rewards = (rng.random(shape) < page.clicks[contexts, actions]).astype(float)
    return Log(contexts, actions, rewards)


def click_table(log: Log, shape: tuple[int, int]) -> np.ndarray:
    """A model [S, A] from one log [n]: the share of clicks of each type on each article, 0 if never shown."""
    cells = np.ravel_multi_index((log.contexts, log.actions), shape)
    clicks, shown = (np.bincount(cells, weights, np.prod(shape)) for weights in (log.rewards, None))
    return (clicks / np.maximum(shown, 1)).reshape(shape)


def recommend(
    agent: Any,
    parameters: np.ndarray,
    draw_features: Callable[[np.random.Generator], np.ndarray],
    marks: Sequence[int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Let `agent` play B linear bandits; their regret so far [len(marks), B] after each number of plays.

    Before each play `draw_features(rng)` gives the features of the K arms, [B, K, d], or [K, d] for all.
    Arm x pays x @ parameters [B, d] plus noise N(0, 1). The agent has `act(features, num_plays, rng)`,
    which returns an arm for each bandit, and `learn(features of the played arms [B, d], rewards)`.
    """
    bandits = np.arange(len(parameters))
    regret, noted = np.zeros(len(parameters)), []
    for num_plays in range(marks[-1]):
        features = draw_features(rng)
        actions = agent.act(features, num_plays, rng)
        means = (features @ parameters[:, :, None])[:, :, 0]  # [B, K]
        played = means[bandits, actions]
        chosen = np.broadcast_to(features, (*means.shape, features.shape[-1]))[bandits, actions]
        agent.learn(chosen, played + rng.standard_normal(len(bandits)))
        regret += means.max(axis=1) - played
        if num_plays + 1 in marks:
            noted.append(regret.copy())
    return np.array(noted)


def regret_by_gap(
    agent: Any, gaps: np.ndarray, horizon: int, rng: np.random.Generator
) -> dict[int, np.ndarray]:
    """Mean regret of each gap after 16, 32, 64, ... plays up to the horizon, by the number of plays.

    The arms are the corners {-1, 1}^d, the same in every play; each weight is its bandit's gap with a sign
    that is drawn. The agent's bandits share the gaps evenly, those of one gap in a row.
    """
    num_bandits, num_features = agent.mean.shape
    arms = np.array(list(product((-1.0, 1.0), repeat=num_features)))  # [K, d]
    size = np.repeat(gaps, num_bandits // len(gaps))[:, None]
    weights = size * rng.choice((-1.0, 1.0), (num_bandits, num_features))
    marks = [2**power for power in range(4, horizon.bit_length()) if 2**power <= horizon]
    regret = recommend(agent, weights, lambda rng: arms, marks, rng)  # [marks, B]
    return dict(zip(marks, regret.reshape(len(marks), len(gaps), -1).mean(axis=2)))
