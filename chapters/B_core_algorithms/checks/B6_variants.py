"""Right answers to B6's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch


def next_actions__loop(online_q, target_q):
    return torch.tensor([int(np.argmax(row)) for row in online_q.tolist()])


def dueling__subtracted_first(value, advantages):
    return advantages - advantages.sum(-2, keepdim=True) / advantages.shape[-2] + value


def n_step__loops(rewards, done, gamma):
    n, num_envs = rewards.shape
    returns, last = np.zeros(num_envs), np.zeros(num_envs, dtype=int)
    for i in range(num_envs):
        for t in range(n):
            returns[i] += gamma**t * rewards[t, i]
            last[i] = t
            if done[t, i]:
                break
    return returns, last


def n_step__backwards(rewards, done, gamma):
    returns, last = np.zeros(rewards.shape[1]), np.zeros(rewards.shape[1], dtype=int)
    for t in reversed(range(len(rewards))):
        goes_on = ~done[t] & (t < len(rewards) - 1)
        returns = rewards[t] + gamma * goes_on * returns
        last = np.where(goes_on, last + 1, 0)
    return returns, last


def priority__power(surprise, exponent=0.5):
    return np.power(1e-6 + surprise, exponent)


def importance__fraction(chances, num_stored, beta):
    return (1 / num_stored / chances) ** beta


def project__hats(chances, returns, discounts, atoms):
    moved = (returns[:, None] + discounts[:, None] * atoms).clamp(atoms[0], atoms[-1])
    hats = (1 - (moved[:, :, None] - atoms).abs() / (atoms[1] - atoms[0])).clamp(min=0)
    return (chances[:, :, None] * hats).sum(dim=1)


def divergence__kl_div(target, log_chances, atoms):
    return torch.nn.functional.kl_div(log_chances, target, reduction="none").sum(dim=-1)


def scaled_noise__copysign(size):
    x = torch.randn(size)
    return torch.copysign(torch.sqrt(torch.abs(x)), x)


def n_step_bias__recursion(mdp, behaviour, advantages, n):
    lost, later = (behaviour * advantages).sum(axis=1), np.zeros(len(advantages))
    chain = np.einsum("sa,sat->st", behaviour, mdp.P)
    for _ in range(n - 1):
        later = lost + mdp.gamma * chain @ later
    return mdp.gamma * mdp.P @ later


def noise_variance__sum(x, weight_spread, bias_spread):
    terms = (weight_spread * x) ** 2
    return terms.sum(dim=-1) * 2 / math.pi + bias_spread**2 * math.sqrt(2 / math.pi)


UNNAMED: dict[str, str] = {}
