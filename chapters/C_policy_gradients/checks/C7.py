"""Definition checks of C7: each function against its equation, written out one number at a time."""

import math
import sys

import numpy as np
import torch

from chapters.envs import make_envs
from chapters.envs.agents import ActorCritic
from chapters.utils.edits import Edit

CONSTANT = ("vtrace", "token_weights")  # of the weights: it may be written with or without a gradient


def vtrace_by_sums(given, gamma, lam, rho_bar, c_bar, t, n):
    """(target, advantage) of step t in environment n: the double sum, number by number."""
    rewards, values, next_values, terminated, truncated, ratio = given

    def target(t):
        total, carried = float(values[t, n]), 1.0
        for k in range(t, len(rewards)):
            rest = 0.0 if terminated[k, n] else gamma * float(next_values[k, n])
            error = float(rewards[k, n]) + rest - float(values[k, n])
            total += carried * min(rho_bar, float(ratio[k, n])) * error
            carried *= gamma * lam * min(c_bar, float(ratio[k, n]))
            if terminated[k, n] or truncated[k, n]:
                break
        return total

    ahead = float(next_values[t, n])
    if t + 1 < len(rewards) and not (terminated[t, n] or truncated[t, n]):
        ahead += target(t + 1) - float(values[t + 1, n])
    gain = float(rewards[t, n]) + (0.0 if terminated[t, n] else gamma * ahead) - float(values[t, n])
    return target(t), min(rho_bar, float(ratio[t, n])) * gain


def check_vtrace(vtrace):
    """Targets: each error weighed by all ratios on its way. Advantages: one step ahead, to a target."""
    torch.manual_seed(0)
    for T, N in ((1, 1), (2, 3), (7, 2), (15, 4)):
        for settings in ((0.99, 1.0, 1.0, 1.0), (0.9, 0.8, 2.0, 0.5), (1.0, 0.5, 0.7, 3.0)):
            rewards, values, next_values = torch.randn(3, T, N, dtype=torch.float64)
            ratio = torch.randn(T, N, dtype=torch.float64).exp()
            terminated, truncated = torch.rand(2, T, N) < 0.2
            given = rewards, values, next_values, terminated, truncated, ratio
            targets, advantages = vtrace(*(one.clone() for one in given), *settings)
            for n in range(N):
                for t in range(T):
                    target, advantage = vtrace_by_sums(given, *settings, t, n)
                    assert math.isclose(targets[t, n], target, rel_tol=1e-6, abs_tol=1e-8)
                    assert math.isclose(advantages[t, n], advantage, rel_tol=1e-6, abs_tol=1e-8)


def check_clipped_policy(clipped_policy):
    rng = np.random.default_rng(1)
    for num_states, num_actions in ((1, 2), (4, 3), (6, 5)):
        policy, behaviour = rng.dirichlet(np.ones(num_actions), size=(2, num_states))
        for rho_bar in (0.05, 0.5, 1.0, 3.0, 1e9):
            found = clipped_policy(policy.copy(), behaviour.copy(), rho_bar)
            for s in range(num_states):
                kept = [min(rho_bar * behaviour[s, a], policy[s, a]) for a in range(num_actions)]
                for a in range(num_actions):
                    assert math.isclose(found[s, a], kept[a] / sum(kept), rel_tol=1e-9)


def check_losses(losses):
    """Both losses and their gradients, with ratios on both sides of the bounds."""
    torch.manual_seed(2)
    lesson = sys.modules[losses.__module__]
    cfg = lesson.Config(gamma=0.9, vtrace_lambda=0.8, rho_bar=1.1, c_bar=0.9, ent_coef=0.3)
    agent = ActorCritic(make_envs("CartPole-v1", 1))
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    T, N = 5, 3
    terminated, truncated = torch.rand(2, T, N) < 0.2
    rollout = {
        "obs": torch.randn(T, N, 4),
        "next_obs": torch.randn(T, N, 4),
        "actions": torch.randint(2, (T, N)),
        "rewards": torch.randn(T, N),
        "terminated": terminated,
        "truncated": truncated,
        "old_log_probs": 0.4 * torch.randn(T, N) - 0.7,
    }
    actor_loss, critic_loss, ratio = losses(agent, rollout, cfg)
    policy = torch.distributions.Categorical(logits=agent.actor(rollout["obs"]))
    log_prob = policy.log_prob(rollout["actions"])
    expected_ratio = (log_prob - rollout["old_log_probs"]).exp().detach()
    assert torch.allclose(ratio, expected_ratio, atol=1e-5), "the ratio is the learner's over the actor's"
    assert not ratio.requires_grad, "the ratio is a constant weight"
    values = agent.critic(rollout["obs"])[..., 0]
    ahead = agent.critic(rollout["next_obs"])[..., 0].detach()
    now = values.detach()
    targets, advantages = torch.zeros(2, T, N)
    for n in range(N):
        carried = 0.0
        for t in reversed(range(T)):
            goes_on = not (terminated[t, n] or truncated[t, n])
            rest = 0.0 if terminated[t, n] else 0.9 * (ahead[t, n] + goes_on * carried)
            advantages[t, n] = min(1.1, expected_ratio[t, n]) * (rollout["rewards"][t, n] + rest - now[t, n])
            rest = 0.0 if terminated[t, n] else 0.9 * ahead[t, n]
            error = min(1.1, expected_ratio[t, n]) * (rollout["rewards"][t, n] + rest - now[t, n])
            carried = error + 0.9 * 0.8 * min(0.9, expected_ratio[t, n]) * goes_on * carried
            targets[t, n] = now[t, n] + carried
    expected_actor = -(advantages * log_prob).mean() - 0.3 * policy.entropy().mean()
    expected_critic = (values - targets).square().mean()
    for found, right in ((actor_loss, expected_actor), (critic_loss, expected_critic)):
        assert math.isclose(found.item(), right.item(), rel_tol=1e-4, abs_tol=1e-5)
    weights = list(agent.parameters())
    found = torch.autograd.grad(actor_loss + critic_loss, weights, allow_unused=True)
    right = torch.autograd.grad(expected_actor + expected_critic, weights, allow_unused=True)
    for one, other in zip(found, right):
        assert one is not None, "a network gets no gradient"
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5), "the gradient of the losses"


EDITS = {
    # vtrace
    "uncorrected": Edit(
        function="vtrace",
        old="    rho = ratio.clamp(max=rho_bar)\n",
        new="    ratio = torch.ones_like(ratio)\n    rho = ratio.clamp(max=rho_bar)\n",
        says="takes old steps for the learner's own: no ratio anywhere",
    ),
    "unbounded_rho": Edit(
        function="vtrace",
        old="rho = ratio.clamp(max=rho_bar)",
        new="rho = ratio",
        says="no bound on the ratio that weighs an error",
    ),
    "unbounded_c": Edit(
        function="vtrace",
        old="c = vtrace_lambda * ratio.clamp(max=c_bar)",
        new="c = vtrace_lambda * ratio",
        says="no bound on the ratios that carry an error back",
    ),
    "rho_for_c": Edit(
        function="vtrace",
        old="ratio.clamp(max=c_bar)",
        new="ratio.clamp(max=rho_bar)",
        says="carries errors back by the other bound",
    ),
    "no_lambda": Edit(
        function="vtrace",
        old="c = vtrace_lambda * ratio",
        new="c = ratio",
        says="leaves lambda out",
        fails=("own_steps_gap",),
    ),
    "past_the_end": Edit(
        function="vtrace",
        old="deltas = rho * (rewards + gamma * next_values * ~terminated - values)",
        new="deltas = rho * (rewards + gamma * next_values - values)",
        says="bootstraps through a terminal state: the critic is asked what comes after the end",
        fails=("own_steps_gap",),
    ),
    "merged": Edit(
        function="vtrace",
        old="deltas = rho * (rewards + gamma * next_values * ~terminated - values)",
        new="deltas = rho * (rewards + gamma * next_values * goes_on - values)",
        says="takes a time limit for an end: the state that it cuts is worth nothing",
        fails=("own_steps_gap",),
    ),
    "sum_past_a_limit": Edit(
        function="vtrace",
        old="goes_on = ~(terminated | truncated)",
        new="goes_on = ~terminated",
        says="carries errors through a time limit from the next episode",
        fails=("own_steps_gap",),
    ),
    "value_added": Edit(
        function="vtrace",
        old="next_values * ~terminated - values)  # eq. (1)",
        new="next_values * ~terminated + values)  # eq. (1)",
        says="adds the value that should be subtracted",
        fails=("own_steps_gap", "fresh_return"),
    ),
    "forwards": Edit(
        function="vtrace",
        old="in reversed(range(len(rewards)))",
        new="in range(len(rewards))",
        says="runs forwards: errors of earlier steps are carried to later ones",
        fails=("own_steps_gap", "fresh_return"),
    ),
    "successor_unweighed": Edit(
        function="vtrace",
        old="advantages = rho * (rewards",
        new="advantages = (rewards",
        says="leaves the ratio out of the actor's advantages",
    ),
    "advantage_by_value": Edit(
        function="vtrace",
        old="gamma * next_targets * ~terminated",
        new="gamma * next_values * ~terminated",
        says="looks ahead to the successor's value, not to its target",
    ),
    "advantage_past_the_end": Edit(
        function="vtrace",
        old="gamma * next_targets * ~terminated",
        new="gamma * next_targets",
        says="advantages bootstrap through a terminal state",
    ),
    "error_as_target": Edit(
        function="vtrace",
        old="targets[t] = values[t] + correction",
        new="targets[t] = correction",
        says="the correction alone where the target was asked for",
        fails=("own_steps_gap", "fresh_return"),
    ),
    # clipped_policy
    "not_normalised": Edit(
        function="clipped_policy",
        old="kept / kept.sum(axis=1, keepdims=True)",
        new="kept",
        says="does not divide by the sum: no probabilities",
    ),
    "clipped_by_one": Edit(
        function="clipped_policy",
        old="np.minimum(rho_bar * behaviour, policy)",
        new="np.minimum(behaviour, policy)",
        says="forgets the bound",
    ),
    "larger": Edit(
        function="clipped_policy",
        old="np.minimum(rho_bar",
        new="np.maximum(rho_bar",
        says="takes the larger of the two",
    ),
    "over_states": Edit(
        function="clipped_policy",
        old="kept.sum(axis=1, keepdims=True)",
        new="kept.sum(axis=0, keepdims=True)",
        says="divides by the sum over states",
    ),
    # losses
    "ratio_upside_down": Edit(
        function="losses",
        old='(log_prob - rollout["old_log_probs"]).exp()',
        new='(rollout["old_log_probs"] - log_prob).exp()',
        says="the actor's probability over the learner's",
    ),
    "objective_lowered": Edit(
        function="losses",
        old="actor_loss = -(advantages",
        new="actor_loss = (advantages",
        says="lowers what should be raised",
        fails=("fresh_return",),
    ),
    "entropy_lowered": Edit(
        function="losses",
        old="- cfg.ent_coef * entropy.mean()",
        new="+ cfg.ent_coef * entropy.mean()",
        says="pays for certainty, not for entropy",
    ),
    "critic_follows_advantages": Edit(
        function="losses",
        old="(values - targets).pow(2)",
        new="(values - advantages).pow(2)",
        says="teaches the critic advantages for values",
        fails=("fresh_return",),
    ),
    "values_of_this_state": Edit(
        function="losses",
        old='agent.value(rollout["next_obs"])',
        new='agent.value(rollout["obs"])',
        says="takes the state's own value for its successor's",
    ),
    # the learner as a whole
    "weights_not_copied": Edit(
        function="weights_of",
        old=".detach().numpy().copy()",
        new=".mul(0.0).detach().numpy()",
        says="hands out zeros for weights",
        fails=("fresh_return",),
    ),
}
