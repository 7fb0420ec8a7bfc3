"""Right answers to D15's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch

from chapters.D_rlhf.D15_kl_penalty_placement import (
    exact_advantages,
    kl_estimate,
    penalised_rewards,
    token_losses,
)
from chapters.text import tasks
from chapters.text.generation import token_log_probs
from chapters.text.grpo import advantages, importance_ratio
from chapters.text.tasks import log_probs_of


def kl_estimate__branches(log_probs, ref_log_probs, kind):
    log_ratio = log_probs - ref_log_probs
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return log_ratio.square() / 2
    return torch.exp(-log_ratio) - 1 + log_ratio


def kl_estimate__expm1(log_probs, ref_log_probs, kind):
    u = torch.sub(ref_log_probs, log_probs)
    match kind:
        case "k1":
            return torch.neg(u)
        case "k2":
            return u * u * 0.5
        case "k3":
            return torch.expm1(u) - u


def kl_estimate__probability_ratio(log_probs, ref_log_probs, kind):
    ratio = (ref_log_probs - log_probs).exp()
    estimates = {
        "k1": lambda: -ratio.log(),
        "k2": lambda: 0.5 * ratio.log() ** 2,
        "k3": lambda: ratio - 1.0 - ratio.log(),
    }
    return estimates[kind]()


def penalised_rewards__where(rewards, old, ref, mask, beta):
    zero = torch.zeros_like(old)
    return rewards - beta * torch.where(mask, old - ref, zero).sum(-1)


def penalised_rewards__two_sums(rewards, old, ref, mask, beta):
    ours = old.masked_fill(~mask, 0).sum(dim=1)
    theirs = ref.masked_fill(~mask, 0).sum(dim=1)
    return rewards + beta * (theirs - ours)


def penalised_rewards__loop(rewards, old, ref, mask, beta):
    found = []
    for reward, ours, theirs, exists in zip(rewards, old, ref, mask):
        found.append(reward - beta * (ours[exists] - theirs[exists]).sum())
    return torch.stack(found)


def token_losses__masked_at_once(log_probs, batch, cfg):
    mask = batch["completion_mask"]
    log_ratio = (log_probs - batch["old_log_probs"]).masked_fill(~mask, 0.0)
    losses = -log_ratio.exp() * batch["advantages"].unsqueeze(1)
    if cfg.kl_in == "reward":
        return losses * mask
    return (losses + cfg.beta * kl_estimate(log_probs, batch["ref_log_probs"], cfg.kl_kind)) * mask


def token_losses__weight_of_0(log_probs, batch, cfg):
    weight = {"loss": cfg.beta, "reward": 0.0}[cfg.kl_in]
    w = torch.exp(log_probs - batch["old_log_probs"])
    judged = batch["advantages"].view(-1, 1).expand_as(w)
    return weight * kl_estimate(log_probs, batch["ref_log_probs"], cfg.kl_kind) - w * judged


def token_losses__row_by_row(log_probs, batch, cfg):
    ratio = importance_ratio(log_probs, batch["old_log_probs"], batch["completion_mask"], "token")
    rows = []
    for row in range(len(ratio)):
        loss = -batch["advantages"][row] * ratio[row]
        if cfg.kl_in != "reward":
            u = batch["ref_log_probs"][row] - log_probs[row]
            k = {"k1": -u, "k2": u**2 / 2, "k3": torch.exp(u) - u - 1}[cfg.kl_kind]
            loss = loss + cfg.beta * k
        rows.append(loss)
    return torch.stack(rows)


def penalised_rewards__in_numpy(rewards, old, ref, mask, beta):
    ratios = np.where(mask.numpy(), old.detach().numpy() - ref.numpy(), 0.0)
    return rewards - beta * torch.from_numpy(ratios.sum(axis=1))


def exact_estimates__dict(world, policy):
    batch = tasks.every_completion(world)
    mask = batch["completion_mask"]
    ours, theirs = log_probs_of(policy, batch), batch["ref_log_probs"]
    text, ref_text = ours.sum(-1), theirs.sum(-1)
    with torch.no_grad():
        weights = torch.exp(text) / len(world.prompt_ids)
        log_ratio = text - ref_text
    found = {
        "exact": world.kl(world.log_probs(policy)),
        "k1_reward": weights @ (log_ratio * text),
    }
    for kind in ("k1", "k2", "k3"):
        found[kind + "_completions"] = weights @ kl_estimate(text, ref_text, kind)
        per_token = torch.where(mask, kl_estimate(ours, theirs, kind), torch.zeros_like(ours))
        found[kind + "_tokens"] = weights @ per_token.sum(-1)
    return found


def exact_advantages__einsum(rewards, probs, divide):
    centred = rewards - torch.einsum("nm,nm->n", probs, rewards)[:, None]
    variance = torch.einsum("nm,nm->n", probs, centred.square())
    if divide:
        equal = rewards.amax(dim=1) == rewards.amin(dim=1)
        centred = centred / variance.masked_fill(equal, 1.0).sqrt()[:, None]
        centred = centred.masked_fill(equal[:, None], 0.0)
    return centred


def exact_advantages__row_by_row(rewards, probs, divide):
    rows = []
    for row, prob in zip(rewards, probs):
        centred = row - prob @ row
        if divide and bool((row == row[0]).all()):
            centred = torch.zeros_like(row)
        elif divide:
            centred = centred / torch.sqrt(prob @ centred**2)
        rows.append(centred)
    return torch.stack(rows)


def exact_advantages__in_numpy(rewards, probs, divide):
    table, weights = rewards.detach().numpy(), probs.detach().numpy()
    found = np.zeros_like(table)
    for n in range(len(table)):
        mean = np.average(table[n], weights=weights[n])
        spread = np.sqrt(np.average((table[n] - mean) ** 2, weights=weights[n]))
        if not divide:
            found[n] = table[n] - mean
        elif np.ptp(table[n]) > 0:
            found[n] = (table[n] - mean) / spread
    return torch.from_numpy(found)


def expected_loss__branches(policy, batch, rewards, cfg):
    mask = batch["completion_mask"]
    log_probs = log_probs_of(policy, batch)
    old = log_probs.clone().detach()
    probs = old.sum(1).exp().reshape(rewards.shape)
    if cfg.kl_in == "reward":
        penalty = ((old - batch["ref_log_probs"]) * mask).sum(1)
        rewards = rewards - cfg.beta * penalty.reshape(rewards.shape)
    judged = exact_advantages(rewards, probs, cfg.divide).reshape(-1)
    known = {**batch, "old_log_probs": old, "advantages": judged}
    losses = token_losses(log_probs, known, cfg).masked_fill(~mask, 0.0).sum(1)
    lengths = mask.double().sum(1)
    weights = probs.reshape(-1) / rewards.shape[0]
    if cfg.average == "completions":
        return weights @ (losses / lengths)
    if cfg.average == "tokens":
        return (weights @ losses) / (weights @ lengths)
    return (weights @ losses) / mask.shape[1]


def collect__written_out(policy, reference, task, generator, cfg):
    rows = torch.randint(len(task.prompt_ids), size=[cfg.num_prompts], generator=generator)
    repeated = rows[:, None].expand(-1, cfg.group_size).reshape(-1)
    batch = dict(tasks.answer(policy, task, repeated, generator))
    text = [batch[name] for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")]
    with torch.no_grad():
        batch["old_log_probs"] = token_log_probs(policy, *text)
        batch["ref_log_probs"] = token_log_probs(reference, *text)
    rewards = batch["rewards"].clone()
    if cfg.kl_in == "reward":
        names = ("old_log_probs", "ref_log_probs", "completion_mask")
        rewards = penalised_rewards(rewards, *(batch[name] for name in names), cfg.beta)
    groups = rewards.reshape(cfg.num_prompts, cfg.group_size)
    judged = advantages(groups, divide=cfg.divide)
    batch["advantages"] = judged.reshape(-1).to(batch["old_log_probs"].dtype)
    return batch


def best_factor__means(policy, reference):
    weight = reference / policy
    u, change = torch.log(weight), weight - 1
    return (policy @ (u * change) / (policy @ change.square())).item()


def best_factor__loop(policy, reference):
    top, bottom = 0.0, 0.0
    for p, q in zip(policy.tolist(), reference.tolist()):
        change = q / p - 1
        top += p * np.log(q / p) * change
        bottom += p * change**2
    return top / bottom


def best_factor__in_numpy(policy, reference):
    p, q = np.asarray(policy, dtype=float), np.asarray(reference, dtype=float)
    u = np.log(q) - np.log(p)
    return np.average(u * np.expm1(u), weights=p) / np.average(np.expm1(u) ** 2, weights=p)


def next_token_kl__kl_div(logits, ref_logits, completion_mask):
    ours, theirs = logits.log_softmax(dim=-1), ref_logits.log_softmax(dim=-1)
    parts = torch.nn.functional.kl_div(theirs, ours, reduction="none", log_target=True)
    return torch.where(completion_mask, parts.sum(-1), torch.zeros_like(parts[..., 0])).sum(-1)


def next_token_kl__softmax(logits, ref_logits, completion_mask):
    probs, ref_probs = torch.softmax(logits, -1), torch.softmax(ref_logits, -1)
    divergence = torch.einsum("btv,btv->bt", probs, torch.log(probs / ref_probs))
    return torch.einsum("bt,bt->b", divergence, completion_mask.to(divergence.dtype))


def next_token_kl__selected(logits, ref_logits, completion_mask):
    ours = logits - logits.logsumexp(-1, keepdim=True)
    theirs = ref_logits - ref_logits.logsumexp(-1, keepdim=True)
    found = []
    for b, exists in enumerate(completion_mask):
        mine, other = ours[b, exists], theirs[b, exists]
        found.append((mine.exp() * (mine - other)).sum())
    return torch.stack(found)
