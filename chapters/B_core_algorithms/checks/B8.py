"""B8's functions against their definitions, and its named edits."""

import itertools
import math

import numpy as np
from scipy import stats

from chapters.utils.edits import Edit


def check_t_interval(t_interval):
    rng = np.random.default_rng(0)
    for shape, confidence in (((3,), 0.95), ((4, 5), 0.95), ((2, 3, 10), 0.8)):
        values = 2.0 + 3.0 * rng.normal(size=shape)
        low, high = t_interval(values, confidence)
        assert np.shape(low) == shape[:-1], f"both ends for values {shape}: one for each row"
        for row in np.ndindex(shape[:-1]):
            expected = stats.ttest_1samp(values[row], 0.0).confidence_interval(confidence)
            np.testing.assert_allclose(
                [low[row], high[row]], expected, rtol=1e-9, err_msg=f"{shape[-1]} values, {confidence:.0%}"
            )


def check_percentile_interval(percentile_interval):
    """Against each resample drawn and averaged by itself, and the bare definition of a quantile."""
    rng = np.random.default_rng(1)
    for shape, B, confidence in (((5,), 100, 0.95), ((3, 4), 41, 0.9), ((2, 2, 7), 60, 0.5)):
        values, n = rng.exponential(size=shape), shape[-1]
        resamples = rng.integers(n, size=(B, n))
        low, high = percentile_interval(values, resamples, confidence)
        for row in np.ndindex(shape[:-1]):
            means = sorted(sum(values[row][i] for i in drawn) / n for drawn in resamples)
            for end, level in ((low, (1 - confidence) / 2), (high, (1 + confidence) / 2)):
                place = level * (B - 1)
                under, over = means[math.floor(place)], means[math.ceil(place)]
                expected = under + (place - math.floor(place)) * (over - under)
                np.testing.assert_allclose(
                    end[row], expected, rtol=1e-9, err_msg=f"the {level:.3g} quantile of {B} resamples' means"
                )


def check_median_ranks(median_ranks):
    """By enumeration: every value falls below or above the median like a coin."""
    for n, confidence in itertools.product(range(1, 13), (0.5, 0.9, 0.95, 0.99)):
        below = np.array([sum(coins) for coins in itertools.product((0, 1), repeat=n)])
        coverages = {k: ((k <= below) & (below <= n - k)).mean() for k in range(1, n // 2 + 1)} or {1: 0.0}
        best = max((k for k, covers in coverages.items() if covers >= confidence), default=1)
        rank, coverage = median_ranks(n, confidence)
        assert rank == best, f"rank for {n} values at {confidence:.0%}: {rank}, expected {best}"
        np.testing.assert_allclose(
            coverage, coverages[best], atol=1e-12, err_msg=f"coverage of rank {best} of {n} values"
        )


def check_median_interval(median_interval):
    rng = np.random.default_rng(2)
    for shape, confidence, leave_out in (((5,), 0.95, 0), ((3, 10), 0.95, 1), ((2, 2, 20), 0.95, 5)):
        values = rng.normal(size=shape)
        before = values.copy()
        low, high = median_interval(values, confidence)
        for row in np.ndindex(shape[:-1]):
            kept = sorted(values[row])[leave_out : shape[-1] - leave_out]
            np.testing.assert_allclose(
                [low[row], high[row]], [kept[0], kept[-1]], err_msg=f"{leave_out} left out at each end"
            )
        np.testing.assert_array_equal(values, before, err_msg="the values given were changed")


def check_interquartile_mean(interquartile_mean):
    rng = np.random.default_rng(3)
    for shape in ((1, 1), (5, 4), (10, 7), (3, 2, 5), (1, 57)):
        scores = rng.exponential(size=shape)
        found = interquartile_mean(scores)
        for row in np.ndindex(shape[:-2]):
            expected = stats.trim_mean(scores[row], 0.25, axis=None)
            np.testing.assert_allclose(found[row], expected, rtol=1e-12, err_msg=f"scores {shape}")


def check_probability_of_improvement(probability_of_improvement):
    rng = np.random.default_rng(4)
    for n, k, tasks in ((1, 1, 1), (5, 3, 4), (2, 6, 3)):
        x, y = np.round(rng.random((n, tasks)), 1), np.round(rng.random((k, tasks)), 1)
        chances = []
        for task in range(tasks):
            for i, j in np.ndindex(n, k):
                better, equal = x[i, task] > y[j, task], x[i, task] == y[j, task]
                chances.append(1.0 if better else 0.5 if equal else 0.0)
        np.testing.assert_allclose(
            probability_of_improvement(x, y), np.mean(chances), atol=1e-12, err_msg=f"{n} runs against {k}"
        )


def check_power(power):
    """Against the distribution of the test statistic, integrated over the spread that both groups show."""
    for n, gap, level in ((5, 1.0, 0.05), (3, 2.0, 0.05), (17, 1.0, 0.05), (8, 0.5, 0.1), (6, 0.0, 0.05)):
        degrees = 2 * n - 2
        bar = stats.t.ppf(1 - level / 2, degrees)
        chances = (np.arange(20_000) + 0.5) / 20_000
        spread = np.sqrt(stats.chi2.ppf(chances, degrees) / degrees)  # estimated over true deviation
        push = gap * math.sqrt(n / 2)
        expected = (stats.norm.sf(bar * spread - push) + stats.norm.cdf(-bar * spread - push)).mean()
        np.testing.assert_allclose(
            power(n, gap, level), expected, atol=1e-4, err_msg=f"{n} seeds each, gap {gap}, level {level}"
        )


def check_judge_says(judge_says):
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    for weights in ((1.0, 0.0, 0.0), (1.0, 0.4, 0.8), (0.5, -1.0, 0.3)):
        found = judge_says(signs[:, 0], signs[:, 1], signs[:, 2], weights)
        for row, says in zip(signs, found):
            expected = 1 / (1 + math.exp(-sum(w * sign for w, sign in zip(weights, row))))
            np.testing.assert_allclose(
                says, expected, rtol=1e-9, err_msg=f"better, first, longer = {row}, weights {weights}"
            )


def check_corrected_rate(corrected_rate):
    """There and back: from the truth to what a judge with such error rates says."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        truth, s, c = rng.uniform((0.0, 0.6, 0.5), (1.0, 1.0, 1.0), 3)
        observed = s * truth + (1 - c) * (1 - truth)
        told = f"observed {observed:.3f}, sensitivity {s:.3f}, specificity {c:.3f}"
        np.testing.assert_allclose(corrected_rate(observed, s, c), truth, atol=1e-9, err_msg=told)
    truth, s, c = rng.random(3), np.array([0.7, 0.8, 0.95]), np.array([0.9, 0.6, 0.8])
    np.testing.assert_allclose(corrected_rate(s * truth + (1 - c) * (1 - truth), s, c), truth, atol=1e-9)


EDITS = {
    "n_for_divisor": Edit(
        function="t_interval",
        old="ddof=1",
        new="ddof=0",
        says="takes n for the divisor of the deviation, not n - 1",
        fails=("t_coverage",),
    ),
    "normal_quantile": Edit(
        function="t_interval",
        old="stats.t.ppf((1 + confidence) / 2, n - 1)",
        new="stats.norm.ppf((1 + confidence) / 2)",
        says="takes the normal distribution's 1.96 where Student's quantile belongs",
        fails=("t_coverage",),
    ),
    "deviation_of_values": Edit(
        function="t_interval",
        old="values.std(axis=-1, ddof=1) / np.sqrt(n)",
        new="values.std(axis=-1, ddof=1)",
        says="takes the deviation of the values for the error of their mean",
        fails=("t_coverage",),
    ),
    "one_sided": Edit(
        function="t_interval",
        old="(1 + confidence) / 2",
        new="confidence",
        says="leaves 5 % out at each end, not in all",
        fails=("t_coverage",),
    ),
    "ends_not_halved": Edit(
        function="percentile_interval",
        old="[(1 - confidence) / 2, (1 + confidence) / 2]",
        new="[1 - confidence, confidence]",
        says="leaves 5 % out at each end, not in all",
        fails=("percentile_coverage",),
    ),
    "every_value_once": Edit(
        function="percentile_interval",
        old=".sum(axis=1)",
        new=".any(axis=1)",
        says="counts a value once, however often it is drawn",
        fails=("percentile_coverage",),
    ),
    "leaves_out_more": Edit(
        function="median_ranks",
        old="    return rank, 1 - 2 * outside",
        new="    return rank + 1, 1 - 2 * outside",
        says="leaves out one value more at each end than the coverage allows",
        fails=("median_coverage_error", "median_exact"),
    ),
    "one_tail": Edit(
        function="median_ranks",
        old="    return rank, 1 - 2 * outside",
        new="    return rank, 1 - outside",
        says="forgets that the interval can miss on two sides",
        fails=("median_coverage_error", "median_exact"),
    ),
    "always_the_range": Edit(
        function="median_ranks",
        old="        if 1 - 2 * more < confidence:\n",
        new="        if True:\n",
        says="always takes the range, wider than it need be from nine values on",
    ),
    "upper_end_off_by_one": Edit(
        function="median_interval",
        old="ordered[..., -rank]",
        new="ordered[..., -rank - 1]",
        says="takes the upper end one rank too low",
        fails=("median_coverage_error",),
    ),
    "not_sorted": Edit(
        function="median_interval",
        old="ordered = np.sort(values, axis=-1)",
        new="ordered = values",
        says="takes the values in the order in which they came",
        fails=("median_coverage_error",),
    ),
    "half_cut_off": Edit(
        function="interquartile_mean",
        old="ordered.shape[-1] // 4\n",
        new="(ordered.shape[-1] - 1) // 2\n",
        says="cuts nearly a half off each end: a median",
    ),
    "only_the_top_cut": Edit(
        function="interquartile_mean",
        old="ordered[..., cut : ordered.shape[-1] - cut]",
        new="ordered[..., : ordered.shape[-1] - cut]",
        says="cuts off the best quarter only",
    ),
    "cut_within_runs": Edit(
        function="interquartile_mean",
        old="scores.reshape(*scores.shape[:-2], -1)",
        new="scores.mean(axis=-2)",
        says="averages the runs of each task first, and cuts tasks",
    ),
    "ties_count_whole": Edit(
        function="probability_of_improvement",
        old="0.5 * equal",
        new="equal",
        says="counts a tie as a win",
    ),
    "ties_count_nothing": Edit(
        function="probability_of_improvement",
        old="above + 0.5 * equal",
        new="above",
        says="counts a tie as a defeat",
    ),
    "wrong_way_round": Edit(
        function="probability_of_improvement",
        old="x[:, None] > y, x",
        new="x[:, None] < y, x",
        says="asks how often X is worse",
    ),
    "one_group_only": Edit(
        function="power",
        old="math.sqrt(n / 2)",
        new="math.sqrt(n)",
        says="forgets that both groups scatter",
    ),
    "level_not_halved": Edit(
        function="power",
        old="1 - level / 2",
        new="1 - level",
        says="tests one side only",
    ),
    "degrees_of_one_group": Edit(
        function="power",
        old="2 * n - 2",
        new="n - 1",
        says="counts the degrees of freedom of one group",
    ),
    "position_backwards": Edit(
        function="judge_says",
        old="weights[1] * first",
        new="-weights[1] * first",
        says="favours what it reads last",
    ),
    "no_length": Edit(
        function="judge_says",
        old=" + weights[2] * longer",
        new="",
        says="does not mind the length",
    ),
    "false_alarms_for_specificity": Edit(
        function="corrected_rate",
        old="(observed + specificity - 1) / (sensitivity + specificity - 1)",
        new="(observed - specificity) / (sensitivity - specificity)",
        says="takes the specificity for the share of false wins, which is one minus it",
    ),
    "not_stretched": Edit(
        function="corrected_rate",
        old=" / (sensitivity + specificity - 1)",
        new="",
        says="takes off the false wins, but forgets the wins that the judge missed",
    ),
}
