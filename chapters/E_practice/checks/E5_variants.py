"""Right answers to E5's exercises in other idioms: the grader must pass each."""

import numpy as np
import torch
from torch.nn import functional as F

from chapters.E_practice import E5_dreamer as lesson

UNNAMED: dict[str, str] = {}


def symexp__written_out(y):
    return torch.where(y >= 0, y.exp() - 1.0, 1.0 - (-y).exp())


def symexp__sign(y):
    return torch.sign(y) * (torch.exp(torch.abs(y)) - 1.0)


def two_hot__hats(x, values):
    """Each value's weight falls linearly from it to its neighbours."""
    x = x.clamp(values[0], values[-1]).unsqueeze(-1)
    big = torch.full((1,), 1e9)
    left = torch.cat([values[:1] - big, values[:-1]])
    right = torch.cat([values[1:], values[-1:] + big])
    rising = ((x - left) / (values - left)).clamp(0.0, 1.0)
    falling = ((right - x) / (right - values)).clamp(0.0, 1.0)
    return torch.minimum(rising, falling)


def two_hot__scatter(x, values):
    flat = x.reshape(-1).clamp(float(values[0]), float(values[-1]))
    below = (flat.unsqueeze(1) >= values[:-1]).sum(dim=1).sub(1).clamp(min=0)
    share = (flat - values[below]) / (values[below + 1] - values[below])
    rows = torch.zeros(len(flat), len(values))
    rows[torch.arange(len(flat)), below] = 1.0 - share
    rows[torch.arange(len(flat)), below + 1] += share
    return rows.reshape(*x.shape, len(values))


def mean_of__weighted(logits, values):
    chances = logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
    return (chances * values).sum(dim=-1)


def mean_of__einsum(logits, values):
    return torch.einsum("...k,k->...", torch.softmax(logits, -1), values)


def cross_entropy__library(logits, x):
    K = logits.shape[-1]
    targets = lesson.two_hot(x, lesson.VALUES).reshape(-1, K)
    return F.cross_entropy(logits.reshape(-1, K), targets, reduction="none").reshape(x.shape)


def cross_entropy__logsumexp(logits, x):
    targets = lesson.two_hot(x, lesson.VALUES)
    return logits.logsumexp(dim=-1) - (targets * logits).sum(dim=-1)


def lambda_returns__filled(rewards, goes_on, values, gamma, return_lambda):
    returns = torch.zeros(len(rewards) + 1, *rewards.shape[1:])
    returns[-1] = values[-1]
    for i in range(len(rewards) - 1, -1, -1):
        later = torch.lerp(values[i + 1], returns[i + 1], return_lambda)
        returns[i] = rewards[i] + gamma * goes_on[i] * later
    return returns[:-1]


def lambda_returns__errors(rewards, goes_on, values, gamma, return_lambda):
    """As in C3: the sum of one-step errors, added to the values; then shifted by one step."""
    errors = rewards + gamma * goes_on * values[1:] - values[:-1]
    running, rows = torch.zeros_like(rewards[0]), []
    for i in reversed(range(len(rewards))):
        running = errors[i] + gamma * return_lambda * goes_on[i] * running
        rows.insert(0, running + values[i])
    return torch.stack(rows)


def dream_weights__loop(alive, goes_on, gamma):
    rows = [alive]
    for row in goes_on[:-1]:
        rows.append(rows[-1] * gamma * row)
    return torch.stack(rows)


def dream_weights__powers(alive, goes_on, gamma):
    chances = torch.cat([torch.ones_like(goes_on[:1]), goes_on[:-1]]).cumprod(dim=0)
    return alive * chances * gamma ** torch.arange(len(goes_on)).unsqueeze(1)


def actor_loss__one_hot(log_probs, actions, advantages, weights, ent_coef):
    chosen = (F.one_hot(actions, log_probs.shape[-1]) * log_probs).sum(dim=-1)
    entropy = torch.distributions.Categorical(logits=log_probs).entropy()
    return (-weights * advantages.detach() * chosen - weights * ent_coef * entropy).mean()


def model_loss__written_out(model, batch):
    states, posterior, prior = model.observe(batch["obs"], batch["actions"])
    mask, obs = batch["mask"], batch["obs"]
    logits = model.draws(states)
    pixels = -(10.0 * obs * F.logsigmoid(logits) + (1.0 - obs) * F.logsigmoid(-logits)).sum(dim=-1)

    def divergence(log_q, log_p):
        return (log_q.exp() * (log_q - log_p)).sum(dim=(-2, -1))

    both = divergence(posterior.detach(), prior) + 0.1 * divergence(posterior, prior.detach())
    seen = ((pixels + both) * mask).sum() / mask.sum()
    paid = lesson.cross_entropy(model.pays(states[1:]), batch["rewards"])
    logit = model.ends(states[1:])[..., 0]
    ended = -(batch["goes_on"] * F.logsigmoid(logit) + (1.0 - batch["goes_on"]) * F.logsigmoid(-logit))
    return seen + ((paid + ended) * mask[1:]).sum() / mask[1:].sum(), states.detach()


def dream_bound__loop(code_errors, reward_errors, gamma):
    total = 0.0
    for i, (code, reward) in enumerate(zip(code_errors, reward_errors)):
        still = sum(gamma**j for j in range(len(code_errors) - i))
        total += gamma**i * (code * still + reward)
    return total


def dream_bound__from_the_end(code_errors, reward_errors, gamma):
    """By a recursion: at stake before step i is 1 plus gamma times what is at stake after it."""
    bound = stake = 0.0
    for code, reward in zip(code_errors[::-1], reward_errors[::-1]):
        stake = 1.0 + gamma * stake
        bound = code * stake + reward + gamma * bound
    return float(np.asarray(bound))
