"""B8's evidence: coverage against exact figures, the audit, games and runs in one number, seeds, the judge.

RLIABLE holds what rliable 1.2.0 (agarwal2021rliable) gives for the scores of `formula_scores`, computed in an
environment of its own: it installs beside this course's packages, but a package under it (arch 7.2.0) does
not import with pandas 3. The functions are aggregate_mean, aggregate_median, aggregate_iqm,
aggregate_optimality_gap, probability_of_improvement, and create_performance_profile at PROFILE_LEVELS.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

from chapters.B_core_algorithms import B8_evaluating_agents as lesson
from chapters.B_core_algorithms.checks.B8_exercises import corrected_error
from chapters.B_core_algorithms.evidence import B8_audit as audit
from chapters.exact.atari import PRINTED, human_normalised
from chapters.utils import RunLog, in_range, plotting

PROFILE_LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0)
RLIABLE = {
    (3, 1): (
        (0.3666666666666667, 0.3666666666666667, 0.3666666666666667, 0.6333333333333333, 0.2222222222222222),
        (0.6666666666666666, 0.3333333333333333, 0.0, 0.0, 0.0),
    ),
    (5, 4): (
        (0.6950000000000001, 0.73, 0.6900000000000001, 0.39, 0.365),
        (0.9, 0.6, 0.2, 0.0, 0.0),
    ),
    (10, 7): (
        (0.8828571428571428, 0.8100000000000002, 0.7916666666666665, 0.3628571428571429, 0.3935714285714286),
        (0.8857142857142857, 0.6142857142857143, 0.37142857142857144, 0.18571428571428572,
         0.08571428571428572),
    ),
}  # fmt: skip
"""{(runs, tasks): ((mean, median, interquartile mean, optimality gap, P(X > Y)), profile)}"""


@dataclass(frozen=True)
class Config:
    """The audit, suites of tasks, power, and a judge with known faults."""

    num_audit_samples: Annotated[int, in_range(10, 100_000)] = 400
    """Draws of five seeds from each recorded quantity, for the bootstrap's intervals."""
    num_suites: Annotated[int, in_range(10, 10_000)] = 4000
    """Experiments of five runs on each of ten tasks."""
    num_races: Annotated[int, in_range(10, 10_000)] = 1000
    """Comparisons of two learners' times, as in benchmarks/."""
    num_comparisons: Annotated[int, in_range(100, 1_000_000)] = 20_000
    """Comparisons of two algorithms, for the power."""
    quality_weight: Annotated[float, in_range(0.1, 5.0)] = 1.0
    """How strongly the judge leans towards the better answer, in logits."""
    position_weight: Annotated[float, in_range(-3.0, 3.0)] = 0.4
    """How strongly it leans towards the answer that it reads first."""
    length_weight: Annotated[float, in_range(-3.0, 3.0)] = 0.8
    """How strongly it leans towards the longer answer."""
    share_longer: Annotated[float, in_range(0.0, 1.0)] = 0.8
    """In what share of the judged pairs ours is the longer answer."""
    num_judged: Annotated[int, in_range(10, 1_000_000)] = 1000
    """Pairs that the judge compares, in one evaluation."""
    num_known: Annotated[int, in_range(10, 1_000_000)] = 400
    """Pairs of known quality, of each kind and length, for the judge's error rates."""
    num_evaluations: Annotated[int, in_range(10, 100_000)] = 4000
    """Repetitions of such an evaluation."""


SMOKE = {
    "num_audit_samples": 20,
    "num_suites": 50,
    "num_races": 20,
    "num_comparisons": 2000,
    "num_evaluations": 200,
}


def normal_theory(n: int) -> float:
    """About what the percentile bootstrap covers on n normal returns: Student within 1.96 smaller errors."""
    return float(2 * stats.t.cdf(1.96 * np.sqrt((n - 1) / n), n - 1) - 1)


def enumerated_coverage(recipe: str, n: int, good: float = 1 - lesson.FAILING) -> float:
    """Coverage of the mean of bimodal returns without noise, by enumeration of how many of n seeds are good.

    The bootstrap's quantiles are those of a binomial distribution. Where one of them *is* the mean, a little
    noise decides: such a case counts half. With all seeds alike the interval is a point beside the mean.
    """
    total = 0.0
    for k in range(1, n):
        share, chance = k / n, stats.binom.pmf(k, n, good)
        if recipe == "t":
            half = stats.t.ppf(0.975, n - 1) * np.sqrt(share * (1 - share) / (n - 1))
            total += chance * (abs(good - share) <= half)
        else:
            low, high = stats.binom.ppf((0.025, 0.975), n, share) / n
            inside = low < good - 1e-9 and good + 1e-9 < high
            edge = min(abs(low - good), abs(high - good)) < 1e-9
            total += chance * (1.0 if inside else 0.5 * edge)
    return float(total)


def claim_coverage(cfg: lesson.Config, log: RunLog, rng: np.random.Generator) -> None:
    covered = log.kept["covered"]
    normal = {"t": lambda n: 0.95, "percentile": normal_theory}
    for kind, recipe, allowed in (
        ("normal", "t", 0.015), ("normal", "percentile", 0.03),
        ("bimodal", "t", 0.02), ("bimodal", "percentile", 0.03),
    ):  # fmt: skip
        exact = {
            n: enumerated_coverage(recipe, n) if kind == "bimodal" else normal[recipe](n)
            for n in lesson.NUM_SEEDS
        }
        name = {"t": "Student's t", "percentile": "the percentile bootstrap"}[recipe]
        says = {"normal": "theory", "bimodal": "enumeration"}[kind]
        log.claim(
            f"{kind}_{recipe}_error",
            f"on {kind} returns of 3 to 20 seeds {name} covers what {says} says",
            max(abs(covered[kind, recipe, n] - exact[n]) for n in lesson.NUM_SEEDS),
            at_most=allowed,
            unit="largest difference",
            source="the t distribution" if kind == "normal" else "how many of n seeds are good, enumerated",
        )
    values, mean, _ = lesson.draw_returns("normal", (cfg.num_experiments, 5), rng)
    resamples = rng.integers(5, size=(cfg.num_resamples, 5))
    parts = np.array_split(values, cfg.num_experiments * cfg.num_resamples // lesson.CHUNK + 1)
    low, high = np.hstack([audit.bca_interval(part, resamples) for part in parts])
    log.claim(
        "bca_coverage",
        "on five normal returns BCa covers no more than the percentile bootstrap",
        ((low <= mean) & (mean <= high)).mean(),
        near=(normal_theory(5), 0.03),
        unit="of experiments",
        source="nothing to correct on a symmetric distribution",
    )


def claim_audit(cfg: lesson.Config, extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    recorded = audit.populations()
    found = {
        "median": [audit.median_coverage(population) for population in recorded],
        "t": [audit.t_coverage(population) for population in recorded],
    }
    found["percentile"], found["bca"] = zip(
        *(
            audit.bootstrap_coverage(population, extra.num_audit_samples, cfg.num_resamples // 2, rng)
            for population in log.track(recorded, "recorded quantities")
        )
    )
    for step in range(len(recorded)):
        log.write(step, **{f"recorded_{recipe}": sorted(shares)[step] for recipe, shares in found.items()})
    log.claim(
        "recorded_median",
        "the range of five recorded seeds holds the median of each quantity of the course as equation 3 says",
        min(found["median"]),
        at_least=15 / 16,
        unit=f"lowest coverage of {len(recorded)} quantities",
        source="binomial distribution, exact",
        always=True,
    )
    for recipe, name in (("percentile", "the percentile bootstrap"), ("bca", "BCa")):
        log.claim(
            f"recorded_{recipe}",
            f"on recorded quantities {name} of five seeds misses at least twice as often as promised",
            np.median(found[recipe]),
            at_most=0.9,
            unit=f"median coverage of {len(recorded)} quantities",
            source="5 % promised",
        )
    log.claim(
        "recorded_t",
        "on recorded quantities Student's interval of five seeds misses more often than promised, too",
        np.median(found["t"]),
        at_most=0.95,
        unit=f"median coverage of {len(recorded)} quantities",
        source="5 % promised; enumeration of all draws of five",
        always=True,
    )
    draw_audit(found, log)


def formula_scores(runs: int, tasks: int) -> tuple[Float[np.ndarray, "n M"], Float[np.ndarray, "n M"]]:
    """Scores of two algorithms by a formula, with ties, so that any program can make the same."""
    i, j = np.ogrid[:runs, :tasks]
    x, y = (np.sin(1.7 * i + 2.3 * j + k) ** 2 * (1 + j / 4) + k / 5 for k in (0, 1))
    return np.round(x, 1), np.round(y, 1)


def aggregates(scores: Float[np.ndarray, "n M"]) -> tuple[float, float, float, float]:
    """Mean; median over tasks of the mean over runs; interquartile mean; what scores up to 1 lack to 1."""
    median = np.median(scores.mean(axis=0))
    iqm = lesson.interquartile_mean(scores)
    return float(scores.mean()), float(median), float(iqm), float(1 - np.minimum(scores, 1).mean())


def performance_profile(
    scores: Float[np.ndarray, "n M"], levels: Float[np.ndarray, " K"]
) -> Float[np.ndarray, " K"]:
    """The share of runs, over all tasks, that score above each level."""
    return (scores[:, :, None] > levels).mean(axis=(0, 1))


def mixed_iqm(levels: Float[np.ndarray, " M"]) -> float:
    """The interquartile mean of endlessly many runs, normal about each task's level with deviation 1.

    Between a and b a normal value about m adds m (Phi(b - m) - Phi(a - m)) - (phi(b - m) - phi(a - m)).
    """

    def excess(x: float, share: float) -> float:
        return stats.norm.cdf(x - levels).mean() - share

    low, high = (
        optimize.brentq(excess, levels.min() - 9, levels.max() + 9, args=(share,)) for share in (0.25, 0.75)
    )
    chances = stats.norm.cdf(high - levels) - stats.norm.cdf(low - levels)
    densities = stats.norm.pdf(high - levels) - stats.norm.pdf(low - levels)
    return float((levels * chances - densities).mean() / 0.5)


def claim_aggregates(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    gaps = []
    for size, (numbers, profile) in RLIABLE.items():
        x, y = formula_scores(*size)
        ours = (*aggregates(x), lesson.probability_of_improvement(x, y))
        gaps += [*np.abs(np.subtract(ours, numbers))]
        gaps += [*np.abs(performance_profile(x, np.array(PROFILE_LEVELS)) - profile)]
    log.claim(
        "rliable_gap",
        "mean, median, interquartile mean, optimality gap, P(X > Y) and profile equal rliable's",
        max(gaps),
        at_most=1e-10,
        unit="largest difference",
        source="rliable 1.2.0",
        always=True,
    )
    runs, tasks, num_resamples = 5, 10, 1000
    levels = rng.normal(size=tasks)
    scores = levels + rng.normal(size=(extra.num_suites, runs, tasks))
    drawn = rng.integers(runs, size=(num_resamples, runs, tasks))  # for each task by itself: stratified
    counts = (drawn[:, :, None] == np.arange(runs)[:, None]).sum(axis=1)  # [B, n, M] how often each run
    means = scores.reshape(len(scores), -1) @ counts.reshape(num_resamples, -1).T / (runs * tasks)
    low, high = np.quantile(means, (0.025, 0.975), axis=1)
    theory = 2 * stats.t.cdf(1.96 * np.sqrt((runs - 1) / runs), tasks * (runs - 1)) - 1
    log.claim(
        "stratified_coverage",
        "resampled task by task, the mean over ten tasks of five runs is covered better, but not as promised",
        ((low <= levels.mean()) & (levels.mean() <= high)).mean(),
        near=(theory, 0.03),
        unit="of experiments",
        source="the t distribution, with n for a divisor",
    )
    truth, held = mixed_iqm(levels), []
    for suite in scores[: extra.num_suites // 2]:
        means = lesson.interquartile_mean(suite[drawn[:500], np.arange(tasks)])
        low, high = np.quantile(means, (0.025, 0.975))
        held.append(low <= truth <= high)
    log.claim(
        "iqm_coverage",
        "so is the interquartile mean that endlessly many runs would have",
        np.mean(held),
        near=(theory, 0.03),
        unit="of experiments",
        source="the t distribution, with n for a divisor: an IQM is nearly a mean of runs",
    )


def race_coverage(n: int, num_races: int, num_resamples: int, rng: np.random.Generator) -> float:
    """How often the bootstrap, over pairs of n seeds, holds the true ratio of two learners' median times."""
    ours, theirs = np.exp(0.5 * rng.normal(size=(2, num_races, n)))  # their true medians are both 1
    drawn = rng.integers(n, size=(num_resamples, n))
    ratios = np.stack(
        [np.median(b[drawn], axis=1) / np.median(a[drawn], axis=1) for a, b in zip(ours, theirs)]
    )
    low, high = np.quantile(ratios, (0.025, 0.975), axis=1)
    return float(((low <= 1) & (high >= 1)).mean())


def claim_races(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    covered = {n: race_coverage(n, extra.num_races, 500, rng) for n in (3, 5, 10)}
    log.claim(
        "race_of_three",
        "the bootstrap of a ratio of medians, the interval of the benchmarks, covers too little with 3 seeds",
        covered[3],
        near=(lesson.median_ranks(3)[1], 0.06),
        unit="of comparisons",
        source="of three seeds a median's bootstrap is their range: equation 3",
    )
    log.claim(
        "race_of_five",
        "with 5 and 10 seeds it nearly keeps its promise",
        min(covered[5], covered[10]),
        near=(lesson.median_ranks(5)[1], 0.03),
        unit="lower share of comparisons",
        source="of five seeds a median's bootstrap is their range: equation 3",
    )


def claim_games(log: RunLog) -> None:
    """Two published tables of 57 games, by the references of chapters/exact/atari.py."""
    scores = {"DQN": human_normalised("dqn"), "dueling": human_normalised("dueling")}
    log.claim(
        "printed_medians",
        "the published scores of 57 games have the medians that are in print",
        max(abs(100 * np.median(games) - PRINTED[name][0]) for name, games in scores.items()),
        at_most=0.1,
        unit="% of a person's score",
        source="wang2016dueling, table 1",
        always=True,
    )
    dqn = scores["DQN"]
    log.claim(
        "one_game",
        "half of the mean that DQN has over 57 games is one game",
        dqn.max() / dqn.sum(),
        at_least=0.5,
        unit="share of the mean",
        source="bellemare2017distributional, scores by game",
        always=True,
    )
    zeroed = np.where(dqn < np.median(dqn), 0.0, dqn)
    log.claim(
        "blind_median",
        "with its 28 lowest games at 0 the median of DQN is what it was",
        abs(np.median(zeroed) - np.median(dqn)),
        at_most=0,
        unit="difference",
        source="a median is one game",
        always=True,
    )
    log.claim(
        "iqm_sees",
        "the interquartile mean falls",
        lesson.interquartile_mean(zeroed[None]) / lesson.interquartile_mean(dqn[None]),
        at_most=0.9,
        unit="of what it was",
        source="14 of the 29 games that it averages are now 0",
        always=True,
    )


def claim_power(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    gaps = []
    for n, gap in ((5, 1.0), (5, 2.0), (17, 1.0)):
        first = rng.normal(size=(extra.num_comparisons, n))
        second = gap + rng.normal(size=(extra.num_comparisons, n))
        seen = (stats.ttest_ind(first, second, axis=1).pvalue < 0.05).mean()
        log.write(n, **{f"power_gap_{gap:g}": seen})
        gaps.append(abs(seen - lesson.power(n, gap)))
    log.claim(
        "power_error",
        "a t-test sees gaps of 1 and 2 deviations, with 5 and 17 seeds, as often as equation 6 says",
        max(gaps),
        at_most=0.015,
        unit="largest difference",
        source="noncentral t distribution",
    )


def judged(weights: tuple[float, float, float]) -> Float[np.ndarray, "2 2 2"]:
    """P(says ours) by [better, first, longer], 0 for no and 1 for yes."""
    better, first, longer = np.meshgrid(*[np.array([-1.0, 1.0])] * 3, indexing="ij")
    return lesson.judge_says(better, first, longer, weights)


def win_rates(
    weights: tuple[float, float, float], truth: Float[np.ndarray, " 2"], share_longer: float
) -> dict[str, float]:
    """Exact win rates, `truth` for [shorter, longer] answers: as judged, swapped, and corrected.

    Once by the error rates of pairs half of which are longer, whatever the judged ones are; once by length.
    """
    says = judged(weights)
    groups = np.array([1 - share_longer, share_longer])
    observed = truth * says[1] + (1 - truth) * says[0]  # [first, longer]
    swapped = observed.mean(axis=0)
    sensitivity, specificity = says[1].mean(axis=0), 1 - says[0].mean(axis=0)  # [longer]
    half = lesson.corrected_rate(groups @ swapped, sensitivity.mean(), specificity.mean())
    return {
        "as judged,\nours first": float(groups @ observed[1]),
        "swapped": float(groups @ swapped),
        "error rates of\nan even mix": float(half),
        "error rates\nby length": float(groups @ lesson.corrected_rate(swapped, sensitivity, specificity)),
    }


def evaluations(
    extra: Config, truth: float, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Repeated evaluations with finite numbers of pairs: raw win rates, corrected ones, and their errors."""
    says = judged((extra.quality_weight, extra.position_weight, extra.length_weight)).mean(axis=1)
    size = extra.num_evaluations
    raw, rate, variance = (np.zeros(size) for _ in range(3))
    for longer, share in enumerate((1 - extra.share_longer, extra.share_longer)):
        count = round(share * extra.num_judged)
        if not count:
            continue
        p = truth * says[1, longer] + (1 - truth) * says[0, longer]
        q = rng.binomial(count, p, size) / count
        s, false = (rng.binomial(extra.num_known, says[b, longer], size) / extra.num_known for b in (1, 0))
        known = extra.num_known
        with np.errstate(
            divide="ignore", invalid="ignore"
        ):  # a judge that looks like a coin corrects nothing
            errors = [corrected_error(*one, count, known, known) for one in zip(q, s, 1 - false)]
            rate += share * lesson.corrected_rate(q, s, 1 - false)
        raw += share * q
        variance += (share * np.array(errors)) ** 2
    return raw, rate, np.sqrt(variance)


def claim_judge(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    weights = (extra.quality_weight, extra.position_weight, extra.length_weight)
    truths = (np.array([0.5, 0.5]), np.array([0.3, 0.8]))
    gaps = []
    for truth in truths:
        rates = win_rates(weights, truth, extra.share_longer)
        gaps.append(
            abs(rates["error rates\nby length"] - (1 - extra.share_longer, extra.share_longer) @ truth)
        )
    log.claim(
        "judge_corrected",
        "swapped and with error rates by length, a judge's win rate is the true one",
        max(gaps),
        at_most=1e-12,
        unit="difference",
        source="the truth, by construction",
        always=True,
    )
    fair = win_rates((*weights[:2], 0.0), truths[0], extra.share_longer)
    log.claim(
        "swap_cancels_position",
        "of two equal models a judge that minds position only says one half, when swapped",
        abs(fair["swapped"] - 0.5),
        at_most=1e-12,
        unit="difference",
        source="symmetry of equation 7",
        always=True,
    )
    raw, rate, error = evaluations(extra, 0.5, rng)
    log.claim(
        "judge_interval",
        "with finite numbers of pairs, 95 % intervals of the corrected win rate hold the truth",
        (np.abs(rate - 0.5) <= 1.96 * error).mean(),
        near=(0.95, 0.02),
        unit="of evaluations",
        source="central limit theorem, equation E4",
    )
    log.claim(
        "judge_raw",
        "those of the raw win rate do not",
        (np.abs(raw - 0.5) <= 1.96 * np.sqrt(raw * (1 - raw) / extra.num_judged)).mean(),
        at_most=0.05,
        unit="of evaluations",
        source="as many as may miss",
    )
    draw_games(win_rates(weights, truths[0], extra.share_longer), log)


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng(cfg.seed + 1_000_000)  # a stream beside the lesson's
    claim_coverage(cfg, log, rng)
    claim_audit(cfg, extra, log, rng)
    claim_aggregates(extra, log, rng)
    claim_races(extra, log, rng)
    claim_games(log)
    claim_power(extra, log, rng)
    claim_judge(extra, log, rng)


def draw_audit(found: dict[str, list[float]], log: RunLog) -> None:
    """Coverage over the recorded quantities, each recipe's sorted."""
    figure, ax = plotting.new_figure(width=7.4, height=4.4)
    names = {
        "median": ("median: their range, eq. (3)", plotting.GREEN),
        "t": ("mean: Student's t", plotting.BLUE),
        "percentile": ("mean: percentile bootstrap", plotting.ORANGE),
        "bca": ("mean: BCa bootstrap", plotting.RED),
    }
    for recipe, (label, color) in names.items():
        ax.plot(np.linspace(0, 100, len(found[recipe])), sorted(found[recipe]), color=color, label=label)
    ax.axhline(0.95, label="promised", **plotting.REFERENCE)
    ax.set(
        xlabel=f"% of {len(found['t'])} recorded quantities, each curve sorted by itself",
        ylabel="coverage of five seeds",
        ylim=(0, 1.02),
    )
    ax.set_title("The course's own numbers")
    ax.legend(loc="lower right", fontsize=10)
    log.figure(figure, "audit")


def draw_games(rates: dict[str, float], log: RunLog) -> None:
    """Left: performance profiles of two published tables. Right: a judge's win rates, and the truth."""
    figure, (profiles, bars) = plotting.new_figure(1, 2, width=5.8, height=4.4)
    levels = np.logspace(-1.5, 2.2, 500)
    for color, name, label in (
        (plotting.BLUE, "dqn", "DQN"), (plotting.ORANGE, "dueling", "dueling network"),
    ):  # fmt: skip
        scores = human_normalised(name)[None]  # [1, 57]
        profiles.plot(100 * levels, performance_profile(scores, levels), color=color, label=label)
        mean, median, iqm, _ = aggregates(scores)
        for value, marker in ((median, "o"), (iqm, "s"), (mean, "D")):
            at = performance_profile(scores, np.array([value]))
            profiles.plot([100 * value], at, marker, color=color, markersize=8, markeredgecolor="black")
    for marker, label in (("o", "median"), ("s", "IQM"), ("D", "mean")):
        profiles.plot([], [], marker, color="white", markeredgecolor="black", markersize=8, label=label)
    profiles.axvline(100, label="a person", **plotting.REFERENCE)
    profiles.set(xscale="log", ylim=(0, 1), xlabel="score in % of a person's", ylabel="share of games above")
    profiles.set_title("57 Atari games, as published")
    profiles.legend(loc="upper right", fontsize=10)
    plotting.bar_rows(bars, rates, plotting.COLOURS)
    bars.axvline(0.5, label="truth", **plotting.REFERENCE)
    low, high = min(rates.values()), max(rates.values())  # what is corrected wrongly can be no rate at all
    bars.set(xlim=(min(0.0, 1.2 * low), max(1.0, 1.2 * high)), xlabel="win rate of ours")
    bars.set_title("Two equal models, one judge")
    bars.legend(loc="lower right", fontsize=10)
    log.figure(figure, "games")
