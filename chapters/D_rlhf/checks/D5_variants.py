"""Right answers to D5's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from chapters.D_rlhf.D5_grpo_verifiable_rewards import (
    EPS,
    advantages,
    average,
    clipped_objective,
    importance_ratio,
)
from chapters.text import tasks
from chapters.text.tasks import log_probs_of


def advantages__where(rewards, baseline="group_mean", divide=True):
    size = rewards.shape[1]
    std, mean = torch.std_mean(rewards, dim=1, keepdim=True)
    if baseline == "leave_one_out":
        mean = (rewards.sum(dim=1, keepdim=True) - rewards) / (size - 1)
    found = (rewards - mean) / (std + EPS if divide else 1.0)
    equal = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)
    return torch.where(equal, torch.zeros_like(found), found)


def advantages__group_by_group(rewards, baseline="group_mean", divide=True):
    groups = []
    for group in rewards:
        if len(group.unique()) == 1:
            groups.append(torch.zeros_like(group))
            continue
        centred = group - group.mean()
        if baseline == "leave_one_out":
            centred = centred * (len(group) / (len(group) - 1))
        groups.append(centred / (group.std() + 1e-4) if divide else centred)
    return torch.stack(groups)


def advantages__in_numpy(rewards, baseline="group_mean", divide=True):
    r = rewards.numpy()
    num_groups, size = r.shape
    found = np.zeros_like(r)
    for n in range(num_groups):
        if np.ptp(r[n]) == 0:
            continue
        for g in range(size):
            others = r[n] if baseline == "group_mean" else np.delete(r[n], g)
            found[n, g] = r[n, g] - others.mean()
        if divide:
            found[n] /= r[n].std(ddof=1) + EPS
    return torch.from_numpy(found)


@torch.no_grad()
def advantages__leave_one_out_matrix(rewards, baseline="group_mean", divide=True):
    size = rewards.shape[1]
    differences = rewards[:, :, None] - rewards[:, None, :]
    centred = differences.sum(dim=2) / (size if baseline == "group_mean" else size - 1)
    if not divide:
        return centred
    variance = differences.square().sum(dim=(1, 2)) / (2 * size * (size - 1))
    return centred / (variance.sqrt().unsqueeze(1) + EPS)


def importance_ratio__where(log_probs, old_log_probs, mask, level):
    log_ratio = torch.where(mask, log_probs - old_log_probs, 0.0)
    if level == "token":
        return torch.exp(log_ratio)
    mean = log_ratio.sum(-1) / torch.clamp(mask.sum(-1), min=1)
    return torch.exp(mean).unsqueeze(-1).repeat(1, mask.shape[1])


def importance_ratio__product(log_probs, old_log_probs, mask, level):
    ratio = (log_probs - old_log_probs).exp().masked_fill(~mask, 1.0)
    if level == "sequence":
        lengths = mask.sum(dim=1).clamp(min=1)
        ratio = (ratio.prod(dim=1) ** (1 / lengths))[:, None].expand_as(ratio)
    return ratio


def importance_ratio__loop(log_probs, old_log_probs, mask, level):
    rows = []
    for new, old, exists in zip(log_probs, old_log_probs, mask):
        log_ratio = (new - old) * exists
        if level == "sequence" and exists.any():
            log_ratio = log_ratio[exists].mean() * exists
        rows.append(log_ratio.exp())
    return torch.stack(rows)


def clipped_objective__where(ratio, advantages, clip_low, clip_high):
    near = torch.where(advantages > 0, ratio.clamp(max=1 + clip_high), ratio.clamp(min=1 - clip_low))
    return near * advantages


def clipped_objective__stacked(ratio, advantages, clip_low, clip_high):
    clipped = torch.clip(ratio, 1 - clip_low, 1 + clip_high)
    return torch.stack([ratio * advantages, clipped * advantages]).amin(dim=0)


def clipped_objective__relu(ratio, advantages, clip_low, clip_high):
    above = F.relu(ratio - (1 + clip_high)) * F.relu(advantages)
    below = F.relu((1 - clip_low) - ratio) * F.relu(-advantages)
    return ratio * advantages - above - below


def average__selected(losses, mask, kind):
    if kind == "tokens":
        return losses[mask].sum() / max(int(mask.sum()), 1)
    total = losses.new_zeros(())
    for row, exists in zip(losses, mask):
        if exists.any():
            kept = row[exists]
            total = total + (kept.mean() if kind == "completions" else kept.sum() / len(row))
    return total / len(losses)


def average__weights(losses, mask, kind):
    exists = mask.float()
    lengths = exists.sum(dim=1, keepdim=True)
    if kind == "completions":
        weights = exists / lengths.clamp(min=1) / len(losses)
    elif kind == "tokens":
        weights = exists / exists.sum().clamp(min=1)
    else:
        weights = exists / losses.numel()
    return (losses * weights).sum()


def average__masked_fill(losses, mask, kind):
    kept = losses.masked_fill(~mask, 0.0)
    lengths = mask.long().sum(1)
    divisors = {
        "completions": len(losses) * lengths.clamp(min=1),
        "tokens": lengths.sum().clamp(min=1),
        "constant": losses.shape[0] * losses.shape[1],
    }
    return (kept.sum(1) / divisors[kind]).sum()


def grpo_loss__with_where(log_probs, batch, cfg):
    mask = batch["completion_mask"]
    ratio = importance_ratio(log_probs, batch["old_log_probs"], mask, cfg.ratio)
    objective = clipped_objective(ratio, batch["advantages"].unsqueeze(1), cfg.clip_low, cfg.clip_high)
    u = torch.where(mask, batch["ref_log_probs"] - log_probs, 0.0)
    penalty = torch.expm1(u) - u
    return -average(objective - cfg.beta * penalty, mask, cfg.average)


def grpo_loss__two_averages(log_probs, batch, cfg):
    mask, judged = batch["completion_mask"], batch["advantages"].view(-1, 1)
    ratio = importance_ratio(log_probs, batch["old_log_probs"], mask, level=cfg.ratio)
    clipped = ratio.clamp(1 - cfg.clip_low, 1 + cfg.clip_high)
    loss = average(torch.maximum(-ratio * judged, -clipped * judged), mask, cfg.average)
    if cfg.beta == 0:
        return loss
    log_ratio = batch["ref_log_probs"] - log_probs
    return loss + cfg.beta * average(log_ratio.exp() - log_ratio - 1, mask, cfg.average)


def collect__inside(policy, reference, task, rng, generator, cfg):
    with torch.no_grad():
        asked = torch.randint(len(task.prompt_ids), (cfg.num_prompts, 1), generator=generator)
        rows = asked.expand(-1, cfg.group_size).flatten()
        batch = tasks.answer(policy, task, rows, generator)
        judged = advantages(
            batch["rewards"].reshape(cfg.num_prompts, cfg.group_size), cfg.baseline, cfg.divide
        )
        old_log_probs = log_probs_of(policy, batch)
        return {
            **batch,
            "old_log_probs": old_log_probs,
            "ref_log_probs": log_probs_of(reference, batch),
            "advantages": judged.reshape(-1).to(old_log_probs.dtype),
        }


def pass_at_k__comb(num_correct, num_samples, k):
    chances = [
        1 - math.comb(num_samples - int(c), k) / math.comb(num_samples, k) for c in num_correct.tolist()
    ]
    return sum(chances) / len(chances)


def pass_at_k__in_numpy(num_correct, num_samples, k):
    found = []
    for c in num_correct.numpy():
        if num_samples - c < k:
            found.append(1.0)
        else:
            found.append(1.0 - np.prod(1.0 - k / np.arange(num_samples - c + 1, num_samples + 1)))
    return float(np.mean(found))


def pass_at_k__lgamma(num_correct, num_samples, k):
    def log_comb(n):
        return torch.lgamma(n + 1) - torch.lgamma(n - k + 1)

    wrong = num_samples - num_correct.double()
    share = torch.exp(log_comb(wrong.clamp(min=k)) - log_comb(torch.tensor(float(num_samples)).double()))
    return (1 - torch.where(wrong < k, 0.0, share)).mean().item()


def overlong_penalty__where(lengths, longest, margin):
    slope = (longest - margin - lengths) / margin
    some = torch.where(lengths <= longest, slope, -1.0)
    return torch.where(lengths <= longest - margin, 0.0, some)


def overlong_penalty__loop(lengths, longest, margin):
    found = []
    for length in lengths.tolist():
        over = length - (longest - margin)
        found.append(0.0 if over <= 0 else -min(over / margin, 1.0))
    return torch.tensor(found)


def overlong_penalty__relu(lengths, longest, margin):
    over = torch.relu(lengths - (longest - margin))
    return -torch.clamp(over, max=margin) / margin


def overlong_penalty__in_numpy(lengths, longest, margin):
    return -torch.from_numpy(np.clip((lengths.numpy() - longest + margin) / margin, 0.0, 1.0))
