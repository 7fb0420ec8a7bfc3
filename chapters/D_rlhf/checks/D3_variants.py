"""Right answers to D3's exercises in other idioms: the grader must pass each."""

import copy
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from scipy.special import expit
from torch import nn

from chapters.D_rlhf.D3_reward_model import bradley_terry_loss, step_size
from chapters.text.generation import positions


def preference_probability__softmax(first, second, temperature):
    scaled = np.stack([first, second]) / temperature
    weights = np.exp(scaled - scaled.max(axis=0))
    return weights[0] / weights.sum(axis=0)


def preference_probability__tanh(first, second, temperature):
    return (1 + np.tanh((first - second) / (2 * temperature))) / 2


def preference_probability__in_torch(first, second, temperature):
    gaps = torch.as_tensor(first) - torch.as_tensor(second)
    return torch.sigmoid(gaps / temperature).numpy()


def preference_probability__one_at_a_time(first, second, temperature):
    return np.array([1 / (1 + math.exp((b - a) / temperature)) for a, b in zip(first, second)])


def expected_accuracy__loop(differences, probability):
    total = 0.0
    for difference, p in zip(differences, probability):
        if difference > 0:
            total += p
        elif difference < 0:
            total += 1 - p
        else:
            total += 0.5
    return total / len(differences)


def expected_accuracy__heaviside(differences, probability):
    picks_first = np.heaviside(differences, 0.5)
    return np.mean(picks_first * probability + (1 - picks_first) * (1 - probability))


def expected_accuracy__sign(differences, probability):
    return 0.5 + float(np.dot(np.sign(differences), probability - 0.5)) / differences.size


def bradley_terry_loss__softplus(chosen, rejected, margin=0.0):
    return F.softplus(rejected - chosen + margin).mean()


def bradley_terry_loss__cross_entropy(chosen, rejected, margin=0.0):
    scores = torch.stack([chosen - margin, rejected], dim=1)
    return F.cross_entropy(scores, torch.zeros(len(chosen), dtype=torch.long))


def bradley_terry_loss__binary(chosen, rejected, margin=0.0):
    gaps = chosen - rejected - margin
    return F.binary_cross_entropy_with_logits(gaps, torch.ones_like(gaps))


def bradley_terry_loss__logaddexp(chosen, rejected, margin=0.0):
    losses = torch.logaddexp(chosen, rejected + margin) - chosen
    return losses.sum() / losses.numel()


def last_token__flipped(scores, mask):
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    return scores[torch.arange(len(scores)), last]


def last_token__loop(scores, mask):
    return torch.stack([row[exists.bool()][-1] for row, exists in zip(scores, mask)])


def last_token__counted(scores, mask):
    count = mask.cumsum(dim=1) * mask
    last = count.argmax(dim=1, keepdim=True)
    return torch.gather(scores, 1, last).squeeze(1)


def last_token__where(scores, mask):
    columns = torch.arange(scores.size(1)).expand_as(mask)
    last = torch.where(mask == 1, columns, -1).max(dim=1).values
    return torch.where(columns == last.unsqueeze(1), scores, 0.0).sum(dim=1)


class RewardModel__parameter(nn.Module):
    """The head is a vector, the score that of the last token that the mask has."""

    def __init__(self, language_model, eos_id, like_id):
        super().__init__()
        self.transformer = copy.deepcopy(language_model).base_model
        self.head = nn.Parameter(0.02 * torch.randn(self.transformer.config.hidden_size))
        table = self.transformer.get_input_embeddings().weight
        with torch.no_grad():
            table[eos_id].copy_(table[like_id])

    def forward(self, ids, mask):
        out = self.transformer(input_ids=ids, attention_mask=mask, position_ids=positions(mask))
        last = (mask * torch.arange(1, mask.shape[1] + 1)).argmax(dim=1)
        return out.last_hidden_state[torch.arange(len(ids)), last] @ self.head


def step_size__if(step, num_steps, warmup_share=0.1):
    warmup = max(1, round(warmup_share * num_steps))
    if step < warmup:
        return step / warmup
    if num_steps == warmup:
        return float(num_steps - step)
    return 1 - (step - warmup) / (num_steps - warmup)


def step_size__interp(step, num_steps, warmup_share=0.1):
    return float(np.interp(step, [0, max(1.0, warmup_share * num_steps), num_steps], [0.0, 1.0, 0.0]))


def step_size__where(step, num_steps, warmup_share=0.1):
    rises = max(int(num_steps * warmup_share), 1)
    falls = max(num_steps - rises, 1)
    return step / rises if step <= rises else (num_steps - step) / falls


def train_reward_model__in_turn(model, pairs, cfg, log):
    rng = np.random.default_rng(cfg.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.learning_rate)
    num_pairs = pairs["ids"].shape[1]
    num_batches = num_pairs // cfg.batch_size
    num_steps, step = cfg.num_epochs * num_batches, 0

    def scores(side, rows):
        ids, mask = pairs["ids"][side, rows], pairs["mask"][side, rows]
        columns = mask.any(dim=0)
        return model(ids[:, columns], mask[:, columns])

    for _ in range(cfg.num_epochs):
        order = torch.from_numpy(rng.permutation(num_pairs))
        for rows in order[: num_batches * cfg.batch_size].split(cfg.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = cfg.learning_rate * step_size(step, num_steps)
            loss = bradley_terry_loss(scores(0, rows), scores(1, rows))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            step += 1
    return model


def reliability__loop(predicted, probability, num_bins=10):
    order = predicted.argsort(kind="stable")
    bins = np.zeros((2, num_bins))
    for k, rows in enumerate(np.array_split(order, num_bins)):
        bins[0, k] = np.mean(predicted[rows])
        bins[1, k] = np.mean(probability[rows])
    return bins


def reliability__sorted_pairs(predicted, probability, num_bins=10):
    ranked = np.array(sorted(zip(predicted, probability), key=lambda pair: pair[0]))
    return np.stack([part.mean(axis=0) for part in np.array_split(ranked, num_bins)], axis=1)


def reliability__cuts(predicted, probability, num_bins=10):
    order = np.argsort(predicted, kind="stable")
    sizes = np.full(num_bins, len(order) // num_bins)
    sizes[: len(order) % num_bins] += 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sums = [np.add.reduceat(values[order], starts) for values in (predicted, probability)]
    return np.array(sums) / sizes


def calibration_error__loop(predicted, probability, num_bins=10):
    order, total = np.argsort(predicted), 0.0
    for rows in np.array_split(order, num_bins):
        total += abs(predicted[rows].mean() - probability[rows].mean())
    return total / num_bins


def calibration_error__of_differences(predicted, probability, num_bins=10):
    gaps = (predicted - probability)[np.argsort(predicted)]
    return float(np.mean([np.abs(part.mean()) for part in np.array_split(gaps, num_bins)]))


def calibration_error__in_torch(predicted, probability, num_bins=10):
    p, order = torch.sort(torch.as_tensor(predicted))
    q = torch.as_tensor(probability)[order]
    gaps = [a.mean() - b.mean() for a, b in zip(p.tensor_split(num_bins), q.tensor_split(num_bins))]
    return torch.stack(gaps).abs().mean().item()


def calibration_slope__until_close(differences, probability):
    low, high = 0.0, 100.0
    while high - low > 1e-12:
        a = 0.5 * (low + high)
        if np.sum(differences * probability) > np.sum(differences * expit(a * differences)):
            low = a
        else:
            high = a
    return (low + high) / 2


def calibration_slope__root(differences, probability):
    def derivative(a):
        return float(((probability - expit(a * differences)) * differences).sum())

    if derivative(0.0) <= 0:
        return 0.0
    return 100.0 if derivative(100.0) > 0 else brentq(derivative, 0.0, 100.0)


def calibration_slope__newton(differences, probability):
    a = 0.0
    for _ in range(100):
        forecast = expit(a * differences)
        slope = (differences * (probability - forecast)).sum()
        curvature = (differences**2 * forecast * (1 - forecast)).sum()
        a = min(max(a + slope / max(curvature, 1e-12), 0.0), 100.0)
    return a


def ceiling_between__half(agreement):
    return agreement, 0.5 + 0.5 * (2 * agreement - 1) ** 0.5


def ceiling_between__in_numpy(agreement):
    highest = np.roots([2.0, -2.0, 1.0 - agreement]).real.max()
    return float(agreement), float(highest)


def ceiling_between__bisection(agreement):
    low, high = 0.5, 1.0
    for _ in range(60):
        a = (low + high) / 2
        low, high = (low, a) if a**2 + (1 - a) ** 2 > agreement else (a, high)
    return (agreement, high)


def ranking_loss__loop(scores):
    losses = []
    for i in range(scores.shape[1]):
        for j in range(i + 1, scores.shape[1]):
            losses.append(-F.logsigmoid(scores[:, i] - scores[:, j]))
    return torch.stack(losses).mean()


def ranking_loss__table(scores):
    size = scores.shape[1]
    differences = scores[:, :, None] - scores[:, None, :]
    above = torch.ones(size, size, dtype=torch.bool).triu(diagonal=1)
    return F.softplus(-differences[:, above]).mean()


def ranking_loss__combinations(scores):
    pairs = torch.combinations(torch.arange(scores.shape[1]), r=2)
    chosen, rejected = scores[:, pairs].unbind(dim=-1)
    return torch.logaddexp(torch.zeros_like(chosen), rejected - chosen).mean()


def ranking_loss__of_pairs(scores):
    columns = scores.unbind(dim=1)
    losses = [bradley_terry_loss(better, worse) for better, worse in itertools.combinations(columns, 2)]
    return sum(losses) / len(losses)
