"""Right answers to D9's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch

from chapters.D_rlhf.checks.D9_exercises import IGNORED

UNNAMED = {
    "answer_owned": "it returns the right token; only the text that it changes shows the mistake, in words",
    "own_a_token_late": "the same: its answer is right, its mark is not",
    "asked_after_each": "the same: another world is asked, which a single answer does not show",
    "position_stands": "the small world's policy reads no positions, so its texts are the same",
}


def advantages__loop(rewards, problems):
    found = []
    for i in range(len(rewards)):
        others = [j for j in range(len(rewards)) if j != i and problems[j] == problems[i]]
        if not others:
            raise ValueError("alone")
        found.append(rewards[i] - rewards[others].mean())
    return torch.stack(found)


def advantages__group_by_group(rewards, problems):
    found = torch.zeros_like(rewards)
    for problem in problems.unique():
        rows = torch.nonzero(problems == problem)[:, 0]
        if len(rows) < 2:
            raise ValueError("a group of one")
        group = rewards[rows]
        found[rows] = (group - group.mean()) * len(rows) / (len(rows) - 1)
    return found


def advantages__in_numpy(rewards, problems):
    values, groups = rewards.numpy(), problems.numpy()
    _, where, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise ValueError("a group of one")
    totals = np.bincount(where, weights=values)
    return torch.from_numpy(values - (totals[where] - values) / (counts[where] - 1)).to(rewards.dtype)


def turns_loss__where(log_probs, batch):
    own = torch.where(batch["agent_mask"], log_probs, torch.zeros_like(log_probs)).sum(-1)
    num, length = log_probs.shape
    return -(batch["advantages"] * batch["weights"]) @ own / (num * length)


def turns_loss__token_by_token(log_probs, batch):
    worth = (batch["weights"] * batch["advantages"]).unsqueeze(1).expand_as(log_probs)
    losses = -worth * log_probs * batch["agent_mask"].to(log_probs.dtype)
    return losses.mean()


def turns_loss__loop(log_probs, batch):
    total = 0.0
    for b in range(len(log_probs)):
        own = log_probs[b][batch["agent_mask"][b]]
        total = total - batch["weights"][b] * batch["advantages"][b] * own.sum()
    return total / log_probs.numel()


def importance_weights__no_grad(log_probs, sampler_log_probs, agent_mask, cap):
    with torch.no_grad():
        new = (log_probs * agent_mask).sum(1)
        old = (sampler_log_probs * agent_mask).sum(1)
        return torch.exp(new - old).clip(max=cap)


def importance_weights__product(log_probs, sampler_log_probs, agent_mask, cap):
    ratios = (log_probs.detach() - sampler_log_probs).exp()
    ratios = torch.where(agent_mask, ratios, torch.ones_like(ratios))
    return torch.minimum(ratios.prod(dim=1), torch.tensor(cap, dtype=ratios.dtype))


def write__branches(text, sampled, dialogue):
    if text.waiting:
        token = text.waiting[0]
        text.waiting = text.waiting[1:]
        text.written.append(token)
        text.own.append(False)
        return token
    text.written.append(sampled)
    text.own.append(True)
    text.waiting, text.over = dialogue.reply(text.row, text.secret, text.written)
    return sampled


def write__new_lists(text, sampled, dialogue):
    own = len(text.waiting) == 0
    token = sampled if own else text.waiting[0]
    text.written = [*text.written, token]
    text.own = [*text.own, own]
    if not own:
        text.waiting = text.waiting[1:]
    else:
        text.waiting, text.over = dialogue.reply(text.row, text.secret, text.written)
    return token


def labels__comprehension(messages):
    return torch.tensor(
        [token if role == "assistant" else IGNORED for role, ids in messages for token in ids]
    )


def labels__masked(messages):
    ids = torch.tensor([token for _, ids in messages for token in ids])
    own = torch.tensor([role == "assistant" for role, ids in messages for _ in ids])
    return ids.masked_fill(~own, -100)


def effective_texts__normalised(weights):
    shares = weights / weights.sum()
    return 1.0 / (shares * shares).sum().item()


def effective_texts__in_numpy(weights):
    values = weights.numpy()
    return float(values.sum() ** 2 / np.dot(values, values))
