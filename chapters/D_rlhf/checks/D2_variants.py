"""Right answers to D2's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Categorical

from chapters.D_rlhf.D2_rlhf_llm_with_pytorch import (
    TEXT,
    gae,
    log_probs_and_values,
    masked_mean,
    positions,
    sample,
    token_log_probs,
    token_rewards,
    whiten,
)


def positions__one_for_padding(mask):
    return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 1)


def positions__relu(mask):
    return F.relu(torch.cumsum(mask, dim=1) - 1)


def positions__loop(mask):
    found = torch.zeros_like(mask)
    for b, row in enumerate(mask.tolist()):
        seen = 0
        for column, exists in enumerate(row):
            found[b, column] = seen
            seen += exists
    return found


def sample__with_cache(policy, prompt_ids, prompt_mask, num_tokens, eos_id, pad_id, generator):
    mask, written, kept = prompt_mask, [], []
    ended = torch.zeros(len(prompt_ids), dtype=torch.bool)
    fed, cache = prompt_ids, None
    with torch.no_grad():
        for _ in range(num_tokens):
            places = positions(mask)[:, -fed.shape[1] :]
            out = policy(
                input_ids=fed, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
            )
            cache = out.past_key_values
            probs = F.softmax(out.logits[:, -1, :], dim=-1)
            token = torch.multinomial(probs, num_samples=1, generator=generator).squeeze(1)
            token = torch.where(ended, torch.full_like(token, pad_id), token)
            written.append(token)
            kept.append(~ended)
            mask = torch.cat([mask, (~ended).long().unsqueeze(1)], dim=1)
            ended = ended | (token == eos_id)
            fed = token.unsqueeze(1)
    return torch.stack(written, dim=1), torch.stack(kept, dim=1)


@torch.no_grad()
def sample__filled_in(policy, prompt_ids, prompt_mask, num_tokens, eos_id, pad_id, generator):
    num_texts, width = prompt_ids.shape
    ids = F.pad(prompt_ids, (0, num_tokens), value=pad_id)
    mask = F.pad(prompt_mask, (0, num_tokens), value=0)
    alive = torch.ones(num_texts, dtype=torch.bool)
    for t in range(width, width + num_tokens):
        if not alive.any():
            break
        seen = mask[:, :t]
        out = policy(input_ids=ids[:, :t], attention_mask=seen, position_ids=positions(seen))
        probs = out.logits[:, -1].softmax(dim=-1)
        drawn = torch.multinomial(probs, 1, generator=generator).flatten()
        ids[alive, t] = drawn[alive]
        mask[alive, t] = 1
        alive &= drawn != eos_id
    return ids[:, width:], mask[:, width:] == 1


@torch.no_grad()
def sample__gumbel(policy, prompt_ids, prompt_mask, num_tokens, eos_id, pad_id, generator):
    ids, mask = prompt_ids, prompt_mask.bool()
    for t in range(num_tokens):
        logits = policy(input_ids=ids, attention_mask=mask.long(), position_ids=positions(mask.long())).logits
        noise = -torch.log(-torch.log(torch.rand(logits[:, -1].shape, generator=generator)))
        token = (logits[:, -1] + noise).argmax(dim=-1)
        alive = mask[:, -1] & (ids[:, -1] != eos_id) if t else torch.ones(len(ids), dtype=torch.bool)
        token = torch.where(alive, token, pad_id)
        ids = torch.cat([ids, token[:, None]], dim=1)
        mask = torch.cat([mask, alive[:, None]], dim=1)
    return ids[:, -num_tokens:], mask[:, -num_tokens:]


def token_log_probs__cross_entropy(policy, prompt_ids, prompt_mask, completion_ids, completion_mask):
    ids = torch.cat((prompt_ids, completion_ids), 1)
    mask = torch.cat((prompt_mask, completion_mask.to(prompt_mask.dtype)), 1)
    logits = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits
    logits = logits[:, :-1][:, -completion_ids.shape[1] :]
    losses = F.cross_entropy(logits.transpose(1, 2), completion_ids, reduction="none")
    return torch.where(completion_mask, -losses, torch.zeros_like(losses))


def token_log_probs__logsumexp(policy, prompt_ids, prompt_mask, completion_ids, completion_mask):
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    mask = torch.cat([prompt_mask, completion_mask], dim=1)
    logits = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits[:, :-1]
    next_ids = ids[:, 1:]
    chosen = torch.gather(logits, 2, next_ids.unsqueeze(2)).squeeze(2) - torch.logsumexp(logits, dim=2)
    return chosen[:, prompt_ids.shape[1] - 1 :] * completion_mask


def token_log_probs__distribution(policy, prompt_ids, prompt_mask, completion_ids, completion_mask):
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    mask = torch.cat([prompt_mask, completion_mask.long()], dim=1)
    out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
    start, length = prompt_ids.shape[1] - 1, completion_ids.shape[1]
    columns = []
    for t in range(length):
        columns.append(Categorical(logits=out.logits[:, start + t]).log_prob(completion_ids[:, t]))
    return torch.stack(columns, dim=1) * completion_mask.float()


@torch.no_grad()
def token_rewards__loop(scores, log_ratio, completion_mask, beta):
    rewards = torch.zeros_like(log_ratio)
    for b, length in enumerate(completion_mask.sum(1).tolist()):
        rewards[b, :length] = -beta * log_ratio[b, :length]
        rewards[b, length - 1] += scores[b]
    return rewards


def token_rewards__where(scores, log_ratio, completion_mask, beta):
    columns = torch.arange(log_ratio.shape[1])
    is_last = columns == completion_mask.sum(dim=1, keepdim=True) - 1
    penalty = torch.where(completion_mask, beta * log_ratio, 0.0)
    return torch.where(is_last, scores.unsqueeze(1), 0.0) - penalty


def token_rewards__scatter(scores, log_ratio, completion_mask, beta):
    kl = log_ratio.masked_fill(~completion_mask, 0.0)
    last = completion_mask.long().cumsum(1).argmax(1, keepdim=True)
    return torch.zeros_like(log_ratio).scatter(1, last, scores[:, None]) - beta * kl


def token_rewards__next_column(scores, log_ratio, completion_mask, beta):
    exists = completion_mask.float()
    is_last = exists - F.pad(exists[:, 1:], (0, 1))
    return is_last * scores[:, None] - beta * exists * log_ratio


def gae__deltas_first(rewards, values, completion_mask, gae_lambda):
    mask = completion_mask.float()
    next_values = F.pad(values[:, 1:] * mask[:, 1:], (0, 1))
    deltas = (rewards + next_values - values) * mask
    columns, later = [], torch.zeros_like(deltas[:, 0])
    for t in range(deltas.shape[1] - 1, -1, -1):
        later = deltas[:, t] + gae_lambda * later
        columns.insert(0, later)
    return torch.stack(columns, dim=1)


@torch.no_grad()
def gae__one_text_at_a_time(rewards, values, completion_mask, gae_lambda):
    found = torch.zeros_like(rewards)
    for b in range(len(rewards)):
        length = int(completion_mask[b].sum())
        advantage, next_value = 0.0, 0.0
        for t in range(length - 1, -1, -1):
            delta = rewards[b, t] + next_value - values[b, t]
            advantage = delta + gae_lambda * advantage
            found[b, t] = advantage
            next_value = values[b, t]
    return found


def gae__powers(rewards, values, completion_mask, gae_lambda):
    values = torch.where(completion_mask, values, 0.0)
    after = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = torch.where(completion_mask, rewards + after - values, 0.0)
    steps = torch.arange(rewards.shape[1])
    ahead = (steps[:, None] - steps).clamp(min=0)
    weights = torch.tril(torch.full(ahead.shape, gae_lambda, dtype=rewards.dtype) ** ahead)
    return deltas @ weights * completion_mask


def gae__in_numpy(rewards, values, completion_mask, gae_lambda):
    r, v, m = rewards.numpy(), values.numpy(), completion_mask.numpy()
    num_texts, length = r.shape
    found = np.zeros((num_texts, length + 1), dtype=r.dtype)
    v = np.concatenate([v * m, np.zeros((num_texts, 1), dtype=v.dtype)], axis=1)
    for t in reversed(range(length)):
        found[:, t] = m[:, t] * (r[:, t] + v[:, t + 1] - v[:, t] + gae_lambda * found[:, t + 1])
    return torch.from_numpy(found[:, :-1])


def masked_mean__selected(numbers, mask):
    if not mask.any():
        return numbers.new_zeros(())
    return numbers[mask].mean()


def masked_mean__weights(numbers, mask):
    weights = mask.float() / max(int(mask.sum()), 1)
    return (numbers.masked_fill(~mask, 0.0) * weights).sum()


def masked_mean__where(numbers, mask):
    total = torch.where(mask, numbers, torch.zeros_like(numbers)).sum()
    count = mask.sum()
    return torch.where(count > 0, total / count.clamp(min=1), torch.zeros_like(total))


def whiten__selected(advantages, mask):
    kept = advantages[mask]
    whitened = torch.zeros_like(advantages)
    if len(kept.unique()) > 1:
        whitened[mask] = (kept - kept.mean()) / (kept.std() + 1e-8)
    return whitened


def whiten__where(advantages, mask):
    kept = torch.masked_select(advantages, mask)
    if (kept == kept[:1]).all():
        return torch.zeros_like(advantages)
    spread, centre = torch.std_mean(kept)
    return torch.where(mask, (advantages - centre) / (spread + 1e-8), 0.0)


def whiten__float_mask(advantages, mask):
    exists = mask.to(advantages.dtype)
    count = exists.sum()
    if len({number for number, there in zip(advantages.flatten().tolist(), mask.flatten()) if there}) < 2:
        return advantages * 0.0
    mean = (advantages * exists).sum() / count
    variance = ((advantages - mean) ** 2 * exists).sum() / (count - 1)
    return (advantages - mean) * exists / (variance.sqrt() + 1e-8)


def log_probs_and_values__gather(policy, batch):
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"].long()], dim=1)
    out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
    num_tokens = batch["completion_ids"].shape[1]
    logits, values = out.logits[:, -num_tokens - 1 : -1], out.values[:, -num_tokens - 1 : -1]
    all_log_probs = torch.log_softmax(logits, dim=-1)
    chosen = all_log_probs.gather(2, batch["completion_ids"].unsqueeze(-1)).squeeze(-1)
    return chosen * batch["completion_mask"], values


def log_probs_and_values__cross_entropy(policy, batch):
    prompt_ids, prompt_mask, completion_ids, completion_mask = (batch[name] for name in TEXT)
    mask = torch.hstack([prompt_mask, completion_mask.long()])
    ids = torch.hstack([prompt_ids, completion_ids])
    out = policy(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
    first, width = prompt_ids.shape[1] - 1, completion_ids.shape[1]
    logits = out.logits.narrow(1, first, width)
    losses = F.cross_entropy(logits.flatten(0, 1), completion_ids.flatten(), reduction="none")
    log_probs = -losses.view_as(completion_ids).masked_fill(~completion_mask, 0.0)
    return log_probs, out.values.narrow(1, first, width)


def log_probs_and_values__memory(policy, batch):
    seen = []

    def listening(**inputs):
        seen.append(policy(**inputs))
        return seen[-1]

    log_probs = token_log_probs(listening, *(batch[name] for name in TEXT))
    return log_probs, seen[0].values[:, -log_probs.shape[1] - 1 : -1]


def collect__inside(policy, reference, task, generator, cfg):
    with torch.no_grad():
        rows = (torch.rand(cfg.num_prompts, generator=generator) * len(task.prompt_ids)).long()
        prompt_ids, prompt_mask = task.prompt_ids[rows], task.prompt_mask[rows]
        completion_ids, completion_mask = sample(
            policy, prompt_ids, prompt_mask, task.num_tokens, task.eos_id, task.pad_id, generator
        )
        text = {
            "prompt_ids": prompt_ids,
            "prompt_mask": prompt_mask,
            "completion_ids": completion_ids,
            "completion_mask": completion_mask,
        }
        old_log_probs, values = log_probs_and_values(policy, text)
        log_ratio = old_log_probs - token_log_probs(reference, *text.values())
        scores = task.score(rows, completion_ids)
        rewards = token_rewards(scores.to(log_ratio.dtype), log_ratio, completion_mask, cfg.beta)
        advantages = gae(rewards, values, completion_mask, cfg.gae_lambda)
        return text | {
            "old_log_probs": old_log_probs,
            "log_ratio": log_ratio,
            "scores": scores,
            "returns": advantages + values,
            "advantages": whiten(advantages, completion_mask),
        }


def minibatch_loss__where(policy, mini, clip_eps, vf_coef):
    mask, advantages = mini["completion_mask"], mini["advantages"]
    log_probs, values = log_probs_and_values(policy, mini)
    ratio = torch.exp(log_probs - mini["old_log_probs"])
    limit = torch.where(advantages > 0, ratio.clamp(max=1 + clip_eps), ratio.clamp(min=1 - clip_eps))
    policy_loss = -masked_mean(limit * advantages, mask)
    value_loss = masked_mean((values - mini["returns"]) ** 2, mask)
    return policy_loss + vf_coef * value_loss, ratio


def minibatch_loss__selected(policy, mini, clip_eps, vf_coef):
    mask = mini["completion_mask"]
    log_probs, values = log_probs_and_values(policy, mini)
    ratio = torch.exp(log_probs - mini["old_log_probs"])
    w, a = ratio[mask], mini["advantages"][mask]
    surrogate = torch.minimum(w * a, w.clip(1 - clip_eps, 1 + clip_eps) * a)
    return vf_coef * F.mse_loss(values[mask], mini["returns"][mask]) - surrogate.mean(), ratio


def next_beta__if(beta, kl, target):
    error = kl / target - 1
    if error > 0.2:
        error = 0.2
    elif error < -0.2:
        error = -0.2
    return beta + 0.1 * error * beta


def next_beta__in_numpy(beta, kl, target):
    return float(beta * (1 + 0.1 * np.clip((kl - target) / target, -0.2, 0.2)))


def next_beta__in_torch(beta, kl, target):
    error = torch.clamp(torch.tensor(kl / target - 1), -0.2, 0.2)
    return beta * (1 + 0.1 * error).item()


def penalise_unfinished__last_token(scores, completion_ids, completion_mask, eos_id, penalty):
    last = completion_mask.sum(dim=1) - 1
    unfinished = completion_ids[torch.arange(len(scores)), last] != eos_id
    return scores - penalty * unfinished


def penalise_unfinished__loop(scores, completion_ids, completion_mask, eos_id, penalty):
    judged = scores.clone()
    for b in range(len(scores)):
        if eos_id not in completion_ids[b][completion_mask[b]].tolist():
            judged[b] -= penalty
    return judged


def penalise_unfinished__masked_fill(scores, completion_ids, completion_mask, eos_id, penalty):
    written = completion_ids.masked_fill(~completion_mask, -1)
    cut_off = (written != eos_id).all(dim=-1)
    return scores - cut_off.float() * penalty


def penalise_unfinished__in_numpy(scores, completion_ids, completion_mask, eos_id, penalty):
    stops = np.logical_and(completion_ids.numpy() == eos_id, completion_mask.numpy()).sum(axis=1)
    return torch.from_numpy(np.where(stops == 0, scores.numpy() - penalty, scores.numpy()))
