"""Exercises of B8: its functions, and what goes beyond them."""

import math

import numpy as np
from scipy import stats

from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def bca_interval(values: np.ndarray, resamples: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Both ends of the BCa bootstrap's interval for the mean of `values` [n], by (E1) and (E2).

    resamples [B, n]: which of the n values each resample draws.
    """
    n, mean = len(values), values.mean()
    means = np.sort(values[resamples].mean(axis=1))  # [B]
    below = (means < mean).mean() + (means == mean).mean() / 2
    z_0 = stats.norm.ppf(below)
    d = (values - mean) / (n - 1)  # the mean of all minus the mean without value i
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    levels = []
    for alpha in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = z_0 + stats.norm.ppf(alpha)
        levels.append(stats.norm.cdf(z_0 + z / (1 - a * z)))
    low, high = np.quantile(means, levels)
    return float(low), float(high)


def check_bca_interval(bca_interval):
    """Against scipy's, given the same resamples."""
    rng = np.random.default_rng(20)
    for n, confidence in (
        (14, 0.95),
        (20, 0.9),
        (30, 0.95),
    ):  # so many that no resample draws each value once
        for skewed in (False, True):
            values = rng.normal(size=n)
            values = np.exp(values) if skewed else values
            resamples = np.random.default_rng(3).integers(0, n, (999, n))  # those that scipy draws
            expected = stats.bootstrap(
                (values,), np.mean, n_resamples=999, method="BCa", confidence_level=confidence,
                rng=np.random.default_rng(3),
            ).confidence_interval  # fmt: skip
            found = bca_interval(values.copy(), resamples.copy(), confidence)
            np.testing.assert_allclose(
                found, [expected.low, expected.high], atol=1e-9,
                err_msg=f"both ends for {n} {'skewed' if skewed else 'normal'} values, {confidence:.0%}",
            )  # fmt: skip


def least_share(held: int, recorded: int, confidence: float = 0.95) -> float:
    """The smallest share of all seeds that is still credible when `held` of `recorded` seeds hold: (E3)."""
    if held == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):  # the chance grows with the share, so halve the interval that holds the solution
        middle = (low + high) / 2
        chance = sum(
            math.comb(recorded, i) * middle**i * (1 - middle) ** (recorded - i)
            for i in range(held, recorded + 1)
        )
        low, high = (middle, high) if chance < 1 - confidence else (low, middle)
    return (low + high) / 2


def check_least_share(least_share):
    for held, recorded, confidence in ((5, 5, 0.95), (4, 5, 0.95), (10, 10, 0.95), (3, 8, 0.9), (0, 5, 0.95)):
        found = least_share(held, recorded, confidence)
        expected = stats.beta.ppf(1 - confidence, held, recorded - held + 1) if held else 0.0
        np.testing.assert_allclose(
            found, expected, atol=1e-8, err_msg=f"{held} of {recorded} seeds, {confidence:.0%}"
        )


def corrected_error(
    observed: float, sensitivity: float, specificity: float, num_judged: int, num_better: int, num_worse: int
) -> float:
    """The standard error of a corrected win rate, by (E4).

    observed: the judge's rate over `num_judged` pairs. sensitivity and specificity: measured on `num_better`
    pairs in which ours is known to be better, and on `num_worse` in which it is known to be worse.
    """
    slope = sensitivity + specificity - 1
    rate = (observed + specificity - 1) / slope
    variance = observed * (1 - observed) / num_judged
    variance += rate**2 * sensitivity * (1 - sensitivity) / num_better
    variance += (1 - rate) ** 2 * specificity * (1 - specificity) / num_worse
    return float(np.sqrt(variance) / slope)


def check_corrected_error(corrected_error):
    """Against the deviation of repeated measurements, and against the derivatives of (8)."""
    rng = np.random.default_rng(21)
    for observed, s, c, num_judged, num_better, num_worse in (
        (0.6, 0.8, 0.7, 4000, 3000, 2000),
        (0.5, 0.9, 0.9, 500, 10**7, 10**7),
        (0.3, 0.85, 0.9, 10**7, 800, 10**7),
        (0.7, 0.75, 0.8, 10**7, 10**7, 900),
    ):
        found = corrected_error(observed, s, c, num_judged, num_better, num_worse)
        q, s_hat, c_hat = (
            rng.binomial(count, p, 40_000) / count
            for count, p in ((num_judged, observed), (num_better, s), (num_worse, c))
        )
        spread = ((q + c_hat - 1) / (s_hat + c_hat - 1)).std()
        np.testing.assert_allclose(
            found, spread, rtol=0.03, err_msg=f"rate {observed}, errors from {num_better} and {num_worse}"
        )


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write Student's interval, (1), for many experiments at once; the ranks and the coverage of the interval for
the median, (3); the probability of improvement, (5); and the corrected win rate, (8).
""",
        minutes=35,
        difficulty="easy",
        functions=("t_interval", "median_ranks", "probability_of_improvement", "corrected_rate"),
    ),
    "bca_interval": Exercise(
        title="The bootstrap, corrected",
        task=r"""
*BCa* (bias-corrected and accelerated, `efron1993bootstrap`) does not take the quantiles of the resampled
means at $\alpha = 2.5$ % and $97.5$ %, but at levels that it shifts for bias, by $z_0$, and for skew, by $a$.
Let $z_0$ be the normal quantile of the share of resampled means below the mean (equal ones count half), $\bar
x_{(-i)}$ the mean without value $i$ and $d_i = \bar x - \bar x_{(-i)}$:

$$\alpha \;\mapsto\; \Phi\Bigl(z_0 + \frac{z}{1 - a\, z}\Bigr), \qquad z = z_0 + \Phi^{-1}(\alpha) \tag{E1}$$

$$a = \frac{\sum_i d_i^3}{6\,\bigl(\sum_i d_i^2\bigr)^{3/2}} \tag{E2}$$

The resamples are given. Then: with no bias and no skew, which recipe is it?
""",
        minutes=30,
        difficulty="hard",
        solution=bca_interval,
        check=check_bca_interval,
        hints=(
            "Three steps: the resampled means; z_0 and a; two quantiles of the means at the moved levels.",
            "With z_0 = 0 and a = 0 nothing moves, and the percentile interval is left, (2).",
            "means = np.sort(values[resamples].mean(axis=1))",
        ),
        edits={
            "no_acceleration": Edit(
                function="bca_interval",
                old="a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)",
                new="a = 0.0",
                says="forgets the skew: corrects for bias alone",
            ),
            "no_bias": Edit(
                function="bca_interval",
                old="z_0 = stats.norm.ppf(below)",
                new="z_0 = 0.0",
                says="forgets the bias: corrects for skew alone",
            ),
            "sign_of_skew": Edit(
                function="bca_interval",
                old="d = (values - mean) / (n - 1)",
                new="d = (mean - values) / (n - 1)",
                says="moves the levels to the wrong side for skew",
            ),
            "not_corrected": Edit(
                function="bca_interval",
                old="levels.append(stats.norm.cdf(z_0 + z / (1 - a * z)))",
                new="levels.append(alpha)",
                says="leaves the levels where they are: the percentile interval",
            ),
        },
        answer="""
The percentile interval. On normal returns it therefore gains nothing: with five seeds BCa covers as little as
the percentile bootstrap, and estimates of $z_0$ and $a$ from five numbers are noise.
""",
    ),
    "least_share": Exercise(
        title="Five of five",
        task=r"""
A claim holds on $h$ of $n$ recorded seeds. On what share $p$ of *all* seeds does it hold? If $p$ were small,
so many successes would be unlikely. The smallest share that is credible at 95 % makes them just 5 % likely:

$$\sum_{i = h}^{n} \binom{n}{i}\, p^i\, (1 - p)^{n - i} = 0.05 \tag{E3}$$

and it is 0 if $h = 0$. Write it, by halving or by a quantile of the beta distribution. *By hand*, all of
five: $p^5 = 0.05$, so $p = 0.55$.

What do ten of ten show, and what twenty of twenty?
""",
        minutes=20,
        difficulty="medium",
        solution=least_share,
        check=check_least_share,
        hints=(
            "The sum is the chance of h successes or more. It grows with p, from 0 to 1: where is it 5 %?",
            "For h = n only one term is left, p to the power n.",
            "low, high = 0.0, 1.0",
        ),
        edits={
            "one_term": Edit(
                function="least_share",
                old="for i in range(held, recorded + 1)",
                new="for i in [held]",
                says="counts exactly so many successes, not so many or more",
            ),
            "share_observed": Edit(
                function="least_share",
                old="    return (low + high) / 2",
                new="    return held / recorded",
                says="gives the observed share, as if five seeds were all there are",
            ),
            "one_too_few": Edit(
                function="least_share",
                old="range(held, recorded + 1)",
                new="range(held + 1, recorded + 1)",
                says="counts more than so many successes",
            ),
            "two_sided": Edit(
                function="least_share",
                old="chance < 1 - confidence",
                new="chance < (1 - confidence) / 2",
                says="takes half of the 5 %: the lower end of a two-sided interval",
            ),
        },
        answer="""
Ten of ten show that the claim holds on at least 74 % of all seeds, twenty of twenty on 86 %. So "5/5" in a
table of this course means *more than half*, and "10/10" about *three quarters*, no more. Hence every lesson
is also run on fresh seeds.
""",
    ),
    "corrected_error": Exercise(
        title="Errors of the errors",
        task=r"""
In (8) $q$ comes from $n$ judged pairs, $s$ from $n_s$ pairs in which ours is known to be better, and $c$ from
$n_c$ in which it is known to be worse. All three scatter, and so does $p$. To first order its standard error
is

$$\text{error}^2 = \frac{1}{(s + c - 1)^2} \Bigl[ \frac{q (1 - q)}{n} + p^2\, \frac{s (1 - s)}{n_s}
+ (1 - p)^2\, \frac{c (1 - c)}{n_c} \Bigr] \tag{E4}$$

Derive it from (8) by its three derivatives, and write it. Then: a hundred thousand pairs are judged, but only
a hundred were checked by people. Which terms count?
""",
        minutes=20,
        difficulty="medium",
        solution=corrected_error,
        check=check_corrected_error,
        hints=(
            "Each rate has the variance p (1 - p) / n. Multiply it by its squared derivative, and add.",
            "For a perfect judge, s = c = 1, the usual error of a rate is left.",
            "slope = sensitivity + specificity - 1",
        ),
        edits={
            "judge_taken_for_known": Edit(
                function="corrected_error",
                old="    variance += rate**2 * sensitivity * (1 - sensitivity) / num_better\n"
                "    variance += (1 - rate) ** 2 * specificity * (1 - specificity) / num_worse\n",
                new="",
                says="takes the judge's error rates for exactly known",
            ),
            "not_stretched": Edit(
                function="corrected_error",
                old="return float(np.sqrt(variance) / slope)",
                new="return float(np.sqrt(variance))",
                says="forgets to divide by s + c - 1: a bad judge would look as sure as a good one",
            ),
            "rates_swapped": Edit(
                function="corrected_error",
                old="variance += rate**2 * sensitivity * (1 - sensitivity) / num_better\n"
                "    variance += (1 - rate) ** 2 *",
                new="variance += (1 - rate) ** 2 * sensitivity * (1 - sensitivity) / num_better\n"
                "    variance += rate**2 *",
                says="swaps the weights: sensitivity matters where ours is better",
            ),
        },
        answer="""
The second and the third: the people's hundred pairs set the error, and more judged pairs no longer help. (If
each pair is judged in both orders, $q$ scatters less than (E4) says: the error is then at most that.)
""",
    ),
}
