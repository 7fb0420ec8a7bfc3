"""Right answers to B5's exercises in other idioms: the grader must pass each."""

import numpy as np

from chapters.B_core_algorithms.B5_contextual_bandits import (
    direct_method,
    doubly_robust,
    importance_ratios,
    posterior_update,
)
from chapters.envs.recommendation import Log, click_table


def posterior_update__precision(mean, covariance, features, rewards):
    precision = np.linalg.inv(covariance)
    new = np.linalg.inv(precision + features[:, :, None] * features[:, None, :])
    pull = np.einsum("bij,bj->bi", precision, mean) + features * rewards[:, None]
    return np.einsum("bij,bj->bi", new, pull), new


def posterior_update__in_loops(mean, covariance, features, rewards):
    mean, covariance = mean.copy(), covariance.copy()
    for b in range(len(mean)):
        x = features[b]
        gain = covariance[b] @ x / (1 + x @ covariance[b] @ x)
        mean[b] += gain * (rewards[b] - x @ mean[b])
        covariance[b] -= np.outer(gain, x @ covariance[b])
    return mean, covariance


def posterior_update__einsum(mean, covariance, features, rewards):
    reach = np.einsum("bij,bj->bi", covariance, features)
    scale = 1 / (1 + np.einsum("bi,bi->b", features, reach))
    surprise = rewards - np.einsum("bi,bi->b", features, mean)
    outer = np.einsum("b,bi,bj->bij", scale, reach, reach)
    return mean + (scale * surprise)[:, None] * reach, covariance - outer


def ucb_scores__in_loops(mean, covariance, features, num_plays, rng):
    features = np.broadcast_to(features, (len(mean), *features.shape[-2:]))
    scores = np.zeros(features.shape[:2])
    width = np.sqrt(2 * np.log(num_plays)) if num_plays > 0 else 0.0
    for b, k in np.ndindex(scores.shape):
        x = features[b, k]
        scores[b, k] = x @ mean[b] + width * np.sqrt(x @ covariance[b] @ x)
    return scores


def ucb_scores__einsum(mean, covariance, features, num_plays, rng):
    each = np.broadcast_to(features, (mean.shape[0], *features.shape[-2:]))
    variances = np.einsum("bki,bij,bkj->bk", each, covariance, each)
    return np.einsum("bki,bi->bk", each, mean) + np.sqrt(2 * np.log(max(1, num_plays)) * variances)


def ucb_scores__root(mean, covariance, features, num_plays, rng):
    root = np.linalg.cholesky(covariance)
    deviations = np.linalg.norm(features @ root, axis=2)
    return np.squeeze(features @ mean[..., None], axis=2) + deviations * (2 * np.log(num_plays or 1)) ** 0.5


def thompson_scores__eigen(mean, covariance, features, num_plays, rng):
    values, vectors = np.linalg.eigh(covariance)
    noise = np.sqrt(np.maximum(values, 0)) * rng.standard_normal(mean.shape)
    guess = mean + np.einsum("bij,bj->bi", vectors, noise)
    return (features * guess[:, None, :]).sum(axis=-1)


def thompson_scores__multivariate(mean, covariance, features, num_plays, rng):
    guess = np.array([rng.multivariate_normal(m, c) for m, c in zip(mean, covariance)])
    return (features @ guess[:, :, None])[..., 0]


class LinearAgent__precision:
    def __init__(self, num_bandits, num_features, score):
        self.precision = np.stack([np.eye(num_features)] * num_bandits)
        self.pull = np.zeros((num_bandits, num_features))
        self.score = score

    @property
    def covariance(self):
        return np.linalg.inv(self.precision)

    @property
    def mean(self):
        return np.einsum("bij,bj->bi", self.covariance, self.pull)

    def act(self, features, num_plays, rng):
        return np.argmax(self.score(self.mean, self.covariance, features, num_plays, rng), axis=1)

    def learn(self, features, rewards):
        self.precision += np.einsum("bi,bj->bij", features, features)
        self.pull += features * rewards[:, None]


class LinearAgent__keywords:
    def __init__(self, num_bandits, num_features, score):
        self.score = score
        self.mean = np.zeros(shape=(num_bandits, num_features))
        self.covariance = np.broadcast_to(
            np.identity(num_features), (num_bandits,) + (num_features,) * 2
        ).copy()

    def act(self, features, num_plays, rng):
        scores = self.score(self.mean, self.covariance, features, num_plays, rng)
        return np.array([np.argmax(row) for row in scores])

    def learn(self, features, rewards):
        belief = posterior_update(
            mean=self.mean, covariance=self.covariance, features=features, rewards=rewards
        )
        self.mean, self.covariance = belief


def importance_ratios__two_tables(log, policy, logging):
    return policy[log.contexts, log.actions] / logging[log.contexts, log.actions]


def importance_ratios__logarithms(log, policy, logging):
    at = (log.contexts, log.actions)
    return np.exp(np.log(policy[at]) - np.log(logging[at]))


def direct_method__einsum(log, policy, model):
    return np.einsum("sa,sa->s", policy, model)[log.contexts]


def direct_method__rows(log, policy, model):
    return (policy[log.contexts] * model[log.contexts]).sum(axis=-1)


def ips__tables(log, policy, logging):
    return log.rewards * policy[log.contexts, log.actions] / logging[log.contexts, log.actions]


def ips__clicked_only(log, policy, logging):
    return np.where(log.rewards > 0, importance_ratios(log, policy, logging) * log.rewards, 0.0)


def self_normalised__average(log, policy, logging):
    weights = importance_ratios(log, policy, logging)
    return np.average(log.rewards, axis=-1, weights=weights)


def self_normalised__shares(log, policy, logging):
    weights = policy[log.contexts, log.actions] / logging[log.contexts, log.actions]
    shares = weights / weights.sum(axis=-1, keepdims=True)
    return np.sum(shares * log.rewards, axis=-1)


def doubly_robust__control_variate(log, policy, logging, model):
    ratios = importance_ratios(log, policy, logging)
    return ratios * log.rewards - (
        ratios * model[log.contexts, log.actions] - direct_method(log, policy, model)
    )


def doubly_robust__in_loops(log, policy, logging, model):
    terms = np.zeros(log.rewards.shape)
    for at in np.ndindex(terms.shape):
        x, a = log.contexts[at], log.actions[at]
        terms[at] = policy[x] @ model[x] + policy[x, a] / logging[x, a] * (log.rewards[at] - model[x, a])
    return terms


def doubly_robust__one_hot(log, policy, logging, model):
    shown = np.eye(policy.shape[1])[log.actions]
    ratios = (shown * policy[log.contexts]).sum(-1) / (shown * logging[log.contexts]).sum(-1)
    expected = (policy[log.contexts] * model[log.contexts]).sum(-1)
    return expected + ratios * (log.rewards - (shown * model[log.contexts]).sum(-1))


def cross_fitted__masks(log, policy, logging):
    n = len(log.rewards)
    in_first = np.arange(n) < n // 2
    terms = np.zeros(n)
    for mask in (in_first, ~in_first):
        model = click_table(Log(*(part[~mask] for part in log)), policy.shape)
        terms[mask] = doubly_robust(Log(*(part[mask] for part in log)), policy, logging, model)
    return terms.mean()


def cross_fitted__sums(log, policy, logging):
    n, total = len(log.rewards), 0.0
    for here, there in (
        (slice(None, n // 2), slice(n // 2, None)),
        (slice(n // 2, None), slice(None, n // 2)),
    ):
        model = click_table(Log(*(part[there] for part in log)), policy.shape)
        x, a, r = (part[here] for part in log)
        total += ((policy * model).sum(axis=1)[x] + (policy / logging)[x, a] * (r - model[x, a])).sum()
    return total / n


def clipped_ips__where(log, policy, logging, limit):
    ratios = policy[log.contexts, log.actions] / logging[log.contexts, log.actions]
    return np.where(ratios > limit, limit, ratios) * log.rewards


def clipped_ips__table(log, policy, logging, limit):
    return np.clip(policy / logging, None, limit)[log.contexts, log.actions] * log.rewards
