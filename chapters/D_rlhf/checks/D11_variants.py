"""Right answers to D11's exercises in other idioms: the grader must pass each."""

from collections import defaultdict

import numpy as np
from scipy import stats

from chapters.envs import shop
from chapters.exact.judges import at_divergence, logistic_fit

UNNAMED = {
    "no_prior": "it returns a judge, a function, and functions are not compared",
    "heavy_prior": "it returns a judge, a function, and functions are not compared",
    "verdicts_turned": "it returns a judge, a function, and functions are not compared",
    "luck_of_their_own": "what it draws is random: right answers in other idioms may draw in another order",
    "always_the_likelier": "what it draws is random: right answers in other idioms may draw in another order",
    "one_principle": "what it draws is random: right answers in other idioms may draw in another order",
}


def constructed__one_by_one(kinds, weights, position):
    return np.array([[[w @ (a - b) + position for b in kinds] for a in kinds] for w in weights])


def constructed__einsum(kinds, weights, position):
    gaps = kinds[:, np.newaxis, :] - kinds[np.newaxis, :, :]
    return np.einsum("pf,abf->pab", weights, gaps) + position


def train_judge__gradient_in_words(questions, first_won):
    words = sorted(set().union(*map(shop.words_by_place, questions)))
    table = shop.count_words(questions, words)
    u = logistic_fit(table, np.asarray(first_won, dtype=float), np.full(len(table), 2.0), 1.0 / len(table))

    def judge(asked):
        return np.einsum("bv,v->b", shop.count_words(list(asked), words), u)

    return judge


def swap__loop(logits):
    content, position = np.zeros(logits.shape[1:]), np.zeros(logits.shape[1:])
    for one in logits:
        content += 0.5 * (one - one.T)
        position += 0.5 * (one + one.T) / len(logits)
    return content, position


def swap__swapaxes(logits):
    both = np.stack([logits, -np.swapaxes(logits, 1, 2)])
    return both.mean(axis=0).sum(axis=0), np.mean([logits, np.swapaxes(logits, 1, 2)], axis=(0, 1))


def leaning__every_pair(content, kinds, feature):
    gains = []
    for a in range(len(kinds)):
        for b in range(len(kinds)):
            step = kinds[b] - kinds[a]
            if step[feature] == 1 and not np.delete(step, feature).any():
                gains.extend(content[b] - content[a])
    return sum(gains) / len(gains)


def leaning__masks(content, kinds, feature):
    step = kinds[None] - kinds[:, None]
    unit = np.eye(kinds.shape[1])[feature]
    lower, higher = np.nonzero((step == unit).all(axis=-1))
    return np.mean(content[higher] - content[lower])


def corrected__subtract_outer(content, kinds, leanings):
    scores = sum((value * kinds[:, j] for j, value in leanings.items()), np.zeros(len(kinds)))
    return content - np.subtract.outer(scores, scores)


def corrected__matrix(content, kinds, leanings):
    weights = np.zeros(kinds.shape[1])
    for j, value in leanings.items():
        weights[j] = value
    return content + (kinds @ weights)[None, :] - (kinds @ weights)[:, None]


def preferred__logaddexp(logits):
    other = np.swapaxes(logits, -1, -2)
    return 0.5 * np.mean(np.exp(-np.logaddexp(0, -logits)) + np.exp(-np.logaddexp(0, other)), axis=0)


def rate_by_errors__dictionary(shares, better, groups, pairs, known):
    found, weights = defaultdict(float), defaultdict(float)
    for group in np.unique(groups):
        here = pairs[groups == group]
        if here.sum() == 0:
            continue
        said, best, labelled = shares[groups == group], better[groups == group], known[groups == group]
        s = np.average(said[best == 1], weights=labelled[best == 1])
        false = np.average(said[best != 1], weights=labelled[best != 1])
        q = np.average(said, weights=here)
        found[group], weights[group] = (q - false) / (s - false), here.sum()
    return sum(found[g] * weights[g] for g in found) / sum(weights.values())


def length_controlled__rows(shares, longer, pairs):
    inputs = np.c_[longer.reshape(-1), np.ones(longer.size)]
    coefficients = logistic_fit(inputs, shares.reshape(-1), pairs.reshape(-1))
    return 1 / (1 + np.exp(-coefficients[1]))


def interval_over_prompts__scipy(values, prompts, level=0.95):
    groups = defaultdict(list)
    for value, prompt in zip(values, prompts):
        groups[prompt].append(value)
    means = [np.mean(group) for group in groups.values()]
    return stats.t.interval(level, len(means) - 1, loc=np.mean(means), scale=stats.sem(means))


def interval_over_prompts__bincount(values, prompts, level=0.95):
    _, rows = np.unique(prompts, return_inverse=True)
    means = np.bincount(rows, weights=values) / np.bincount(rows)
    n = len(means)
    error = np.sqrt(((means - means.mean()) ** 2).sum() / (n - 1) / n)
    quantile = stats.t(n - 1).isf((1 - level) / 2)
    return means.mean() - quantile * error, means.mean() + quantile * error


def fit_reward__takes_rows(kinds, rows, labels):
    first, second = np.take(kinds, rows.T, axis=0)
    return logistic_fit(first - second, np.asarray(labels, float), np.full(len(labels), 0.5))


def fit_reward__losers_first(kinds, rows, labels):
    gaps = kinds[rows[:, 1]] - kinds[rows[:, 0]]
    return logistic_fit(gaps, 1 - labels, np.ones(len(rows)))


def gain__centred(reward, kinds, gold, kl):
    over = gold - gold.mean()
    return (at_divergence(kinds @ reward, kl) * over).sum() / (at_divergence(gold, kl) * over).sum()


def revise__loop(content, kinds):
    found = []
    for a, kind in enumerate(kinds):
        best, most = a, content[a, a] + 1e-10
        for b, other in enumerate(kinds):
            if np.abs(other - kind).sum() == 1 and content[b, a] > most:
                best, most = b, content[b, a]
        found.append(best)
    return np.array(found)


def labels_by__binomial(logits, contents, rows, rng):
    first, second = rows[:, 0], rows[:, 1]
    principles = rng.integers(0, logits.shape[0], len(rows))
    luck = rng.uniform(size=len(rows))
    found = {}
    for name, table in contents.items():
        found[name] = np.where(luck < 1 / (1 + np.exp(-table[first, second])), 1.0, 0.0)
    found["judge"] = np.where(luck < 1 / (1 + np.exp(-logits[principles, first, second])), 1.0, 0.0)
    return found


def consistent_wins__counts(first_shown, second_shown):
    won = int(((first_shown == 1) & (second_shown == 1)).sum())
    lost = int(((first_shown == 0) & (second_shown == 0)).sum())
    rate = won / (won + lost) if won + lost else 0.5
    return rate, 1 - (won + lost) / len(first_shown)


def consistent_wins__loop(first_shown, second_shown):
    kept, torn = [], 0
    for a, b in zip(first_shown, second_shown):
        if a == b:
            kept.append(a)
        else:
            torn += 1
    return (sum(kept) / len(kept) if kept else 0.5), torn / (torn + len(kept))


def after_rounds__closed_form(faulty, missed, false_alarm, num_rounds):
    factor = missed - false_alarm
    if factor == 1:
        return faulty
    end = false_alarm / (1 - factor)
    return end + factor**num_rounds * (faulty - end)


def after_rounds__matrix(faulty, missed, false_alarm, num_rounds):
    kernel = np.array([[missed, 1 - missed], [false_alarm, 1 - false_alarm]])
    return (np.array([faulty, 1 - faulty]) @ np.linalg.matrix_power(kernel, num_rounds))[0]
