"""Definition checks of E3: each function against its equation, written out one number at a time."""

import math
import sys
from dataclasses import replace

import numpy as np
import torch

from chapters.utils.edits import Edit

SHAPES = ((1, 1), (2, 3), (7, 2), (20, 5))  # (T, N), or (B, L)


def check_td_target(td_target):
    torch.manual_seed(0)
    for T, N in SHAPES:
        rewards, next_values = torch.randn(2, T, N, dtype=torch.float64)
        terminated = torch.rand(T, N) < 0.4
        for gamma in (0.0, 0.5, 0.99, 1.0):
            found = td_target(rewards, next_values, terminated, gamma)
            for t in range(T):
                for n in range(N):
                    rest = 0.0 if terminated[t, n] else gamma * float(next_values[t, n])
                    assert math.isclose(found[t, n], float(rewards[t, n]) + rest, abs_tol=1e-12)


def check_gae(gae):
    torch.manual_seed(1)
    for T, N in SHAPES:
        for gamma, gae_lambda in ((0.99, 0.95), (0.9, 0.0), (0.8, 1.0), (1.0, 0.5)):
            rewards, values, next_values = torch.randn(3, T, N, dtype=torch.float64)
            terminated, truncated = torch.rand(2, T, N) < 0.25
            found = gae(rewards, values, next_values, terminated, truncated, gamma, gae_lambda)
            for n in range(N):
                for t in range(T):
                    total = 0.0
                    for k in range(
                        t, T
                    ):  # the double sum, up to and including the step that ends the episode
                        rest = 0.0 if terminated[k, n] else gamma * float(next_values[k, n])
                        delta = float(rewards[k, n]) + rest - float(values[k, n])
                        total += (gamma * gae_lambda) ** (k - t) * delta
                        if terminated[k, n] or truncated[k, n]:
                            break
                    assert math.isclose(found[t, n], total, rel_tol=1e-9, abs_tol=1e-10)


def check_approx_kl(approx_kl):
    """Samples in exact proportion to the old policy turn the estimate into the exact divergence."""
    old, new = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.3, 0.2, 0.1]) ** 1.5
    new /= new.sum()
    actions = np.repeat(np.arange(4), [10, 20, 30, 40])
    estimate = approx_kl(torch.from_numpy((new / old)[actions]))
    assert math.isclose(estimate, float((old * np.log(old / new)).sum()), rel_tol=1e-9)
    for w in (0.2, 0.9, 1.0, 1.1, 4.0):
        assert approx_kl(torch.tensor([w])) >= 0, "no single sample makes it negative"


def check_clipped_surrogate(clipped_surrogate):
    for eps in (0.1, 0.2, 0.4):
        for advantage in (1.7, -0.6):
            for w in np.linspace(0.05, 2.5, 50):
                found = clipped_surrogate(torch.tensor([w]), torch.tensor([advantage]).double(), eps)
                # no gain beyond 1 + eps where A > 0, none below 1 - eps where A < 0, else w A
                edge = 1 + eps if advantage > 0 else 1 - eps
                flat = w > edge if advantage > 0 else w < edge
                assert math.isclose(found, (edge if flat else w) * advantage, rel_tol=1e-6)


def check_first_end(first_end):
    torch.manual_seed(2)
    for B, L in SHAPES:
        ids = torch.randint(0, 3, (B, L))
        found = first_end(ids)
        assert found.dtype == torch.bool
        for b in range(B):
            ended = False
            for t in range(L):
                assert found[b, t] == (not ended), "the end itself counts, what stands behind it does not"
                ended = ended or int(ids[b, t]) == 0


def check_token_rewards(token_rewards):
    torch.manual_seed(3)
    for B, L in SHAPES:
        log_probs, ref_log_probs, scores = -torch.rand(B, L), -torch.rand(B, L), torch.randn(B)
        lengths = torch.randint(1, L + 1, (B,))
        mask = torch.arange(L) < lengths[:, None]
        for beta in (0.0, 0.5, 2.0):
            found = token_rewards(log_probs, ref_log_probs, scores, mask, beta)
            for b in range(B):
                for t in range(L):
                    expected = 0.0
                    if t < lengths[b]:
                        expected -= beta * (float(log_probs[b, t]) - float(ref_log_probs[b, t]))
                    if t == lengths[b] - 1:
                        expected += float(scores[b])
                    assert math.isclose(found[b, t], expected, abs_tol=1e-5)


def check_policy_loss(policy_loss):
    """Value, gradients and constants of the loss, for REINFORCE and for PPO, with some tokens masked."""
    lesson = sys.modules[policy_loss.__module__]
    torch.manual_seed(4)
    for learner in ("reinforce", "ppo"):
        for B, L in ((6, 3), (9, 4)):
            log_prob = (-torch.rand(B, L)).requires_grad_()
            values = torch.randn(B, L, requires_grad=True)
            mask = torch.rand(B, L) < 0.7
            mini = {"old_log_probs": log_prob.detach() + 0.3 * torch.randn(B, L), "mask": mask,
                    "advantages": torch.randn(B, L), "returns": torch.randn(B, L)}  # fmt: skip
            r = replace(lesson.RECIPES["ppo"], learner=learner)
            loss, ratio, constants = policy_loss(log_prob, values, mini, r)
            numbers, estimates = log_prob.detach(), values.detach()
            kept = [(b, t) for b in range(B) for t in range(L) if mask[b, t]]
            raw = [float(mini["advantages"][at]) for at in kept]
            mean = sum(raw) / len(raw)
            spread = math.sqrt(sum((a - mean) ** 2 for a in raw) / (len(raw) - 1))
            gain, error = 0.0, 0.0
            for at, a in zip(kept, raw):
                a = (a - mean) / spread
                w = math.exp(float(numbers[at]) - float(mini["old_log_probs"][at]))
                assert math.isclose(ratio[at], w, rel_tol=1e-4)
                clipped = min(max(w, 0.8), 1.2)
                gain += float(numbers[at]) * a if learner == "reinforce" else min(w * a, clipped * a)
                error += (float(estimates[at]) - float(mini["returns"][at])) ** 2
            expected = -gain / len(kept) + 0.5 * error / len(kept)
            assert math.isclose(loss.item(), expected, rel_tol=1e-3, abs_tol=1e-4)
            assert constants == 0
            loss.backward()
            slope = (estimates - mini["returns"]) * mask / len(kept)
            assert torch.allclose(values.grad, slope, atol=1e-6), "the critic learns from its own loss alone"
            assert log_prob.grad[~mask].abs().max() == 0


EDITS = {
    "bootstraps_through_end": Edit(
        function="td_target",
        old=" * ~terminated  # eq. (1)",
        new="  # eq. (1)",
        says="bootstraps through an end",
    ),
    "discounts_reward_too": Edit(
        function="td_target",
        old="return rewards + gamma",
        new="return gamma * rewards + gamma",
        says="discounts the reward too",
    ),
    "mask_upside_down": Edit(
        function="td_target",
        old="next_values * ~terminated  #",
        new="next_values * terminated  #",
        says="mask upside down",
    ),
    "sums_across_time_limit": Edit(
        function="gae",
        old="running * ~(terminated | truncated)[t]",
        new="running * ~terminated[t]",
        says="sums across a time limit",
    ),
    "lambda_missing": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gamma * running",
        says="lambda missing",
    ),
    "forgets_value": Edit(
        function="gae",
        old="terminated, gamma) - values\n    advantages, running",
        new="terminated, gamma)\n    advantages, running",
        says="forgets the value",
    ),
    "runs_forwards": Edit(
        function="gae",
        old="for t in reversed(range(len(rewards))):",
        new="for t in range(len(rewards)):",
        says="runs forwards",
    ),
    "plain_log_ratio": Edit(
        function="approx_kl",
        old="((ratio - 1.0) - ratio.log()).mean()",
        new="(-ratio.log()).mean()",
        says="the plain log-ratio",
    ),
    "sign": Edit(
        function="approx_kl",
        old="((ratio - 1.0) - ratio.log())",
        new="((ratio - 1.0) + ratio.log())",
        says="sign",
    ),
    "max_min": Edit(
        function="clipped_surrogate",
        old="torch.min(ratio * advantages",
        new="torch.max(ratio * advantages",
        says="a max for the min",
    ),
    "clips_upper_side_alone": Edit(
        function="clipped_surrogate",
        old="ratio.clamp(1.0 - clip_eps, 1",
        new="ratio.clamp(0.0, 1",
        says="clips the upper side alone",
    ),
    "leaves_end_out": Edit(
        function="first_end",
        old="ends.cumsum(dim=1) - ends == 0",
        new="ends.cumsum(dim=1) == 0",
        says="leaves the end out",
    ),
    "counts_along_batch": Edit(
        function="first_end",
        old="ends.cumsum(dim=1)",
        new="ends.cumsum(dim=0)",
        says="counts along the batch",
    ),
    "penalty_s_sign": Edit(
        function="token_rewards",
        old="penalties = -beta",
        new="penalties = beta",
        says="penalty's sign",
    ),
    "charges_behind_end": Edit(
        function="token_rewards",
        old="(log_probs - ref_log_probs) * mask",
        new="(log_probs - ref_log_probs)",
        says="charges behind the end",
    ),
    "score_one_token_late": Edit(
        function="token_rewards",
        old="keepdim=True) - 1, scores",
        new="keepdim=True) % mask.shape[1], scores",
        says="score one token late",
    ),
    "reference_forgotten": Edit(
        function="token_rewards",
        old="(log_probs - ref_log_probs) * mask",
        new="log_probs * mask",
        says="reference forgotten",
    ),
    "wrong_sign": Edit(
        function="policy_loss",
        old="return -gain[mask].mean()",
        new="return gain[mask].mean()",
        says="wrong sign",
    ),
    "no_mask_gain": Edit(
        function="policy_loss",
        old="-gain[mask].mean()",
        new="-gain.mean()",
        says="no mask on the gain",
    ),
    "advantage_not_detached": Edit(
        function="policy_loss",
        old='old_log_probs, advantages, mask = mini["old_log_probs"], mini["advantages"], ',
        new='old_log_probs, advantages, mask = mini["old_log_probs"], mini["returns"] - values, ',
        says="advantage not detached",
    ),
    "normalised_masked_ones": Edit(
        function="policy_loss",
        old="advantages[mask].mean()",
        new="advantages.mean()",
        says="normalised with the masked ones",
    ),
    "critic_s_weight": Edit(
        function="policy_loss",
        old="0.5 * value_loss",
        new="value_loss",
        says="critic's weight",
    ),
}
