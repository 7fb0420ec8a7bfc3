# %% [markdown]
r"""
# B8 · Evaluating agents

**Question.** What is a result worth: how far can you believe a number from five seeds, a score over many
games, a win rate that a judge gave?

**Before this:** B2 (a mean and its standard error), B4 (a learner whose seeds differ). **Changes from B2:**
what is estimated is an *algorithm*, and every run of it is one draw. **Next:** C0, with intervals of its own.

**Time.** At most 5 s on 2 cores; with all evidence 10 s.

References: `agarwal2021rliable`, `henderson2018matters`, `colas2018howmany`, `efron1993bootstrap`,
`wang2016dueling`, `hessel2018rainbow`, `rogan1978estimating`, `zheng2023judging`.

Symbols: `n`, `k` seeds, `B` resamples, `R` experiments, `M` tasks, `G` pairs; $\Phi$ the normal distribution.
"""

# %%
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from chapters.utils import RunLog, in_range, plotting, run_lesson

NUM_SEEDS = (3, 5, 10, 20)
FAILING, NOISE = 0.2, 0.02  # bimodal returns: a fifth of the seeds ends near 0, the others near 1
CHUNK = 2_000_000  # resampled means in memory at once

Samples = Float[np.ndarray, "*R n"]
Ends = Float[np.ndarray, "2 *R"]
Pairs = Float[np.ndarray, "*G"]  # for each pair of texts 1 for yes or -1 for no; or the chance of a yes


@dataclass(frozen=True)
class Config:
    """How often intervals hold what they promise."""

    seed: int = 0
    """Seed of every draw."""
    num_experiments: Annotated[int, in_range(100, 100_000)] = 10_000
    """R: experiments of n seeds each; every one gets its intervals."""
    num_resamples: Annotated[int, in_range(50, 10_000)] = 1000
    """B: resamples of the bootstrap."""


SMOKE = {"num_experiments": 500, "num_resamples": 200}

# %% [markdown]
r"""
## 1. A run is a draw

Train with two seeds and you get two numbers (`henderson2018matters`). What a paper should report belongs to
the *distribution* that they come from: its mean or median, with an interval. A 95 % interval is a recipe
whose outcome holds the true value in 95 % of experiments. That promise can be tested: invent a distribution,
so that the truth is known, make ten thousand experiments, and count. The share is the recipe's *coverage*.

**Student's t**, for the mean; $\hat\sigma$ is the standard deviation with n - 1 for a divisor, and $t_{n-1}$
the number that Student's distribution with n - 1 degrees of freedom exceeds in 2.5 % of cases:

$$\bar x \pm t_{n-1}\,\frac{\hat\sigma}{\sqrt n}, \qquad t_4 = 2.78 \text{ for 95 \% and } n = 5 \tag{1}$$

```python
>>> t_interval(np.array([1.0, 2.0, 3.0])).round(2).tolist()
[-0.48, 4.48]
```

**The percentile bootstrap** asks the data themselves: draw n of the n values *with replacement*, take their
mean $\bar x^*$, do that B times. The middle 95 % of these means are the interval (`efron1993bootstrap`):

$$\bigl[\,\bar x^*_{(2.5\,\%)},\; \bar x^*_{(97.5\,\%)}\,\bigr] \tag{2}$$

But these means spread too little, by $\sqrt{(n - 1)/n}$: as if n were the divisor in $\hat\sigma$. And 95 %
of them lie within about 1.96 of their deviations, where Student needs 2.78. So (2) holds the mean of normal
returns about as often as a draw $T$ from Student's distribution fulfils $|T| \le 1.96 \sqrt{(n-1)/n}$: for
five seeds, 85 %. (*BCa* is a bootstrap that shifts the two levels for skew: exercise B8.2.)

**Order statistics**, for the *median*. A value lies below the median with chance 1/2 (or less, where values
can equal it). So all five lie below it with chance $2^{-5}$, and all above it likewise, *whatever the
distribution*. Otherwise their range holds it: with chance $1 - 2 \cdot 2^{-5}$. In general, from the k-th
lowest to the k-th highest:

$$\text{coverage}(n, k) = 1 - 2 \sum_{i = 0}^{k - 1} \binom{n}{i}\, 2^{-n} \tag{3}$$

Five seeds allow 94 % and no more, three 75 %. With ten one may leave out both extremes, and has 98 %:

```python
>>> [median_ranks(n) for n in (3, 5, 10)]
[(1, 0.75), (1, 0.9375), (2, 0.978515625)]
```
"""


# %%
def t_interval(values: Samples, confidence: float = 0.95) -> Ends:
    """Both ends of Student's interval for the mean, along the last axis."""
    n, mean = values.shape[-1], values.mean(axis=-1)
    error = values.std(axis=-1, ddof=1) / np.sqrt(n)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * error
    return np.stack([mean - half, mean + half])  # eq. (1)


def percentile_interval(values: Samples, resamples: Int[np.ndarray, "B n"], confidence: float = 0.95) -> Ends:
    """The bootstrap's interval for the mean; `resamples` say which values are drawn, alike for all rows."""
    n = values.shape[-1]
    counts = (resamples[:, :, None] == np.arange(n)).sum(axis=1)  # [B, n] how often each value is drawn
    means = values @ counts.T / n  # [*R, B]
    return np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=-1)  # eq. (2)


def median_ranks(n: int, confidence: float = 0.95) -> tuple[int, float]:
    """(k, coverage): from k-th lowest to k-th highest, the narrowest that covers enough, else the range."""
    rank, outside = 1, 0.5**n
    while rank < n // 2:
        more = outside + math.comb(n, rank) * 0.5**n
        if 1 - 2 * more < confidence:
            break
        rank, outside = rank + 1, more
    return rank, 1 - 2 * outside  # eq. (3)


def median_interval(values: Samples, confidence: float = 0.95) -> Ends:
    """Both ends of the interval for the median, along the last axis."""
    rank, _ = median_ranks(values.shape[-1], confidence)
    ordered = np.sort(values, axis=-1)
    return np.stack([ordered[..., rank - 1], ordered[..., -rank]])


# %% [markdown]
r"""
Two distributions stand for two kinds of learner. *Normal*: seeds differ a little. *Bimodal*: a fifth of them
never gets off the ground. Five such runs are all good in a third of experiments ($0.8^5$); then every
interval for the mean is tiny, and wrong. No recipe sees what did not occur.
"""


# %%
def draw_returns(kind: str, size: tuple[int, int], rng: np.random.Generator) -> tuple:
    """(returns [R, n] of n seeds in R experiments, their true mean, their true median)."""
    noise = rng.normal(size=size)
    if kind == "normal":
        return noise, 0.0, 0.0
    median = 1 + NOISE * stats.norm.ppf((0.5 - FAILING) / (1 - FAILING))  # 3/8 of the good are below
    return (rng.random(size) >= FAILING) + NOISE * noise, 1 - FAILING, median


def measure_coverage(cfg: Config, log: RunLog, rng: np.random.Generator) -> dict[tuple, float]:
    """Share of experiments whose interval holds the truth, by (kind, recipe, n)."""
    covered = {}
    for n in log.track(NUM_SEEDS, "numbers of seeds"):
        resamples = rng.integers(n, size=(cfg.num_resamples, n))
        for kind in ("normal", "bimodal"):
            values, mean, median = draw_returns(kind, (cfg.num_experiments, n), rng)
            parts = np.array_split(values, cfg.num_experiments * cfg.num_resamples // CHUNK + 1)
            found = {
                "t": (t_interval(values), mean),
                "percentile": (np.hstack([percentile_interval(v, resamples) for v in parts]), mean),
                "median": (median_interval(values), median),
            }
            for recipe, ((low, high), truth) in found.items():
                covered[kind, recipe, n] = float(((low <= truth) & (truth <= high)).mean())
                log.write(n, **{f"{kind}_{recipe}": covered[kind, recipe, n]})
    return covered


# %% [markdown]
r"""
## 2. Many games, one number

Scores of different games get one scale: 0 for a random player, 1 for a person (*human-normalised*). You may
meet a table that gives the "mean" over 57 Atari games of deep Q-networks (DQN, B4) and their successors. It
is the first row here; below it stands what the papers print:

| in % of a person's score | DQN | double DQN | dueling | Rainbow |
|---|---|---|---|---|
| called the mean | 79 | 117 | 121 | 223 |
| the median, in print | 79.1 | 117.8 | 151.5 | 223 |
| the mean, in print | 227.9 | 307.3 | 373.1 | not given |

So the first row shows *medians* (121 is neither), and the means are two to three times as high
(`wang2016dueling`, table 1; for Rainbow `hessel2018rainbow`, table 2). Neither says much. From the published
scores, game by game, DQN's mean comes out as 433 (section 5's picture). Half of that is *one game*: in Video
Pinball a person scores hardly more than a random player, so one divides by next to nothing. (With 0 for the
random player there the mean is 227.7, nearly as printed.) And the median is the 29th of 57 games: the 28
below could all fall to 0 and it would not move. Between the two stands the **interquartile mean** (IQM;
`agarwal2021rliable`): sort the $N = nM$ scores of n runs on M tasks, cut a quarter off both ends, average the
rest.

$$\text{IQM} = \frac{1}{N - 2c} \sum_{i = c + 1}^{N - c} x_{(i)}, \qquad c = \lfloor N / 4 \rfloor \tag{4}$$

*By hand*: of 1 to 8 it keeps 3 to 6 and is 4.5, also if the 8 becomes 800. To compare n runs of X with k runs
of Y, take the **probability of improvement**: how often a run of X beats a run of Y on the same task. A tie
counts half; $[\cdot]$ is 1 where it is true, else 0:

$$P(X > Y) = \frac{1}{M} \sum_{m} \frac{1}{n k} \sum_{i, j}
\Bigl( [\, x_{im} > y_{jm}\,] + \tfrac12\, [\, x_{im} = y_{jm}\,] \Bigr) \tag{5}$$

```python
>>> probability_of_improvement(np.array([[1.0], [3.0]]), np.array([[2.0], [3.0]]))
0.375
```
"""


# %%
def interquartile_mean(scores: Float[np.ndarray, "*R n M"]) -> Float[np.ndarray, "*R"] | float:
    """Mean of the middle half of all runs on all tasks."""
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)  # eq. (4)


def probability_of_improvement(x: Float[np.ndarray, "n M"], y: Float[np.ndarray, "k M"]) -> float:
    """How often a run of X scores above a run of Y on the same task."""
    above, equal = x[:, None] > y, x[:, None] == y  # [n, k, M]
    return float((above + 0.5 * equal).mean())  # eq. (5)


# %% [markdown]
r"""
## 3. How many seeds does a claim need?

Let two algorithms differ by a *gap* of $\delta$ standard deviations. The chance that a t-test with n seeds
each sees it is its **power** (`colas2018howmany`). On normal returns (6) is exact: the gap pushes the test's
statistic $T$ off 0 (*noncentral* t), and it must get beyond $t_{2n-2}$, a number as in (1):

$$\text{power} = P\bigl(|T| > t_{2n-2}\bigr), \qquad
T \sim \text{noncentral } t\bigl(2n - 2;\; \delta \sqrt{n/2}\bigr) \tag{6}$$

For a gap of one standard deviation and a power of 80 % it takes 17 seeds; five have 29 %:

```python
>>> [round(power(n, gap), 2) for n, gap in ((17, 1.0), (5, 1.0), (5, 2.0))]
[0.81, 0.29, 0.79]
```
"""


# %%
def power(n: int, gap: float, level: float = 0.05) -> float:
    """Chance that a two-sided t-test with n seeds each tells two algorithms apart."""
    degrees, push = 2 * n - 2, gap * math.sqrt(n / 2)
    bar = stats.t.ppf(1 - level / 2, degrees)
    return float(stats.nct.sf(bar, degrees, push) + stats.nct.cdf(-bar, degrees, push))  # eq. (6)


# %% [markdown]
r"""
## 4. When the score is a judge's opinion

Texts have no return. Somebody, often a language model, compares our answer with another's, and the *win rate*
is reported. Such judges favour what they read first, and what is longer (`zheng2023judging`). To see the
effect, build one, with $b, f, \ell = \pm 1$ for "ours is better, first, longer" and $\sigma$ logistic:

$$P(\text{says ours}) = \sigma\,(\beta_b\, b + \beta_f\, f + \beta_\ell\, \ell) \tag{7}$$

*Swapping* helps against position: show each pair in both orders, and average. Errors remain. Let the judge
know a better answer as such with probability $s$ (*sensitivity*) and a worse one with $c$ (*specificity*),
both measured on pairs of known quality. A true win rate $p$ then shows as $q$, and can be had back
(`rogan1978estimating`):

$$q = s\,p + (1 - c)(1 - p) \quad\Longrightarrow\quad p = \frac{q + c - 1}{s + c - 1} \tag{8}$$

```python
>>> round(float(corrected_rate(0.62, sensitivity=0.8, specificity=0.7)), 2)
0.64
```

Where length sways the judge, pairs in which ours is longer have another $s$ and $c$ than the rest. Correct
each group by its own, and weigh the groups by their shares. One $s$ and $c$ for both will do only if they
come from the judged mix of lengths, and $p$ is the same in both. Any other mix leaves a bias, and (8) makes
it larger: it divides by $s + c - 1 < 1$.
"""


# %%
def judge_says(better: Pairs, first: Pairs, longer: Pairs, weights: tuple[float, float, float]) -> Pairs:
    """The chance that the judge says "ours", given its weights of quality, position and length."""
    logits = weights[0] * better + weights[1] * first + weights[2] * longer
    return 1 / (1 + np.exp(-logits))  # eq. (7)


def corrected_rate(observed, sensitivity, specificity):
    """The true win rates behind observed ones: numbers, or arrays with an entry a group."""
    return (observed + specificity - 1) / (sensitivity + specificity - 1)  # eq. (8)


# %% [markdown]
r"""
## 5. Look, break, write

![With few seeds the bootstrap holds the mean less often than it promises on both kinds of returns, Student's
t on bimodal ones; the interval for the median covers what (3) says on both](results/B8.png)

**Student's t** keeps its promise on normal returns, **the bootstrap** not even there; where a fifth of the
seeds fails, neither does. **The interval for the median** covers what (3) says, on both. Its weakness is the
median's own: of ten seeds one may fail, and median and interval look spotless. So the tables of this course
show the median with (3)'s interval and, where a claim fails on a seed beyond it, the worst value. An audit in
the evidence takes the recorded seeds of each quantity of this course for a whole population, from which five
are drawn. How often do their intervals hold its mean, or its median?

![Coverage of each recorded quantity, each curve sorted: the bootstrap far below its promise, Student's t
mostly below, the interval for the median at 94 %, or above where draws may equal it](results/B8_audit.png)

Over many games no number alone will do; a *profile* shows the share of games above each level. For an IQM
take a *stratified* bootstrap, which resamples the runs of each game by itself: with five runs on each of ten
games, 91 % of its intervals hold the true IQM. Last the judge, given two equally good models of which ours
writes the longer answer four times in five:

![Left: profiles of two published agents, with median, IQM and mean. Right: the judge's win rates;
swapping helps, error rates of an even mix do harm, those by length give one half](results/B8_games.png)

**The verdict.** Five seeds give an interval for the median, their range, at 94 %. They give none at 95 % for
a mean, unless returns are known to be normal. Over many games show the profile, and the IQM with a stratified
interval. A judge's win rate is worth nothing as it stands; swapped, and corrected by error rates from pairs
like those it judged, it is right up to an error that one can state (exercise B8.4).

<!-- results: B8 -->

`rl run B8`: 3 s; with `--evidence`: 6 s, 222 MB; with `--smoke --evidence`: 3 s.
(Measured: CPU seconds of the whole process on Linux x86_64, 2 cores; the header says what it may take.)

| claim | median (98 % interval), 10 seeds | bound | holds |
| --- | --- | --- | --- |
| t_coverage                 | 0.95 (0.949 to 0.953)       | 0.95 ± 0.01   | 10/10 |
| percentile_coverage        | 0.838 (0.83 to 0.842)       | 0.8455 ± 0.03 | 10/10 |
| median_coverage_error      | 0.00361 (0.0027 to 0.005)   | ≤ 0.015       | 10/10 |
| median_exact               | 0                           | ≤ 1e-12       | 10/10 |
| normal_t_error *           | 0.0036 (0.0023 to 0.0048)   | ≤ 0.015       | 10/10 |
| normal_percentile_error *  | 0.0087 (0.00724 to 0.0157)  | ≤ 0.03        | 10/10 |
| bimodal_t_error *          | 0.00465 (0.00354 to 0.0069) | ≤ 0.02        | 10/10 |
| bimodal_percentile_error * | 0.0081 (0.00576 to 0.0112)  | ≤ 0.03        | 10/10 |
| bca_coverage *             | 0.836 (0.831 to 0.84)       | 0.8455 ± 0.03 | 10/10 |
| recorded_median *          | 0.938                       | ≥ 0.9375      | 10/10 |
| recorded_percentile *      | 0.809 (0.805 to 0.81)       | ≤ 0.9         | 10/10 |
| recorded_bca *             | 0.814 (0.812 to 0.815)      | ≤ 0.9         | 10/10 |
| recorded_t *               | 0.915                       | ≤ 0.95        | 10/10 |
| rliable_gap *              | 1.11e-16                    | ≤ 1e-10       | 10/10 |
| stratified_coverage *      | 0.907 (0.901 to 0.913)      | 0.9127 ± 0.03 | 10/10 |
| iqm_coverage *             | 0.909 (0.901 to 0.914)      | 0.9127 ± 0.03 | 10/10 |
| race_of_three *            | 0.756 (0.741 to 0.763)      | 0.75 ± 0.06   | 10/10 |
| race_of_five *             | 0.937 (0.932 to 0.944)      | 0.9375 ± 0.03 | 10/10 |
| printed_medians *          | 0.0817                      | ≤ 0.1         | 10/10 |
| one_game *                 | 0.519                       | ≥ 0.5         | 10/10 |
| blind_median *             | 0                           | ≤ 0           | 10/10 |
| iqm_sees *                 | 0.719                       | ≤ 0.9         | 10/10 |
| power_error *              | 0.00297 (0.0027 to 0.00424) | ≤ 0.015       | 10/10 |
| judge_corrected *          | 2.22e-16                    | ≤ 1e-12       | 10/10 |
| swap_cancels_position *    | 0                           | ≤ 1e-12       | 10/10 |
| judge_interval *           | 0.951 (0.949 to 0.954)      | 0.95 ± 0.02   | 10/10 |
| judge_raw *                | 0                           | ≤ 0.05        | 10/10 |

\* measured by the evidence beside the lesson

<details><summary>What each row says, and in brackets what its numbers count</summary>

- `t_coverage`: Student's interval of five normal returns holds the mean as often as it promises (of
  experiments)
- `percentile_coverage`: the percentile bootstrap's interval of five normal returns holds it much less often
  (of experiments)
- `median_coverage_error`: on normal and bimodal returns the interval for the median holds it as often as
  equation 3 says (largest difference)
- `median_exact`: and equation 3 is right (largest difference)
- `normal_t_error`: on normal returns of 3 to 20 seeds Student's t covers what theory says (largest
  difference)
- `normal_percentile_error`: on normal returns of 3 to 20 seeds the percentile bootstrap covers what theory
  says (largest difference)
- `bimodal_t_error`: on bimodal returns of 3 to 20 seeds Student's t covers what enumeration says (largest
  difference)
- `bimodal_percentile_error`: on bimodal returns of 3 to 20 seeds the percentile bootstrap covers what
  enumeration says (largest difference)
- `bca_coverage`: on five normal returns BCa covers no more than the percentile bootstrap (of experiments)
- `recorded_median`: the range of five recorded seeds holds the median of each quantity of the course as
  equation 3 says (lowest coverage of 164 quantities)
- `recorded_percentile`: on recorded quantities the percentile bootstrap of five seeds misses at least twice
  as often as promised (median coverage of 164 quantities)
- `recorded_bca`: on recorded quantities BCa of five seeds misses at least twice as often as promised (median
  coverage of 164 quantities)
- `recorded_t`: on recorded quantities Student's interval of five seeds misses more often than promised, too
  (median coverage of 164 quantities)
- `rliable_gap`: mean, median, interquartile mean, optimality gap, P(X > Y) and profile equal rliable's
  (largest difference)
- `stratified_coverage`: resampled task by task, the mean over ten tasks of five runs is covered better, but
  not as promised (of experiments)
- `iqm_coverage`: so is the interquartile mean that endlessly many runs would have (of experiments)
- `race_of_three`: the bootstrap of a ratio of medians, the interval of the benchmarks, covers too little with
  3 seeds (of comparisons)
- `race_of_five`: with 5 and 10 seeds it nearly keeps its promise (lower share of comparisons)
- `printed_medians`: the published scores of 57 games have the medians that are in print (% of a person's
  score)
- `one_game`: half of the mean that DQN has over 57 games is one game (share of the mean)
- `blind_median`: with its 28 lowest games at 0 the median of DQN is what it was (difference)
- `iqm_sees`: the interquartile mean falls (of what it was)
- `power_error`: a t-test sees gaps of 1 and 2 deviations, with 5 and 17 seeds, as often as equation 6 says
  (largest difference)
- `judge_corrected`: swapped and with error rates by length, a judge's win rate is the true one (difference)
- `swap_cancels_position`: of two equal models a judge that minds position only says one half, when swapped
  (difference)
- `judge_interval`: with finite numbers of pairs, 95 % intervals of the corrected win rate hold the truth (of
  evaluations)
- `judge_raw`: those of the raw win rate do not (of evaluations)
</details>

<!-- /results -->

**Break it.** `rl break B8 n_for_divisor` takes n for the divisor of the deviation: Student becomes too sure
as well. `rl break B8 leaves_out_more` leaves out one seed more at each end of the interval for the median.

**Exercises.**

<!-- exercises: B8 -->

*B8.1 · The heart of it* (35 minutes, easy). Write Student's interval, (1), for many experiments at once; the
ranks and the coverage of the interval for the median, (3); the probability of improvement, (5); and the
corrected win rate, (8). `rl exercise B8.t_interval`, `rl exercise B8.median_ranks`, `rl exercise
B8.probability_of_improvement`, `rl exercise B8.corrected_rate`.

*B8.2 · The bootstrap, corrected* (30 minutes, hard). *BCa* (bias-corrected and accelerated,
`efron1993bootstrap`) does not take the quantiles of the resampled means at $\alpha = 2.5$ % and $97.5$ %, but
at levels that it shifts for bias, by $z_0$, and for skew, by $a$. Let $z_0$ be the normal quantile of the
share of resampled means below the mean (equal ones count half), $\bar x_{(-i)}$ the mean without value $i$
and $d_i = \bar x - \bar x_{(-i)}$:

$$\alpha \;\mapsto\; \Phi\Bigl(z_0 + \frac{z}{1 - a\, z}\Bigr), \qquad z = z_0 + \Phi^{-1}(\alpha) \tag{E1}$$

$$a = \frac{\sum_i d_i^3}{6\,\bigl(\sum_i d_i^2\bigr)^{3/2}} \tag{E2}$$

The resamples are given. Then: with no bias and no skew, which recipe is it? `rl exercise B8.bca_interval`.

<details><summary>Answer</summary>

The percentile interval. On normal returns it therefore gains nothing: with five seeds BCa covers as little as
the percentile bootstrap, and estimates of $z_0$ and $a$ from five numbers are noise.
</details>

*B8.3 · Five of five* (20 minutes, medium). A claim holds on $h$ of $n$ recorded seeds. On what share $p$ of
*all* seeds does it hold? If $p$ were small, so many successes would be unlikely. The smallest share that is
credible at 95 % makes them just 5 % likely:

$$\sum_{i = h}^{n} \binom{n}{i}\, p^i\, (1 - p)^{n - i} = 0.05 \tag{E3}$$

and it is 0 if $h = 0$. Write it, by halving or by a quantile of the beta distribution. *By hand*, all of
five: $p^5 = 0.05$, so $p = 0.55$.

What do ten of ten show, and what twenty of twenty? `rl exercise B8.least_share`.

<details><summary>Answer</summary>

Ten of ten show that the claim holds on at least 74 % of all seeds, twenty of twenty on 86 %. So "5/5" in a
table of this course means *more than half*, and "10/10" about *three quarters*, no more. Hence every lesson
is also run on fresh seeds.
</details>

*B8.4 · Errors of the errors* (20 minutes, medium). In (8) $q$ comes from $n$ judged pairs, $s$ from $n_s$
pairs in which ours is known to be better, and $c$ from $n_c$ in which it is known to be worse. All three
scatter, and so does $p$. To first order its standard error is

$$\text{error}^2 = \frac{1}{(s + c - 1)^2} \Bigl[ \frac{q (1 - q)}{n} + p^2\, \frac{s (1 - s)}{n_s}
+ (1 - p)^2\, \frac{c (1 - c)}{n_c} \Bigr] \tag{E4}$$

Derive it from (8) by its three derivatives, and write it. Then: a hundred thousand pairs are judged, but only
a hundred were checked by people. Which terms count? `rl exercise B8.corrected_error`.

<details><summary>Answer</summary>

The second and the third: the people's hundred pairs set the error, and more judged pairs no longer help. (If
each pair is judged in both orders, $q$ scatters less than (E4) says: the error is then at most that.)
</details>

*B8.5 · Find the bug* (10 minutes). `rl exercise B8.bug` writes a function of this lesson with a mistake in
it; mend it.

<!-- /exercises -->
"""


# %%
def draw(covered: dict[tuple, float], log: RunLog) -> None:
    """Coverage of each recipe against the number of seeds: normal returns left, bimodal ones right."""
    figure, axes = plotting.new_figure(1, 2, width=5.2)
    recipes = {"t": "mean, Student's t", "percentile": "mean, bootstrap", "median": "median, eq. (3)"}
    for ax, kind in zip(axes, ("normal", "bimodal")):
        ax.axhline(0.95, label="promised", **plotting.REFERENCE)
        for recipe, label in recipes.items():
            ax.plot(NUM_SEEDS, [covered[kind, recipe, n] for n in NUM_SEEDS], "o-", label=label)
        ax.set(xscale="log", ylim=(0.4, 1.0), xlabel="seeds", title=f"{kind.capitalize()} returns")
        ax.set_xticks(NUM_SEEDS, [str(n) for n in NUM_SEEDS])
        ax.minorticks_off()
    axes[0].set_ylabel("intervals that hold the truth")
    axes[1].legend(loc="lower right")
    log.figure(figure)


def main(cfg: Config, log: RunLog) -> None:
    covered = measure_coverage(cfg, log, np.random.default_rng(cfg.seed))
    draw(covered, log)
    log.claim(
        "t_coverage",
        "Student's interval of five normal returns holds the mean as often as it promises",
        covered["normal", "t", 5],
        near=(0.95, 0.01),
        unit="of experiments",
        source="the t distribution",
    )
    log.claim(
        "percentile_coverage",
        "the percentile bootstrap's interval of five normal returns holds it much less often",
        covered["normal", "percentile", 5],
        near=(2 * stats.t.cdf(1.96 * math.sqrt(4 / 5), 4) - 1, 0.03),
        unit="of experiments",
        source="the t distribution, within 1.96 errors that have n for a divisor",
    )
    log.claim(
        "median_coverage_error",
        "on normal and bimodal returns the interval for the median holds it as often as equation 3 says",
        max(abs(covered[k, r, n] - median_ranks(n)[1]) for k, r, n in covered if r == "median"),
        at_most=0.015,
        unit="largest difference",
        source="the binomial distribution",
    )
    ranks, said = np.transpose([median_ranks(n) for n in NUM_SEEDS])
    log.claim(
        "median_exact",
        "and equation 3 is right",
        np.abs(1 - 2 * stats.binom.cdf(ranks - 1, NUM_SEEDS, 0.5) - said).max(),
        at_most=1e-12,
        unit="largest difference",
        source="scipy's binomial distribution",
        always=True,
    )
    log.keep(covered=covered)


if __name__ == "__main__":
    run_lesson(main, Config, SMOKE)
