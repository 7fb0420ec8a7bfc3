"""Definition checks of C0: each function against its equation, written out one number at a time."""

import math
from itertools import product

import numpy as np
import torch

from chapters.utils.edits import Edit

SHAPES = ((1, 2), (4, 3), (7, 5))  # (T, N)


def returns_by_hand(rewards, gamma):
    """Reward-to-go of [T, N] rewards, every sum written out."""
    T, N = rewards.shape
    return np.array(
        [[sum(gamma ** (k - t) * rewards[k, i] for k in range(t, T)) for i in range(N)] for t in range(T)]
    )


def others_by_hand(returns):
    """The mean of the other episodes, [T, N]."""
    T, N = returns.shape
    return np.array(
        [[sum(returns[t, j] for j in range(N) if j != i) / (N - 1) for i in range(N)] for t in range(T)]
    )


def check_score(score):
    rng = np.random.default_rng(5)
    for shape in ((6, 2), (6, 4), (3, 2, 4)):  # [*B, A]
        logits = torch.tensor(rng.normal(size=shape), requires_grad=True)
        actions = rng.integers(shape[-1], size=shape[:-1])
        log_probs = torch.log_softmax(logits, dim=-1)
        taken = log_probs.gather(-1, torch.from_numpy(actions)[..., None])
        taken.sum().backward()  # autograd knows no formula
        found = score(log_probs.exp().detach().numpy(), actions)
        np.testing.assert_allclose(found, logits.grad.numpy(), atol=1e-12)


def check_rewards_to_go(rewards_to_go):
    rng = np.random.default_rng(2)
    for shape in SHAPES:
        for gamma in (0.0, 0.7, 1.0):
            rewards = rng.normal(size=shape)
            found = rewards_to_go(rewards, gamma)
            np.testing.assert_allclose(
                found, returns_by_hand(rewards, gamma), atol=1e-12, err_msg=f"gamma {gamma}"
            )
    many = rng.normal(size=(4, 3, 6))  # a last axis of batches changes nothing
    found = rewards_to_go(many, 0.9)[..., 5]
    np.testing.assert_allclose(found, returns_by_hand(many[..., 5], 0.9), atol=1e-12)


def check_leave_one_out(leave_one_out):
    rng = np.random.default_rng(3)
    for shape in SHAPES:
        returns = rng.normal(size=shape)
        baseline = leave_one_out(returns)
        np.testing.assert_allclose(baseline, others_by_hand(returns), atol=1e-9)
        moved = returns.copy()
        moved[:, 0] += 10.0
        np.testing.assert_allclose(
            leave_one_out(moved)[:, 0],
            baseline[:, 0],
            atol=1e-9,
            err_msg="what an episode got has no part in its own baseline",
        )
    many = rng.normal(size=(4, 3, 6))  # a last axis of batches changes nothing
    np.testing.assert_allclose(leave_one_out(many)[..., 5], others_by_hand(many[..., 5]), atol=1e-9)


def check_three_weights(three_weights):
    rng = np.random.default_rng(4)
    for (T, N), gamma in product(SHAPES, (0.6, 1.0)):
        rewards = rng.normal(1.0, 1.0, size=(T, N, 2))
        found = three_weights(rewards, gamma)
        for m in range(2):
            G = returns_by_hand(rewards[..., m], gamma)
            factor = np.array([[gamma**t] for t in range(T)])
            expected = {
                "total_return": np.array([[G[0, i] for i in range(N)]] * T),
                "reward_to_go": factor * G,
                "leave_one_out": factor * (G - others_by_hand(G)),
            }
            assert set(found) == set(expected)
            for kind, weights in expected.items():
                np.testing.assert_allclose(found[kind][..., m], weights, atol=1e-9, err_msg=kind)


def check_policy_loss(policy_loss):
    rng = np.random.default_rng(9)
    for size, num_episodes in ((1, 2), (12, 3), (30, 5)):
        log_probs = torch.tensor(-rng.random(size), requires_grad=True)
        source = torch.tensor(rng.normal(size=size), requires_grad=True)
        loss = policy_loss(log_probs, 2.0 * source, num_episodes)
        by_hand = -sum(a * 2.0 * b for a, b in zip(log_probs.tolist(), source.tolist())) / num_episodes
        assert math.isclose(float(loss.detach()), by_hand, rel_tol=1e-9), (
            f"{num_episodes} episodes, {size} steps in all: expected {by_hand}, found {float(loss.detach())}"
        )
        loss.backward()
        np.testing.assert_allclose(log_probs.grad, -2.0 * source.detach() / num_episodes)
        assert source.grad is None, "the weights are constants: no gradient flows into them"
        loss = policy_loss(log_probs.detach(), 2.0 * source, num_episodes)
        assert not loss.requires_grad, "the weights are constants: no gradient flows into them"


LEARNING = ("fresh_return",)
EVERYTHING = ("enumerated_gap", "fresh_return")

EDITS = {
    "no_baseline": Edit(
        function="update",
        old="weights = returns - leave_one_out(returns)",
        new="weights = returns",
        says="reward-to-go without a baseline: every step of a long episode is pushed up",
        fails=LEARNING,
    ),
    "total_return": Edit(
        function="update",
        old="weights = returns - leave_one_out(returns)",
        new="weights = np.broadcast_to(returns[0], returns.shape)",
        says="every step is weighed by the whole episode, what came before it included",
        fails=LEARNING,
    ),
    "discounted": Edit(
        function="update",
        old="weights = returns - leave_one_out(returns)",
        new="weights = (returns - leave_one_out(returns)) * gamma ** np.arange(len(returns))[:, None]",
        says="the factor gamma^t is back, as the objective asks: late steps hardly count",
    ),
    "normalised": Edit(
        function="update",
        old="weights = returns - leave_one_out(returns)",
        new=(
            "weights = returns - leave_one_out(returns)\n"
            "    weights = (weights - weights[alive].mean()) / (weights[alive].std() + 1e-8)"
        ),
        says="weights of a batch are divided by their standard deviation: no longer the gradient's direction",
    ),
    "own_mean": Edit(
        function="leave_one_out",
        old="others / (returns.shape[1] - 1)",
        new="(others + returns) / returns.shape[1]",
        says="the mean over all episodes, one's own included: the gradient shrinks by 1 - 1/N",
        fails=("enumerated_gap",),
    ),
    "divides_by_all": Edit(
        function="leave_one_out",
        old="others / (returns.shape[1] - 1)",
        new="others / returns.shape[1]",
        says="the sum of the others is divided by N, not by N - 1: a baseline, but not their mean",
    ),
    "mean_over_time": Edit(
        function="leave_one_out",
        old="""others = returns.sum(axis=1, keepdims=True) - returns
    return others / (returns.shape[1] - 1)""",
        new="return returns.mean(axis=0, keepdims=True) + 0 * returns",
        says="the mean runs over an episode's own steps: it contains what the action itself earned",
        fails=EVERYTHING,
    ),
    "adds_baseline": Edit(
        function="three_weights",
        old="returns - leave_one_out(returns)",
        new="returns + leave_one_out(returns)",
        says="adds the baseline: the mean stays exact, and the noise grows",
    ),
    "discount_grows": Edit(
        function="three_weights",
        old="gamma ** np.arange",
        new="gamma ** -np.arange",
        says="later steps count more than the objective says",
        fails=("enumerated_gap",),
    ),
    "discount_off_by_one": Edit(
        function="three_weights",
        old="np.arange(len(returns))[",
        new="np.arange(1, 1 + len(returns))[",
        says="the first step is discounted already",
        fails=("enumerated_gap",),
    ),
    "undiscounted_weights": Edit(
        function="three_weights",
        old="discounts * returns,",
        new="returns,",
        says="reward-to-go without gamma^t: in general not the gradient of any objective",
        fails=("enumerated_gap",),
    ),
    "last_return": Edit(
        function="three_weights",
        old="returns[0]",
        new="returns[-1]",
        says="the return of the last step stands for that of the episode",
        fails=("enumerated_gap",),
    ),
    "sums_the_past": Edit(
        function="rewards_to_go",
        old="for t in reversed(range(len(rewards)))",
        new="for t in range(len(rewards))",
        says="sums what was paid before the action, not what follows it",
        fails=EVERYTHING,
    ),
    "off_by_one": Edit(
        function="rewards_to_go",
        old="returns[t] = following\n",
        new="returns[max(t - 1, 0)] = following if t else 0\n",
        says="each action gets the return of the next one, and not its own reward",
        fails=("enumerated_gap",),
    ),
    "no_discount": Edit(
        function="rewards_to_go",
        old="rewards[t] + gamma * following",
        new="rewards[t] + following",
        says="rewards far ahead count in full",
        fails=("enumerated_gap",),
    ),
    "discounts_the_reward": Edit(
        function="rewards_to_go",
        old="rewards[t] + gamma * following",
        new="gamma * (rewards[t] + following)",
        says="the reward of the step itself is discounted too",
        fails=("enumerated_gap",),
    ),
    "sign": Edit(
        function="policy_loss",
        old="return -(log_probs * weights.detach())",
        new="return (log_probs * weights.detach())",
        says="goes downhill: the loss has the gradient, where it needs minus the gradient",
        fails=EVERYTHING,
    ),
    "weights_not_detached": Edit(
        function="policy_loss",
        old="weights.detach()",
        new="weights",
        says="lets gradients into the weights, which are measured numbers",
    ),
    "mean_over_steps": Edit(
        function="policy_loss",
        old=".sum() / num_episodes",
        new=".mean()",
        says="divides by the number of steps: a step of a long batch counts less",
        fails=("enumerated_gap",),
    ),
    "sum_over_episodes": Edit(
        function="policy_loss",
        old=".sum() / num_episodes",
        new=".sum()",
        says="a sum over episodes where their mean was asked for",
        fails=("enumerated_gap",),
    ),
    "score_sign": Edit(
        function="score",
        old="np.eye(probs.shape[-1])[actions] - probs",
        new="probs - np.eye(probs.shape[-1])[actions]",
        says="probabilities less one-hot: the gradient of the cross-entropy loss, which is to fall",
    ),
    "gradient_of_the_probability": Edit(
        function="score",
        old="np.eye(probs.shape[-1])[actions] - probs",
        new="probs * (np.eye(probs.shape[-1])[actions] - probs)",
        says="a gradient of probabilities, not of their logarithms",
    ),
    "another_action": Edit(
        function="score",
        old="[actions] - probs",
        new="[actions - 1] - probs",
        says="scores an action that was not taken",
    ),
    "acts_greedily": Edit(
        function="collect",
        old="(logits + rng.gumbel(size=logits.shape)).argmax(axis=1)",
        new="logits.argmax(axis=1)",
        says="always takes the likeliest action: the episodes are no sample of the policy",
        fails=LEARNING,
    ),
    "first_action": Edit(
        function="update",
        old="log_probs.gather(1, actions[:, None])",
        new="log_probs.gather(1, 0 * actions[:, None])",
        says="raises the log-probability of action 0, whatever was done",
        fails=LEARNING,
    ),
    "no_step": Edit(
        function="update",
        old="    loss.backward()\n    optimizer.step()\n",
        new="    loss.backward()\n",
        says="computes the gradient and does not take the step",
        fails=LEARNING,
    ),
}
