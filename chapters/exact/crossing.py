"""The road of `envs/crossing.py` as a Markov decision process, written down from its rules once more."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from chapters.exact.mdp import MDP, evaluate_exactly, policy_iteration

STEPS = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1), "stay": (0, 0)}


def crossing_mdp(road: Sequence[str], gamma: float, slip: float) -> MDP:
    """States are (row, column, phase), the phase counting fastest; the far side and crashes are terminal."""
    rows, columns = len(road), len(road[0])

    def has_car(row: int, column: int, phase: int) -> bool:
        direction = {"<": -1, ">": 1}.get(road[row][0], 0)
        return road[row][(column - direction * phase) % columns] == "c"

    def number(row: int, column: int, phase: int) -> int:
        return (row * columns + column) * columns + phase

    num_states, num_actions = rows * columns * columns, len(STEPS)
    landing = np.zeros((num_states, num_actions, num_states))  # [S, A, S] of the moves as they are meant
    paid = np.zeros(num_states)  # [S] on arrival
    terminal = np.zeros(num_states, dtype=bool)
    for row, column, phase in np.ndindex(rows, columns, columns):
        state = number(row, column, phase)
        terminal[state] = row == 0 or has_car(row, column, phase)
        paid[state] = 1.0 if row == 0 else 0.0
        for action, (down, right) in enumerate(STEPS.values()):
            to_row = min(max(row + down, 0), rows - 1)
            to_column = min(max(column + right, 0), columns - 1)
            landing[state, action, number(to_row, to_column, (phase + 1) % columns)] = 1.0
    P = (1 - slip) * landing + slip * landing.mean(axis=1, keepdims=True)
    R = P @ paid
    P[terminal] = np.eye(num_states)[terminal][:, None, :]
    R[terminal] = 0.0
    return MDP(P, R, terminal, gamma)


def starts(road: Sequence[str]) -> Float[np.ndarray, " S"]:
    """The chances of a first state: any cell of the near side, any phase."""
    rows, columns = len(road), len(road[0])
    chances = np.zeros((rows, columns, columns))
    chances[-1] = 1.0 / columns**2
    return chances.ravel()


def regret(actions: Int[np.ndarray, " S"], road: Sequence[str], gamma: float, slip: float) -> float:
    """How much less it is worth at a start to take these actions, one in each state, than the best ones."""
    mdp, best = _solved(tuple(road), gamma, slip)
    values = evaluate_exactly(mdp, np.eye(len(STEPS))[actions])
    return float(starts(road) @ (best - values))


@functools.lru_cache(maxsize=8)  # a learner is judged on its road again and again
def _solved(road: tuple[str, ...], gamma: float, slip: float) -> tuple[MDP, Float[np.ndarray, " S"]]:
    """The process, and what its states are worth under the best actions."""
    mdp = crossing_mdp(road, gamma, slip)
    return mdp, policy_iteration(mdp)[0]
