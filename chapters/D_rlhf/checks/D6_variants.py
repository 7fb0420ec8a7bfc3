"""Right answers to D6's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from chapters.D_rlhf.D6_text_rewriter import minibatches
from chapters.envs.rewriter import encode_prompts, encode_rewrites
from chapters.text import ppo
from chapters.text.generation import sample, token_log_probs
from chapters.text.rewriting import Pairs, RewardModel, pack
from chapters.utils.optim import Adam


def imitation_loss__selected(policy, lm, requests, rewrites):
    prompt_ids, prompt_mask = encode_prompts(lm.tokenizer, requests)
    ids, mask = encode_rewrites(lm.tokenizer, rewrites)
    return -token_log_probs(policy, prompt_ids, prompt_mask, ids, mask)[mask].mean()


def imitation_loss__cross_entropy(policy, lm, requests, rewrites):
    prompt_ids, prompt_mask = encode_prompts(lm.tokenizer, requests)
    ids, exists = encode_rewrites(lm.tokenizer, rewrites)
    mask = torch.cat([prompt_mask, exists.long()], dim=1)
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    out = policy(input_ids=torch.cat([prompt_ids, ids], dim=1), attention_mask=mask, position_ids=places)
    before = out.logits[:, prompt_ids.shape[1] - 1 : -1]
    targets = ids.masked_fill(~exists, -100)
    return F.cross_entropy(before.flatten(0, 1), targets.flatten(), ignore_index=-100)


def imitation_loss__one_at_a_time(policy, lm, requests, rewrites):
    total, count = 0.0, 0
    for request, rewrite in zip(requests, rewrites):
        ids, mask = encode_rewrites(lm.tokenizer, [rewrite])
        log_probs = token_log_probs(policy, *encode_prompts(lm.tokenizer, [request]), ids, mask)
        total = total - log_probs.sum()
        count += log_probs.numel()
    return total / count


def label__loop(compared, rng):
    chosen, rejected = [], []
    for first, second, prob in zip(compared.first, compared.second, compared.probs):
        better, worse = (first, second) if rng.random() < prob else (second, first)
        chosen.append(better)
        rejected.append(worse)
    return Pairs(compared.requests, chosen, rejected)


def label__binomial(compared, rng):
    wins = rng.binomial(1, compared.probs)
    sides = list(zip(compared.second, compared.first))
    chosen = [pair[win] for pair, win in zip(sides, wins)]
    rejected = [pair[1 - win] for pair, win in zip(sides, wins)]
    return Pairs(requests=list(compared.requests), chosen=chosen, rejected=rejected)


def label__in_numpy(compared, rng):
    first, second = np.array(compared.first), np.array(compared.second)
    loses = rng.random(len(first)) >= compared.probs
    chosen, rejected = np.where(loses, second, first), np.where(loses, first, second)
    return Pairs(compared.requests, chosen.tolist(), rejected.tolist())


def minibatches__shuffled(num_pairs, num_human, batch_size, human_share, rng):
    left = list(range(num_pairs))
    rng.shuffle(left)
    places = round(batch_size * human_share) if num_human > 0 else 0
    while left:
        batch, left = left[:batch_size], left[batch_size:]
        own = rng.choice(num_human, size=places) if places else np.array([], dtype=int)
        yield np.array(batch[: batch_size - places], dtype=int), own


def minibatches__one_return(num_pairs, num_human, batch_size, human_share, rng):
    def own():
        return np.array([rng.integers(num_human) for _ in range(ours)], dtype=int)

    ours = round(human_share * batch_size) if num_human else 0
    order = rng.permutation(np.arange(num_pairs))
    parts = np.split(order, range(batch_size, num_pairs, batch_size))
    return ((part[: batch_size - ours], own()) for part in parts)


def minibatches__counted(num_pairs, num_human, batch_size, human_share, rng):
    if num_human == 0:
        human_share = 0.0
    ours = round(human_share * batch_size)
    theirs = batch_size - ours
    order = rng.permutation(num_pairs)
    epoch = []
    for number in range(math.ceil(num_pairs / batch_size)):
        rows = order[number * batch_size :][:theirs]
        epoch.append((rows, rng.integers(0, num_human, size=ours) if ours else np.empty(0, dtype=int)))
    return epoch


def fit_reward_model__at_one_step_size(model, lm, pairs, human, cfg, log, name="rm"):
    found = RewardModel(model)
    rng = np.random.default_rng(cfg.seed)
    optimizer = Adam(found.parameters(), lr=1e-3)
    steps = []
    for _ in range(cfg.rm_epochs):
        steps += minibatches(len(pairs.requests), len(human.requests), 16, cfg.human_share, rng)
    for step, (judged, own) in enumerate(log.track(steps, "steps")):
        some, mine = pairs.pick(judged), human.pick(own)
        batch = Pairs(some.requests + mine.requests, some.chosen + mine.chosen, some.rejected + mine.rejected)
        chosen, rejected = found.margins(lm, batch)
        loss = F.softplus(rejected - chosen).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.write(step, **{name + "_loss": loss.item()})
    with torch.no_grad():
        chosen, rejected = found.margins(lm, pairs)
        found.score.bias.sub_((chosen.mean() + rejected.mean()) / 2)
    for parameter in found.parameters():
        parameter.requires_grad = False
    return found


def collect__written_out(policy, reference, reward_model, lm, requests, generator, cfg):
    prompt_ids, prompt_mask = encode_prompts(lm.tokenizer, requests)
    eos, pad = lm.tokenizer.eos_token_id, lm.tokenizer.pad_token_id
    ids, mask = sample(policy, prompt_ids, prompt_mask, cfg.num_tokens, eos, pad, generator)
    batch = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": ids,
        "completion_mask": mask,
    }
    with torch.no_grad():
        log_probs, values = ppo.log_probs_and_values(policy, batch)
        ref_log_probs = token_log_probs(reference, prompt_ids, prompt_mask, ids, mask)
        scores = reward_model(*pack(prompt_ids, prompt_mask, ids, mask))
    log_ratio = log_probs - ref_log_probs
    advantages = torch.zeros_like(values)
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        running, following = 0.0, 0.0
        for t in reversed(range(length)):
            reward = -cfg.beta * log_ratio[row, t] + (scores[row] if t == length - 1 else 0.0)
            running = reward + following - values[row, t] + cfg.gae_lambda * running
            following = values[row, t]
            advantages[row, t] = running
    kept = advantages[mask]
    whitened = torch.zeros_like(values)
    whitened[mask] = (kept - kept.mean()) / (kept.std() + 1e-8)
    return batch | {
        "old_log_probs": log_probs,
        "log_ratio": log_ratio,
        "scores": scores,
        "returns": (advantages + values).masked_fill(~mask, 0.0),
        "advantages": whitened,
    }


def best_agreement__quadratic(consistency):
    root = max(0.0, 4 - 8 * (1 - consistency))
    slip = (2 - math.sqrt(root)) / 4
    return 1 - slip


def best_agreement__bisection(consistency):
    low, high = 0.0, 0.5
    for _ in range(80):
        slip = (low + high) / 2
        if slip**2 + (1 - slip) ** 2 > consistency:
            low = slip
        else:
            high = slip
    return 1.0 - high


def best_agreement__in_numpy(consistency):
    return float((1 + np.sqrt(np.clip(2 * consistency - 1, 0, None))) / 2)


def priced_scores__relu(scores, completion_mask, free, price):
    beyond = completion_mask.to(scores.dtype).sum(-1) - free
    return scores - price * torch.relu(beyond)


def priced_scores__token_by_token(scores, completion_mask, free, price):
    charged = completion_mask & (completion_mask.long().cumsum(dim=1) > free)
    return scores - (price * charged).sum(dim=1)


def priced_scores__where(scores, completion_mask, free, price):
    lengths = torch.tensor([int(row.sum()) for row in completion_mask])
    return torch.where(lengths > free, scores - price * (lengths - free), scores)
