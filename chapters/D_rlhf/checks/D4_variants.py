"""Right answers to D4's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from chapters.D_rlhf.D4_direct_preference_optimization import (
    completion_log_probs,
    dpo_loss,
    ipo_loss,
    log_ratios,
    sequence_log_probs,
)
from chapters.text.generation import token_log_probs


def preference__softmax(chosen, rejected):
    return torch.softmax(torch.stack([chosen, rejected]), dim=0)[0]


def preference__logistic(chosen, rejected):
    return 1 / (1 + torch.exp(rejected - chosen))


def preference__ratio(chosen, rejected):
    top = torch.maximum(chosen, rejected)
    one, other = (chosen - top).exp(), (rejected - top).exp()
    return one / (one + other)


def implicit_rewards__mul(log_ratios, beta):
    return torch.mul(log_ratios, beta)


def implicit_rewards__by_side(log_ratios, beta):
    return torch.stack([beta * log_ratios[:, 0], beta * log_ratios[:, 1]], dim=1)


def implicit_rewards__divide(log_ratios, beta):
    return log_ratios / (1 / beta)


def dpo_loss__unbound(log_ratios, labels, beta):
    chosen, rejected = log_ratios.unbind(dim=1)
    logits = beta * (chosen - rejected)
    return -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits))


def dpo_loss__cross_entropy(log_ratios, labels, beta):
    logits = beta * (log_ratios[:, 0] - log_ratios[:, 1])
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def dpo_loss__softplus(log_ratios, labels, beta):
    margin = beta * (log_ratios[..., 0] - log_ratios[..., 1])
    return labels * F.softplus(-margin) + (1 - labels) * F.softplus(margin)


def gradient_weight__sigmoid(log_ratios, labels, beta):
    return labels - torch.sigmoid(beta * (log_ratios[:, 0] - log_ratios[:, 1]))


def gradient_weight__other_side(log_ratios, labels, beta):
    wrong = torch.sigmoid(beta * (log_ratios[:, 1] - log_ratios[:, 0]))
    return labels * wrong - (1 - labels) * (1 - wrong)


def gradient_weight__softmax(log_ratios, labels, beta):
    return labels - (beta * log_ratios).softmax(dim=1)[:, 0]


def ipo_loss__unbound(log_ratios, labels, beta):
    chosen, rejected = log_ratios.unbind(1)
    gap = chosen - rejected
    return labels * (gap - 0.5 / beta).square() + (1 - labels) * (gap + 0.5 / beta).square()


def ipo_loss__expanded(log_ratios, labels, beta):
    gap, target = log_ratios[:, 0] - log_ratios[:, 1], 1 / (2 * beta)
    return gap**2 + target**2 - 2 * gap * target * (2 * labels - 1)


def ipo_loss__both_sides(log_ratios, labels, beta):
    gap = log_ratios[:, 0] - log_ratios[:, 1]
    errors = torch.stack([gap - 1 / (2 * beta), gap + 1 / (2 * beta)]) ** 2
    return (torch.stack([labels, 1 - labels]) * errors).sum(0)


def sequence_log_probs__where(token_log_probs, mask):
    return torch.where(mask, token_log_probs, torch.zeros_like(token_log_probs)).sum(-1)


def sequence_log_probs__masked_fill(token_log_probs, mask):
    return token_log_probs.masked_fill(~mask, 0.0).sum(dim=1)


def sequence_log_probs__einsum(token_log_probs, mask):
    return torch.einsum("bt,bt->b", token_log_probs, mask.to(token_log_probs.dtype))


def completion_log_probs__side_by_side(policy, pairs):
    sides = []
    for side in (0, 1):
        ids, mask = pairs["completion_ids"][:, side], pairs["completion_mask"][:, side]
        sides.append(token_log_probs(policy, pairs["prompt_ids"], pairs["prompt_mask"], ids, mask))
    return torch.stack(sides, dim=1)


def completion_log_probs__written_out(policy, pairs):
    num, _, length = pairs["completion_ids"].shape
    exists = pairs["completion_mask"].view(2 * num, length)
    prompts, prompt_mask = (
        pairs[name][:, None].expand(-1, 2, -1).reshape(2 * num, -1) for name in ("prompt_ids", "prompt_mask")
    )
    written = pairs["completion_ids"].view(2 * num, length)
    mask = torch.cat([prompt_mask, exists.to(prompt_mask.dtype)], dim=1)
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    out = policy(
        input_ids=torch.cat([prompts, written], dim=1), attention_mask=mask, position_ids=places
    ).logits
    before = out[:, prompts.shape[1] - 1 : -1].transpose(1, 2)
    losses = F.cross_entropy(before, written, reduction="none")
    return torch.where(exists, -losses, torch.zeros_like(losses)).view(num, 2, length)


def add_reference__copied(pairs, reference):
    found = dict(pairs)
    with torch.no_grad():
        found["ref_log_probs"] = completion_log_probs(reference, pairs)
    return found


def add_reference__detached(pairs, reference):
    return pairs | {"ref_log_probs": completion_log_probs(reference, pairs).detach()}


def log_ratios__where(policy, pairs):
    differences = completion_log_probs(policy, pairs) - pairs["ref_log_probs"]
    mask = pairs["completion_mask"]
    return torch.where(mask, differences, torch.zeros_like(differences)).sum(dim=-1)


def log_ratios__by_side(policy, pairs):
    ours, theirs = completion_log_probs(policy, pairs), pairs["ref_log_probs"]
    chosen, rejected = (
        sequence_log_probs(ours[:, side], pairs["completion_mask"][:, side])
        - sequence_log_probs(theirs[:, side], pairs["completion_mask"][:, side])
        for side in range(2)
    )
    return torch.stack([chosen, rejected], dim=1)


def log_ratios__einsum(policy, pairs):
    exists = pairs["completion_mask"].to(pairs["ref_log_probs"].dtype)
    ours = torch.einsum("bst,bst->bs", completion_log_probs(policy, pairs), exists)
    return ours - torch.einsum("bst,bst->bs", pairs["ref_log_probs"], exists)


def pair_loss__by_name(policy, pairs, cfg):
    found = log_ratios(policy, pairs)
    labels = pairs["labels"]
    losses = {"dpo": dpo_loss, "ipo": ipo_loss}[cfg.loss](found, labels, cfg.beta)
    return losses.sum() / len(labels), found


def pair_loss__written_out(policy, pairs, cfg):
    h, p = log_ratios(policy, pairs), pairs["labels"]
    gap = h[:, 0] - h[:, 1]
    if cfg.loss == "dpo":
        return F.binary_cross_entropy_with_logits(cfg.beta * gap, p), h
    target = 0.5 / cfg.beta
    return torch.mean(p * (gap - target) ** 2 + (1 - p) * (gap + target) ** 2), h


def reward_error__mean_of_squares(world, policy, beta):
    with torch.no_grad():
        log_probs = world.log_probs(policy)
        probs = torch.exp(log_probs)
        errors = world.rewards - beta * (log_probs - world.reference_log_probs())
        centres = torch.einsum("nm,nm->n", probs, errors)
        variances = torch.einsum("nm,nm->n", probs, (errors - centres[:, None]).square())
    return math.sqrt(variances.mean())


def reward_error__in_numpy(world, policy, beta):
    ours = world.log_probs(policy).detach().numpy()
    errors = world.rewards.numpy() - beta * (ours - world.reference_log_probs().numpy())
    variances = []
    for row, log_probs in zip(errors, ours):
        probs = np.exp(log_probs)
        mean = np.average(row, weights=probs)
        variances.append(np.average((row - mean) ** 2, weights=probs))
    return float(np.sqrt(np.mean(variances)))


def reward_error__prompt_by_prompt(world, policy, beta):
    total = 0.0
    ours, start = world.log_probs(policy).detach(), world.reference_log_probs()
    for n in range(world.num_prompts):
        probs = ours[n].exp()
        error = world.rewards[n] - beta * ours[n] + beta * start[n]
        total += (probs @ (error - probs @ error) ** 2).item()
    return (total / world.num_prompts) ** 0.5


def ranking_loss__choices(log_ratios, beta):
    rewards = beta * log_ratios
    loss = torch.zeros_like(rewards[:, 0])
    for k in range(rewards.shape[1]):
        loss = loss - rewards[:, k:].log_softmax(dim=1)[:, 0]
    return loss


def ranking_loss__masked(log_ratios, beta):
    size = log_ratios.shape[1]
    gone = torch.ones(size, size, dtype=torch.bool).tril(-1)  # what was chosen before
    left = (beta * log_ratios)[:, None].expand(-1, size, -1).masked_fill(gone, -torch.inf)
    return (left.logsumexp(dim=2) - beta * log_ratios).sum(dim=1)


def ranking_loss__from_the_end(log_ratios, beta):
    rewards = (log_ratios * beta).unbind(dim=1)
    rest, total = rewards[-1], 0.0 * rewards[-1]
    for reward in reversed(rewards[:-1]):
        rest = torch.logaddexp(reward, rest)
        total = total + rest - reward
    return total
