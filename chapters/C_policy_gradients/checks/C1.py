"""Definition checks of C1: each function against its equation, written out one number at a time."""

import math
from itertools import product

import numpy as np
import torch

from chapters.utils.edits import Edit

SHAPES = ((1, 1), (3, 1), (8, 3))  # (T, N)
ENDS = ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.2, 0.2))  # how often a step terminates, is truncated
CONSTANT = ("gae", "n_step_advantages", "rewards_for_one_mask")  # to the loss: with or without a gradient


def rollouts():
    """Random rollouts: keyword arguments of the estimators, values and ends independent of each other."""
    torch.manual_seed(0)
    for (T, N), (terminates, cuts) in product(SHAPES, ENDS):
        rewards, values, next_values = torch.randn(3, T, N, dtype=torch.float64)
        yield {
            "rewards": rewards,
            "values": values,
            "next_values": next_values,
            "terminated": torch.rand(T, N) < terminates,
            "truncated": torch.rand(T, N) < cuts,
        }


def n_step_by_hand(data, gamma, t, i, n):
    """TD errors of up to n steps, each written out; an end or the rollout's last row stops the sum."""
    total = 0.0
    for k in range(n):
        row = t + k
        rest = 0.0 if data["terminated"][row, i] else gamma * float(data["next_values"][row, i])
        total += gamma**k * (float(data["rewards"][row, i]) + rest - float(data["values"][row, i]))
        if data["terminated"][row, i] or data["truncated"][row, i] or row == len(data["rewards"]) - 1:
            break
    return total


def check_gae(gae):
    for data in rollouts():
        T = len(data["rewards"])
        for lam in (0.0, 0.6, 1.0):
            found = gae(**data, gamma=0.9, gae_lambda=lam)
            for t, i in np.ndindex(*found.shape):
                # the average over n with weights (1 - lambda) lambda^(n - 1); beyond T nothing changes
                weights = [(1 - lam) * lam ** (n - 1) for n in range(1, T)] + [lam ** (T - 1)]
                by_hand = sum(
                    weight * n_step_by_hand(data, 0.9, t, i, n) for n, weight in enumerate(weights, start=1)
                )
                assert math.isclose(found[t, i], by_hand, rel_tol=1e-5, abs_tol=1e-5), (
                    f"row {t} of {T}, lambda {lam}, terminated {data['terminated'][t, i]}, "
                    f"truncated {data['truncated'][t, i]}: expected {by_hand:.4f}, found {found[t, i]:.4f}"
                )


def check_a2c_loss(a2c_loss):
    torch.manual_seed(1)
    for size in (1, 7):
        log_probs, advantages, values, returns, entropy = torch.randn(5, size, dtype=torch.float64)
        for part in (log_probs, values, entropy):  # advantages and returns are constants
            part.requires_grad_()
        parts = log_probs, advantages, values, returns, entropy
        loss = a2c_loss(*parts, 0.5, 0.01)
        lp, adv, v, ret, ent = (part.tolist() for part in parts)
        by_hand = sum(
            -lp[i] * adv[i] + 0.5 * (v[i] - ret[i]) ** 2 - 0.01 * ent[i] for i in range(size)
        ) / size  # fmt: skip
        assert math.isclose(float(loss.detach()), by_hand, rel_tol=1e-5), (
            f"batch of {size}: expected {by_hand:.4f}, found {float(loss.detach()):.4f}"
        )
        loss.backward()
        torch.testing.assert_close(log_probs.grad, -advantages / size)
        torch.testing.assert_close(values.grad, (values - returns).detach() / size)
        torch.testing.assert_close(entropy.grad, torch.full_like(entropy, -0.01 / size).detach())


def check_log_probs_of(log_probs_of):
    torch.manual_seed(2)

    logits, actions = torch.randn(5, 2, 4), torch.randint(4, (5, 2))
    taken, entropy = log_probs_of(logits, actions)
    policy = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(taken, policy.log_prob(actions))
    torch.testing.assert_close(entropy, policy.entropy())


LEARNING = ("a2c_best_return",)

EDITS = {
    "bootstraps_through": Edit(
        function="gae",
        old="next_values * ~terminated - values",
        new="next_values - values",
        says="bootstraps through a terminal state, as if the world went on",
        fails=("bootstrap_kept", "a2c_best_return"),
    ),
    "time_limit_ends": Edit(
        function="gae",
        old="next_values * ~terminated - values",
        new="next_values * ~(terminated | truncated) - values",
        says="takes a time limit for an end: the state that it cut off counts nothing",
        fails=("bootstrap_kept",),
    ),
    "bootstraps_at_ends_only": Edit(
        function="gae",
        old="next_values * ~terminated - values",
        new="next_values * terminated - values",
        says="asks the critic only where nothing follows",
        fails=("bootstrap_kept", "a2c_best_return"),
    ),
    "sign_of_the_bootstrap": Edit(
        function="gae",
        old="rewards + gamma * next_values",
        new="rewards - gamma * next_values",
        says="subtracts the value of the next state",
        fails=("bootstrap_kept", "a2c_best_return"),
    ),
    "no_discount_of_values": Edit(
        function="gae",
        old="rewards + gamma * next_values",
        new="rewards + next_values",
        says="the next state's value counts in full: the critic's values grow beyond all that can be earned",
        fails=("bootstrap_kept", "critic_ceiling"),
    ),
    "next_row": Edit(
        function="gae",
        old="gamma * next_values * ~terminated",
        new="gamma * torch.cat([values[1:], next_values[-1:]]) * ~terminated",
        says="takes the next row's value for the successor's: after a time limit that is another episode's",
    ),
    "adds_the_value": Edit(
        function="gae",
        old="~terminated - values  # eq",
        new="~terminated + values  # eq",
        says="adds the value of the state instead of subtracting it",
        fails=("critic_ceiling",),
    ),
    "runs_past_time_limits": Edit(
        function="gae",
        old="running * going_on[t]",
        new="running * ~terminated[t]",
        says="after a time limit the sum runs on into the next episode",
    ),
    "runs_past_ends": Edit(
        function="gae",
        old="running * going_on[t]",
        new="running * ~truncated[t]",
        says="after a terminal state the sum runs on into the next episode",
    ),
    "no_mask": Edit(
        function="gae",
        old="running * going_on[t]",
        new="running",
        says="the sum runs on into the next episode, whatever ended this one",
    ),
    "mask_of_the_next_row": Edit(
        function="gae",
        old="running * going_on[t]",
        new="running * going_on[min(t + 1, len(rewards) - 1)]",
        says="the mask is a row late",
    ),
    "lambda_squared": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gamma * gae_lambda**2 * running",
        says="forgets the later errors too fast",
    ),
    "no_discount": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gae_lambda * running",
        says="later errors are not discounted",
    ),
    "forwards": Edit(
        function="gae",
        old="for t in reversed(range(len(rewards))):",
        new="for t in range(len(rewards)):",
        says="sums what came before, not what follows",
    ),
    "sign": Edit(
        function="a2c_loss",
        old="policy_loss = -(log_probs",
        new="policy_loss = (log_probs",
        says="lowers the probability of what turned out well",
        fails=LEARNING,
    ),
    "entropy_punished": Edit(
        function="a2c_loss",
        old="- ent_coef * entropy.mean()",
        new="+ ent_coef * entropy.mean()",
        says="pays for certainty instead of for staying undecided",
    ),
    "sum_for_mean": Edit(
        function="a2c_loss",
        old="(log_probs * advantages).mean()",
        new="(log_probs * advantages).sum()",
        says="a sum over the batch where the other terms are means: the critic hardly counts",
    ),
    "absolute_error": Edit(
        function="a2c_loss",
        old=".square().mean()",
        new=".abs().mean()",
        says="the critic learns medians, not means",
    ),
    "first_action": Edit(
        function="log_probs_of",
        old="actions.unsqueeze(-1)",
        new="0 * actions.unsqueeze(-1)",
        says="log-probability of action 0, whatever was done",
        fails=LEARNING,
    ),
    "sign_of_the_entropy": Edit(
        function="log_probs_of",
        old="-(log_policy.exp() * log_policy).sum(dim=-1)",
        new="(log_policy.exp() * log_policy).sum(dim=-1)",
        says="minus the entropy",
    ),
    "softmax_over_time": Edit(
        function="log_probs_of",
        old="torch.log_softmax(logits, dim=-1)",
        new="torch.log_softmax(logits, dim=0)",
        says="probabilities sum to one over the steps, not over the actions",
    ),
    "leaks": Edit(
        function="update",
        old="values.detach(), next_values",
        new="values, next_values",
        says="the policy's gradient also flows into the critic, whose values then serve the policy's loss",
        fails=("critic_ceiling",),
    ),
    "merged": Edit(
        function="update",
        old='ends = batch["terminated"], batch["truncated"]',
        new='ends = batch["terminated"] | batch["truncated"], batch["truncated"]',
        says="hands time limits over as ends: `gae` then leaves out what the cut-off states are worth",
    ),
    "next_episode": Edit(
        function="rollout",
        old="successors = true_next_obs(next_obs, terminated | truncated, infos)",
        new="successors = next_obs",
        says="takes the first observation of the next episode for the successor",
    ),
    "learns_the_advantage": Edit(
        function="update",
        old="returns = (advantages + values).detach()",
        new="returns = advantages",
        says="the critic's target is the advantage: it learns how wrong it is, not what a state is worth",
    ),
    "no_step": Edit(
        function="update",
        old="    loss.backward()\n",
        new="",
        says="no gradient is ever computed, and no step taken",
        fails=LEARNING,
    ),
}
