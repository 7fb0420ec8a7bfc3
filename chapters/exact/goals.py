"""Rooms with one goal after another, and what a policy in them gains exactly: the tasks of lesson E12.

In each task another corner of the same rooms is the goal. It pays 1 and ends the episode, which begins in any
other cell, all equally likely. What a network earns is a linear solve, through which gradients flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from torch import Tensor, nn

from chapters.exact.mdp import evaluate_exactly, grid_mdp, policy_iteration

ROOMS = (".....", ".#.#.", ".....", ".#.#.", ".....")
GOALS = (4, 24, 20)
"""The cells to reach, one in each task: row * 5 + column."""
GAMMA, SLIP = 0.9, 0.1


class Task(NamedTuple):
    """One task of several: what may be asked, what is lowered, and how well it is done."""

    inputs: Tensor
    """[N, ...]: everything that can be asked, a row for each."""
    loss: Callable[[nn.Module], Tensor]
    """Of a network that gives logits for inputs."""
    score: Callable[[nn.Module], float]
    """At most 1."""


def exact_return(
    policy: Float[Tensor, "S A"],
    P: Float[Tensor, "S A S"],
    rewards: Float[Tensor, "S A"],
    start: Float[Tensor, " S"],
) -> Float[Tensor, ""]:
    """start . (I - gamma P_pi)^-1 R_pi: the expected return, through which gradients flow.

    Where an episode has ended nothing is paid and nothing else is reached: its value is 0.
    """
    import torch

    P_policy = torch.einsum("sa,sat->st", policy, P)
    R_policy = (policy * rewards).sum(dim=1)
    return start @ torch.linalg.solve(torch.eye(len(policy)).to(P) - GAMMA * P_policy, R_policy)


def goal_task(number: int) -> Task:
    """The task to reach a corner; IndexError if there is none of this number.

    An input is a cell and the number of the goal, both one-hot, 25 + 3 numbers; an answer is one of four
    moves. The score is the share of what the best policy gains over a random walk, the loss is less it.
    """
    import torch

    cells = list("".join(ROOMS))
    cells[GOALS[number]] = "G"
    drawn = "".join(cells)
    mdp = grid_mdp([drawn[row : row + 5] for row in range(0, 25, 5)], GAMMA, SLIP)
    start = ~mdp.terminal / (~mdp.terminal).sum()
    low = float(start @ evaluate_exactly(mdp, np.full(mdp.R.shape, 0.25)))
    best = float(start @ policy_iteration(mdp)[0])
    arrays = [torch.tensor(one, dtype=torch.float32) for one in (mdp.P, mdp.R, start)]
    inputs = torch.cat([torch.eye(25), torch.eye(len(GOALS))[number].repeat(25, 1)], dim=1)

    def share(model: nn.Module) -> Tensor:
        earned = exact_return(model(inputs).softmax(dim=1), *arrays)
        return (earned - low) / (best - low)

    asked = inputs[torch.tensor(~mdp.terminal)]  # not in walls, nor at the goal itself
    return Task(asked, lambda model: -share(model), lambda model: share(model).item())
