"""Exercises of C3: its functions, and what goes beyond them."""

import math

import torch
from torch import Tensor

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip_eps: float) -> Tensor:
    """Mean over transitions [B] of the critic's squared error, with its step clipped, eq. (E1)."""
    near = old_values + (values - old_values).clamp(-clip_eps, clip_eps)
    return torch.max((values - returns) ** 2, (near - returns) ** 2).mean()


def check_clipped_value_loss(clipped_value_loss):
    torch.manual_seed(11)
    for size in (1, 5, 40):
        for clip_eps in (0.1, 0.5):
            values, old_values, returns = torch.randn(3, size, dtype=torch.float64)
            values.requires_grad_()
            found = clipped_value_loss(values, old_values, returns, clip_eps)
            (slope,) = torch.autograd.grad(found, values)
            total = 0.0
            for b in range(size):
                v, old, target = (float(x[b]) for x in (values.detach(), old_values, returns))
                near = min(max(v, old - clip_eps), old + clip_eps)
                total += max((v - target) ** 2, (near - target) ** 2)
                free = near == v or (v - target) ** 2 > (near - target) ** 2
                expected = 2 * (v - target) / size if free else 0.0
                assert math.isclose(slope[b], expected, rel_tol=1e-9, abs_tol=1e-12)
            assert math.isclose(found.detach(), total / size, rel_tol=1e-9)


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="Write the two functions that make PPO what it is, from (2) and (4).",
        minutes=30,
        difficulty="medium",
        functions=("gae", "clipped_surrogate"),
    ),
    "clipped_value_loss": Exercise(
        title="A clip for the critic",
        task=r"""
Many implementations also clip the critic's step (`huang2022details`): $V(s_t)$ counts only as far as
$\epsilon_\text{clip}$ from the $V_\text{old}(s_t)$ of the rollout, and of the two squared errors the larger
is taken.

$$\tfrac1B \textstyle\sum_t \max\bigl[(V - \hat R)^2,\; (V_\text{old} + \mathrm{clip}(V - V_\text{old},
-\epsilon_\text{clip}, \epsilon_\text{clip}) - \hat R)^2\bigr] \tag{E1}$$

Then `rl break C3 clipped_critic`: does it help?
""",
        minutes=25,
        difficulty="medium",
        solution=clipped_value_loss,
        check=check_clipped_value_loss,
        hints=(
            "The critic pays for its error where it may go, or for where it is: whichever is worse.",
            "With a clip range of infinity both errors are the same: the plain squared error.",
            "near = old_values + (values - old_values).clamp(-clip_eps, clip_eps)",
        ),
        edits={
            "smaller_error": Edit(
                function="clipped_value_loss",
                old="torch.max(",
                new="torch.min(",
                says="takes the smaller error: a step beyond the clip range is free",
            ),
            "only_clipped": Edit(
                function="clipped_value_loss",
                old="torch.max((values - returns) ** 2, (near - returns) ** 2)",
                new="((near - returns) ** 2)",
                says="a clip alone: beyond it no gradient pulls the critic back",
            ),
            "around_the_target": Edit(
                function="clipped_value_loss",
                old="old_values + (values - old_values)",
                new="returns + (values - returns)",
                says="clips around the target instead of the old value",
            ),
        },
        answer=r"""
It learns more slowly, and on some seeds not enough ("critic clipped too" in the figure). The range is in
units of value: CartPole's values grow towards $1 / (1 - \gamma) = 100$, and the critic may not follow.
""",
    ),
}
