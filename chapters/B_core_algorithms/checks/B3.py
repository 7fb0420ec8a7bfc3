"""B3's functions against their definitions, one number at a time, and its named edits."""

import math
import random

import torch

from chapters.utils.edits import Edit

CONSTANT = ("td_target", "max_value")  # to the loss: they may be written with or without a gradient


def check_td_target(td_target):
    torch.manual_seed(0)
    for size in (1, 5, 64):
        rewards, next_values = torch.randn(2, size)
        terminated = torch.rand(size) < 0.4
        for gamma in (0.0, 0.5, 0.99):
            targets = td_target(rewards, next_values, terminated, gamma)
            for i in range(size):
                rest = 0.0 if terminated[i] else gamma * float(next_values[i])
                expected = float(rewards[i]) + rest
                assert math.isclose(targets[i], expected, rel_tol=1e-5, abs_tol=1e-6), (
                    f"reward {rewards[i]:.3f}, next value {next_values[i]:.3f}, terminated {terminated[i]}, "
                    f"gamma {gamma}: expected {expected:.4f}, found {float(targets[i]):.4f}"
                )


def check_max_value(max_value):
    torch.manual_seed(1)
    for batch, num_actions in ((1, 1), (3, 2), (8, 5), (64, 2)):
        target_q = torch.randn(batch, num_actions) - 2.0  # mostly negative: a maximum with zero would show
        values = max_value(target_q)
        expected = [max(row) for row in target_q.tolist()]
        assert values.tolist() == expected, f"actions worth {target_q[0].tolist()}: found {values[0]:.4f}"


def check_huber_loss(huber_loss):
    errors = torch.tensor([0.0, 0.3, -0.3, 1.0, -1.0, 1.5, -4.0, 100.0])
    target = torch.linspace(-2.0, 2.0, len(errors))
    predicted = (target + errors).requires_grad_()
    loss = huber_loss(predicted, target)
    by_hand = [e * e / 2 if abs(e) <= 1 else abs(e) - 0.5 for e in errors.tolist()]
    expected_loss = sum(by_hand) / len(by_hand)
    assert math.isclose(float(loss.detach()), expected_loss, rel_tol=1e-5), (
        f"errors {errors.tolist()}: expected {expected_loss:.4f}, found {float(loss.detach()):.4f}"
    )
    loss.backward()
    expected = errors.clamp(-1.0, 1.0) / len(errors)  # the clipped error, over B
    torch.testing.assert_close(predicted.grad, expected, atol=1e-6, rtol=1e-5)


def check_semi_gradient_step(semi_gradient_step):
    """One step from the definition; the fixed point of a two-state loop; a terminal state."""
    rng = random.Random(0)
    for _ in range(50):
        w, x, next_x, reward = (rng.gauss(0, 1) for _ in range(4))
        gamma, alpha = rng.random(), rng.random()
        expected = w + alpha * (reward + gamma * (next_x * w) - x * w) * x
        found = semi_gradient_step(w=w, x=x, next_x=next_x, reward=reward, gamma=gamma, alpha=alpha)
        assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12), (
            f"w {w:.3f}, x {x:.3f}, next x {next_x:.3f}, reward {reward:.3f}, gamma {gamma:.3f}, "
            f"alpha {alpha:.3f}: expected {expected:.6f}, found {found:.6f}"
        )
    w = 0.0
    for _ in range(2000):  # a state that leads to itself and pays 1: its value is 1 / (1 - gamma)
        w = semi_gradient_step(w=w, x=2.0, next_x=2.0, reward=1.0, gamma=0.9, alpha=0.1)
    assert math.isclose(2.0 * w, 10.0, rel_tol=1e-6), f"value of the loop {2 * w:.4f}, expected 10"


EDITS = {
    "full_gradient": Edit(
        function="semi_gradient_step",
        old="alpha * td_error * x",
        new="alpha * td_error * (x - gamma * next_x)",
        says="the gradient of the whole squared error, target included: another fixed point in a noisy world",
    ),
    "no_features": Edit(
        function="semi_gradient_step",
        old="alpha * td_error * x",
        new="alpha * td_error",
        says="moves the weight as if every state had the feature 1",
    ),
    "sign_of_the_bootstrap": Edit(
        function="td_target",
        old="return rewards + gamma",
        new="return rewards - gamma",
        says="subtracts the successor's value",
        fails=("loss_gap",),
    ),
    "no_terminal": Edit(
        function="td_target",
        old="gamma * ~terminated * next_values",
        new="gamma * next_values",
        says="bootstraps through a terminal state: a fallen pole earns on",
        fails=("loss_gap",),
    ),
    "only_at_terminal": Edit(
        function="td_target",
        old="gamma * ~terminated *",
        new="gamma * terminated *",
        says="bootstraps only at terminal states: the mask is the wrong way round",
        fails=("loss_gap",),
    ),
    "no_discount": Edit(
        function="td_target",
        old="rewards + gamma * ~terminated",
        new="rewards + ~terminated",
        says="forgets the discount",
        fails=("loss_gap",),
    ),
    "mean_for_max": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.mean(dim=1)",
        says="the mean over actions: the value of acting at random",
        fails=("loss_gap",),
    ),
    "maximum_over_batch": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.amax(dim=0)",
        says="the maximum over the batch, not over the actions",
    ),
    "never_below_zero": Edit(
        function="max_value",
        old="return target_q.amax(dim=1)",
        new="return target_q.amax(dim=1).clamp(min=0)",
        says="no state is ever worth less than 0",
    ),
    "square": Edit(
        function="huber_loss",
        old="torch.where(error <= 1.0, 0.5 * error**2, error - 0.5)",
        new="(0.5 * error**2)",
        says="the square everywhere: no error is clipped",
        fails=("loss_gap",),
    ),
    "no_half": Edit(
        function="huber_loss",
        old="0.5 * error**2, error",
        new="error**2, error",
        says="forgets the half: the two pieces no longer meet",
        fails=("loss_gap",),
    ),
    "jump_at_one": Edit(
        function="huber_loss",
        old="error - 0.5).mean()",
        new="error).mean()",
        says="jumps where the square ends",
        fails=("loss_gap",),
    ),
    "sum_for_mean": Edit(
        function="huber_loss",
        old="error - 0.5).mean()",
        new="error - 0.5).sum()",
        says="the sum over the minibatch: a step B times as large",
        fails=("loss_gap",),
    ),
    "keeps_the_last": Edit(
        function="KeepBest",
        old="if score > self.best_return:",
        new="if True:",
        says="saves every model as the best: what you keep is the last one, which on seed 0 has forgotten",
        fails=("best_return",),
    ),
    "limit_merged": Edit(
        function="make_model",
        old='device="cpu",',
        new='device="cpu", replay_buffer_kwargs={"handle_timeout_termination": False},',
        says="a time limit counts as an end: a pole that still stands is worth no more than a fallen one",
    ),
}
