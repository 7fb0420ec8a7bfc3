"""D11's evidence: two writers' win rates, agreement over prompts, numbers of labels, rounds of revision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from chapters.D_rlhf import D11_ai_feedback as lesson
from chapters.D_rlhf.evidence.D11_neural import draw_neural, last, measure_neural
from chapters.envs.shop import FEATURES, Habits
from chapters.exact.judges import sigmoid, tilted, win_rate
from chapters.text.charts import LABELLERS
from chapters.utils import RunLog, in_range, plotting

OURS, THEIRS = np.array([0.5, 0.5, 0.5, -0.5, -0.5]), np.array([0.0, 0.0, 0.0, 0.5, 0.5])
"""What two writers favour: one answers better, the other pads, in the judge's style."""
PADDING, OWN = lesson.FREE
NUM_LABELS = (125, 250, 500, 1000, 2000, 4000, 8000)
Square = Float[np.ndarray, "M M"]


@dataclass(frozen=True)
class Config:
    """What only the evidence needs."""

    num_known: Annotated[int, in_range(1, 100_000)] = 40
    """Gold labels for the error rates: so many of better and of worse answers, in each group of pairs."""
    num_evaluations: Annotated[int, in_range(10, 100_000)] = 1000
    """Repeated evaluations, for how often an interval holds the truth."""
    num_prompts: Annotated[int, in_range(2, 1000)] = 30
    """N: prompts in each of them."""
    num_pairs: Annotated[int, in_range(2, 1000)] = 10
    """Pairs of each prompt."""
    correlation: Annotated[float, in_range(0.01, 0.9)] = 0.3
    """Of two pairs of one prompt: how alike the judge's being right is."""
    num_repeats: Annotated[int, in_range(1, 100)] = 5
    """Draws of labels that are averaged at each number of labels."""
    num_rounds: Annotated[int, in_range(1, 20)] = 8
    """Rounds of revision: enough to mend everything that can be mended."""
    num_judge_steps: Annotated[int, in_range(1, 100_000)] = 200
    """Batches of 256 comparisons that make the neural judge."""
    num_writer_steps: Annotated[int, in_range(1, 100_000)] = 250
    """Batches of 64 answers that make the writer."""
    num_passes: Annotated[int, in_range(1, 1000)] = 1
    """Passes over its labelled pairs, whoever labelled them."""
    beta: Annotated[float, in_range(1e-4, 100.0)] = 0.5
    """DPO's coefficient of the KL penalty, with which labels' log-odds are worth 1 / beta nats."""
    learning_rate: Annotated[float, in_range(1e-9, 1.0)] = 1e-3
    """Of the writer, when it learns from pairs; it falls to 0."""


SMOKE = {
    "num_evaluations": 20,
    "num_repeats": 1,
    "num_judge_steps": 2,
    "num_writer_steps": 2,
    "num_passes": 1,
}


def ideal_logits(kinds: lesson.Kinds, habits: Habits) -> lesson.Logits:
    """What the constructed judge says."""
    weights = np.stack([habits.weights(row) for row in range(2)])
    return lesson.constructed(kinds, weights, habits.position)


def contents_of(logits: lesson.Logits, kinds: lesson.Kinds) -> dict[str, Square]:
    """The content as it is and without the leanings that padding and restyling show."""
    content, _ = lesson.swap(logits)
    leanings = {j: lesson.leaning(content, kinds, j) for j in lesson.FREE}
    return {"swapped": content, "corrected": lesson.corrected(content, kinds, leanings)}


# Win rates of two writers


def untied(gold: Float[np.ndarray, " M"], ours: np.ndarray, theirs: np.ndarray) -> tuple[Square, Square]:
    """(1 where the row's answer is better, how often two writers make the pair; 0 for ties)."""
    gap = gold[:, None] - gold
    return (gap > 0).astype(np.float64), np.outer(ours, theirs) * (np.abs(gap) > 1e-9)


def groups_of(kinds: lesson.Kinds) -> Int[np.ndarray, "M M"]:
    """A number for each pair, alike where it is the same side that is longer, and that has the own style."""
    longer, own = (np.sign(kinds[:, None, j] - kinds[None, :, j]) for j in lesson.FREE)
    return (3 * (longer + 1) + own + 1).astype(np.int64)


def gold_labels(
    pairs: Square, better: Square, groups: Int[np.ndarray, "M M"], num: int, rng: np.random.Generator
) -> Square:
    """How often each pair was drawn when `num` better and `num` worse ones of each group were labelled."""
    drawn = np.zeros(pairs.size)
    for group in np.unique(groups[pairs > 0]):
        for side in (1, 0):
            odds = (pairs * (groups == group) * (better == side)).ravel()
            if odds.sum():
                drawn += rng.multinomial(num, odds / odds.sum())
    return drawn.reshape(pairs.shape)


def rates(
    logits: lesson.Logits, kinds: lesson.Kinds, gold: np.ndarray, known: Square | None
) -> dict[str, float]:
    """Win rates of ours by each remedy; `known` pairs with gold labels, or all pairs as they are."""
    better, pairs = untied(gold, tilted(kinds, OURS), tilted(kinds, THEIRS))
    shares = lesson.preferred(logits)
    longer = kinds[:, None, PADDING] - kinds[None, :, PADDING]
    second = (1 - sigmoid(logits)).mean(axis=0).T  # ours is read second
    return {
        "truth": win_rate(better, pairs),
        "ours second": win_rate(second, pairs),
        "random order": win_rate(shares, pairs),
        "length-controlled": lesson.length_controlled(shares, longer, pairs),
        "known error rates": lesson.rate_by_errors(
            shares, better, groups_of(kinds), pairs, pairs if known is None else known
        ),
    }


def claim_rates(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    """Exact on the constructed judge; from so many gold labels on the judge that was asked."""
    kinds, gold, habits = (log.kept[name] for name in ("kinds", "gold", "habits"))
    exact = rates(ideal_logits(kinds, habits), kinds, gold, None)
    rule = {"source": "gold win rate, by enumeration", "always": True, "seeds": "5/5"}
    says = "by error rates of like pairs, a constructed judge's win rate is the true one"
    off = abs(exact["known error rates"] - exact["truth"])
    log.claim("rates_exact", says, off, at_most=1e-10, unit="difference", **rule)
    says = "length control leaves less of its error than random order does"
    left = abs(exact["length-controlled"] - exact["truth"]) / abs(exact["random order"] - exact["truth"])
    log.claim("length_control", says, left, at_most=1.0, unit="of that error", **rule)
    says = "but where better answers are longer, it hides a part of what a judge without leanings sees"
    log.claim("hides_truth", says, hidden_truth(kinds, gold), at_least=0.0, unit="win rate", **rule)

    better, pairs = untied(gold, tilted(kinds, OURS), tilted(kinds, THEIRS))
    known = gold_labels(pairs, better, groups_of(kinds), extra.num_known, rng)
    found = rates(log.kept["logits"], kinds, gold, known)
    log.write(0, num_gold_labels=known.sum())
    log.write(0, **{f"rate_{name.replace(' ', '_').replace('-', '_')}": rate for name, rate in found.items()})
    says = "with some hundred gold labels, error rates take most of the asked judge's error away"
    left = abs(found["known error rates"] - found["truth"]) / abs(found["random order"] - found["truth"])
    log.claim("rates_help", says, left, at_most=0.5, unit="of that in random order", source="less than half")


def hidden_truth(kinds: lesson.Kinds, gold: np.ndarray) -> float:
    """A judge without leanings, two writers who are longer where they are better, one more often so.

    Returns what length control takes from the win rate that this judge gives in random order.
    """
    careful, hasty = (tilted(kinds, sign * np.array([1.0, 1.0, 1.0, 1.0, 0.0])) for sign in (1, -1))
    _, pairs = untied(gold, 0.7 * careful + 0.3 * hasty, 0.3 * careful + 0.7 * hasty)
    shares = lesson.preferred((gold[:, None] - gold)[None])
    longer = kinds[:, None, PADDING] - kinds[None, :, PADDING]
    return win_rate(shares, pairs) - lesson.length_controlled(shares, longer, pairs)


# Agreement


def claim_agreement(log: RunLog) -> None:
    """How often the judge's content has the gold rule's sign, as an interval over requests."""
    gold, requests = log.kept["gold"], log.kept["requests"]
    gap = gold[:, None] - gold
    rows = np.nonzero(np.triu(np.abs(gap) > 1e-9))  # each pair once, no ties
    prompts, right = requests[rows], {}
    for name in ("swapped", "corrected"):
        right[name] = (np.sign(log.kept["contents"][name]) == np.sign(gap))[rows].astype(np.float64)
        low, high = lesson.interval_over_prompts(right[name], prompts)
        log.write(0, **{f"agreement_{name}": (low + high) / 2, f"agreement_{name}_width": (high - low) / 2})
    low, _ = lesson.interval_over_prompts(right["corrected"] - right["swapped"], prompts)
    says = (
        "corrected, the judge agrees with the gold rule on more pairs: lower end of the interval over prompts"
    )
    log.claim("agreement_gain", says, low, at_least=0.0, unit="of pairs", source="equation 9 at 95 %")


def coverage(extra: Config, rng: np.random.Generator) -> tuple[float, float]:
    """How often intervals hold the mean: over prompts, and over pairs as if each were a prompt.

    Each prompt has its own chance that the judge is right, from a beta distribution with mean 0.75.
    """
    size = 1 / extra.correlation - 1
    prompts = np.repeat(np.arange(extra.num_prompts), extra.num_pairs)
    held = np.zeros(2)
    for _ in range(extra.num_evaluations):
        chances = rng.beta(0.75 * size, 0.25 * size, extra.num_prompts)
        right = (rng.random(len(prompts)) < chances[prompts]).astype(np.float64)
        for place, clusters in enumerate((prompts, np.arange(len(prompts)))):
            low, high = lesson.interval_over_prompts(right, clusters)
            held[place] += low <= 0.75 <= high
    return tuple(held / extra.num_evaluations)


def claim_coverage(extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    by_prompts, by_pairs = coverage(extra, rng)
    inflated = 1 + (extra.num_pairs - 1) * extra.correlation  # the variance, for that of independent pairs
    expected = 2 * stats.norm.cdf(stats.norm.ppf(0.975) / np.sqrt(inflated)) - 1
    says = (
        "where pairs of a prompt are alike, 95 % intervals over prompts hold the truth as often as they say"
    )
    rule = {"unit": "of evaluations"}
    log.claim("coverage_prompts", says, by_prompts, near=(0.95, 0.03), source="Student's t", **rule)
    says = "intervals over pairs hold it as seldom as their variance, too small by a factor, says"
    source = "normal theory: 1 + (pairs - 1) correlation"
    log.claim("coverage_pairs", says, by_pairs, near=(expected, 0.05), source=source, **rule)


# Labels and revisions


def claim_labels(cfg: lesson.Config, extra: Config, log: RunLog, rng: np.random.Generator) -> None:
    """What a policy gains from each number of labels."""
    kinds, gold, logits, contents = (log.kept[name] for name in ("kinds", "gold", "logits", "contents"))
    for num in NUM_LABELS:
        gains: dict[str, list[float]] = {}
        for _ in range(extra.num_repeats):
            rows = rng.integers(len(kinds), size=(num, 2))
            for name, labels in lesson.labels_by(logits, contents, rows, rng).items():
                reward = lesson.fit_reward(kinds, rows, labels)
                gains.setdefault(name, []).append(lesson.gain(reward, kinds, gold, cfg.kl))
        log.write(num, **{f"learnt_{name}": np.mean(values) for name, values in gains.items()})
    found = {name: dict(zip(*log.series(f"learnt_{name}"))) for name in LABELLERS}
    says = "from 500 corrected labels a policy gains more than from 8,000 of the judge as it comes"
    more = found["corrected"][500] - found["judge"][8000]
    rule = {"source": "equal divergence; exact evaluation"}
    log.claim("labels_no_cure", says, more, at_least=0.0, unit="of the best possible gain", **rule)
    lost = (1 - found["corrected"][8000]) / (1 - found["judge"][8000])
    says = "of what the judge's own labels lose, corrected ones lose less than half"
    log.claim("still_lost", says, lost, at_most=0.5, unit="of that", source="less than half")


def rounds(content: Square, kinds: lesson.Kinds, num: int) -> Float[np.ndarray, "R M"]:
    """How often each kind of answer is written after each round of revision, from all alike."""
    step = lesson.revise(content, kinds)
    probs = [np.full(len(kinds), 1 / len(kinds))]
    for _ in range(num):
        probs.append(np.bincount(step, weights=probs[-1], minlength=len(kinds)))
    return np.array(probs)


def claim_revision(extra: Config, log: RunLog) -> None:
    """The constructed judge's revisions: what they do to worth, padding and style."""
    kinds, gold = log.kept["kinds"], log.kept["gold"]
    contents = contents_of(ideal_logits(kinds, log.kept["habits"]), kinds)
    ends = {}
    for name, content in contents.items():
        probs = rounds(content, kinds, extra.num_rounds)
        for i, row in enumerate(probs):
            measured = {"worth": row @ gold / gold.max(), "padding": row @ kinds[:, PADDING]}
            measured["own_style"] = row @ kinds[:, OWN]
            log.write(i, **{f"revised_{what}_{name}": value for what, value in measured.items()})
        ends[name] = {what: log.last(f"revised_{what}_{name}") for what in ("worth", "padding")}
    rule = {"always": True, "seeds": "5/5", "source": "enumeration of all kinds"}
    start = kinds[:, PADDING].mean()
    says = "after its revisions a judge with leanings has padded the answers"
    more = ends["swapped"]["padding"] - start
    log.claim("revision_pads", says, more, at_least=0.0, unit="fillers an answer", **rule)
    says = "without them it mends all that people mind, and leaves the length alone"
    off = max(abs(ends["corrected"]["padding"] - start), 1 - ends["corrected"]["worth"])
    log.claim("revision_mends", says, off, at_most=1e-10, unit="fillers, or of the best worth, off", **rule)


def claim_principles(log: RunLog) -> None:
    """Told to mind kindness the judge does; told to mind the rest, it does not."""
    kinds, logits, habits = (log.kept[name] for name in ("kinds", "logits", "habits"))
    kind = FEATURES.index("kind")
    right, kindly = (lesson.leaning(lesson.swap(logits[[row]])[0], kinds, kind) for row in range(2))
    log.write(0, kindness_when_right=right, kindness_when_kind=kindly)
    says = "the principle in words is obeyed: kindness counts by so much more where it is asked for"
    rule = {"unit": "log-odds", "source": "Bayes' rule, equation 1"}
    log.claim("principle_obeyed", says, kindly - right, near=(habits.gold[2], 0.5), **rule)


def measure(cfg: lesson.Config, extra: Config, log: RunLog) -> None:
    rng = np.random.default_rng([cfg.seed, 3])
    claim_revision(extra, log)
    claim_rates(extra, log, rng)
    claim_coverage(extra, log, rng)
    claim_agreement(log)
    claim_labels(cfg, extra, log, rng)
    claim_principles(log)
    measure_neural(cfg, extra, log)
    draw([{"metrics": log.metrics}], log)


def summarise(runs: list[dict], log: RunLog) -> None:
    """The figures over all seeds."""
    draw(runs, log)


def draw(runs: Sequence[dict], log: RunLog) -> None:
    draw_rates(runs, log)
    draw_learning(runs, log)
    draw_neural(runs, log)


def draw_rates(runs: Sequence[dict], log: RunLog) -> None:
    """Win rates by each remedy, and agreement before and after correction, a dot for each run."""
    figure, (bars, agreement) = plotting.new_figure(1, 2, width=5.8, height=3.8)
    labels = {
        "ours second": "by verdicts, ours read second",
        "random order": "in random order",
        "length-controlled": "length-controlled",
        "known error rates": "known error rates",
    }
    colors = (plotting.RED, plotting.ORANGE, plotting.PURPLE, plotting.GREEN)
    names = {name: f"rate_{name.replace(' ', '_').replace('-', '_')}" for name in labels}
    rows = {labels[name]: [last(run, metric) for run in runs] for name, metric in names.items()}
    plotting.dot_rows(bars, rows, colors)
    bars.axvline(last(runs[0], "rate_truth"), label="truth", **plotting.REFERENCE)
    bars.axvline(0.5, color="grey", linewidth=1)
    bars.set(xlim=(0, 1), xlabel="win rate of the better writer", title="Two writers, one judge")
    bars.legend(loc="lower left")
    rows = {name: [last(run, f"agreement_{name}") for run in runs] for name in ("swapped", "corrected")}
    for place, (name, values) in enumerate(rows.items()):
        color = LABELLERS[name][1]
        widths = [last(run, f"agreement_{name}_width") for run in runs]
        places = place + np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [place]
        agreement.errorbar(places, values, yerr=widths, fmt="o", color=color, capsize=3)
    agreement.set_xticks(range(2), ["swapped", "corrected, too"])
    agreement.set(xlim=(-0.6, 1.6), ylim=(None, 1.02), ylabel="agreement with the gold rule")
    agreement.set_title("Agreement, 95 % intervals")
    log.figure(figure, "rates")


def draw_learning(runs: Sequence[dict], log: RunLog) -> None:
    """What is gained from each number of labels; what rounds of revision do, by the constructed judge."""
    figure, (chart, revised) = plotting.new_figure(1, 2, width=5.8, height=4.0)
    lowest = 1.0
    for name, (label, color) in LABELLERS.items():
        curves = [[value for _, value in run["metrics"][f"learnt_{name}"]] for run in runs]
        plotting.seed_band(chart, NUM_LABELS, curves, label, color)
        lowest = min(lowest, float(np.min(curves)))
    chart.axhline(1.0, **plotting.REFERENCE)
    chart.set(xscale="log", xlabel="labels", ylabel="share of the best possible gain", title="Labels")
    chart.set_ylim(lowest - 0.7 * (1.0 - lowest), 1.0 + 0.05 * (1.0 - lowest))  # room for the key
    chart.set_xticks(NUM_LABELS[::2], [f"{num:,}" for num in NUM_LABELS[::2]])
    chart.minorticks_off()
    chart.legend(loc="lower right", fontsize=9)
    looks = {
        "worth": ("worth, of the best", plotting.BLUE, 1.0),
        "own_style": ("in the judge's style", plotting.PURPLE, 1.0),
        "padding": ("fillers, of three", plotting.ORANGE, 3.0),
    }
    for what, (label, color, scale) in looks.items():
        for name, line in (("swapped", "-"), ("corrected", ":")):
            values = [value / scale for _, value in runs[0]["metrics"][f"revised_{what}_{name}"]]
            shown = label if name == "swapped" else None
            revised.plot(values, line, color=color, label=shown, linewidth=2 if name == "swapped" else 3)
    revised.plot([], [], ":", color="black", label="corrected judge")
    revised.set(xlabel="rounds of revision", ylabel="share", ylim=(0.0, 1.03), title="Critique and revision")
    revised.legend(loc="lower right", fontsize=10)
    log.figure(figure, "learning")
