"""Definition checks of C3: each function against its equation, written out one number at a time."""

import math
import sys

import numpy as np
import torch

from chapters.C_policy_gradients.C3_ppo_from_scratch import Config
from chapters.envs import make_envs
from chapters.envs.agents import ActorCritic
from chapters.utils.edits import Edit

SHAPES = ((1, 1), (2, 3), (7, 2), (20, 5))  # (T, N), or (B, A)
CONSTANT = ("gae",)  # of the weights: it may be written with or without a gradient


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
                    assert math.isclose(found[t, n], total, rel_tol=1e-6, abs_tol=1e-6)


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


def check_clipped_surrogate(clipped_surrogate):
    for w, a, expected in (
        (1.5, 2.0, 2.4),
        (1.5, -2.0, -3.0),
        (0.5, 2.0, 1.0),
        (0.5, -2.0, -1.6),
        (1.1, 3.0, 3.3),
    ):
        found = clipped_surrogate(torch.tensor([w]), torch.tensor([a]), 0.2)
        assert math.isclose(found.item(), expected, rel_tol=1e-5)  # one number, to be shown when it differs
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
    config_class = getattr(sys.modules[function.__module__], "Config", Config)  # a copy has none of its own
    envs = make_envs(env_id, num_envs)
    agent = ActorCritic(envs)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return agent, envs, config_class(**config)


def check_prepare(prepare):
    """Constants that belong to the acting weights; values at the true successors; the critic's target."""
    torch.manual_seed(9)
    T, N = 6, 3
    agent, _, cfg = agent_for(prepare, "CartPole-v1", N, gamma=0.9, gae_lambda=0.7)
    actor, critic = agent.actor, agent.critic
    terminated, truncated = torch.rand(2, T, N) < 0.3
    rollout = {
        "obs": torch.randn(T, N, 4),
        "next_obs": torch.randn(T, N, 4),
        "rewards": torch.randn(T, N),
        "actions": torch.randint(2, (T, N)),
        "terminated": terminated,
        "truncated": truncated,
    }
    batch = prepare(agent, rollout, cfg)
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
                rest = 0.0 if terminated[k, n] else 0.9 * critic(rollout["next_obs"][k, n]).item()
                total += 0.63 ** (k - t) * (float(rollout["rewards"][k, n]) + rest - value)
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
        agent.head.log_std.fill_(1.0)
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


def check_minibatch_loss(minibatch_loss):
    """Loss and ratio written out, with ratios on both sides of the clip range, and the gradient."""
    torch.manual_seed(11)
    agent, _, cfg = agent_for(minibatch_loss, "CartPole-v1", 1, vf_coef=0.7, ent_coef=0.3)
    size, eps = 24, 0.2
    mini = {
        "obs": torch.randn(size, 4),
        "actions": torch.randint(2, (size,)),
        "old_log_probs": 0.3 * torch.randn(size) - 0.7,
        "advantages": 2.0 + 3.0 * torch.randn(size),
        "returns": torch.randn(size),
    }
    loss, ratio = minibatch_loss(agent, mini, eps, cfg)
    policy = torch.distributions.Categorical(logits=agent.actor(mini["obs"]))
    expected_ratio = (policy.log_prob(mini["actions"]) - mini["old_log_probs"]).exp()
    assert torch.allclose(ratio, expected_ratio, atol=1e-5), "the ratio is new over old probability"
    assert (expected_ratio < 1 - eps).any()
    assert (expected_ratio > 1 + eps).any()
    scaled = (mini["advantages"] - mini["advantages"].mean()) / mini["advantages"].std()
    limited = torch.where(scaled > 0, expected_ratio.clamp(max=1 + eps), expected_ratio.clamp(min=1 - eps))
    error = (agent.critic(mini["obs"])[:, 0] - mini["returns"]).square().mean()
    expected = -(limited * scaled).mean() + 0.7 * error - 0.3 * policy.entropy().mean()
    assert math.isclose(loss.item(), expected.item(), rel_tol=1e-4, abs_tol=1e-5)
    weights = list(agent.parameters())
    for found, right in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights)):
        assert torch.allclose(found, right, rtol=1e-3, atol=1e-5), "the gradient of the loss"


EDITS = {
    # gae
    "past_the_end": Edit(
        function="gae",
        old="gamma * next_values * ~terminated",
        new="gamma * next_values",
        says="bootstraps through a terminal state: the critic is asked what comes after the end",
    ),
    "merged": Edit(
        function="gae",
        old="next_values * ~terminated",
        new="next_values * ~(terminated | truncated)",
        says="takes a time limit for an end: the state that it cuts is worth nothing",
    ),
    "swapped_masks": Edit(
        function="gae",
        old="next_values * ~terminated",
        new="next_values * ~truncated",
        says="swaps the masks: a time limit loses the bootstrap, an end keeps it",
    ),
    "sum_past_a_limit": Edit(
        function="gae",
        old="goes_on = ~(terminated | truncated)",
        new="goes_on = ~terminated",
        says="sums through a time limit into the next episode",
    ),
    "sum_past_an_end": Edit(
        function="gae",
        old="goes_on = ~(terminated | truncated)",
        new="goes_on = ~truncated",
        says="sums through a terminal state into the next episode",
    ),
    "no_gamma": Edit(
        function="gae",
        old="rewards + gamma * next_values",
        new="rewards + next_values",
        says="leaves gamma out before the successor's value",
    ),
    "sum_without_gamma": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gae_lambda * running",
        says="leaves gamma out of the sum: it is weighted by lambda alone",
    ),
    "no_lambda": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gamma * running",
        says="leaves lambda out",
    ),
    "lambda_squared": Edit(
        function="gae",
        old="gamma * gae_lambda * running",
        new="gamma * gae_lambda**2 * running",
        says="squares lambda",
    ),
    "value_added": Edit(
        function="gae",
        old="~terminated - values  #",
        new="~terminated + values  #",
        says="adds the value that should be subtracted",
        fails=("fresh_return",),
    ),
    "off_by_one": Edit(
        function="gae",
        old="gamma * next_values *",
        new="gamma * torch.cat([values[1:], next_values[-1:]]) *",
        says="values[t + 1] for the successor: at an end that is another episode's state",
    ),
    "late_mask": Edit(
        function="gae",
        old="running * goes_on[t]",
        new="running * goes_on[t - 1]",
        says="masks the sum one row late",
    ),
    "forwards": Edit(
        function="gae",
        old="in reversed(range(len(rewards)))",
        new="in range(len(rewards))",
        says="runs forwards: advantages add up the past",
        fails=("fresh_return",),
    ),
    # normalise
    "normalised_by_column": Edit(
        function="normalise",
        old="advantages - advantages.mean())",
        new="advantages - advantages.mean(dim=0))",
        says="takes the mean over the first axis alone",
    ),
    "spread_by_row": Edit(
        function="normalise",
        old="(advantages.std() + 1e-8)",
        new="(advantages.std(dim=-1, keepdim=True) + 1e-8)",
        says="takes the spread over the last axis alone",
    ),
    "divided_by_variance": Edit(
        function="normalise",
        old="(advantages.std() + 1e-8)",
        new="(advantages.var() + 1e-8)",
        says="divides by the variance, not by the deviation",
    ),
    "unguarded": Edit(
        function="normalise",
        old="(advantages.std() + 1e-8)",
        new="advantages.std()",
        says="divides by zero when all advantages are alike",
    ),
    # clipped_surrogate
    "no_min": Edit(
        function="clipped_surrogate",
        old="torch.min(ratio * advantages, clipped * advantages)",
        new="clipped * advantages",
        says="a clip alone: nothing pulls a bad action back",
        fails=("pull_back", "mean_kl"),
    ),
    "no_clip": Edit(
        function="clipped_surrogate",
        old="torch.min(ratio * advantages, clipped * advantages)",
        new="ratio * advantages",
        says="no clip: the further the policy moves, the better it looks",
        fails=("mean_kl",),
    ),
    "max_if_negative": Edit(
        function="clipped_surrogate",
        old="torch.min(ratio * advantages, clipped * advantages)",
        new="torch.where(\n"
        "        advantages < 0,\n"
        "        torch.max(ratio * advantages, clipped * advantages),\n"
        "        torch.min(ratio * advantages, clipped * advantages),\n"
        "    )",
        says="max in place of min where the advantage is negative: bad actions are pushed down without end",
        fails=("pull_back", "mean_kl"),
    ),
    "max_for_min": Edit(
        function="clipped_surrogate",
        old="return torch.min(ratio * advantages",
        new="return torch.max(ratio * advantages",
        says="max in place of min: it pays for distance, and never pulls back",
        fails=("pull_back", "mean_kl", "fresh_return"),
    ),
    "loss_for_objective": Edit(
        function="clipped_surrogate",
        old="return torch.min(ratio * advantages",
        new="return -torch.min(ratio * advantages",
        says="minus the objective: a loss, to be lowered, where the objective was asked for",
    ),
    "clips_the_product": Edit(
        function="clipped_surrogate",
        old="clipped * advantages)  # eq. (4)",
        new="(ratio * advantages).clamp(1.0 - clip_eps, 1.0 + clip_eps))",
        says="clips the ratio times the advantage, not the ratio",
    ),
    "one_sided_clip": Edit(
        function="clipped_surrogate",
        old="ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)",
        new="ratio.clamp(max=1.0 + clip_eps)",
        says="clips from above alone: bad actions are pushed down without end",
    ),
    "clip_around_zero": Edit(
        function="clipped_surrogate",
        old="ratio.clamp(1.0 - clip_eps, 1.0 + clip_eps)",
        new="ratio.clamp(-clip_eps, clip_eps)",
        says="clips the ratio around 0, not around 1",
        fails=("mean_kl", "fresh_return"),
    ),
    # approx_kl
    "kl_log_sign": Edit(
        function="approx_kl",
        old="((ratio - 1.0) - ratio.log())",
        new="((ratio - 1.0) + ratio.log())",
        says="adds the logarithm that should be subtracted",
        fails=("mean_kl",),
    ),
    "kl_may_be_negative": Edit(
        function="approx_kl",
        old="((ratio - 1.0) - ratio.log())",
        new="(-ratio.log() * 1.0)",
        says="the plain estimate: right on average, but negative on many batches",
    ),
    "kl_other_direction": Edit(
        function="approx_kl",
        old="((ratio - 1.0) - ratio.log())",
        new="(ratio * ratio.log() - (ratio - 1.0))",
        says="estimates the divergence in the other direction",
    ),
    "kl_negated": Edit(
        function="approx_kl",
        old="return ((ratio - 1.0) - ratio.log())",
        new="return -((ratio - 1.0) - ratio.log())",
        says="negates the divergence",
        fails=("mean_kl",),
    ),
    # collect
    "new_episode_for_successor": Edit(
        function="collect",
        old="true_next_obs(obs, terminated | truncated, infos)",
        new="obs",
        says="the successor of an end is the first state of the next episode",
    ),
    "stores_the_clipped_action": Edit(
        function="collect",
        old="        obs, rewards, terminated, truncated, infos = envs.step(agent.head.applied(actions))",
        new="        actions = agent.head.applied(actions)\n"
        "        obs, rewards, terminated, truncated, infos = envs.step(actions)",
        says="stores what the environment was given, and judges an action that was never sampled",
    ),
    "acts_on_the_past": Edit(
        function="collect",
        old="        seen = obs / agent.obs_unit",
        new="        seen = (rows[-1][0] * agent.obs_unit if rows else obs) / agent.obs_unit",
        says="acts on the same observations for ever",
        fails=("fresh_return",),
    ),
    "reward_not_scaled": Edit(
        function="collect",
        old="cfg.reward_scale * rewards.astype",
        new="rewards.astype",
        says="forgets to scale the reward",
    ),
    "successor_in_other_units": Edit(
        function="collect",
        old="infos) / agent.obs_unit",
        new="infos)",
        says="gives the critic successors in other units than states",
    ),
    "swapped_flags": Edit(
        function="collect",
        old="next_obs, terminated, truncated))",
        new="next_obs, truncated, terminated))",
        says="swaps terminated and truncated",
    ),
    # prepare
    "old_log_probs_with_gradient": Edit(
        function="prepare",
        old="@torch.no_grad()\ndef prepare",
        new="def prepare",
        says="leaves a gradient on the old log-probabilities, which are data: the second minibatch stops",
        fails=("pull_back", "mean_kl", "fresh_return"),
    ),
    "merged_before": Edit(
        function="prepare",
        old='ends = rollout["terminated"], rollout["truncated"]',
        new='ends = rollout["terminated"] | rollout["truncated"], rollout["truncated"]',
        says="merges time limits with ends before GAE sees them",
    ),
    "target_without_value": Edit(
        function="prepare",
        old="(advantages + values).flatten()",
        new="advantages.flatten()",
        says="the critic's target is the advantage: the value is missing",
    ),
    "target_from_the_successor": Edit(
        function="prepare",
        old="(advantages + values).flatten()",
        new="(advantages + next_values).flatten()",
        says="the critic's target adds the successor's value",
    ),
    "successor_is_the_state": Edit(
        function="prepare",
        old='agent.value(rollout["next_obs"])',
        new='agent.value(rollout["obs"])',
        says="takes the state's own value for its successor's",
        fails=("fresh_return",),
    ),
    "transposed": Edit(
        function="prepare",
        old='batch["advantages"] = advantages.flatten()',
        new='batch["advantages"] = advantages.T.flatten()',
        says="flattens advantages in another order than the rest",
        fails=("fresh_return",),
    ),
    # minibatch_loss
    "raw_advantages": Edit(
        function="minibatch_loss",
        old='normalise(mini["advantages"])',
        new='mini["advantages"]',
        says="uses the advantages as they are",
    ),
    "ratio_upside_down": Edit(
        function="minibatch_loss",
        old='(log_prob - mini["old_log_probs"]).exp()',
        new='(mini["old_log_probs"] - log_prob).exp()',
        says="old over new probability: good actions become less likely",
        fails=("fresh_return",),
    ),
    "detached_policy": Edit(
        function="minibatch_loss",
        old="ratio = (log_prob -",
        new="ratio = (log_prob.detach() -",
        says="detaches the new log-probabilities: the policy never moves",
        fails=("fresh_return",),
    ),
    "objective_lowered": Edit(
        function="minibatch_loss",
        old="return -objective.mean()",
        new="return objective.mean()",
        says="lowers the objective: what went well becomes less likely",
        fails=("fresh_return",),
    ),
    "value_error_raised": Edit(
        function="minibatch_loss",
        old="+ cfg.vf_coef * value_loss",
        new="- cfg.vf_coef * value_loss",
        says="raises the critic's error",
        fails=("fresh_return",),
    ),
    "entropy_lowered": Edit(
        function="minibatch_loss",
        old="- cfg.ent_coef * entropy",
        new="+ cfg.ent_coef * entropy",
        says="punishes entropy, which the bonus should reward",
    ),
    "weights_swapped": Edit(
        function="minibatch_loss",
        old="cfg.vf_coef * value_loss - cfg.ent_coef *",
        new="cfg.ent_coef * value_loss - cfg.vf_coef *",
        says="swaps the weights of value loss and entropy",
    ),
    "error_not_squared": Edit(
        function="minibatch_loss",
        old='(values - mini["returns"]).pow(2)',
        new='(values - mini["returns"]).abs()',
        says="takes the size of the critic's error, not its square: the median, not the mean",
    ),
    "clipped_critic": Edit(
        function="minibatch_loss",
        old='    values = agent.value(mini["obs"])\n',
        new='    values = agent.value(mini["obs"])\n'
        '    old_values = mini["returns"] - mini["advantages"]\n'
        "    near = old_values + (values - old_values).clamp(-clip_eps, clip_eps)\n"
        '    worse = (near - mini["returns"]).abs() > (values - mini["returns"]).abs()\n'
        "    values = torch.where(worse, near, values)\n",
        says="clips the critic's step too, and takes the larger of the two errors",
    ),
    # update and train
    "no_step": Edit(
        function="update",
        old="            optimizer.step()\n",
        new="",
        says="never lets the optimiser step",
        fails=("fresh_return",),
    ),
    "not_annealed": Edit(
        function="train",
        old="left = 1.0 - i / num_updates",
        new="left = 1.0",
        says="keeps step size and clip range as they began",
    ),
    "default_weights": Edit(
        function="train",
        old="    agent = ActorCritic(envs)\n",
        new="    agent = ActorCritic(envs)\n"
        "    for layer in (*agent.actor[::2], *agent.critic[::2]):\n"
        "        layer.reset_parameters()\n",
        says="starts from torch's own initial weights",
    ),
}
