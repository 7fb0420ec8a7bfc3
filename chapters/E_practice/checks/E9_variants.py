"""Right answers to E9's exercises in other idioms: the grader must pass each."""

import numpy as np

from chapters.exact import kuhn


def counterfactual_values__in_loops(strategy):
    flat = strategy.reshape(-1, 3, 4)
    q = np.zeros((len(flat), 3, 4, 2))
    for row, s in enumerate(flat):
        for own in range(3):
            for other in range(3):
                if own == other:
                    continue
                sign = 1 if own > other else -1
                x, y = s[own], s[other]
                late = x[3] * 2 * sign - (1 - x[3])
                q[row, own, 0, 0] += ((1 - y[1]) * sign + y[1] * late) / 6
                q[row, own, 0, 1] += ((1 - y[2]) + y[2] * 2 * sign) / 6
                q[row, own, 3] += y[1] * np.array([-1, 2 * sign]) / 6
                q[row, own, 1, 0] += (1 - y[0]) * sign / 6
                q[row, own, 1, 1] += (1 - y[0]) * ((1 - y[3]) + y[3] * 2 * sign) / 6
                q[row, own, 2] += y[0] * np.array([-1, 2 * sign]) / 6
    return q.reshape(*strategy.shape, 2)


def counterfactual_values__einsum(strategy):
    cards = np.arange(3)
    higher = np.where(cards[:, None] == cards, 0.0, np.where(cards[:, None] > cards, 1.0, -1.0)) / 6
    dealt = np.abs(higher)
    a, b, c, d = (strategy[..., place] for place in range(4))

    def over(table, weights):
        return np.einsum("ij,...j->...i", table, weights)

    fold, call = -over(dealt, b), 2 * over(higher, b)
    columns = [
        (over(higher, 1 - b) + fold * (1 - d) + call * d, over(dealt, 1 - c) + 2 * over(higher, c)),
        (over(higher, 1 - a), over(dealt, (1 - a) * (1 - d)) + 2 * over(higher, (1 - a) * d)),
        (-over(dealt, a), 2 * over(higher, a)),
        (fold, call),
    ]
    return np.stack([np.stack(pair, axis=-1) for pair in columns], axis=-2)


def nash_conv__exact(strategy):
    flat = strategy.reshape(-1, 3, 4)
    return np.array([2 * kuhn.exploitability(one) for one in flat]).reshape(strategy.shape[:-2])


def nash_conv__best_responses(strategy):
    def one(s):
        first = kuhn.value(kuhn.best_response(s, 0), s)
        return first - kuhn.value(s, kuhn.best_response(s, 1))

    return np.apply_along_axis(
        lambda row: one(row.reshape(3, 4)), -1, strategy.reshape(*strategy.shape[:-2], 12)
    )


def credit_gradient__in_loops(credit, first, second):
    samples, chances = [], []
    for a, p in enumerate(first):
        for b, r in enumerate(second):
            score = -np.array(first)
            score[a] += 1
            samples.append(credit[a, b] * score)
            chances.append(p * r)
    samples, chances = np.array(samples), np.array(chances)
    mean = chances @ samples
    return mean, float((chances @ samples**2 - mean**2).sum())


def credit_gradient__moments(credit, first, second):
    mean_credit, mean_square = credit @ second, credit**2 @ second
    scores = np.eye(len(first)) - first[None, :]
    mean = (first * mean_credit) @ scores
    return mean, float((first * mean_square) @ (scores**2).sum(axis=1) - mean @ mean)
