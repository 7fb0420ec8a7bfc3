"""Exercises of B6: its functions, and what goes beyond them."""

import math

import numpy as np
import torch
from torch import Tensor

from chapters.exact.mdp import MDP, advantages_of, policy_iteration, random_mdp
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def n_step_bias(mdp: MDP, behaviour: np.ndarray, advantages: np.ndarray, n: int) -> np.ndarray:
    """By how much n-step targets miss the optimum on average [S, A], eq. (4), for episodes that do not end.

    behaviour: [S, A], how likely the buffer's policy takes each action; advantages: [S, A] of the best one.
    """
    lost = (behaviour * advantages).sum(axis=1)  # [S]
    chain = np.einsum("sa,sat->st", behaviour, mdp.P)  # [S, S]
    bias, reached = np.zeros(mdp.R.shape), mdp.P  # [S, A], [S, A, S] where one is after i steps
    for i in range(1, n):
        bias = bias + mdp.gamma**i * reached @ lost
        reached = reached @ chain
    return bias  # eq. (4)


def exact_target(mdp: MDP, behaviour: np.ndarray, V: np.ndarray, n: int) -> np.ndarray:
    """The mean n-step target [S, A], by adding up rewards."""
    if n == 1:
        return mdp.R + mdp.gamma * mdp.P @ V
    later = (behaviour * exact_target(mdp, behaviour, V, n - 1)).sum(axis=1)
    return mdp.R + mdp.gamma * mdp.P @ later


def check_n_step_bias(n_step_bias):
    rng = np.random.default_rng(1)
    for num_states, num_actions, n in ((1, 1, 3), (3, 2, 1), (4, 3, 2), (5, 2, 6)):
        mdp = random_mdp(rng, num_states, num_actions, gamma=0.9)
        behaviour = rng.dirichlet(np.ones(num_actions), size=num_states)
        V, policy, _ = policy_iteration(mdp)
        advantages = advantages_of(mdp, policy)
        expected = exact_target(mdp, behaviour, V, n) - exact_target(mdp, behaviour, V, 1)
        found = n_step_bias(mdp, behaviour, advantages, n)
        assert np.allclose(found, expected, atol=1e-9), f"n = {n}: expected {expected[0]}, found {found[0]}"


def noise_variance(x: Tensor, weight_spread: Tensor, bias_spread: Tensor) -> Tensor:
    """The variance of each output [O] of a noisy layer for one input [I], eq. (10); spreads [O, I], [O]."""
    c = math.sqrt(2 / math.pi)
    return c * (c * weight_spread.square() @ x.square() + bias_spread.square())  # eq. (10)


def check_noise_variance(noise_variance):
    """Against all products of f on a fine grid of normal numbers."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    square = float((weights * np.abs(nodes)).sum())  # E[f^2]
    torch.manual_seed(2)
    for inputs, outputs in ((1, 1), (3, 2), (7, 4)):
        x, weight, bias = torch.randn(inputs), torch.rand(outputs, inputs), torch.rand(outputs)
        found = noise_variance(x, weight, bias)
        for i in range(outputs):
            of_weights = sum(float(weight[i, j]) ** 2 * float(x[j]) ** 2 for j in range(inputs))
            expected = square * (square * of_weights + float(bias[i]) ** 2)
            assert math.isclose(found[i], expected, rel_tol=1e-2), (
                f"expected {expected:.4f}, found {found[i]:.4f}"
            )


EXERCISES = {
    "heart": Exercise(
        title="Three of the six",
        task="""
Write the dueling sum (2), the sum of n steps (3), and the projection (6).
""",
        minutes=40,
        difficulty="medium",
        functions=("dueling", "n_step", "project"),
    ),
    "n_step_bias": Exercise(
        title="What looking ahead costs",
        task=r"""
Compute (4) for a process that is known. First take the given action, then follow the buffer's policy: where
is one after $i$ steps, and what do that policy's actions lose there on average? Why do people use a small $n$
without any correction?
""",
        minutes=25,
        difficulty="hard",
        solution=n_step_bias,
        check=check_n_step_bias,
        hints=(
            "First what the buffer's policy loses in each state; then where one is after i steps.",
            "With n = 1 nothing is lost: the first action is given, not chosen.",
            "lost = (behaviour * advantages).sum(axis=1)",
        ),
        edits={
            "first_action_too": Edit(
                function="n_step_bias",
                old="range(1, n)",
                new="range(n)",
                says="counts the first action as another policy's",
            ),
            "one_too_many": Edit(
                function="n_step_bias",
                old="range(1, n)",
                new="range(1, n + 1)",
                says="counts a step more than is summed",
            ),
            "not_discounted": Edit(
                function="n_step_bias",
                old="mdp.gamma**i * reached",
                new="reached",
                says="does not discount what is lost later",
            ),
            "best_actions": Edit(
                function="n_step_bias",
                old='np.einsum("sa,sat->st", behaviour, mdp.P)',
                new="mdp.P.mean(axis=1)",
                says="walks on by random actions, not by the buffer's",
            ),
        },
        answer="""
Where the buffer's policy rarely takes a random action, each later step loses little, and news of a reward
travels n times as fast. But the loss grows with every step, so n stays small.
""",
    ),
    "noise_variance": Exercise(
        title="How loud is the noise?",
        task="""
Write (10). Two outputs share the noise of their inputs: are they correlated?
""",
        minutes=15,
        difficulty="easy",
        solution=noise_variance,
        check=check_noise_variance,
        hints=(
            "Products of independent numbers: the mean square is the product of mean squares.",
            "For x = 0 only the bias is noisy, with c times its spread squared.",
            "c = math.sqrt(2 / math.pi)",
        ),
        edits={
            "normal_noise": Edit(
                function="noise_variance",
                old="c = math.sqrt(2 / math.pi)",
                new="c = 1.0",
                says="takes the noise for normal: its mean square is not 1",
            ),
            "one_factor": Edit(
                function="noise_variance",
                old="c * (c * weight_spread",
                new="c * (weight_spread",
                says="forgets one of the two factors of a weight's noise",
            ),
            "not_squared": Edit(
                function="noise_variance",
                old="@ x.square()",
                new="@ x.abs()",
                says="does not square the inputs",
            ),
        },
        answer="""
No: each output's noise has a factor of its own with mean 0. They are not independent, though: when the
inputs' noise is large, it is large for both.
""",
    ),
    "head": Exercise(
        title="What is missing?",
        task="""
`mean_only` keeps the network and its atoms, and trains their mean. What differs from plain DQN's head, and
what would you measure to know whether it matters?
""",
        minutes=10,
        difficulty="easy",
        answer="""
Plain DQN's outputs are linear and unbounded. These are means of atoms, and stay between the outermost two.
Put a linear layer with A outputs in place of the head, train both on the same seeds, and look at the
differences of regret, seed by seed.
""",
    ),
}
