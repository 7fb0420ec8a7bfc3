"""Right answers to D12's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch

from chapters.D_rlhf.D12_stale_samples import penalised, surrogate, weights
from chapters.text.serving import scores
from chapters.text.tasks import log_probs_of


def weights__branches(log_probs, sampler_log_probs, mask, kind, cap):
    with torch.no_grad():
        steps = torch.where(mask, log_probs - sampler_log_probs, torch.zeros_like(log_probs))
        whole = steps.sum(1, keepdim=True)
        if kind == "none":
            return torch.ones_like(steps)
        if kind == "geometric":
            return (whole / mask.sum(1, keepdim=True)).exp().expand_as(steps)
        ratio = (whole if "sequence" in kind else steps).exp().expand_as(steps)
        if "truncated" in kind:
            return torch.minimum(ratio, torch.tensor(cap, dtype=ratio.dtype))
        if "masked" in kind:
            return torch.where(ratio <= cap, ratio, torch.zeros_like(ratio))
        return ratio


def weights__text_by_text(log_probs, sampler_log_probs, mask, kind, cap):
    rows = []
    for ours, theirs, exists in zip(log_probs.detach(), sampler_log_probs.detach(), mask):
        ratio = torch.exp((ours - theirs).masked_fill(~exists, 0.0))
        if kind.startswith("sequence"):
            ratio = ratio.prod().expand_as(ratio)
        elif kind == "geometric":
            ratio = (ratio.prod() ** (1.0 / exists.sum())).expand_as(ratio)
        elif kind == "none":
            ratio = torch.ones_like(ratio)
        if kind.endswith("truncated"):
            ratio = ratio.clamp_max(cap)
        if kind.endswith("masked"):
            ratio = ratio.masked_fill(ratio > cap, 0.0)
        rows.append(ratio)
    return torch.stack(rows)


def surrogate__by_sign(log_probs, proximal, sampler, judged, mask, cfg):
    omega = weights(proximal, sampler, mask, cfg.weighting, cfg.cap)
    ratio = torch.exp((log_probs - proximal) * mask)
    a = judged.unsqueeze(1)
    held = torch.where(a > 0, ratio.clamp(max=1 + cfg.clip_eps), ratio.clamp(min=1 - cfg.clip_eps))
    return omega * -(held * a)


def surrogate__max_of_losses(log_probs, proximal, sampler, judged, mask, cfg):
    ratio = (log_probs - proximal).exp()
    clipped = torch.clip(ratio, 1 - cfg.clip_eps, 1 + cfg.clip_eps)
    a = judged.view(-1, 1).expand_as(ratio)
    return torch.maximum(-a * ratio, -a * clipped) * weights(
        proximal, sampler, mask, kind=cfg.weighting, cap=cfg.cap
    )


def penalised__two_sums(rewards, log_probs, ref_log_probs, beta):
    return rewards + beta * ref_log_probs.sum(1) - beta * log_probs.sum(1)


def penalised__in_numpy(rewards, log_probs, ref_log_probs, beta):
    gap = (log_probs.detach() - ref_log_probs).numpy().sum(axis=1)
    return torch.from_numpy(rewards.numpy() - beta * gap)


def moments__text_by_text(policy, sampler, batch, world, cfg):
    old = log_probs_of(policy, batch).detach()
    probs = sampler.sum(1).exp() / world.num_prompts
    worth = penalised(world.rewards.flatten(), old, batch["ref_log_probs"], cfg.beta)
    groups, shares = worth.chunk(world.num_prompts), probs.chunk(world.num_prompts)
    judged = torch.cat([group - (share @ group) / share.sum() for group, share in zip(groups, shares)])
    leaf = old.clone().requires_grad_()
    proximal = {"trainer": old, "sampler": sampler}[cfg.proximal]
    losses = surrogate(leaf, proximal, sampler, judged, batch["completion_mask"], cfg)
    losses.masked_fill(~batch["completion_mask"], 0.0).sum().backward()
    each = -(leaf.grad[..., None] * scores(policy, batch)).sum(1)
    mean = (probs[:, None] * each).sum(0)
    return mean, (probs @ (each - mean).square().sum(1)).item()


def effective_share__logsumexp(log_ratios):
    whole = log_ratios.sum(-1)
    return float((2 * whole.logsumexp(0) - (2 * whole).logsumexp(0)).exp()) / len(whole)


def effective_share__in_numpy(log_ratios):
    whole = log_ratios.numpy().sum(axis=1)
    weights = np.exp(whole - whole.mean())
    return weights.mean() ** 2 / np.mean(weights**2)


def longest_text__loop(chi_square, budget):
    if chi_square < 1e-6:
        return math.floor(math.log(budget) / chi_square)
    tokens, square = 0, 1.0
    while square * (1.0 + chi_square) <= budget * (1 + 1e-12):
        square *= 1.0 + chi_square
        tokens += 1
    return tokens
