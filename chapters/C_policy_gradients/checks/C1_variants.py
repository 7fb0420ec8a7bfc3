"""Right answers to C1's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Categorical


@torch.no_grad()
def gae__float_masks(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    num_steps, num_envs = rewards.shape
    not_terminated = 1.0 - terminated.float()
    not_done = not_terminated * (1.0 - truncated.float())
    advantages = torch.zeros(num_steps, num_envs)
    last = torch.zeros(num_envs)
    for t in range(num_steps - 1, -1, -1):
        delta = rewards[t] + gamma * not_terminated[t] * next_values[t] - values[t]
        last = delta + gamma * gae_lambda * not_done[t] * last
        advantages[t] = last
    return advantages


def gae__where(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    targets = torch.where(terminated, rewards, rewards + gamma * next_values)
    deltas = targets - values
    over = terminated.logical_or(truncated)
    rows = [deltas[-1]]
    for t in range(len(deltas) - 2, -1, -1):
        rows.insert(0, torch.where(over[t], deltas[t], deltas[t] + gamma * gae_lambda * rows[0]))
    return torch.stack(rows)


def gae__double_sum(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    deltas = rewards + gamma * next_values.masked_fill(terminated, 0.0) - values
    found = torch.zeros_like(deltas)
    for i in range(rewards.shape[1]):
        for t in range(len(rewards)):
            weight = 1.0
            for k in range(t, len(rewards)):
                found[t, i] += weight * deltas[k, i]
                weight *= gamma * gae_lambda
                if terminated[k, i] or truncated[k, i]:
                    break
    return found


def gae__in_numpy(rewards, values, next_values, terminated, truncated, gamma, gae_lambda):
    r, v, v_next, end, cut = (part.numpy() for part in (rewards, values, next_values, terminated, truncated))
    advantages = r + gamma * np.where(end, 0.0, v_next) - v
    decay = gamma * gae_lambda * ~(end | cut)
    for t in range(len(r) - 1)[::-1]:
        advantages[t] += decay[t] * advantages[t + 1]
    return torch.as_tensor(advantages)


def a2c_loss__library(log_probs, advantages, values, returns, entropy, vf_coef, ent_coef):
    actor = torch.mean(-advantages.detach() * log_probs)
    critic = F.mse_loss(values, returns.detach())
    return actor + vf_coef * critic - ent_coef * torch.mean(entropy)


def a2c_loss__one_mean(log_probs, advantages, values, returns, entropy, vf_coef, ent_coef):
    errors = returns - values
    each = log_probs * advantages - vf_coef * errors**2 + ent_coef * entropy
    return -each.mean()


def a2c_loss__sums(log_probs, advantages, values, returns, entropy, vf_coef, ent_coef):
    batch_size = len(log_probs)
    errors = values - returns
    total = vf_coef * (errors @ errors) - torch.dot(log_probs, advantages) - ent_coef * entropy.sum()
    return total / batch_size


def log_probs_of__categorical(logits, actions):
    policy = Categorical(logits=logits)
    return policy.log_prob(actions), policy.entropy()


def log_probs_of__cross_entropy(logits, actions):
    flat = logits.reshape(-1, logits.shape[-1])
    taken = -F.cross_entropy(flat, actions.reshape(-1), reduction="none")
    probs = F.softmax(logits, dim=2)
    entropy = logits.logsumexp(dim=2) - (probs * logits).sum(dim=2)
    return taken.reshape(actions.shape), entropy


def log_probs_of__one_hot(logits, actions):
    log_policy = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
    chosen = F.one_hot(actions, logits.size(-1))
    entropy = -torch.einsum("tna,tna->tn", torch.exp(log_policy), log_policy)
    return (log_policy * chosen).sum(-1), entropy


def log_probs_of__index(logits, actions):
    log_policy = F.log_softmax(logits, dim=-1)
    steps, envs = torch.meshgrid(*map(torch.arange, actions.shape), indexing="ij")
    return log_policy[steps, envs, actions], torch.special.entr(log_policy.exp()).sum(-1)


@torch.no_grad()
def n_step_advantages__loop(rewards, values, next_values, terminated, truncated, gamma, n):
    num_steps, num_envs = rewards.shape
    advantages = torch.zeros(num_steps, num_envs)
    for i in range(num_envs):
        for t in range(num_steps):
            total = -values[t, i]
            for k in range(n):
                row = t + k
                total = total + gamma**k * rewards[row, i]
                if terminated[row, i] or truncated[row, i] or row + 1 == num_steps:
                    break
            if not terminated[row, i]:
                total = total + gamma ** (k + 1) * next_values[row, i]
            advantages[t, i] = total
    return advantages


def n_step_advantages__running_mask(rewards, values, next_values, terminated, truncated, gamma, n):
    deltas = rewards + gamma * torch.where(terminated, 0.0, next_values) - values
    goes_on = 1.0 - (terminated | truncated).float()
    advantages = deltas.clone()
    weight = torch.ones_like(rewards)
    for k in range(1, min(n, len(rewards))):
        weight = gamma * weight[:-1] * goes_on[k - 1 : -1]
        advantages[:-k] += weight * deltas[k:]
    return advantages


def n_step_advantages__recursive(rewards, values, next_values, terminated, truncated, gamma, n):
    deltas = rewards + gamma * (1 - terminated.int()) * next_values - values
    if n == 1:
        return deltas
    rollout = (rewards, values, next_values, terminated, truncated)
    fewer = n_step_advantages__recursive(*rollout, gamma, n - 1)
    later = (gamma * fewer[1:]).masked_fill((terminated | truncated)[:-1], 0.0)
    deltas[:-1] += later
    return deltas


def rewards_for_one_mask__where(rewards, next_values, terminated, truncated, gamma):
    cut = torch.logical_and(truncated, torch.logical_not(terminated))
    return torch.where(cut, rewards + gamma * next_values, rewards)


@torch.no_grad()
def rewards_for_one_mask__index(rewards, next_values, terminated, truncated, gamma):
    changed = rewards.clone()
    cut = truncated & ~terminated
    changed[cut] += gamma * next_values[cut]
    return changed


def rewards_for_one_mask__float_masks(rewards, next_values, terminated, truncated, gamma):
    return rewards + truncated.float() * (1 - terminated.float()) * gamma * next_values


def rewards_for_one_mask__difference(rewards, next_values, terminated, truncated, gamma):
    done = terminated | truncated
    two_masks = rewards + gamma * next_values * ~terminated
    one_mask = gamma * next_values * ~done
    return two_masks - one_mask
