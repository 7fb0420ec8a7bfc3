"""What can be learnt from a log of a finite world, exactly: expectiles, in-sample optima, counted worlds."""

import numpy as np
from jaxtyping import Float

from chapters.exact.mdp import MDP, policy_iteration, q_from_v

Table = Float[np.ndarray, "S A"]


def expectile(values: Table, chances: Table, tau: float) -> Float[np.ndarray, " S"]:
    """The expectile of each row of values under its chances; tau 0.5 is the mean (kostrikov2022iql).

    It solves m = sum p q / sum p with p = chances * |tau - 1[q < m]|. That is Newton's method on a slope made
    of straight pieces, so it ends after as many rounds as there are values.
    """
    found = (chances * values).sum(axis=1)
    for _ in range(values.shape[1] + 1):
        weights = chances * np.abs(tau - (values < found[:, None]))
        found = (weights * values).sum(axis=1) / weights.sum(axis=1)
    return found


def in_sample_values(mdp: MDP, behaviour: Table, tau: float, num_sweeps: int) -> Float[np.ndarray, " S"]:
    """V of IQL in a table (kostrikov2022iql): backups, and expectiles over the log's own actions, in turn.

    Off from the fixed point by at most gamma^num_sweeps times the distance at the start.
    """
    V = np.zeros(len(mdp.R))
    for _ in range(num_sweeps):
        V = expectile(q_from_v(mdp, V), behaviour, tau)
    return V


def best_in_data(mdp: MDP, behaviour: Table) -> Float[np.ndarray, " S"]:
    """The optimal values if only actions that the behaviour ever takes are allowed."""
    best = behaviour.argmax(axis=1)  # one that is taken
    rows = np.arange(len(best))
    taken = behaviour > 0  # an action that is never taken becomes a copy of one that is
    P = np.where(taken[:, :, None], mdp.P, mdp.P[rows, best][:, None])
    R = np.where(taken, mdp.R, mdp.R[rows, best][:, None])
    return policy_iteration(mdp._replace(P=P, R=R))[0]


def counted(log: dict[str, np.ndarray], num_states: int, num_actions: int, gamma: float) -> MDP:
    """The process whose chances and rewards are a log's frequencies; a pair that never came leads to nothing.

    log: obs, actions, rewards, next_obs, terminated, each [n]; states and actions are numbers. A terminal
    state, or one after which the log says nothing, is worth 0.
    """
    counts = np.zeros((num_states, num_actions, num_states))
    sums = np.zeros((num_states, num_actions))
    np.add.at(counts, (log["obs"], log["actions"], log["next_obs"]), ~log["terminated"])
    np.add.at(sums, (log["obs"], log["actions"]), log["rewards"])
    visits = np.zeros((num_states, num_actions))
    np.add.at(visits, (log["obs"], log["actions"]), 1)
    visits = np.maximum(visits, 1)
    # the chance that is missing in a row is the chance to end
    return MDP(counts / visits[:, :, None], sums / visits, np.zeros(num_states, dtype=bool), gamma)
