"""What a dream should say: exact values of a belief, and how far a model of codes may miss them.

A model of codes dreams from a history: it draws codes that nobody observes and adds up the rewards that it
foresees. Held against it are the tables of the hidden world (`exact/beliefs.py`), for policies that look at
nothing: `chances[i, a]` is the chance of action a at step i, whatever happens.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def rewards_ahead(
    P: Float[np.ndarray, "S A S"],
    rewards: Float[np.ndarray, "S A"],
    beliefs: Float[np.ndarray, "M S"],
    chances: Float[np.ndarray, "I A"],
) -> Float[np.ndarray, "I M"]:
    """The expected reward of each of the next steps, given each belief."""
    rows = []
    for chance in chances:
        rows.append(beliefs @ (rewards @ chance))
        beliefs = beliefs @ np.einsum("a,sak->sk", chance, P)
    return np.array(rows)


def discounted(rewards: Float[np.ndarray, "I ..."], gamma: float) -> Float[np.ndarray, "I ..."]:
    """Discounted sums of the first 1, 2, ... rewards."""
    weights = gamma ** np.arange(len(rewards))
    return (rewards * weights.reshape(-1, *[1] * (rewards.ndim - 1))).cumsum(axis=0)


def dream_bound(
    code_error: Float[np.ndarray, "I ..."], reward_error: Float[np.ndarray, "I ..."], gamma: float
) -> Float[np.ndarray, " I"]:
    """By how much a dream of 1, 2, ... steps may miss the belief's value, averaged over histories.

    Rewards lie between 0 and 1. code_error[i]: total variation between the codes that the model foresees for
    step i and those that the world's observations give, on real paths; reward_error[i]: by how much the
    reward that it foresees, averaged over the latter, misses the expected one. Each step misleads by at most
    its code error, times what is still to come, plus its reward error: the simulation lemma
    (kearns2002simulation) along real paths instead of at its worst.
    """
    length = len(code_error)
    code, reward = (x.reshape(length, -1).mean(axis=1) for x in (code_error, reward_error))
    weights = gamma ** np.arange(length)
    bounds = []
    for k in range(1, length + 1):
        still = np.array([weights[: k - i].sum() for i in range(k)])  # the most that steps i .. k-1 can pay
        bounds.append(float((weights[:k] * (code[:k] * still + reward[:k])).sum()))
    return np.array(bounds)


def walk(
    P: Float[np.ndarray, "S A S"],
    emission: Float[np.ndarray, "S O"],
    start: Float[np.ndarray, " S"],
    actions: Int[np.ndarray, "T N"],
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, "T1 N"], Int[np.ndarray, "T1 N"]]:
    """(states, observations) along given actions, one more of each than of actions."""

    def draw(chances: Float[np.ndarray, "N K"]) -> Int[np.ndarray, " N"]:
        return (rng.random((len(chances), 1)) >= chances.cumsum(axis=1)[:, :-1]).sum(axis=1)

    states = [draw(np.tile(start, (actions.shape[1], 1)))]
    for acts in actions:
        states.append(draw(P[states[-1], acts]))
    states = np.array(states)
    obs = np.array([draw(emission[row]) for row in states])
    return states, obs
