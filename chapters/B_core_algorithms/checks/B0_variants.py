"""Right answers to B0's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
from scipy.stats import beta

from chapters.B_core_algorithms.B0_multi_armed_bandits import random_argmax, updated_mean


def updated_mean__sums(estimates, counts, rewards):
    return ((counts - 1) * estimates + rewards) / counts


def updated_mean__average(estimates, counts, rewards):
    step = 1.0 / counts
    return (1.0 - step) * estimates + step * rewards


def updated_mean__in_loops(estimates, counts, rewards):
    new = estimates.copy()
    for b in range(len(new)):
        new[b] += (rewards[b] - new[b]) / counts[b]
    return new


def random_argmax__choice(scores, rng):
    picks = []
    for row in scores:
        (best,) = np.nonzero(row == row.max())
        picks.append(rng.choice(best))
    return np.array(picks)


def random_argmax__where(scores, rng):
    top = np.max(scores, axis=1)[:, None]
    draws = np.where(scores == top, rng.random(scores.shape), -1.0)
    return draws.argmax(axis=1)


def random_argmax__sorted(scores, rng):
    order = np.lexsort((rng.random(scores.shape), scores), axis=1)
    return order[:, -1]


def random_argmax__which_of_the_ties(scores, rng):
    ties = scores == scores.max(axis=1, keepdims=True)
    rank = rng.integers(ties.sum(axis=1))  # which of them, from 0
    return (ties.cumsum(axis=1) > rank[:, None]).argmax(axis=1)


def epsilon_greedy__in_loops(estimates, epsilon, rng):
    num_bandits, num_arms = estimates.shape
    arms = np.empty(num_bandits, dtype=int)
    for b in range(num_bandits):
        if rng.random() < epsilon:
            arms[b] = rng.integers(num_arms)
        else:
            arms[b] = rng.choice(np.flatnonzero(estimates[b] == estimates[b].max()))
    return arms


def epsilon_greedy__overwritten(estimates, epsilon, rng):
    arms = random_argmax(estimates, rng)
    explore = rng.uniform(size=len(arms)) < epsilon
    arms[explore] = rng.integers(0, estimates.shape[1], size=np.count_nonzero(explore))
    return arms


def epsilon_greedy__probabilities(estimates, epsilon, rng):
    best = (estimates == estimates.max(axis=1, keepdims=True)).astype(float)
    chances = epsilon / estimates.shape[1] + (1 - epsilon) * best / best.sum(axis=1, keepdims=True)
    below = rng.random((len(estimates), 1)) >= chances.cumsum(axis=1)[:, :-1]
    return below.sum(axis=1)


def ucb_scores__in_loops(estimates, counts, num_plays, c):
    scores = np.zeros(estimates.shape)
    for b in range(scores.shape[0]):
        for a in range(scores.shape[1]):
            if counts[b, a] == 0:
                scores[b, a] = math.inf
            else:
                scores[b, a] = estimates[b, a] + c * math.sqrt(math.log(num_plays) / counts[b, a])
    return scores


def ucb_scores__only_the_pulled(estimates, counts, num_plays, c):
    scores = np.full_like(estimates, np.inf)
    pulled = counts > 0
    if pulled.any():
        scores[pulled] = estimates[pulled] + c * (np.log(num_plays) / counts[pulled]) ** 0.5
    return scores


def ucb_scores__errstate(estimates, counts, num_plays, c):
    with np.errstate(divide="ignore", invalid="ignore"):
        bonus = np.sqrt(np.log(num_plays)) * c / np.sqrt(counts)
    bonus[counts == 0] = np.inf
    return estimates + bonus


def thompson_scores__gammas(successes, failures, rng):
    won, lost = rng.standard_gamma(successes + 1), rng.standard_gamma(failures + 1)
    return won / (won + lost)


def thompson_scores__quantiles(successes, failures, rng):
    return beta.ppf(rng.random(successes.shape), successes + 1, failures + 1)


def thompson_scores__in_loops(successes, failures, rng):
    guesses = np.empty(successes.shape)
    for place in np.ndindex(guesses.shape):
        guesses[place] = rng.beta(a=1 + successes[place], b=1 + failures[place])
    return guesses


class ValueAgent__in_loops:
    def __init__(self, shape, choose):
        self.estimates, self.counts = np.zeros(shape), np.zeros(shape)
        self.choose = choose

    def act(self, num_plays, rng):
        return self.choose(self.estimates, self.counts, num_plays, rng)

    def learn(self, actions, rewards):
        for b, (a, r) in enumerate(zip(actions, rewards)):
            self.counts[b, a] += 1
            self.estimates[b, a] += (r - self.estimates[b, a]) / self.counts[b, a]


class ValueAgent__sums:
    def __init__(self, shape, choose):
        self.counts = np.zeros(shape, dtype=int)
        self.sums = np.zeros(shape)
        self.rule = choose

    @property
    def estimates(self):
        return self.sums / np.maximum(self.counts, 1)

    def act(self, num_plays, rng):
        return self.rule(self.estimates, self.counts, num_plays, rng)

    def learn(self, actions, rewards):
        played = actions[:, None] == np.arange(self.counts.shape[1])
        self.counts += played
        self.sums += played * rewards[:, None]


class ValueAgent__float_mask:
    def __init__(self, shape, choose):
        self.choose = choose
        self.estimates = np.zeros(shape)
        self.counts = np.zeros(shape)

    def act(self, num_plays, rng):
        return self.choose(self.estimates, self.counts, num_plays, rng)

    def learn(self, actions, rewards):
        played = np.eye(self.counts.shape[1])[actions]
        self.counts = self.counts + played
        moved = updated_mean(self.estimates, np.maximum(self.counts, 1.0), rewards[:, np.newaxis])
        self.estimates = np.where(played > 0, moved, self.estimates)


def thompson_rule__beta(estimates, counts, num_plays, rng):
    failures = (1 - estimates) * counts
    return np.argmax(rng.beta(1 + estimates * counts, 1 + failures), axis=1)


def thompson_rule__in_loops(estimates, counts, num_plays, rng):
    arms = []
    for row, pulls in zip(estimates, counts):
        guesses = [rng.beta(1 + q * n, 1 + n - q * n) for q, n in zip(row, pulls)]
        arms.append(guesses.index(max(guesses)))
    return np.array(arms)


def thompson_rule__gammas(estimates, counts, num_plays, rng):
    wins = np.rint(estimates * counts)
    won, lost = rng.gamma(1 + wins), rng.gamma(1 + counts - wins)
    return random_argmax(won / (won + lost), rng)


def gradient_step__in_loops(logits, actions, rewards, baseline, alpha):
    moved = logits.copy()
    for b in range(len(logits)):
        weights = np.exp(logits[b] - logits[b].max())
        policy = weights / weights.sum()
        for a in range(len(policy)):
            hit = 1.0 if a == actions[b] else 0.0
            moved[b, a] += alpha * (rewards[b] - baseline[b]) * (hit - policy[a])
    return moved


def gradient_step__one_hot(logits, actions, rewards, baseline, alpha):
    weights = np.exp(logits)
    policy = weights / weights.sum(axis=1, keepdims=True)
    played = np.eye(logits.shape[1])[actions]
    surprise = np.reshape(rewards - baseline, (-1, 1))
    return logits + alpha * surprise * (played - policy)


def gradient_step__played_arm_apart(logits, actions, rewards, baseline, alpha):
    policy = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    step = alpha * (rewards - baseline)
    moved = logits - step[:, None] * policy
    moved[np.arange(len(moved)), actions] += step
    return moved
