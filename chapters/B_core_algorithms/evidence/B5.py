"""B5's evidence: is the belief right, is one bandit easier than the worst, how far off is each estimator?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from chapters.B_core_algorithms import B5_contextual_bandits as lesson
from chapters.B_core_algorithms.checks.B5_exercises import cross_fitted
from chapters.envs.recommendation import Log, Page, click_table, draw_logs, recommend
from chapters.exact.bandits import hypercube_bound
from chapters.exact.logged import all_records, filled_table_mean, self_normalised_mean, variance_parts
from chapters.utils import RunLog, in_range, plotting

NUM_ARMS, NUM_FEATURES = 5, 3  # of the bandits whose features are drawn afresh for every play
ONE_GAP = 4  # index of the gap 1/4: one bandit, played ever longer
FEW = 5  # records of the small logs on which the self-normalised estimate is biased
LOG_SIZES = (100, 200, 500, 1000)  # for a model fitted on the log itself
PARTS = ("who came", "clicked or not", "what was shown")
MODELS = ("IPS: 0", "DR: 1 − q", "DR: by article", "DR: q / 2", "DR: q")


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_beliefs: Annotated[int, in_range(100, 100_000)] = 10_000
    """Bandits drawn from the prior, to count how often an interval covers."""
    num_varied_runs: Annotated[int, in_range(10, 10_000)] = 300
    """Bandits whose features vary from play to play."""
    num_small_logs: Annotated[int, in_range(100, 1_000_000)] = 50_000
    """Logs of five records."""
    num_fitted_logs: Annotated[int, in_range(50, 10_000)] = 1000
    """Logs of each size on which a model is fitted."""


SMOKE = {"num_beliefs": 500, "num_varied_runs": 20, "num_small_logs": 5000, "num_fitted_logs": 50}


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng((cfg.seed, 1))  # not the draws of the lesson itself
    claim_ridge(rng, log)
    claim_coverage(extra, rng, log)
    claim_lower_bound(log)
    claim_one_bandit(log)
    claim_varied_features(cfg, extra, rng, log)
    claim_direct_method(cfg, log)
    claim_variance(cfg, log)
    claim_double_robustness(rng, log)
    claim_self_normalised(cfg, extra, rng, log)
    claim_self_normalised_scatter(log)
    claim_same_log(extra, rng, log)
    draw_gaps([{"metrics": log.metrics}], log)
    draw_noise([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The same figures from all recorded seeds together."""
    lesson.draw([run["metrics"] for run in runs], log)
    draw_gaps(runs, log)
    draw_noise(runs, log)


# The belief


def ridge_error(num_plays: int, rng: np.random.Generator) -> float:
    """Largest difference between a belief corrected play by play and a ridge regression on all plays at once.

    The ridge is solved as least squares, its penalty as d further rows.
    """
    agent = lesson.LinearAgent(4, NUM_FEATURES, lesson.ucb_scores)
    features = rng.standard_normal((num_plays, 4, NUM_FEATURES))
    rewards = rng.standard_normal((num_plays, 4))
    for x, r in zip(features, rewards):
        agent.learn(x, r)
    errors = []
    for b in range(4):
        rows = np.vstack([features[:, b], np.eye(NUM_FEATURES)])
        ridge, *_ = np.linalg.lstsq(rows, np.append(rewards[:, b], np.zeros(NUM_FEATURES)), rcond=None)
        errors.append(np.abs(agent.mean[b] - ridge).max())
        errors.append(np.abs(agent.covariance[b] - np.linalg.inv(rows.T @ rows)).max())
    return float(max(errors))


def claim_ridge(rng: np.random.Generator, log: RunLog) -> None:
    log.claim(
        "posterior_is_ridge",
        "a belief corrected play by play has the mean and covariance of one ridge regression on all plays",
        ridge_error(500, rng),
        at_most=1e-10,
        source="closed form (1), solved as least squares",
        always=True,
    )


def fresh_features(num_bandits: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.standard_normal((num_bandits, NUM_ARMS, NUM_FEATURES))


def coverage(score: Callable, num_beliefs: int, rng: np.random.Generator, num_plays: int = 30) -> float:
    """How often a 90 % interval for the arm that looks worst holds its true mean, after plays by this rule.

    The weights are drawn from the prior. Then the belief is right whatever was played and whatever is asked.
    """
    weights = rng.standard_normal((num_beliefs, NUM_FEATURES))
    agent = lesson.LinearAgent(num_beliefs, NUM_FEATURES, score)
    draw_features = fresh_features(num_beliefs)
    recommend(agent, weights, draw_features, [num_plays], rng)
    features = draw_features(rng)
    worst = lesson.RULES["greedy"](agent.mean, agent.covariance, features, num_plays, rng).argmin(axis=1)
    asked = features[np.arange(num_beliefs), worst]  # [B, d]
    deviation = np.sqrt(((asked[:, None] @ agent.covariance)[:, 0] * asked).sum(axis=1))
    errors = ((weights - agent.mean) * asked).sum(axis=1)
    return float((np.abs(errors) <= norm.ppf(0.95) * deviation).mean())


def claim_coverage(extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    for name in ("LinUCB", "Thompson"):
        log.claim(
            f"coverage_{name}",
            f"after 30 plays by {name}, 90 % intervals for the arm that looks worst cover its true mean",
            coverage(lesson.RULES[name], extra.num_beliefs, rng),
            near=(0.9, 0.02),
            unit="share of the bandits drawn from the prior",
            source="exact: the posterior, whatever was played",
        )


# Regret


def claim_lower_bound(log: RunLog) -> None:
    """At the gap 1 / sqrt(T) itself, which is on the grid where T is a power of 2."""
    ratios = []
    for regret in log.kept["regret"].values():
        for plays, by_gap in regret.items():
            (at,) = np.flatnonzero(np.isclose(lesson.GAPS, plays**-0.5))
            ratios.append(by_gap[at] / hypercube_bound(lesson.NUM_FEATURES, float(plays)))
    log.claim(
        "above_lower_bound",
        "at the gap 1 / root of T no rule's regret is below the bound (5): the smallest ratio, at any T",
        min(ratios),
        at_least=1.0,
        unit="regret / bound",
        source="lattimore2020bandit, theorem 24.1",
        always=True,
    )


def slope(plays: np.ndarray, regret: np.ndarray) -> float:
    return float(np.polyfit(np.log(plays), np.log(regret), 1)[0])


def claim_one_bandit(log: RunLog) -> None:
    for name in ("LinUCB", "Thompson"):
        regret = log.kept["regret"][name]
        plays = np.array([mark for mark in regret if 16 * mark >= max(regret)])
        log.claim(
            f"one_bandit_slope_{name}",
            f"on one bandit, of gap 1/4, {name}'s regret grows more slowly than the root of T",
            slope(plays, np.array([regret[mark][ONE_GAP] for mark in plays])),
            at_most=0.5,
            unit="slope, log-log, last factor of 16",
            source="logarithmic regret of a fixed bandit: slope 0 in the limit; 1/2 is the worst case's",
        )
    for name, regret in log.kept["regret"].items():
        for plays in [mark for mark in regret if np.log2(mark) % 3 == 0]:
            for gap, value in zip(lesson.GAPS, regret[plays]):
                scaled = value / (lesson.NUM_FEATURES * np.sqrt(plays))
                log.write(round(1e4 * gap), **{f"gaps_{name}_{plays}": scaled})  # step: 10,000 gap


def claim_varied_features(cfg: lesson.Config, extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    """Features drawn afresh for every play and arm: every rule explores, also greedy."""
    weights = rng.standard_normal((extra.num_varied_runs, NUM_FEATURES))
    marks = [cfg.horizon // 16, cfg.horizon // 4, cfg.horizon]
    regret = {}
    for name, rule in lesson.RULES.items():
        agent = lesson.LinearAgent(*weights.shape, rule)
        runs = recommend(agent, weights, fresh_features(len(weights)), marks, rng)  # [marks, B]
        regret[name] = runs.mean(axis=1)
        log.claim(
            f"varied_slope_{name}",
            f"where features vary from play to play, {name}'s regret grows more slowly than the root of T",
            slope(np.array(marks), regret[name]),
            at_most=0.5,
            unit="slope, log-log, last factor of 16",
            source="bastani2021mostly (greedy); the worst case's exponent is 1/2",
        )
    log.claim(
        "varied_greedy",
        "where features vary from play to play, greedy loses no more than LinUCB",
        regret["greedy"][-1] / regret["LinUCB"][-1],
        at_most=1.0,
        unit="ratio of regrets",
        source="bastani2021mostly",
    )


# Logs: means and variances


def records(page: Page) -> tuple[Log, np.ndarray]:
    """Every record that a visit to the old page can leave, and their probabilities."""
    *record, probabilities = all_records(page.shares, page.clicks, page.old)
    return Log(*record), probabilities


def exact_parts(page: Page, model: np.ndarray) -> Float[np.ndarray, " 3"]:
    return variance_parts(page.shares, page.clicks, page.old, page.new, model)


def claim_direct_method(cfg: lesson.Config, log: RunLog) -> None:
    page: Page = log.kept["page"]
    every, probabilities = records(page)
    model = page.article_rates
    bias = lesson.direct_method(every, page.new, model) @ probabilities - page.value
    deviation = np.sqrt(exact_parts(page, 0 * model).sum() / cfg.log_size)
    log.claim(
        "direct_method_biased",
        "a model that does not ask who is looking is further off, on average, than a log's IPS scatters",
        abs(bias) / deviation,
        at_least=1.0,
        unit="bias / standard deviation of IPS",
        source="exact enumeration",
    )


def models(page: Page) -> dict[str, np.ndarray]:
    """Models of the clicks, from none over wrong ones to the truth."""
    clicks = page.clicks
    return dict(zip(MODELS, (0 * clicks, 1 - clicks, page.article_rates, clicks / 2, clicks)))


def claim_variance(cfg: lesson.Config, log: RunLog) -> None:
    page: Page = log.kept["page"]
    every, probabilities = records(page)
    errors, totals = [], {}
    for row, (name, model) in enumerate(models(page).items()):
        parts = exact_parts(page, model)
        terms = lesson.doubly_robust(every, page.new, page.old, model)
        errors.append(abs(probabilities @ (terms - page.value) ** 2 - parts.sum()))
        totals[name] = parts.sum()
        for part, value in zip(PARTS, parts):
            log.write(row, **{part.replace(" ", "_"): value})
    log.claim(
        "variance_formula",
        "the three parts of (9) sum to the variance over all records that a visit can leave, for five models",
        max(errors),
        at_most=1e-12,
        source="exact enumeration",
        always=True,
    )
    log.claim(
        "half_model_variance",
        "half the true model takes off three quarters of what comes of showing one article and not another",
        exact_parts(page, page.clicks / 2)[2] / exact_parts(page, 0 * page.clicks)[2],
        near=(0.25, 1e-12),
        unit="ratio of the third parts",
        source="(9): the part is quadratic in q - model",
        always=True,
    )
    log.claim(
        "dr_beats_ips",
        "with a model that does not ask who is looking, DR's exact variance is below that of IPS",
        totals["DR: by article"] / totals["IPS: 0"],
        at_most=1.0,
        unit="ratio of variances",
        source="exact enumeration",
    )
    for name, exact in (("IPS", "IPS: 0"), ("DR", "DR: by article")):
        log.claim(
            f"measured_variance_{name}",
            f"the variance of {name} over the lesson's logs is the exact one",
            log.kept["estimates"][name].var() * cfg.log_size / totals[exact],
            near=(1.0, 0.2),
            unit="measured / exact",
            source="exact enumeration",
        )


def claim_double_robustness(rng: np.random.Generator, log: RunLog) -> None:
    page: Page = log.kept["page"]
    every, probabilities = records(page)
    believed = rng.dirichlet(np.full(page.old.shape[1], 2.0), len(page.old))  # not the old page's policy
    biases = {}
    for name, logging, model in (
        ("wrong_model", page.old, 1 - page.clicks),
        ("wrong_ratios", believed, page.clicks),
        ("both_wrong", believed, page.article_rates),
    ):
        terms = lesson.doubly_robust(every, page.new, logging, model)
        biases[name] = abs(terms @ probabilities - page.value)
    for name, told in (
        ("wrong_model", "a model turned upside down, but true ratios"),
        ("wrong_ratios", "wrong ratios, but a true model"),
    ):
        log.claim(
            f"dr_{name}",
            f"with {told}, the mean of DR over all records is the true value",
            biases[name],
            at_most=1e-12,
            unit="clicks per visit",
            source="exact enumeration",
            always=True,
        )
    log.claim(
        "dr_both_wrong",
        "with both wrong it is not: the exact bias",
        biases["both_wrong"],
        at_least=1e-6,
        unit="clicks per visit",
        source="exact enumeration: more than rounding",
    )


def deviation_from(values: np.ndarray, expected: float) -> float:
    """Distance of the mean from what is expected, in standard errors."""
    return float(abs(values.mean() - expected) / (values.std() / np.sqrt(len(values))))


def claim_self_normalised(cfg: lesson.Config, extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    page: Page = log.kept["page"]
    every, probabilities = records(page)
    ratios = lesson.importance_ratios(every, page.new, page.old)

    def exact_mean(num_records: int) -> float:
        return self_normalised_mean(ratios, every.rewards, probabilities, num_records)

    few = lesson.self_normalised(draw_logs(page, extra.num_small_logs, FEW, rng), page.new, page.old)
    log.claim(
        "snips_exact_mean",
        f"over logs of {FEW} records the mean of SNIPS is the one computed by an integral",
        deviation_from(few, exact_mean(FEW)),
        at_most=4.5,
        unit="standard errors",
        source="exact: one integral over a Laplace transform",
        always=True,
    )
    log.claim(
        "snips_biased",
        f"over logs of {FEW} records SNIPS is biased",
        deviation_from(few, page.value),
        at_least=5.0,
        unit="standard errors",
        source="a ratio of means is not the mean of ratios",
    )
    log.claim(
        "snips_bias_fades",
        f"with {cfg.log_size} records its bias is small against its scatter",
        abs(exact_mean(cfg.log_size) - page.value) / log.kept["estimates"]["SNIPS"].std(),
        at_most=0.1,
        unit="exact bias / standard deviation",
        source="bias of order 1/n, scatter of order 1/sqrt(n)",
    )
    for size in LOG_SIZES:
        log.write(size, snips_bias=exact_mean(size) - page.value)


def claim_self_normalised_scatter(log: RunLog) -> None:
    page: Page = log.kept["page"]
    every, probabilities = records(page)
    log.claim(
        "snips_calmer",
        "SNIPS scatters less than IPS",
        log.kept["estimates"]["SNIPS"].std() / log.kept["estimates"]["IPS"].std(),
        at_most=1.0,
        unit="ratio of standard deviations",
        source="swaminathan2015self",
    )
    first = lesson.self_normalised(Log(*(part[:, None] for part in every)), page.new, page.old)
    log.claim(
        "snips_first_record",
        "with one record SNIPS has the old page's value, not the new one's",
        abs(first @ probabilities - page.shares @ (page.old * page.clicks).sum(axis=1)),
        at_most=1e-10,
        unit="clicks per visit",
        source="w r / w = r",
        always=True,
    )


# A model fitted on the log that it corrects


def fitted_estimates(page: Page, logs: Log) -> Float[np.ndarray, "3 M"]:
    """For each log: DR and the direct method with the log's own click table, and DR cross-fitted."""
    estimates = []
    for m in range(len(logs.rewards)):
        one = Log(*(part[m] for part in logs))
        model = click_table(one, page.old.shape)
        same = lesson.doubly_robust(one, page.new, page.old, model).mean()
        direct = lesson.direct_method(one, page.new, model).mean()
        estimates.append((same, direct, cross_fitted(one, page.new, page.old)))
    return np.array(estimates).T


def claim_same_log(extra: Config, rng: np.random.Generator, log: RunLog) -> None:
    page: Page = log.kept["page"]
    gap, off = 0.0, 0.0
    for size in LOG_SIZES:
        logs = draw_logs(page, extra.num_fitted_logs, size, rng)
        same, direct, crossed = fitted_estimates(page, logs)
        exact = filled_table_mean(page.shares, page.clicks, page.old, page.new, size)
        gap = max(gap, np.abs(same - direct).max())
        off = max(off, deviation_from(same, exact))
        log.write(size, same_log=same.mean() - page.value, same_log_exact=exact - page.value)
        log.write(size, crossed=crossed.mean() - page.value)
        if size == 500:
            biased, mended = deviation_from(same, page.value), deviation_from(crossed, page.value)
    log.claim(
        "same_log_is_direct",
        "with the log's own table as its model DR is the direct method, on every log",
        gap,
        at_most=1e-12,
        source="the errors sum to 0 in each cell",
        always=True,
    )
    log.claim(
        "same_log_exact",
        "its mean is the one computed from the chance that a cell is empty (the worst of four sizes)",
        off,
        at_most=4.5,
        unit="standard errors",
        source="exact probabilities of empty cells",
        always=True,
    )
    log.claim(
        "same_log_biased",
        "fitted on the log that it corrects, DR is biased at 500 records",
        biased,
        at_least=5.0,
        unit="standard errors",
        source="cells never shown count 0",
    )
    log.claim(
        "cross_fitting",
        "cross-fitted, DR is right on average at 500 records",
        mended,
        at_most=4.5,
        unit="standard errors",
        source="chernozhukov2018double; the model does not depend on the records it is corrected by",
        always=True,
    )


# Figures, from one run or from several


def mean_curve(runs: list[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, mean over the runs) of one metric."""
    rows = np.array([run["metrics"][name] for run in runs])  # [runs, points, (step, value)]
    return rows[0, :, 0], rows[:, :, 1].mean(axis=0)


def draw_gaps(runs: list[dict], log: RunLog) -> None:
    """Regret over d sqrt(T) against gap times sqrt(T): LinUCB, Thompson, and greedy beside them."""
    figure, panels = plotting.new_figure(1, 3, width=4.8)
    for ax, name in zip(panels, lesson.RULES):
        metrics = [metric for metric in runs[0]["metrics"] if metric.startswith(f"gaps_{name}_")]
        for metric in metrics:
            plays = int(metric.rpartition("_")[2])
            steps, scaled = mean_curve(runs, metric)
            ax.plot(steps / 1e4 * np.sqrt(plays), scaled, marker=".", label=f"T = {plays:,}")
        bound = hypercube_bound(1, 1.0)
        ax.plot([1], [bound], "v", color="black", label="lower bound (5)")
        ax.set(xscale="log", xlabel=r"gap $\cdot\,\sqrt{T}$", ylim=(0, 2.5), title=name)
    panels[0].set_ylabel(r"regret / ($d\,\sqrt{T}$)")
    panels[1].legend(loc="upper left")
    log.figure(figure, "gaps")


def draw_noise(runs: list[dict], log: RunLog) -> None:
    """Three parts of the variance for five models; bias of a model fitted on its own log."""
    figure, (left, right) = plotting.new_figure(1, 2)
    names = MODELS
    start = np.zeros(len(names))
    for part, color in zip(PARTS, (plotting.GREEN, plotting.SKY, plotting.ORANGE)):
        _, values = mean_curve(runs, part.replace(" ", "_"))
        left.barh(names, values, left=start, color=color, label=part)
        start += values
    left.invert_yaxis()
    left.set(xlabel="variance of one record's term (clicks²)", title="Where the noise comes from")
    left.set_ylabel("estimate: its model of the clicks")
    left.legend(loc="lower right")
    left.grid(axis="y", visible=False)
    sizes, exact = mean_curve(runs, "same_log_exact")
    right.plot(sizes, exact, color=plotting.ORANGE, label="same log, exact")
    right.plot(*mean_curve(runs, "same_log"), "o", color=plotting.ORANGE, label="same log, measured")
    right.plot(*mean_curve(runs, "crossed"), "s", color=plotting.BLUE, label="cross-fitted, measured")
    right.plot(*mean_curve(runs, "snips_bias"), color=plotting.PURPLE, linestyle=":", label="SNIPS, exact")
    right.axhline(0, label="no bias", **plotting.REFERENCE)
    right.set(
        xscale="log", xlabel="records in the log", ylabel="bias (clicks per visit)", title="Fitted where?"
    )
    right.set_xticks(sizes, [f"{size:.0f}" for size in sizes], minor=False)
    right.minorticks_off()
    right.legend(loc="lower right")
    log.figure(figure, "logs")
