"""Exercises of C1: its functions, n steps ahead, a time limit with one mask, and the two ends of lambda."""

import math

import numpy as np
import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def n_step_advantages(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor,
    gamma: float, n: int,
) -> Tensor:  # fmt: skip
    """Advantages [T, N] by (2): up to n rewards, fewer where an episode or the rollout ends before."""
    deltas = rewards + gamma * next_values * ~terminated - values
    going_on = ~(terminated | truncated)
    advantages = torch.zeros_like(rewards)
    for _ in range(n):  # one more TD error, behind those that are there
        following = torch.cat([advantages[1:], torch.zeros_like(advantages[:1])])
        advantages = deltas + gamma * following * going_on
    return advantages


def rewards_for_one_mask(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, truncated: Tensor, gamma: float
) -> Tensor:
    """Rewards [T, N] with which GAE may take every end for a terminal state."""
    only_cut = truncated & ~terminated
    return rewards + gamma * next_values * only_cut


def rollouts():
    """Rewards, values, next values, terminated, truncated [T, N]: random, with few and with many ends."""
    torch.manual_seed(22)
    for T, N in ((1, 1), (3, 1), (5, 2), (9, 3)):
        for share in (0.0, 0.2, 0.5):
            rewards, values, next_values = torch.randn(3, T, N, dtype=torch.float64)
            terminated, truncated = torch.rand(2, T, N) < share
            for t in range(T - 1):  # the next row's value, but where an episode ends
                next_values[t] = torch.where((terminated | truncated)[t], next_values[t], values[t + 1])
            yield rewards, values, next_values, terminated, truncated


def check_n_step_advantages(n_step_advantages):
    for rollout in rollouts():
        rewards, values, next_values, terminated, truncated = rollout
        for n in (1, 2, 4, 30):
            found = n_step_advantages(*rollout, 0.9, n)
            for t, i in np.ndindex(*rewards.shape):
                total = -float(values[t, i])
                for k in range(n):  # rewards, and the critic only where the sum stops
                    row = t + k
                    total += 0.9**k * float(rewards[row, i])
                    if terminated[row, i] or truncated[row, i] or row == len(rewards) - 1 or k == n - 1:
                        break
                if not terminated[row, i]:
                    total += 0.9 ** (row - t + 1) * float(next_values[row, i])
                assert math.isclose(found[t, i], total, rel_tol=1e-5, abs_tol=1e-5), (
                    f"row {t} of {len(rewards)}, n {n}, the sum stops at row {row}, "
                    f"terminated {terminated[row, i]}, truncated {truncated[row, i]}: "
                    f"expected {total:.4f}, found {found[t, i]:.4f}"
                )


def check_rewards_for_one_mask(rewards_for_one_mask):
    for rewards, values, next_values, terminated, truncated in rollouts():
        for gamma, lam in ((0.9, 0.7), (1.0, 1.0), (0.8, 0.0)):
            found = rewards_for_one_mask(rewards, next_values, terminated, truncated, gamma)
            for i in range(rewards.shape[1]):
                with_two = with_one = 0.0
                for t in reversed(range(len(rewards))):
                    ends, cut = bool(terminated[t, i]), bool(truncated[t, i])
                    ahead = gamma * float(next_values[t, i])
                    goes_on = 0.0 if ends or cut else gamma * lam
                    delta = float(rewards[t, i]) + (0.0 if ends else ahead) - float(values[t, i])
                    with_two = delta + goes_on * with_two
                    delta = float(found[t, i]) + (0.0 if ends or cut else ahead) - float(values[t, i])
                    with_one = delta + goes_on * with_one
                    assert math.isclose(with_one, with_two, rel_tol=1e-5, abs_tol=1e-5), (
                        f"terminated {ends}, truncated {cut}, gamma {gamma}, lambda {lam}: "
                        f"the advantage should be {with_two:.4f}, with one mask it is {with_one:.4f}"
                    )


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="Write the advantages and the loss, from (1), (3) and (5).",
        minutes=30,
        difficulty="medium",
        functions=("gae", "a2c_loss"),
    ),
    "n_step_advantages": Exercise(
        title="n steps, then the critic",
        task=r"""
Write (2) for a whole rollout: each row adds up to $n$ of the TD errors (1), fewer where the episode or the
rollout ends before. (In a rollout $V(s_{t+1})$ is `next_values[t]`, which at an end is not `values[t + 1]`.)
""",
        minutes=25,
        difficulty="medium",
        solution=n_step_advantages,
        check=check_n_step_advantages,
        hints=(
            "n errors are the first one, plus gamma times the n - 1 errors of the next row.",
            "With n = 1 it is (1) itself; with n as long as the rollout it is (3) with lambda = 1.",
            "deltas = rewards + gamma * next_values * ~terminated - values",
        ),
        edits={
            "past_the_end": Edit(
                function="n_step_advantages",
                old="gamma * next_values * ~terminated",
                new="gamma * next_values",
                says="asks the critic what comes after the end",
            ),
            "limit_is_an_end": Edit(
                function="n_step_advantages",
                old="next_values * ~terminated",
                new="next_values * ~(terminated | truncated)",
                says="takes a time limit for an end: the state that it cuts is worth nothing",
            ),
            "next_row": Edit(
                function="n_step_advantages",
                old="gamma * next_values * ~terminated",
                new="gamma * torch.cat([values[1:], next_values[-1:]]) * ~terminated",
                says="takes the next row's value for the successor's: after an end that is another episode's",
            ),
            "next_episode": Edit(
                function="n_step_advantages",
                old="gamma * following * going_on",
                new="gamma * following",
                says="sums on into the next episode",
            ),
            "one_too_many": Edit(
                function="n_step_advantages",
                old="range(n)",
                new="range(n + 1)",
                says="takes n + 1 steps",
            ),
            "not_discounted": Edit(
                function="n_step_advantages",
                old="deltas + gamma * following",
                new="deltas + following",
                says="later errors count in full",
            ),
        },
    ),
    "rewards_for_one_mask": Exercise(
        title="One mask instead of two",
        task=r"""
Stable-Baselines3 knows only *done*: where it is set, the bootstrap in (1) and the sum in (3) both end. Before
that, it changes the rewards so that the advantages are those of our two masks all the same. Write the change.
""",
        minutes=10,
        difficulty="easy",
        solution=rewards_for_one_mask,
        check=check_rewards_for_one_mask,
        hints=(
            "What does (1) lose where a time limit is taken for an end?",
            "Without time limits nothing changes; nor where a step ends both ways, for that is an end.",
            "only_cut = truncated & ~terminated",
        ),
        edits={
            "also_at_ends": Edit(
                function="rewards_for_one_mask",
                old="truncated & ~terminated",
                new="truncated | terminated",
                says="adds a value at terminal states too, where there is none",
            ),
            "both_at_once": Edit(
                function="rewards_for_one_mask",
                old="truncated & ~terminated",
                new="truncated",
                says="adds a value where a step is cut and ends at once: an end comes first",
            ),
            "undiscounted": Edit(
                function="rewards_for_one_mask",
                old="rewards + gamma * next_values",
                new="rewards + next_values",
                says="forgets to discount the value, which comes one step later than the reward",
            ),
        },
        answer=r"""
Add $\gamma V(s_{t+1})$ to the reward where a time limit cut and nothing terminated. The sum in (1) does not
care which part is called reward.
""",
    ),
    "two_ends": Exercise(
        title="Two ends of a scale",
        task=r"""
Show that (3) with $\lambda = 1$ is (2) with the largest $n$ that the rollout allows. How many steps is that
for its first row, and for its last? When is it C0's reward-to-go?
""",
        minutes=10,
        difficulty="easy",
        answer=r"""
The weights are $\gamma^k$, as in (2): $T$ steps ahead for the first of $T$ rows, one for the last. Where the
episode terminates within the rollout, only $-V(s_t)$ is left of the critic: with $V = 0$, that is $G_t$.
""",
    ),
}
