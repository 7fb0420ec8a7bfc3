"""Right answers to D10's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch

UNNAMED = {}


def patches__unfold(images, size):
    squares = images.unfold(1, size, size).unfold(2, size, size)  # [B, rows, columns, C, size, size]
    return squares.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(1, 2)


def attend__einsum(query, keys):
    return torch.softmax(torch.einsum("bd,bpd->bp", query, keys) / math.sqrt(query.size(-1)), -1)


def attend__matmul(query, keys):
    scores = torch.bmm(keys, query.unsqueeze(2)).squeeze(2) * keys.shape[2] ** -0.5
    parts = (scores - scores.max(dim=1, keepdim=True).values).exp()
    return parts / parts.sum(1, keepdim=True)


def touch__two_steps(attention, places):
    brought = torch.einsum("bp,pd->bd", attention, places)
    scores = torch.einsum("bd,pd->bp", brought, places) / math.sqrt(places.shape[1])
    return scores - scores.logsumexp(dim=1, keepdim=True)


def imitation_loss__where(log_probs, asked):
    return -torch.where(asked, log_probs, torch.zeros_like(log_probs)).sum() / len(log_probs)


def imitation_loss__indexed(log_probs, asked):
    return -log_probs[asked].sum() / log_probs.shape[0]


def advantages__loop(rewards, alive):
    found = torch.zeros_like(rewards)
    for t in range(rewards.shape[1]):
        running = alive[:, t]
        togo = (rewards * alive)[:, t:].sum(1)
        for i in range(len(rewards)):
            others = running.clone()
            others[i] = False
            if running[i] and others.any():
                found[i, t] = togo[i] - togo[others].mean()
    return found


def advantages__in_numpy(rewards, alive):
    here, flags = rewards.numpy(), alive.numpy().astype(float)
    togo = np.cumsum((here * flags)[:, ::-1], axis=1)[:, ::-1] * flags
    count = flags.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (togo - togo.sum(0) / count) * count / (count - 1)
    return torch.from_numpy(np.where((flags > 0) & (count > 1), found, 0.0)).to(rewards.dtype)


def policy_loss__indexed(log_probs, rewards, alive, asked):
    judged = advantages__loop(rewards, alive)
    return -(judged[asked] * log_probs[asked]).sum() / len(log_probs)


def retrieve__sorted(query, keys, values, num_read):
    scores = torch.einsum("bd,bmd->bm", query, keys) / math.sqrt(query.shape[1])
    order = scores.argsort(dim=1, descending=True)[:, :num_read]
    weights = scores.gather(1, order).softmax(1)
    rows = torch.arange(len(query))[:, None]
    return torch.einsum("bk,bkd->bd", weights, values[rows, order])


def retrieve__masked(query, keys, values, num_read):
    scores = (query[:, None] * keys).sum(2) / query.shape[1] ** 0.5
    if num_read < scores.shape[1]:
        least = scores.topk(num_read, dim=1).values[:, -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    return (scores.softmax(1).unsqueeze(1) @ values).squeeze(1)


def share_kept__softmax(ahead, num_others):
    return torch.tensor([ahead] + [0.0] * num_others, dtype=torch.float64).softmax(0)[0].item()


def share_kept__multiplied(ahead, num_others):
    return math.exp(ahead) / (math.exp(ahead) + num_others)


def imitated__product(accuracy):
    return 1 - 2 * accuracy * (1 - accuracy)
