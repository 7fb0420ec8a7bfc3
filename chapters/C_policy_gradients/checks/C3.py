"""Definition checks of C3: each function against its equation, written out one number at a time."""

import math
import sys
from dataclasses import replace

import numpy as np
import torch

from chapters.envs import make_envs
from chapters.utils.edits import Edit

SHAPES = ((1, 1), (2, 3), (7, 2), (20, 5))  # (T, N), or (B, A)


def check_gae(gae):
    torch.manual_seed(0)
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


def check_normalise(normalise):
    torch.manual_seed(1)
    for shape in ((50,), (9, 7), (4, 30)):
        advantages = 3.0 + 5.0 * torch.randn(shape, dtype=torch.float64)
        kept, found = advantages.clone(), normalise(advantages)
        numbers = [float(x) for x in advantages.flatten()]
        mean = sum(numbers) / len(numbers)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))
        expected = [(x - mean) / deviation for x in numbers]
        assert np.allclose(found.flatten().numpy(), expected, atol=1e-6)
        assert torch.equal(advantages, kept)
    assert torch.isfinite(normalise(torch.ones(8))).all(), "equal advantages must not divide by zero"


def check_categorical(categorical):
    torch.manual_seed(2)
    for B, A in SHAPES:
        logits, actions = 3.0 * torch.randn(B, A), torch.randint(A, (B,))
        log_prob, entropy = categorical(logits, actions)
        for b in range(B):
            weights = [math.exp(float(z)) for z in logits[b]]
            probs = [w / sum(weights) for w in weights]
            assert math.isclose(log_prob[b], math.log(probs[int(actions[b])]), rel_tol=1e-4, abs_tol=1e-5)
            assert math.isclose(entropy[b], -sum(p * math.log(p) for p in probs), rel_tol=1e-4, abs_tol=1e-5)


def check_gaussian(gaussian):
    torch.manual_seed(3)
    for B, A in SHAPES:
        mean, log_std, actions = torch.randn(B, A), torch.randn(A) - 0.5, 3.0 * torch.randn(B, A)
        log_prob, entropy = gaussian(mean, log_std, actions)
        assert log_prob.shape == entropy.shape == (B,)
        for b in range(B):
            expected, spread = 0.0, 0.0
            for m, s, a in zip(mean[b].tolist(), log_std.exp().tolist(), actions[b].tolist()):
                # far outside the range of any action space too: nothing is squashed or clipped
                expected += -0.5 * ((a - m) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi))
                spread += 0.5 * math.log(2 * math.pi * math.e * s**2)
            assert math.isclose(log_prob[b], expected, rel_tol=1e-4, abs_tol=1e-4)
            assert math.isclose(entropy[b], spread, rel_tol=1e-4, abs_tol=1e-5)


def check_sample_categorical(sample_categorical):
    rng, size = np.random.default_rng(4), 60_000
    logits = np.array([[0.0, 1.0, -1.0, 2.0], [1.5, 0.0, 0.5, -2.0]])
    actions = sample_categorical(np.repeat(logits, size, axis=0), rng)
    for row, chosen in zip(logits, (actions[:size], actions[size:])):
        expected = np.exp(row) / np.exp(row).sum()
        assert np.abs(np.bincount(chosen, minlength=4) / size - expected).max() < 0.01


def check_sample_gaussian(sample_gaussian):
    rng, size = np.random.default_rng(5), 60_000
    mean, log_std = np.array([1.0, -6.0]), np.log(np.array([0.5, 2.0]))
    actions = sample_gaussian(np.tile(mean, (size, 1)), log_std, rng)
    assert actions.dtype == np.float32
    assert np.abs(actions.mean(axis=0) - mean).max() < 0.04
    assert np.abs(actions.std(axis=0) - [0.5, 2.0]).max() < 0.03
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.02


def check_clipped_surrogate(clipped_surrogate):
    torch.manual_seed(6)
    for eps in (0.1, 0.2, 0.4):
        ratio = torch.linspace(0.05, 2.5, 97, dtype=torch.float64).repeat(2).requires_grad_()
        advantages = torch.cat([torch.full((97,), 1.7), torch.full((97,), -0.6)]).double()
        found = clipped_surrogate(ratio, advantages, eps)
        (slope,) = torch.autograd.grad(found.sum(), ratio)
        for w, a, value, s in zip(ratio.tolist(), advantages.tolist(), found.tolist(), slope.tolist()):
            # case by case: no gain beyond 1 + eps where A > 0, none below 1 - eps where A < 0, else w A
            flat = w > 1 + eps if a > 0 else w < 1 - eps
            edge = (1 + eps if a > 0 else 1 - eps) * a
            assert math.isclose(value, edge if flat else w * a, rel_tol=1e-9)
            assert math.isclose(s, 0.0 if flat else a, abs_tol=1e-9)


def check_ppo_loss(ppo_loss):
    torch.manual_seed(7)
    for size in (1, 6, 33):
        objective, values, returns, entropy = torch.randn(4, size)
        for vf_coef, ent_coef in ((0.5, 0.0), (1.0, 0.01), (0.0, 2.0)):
            found = ppo_loss(objective, values, returns, entropy, vf_coef, ent_coef)
            expected = 0.0
            for b in range(size):
                error = float(values[b]) - float(returns[b])
                expected += -float(objective[b]) + vf_coef * error**2 - ent_coef * float(entropy[b])
            assert math.isclose(found, expected / size, rel_tol=1e-4, abs_tol=1e-5)


def check_approx_kl(approx_kl):
    """Samples in exact proportion to the old policy turn the estimate into the exact divergence."""
    old, new = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.3, 0.2, 0.1]) ** 1.5
    new /= new.sum()
    actions = np.repeat(np.arange(4), [10, 20, 30, 40])
    estimate = approx_kl(torch.from_numpy((new / old)[actions]))
    assert math.isclose(estimate, float((old * np.log(old / new)).sum()), rel_tol=1e-9)
    for w in (0.2, 0.9, 1.0, 1.1, 4.0):
        assert approx_kl(torch.tensor([w])) >= 0, "no single sample makes it negative"


def agent_for(function, env_id, num_envs, **config):
    """(agent with weights that matter, its environments, its config) from the function's own module."""
    lesson = sys.modules[function.__module__]
    envs, cfg = make_envs(env_id, num_envs), lesson.Config(**config)
    agent = lesson.Agent(envs, cfg)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return agent, envs, cfg


def check_prepare(prepare):
    """Constants that belong to the acting weights; values at the true successors; the critic's target."""
    torch.manual_seed(9)
    T, N = 6, 3
    agent, _, cfg = agent_for(prepare, "CartPole-v1", N, gamma=0.9, gae_lambda=0.7)
    actor, critic = agent.actor, agent.critic
    terminated, truncated = torch.rand(2, T, N) < 0.3
    rollout = {
        "obs": torch.randn(T, N, 4), "next_obs": torch.randn(T, N, 4), "rewards": torch.randn(T, N),
        "actions": torch.randint(2, (T, N)), "terminated": terminated, "truncated": truncated,
    }  # fmt: skip
    for merged in (False, True):
        batch = prepare(agent, rollout, replace(cfg, merge_time_limit=merged))
        assert not any(values.requires_grad for values in batch.values()), "what is learned from is constant"
        for t in range(T):
            for n in range(N):
                row, total = t * N + n, 0.0
                log_probs = actor(rollout["obs"][t, n]).log_softmax(-1)
                expected = log_probs[rollout["actions"][t, n]].item()
                assert math.isclose(batch["old_log_probs"][row], expected, rel_tol=1e-4, abs_tol=1e-5)
                assert torch.equal(batch["obs"][row], rollout["obs"][t, n])
                for k in range(t, T):
                    value = critic(rollout["obs"][k, n]).item()
                    rest = 0.9 * critic(rollout["next_obs"][k, n]).item()
                    ended = terminated[k, n] or (merged and truncated[k, n])
                    total += 0.63 ** (k - t) * (
                        float(rollout["rewards"][k, n]) + (0.0 if ended else rest) - value
                    )
                    if terminated[k, n] or truncated[k, n]:
                        break
                assert math.isclose(batch["advantages"][row], total, rel_tol=1e-3, abs_tol=1e-4)
                target = total + critic(rollout["obs"][t, n]).item()
                assert math.isclose(batch["returns"][row], target, rel_tol=1e-3, abs_tol=1e-4)


def check_collect(collect):
    """Rows follow each other, ends hand over the true successor, and a clipped action is stored unclipped."""
    torch.manual_seed(10)
    agent, envs, cfg = agent_for(collect, "Pendulum-v1", 3, num_steps=250, reward_scale=0.5)
    with torch.no_grad():
        agent.log_std.fill_(1.0)
    obs, _ = envs.reset(seed=0)
    unit = np.array([1.0, 1.0, 8.0], dtype=np.float32)
    batch, last = collect(agent, envs, obs, np.random.default_rng(0), cfg)
    assert torch.equal(batch["obs"][0], torch.from_numpy(obs / unit))
    assert np.allclose(last / unit, batch["next_obs"][-1])
    for t in range(249):
        same = torch.isclose(batch["obs"][t + 1], batch["next_obs"][t], atol=1e-5).all(dim=1)
        assert torch.equal(same, ~batch["truncated"][t]), "only an end separates next_obs from the next obs"
    assert batch["truncated"].sum() == 3
    assert not batch["terminated"].any()
    assert batch["actions"].abs().max() > 2.5, "what was sampled is stored, not what was applied"
    angle = torch.atan2(batch["obs"][..., 1], batch["obs"][..., 0])
    cost = angle**2 + 0.1 * (8 * batch["obs"][..., 2]) ** 2
    cost += 0.001 * batch["actions"][..., 0].clamp(-2, 2) ** 2
    assert torch.allclose(batch["rewards"], -0.5 * cost, atol=1e-3)


EDITS = {
    "bootstraps_through_terminal_state": Edit(
        function="gae",
        old="gamma * next_values * ~terminated",
        new="gamma * next_values",
        says="bootstraps through a terminal state",
    ),
    "time_limits_merged_ends": Edit(
        function="gae",
        old="next_values * ~terminated",
        new="next_values * ~(terminated | truncated)",
        says="time limits merged with ends",
    ),
    "masks_swapped": Edit(
        function="gae",
        old="next_values * ~terminated",
        new="next_values * ~truncated",
        says="the masks swapped",
    ),
    "sum_runs_through_time": Edit(
        function="gae",
        old="goes_on = ~(terminated | truncated)",
        new="goes_on = ~terminated",
        says="the sum runs through a time limit",
    ),
    "sum_runs_through_terminal": Edit(
        function="gae",
        old="goes_on = ~(terminated | truncated)",
        new="goes_on = ~truncated",
        says="the sum runs through a terminal state",
    ),
    "lambda_missing": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gamma * running",
        says="lambda missing",
    ),
    "lambda_squared": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gamma * gae_lambda**2 * running",
        says="lambda squared",
    ),
    "sign_baseline": Edit(
        function="gae",
        old="~terminated - values  #",
        new="~terminated + values  #",
        says="sign of the baseline",
    ),
    "values_one_row_next": Edit(
        function="gae",
        old="gamma * next_values *",
        new="gamma * torch.cat([values[1:], next_values[-1:]]) *",
        says="values one row on, for next_values",
    ),
    "mask_one_row_late": Edit(
        function="gae",
        old="running * goes_on[t]",
        new="running * goes_on[t - 1]",
        says="mask one row late",
    ),
    "forwards": Edit(
        function="gae",
        old="in reversed(range(len(rewards)))",
        new="in range(len(rewards))",
        says="forwards",
    ),
    "over_first_axis": Edit(
        function="normalise",
        old="advantages - advantages.mean())",
        new="advantages - advantages.mean(dim=0))",
        says="over the first axis",
    ),
    "spread_over_last_axis": Edit(
        function="normalise",
        old="(advantages.std() + 1e-8)",
        new="(advantages.std(dim=-1, keepdim=True) + 1e-8)",
        says="spread over the last axis",
    ),
    "variance_deviation": Edit(
        function="normalise",
        old="(advantages.std() + 1e-8)",
        new="(advantages.var() + 1e-8)",
        says="variance for deviation",
    ),
    "no_guard_against_zero": Edit(
        function="normalise",
        old="(advantages.std() + 1e-8)",
        new="advantages.std()",
        says="no guard against zero",
    ),
    "normalised_over_batch": Edit(
        function="categorical",
        old="logits.log_softmax(dim=-1)",
        new="logits.log_softmax(dim=0)",
        says="normalised over the batch",
    ),
    "not_normalised": Edit(
        function="categorical",
        old="logits.log_softmax(dim=-1)",
        new="logits",
        says="not normalised",
    ),
    "sign_entropy": Edit(
        function="categorical",
        old="entropy = -(log_probs.exp()",
        new="entropy = (log_probs.exp()",
        says="sign of the entropy",
    ),
    "first_action_s": Edit(
        function="categorical",
        old="gather(1, actions.unsqueeze(1))",
        new="gather(1, 0 * actions.unsqueeze(1))",
        says="the first action's",
    ),
    "log_deviation_missing": Edit(
        function="gaussian",
        old="deviation**2 + log_std + 0.5",
        new="deviation**2 + 0.5",
        says="log of the deviation missing",
    ),
    "constant_missing": Edit(
        function="gaussian",
        old="log_std + 0.5 * math.log(2 * math.pi)).sum",
        new="log_std).sum",
        says="constant missing",
    ),
    "gaussian_variance_deviation": Edit(
        function="gaussian",
        old="(actions - mean) / log_std.exp()",
        new="(actions - mean) / (2 * log_std).exp()",
        says="variance for deviation",
    ),
    "mean_over_numbers": Edit(
        function="gaussian",
        old="math.log(2 * math.pi)).sum(dim=-1)",
        new="math.log(2 * math.pi)).mean(dim=-1)",
        says="mean over the numbers",
    ),
    "density_clipped_action": Edit(
        function="gaussian",
        old="deviation = (actions - mean)",
        new="deviation = (actions.clamp(-2, 2) - mean)",
        says="density of the clipped action",
    ),
    "density_squashed_action": Edit(
        function="gaussian",
        old="deviation = (actions - mean)",
        new="deviation = (actions.tanh() - mean)",
        says="density of the squashed action",
    ),
    "half_missing": Edit(
        function="gaussian",
        old="-(0.5 * deviation**2",
        new="-(deviation**2",
        says="half missing",
    ),
    "entropy_one_number": Edit(
        function="gaussian",
        old="math.log(2 * math.pi * math.e)).sum()",
        new="math.log(2 * math.pi * math.e)).mean()",
        says="entropy of one number",
    ),
    "greedy": Edit(
        function="sample_categorical",
        old="logits + rng.gumbel(size=logits.shape)",
        new="logits",
        says="greedy",
    ),
    "normal_noise": Edit(
        function="sample_categorical",
        old="rng.gumbel(size=logits.shape)",
        new="rng.standard_normal(logits.shape)",
        says="normal noise",
    ),
    "one_noise_all": Edit(
        function="sample_categorical",
        old="rng.gumbel(size=logits.shape)",
        new="rng.gumbel(size=(1, logits.shape[1]))",
        says="one noise for all",
    ),
    "sample_gaussian_variance_deviation": Edit(
        function="sample_gaussian",
        old="mean + np.exp(log_std) *",
        new="mean + np.exp(2 * log_std) *",
        says="variance for deviation",
    ),
    "log_deviation_deviation": Edit(
        function="sample_gaussian",
        old="mean + np.exp(log_std) *",
        new="mean + log_std *",
        says="log deviation for deviation",
    ),
    "one_noise_all_numbers": Edit(
        function="sample_gaussian",
        old="rng.standard_normal(mean.shape)",
        new="rng.standard_normal((len(mean), 1))",
        says="one noise for all numbers",
    ),
    "clipped_when_sampled": Edit(
        function="sample_gaussian",
        old="rng.standard_normal(mean.shape)).astype",
        new="rng.standard_normal(mean.shape)).clip(-2, 2).astype",
        says="clipped when sampled",
    ),
    "max_min": Edit(
        function="clipped_surrogate",
        old="return torch.min(ratio * advantages",
        new="return torch.max(ratio * advantages",
        says="max for min",
    ),
    "clip_alone": Edit(
        function="clipped_surrogate",
        old="torch.min(ratio * advantages, clipped * advantages)",
        new="clipped * advantages",
        says="clip alone",
    ),
    "no_clip": Edit(
        function="clipped_surrogate",
        old="torch.min(ratio * advantages, clipped * advantages)",
        new="ratio * advantages",
        says="no clip",
    ),
    "clip_one_sided": Edit(
        function="clipped_surrogate",
        old="ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)",
        new="ratio.clamp(max=1.0 + clip_eps)",
        says="clip one-sided",
    ),
    "clip_around_zero": Edit(
        function="clipped_surrogate",
        old="ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)",
        new="ratio.clamp(-clip_eps, clip_eps)",
        says="clip around zero",
    ),
    "sign_objective": Edit(
        function="ppo_loss",
        old="return -objective.mean()",
        new="return objective.mean()",
        says="sign of the objective",
    ),
    "sign_value_loss": Edit(
        function="ppo_loss",
        old="+ vf_coef * value_loss",
        new="- vf_coef * value_loss",
        says="sign of the value loss",
    ),
    "ppo_loss_sign_entropy": Edit(
        function="ppo_loss",
        old="- ent_coef * entropy",
        new="+ ent_coef * entropy",
        says="sign of the entropy",
    ),
    "weights_swapped": Edit(
        function="ppo_loss",
        old="vf_coef * value_loss - ent_coef *",
        new="ent_coef * value_loss - vf_coef *",
        says="weights swapped",
    ),
    "error_not_squared": Edit(
        function="ppo_loss",
        old="(values - returns).pow(2)",
        new="(values - returns).abs()",
        says="error not squared",
    ),
    "sign_log": Edit(
        function="approx_kl",
        old="((ratio - 1.0) - ratio.log())",
        new="((ratio - 1.0) + ratio.log())",
        says="sign of the log",
    ),
    "estimate_may_be_negative": Edit(
        function="approx_kl",
        old="((ratio - 1.0) - ratio.log())",
        new="(-ratio.log() * 1.0)",
        says="the estimate that may be negative",
    ),
    "other_direction": Edit(
        function="approx_kl",
        old="((ratio - 1.0) - ratio.log())",
        new="(ratio * ratio.log() - (ratio - 1.0))",
        says="the other direction",
    ),
    "whole_sign": Edit(
        function="approx_kl",
        old="return ((ratio - 1.0) - ratio.log())",
        new="return -((ratio - 1.0) - ratio.log())",
        says="the whole sign",
    ),
    "old_log_probabilities_not": Edit(
        function="prepare",
        old="@torch.no_grad()\ndef prepare",
        new="def prepare",
        says="old log-probabilities not detached",
    ),
    "merges_time_limits_ends": Edit(
        function="prepare",
        old="    if cfg.merge_time_limit:\n        terminated",
        new="    if True:\n        terminated",
        says="merges time limits with ends",
    ),
    "target_lacks_values": Edit(
        function="prepare",
        old="(advantages + values).flatten()",
        new="advantages.flatten()",
        says="the target lacks the values",
    ),
    "target_adds_successor_s": Edit(
        function="prepare",
        old="(advantages + values).flatten()",
        new="(advantages + next_values).flatten()",
        says="the target adds the successor's value",
    ),
    "next_values_obs": Edit(
        function="prepare",
        old='agent.value(rollout["next_obs"])',
        new='agent.value(rollout["obs"])',
        says="next_values of obs",
    ),
    "transposed": Edit(
        function="prepare",
        old='batch["advantages"] = advantages.flatten()',
        new='batch["advantages"] = advantages.T.flatten()',
        says="transposed",
    ),
    "next_episode_s_first": Edit(
        function="collect",
        old="successors = true_next_obs(next_obs, terminated | truncated, infos)",
        new="successors = next_obs",
        says="the next episode's first observation",
    ),
    "stores_clipped_action": Edit(
        function="collect",
        old="            applied = actions.clip(space.low, space.high)",
        new="            applied = actions = actions.clip(space.low, space.high)",
        says="stores the clipped action",
    ),
    "acts_old_observations": Edit(
        function="collect",
        old="        obs = next_obs\n",
        new="        obs = obs\n",
        says="acts on old observations",
    ),
    "reward_not_scaled": Edit(
        function="collect",
        old="cfg.reward_scale * rewards.astype",
        new="rewards.astype",
        says="reward not scaled",
    ),
    "successors_other_units": Edit(
        function="collect",
        old="successors / agent.obs_unit",
        new="successors",
        says="successors in other units",
    ),
    "flags_swapped": Edit(
        function="collect",
        old="agent.obs_unit, terminated, truncated)",
        new="agent.obs_unit, truncated, terminated)",
        says="flags swapped",
    ),
}
