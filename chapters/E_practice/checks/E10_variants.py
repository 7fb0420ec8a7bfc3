"""Right answers to E10's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from chapters.E_practice.E10_offline_rl import MAX_WEIGHT
from chapters.exact.mdp import evaluate_exactly, q_from_v

UNNAMED = {
    "weights_pull_v": "the loss itself is right; only its slope is wrong, and slopes are not compared",
    "iql_by_its_q": "it returns a policy, a function, and functions are not compared",
    "worst_action": "it returns a policy, a function, and functions are not compared",
}


def pick__index(q_values, actions):
    return q_values[torch.arange(len(actions)), actions]


def pick__one_hot(q_values, actions):
    return (q_values * F.one_hot(actions, q_values.shape[1])).sum(dim=1)


def conservative_penalty__cross_entropy(q_values, actions):
    return F.cross_entropy(q_values, actions)


def conservative_penalty__log_softmax(q_values, actions):
    return -torch.log_softmax(q_values, dim=-1)[torch.arange(len(actions)), actions].mean()


def conservative_penalty__by_hand(q_values, actions):
    top = q_values.amax(dim=1, keepdim=True)
    total = top.squeeze(1) + (q_values - top).exp().sum(dim=1).log()
    return total.mean() - q_values.gather(1, actions[:, None]).mean()


def prices__loops(policy, behaviour):
    found = np.zeros(policy.shape)
    for s, a in np.ndindex(*policy.shape):
        found[s, a] = (policy[s, a] - behaviour[s, a]) / behaviour[s, a]
    return found


def priced_q__difference(mdp, policy, costs):
    """The true values, less what all costs that are met add up to."""
    Q = q_from_v(mdp, evaluate_exactly(mdp, policy))
    charged = mdp._replace(R=costs)
    return Q - q_from_v(charged, evaluate_exactly(charged, policy))


def expectile_loss__where(errors, tau):
    return torch.where(errors < 0, (1 - tau) * errors**2, tau * errors**2).mean()


def expectile_loss__parts(errors, tau):
    up, down = errors.clamp(min=0.0), errors.clamp(max=0.0)
    return (tau * up.square() + (1 - tau) * down.square()).sum() / len(errors)


def advantage_weights__clamp_inside(advantages, temperature):
    return (advantages / temperature).clamp(max=math.log(MAX_WEIGHT)).exp()


def advantage_weights__minimum(advantages, temperature):
    weights = torch.exp(advantages / temperature)
    return torch.minimum(weights, torch.full_like(weights, MAX_WEIGHT))


def td_loss__where(learner, batch, next_values, cfg):
    with torch.no_grad():
        rest = torch.where(batch["terminated"], torch.zeros_like(next_values), next_values)
        targets = (1 - cfg.gamma) * batch["rewards"] + cfg.gamma * rest
    q = learner.q(batch["obs"])[torch.arange(len(targets)), batch["actions"]]
    return F.mse_loss(q, targets) / 2


def td_loss__float_mask(learner, batch, next_values, cfg):
    going_on = 1.0 - batch["terminated"].float()
    targets = (1 - cfg.gamma) * batch["rewards"] + cfg.gamma * going_on * next_values.detach()
    q = learner.q(batch["obs"]).gather(1, batch["actions"].view(-1, 1)).view(-1)
    return (q - targets).square().sum() / (2 * len(q))


def clone_loss__log_softmax(learner, batch, cfg):
    log_probs = torch.log_softmax(learner.policy(batch["obs"]), dim=1)
    return -log_probs.gather(1, batch["actions"][:, None]).mean()


def dqn_loss__max(learner, batch, cfg):
    with torch.no_grad():
        best = learner.target(batch["next_obs"]).max(dim=1).values
    return td_loss__where(learner, batch, best, cfg)


def cql_loss__cross_entropy(learner, batch, cfg):
    return dqn_loss__max(learner, batch, cfg) + cfg.alpha * F.cross_entropy(
        learner.q(batch["obs"]), batch["actions"]
    )


def iql_loss__in_parts(learner, batch, cfg):
    actions = batch["actions"]
    with torch.no_grad():
        q = learner.target(batch["obs"])[torch.arange(len(actions)), actions]
        next_values = learner.value(batch["next_obs"])[:, 0]
    errors = q - learner.value(batch["obs"])[:, 0]
    with torch.no_grad():
        weights = (errors / cfg.temperature).exp().clamp(max=MAX_WEIGHT)
    log_probs = torch.log_softmax(learner.policy(batch["obs"]), dim=1)[torch.arange(len(actions)), actions]
    policy_loss = -(weights * log_probs).mean()
    value_loss = expectile_loss__where(errors, cfg.tau)
    return policy_loss + value_loss + td_loss__float_mask(learner, batch, next_values, cfg)


def fitted_loss__index(learner, batch, cfg, policy):
    with torch.no_grad():
        chosen = policy(batch["next_obs"])
        next_values = learner.target(batch["next_obs"])[torch.arange(len(chosen)), chosen]
    return td_loss__where(learner, batch, next_values, cfg)


def fitted_table__loops(log, policy, gamma, num_sweeps):
    Q = np.zeros(policy.shape)
    for _ in range(num_sweeps):
        targets = {cell: [] for cell in np.ndindex(*policy.shape)}
        for s, a, r, later, over in zip(
            log["obs"], log["actions"], log["rewards"], log["next_obs"], log["terminated"]
        ):
            targets[s, a].append(r + (0.0 if over else gamma * policy[later] @ Q[later]))
        for cell, found in targets.items():
            Q_new = np.mean(found) if found else 0.0
            targets[cell] = Q_new
        Q = np.array([targets[cell] for cell in np.ndindex(*policy.shape)]).reshape(policy.shape)
    return Q


def fitted_table__bincount(log, policy, gamma, num_sweeps):
    cell = log["obs"] * policy.shape[1] + log["actions"]
    counts = np.bincount(cell, minlength=policy.size)
    Q = np.zeros(policy.shape)
    for _ in range(num_sweeps):
        V = np.einsum("sa,sa->s", policy, Q)
        targets = log["rewards"] + gamma * (1.0 - log["terminated"]) * V[log["next_obs"]]
        sums = np.bincount(cell, weights=targets, minlength=policy.size)
        Q = np.divide(sums, counts, out=np.zeros(policy.size), where=counts > 0).reshape(policy.shape)
    return Q
