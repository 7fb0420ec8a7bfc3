"""Right answers to C7's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch


def vtrace__float_masks(
    rewards, values, next_values, terminated, truncated, ratio, gamma, vtrace_lambda, rho_bar, c_bar
):
    alive = 1.0 - terminated.to(rewards.dtype)
    inside = alive * (1.0 - truncated.to(rewards.dtype))
    rho = torch.clip(ratio, max=rho_bar)
    c = vtrace_lambda * torch.clip(ratio, max=c_bar)
    errors = rho * (rewards + gamma * alive * next_values - values)
    corrections = []
    last = torch.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        last = errors[t] + gamma * c[t] * inside[t] * last
        corrections.append(last)
    corrections = torch.stack(corrections[::-1])
    later = torch.cat([corrections[1:], torch.zeros_like(rewards[:1])])
    ahead = next_values + inside * later
    return values + corrections, rho * (rewards + gamma * alive * ahead - values)


def vtrace__in_numpy(
    rewards, values, next_values, terminated, truncated, ratio, gamma, vtrace_lambda, rho_bar, c_bar
):
    r, v, w_next, end, cut, w = (
        one.detach().numpy() for one in (rewards, values, next_values, terminated, truncated, ratio)
    )
    targets, advantages = np.zeros_like(r), np.zeros_like(r)
    for n in range(r.shape[1]):
        carried = 0.0
        for t in range(r.shape[0])[::-1]:
            on = 0.0 if end[t, n] or cut[t, n] else 1.0
            rho = min(rho_bar, w[t, n])
            there = 0.0 if end[t, n] else gamma
            advantages[t, n] = rho * (r[t, n] + there * (w_next[t, n] + on * carried) - v[t, n])
            carried = (
                rho * (r[t, n] + there * w_next[t, n] - v[t, n])
                + gamma * vtrace_lambda * min(c_bar, w[t, n]) * on * carried
            )
            targets[t, n] = v[t, n] + carried
    return torch.from_numpy(targets), torch.from_numpy(advantages)


def clipped_policy__where(policy, behaviour, rho_bar):
    limit = rho_bar * behaviour
    kept = np.where(policy < limit, policy, limit)
    return kept / np.sum(kept, axis=-1)[:, None]


def clipped_policy__by_ratio(policy, behaviour, rho_bar):
    weighed = behaviour * np.clip(policy / behaviour, None, rho_bar)
    return (weighed.T / weighed.sum(axis=1)).T


def token_weights__where(log_probs, old_log_probs, mask, bound):
    with torch.no_grad():
        ratio = torch.exp(log_probs - old_log_probs)
        return torch.where(
            mask > 0, torch.minimum(ratio, torch.full_like(ratio, bound)), torch.zeros_like(ratio)
        )


def token_weights__log_clamp(log_probs, old_log_probs, mask, bound):
    difference = log_probs.detach() - old_log_probs
    return mask * torch.exp(difference.clamp(max=float(np.log(bound))))
