"""Right answers to D13's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch

from chapters.D_rlhf.D13_distillation import next_token_kl, on_policy_worth, weighted_loss
from chapters.text import tasks


def best_of_n__comparisons(ref_log_probs, rewards, n):
    probs = ref_log_probs.exp()
    at_most = (probs[:, None] * (rewards[:, None] <= rewards[:, :, None])).sum(-1)
    below = (probs[:, None] * (rewards[:, None] < rewards[:, :, None])).sum(-1)
    return torch.log(probs * (at_most**n - below**n) / (at_most - below))


def best_of_n__in_numpy(ref_log_probs, rewards, n):
    found = []
    for log_probs, worth in zip(ref_log_probs.numpy(), rewards.numpy()):
        probs, chosen = np.exp(log_probs), np.zeros(len(worth))
        for value in set(worth.tolist()):
            tied = worth == value
            upper, lower = probs[worth <= value].sum(), probs[worth < value].sum()
            chosen[tied] = probs[tied] / probs[tied].sum() * (upper**n - lower**n)
        found.append(np.log(chosen))
    return torch.from_numpy(np.stack(found))


def on_policy_worth__backwards(log_probs, teacher_log_probs, mask):
    with torch.no_grad():
        found = torch.zeros_like(log_probs)
        running = torch.zeros_like(log_probs[:, 0])
        for t in range(log_probs.shape[1] - 1, -1, -1):
            running = running + torch.where(mask[:, t], teacher_log_probs[:, t] - log_probs[:, t], 0.0)
            found[:, t] = running
    return found


def on_policy_worth__total_less_past(log_probs, teacher_log_probs, mask):
    verdicts = (teacher_log_probs.detach() - log_probs.detach()).masked_fill(~mask, 0.0)
    return verdicts.sum(1, keepdim=True) - verdicts.cumsum(1) + verdicts


def on_policy_worth__triangle(log_probs, teacher_log_probs, mask):
    length = mask.shape[1]
    later = torch.ones(length, length, dtype=log_probs.dtype).tril()
    return ((teacher_log_probs - log_probs).detach() * mask) @ later


def keep_best__scatter(rewards):
    kept = torch.zeros_like(rewards, dtype=torch.bool)
    return kept.scatter(1, rewards.max(dim=1, keepdim=True).indices, True)


def keep_best__last_of_equals(rewards):
    kept = torch.zeros(rewards.shape, dtype=torch.bool)
    for n, group in enumerate(rewards.tolist()):
        kept[n, max(range(len(group)), key=lambda i: (group[i], i))] = True
    return kept


def weighted_loss__einsum(log_probs, worth, mask):
    total = torch.einsum("bt,bt,bt->", worth, log_probs, mask.to(worth.dtype))
    return -total / max(len(mask), 1)


def weighted_loss__where(log_probs, worth, mask):
    gains = torch.where(mask, worth * log_probs, torch.zeros_like(log_probs))
    return -gains.sum(-1).sum() / max(mask.shape[0], 1)


def next_token_kl__kl_div(log_probs, teacher_log_probs):
    parts = torch.nn.functional.kl_div(teacher_log_probs, log_probs, reduction="none", log_target=True)
    return parts.sum(-1)


def next_token_kl__two_sums(log_probs, teacher_log_probs):
    probs = log_probs.exp()
    return torch.einsum("btv,btv->bt", probs, log_probs) - torch.einsum(
        "btv,btv->bt", probs, teacher_log_probs
    )


def loss_of__branches(policy, batch):
    mask = batch["completion_mask"]
    if "worth" in batch:
        return weighted_loss(tasks.log_probs_of(policy, batch), batch["worth"], mask)
    divergences = next_token_kl(tasks.next_log_probs_of(policy, batch), batch["teacher"])
    return divergences.masked_fill(~mask, 0.0).sum(1).mean()


def expected_gradient__by_hand(world, policy, teacher):
    batch = tasks.every_completion(world)
    mask, ours = batch["completion_mask"], tasks.log_probs_of(policy, batch)
    with torch.no_grad():
        worth = on_policy_worth(ours, tasks.log_probs_of(teacher, batch), mask)
        probs = ours.sum(1).exp() / world.num_prompts
    (-(probs[:, None] * worth * ours).sum()).backward()
    found, policy.table.grad = policy.table.grad, None
    return found


def passing__softmax(ref_log_probs, rewards, threshold):
    kept = torch.where(rewards >= threshold, ref_log_probs, -torch.inf)
    share = torch.where(rewards >= threshold, ref_log_probs.exp(), 0.0).sum(dim=1)
    return kept.log_softmax(dim=-1), -torch.log(share)


def passing__row_by_row(ref_log_probs, rewards, threshold):
    rows, kls = [], []
    for log_probs, worth in zip(ref_log_probs, rewards):
        passed = worth >= threshold
        share = log_probs[passed].exp().sum()
        row = torch.full_like(log_probs, -torch.inf)
        row[passed] = log_probs[passed] - share.log()
        rows.append(row)
        kls.append(-share.log())
    return torch.stack(rows), torch.stack(kls)


def centred__matrix(worth, mask):
    num = len(worth)
    others = torch.ones(num, num, dtype=worth.dtype) - torch.eye(num, dtype=worth.dtype)
    counts = (others @ mask.to(worth.dtype)).clamp(min=1)
    means = others @ worth.masked_fill(~mask, 0.0) / counts
    return (worth - means).masked_fill(~mask, 0.0)


def centred__loop(worth, mask):
    found = torch.zeros_like(worth)
    for b in range(len(worth)):
        rest = torch.arange(len(worth)) != b
        for t in range(worth.shape[1]):
            if mask[b, t]:
                others = worth[rest, t][mask[rest, t]]
                found[b, t] = worth[b, t] - (others.mean() if len(others) else 0.0)
    return found
