"""Right answers to B8's exercises in other idioms: the grader must pass each."""

import math

import numpy as np
from scipy import stats


def t_interval__scipy(values, confidence=0.95):
    n = values.shape[-1]
    return np.array(stats.t.interval(confidence, n - 1, values.mean(-1), stats.sem(values, axis=-1)))


def t_interval__sums(values, confidence=0.95):
    n = values.shape[-1]
    mean = values.sum(axis=-1) / n
    squares = ((values - mean[..., None]) ** 2).sum(axis=-1)
    half = -stats.t.ppf((1 - confidence) / 2, df=n - 1) * np.sqrt(squares / (n * (n - 1)))
    return np.array([mean - half, mean + half])


def percentile_interval__indexing(values, resamples, confidence=0.95):
    means = values[..., resamples].mean(axis=-1)
    tail = 100 * (1 - confidence) / 2
    return np.percentile(means, [tail, 100 - tail], axis=-1)


def percentile_interval__rows(values, resamples, confidence=0.95):
    ends = np.empty((2, *values.shape[:-1]))
    for row in np.ndindex(values.shape[:-1]):
        means = [values[row][drawn].mean() for drawn in resamples]
        ends[(slice(None), *row)] = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    return ends


def median_ranks__scipy(n, confidence=0.95):
    coverage = [1 - 2 * stats.binom.cdf(k - 1, n, 0.5) for k in range(1, max(n // 2, 1) + 1)]
    enough = [k for k, covers in enumerate(coverage, 1) if covers >= confidence]
    k = enough[-1] if enough else 1
    return k, coverage[k - 1]


def median_ranks__from_the_middle(n, confidence=0.95):
    def covers(k):
        return sum(math.comb(n, i) for i in range(k, n - k + 1)) / 2**n

    for k in range(n // 2, 1, -1):
        if covers(k) >= confidence:
            return k, covers(k)
    return 1, covers(1)


def median_interval__partition(values, confidence=0.95):
    n = values.shape[-1]
    k, _ = median_ranks__scipy(n, confidence)
    ordered = np.partition(values, (k - 1, n - k), axis=-1)
    return np.array([ordered[..., k - 1], ordered[..., n - k]])


def median_interval__quantiles(values, confidence=0.95):
    n = values.shape[-1]
    k, _ = median_ranks__from_the_middle(n, confidence)
    return np.quantile(values, [(k - 1) / (n - 1), (n - k) / (n - 1)], axis=-1)


def interquartile_mean__scipy(scores):
    return stats.trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1)


def interquartile_mean__in_loops(scores):
    means = np.empty(scores.shape[:-2])
    for row in np.ndindex(means.shape):
        ordered = sorted(scores[row].ravel().tolist())
        cut = int(0.25 * len(ordered))
        kept = ordered[cut:-cut] if cut else ordered
        means[row] = sum(kept) / len(kept)
    return means


def probability_of_improvement__signs(x, y):
    return (np.sign(x[:, None, :] - y[None, :, :]).mean() + 1) / 2


def probability_of_improvement__mann_whitney(x, y):
    pairs = len(x) * len(y)
    return np.mean([stats.mannwhitneyu(a, b).statistic / pairs for a, b in zip(x.T, y.T)])


def power__two_lines(n, gap, level=0.05):
    shifted = stats.nct(2 * n - 2, gap * (n / 2) ** 0.5)
    bar = stats.t.isf(level / 2, 2 * n - 2)
    return 1 - shifted.cdf(bar) + shifted.cdf(-bar)


def judge_says__stacked(better, first, longer, weights):
    return 1 / (1 + np.exp(-(np.stack([better, first, longer], axis=-1) @ np.array(weights))))


def judge_says__tanh(better, first, longer, weights):
    return 0.5 * (1 + np.tanh(0.5 * (weights[0] * better + weights[1] * first + weights[2] * longer)))


def corrected_rate__false_wins(observed, sensitivity, specificity):
    false_wins = 1 - specificity
    return (observed - false_wins) / (sensitivity - false_wins)


def corrected_rate__youden(observed, sensitivity, specificity):
    youden = sensitivity - (1 - specificity)
    return observed / youden - (1 - specificity) / youden


def bca_interval__loops(values, resamples, confidence=0.95):
    n = len(values)
    means = np.array([values[drawn].sum() / n for drawn in resamples])
    share = np.mean([1.0 if m < values.mean() else 0.5 if m == values.mean() else 0.0 for m in means])
    jackknife = np.array([np.delete(values, i).mean() for i in range(n)])
    d = jackknife.mean() - jackknife
    a = np.sum(d**3) / 6 / np.sum(d**2) ** (3 / 2)
    bias, tail = stats.norm.ppf(share), (1 - confidence) / 2
    z = bias + stats.norm.ppf([tail, 1 - tail])
    return tuple(np.percentile(means, 100 * stats.norm.cdf(bias + z / (1 - a * z))))


def bca_interval__counts(values, resamples, confidence=0.95):
    n = len(values)
    means = np.stack([np.bincount(drawn, minlength=n) for drawn in resamples]) @ values / n
    bias = stats.norm.ppf((means < values.mean()).mean())
    third, second = stats.moment(values, 3), stats.moment(values, 2)
    a = third / (6 * second**1.5 * math.sqrt(n))
    z = bias + stats.norm.ppf(np.array([1 - confidence, 1 + confidence]) / 2)
    return np.quantile(means, stats.norm.cdf(bias + z / (1 - a * z)))


def least_share__beta(held, recorded, confidence=0.95):
    return stats.beta.ppf(1 - confidence, held, recorded - held + 1) if held > 0 else 0


def least_share__scipy(held, recorded, confidence=0.95):
    return stats.binomtest(held, recorded, alternative="greater").proportion_ci(confidence).low


def corrected_error__derivatives(observed, sensitivity, specificity, num_judged, num_better, num_worse):
    def truth(q, s, c):
        return (q + c - 1) / (s + c - 1)

    at, step, total = np.array([observed, sensitivity, specificity]), 1e-6, 0.0
    for i, count in enumerate((num_judged, num_better, num_worse)):
        shift = step * (np.arange(3) == i)
        slope = (truth(*(at + shift)) - truth(*(at - shift))) / (2 * step)
        total += slope**2 * at[i] * (1 - at[i]) / count
    return math.sqrt(total)
