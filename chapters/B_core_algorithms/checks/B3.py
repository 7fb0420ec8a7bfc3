"""Definition checks of B3: the target and the loss, one number at a time."""

import math

import torch

from chapters.utils.edits import Edit


def check_td_target(td_target):
    torch.manual_seed(0)
    for size in (1, 5, 64):
        rewards, next_values = torch.randn(2, size)
        terminated = torch.rand(size) < 0.4
        for gamma in (0.0, 0.5, 0.99):
            targets = td_target(rewards, next_values, terminated, gamma)
            for i in range(size):
                rest = 0.0 if terminated[i] else gamma * float(next_values[i])
                assert math.isclose(targets[i], float(rewards[i]) + rest, rel_tol=1e-5, abs_tol=1e-6)


def check_max_value(max_value):
    torch.manual_seed(1)
    for batch, num_actions in ((1, 1), (3, 2), (8, 5), (64, 2)):
        target_q = torch.randn(batch, num_actions) - 2.0  # mostly negative: a maximum with zero would show
        values = max_value(target_q)
        assert values.tolist() == [max(row) for row in target_q.tolist()]


def check_huber_loss(huber_loss):
    errors = torch.tensor([0.0, 0.3, -0.3, 1.0, -1.0, 1.5, -4.0, 100.0])
    target = torch.linspace(-2.0, 2.0, len(errors))
    predicted = (target + errors).requires_grad_()
    loss = huber_loss(predicted, target)
    by_hand = [e * e / 2 if abs(e) <= 1 else abs(e) - 0.5 for e in errors.tolist()]
    assert math.isclose(float(loss.detach()), sum(by_hand) / len(by_hand), rel_tol=1e-5)
    loss.backward()
    expected = errors.clamp(-1.0, 1.0) / len(errors)  # the clipped error, over B
    torch.testing.assert_close(predicted.grad, expected, atol=1e-6, rtol=1e-5)


EDITS = {
    "sign_bootstrap": Edit(
        function="td_target",
        old="return rewards + gamma",
        new="return rewards - gamma",
        says="sign of the bootstrap",
    ),
    "bootstraps_through_terminal_state": Edit(
        function="td_target",
        old="gamma * ~terminated * next_values",
        new="gamma * next_values",
        says="bootstraps through a terminal state",
    ),
    "bootstraps_only_at_terminal": Edit(
        function="td_target",
        old="gamma * ~terminated *",
        new="gamma * terminated *",
        says="bootstraps only at terminal states",
    ),
    "no_discount": Edit(
        function="td_target",
        old="rewards + gamma * ~terminated",
        new="rewards + ~terminated",
        says="no discount",
    ),
    "mean_max": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.mean(dim=1)",
        says="mean for max",
    ),
    "maximum_over_batch": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.amax(dim=0)",
        says="maximum over the batch",
    ),
    "never_below_zero": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.amax(dim=1).clamp(min=0)",
        says="never below zero",
    ),
    "quadratic_everywhere": Edit(
        function="huber_loss",
        old="torch.where(error <= 1.0, 0.5 * error**2, error - 0.5)",
        new="(0.5 * error**2)",
        says="quadratic everywhere",
    ),
    "no_half": Edit(
        function="huber_loss",
        old="0.5 * error**2, error",
        new="error**2, error",
        says="no half",
    ),
    "jump_at_one": Edit(
        function="huber_loss",
        old="error - 0.5).mean()",
        new="error).mean()",
        says="jump at one",
    ),
    "sum_mean": Edit(
        function="huber_loss",
        old="error - 0.5).mean()",
        new="error - 0.5).sum()",
        says="sum for mean",
    ),
}
