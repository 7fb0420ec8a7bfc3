"""Right answers to D8's exercises in other idioms: the grader must pass each."""

import itertools

import numpy as np
import torch

from chapters.D_rlhf.D8_process_rewards import advantages, step_rewards
from chapters.text import chains, tasks


def prefix_values__einsum(probs, outcomes):
    values = [outcomes]
    for prob in probs[::-1]:
        values.append(torch.einsum("...v,...v->...", prob, values[-1]))
    return values[::-1]


def prefix_values__whole_chains(probs, outcomes):
    found = [outcomes]
    for length in range(len(probs) - 1, -1, -1):
        worth = outcomes
        for t in range(len(probs) - 1, length - 1, -1):
            worth = (probs[t] * worth).sum(-1)
        found.append(worth)
    return found[::-1]


def step_labels__counts(outcomes, kind):
    right = (outcomes > 0.5).sum(-1)
    return right / outcomes.shape[-1] if kind == "soft" else (right > 0).float()


def step_labels__numpy(outcomes, kind):
    array = outcomes.numpy()
    return torch.from_numpy(np.mean(array, axis=-1) if kind == "soft" else np.max(array, axis=-1))


def hard_mean__loop(values, num_tries):
    fails = torch.ones_like(values)
    for _ in range(num_tries):
        fails = fails * (1 - values)
    return 1 - fails


def hard_mean__log(values, num_tries):
    return -torch.expm1(num_tries * torch.log1p(-values))


def label_loss__library(logits, labels, mask):
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (losses * mask).sum() / mask.sum()


def label_loss__chosen(logits, labels, mask):
    kept = mask.bool()
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[kept], labels[kept])


def instalments__diff(potentials, outcomes):
    return torch.diff(potentials, dim=1, append=outcomes[:, None])


def instalments__loop(potentials, outcomes):
    found = torch.empty_like(potentials)
    num_steps = potentials.shape[1]
    for t in range(num_steps):
        after = outcomes if t == num_steps - 1 else potentials[:, t + 1]
        found[:, t] = after - potentials[:, t]
    return found


def token_reward__branches(before, after, outcome, ended, kind, cost):
    if kind == "differences":
        return outcome - before - cost if ended else after - before - cost
    return {"outcome": outcome, "sum": after}[kind] - cost


def step_rewards__where(right, written, kind):
    last = torch.arange(right.shape[1]) == right.shape[1] - 1
    paid = torch.ones_like(last) if kind == "process" else last
    return torch.where(paid & (right == written), 1.0, 0.0)


def step_rewards__loop(right, written, kind):
    found = torch.zeros(right.shape)
    for b, t in itertools.product(*map(range, right.shape)):
        if kind == "process" or t == right.shape[1] - 1:
            found[b, t] = float(right[b, t] == written[b, t])
    return found


def advantages__along(rewards):
    returns = rewards.sum(2, keepdim=True) - rewards.cumsum(2) + rewards
    return (returns - returns.mean(1, keepdim=True)) / (returns.std(1, keepdim=True) + 1e-4)


def advantages__triangle(rewards):
    length = rewards.shape[2]
    returns = rewards @ torch.ones(length, length, dtype=rewards.dtype).tril()
    centred = returns - returns.mean(dim=1, keepdim=True)
    return centred / (returns.var(dim=1, keepdim=True).sqrt() + 1e-4)


def collect__in_groups(policy, task, right, kind, generator, cfg):
    rows = torch.randint(len(right), (cfg.num_prompts,), generator=generator)
    rows = rows[:, None].expand(-1, cfg.group_size).reshape(-1)
    batch = tasks.answer(policy, task, rows, generator)
    written = batch["completion_ids"] - chains.FIRST_DIGIT
    paid = step_rewards(right[rows], written, kind).reshape(cfg.num_prompts, cfg.group_size, -1)
    batch["advantages"] = advantages(paid).reshape(len(rows), -1)
    return batch


def chain_score__loop(scores, mask, kind):
    found = []
    for row, exists in zip(scores, mask):
        steps = row[exists]
        found.append({"last": steps[-1], "product": steps.prod(), "weakest": steps.min()}[kind])
    return torch.stack(found)


def chain_score__where(scores, mask, kind):
    if kind == "last":
        return scores[torch.arange(len(scores)), mask.sum(1) - 1]
    one = torch.where(mask, scores, torch.ones_like(scores))
    return torch.prod(one, 1) if kind == "product" else one.min(1).values


def discounted_instalments__diff(potentials, outcomes, gamma):
    found = outcomes[:, None] - potentials
    found[:, :-1] = gamma * potentials[:, 1:] - potentials[:, :-1]
    return found


def discounted_instalments__loop(potentials, outcomes, gamma):
    columns = [gamma * b - a for a, b in zip(potentials.unbind(1), potentials.unbind(1)[1:])]
    return torch.stack([*columns, outcomes - potentials[:, -1]], dim=1)
