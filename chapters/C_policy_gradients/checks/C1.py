"""Definition checks of C1: each function against its equation, written out one number at a time."""

import math
from itertools import product

import numpy as np
import torch

from chapters.utils.edits import Edit

SHAPES = ((1, 1), (6, 3), (12, 4))  # (T, N)
ENDS = ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.2, 0.2))  # how often a step terminates, is truncated


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


def check_td_errors(td_errors):
    for data in rollouts():
        cut = {key: value for key, value in data.items() if key != "truncated"}
        found = td_errors(**cut, gamma=0.9)
        for t, i in np.ndindex(*found.shape):
            assert math.isclose(found[t, i], n_step_by_hand(data, 0.9, t, i, 1), rel_tol=1e-9, abs_tol=1e-12)


def check_n_step_advantages(n_step_advantages):
    for data in rollouts():
        for n in (1, 2, 4, 30):
            found = n_step_advantages(**data, gamma=0.9, n=n)
            for t, i in np.ndindex(*found.shape):
                by_hand = n_step_by_hand(data, 0.9, t, i, n)
                assert math.isclose(found[t, i], by_hand, rel_tol=1e-9, abs_tol=1e-12)
    # one long episode whose true successors are the next rows: n rewards, then the critic
    rewards, values = torch.randn(2, 11, 1, dtype=torch.float64)
    never = torch.zeros(10, 1, dtype=torch.bool)
    found = n_step_advantages(rewards[:10], values[:10], values[1:], never, never, 0.8, 3)
    paid = sum(0.8**k * rewards[2 + k, 0] for k in range(3))
    assert math.isclose(found[2, 0], paid + 0.8**3 * values[5, 0] - values[2, 0], rel_tol=1e-9)


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
                assert math.isclose(found[t, i], by_hand, rel_tol=1e-9, abs_tol=1e-9)


def check_a2c_loss(a2c_loss):
    torch.manual_seed(1)
    for size in (1, 7):
        log_probs, advantages, values, returns, entropy = torch.randn(5, size, dtype=torch.float64)
        leaves = [part.requires_grad_() for part in (log_probs, advantages, values, returns, entropy)]
        loss = a2c_loss(*leaves, 0.5, 0.01)
        lp, adv, v, ret, ent = (part.tolist() for part in leaves)
        by_hand = sum(
            -lp[i] * adv[i] + 0.5 * (v[i] - ret[i]) ** 2 - 0.01 * ent[i] for i in range(size)
        ) / size  # fmt: skip
        assert math.isclose(float(loss.detach()), by_hand, rel_tol=1e-9)
        loss.backward()
        torch.testing.assert_close(log_probs.grad, -advantages.detach() / size)
        torch.testing.assert_close(values.grad, (values - returns).detach() / size)
        torch.testing.assert_close(entropy.grad, torch.full_like(entropy, -0.01 / size).detach())
        assert advantages.grad is None, "the advantages are constants"
        assert returns.grad is None, "the critic's target is a constant"


def check_log_probs_of(log_probs_of):
    torch.manual_seed(2)

    logits, actions = torch.randn(5, 2, 4), torch.randint(4, (5, 2))
    taken, entropy = log_probs_of(logits, actions)
    policy = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(taken, policy.log_prob(actions))
    torch.testing.assert_close(entropy, policy.entropy())


def check_Chain(Chain):
    world = Chain(3)
    size, gamma, p = world.size, world.gamma, world.p_right
    # the value solves its own equation, state by state
    for s in range(size):
        left = world.V[s - 1] if s > 0 else 0.0
        right = world.V[s + 1] if s < size - 1 else 0.0
        pay = 1.0 if s == size - 1 else 0.0
        expected = (1 - p) * gamma * left + p * (pay + gamma * right)
        assert math.isclose(world.V[s], expected, rel_tol=1e-9)
    middle = size // 2
    advantage = gamma * world.V[middle + 1] - world.V[middle]
    for weights in (np.ones(1), gamma ** np.arange(9), 0.5 ** np.arange(50)):
        assert math.isclose(world.exact(world.V, weights), advantage, rel_tol=1e-9), (
            "a right critic has no bias"
        )
    # all the way to the end the critic's errors at later states cancel; only its error at the start stays
    off = world.critic[middle] - world.V[middle]
    assert math.isclose(world.exact(world.critic, gamma ** np.arange(2000)), advantage - off, abs_tol=1e-9)
    # one and two steps ahead, by hand
    c = world.critic
    one = gamma * c[middle + 1] - c[middle]
    assert math.isclose(world.exact(c, np.ones(1)), one, rel_tol=1e-9)
    later = (1 - p) * (gamma * c[middle] - c[middle + 1]) + p * (gamma * c[middle + 2] - c[middle + 1])
    assert math.isclose(world.exact(c, np.array([1.0, 0.7])), one + 0.7 * later, rel_tol=1e-9)

    data = {key: value.numpy() for key, value in world.sample(4000, 60).items()}
    assert np.allclose(data["values"][0], c[middle])
    assert np.allclose(data["next_values"][0], c[middle + 1])
    assert set(np.unique(data["terminated"].sum(axis=0))) <= {0, 1, 60 - 1} | set(range(61))
    ended = data["terminated"].cumsum(axis=0)  # an ended chain stays ended
    assert (np.diff(data["terminated"].astype(int), axis=0) >= 0).all()
    before = ended - data["terminated"] == 0
    assert np.allclose(data["next_values"][:-1][before[1:]], data["values"][1:][before[1:]])
    assert (data["rewards"][~before] == 0).all()
    assert (data["next_values"][data["terminated"]] == 0).all()
    discounted = (gamma ** np.arange(60)[:, None] * data["rewards"]).sum(axis=0)
    error = discounted.std() / math.sqrt(len(discounted))
    assert abs(discounted.mean() - gamma * world.V[middle + 1]) < 5 * error
    goes_right = data["next_values"][1] == c[middle + 2]
    assert abs(goes_right.mean() - p) < 5 * math.sqrt(p * (1 - p) / 4000)


def check_crossings(crossings):
    def series(returns):
        return {"x_return": [(100 * (i + 1), float(value)) for i, value in enumerate(returns)]}

    for returns, expected in (
        ([10, 480, 475, 500, 20], (200, 400, 0.6)),
        ([480, 100, 475, 475, 475], (100, 500, 0.8)),
        ([480, 480, 100, 480], (100, math.inf, 0.75)),
        ([474.9, 10], (math.inf, math.inf, 0.0)),
    ):
        assert np.allclose(crossings(series(returns), "x"), expected)


EDITS = {
    "bootstraps_through_terminal_state": Edit(
        function="td_errors",
        old="next_values * ~terminated - values",
        new="next_values - values",
        says="bootstraps through a terminal state",
    ),
    "bootstraps_only_at_terminal": Edit(
        function="td_errors",
        old="next_values * ~terminated - values",
        new="next_values * terminated - values",
        says="bootstraps only at terminal states",
    ),
    "sign_bootstrap": Edit(
        function="td_errors",
        old="return rewards + gamma * next_values",
        new="return rewards - gamma * next_values",
        says="sign of the bootstrap",
    ),
    "no_discount": Edit(
        function="td_errors",
        old="rewards + gamma * next_values",
        new="rewards + next_values",
        says="no discount",
    ),
    "adds_value": Edit(
        function="td_errors",
        old="~terminated - values  # eq",
        new="~terminated + values  # eq",
        says="adds the value",
    ),
    "one_step_too_many": Edit(
        function="n_step_advantages",
        old="for _ in range(n):",
        new="for _ in range(n + 1):",
        says="one step too many",
    ),
    "one_step_too_few": Edit(
        function="n_step_advantages",
        old="for _ in range(n):",
        new="for _ in range(n - 1):",
        says="one step too few",
    ),
    "runs_after_terminal_state": Edit(
        function="n_step_advantages",
        old="deltas + gamma * following * going_on",
        new="deltas + gamma * following * ~truncated",
        says="runs on after a terminal state",
    ),
    "runs_after_time_limit": Edit(
        function="n_step_advantages",
        old="deltas + gamma * following * going_on",
        new="deltas + gamma * following * ~terminated",
        says="runs on after a time limit",
    ),
    "adds_row_before": Edit(
        function="n_step_advantages",
        old="torch.cat([advantages[1:], torch.zeros_like(advantages[:1])])",
        new="torch.cat([torch.zeros_like(advantages[:1]), advantages[:-1]])",
        says="adds the row before",
    ),
    "adds_own_row": Edit(
        function="n_step_advantages",
        old="gamma * following * going_on",
        new="gamma * advantages * going_on",
        says="adds its own row",
    ),
    "n_step_advantages_no_discount": Edit(
        function="n_step_advantages",
        old="deltas + gamma * following * going_on",
        new="deltas + following * going_on",
        says="no discount",
    ),
    "masks_merged_sum_time": Edit(
        function="gae",
        old="running * going_on[t]",
        new="running * ~terminated[t]",
        says="masks merged in the sum: time limit ignored",
    ),
    "masks_merged_sum_end": Edit(
        function="gae",
        old="running * going_on[t]",
        new="running * ~truncated[t]",
        says="masks merged in the sum: end ignored",
    ),
    "no_mask": Edit(
        function="gae",
        old="running * going_on[t]",
        new="running",
        says="no mask",
    ),
    "lambda_squared": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gamma * gae_lambda**2 * running",
        says="lambda squared",
    ),
    "gae_no_discount": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gae_lambda * running",
        says="no discount",
    ),
    "mask_next_row": Edit(
        function="gae",
        old="running * going_on[t]",
        new="running * going_on[min(t + 1, len(rewards) - 1)]",
        says="mask of the next row",
    ),
    "forwards": Edit(
        function="gae",
        old="for t in reversed(range(len(rewards))):",
        new="for t in range(len(rewards)):",
        says="forwards",
    ),
    "no_bootstrap_at_time": Edit(
        function="gae",
        old="    running = torch.zeros_like(rewards[0])",
        new="    deltas = deltas - truncated * ~terminated * gamma * next_values\n    running = torch.zeros_like(rewards[0])",
        says="no bootstrap at a time limit",
    ),
    "sign_policy_gradient": Edit(
        function="a2c_loss",
        old="policy_loss = -(log_probs",
        new="policy_loss = (log_probs",
        says="sign of the policy gradient",
    ),
    "advantages_not_detached": Edit(
        function="a2c_loss",
        old="advantages.detach()).mean()",
        new="advantages).mean()",
        says="advantages not detached",
    ),
    "returns_not_detached": Edit(
        function="a2c_loss",
        old="(values - returns.detach())",
        new="(values - returns)",
        says="returns not detached",
    ),
    "entropy_punished": Edit(
        function="a2c_loss",
        old="- ent_coef * entropy.mean()",
        new="+ ent_coef * entropy.mean()",
        says="entropy punished",
    ),
    "sum_mean": Edit(
        function="a2c_loss",
        old="advantages.detach()).mean()",
        new="advantages.detach()).sum()",
        says="sum for mean",
    ),
    "absolute_error": Edit(
        function="a2c_loss",
        old=".square().mean()",
        new=".abs().mean()",
        says="absolute error",
    ),
    "log_probability_first_action": Edit(
        function="log_probs_of",
        old="actions.unsqueeze(-1)",
        new="0 * actions.unsqueeze(-1)",
        says="log-probability of the first action",
    ),
    "sign_entropy": Edit(
        function="log_probs_of",
        old="-(log_policy.exp() * log_policy).sum(dim=-1)",
        new="(log_policy.exp() * log_policy).sum(dim=-1)",
        says="sign of the entropy",
    ),
    "softmax_over_time": Edit(
        function="log_probs_of",
        old="torch.log_softmax(logits, dim=-1)",
        new="torch.log_softmax(logits, dim=0)",
        says="softmax over time",
    ),
    "goes_left_from_middle": Edit(
        function="Chain",
        old="reached, total = self.moves[1,",
        new="reached, total = self.moves[0,",
        says="goes left from the middle",
    ),
    "weights_off_one": Edit(
        function="Chain",
        old="for weight in weights[1:]:",
        new="for weight in weights[:-1]:",
        says="weights off by one",
    ),
    "moves_before_counts": Edit(
        function="Chain",
        old="            total += weight * reached @ under_policy  # eq. (4)\n",
        new="            total += weight * reached @ self.P @ under_policy\n",
        says="moves before it counts",
    ),
    "value_without_discount": Edit(
        function="Chain",
        old="np.eye(self.size) - self.gamma * self.P",
        new="np.eye(self.size) - self.P",
        says="value without a discount",
    ),
    "pays_ever": Edit(
        function="Chain",
        old="paid = (after == self.size) & (state < self.size)",
        new="paid = after >= self.size",
        says="pays for ever",
    ),
    "first_step_policy": Edit(
        function="Chain",
        old="(self.p_right if t else 1.0)",
        new="self.p_right",
        says="first step by the policy",
    ),
    "never_ends_at_left": Edit(
        function="Chain",
        old="(after < 0) | (after >= self.size)",
        new="(after >= self.size)",
        says="never ends at the left",
    ),
    "two_row": Edit(
        function="crossings",
        old="solved[i - IN_A_ROW : i].all()",
        new="solved[i - 2 : i].all()",
        says="two in a row",
    ),
    "first_three": Edit(
        function="crossings",
        old="row = [steps[i - 1] for i",
        new="row = [steps[i - 3] for i",
        says="the first of three",
    ),
    "strictly_above": Edit(
        function="crossings",
        old=">= SOLVED",
        new="> SOLVED",
        says="strictly above",
    ),
    "misses_last_check": Edit(
        function="crossings",
        old="range(IN_A_ROW, len(steps) + 1)",
        new="range(IN_A_ROW, len(steps))",
        says="misses the last check",
    ),
}
