"""Right answers to D16's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
import torch

from chapters.D_rlhf.D16_reward_overoptimization import covariance, tilt


def best_of_n__binomials(proxy, values, n):
    size = len(proxy)
    ranked = [value for _, value in sorted(zip(proxy.tolist(), values.tolist()))]
    subsets = math.comb(size, n)
    return sum(ranked[i - 1] * (math.comb(i - 1, n - 1) / subsets) for i in range(n, size + 1))


def best_of_n__logarithms(proxy, values, n):
    def log_comb(a, b):
        return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)

    size, total = len(values), 0.0
    for below, place in enumerate(np.argsort(proxy)):
        if below >= n - 1:
            total += math.exp(log_comb(below, n - 1) - log_comb(size, n)) * values[place]
    return total


def best_of_n__shares(proxy, values, n):
    size = len(proxy)
    among_the_lowest = np.ones(size + 1)  # share of the subsets that lie within the lowest i
    for i in range(size, 0, -1):
        among_the_lowest[i - 1] = among_the_lowest[i] * max(0, i - n) / i
    return float(np.dot(np.diff(among_the_lowest), values[proxy.argsort()]))


def best_of_n_kl__one_over_n(n):
    return math.log(n) - 1 + 1 / n


def best_of_n_kl__in_numpy(n):
    return float(np.log(n) - (1.0 - np.divide(1.0, n)))


def best_of_n_kl__share(n):
    share = 1 / n
    return share - 1 - math.log(share)


def leave_one_out__scaled(rewards):
    size = rewards.shape[1]
    return (rewards - rewards.mean(dim=1, keepdim=True)) * size / (size - 1)


def leave_one_out__matrix(rewards):
    size = rewards.shape[-1]
    others = (1 - torch.eye(size, dtype=rewards.dtype)) / (size - 1)
    return rewards - rewards @ others


def leave_one_out__in_numpy(rewards):
    table = rewards.detach().numpy()
    found = np.empty_like(table)
    for row, one in zip(found, table):
        for i in range(len(one)):
            row[i] = one[i] - np.delete(one, i).mean()
    return torch.from_numpy(found)


def tilt__logsumexp(ref_log_probs, proxy, inverse_beta):
    weights = ref_log_probs + proxy * inverse_beta
    return weights - torch.logsumexp(weights, dim=-1, keepdim=True)


def tilt__log_of_softmax(ref_log_probs, proxy, inverse_beta):
    return torch.log(torch.softmax(ref_log_probs + inverse_beta * proxy, -1))


def tilt__probabilities(ref_log_probs, proxy, inverse_beta):
    top = proxy.max(dim=-1, keepdim=True).values
    weights = ref_log_probs.exp() * torch.exp(inverse_beta * (proxy - top))
    return (weights / weights.sum(dim=-1, keepdim=True)).log()


def covariance__mean_of_products(log_probs, a, b):
    def mean(values):
        return (torch.exp(log_probs) * values).sum(-1)

    return mean(a * b) - mean(a) * mean(b)


def covariance__einsum(log_probs, a, b):
    probs = torch.exp(log_probs)
    centre = torch.einsum("...m,...m->...", probs, a).unsqueeze(-1)
    return torch.einsum("...m,...m,...m->...", probs, a - centre, b)


def covariance__row_by_row(log_probs, a, b):
    if log_probs.ndim > 1:
        return torch.stack([covariance__row_by_row(*rows) for rows in zip(log_probs, a, b)])
    probs = log_probs.exp()
    return probs @ ((a - probs @ a) * (b - probs @ b))


def turning_point__lesson(ref_log_probs, proxy, gold, hardest=10.0):
    left, right = 0.0, float(hardest)
    while right - left > 1e-10:
        middle = 0.5 * (left + right)
        if covariance(tilt(ref_log_probs, proxy, middle), gold, proxy) > 0:
            left = middle
        else:
            right = middle
    return (left + right) / 2


def turning_point__thirds(ref_log_probs, proxy, gold, hardest=10.0):
    def earned(inverse_beta):
        return torch.softmax(reference + inverse_beta * liked, dim=0) @ true

    reference, liked, true = ref_log_probs.double(), proxy.double(), gold.double()
    low, high = 0.0, hardest
    for _ in range(100):
        third = (high - low) / 3
        if earned(low + third) < earned(high - third):
            low += third
        else:
            high -= third
    return low


def turning_point__in_numpy(ref_log_probs, proxy, gold, hardest=10.0):
    reference, liked, true = (np.asarray(x, dtype=float) for x in (ref_log_probs, proxy, gold))

    def slope(inverse_beta):
        weights = np.exp(reference + inverse_beta * liked)
        probs = weights / weights.sum()
        return probs @ (liked * true) - (probs @ liked) * (probs @ true)

    if slope(0.0) <= 0:
        return 0.0
    if slope(hardest) > 0:
        return hardest
    start, width = 0.0, hardest
    for _ in range(50):
        width /= 2
        if slope(start + width) > 0:
            start += width
    return start
