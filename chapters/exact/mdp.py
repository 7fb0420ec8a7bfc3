"""Finite Markov decision processes as arrays, and their exact values: A3 teaches this, others import it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Actions 0 to 3 of a grid as (row step, column step): up, right, down, left."""
EXIT_REWARD = {"G": 1.0, "P": -1.0, "T": 0.0}
"""What it pays to enter a goal, a pit, and an end without reward."""
TIE = 1e-10
"""Actions count as equally good if they differ by at most this part of the largest value."""
ROUNDING = 1e-15
"""Chances, and parts of a sum, that are lost beside 1."""
MAX_EVALUATIONS = 1000
"""Policies that policy iteration tries before it gives up."""


class MDP(NamedTuple):
    """A finite Markov decision process."""

    P: Float[Any, "S A S"]
    """P[s, a, s2]: probability that action a in state s leads to s2."""
    R: Float[Any, "S A"]
    """Expected reward of action a in state s."""
    terminal: Bool[Any, " S"]
    """Where the process has ended: no reward, nothing after it."""
    gamma: float
    """How much a reward one step later counts (1: as much)."""


def grid_mdp(
    grid: Sequence[str], gamma: float, slip: float = 0.0, step_reward: float = 0.0, bump_reward: float = 0.0
) -> MDP:
    """The arrays of a grid: G goal (+1), P pit (-1), T end without reward, # wall, everything else floor.

    With probability `slip` the agent moves at a right angle to its action, half the time to either side. A
    move into a wall or off the grid leaves it in place and adds `bump_reward`. State number: row * columns +
    column. Nobody is ever inside a wall; walls count as terminal, so that their value is 0.
    """
    cells = np.array([list(row) for row in grid])  # [rows, columns]
    rows, columns = cells.shape
    terminal = np.isin(cells, ["#", *EXIT_REWARD]).ravel()  # [S]
    P = np.zeros((cells.size, len(MOVES), cells.size))
    R = np.zeros((cells.size, len(MOVES)))
    for s, a in product(range(cells.size), range(len(MOVES))):
        if terminal[s]:
            P[s, a, s] = 1.0  # absorbing, reward 0
            continue
        for turn, probability in ((0, 1.0 - slip), (1, slip / 2), (-1, slip / 2)):
            move = MOVES[(a + turn) % len(MOVES)]
            row, column = s // columns + move[0], s % columns + move[1]
            blocked = not (0 <= row < rows and 0 <= column < columns) or cells[row, column] == "#"
            next_s = s if blocked else row * columns + column
            reward = step_reward + bump_reward * blocked + EXIT_REWARD.get(cells.flat[next_s], 0.0)
            P[s, a, next_s] += probability
            R[s, a] += probability * reward  # R is the mean over where the agent may land
    return MDP(P, R, terminal, gamma)


def random_mdp(
    rng: np.random.Generator, num_states: int, num_actions: int, gamma: float, spread: float = 1.0
) -> MDP:
    """A process that never ends, with normal rewards; an action may lead anywhere.

    spread: of the chances of the next state; at 1 all are alike on average, near 0 one has nearly all.
    """
    P = rng.dirichlet(np.full(num_states, spread), size=(num_states, num_actions))
    R = rng.normal(size=(num_states, num_actions))
    return MDP(P, R, np.zeros(num_states, dtype=bool), gamma)


def reaching(chain: Float[np.ndarray, "S S"], goal: Bool[np.ndarray, " S"]) -> Bool[np.ndarray, " S"]:
    """The states from which `goal` can be reached, those of `goal` included."""
    for _ in range(len(chain)):
        before, goal = goal, goal | (chain @ goal > 0.0)
        if (goal == before).all():
            break
    return goal


def where_it_ends(mdp: MDP, policy: Float[np.ndarray, "S A"]) -> Bool[np.ndarray, " S"]:
    """The states after which there is nothing to sum under a policy, so that their value is 0.

    These are the terminal ones; and without a discount also those from which no reward can be reached any
    more, a walled-in cell for instance. Raises RuntimeError if, without a discount, some state never comes to
    such a place: it is paid for ever, and its value is not finite. Or it comes there with so small a chance
    that no float holds 1 less it.
    """
    if mdp.gamma < 1.0:
        return mdp.terminal
    chain = np.einsum("sa,sat->st", policy, mdp.P)  # [S, S]
    chain = np.where(chain > ROUNDING, chain, 0.0)
    parts = policy * mdp.R  # [S, A]: what cancels in their sum but for rounding is not paid
    paid = np.abs(parts.sum(axis=1)) > ROUNDING * parts.shape[1] * np.abs(parts).max(axis=1)  # [S]
    over = mdp.terminal | ~reaching(chain * ~mdp.terminal, paid)
    if not reaching(chain, over).all():
        raise RuntimeError("at gamma = 1 some value is not finite: does every episode end?")
    return over


# same-as: A3.q_from_v
def q_from_v(mdp: MDP, V: Float[np.ndarray, " S"]) -> Float[np.ndarray, "S A"]:
    """One step of lookahead: the value of each action if the rest of the future is worth `V`."""
    return mdp.R + mdp.gamma * (mdp.P @ (V * ~mdp.terminal))  # [S, A, S] @ [S] -> [S, A]


# same-as: A3.evaluate_exactly
def evaluate_exactly(mdp: MDP, policy: Float[np.ndarray, "S A"]) -> Float[np.ndarray, " S"]:
    """The value of a policy by a linear solve; RuntimeError where it is not finite."""
    going_on = ~where_it_ends(mdp, policy)  # [S]
    P_policy = np.einsum("sa,sat->st", policy, mdp.P) * going_on  # [S, S], nothing comes after an end
    R_policy = (policy * mdp.R).sum(axis=1)  # [S]
    return np.linalg.solve(np.eye(len(R_policy)) - mdp.gamma * P_policy, R_policy)


def advantages_of(mdp: MDP, policy: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A"]:
    """How much better than usual each action is under a policy; 0 on average over the policy's actions."""
    V = evaluate_exactly(mdp, policy)
    return q_from_v(mdp, V) - V[:, None]


def visits(
    mdp: MDP, policy: Float[np.ndarray, "S A"], start: Float[np.ndarray, " S"]
) -> Float[np.ndarray, " S"]:
    """d^pi: the share of its discounted time that a policy spends in each state, from the chances `start`.

    (1 - gamma) sum over t of gamma^t P(s_t = s), for gamma < 1; it sums to 1, terminal states included.
    """
    chain = np.einsum("sa,sat->st", policy, mdp.P)  # [S, S]
    return (1 - mdp.gamma) * np.linalg.solve(np.eye(len(start)) - mdp.gamma * chain.T, start)


# same-as: A3.greedy_policy
def greedy_policy(Q: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A"]:
    """All best actions of each state, equally likely."""
    shortfall = Q.max(axis=1, keepdims=True) - Q  # [S, A] >= 0
    best = shortfall <= TIE * np.abs(Q).max()
    return best / best.sum(axis=1, keepdims=True)


# same-as: A3.policy_iteration
def policy_iteration(mdp: MDP) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "S A"], int]:
    """(optimal value, optimal policy, number of evaluations), starting from the random policy."""
    policy = np.full(mdp.R.shape, 1.0 / mdp.R.shape[1])
    for evaluations in range(1, MAX_EVALUATIONS + 1):
        V = evaluate_exactly(mdp, policy)
        greedy = greedy_policy(q_from_v(mdp, V))
        if not policy[greedy <= 0.0].any():  # all weight is on best actions already
            return V, greedy, evaluations
        policy = greedy
    raise RuntimeError(f"still improving after {MAX_EVALUATIONS:,} evaluations")
