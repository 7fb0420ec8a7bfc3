"""Definition checks of C3: each function against its equation, written out one number at a time."""

import math
import sys
from dataclasses import replace

import numpy as np
import torch

from chapters.envs import make_envs

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


PLANTED = {
    "gae": {
        "bootstraps through a terminal state": ("gamma * next_values * ~terminated", "gamma * next_values"),
        "time limits merged with ends": (
            "next_values * ~terminated", "next_values * ~(terminated | truncated)",
        ),
        "the masks swapped": ("next_values * ~terminated", "next_values * ~truncated"),
        "the sum runs through a time limit": ("goes_on = ~(terminated | truncated)", "goes_on = ~terminated"),
        "the sum runs through a terminal state": (
            "goes_on = ~(terminated | truncated)", "goes_on = ~truncated",
        ),
        "lambda missing": ("gamma * gae_lambda * running", "gamma * running"),
        "lambda squared": ("gamma * gae_lambda * running", "gamma * gae_lambda**2 * running"),
        "sign of the baseline": ("~terminated - values  #", "~terminated + values  #"),
        "values one row on, for next_values": (
            "gamma * next_values *", "gamma * torch.cat([values[1:], next_values[-1:]]) *",
        ),
        "mask one row late": ("running * goes_on[t]", "running * goes_on[t - 1]"),
        "forwards": ("in reversed(range(len(rewards)))", "in range(len(rewards))"),
    },
    "normalise": {
        "over the first axis": ("advantages - advantages.mean())", "advantages - advantages.mean(dim=0))"),
        "spread over the last axis": (
            "(advantages.std() + 1e-8)", "(advantages.std(dim=-1, keepdim=True) + 1e-8)",
        ),
        "variance for deviation": ("(advantages.std() + 1e-8)", "(advantages.var() + 1e-8)"),
        "no guard against zero": ("(advantages.std() + 1e-8)", "advantages.std()"),
    },
    "categorical": {
        "normalised over the batch": ("logits.log_softmax(dim=-1)", "logits.log_softmax(dim=0)"),
        "not normalised": ("logits.log_softmax(dim=-1)", "logits"),
        "sign of the entropy": ("entropy = -(log_probs.exp()", "entropy = (log_probs.exp()"),
        "the first action's": ("gather(1, actions.unsqueeze(1))", "gather(1, 0 * actions.unsqueeze(1))"),
    },
    "gaussian": {
        "log of the deviation missing": ("deviation**2 + log_std + 0.5", "deviation**2 + 0.5"),
        "constant missing": ("log_std + 0.5 * math.log(2 * math.pi)).sum", "log_std).sum"),
        "variance for deviation": (
            "(actions - mean) / log_std.exp()", "(actions - mean) / (2 * log_std).exp()",
        ),
        "mean over the numbers": (
            "math.log(2 * math.pi)).sum(dim=-1)", "math.log(2 * math.pi)).mean(dim=-1)",
        ),
        "density of the clipped action": (
            "deviation = (actions - mean)", "deviation = (actions.clamp(-2, 2) - mean)",
        ),
        "density of the squashed action": (
            "deviation = (actions - mean)", "deviation = (actions.tanh() - mean)",
        ),
        "half missing": ("-(0.5 * deviation**2", "-(deviation**2"),
        "entropy of one number": (
            "math.log(2 * math.pi * math.e)).sum()", "math.log(2 * math.pi * math.e)).mean()",
        ),
    },
    "sample_categorical": {
        "greedy": ("logits + rng.gumbel(size=logits.shape)", "logits"),
        "normal noise": ("rng.gumbel(size=logits.shape)", "rng.standard_normal(logits.shape)"),
        "one noise for all": ("rng.gumbel(size=logits.shape)", "rng.gumbel(size=(1, logits.shape[1]))"),
    },
    "sample_gaussian": {
        "variance for deviation": ("mean + np.exp(log_std) *", "mean + np.exp(2 * log_std) *"),
        "log deviation for deviation": ("mean + np.exp(log_std) *", "mean + log_std *"),
        "one noise for all numbers": (
            "rng.standard_normal(mean.shape)", "rng.standard_normal((len(mean), 1))",
        ),
        "clipped when sampled": (
            "rng.standard_normal(mean.shape)).astype", "rng.standard_normal(mean.shape)).clip(-2, 2).astype",
        ),
    },
    "clipped_surrogate": {
        "max for min": ("return torch.min(ratio * advantages", "return torch.max(ratio * advantages"),
        "clip alone": ("torch.min(ratio * advantages, clipped * advantages)", "clipped * advantages"),
        "no clip": ("torch.min(ratio * advantages, clipped * advantages)", "ratio * advantages"),
        "clip one-sided": ("ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)", "ratio.clamp(max=1.0 + clip_eps)"),
        "clip around zero": (
            "ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)", "ratio.clamp(-clip_eps, clip_eps)",
        ),
    },
    "ppo_loss": {
        "sign of the objective": ("return -objective.mean()", "return objective.mean()"),
        "sign of the value loss": ("+ vf_coef * value_loss", "- vf_coef * value_loss"),
        "sign of the entropy": ("- ent_coef * entropy", "+ ent_coef * entropy"),
        "weights swapped": (
            "vf_coef * value_loss - ent_coef *", "ent_coef * value_loss - vf_coef *",
        ),
        "error not squared": ("(values - returns).pow(2)", "(values - returns).abs()"),
    },
    "approx_kl": {
        "sign of the log": ("((ratio - 1.0) - ratio.log())", "((ratio - 1.0) + ratio.log())"),
        "the estimate that may be negative": ("((ratio - 1.0) - ratio.log())", "(-ratio.log() * 1.0)"),
        "the other direction": ("((ratio - 1.0) - ratio.log())", "(ratio * ratio.log() - (ratio - 1.0))"),
        "the whole sign": ("return ((ratio - 1.0) - ratio.log())", "return -((ratio - 1.0) - ratio.log())"),
    },
    "prepare": {
        "old log-probabilities not detached": ("@torch.no_grad()\ndef prepare", "def prepare"),
        "merges time limits with ends": (
            "    if cfg.merge_time_limit:\n        terminated", "    if True:\n        terminated",
        ),
        "the target lacks the values": ("(advantages + values).flatten()", "advantages.flatten()"),
        "the target adds the successor's value": (
            "(advantages + values).flatten()", "(advantages + next_values).flatten()",
        ),
        "next_values of obs": ('agent.value(rollout["next_obs"])', 'agent.value(rollout["obs"])'),
        "transposed": (
            'batch["advantages"] = advantages.flatten()', 'batch["advantages"] = advantages.T.flatten()',
        ),
    },
    "collect": {
        "the next episode's first observation": (
            "successors = true_next_obs(next_obs, terminated | truncated, infos)", "successors = next_obs",
        ),
        "stores the clipped action": (
            "            applied = actions.clip(space.low, space.high)",
            "            applied = actions = actions.clip(space.low, space.high)",
        ),
        "acts on old observations": ("        obs = next_obs\n", "        obs = obs\n"),
        "reward not scaled": ("cfg.reward_scale * rewards.astype", "rewards.astype"),
        "successors in other units": ("successors / agent.obs_unit", "successors"),
        "flags swapped": ("agent.obs_unit, terminated, truncated)", "agent.obs_unit, truncated, terminated)"),
    },
}  # fmt: skip
