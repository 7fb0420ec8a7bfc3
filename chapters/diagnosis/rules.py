"""From a run's metrics to a ranked list of suspects: what must hold, what is too large, what looks odd.

A rule sees only numbers that a learner can log about itself, never its code. There are three kinds of
evidence, and the score says which. An *identity* holds for every right program on every task, so one
violation beyond rounding is proof (0.9 and up). A *bound* comes from theory or from a stated convention of
size (0.6 and up). A *symptom* is what the usual curves show, and has more than one cause (0.3 and up). Within
a kind the further off ranks first. A rule whose metric was not logged says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

Metrics = dict[str, list[tuple[int, float]]]
IDENTITY, BOUND, SYMPTOM = 0.9, 0.6, 0.3
ROUNDING = 1e-3
"""Largest deviation of a relative identity that is put down to 32-bit arithmetic: float32 carries seven
digits, and sums of a thousand of them four."""
CLIP_EDGE_KL = 0.2 - math.log(1.2)
"""KL estimate of a sample whose ratio stands at the edge of PPO's usual clip, 1.2: about 0.018 nats."""
MANY = 10.0
"""Convention: beyond ten times what is usual, it is no longer a matter of taste."""
SCALES = (1e-1, 1e3)
"""Convention: returns within these sizes can be fitted by a network whose outputs start near 0 and move by
about a step size at a time."""
OVER = 1.5
"""Convention: how far action values may lie beyond what any policy earns. Those of a good policy lie at the
bound, and the largest of several noisy estimates is too large on average."""
STILL_KL = 1e-4
"""Convention: an update that moves the policy by less tells no direction."""
FEW = 30
"""Steps below which no share of steps is judged."""
SURE = 3.0
"""Standard errors that a mean must lie beyond a bound before it counts."""
HUGE = 1e100
"""Larger numbers count as this: sums and squares of them would not be floats any more."""

DIAGNOSTICS = {
    "gap_inside": "targets against their definition, within episodes: 0",
    "gap_truncated": "the same where a time limit cut: 0",
    "gap_terminated": "the same where the world ended: 0",
    "constants_with_grad": "constants of the loss that carry a gradient: 0",
    "first_ratio_gap": "distance of the ratio from 1 in a batch's first minibatch: 0",
    "alignment": "correlation of target minus value with the change in log-probability: above 0",
    "eval_return_again": "the evaluation repeated with the same seeds: equal",
    "repeat_gap": "two runs with one seed: no difference",
    "critic_change": "how far an update moves the critic: not 0",
    "target_change": "how far the target network has moved: not 0",
    "approx_kl": "how far an update moves the policy: about 0.02",
    "descended": "share of steps that lower the loss of their own minibatch: above one half",
    "return_bound": "largest reward over 1 - gamma: 0.1 to 1000",
    "q_mean": "mean of the action values: below return_bound",
    "explained_variance": "share of the targets' variance that the critic explains: above 0 at some time",
    "loss_tokens": "tokens in the loss: as many as completion_tokens",
    "kl_ref": "divergence from the reference: not 0 once the policy has moved",
    "kl_penalty": "what the divergence adds to the reward: below 0 on average",
    "entropy": "of the policy: falls slowly",
    "return": "of training episodes: does not fall",
}
"""What can be logged, and what it must be."""

USUAL = ("return", "eval_return", "entropy", "approx_kl", "clip_fraction", "explained_variance", "value_loss",
         "grad_norm", "q_mean")  # fmt: skip
"""What most libraries log anyway."""


@dataclass(frozen=True)
class Entry:
    """What is known of a bug, apart from how to find it in metrics."""

    what: str
    """What the program does wrong."""
    homes: tuple[str, ...]
    """E3's learners that can have it."""
    shown: tuple[str, str]
    """The learner and the metric that E3 draws it by."""
    probe: str = ""
    """The probe environment that a learner with it fails in; none for those too small to show it."""


CONSTANT, ACTION, ENDLESS = "ProbeConstantReward-v0", "ProbeActionMatters-v0", "ProbeEndless-v0"
POLICY, ALL = ("reinforce", "ppo", "text"), ("dqn", "reinforce", "ppo", "text")
CATALOGUE = {
    "merged_time_limit": Entry(
        "a time limit is taken for an end", ("dqn", "reinforce", "ppo"),
        ("dqn", "gap_truncated"), ENDLESS,
    ),
    "bootstraps_past_the_end": Entry(
        "a future is seen behind the end", ("dqn", "ppo"),
        ("ppo", "gap_terminated"), CONSTANT,
    ),
    "off_by_one": Entry(
        "the target takes the value of the state after next", ("ppo",),
        ("ppo", "gap_inside"),
    ),
    "missing_detach": Entry(
        "a constant of the loss carries a gradient", POLICY,
        ("text", "approx_kl"), ACTION,
    ),
    "wrong_sign": Entry(
        "the advantage has the wrong sign", POLICY,
        ("ppo", "alignment"), ACTION,
    ),
    "stale_log_probs": Entry(
        "old log-probabilities are of older weights", ("ppo", "text"),
        ("ppo", "first_ratio_gap"),
    ),
    "dead_critic": Entry(
        "the value loss reaches no weight", POLICY,
        ("text", "explained_variance"), CONSTANT,
    ),
    "frozen_target": Entry(
        "the target network is never renewed", ("dqn",),
        ("dqn", "q_mean"), ENDLESS,
    ),
    "unmasked_after_eos": Entry(
        "tokens behind the end of text are learned from", ("text",),
        ("text", "loss_tokens"),
    ),
    "kl_sign": Entry(
        "leaving the reference is rewarded", ("text",),
        ("text", "kl_penalty"),
    ),
    "trained_reference": Entry(
        "the reference is the policy itself", ("text",),
        ("text", "kl_ref"),
    ),
    "noisy_evaluation": Entry(
        "the evaluation still explores", ALL,
        ("dqn", "eval_return"),
    ),
    "unseeded_environment": Entry(
        "not everything random is seeded", ALL,
        ("ppo", "return"),
    ),
    "learning_rate_too_high": Entry(
        "the step size is too large", ALL,
        ("dqn", "q_mean"), CONSTANT,
    ),
    "reward_scale": Entry(
        "rewards are of a size that the critic cannot reach", ALL,
        ("ppo", "value_loss"), CONSTANT,
    ),
}  # fmt: skip
"""Every bug that a rule can name."""


@dataclass(frozen=True)
class Finding:
    """A suspect."""

    bug: str
    """Its name."""
    score: float
    """Strength of the evidence, 0 to 1; see the module's docstring."""
    evidence: str
    """What was seen, and what should have been, in a sentence."""


@dataclass(frozen=True)
class Series:
    """The finite values of a metric, and where they stood."""

    name: str
    steps: list[int]
    values: list[float]

    @cached_property
    def mean(self) -> float:
        return fmean(self.values)

    @cached_property
    def standard_error(self) -> float:
        return stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else math.inf

    def worst(self) -> tuple[int, float]:
        """(step, value) of the largest magnitude."""
        return max(zip(self.steps, self.values), key=lambda pair: abs(pair[1]))


def strength(kind: float, times: float) -> float:
    """Score of evidence that lies `times` (at least 1) beyond its limit: the kind's base and up to 0.09."""
    return kind + 0.09 * (1.0 - 1.0 / max(times, 1.0))


def over(size: float, limit: float) -> float:
    """How many times a limit; of numbers that are all equal the standard error is 0."""
    return size / limit if limit else math.inf


def zero(metrics: dict[str, Series], name: str, bug: str, limit: float, why: str) -> Finding | None:
    """An identity: the metric must be 0 up to `limit`, all the time."""
    if name not in metrics:
        return None
    step, worst = metrics[name].worst()
    if abs(worst) <= limit:
        return None
    evidence = f"{name} reached {worst:.3g} at step {step}: {why}"
    return Finding(bug, strength(IDENTITY, over(abs(worst), limit)), evidence)


def still(metrics: dict[str, Series], name: str, bug: str, why: str) -> Finding | None:
    """An identity: the metric must not be exactly 0 all the time."""
    if name not in metrics or len(metrics[name].values) < 2 or any(metrics[name].values):
        return None
    return Finding(bug, strength(IDENTITY, math.inf), f"{name} is exactly 0 in every update: {why}")


# Identities


def merged_time_limit(m: dict[str, Series]) -> Finding | None:
    why = "where a time limit cuts, the target must keep the value of the state it leaves"
    return None if off_by_one(m) else zero(m, "gap_truncated", "merged_time_limit", ROUNDING, why)


def bootstraps_past_the_end(m: dict[str, Series]) -> Finding | None:
    why = "where the world ends, the target must be the reward alone"
    return None if off_by_one(m) else zero(m, "gap_terminated", "bootstraps_past_the_end", ROUNDING, why)


def off_by_one(m: dict[str, Series]) -> Finding | None:
    why = "within an episode the target must be reward plus gamma times the successor's value"
    return zero(m, "gap_inside", "off_by_one", ROUNDING, why)


def missing_detach(m: dict[str, Series]) -> Finding | None:
    why = "targets, advantages and old log-probabilities are constants of the loss"
    return zero(m, "constants_with_grad", "missing_detach", 0.0, why)


def stale_log_probs(m: dict[str, Series]) -> Finding | None:
    why = "before the first step on a batch, the policy is the one that sampled it and the ratio is 1"
    return zero(m, "first_ratio_gap", "stale_log_probs", ROUNDING, why)


def noisy_evaluation(m: dict[str, Series]) -> Finding | None:
    if "eval_return" not in m or "eval_return_again" not in m:
        return None
    again = dict(zip(m["eval_return_again"].steps, m["eval_return_again"].values))
    pairs = [(step, value, again[step]) for step, value in zip(*_both(m["eval_return"])) if step in again]
    step, first, second = max(pairs, key=lambda pair: abs(pair[1] - pair[2]), default=(0, 0.0, 0.0))
    if first == second:
        return None
    evidence = (
        f"evaluated twice at step {step} with the same seeds, the policy scored {first:.4g} and then "
        f"{second:.4g}: it still has noise in it"
    )
    return Finding("noisy_evaluation", strength(IDENTITY, math.inf), evidence)


def unseeded_environment(m: dict[str, Series]) -> Finding | None:
    return zero(m, "repeat_gap", "unseeded_environment", 0.0, "two runs with one seed must be equal")


def unmasked_after_eos(m: dict[str, Series]) -> Finding | None:
    if "loss_tokens" not in m or "completion_tokens" not in m:
        return None
    counted, written = sum(m["loss_tokens"].values), sum(m["completion_tokens"].values)
    if counted == written:
        return None
    evidence = f"{counted:,.0f} tokens are in the loss, {written:,.0f} were written up to their end of text"
    return Finding("unmasked_after_eos", strength(IDENTITY, math.inf), evidence)


def dead_critic(m: dict[str, Series]) -> Finding | None:
    return still(m, "critic_change", "dead_critic", "the value loss reaches no weight")


def frozen_target(m: dict[str, Series]) -> Finding | None:
    return still(m, "target_change", "frozen_target", "the target network never follows the online one")


def trained_reference(m: dict[str, Series]) -> Finding | None:
    if "approx_kl" not in m or not any(m["approx_kl"].values):
        return None
    why = "the policy has moved, so the reference moved with it"
    return still(m, "kl_ref", "trained_reference", why)


# Bounds


def small_steps(m: dict[str, Series], name: str) -> Series:
    """A metric at the updates that moved the policy a little; all of them if that was not logged."""
    if "approx_kl" not in m:
        return m[name]
    moved = dict(zip(m["approx_kl"].steps, m["approx_kl"].values))
    pairs = zip(m[name].steps, m[name].values)
    kept = [(step, value) for step, value in pairs if STILL_KL < moved.get(step, 0.0) < MANY * CLIP_EDGE_KL]
    return Series(name, [step for step, _ in kept], [value for _, value in kept])


def wrong_sign(m: dict[str, Series]) -> Finding | None:
    """To first order an update changes the log-probabilities by its step size times a squared gradient.

    So only updates count that moved the policy, and no further than first order reaches.
    """
    if "alignment" not in m or not (found := small_steps(m, "alignment")).values:
        return None
    if len(found.values) < 8 or found.mean + SURE * found.standard_error >= 0:
        return None
    evidence = (
        f"alignment is {found.mean:.2f} on average: updates make worse than expected actions more likely, "
        f"and better ones less"
    )
    score = strength(BOUND + 0.2, over(-found.mean, SURE * found.standard_error))
    return Finding("wrong_sign", score, evidence)


def kl_sign(m: dict[str, Series]) -> Finding | None:
    """The penalty's mean is minus beta times a divergence, and no divergence is negative."""
    if "kl_penalty" not in m or (found := m["kl_penalty"]).mean - SURE * found.standard_error <= 0:
        return None
    evidence = f"kl_penalty is {found.mean:+.3g} on average: leaving the reference is rewarded, not charged"
    return Finding("kl_sign", strength(BOUND + 0.2, over(found.mean, SURE * found.standard_error)), evidence)


def reward_scale(m: dict[str, Series]) -> Finding | None:
    if "return_bound" not in m:
        return None
    (low, high), (_, size) = SCALES, m["return_bound"].worst()
    if low <= abs(size) <= high:
        return None
    times = abs(size) / high if abs(size) > high else low / max(abs(size), 1e-12)
    evidence = f"rewards allow returns of {size:.3g}, a critic is at ease between {low:g} and {high:g}"
    return Finding("reward_scale", strength(BOUND + 0.1, times), evidence)


def learning_rate_too_high(m: dict[str, Series]) -> Finding | None:
    """Too far in one update, uphill on the very data of the step, or values that no policy can earn."""
    seen: list[tuple[float, str]] = []
    if "approx_kl" in m and (mean := m["approx_kl"].mean) > MANY * CLIP_EDGE_KL:
        what = f"an update moves the policy by {mean:.2g} nats, where PPO's clip begins at {CLIP_EDGE_KL:.2g}"
        seen.append((mean / (MANY * CLIP_EDGE_KL), what))
    down = m.get("descended")
    if down and len(down.values) >= FEW and down.mean <= 0.5 + down.standard_error:
        what = (
            f"{down.mean:.0%} of steps lower the loss of their own minibatch; a small enough step always does"
        )
        seen.append((0.5 / max(down.mean, 0.05), what))
    if "q_mean" in m and "return_bound" in m:
        (step, q), (_, bound) = m["q_mean"].worst(), m["return_bound"].worst()
        if abs(q) > OVER * abs(bound):
            what = f"q_mean is {q:.3g} at step {step}; no policy earns over {bound:.3g}"
            seen.append((over(abs(q), abs(bound)), what))
    if not seen:
        return None
    times, evidence = max(seen)
    return Finding("learning_rate_too_high", strength(BOUND, times), evidence)


# Symptoms: from the usual curves alone


def never_explains(m: dict[str, Series]) -> Finding | None:
    if "explained_variance" not in m or len((found := m["explained_variance"]).values) < 4:
        return None
    if (best := max(found.values)) > 0.05:
        return None
    evidence = f"explained_variance never rose above {best:.2g}: the critic is no better than a constant"
    return Finding("dead_critic", strength(SYMPTOM, 2.0), evidence)


def trend(m: dict[str, Series]) -> tuple[float, float, float] | None:
    """(mean return at the start, at the end, standard error of the difference), if logged for long."""
    if "return" not in m or (count := len(m["return"].values)) < 8:
        return None
    values = m["return"].values
    first, last = (Series("", [], part) for part in (values[: count // 8 + 1], values[-count // 4 :]))
    return first.mean, last.mean, math.hypot(first.standard_error, last.standard_error)


def gets_worse(m: dict[str, Series]) -> Finding | None:
    if (found := trend(m)) is None:
        return None
    first, last, error = found
    if first - last <= max(SURE * error, 0.1 * abs(first)):
        return None
    evidence = f"the return fell from {first:.3g} to {last:.3g}: learning makes it worse"
    return Finding("wrong_sign", strength(SYMPTOM, 3.0), evidence)


def never_moves(m: dict[str, Series]) -> Finding | None:
    """A learner that takes one step a batch, and looks before it, may log 0 as well; but its return rises."""
    if "approx_kl" not in m or (found := trend(m)) is None or max(m["approx_kl"].values) > 1e-9:
        return None
    first, last, error = found
    if last - first > SURE * error:
        return None
    evidence = "approx_kl is 0 in every update and the return stays: no gradient reaches the policy"
    return Finding("missing_detach", strength(SYMPTOM, 4.0), evidence)


def decides_at_once(m: dict[str, Series]) -> Finding | None:
    if "entropy" not in m or len((found := m["entropy"]).values) < 8 or found.values[0] <= 0:
        return None
    early = found.values[len(found.values) // 4]
    if early > 0.05 * found.values[0]:
        return None
    evidence = f"after a quarter of the run the entropy is {early:.2g}, from {found.values[0]:.2g}"
    return Finding("learning_rate_too_high", strength(SYMPTOM, 3.0), evidence)


RULES: tuple[Callable[[dict[str, Series]], Finding | None], ...] = (
    merged_time_limit, bootstraps_past_the_end, off_by_one, missing_detach, stale_log_probs, noisy_evaluation,
    unseeded_environment, unmasked_after_eos, dead_critic, frozen_target, trained_reference,
    wrong_sign, kl_sign, reward_scale, learning_rate_too_high,
    never_explains, gets_worse, never_moves, decides_at_once,
)  # fmt: skip


def diagnose(metrics: Metrics) -> list[Finding]:
    """The suspects of a run, the strongest evidence first, each once; empty if nothing is wrong."""
    series = series_of(metrics)
    return ranked([rule(series) for rule in RULES] + [diverged(metrics)])


def ranked(findings: list[Finding | None]) -> list[Finding]:
    """Each suspect once, with its strongest evidence, the strongest suspect first."""
    best: dict[str, Finding] = {}
    for found in findings:
        if found and (found.bug not in best or found.score > best[found.bug].score):
            best[found.bug] = found
    return sorted(best.values(), key=lambda found: -found.score)


def diverged(metrics: Metrics) -> Finding | None:
    """A diagnostic that is no longer a number."""
    for name, rows in known(metrics).items():
        for step, value in rows:
            if not math.isfinite(value):
                evidence = f"{name} is no longer a number from step {step} on"
                return Finding("learning_rate_too_high", strength(BOUND, math.inf), evidence)
    return None


def known(metrics: Metrics) -> Metrics:
    """The metrics that the rules know and that were logged at least once."""
    names = {*DIAGNOSTICS, *USUAL, "completion_tokens"}
    return {name: rows for name, rows in metrics.items() if name in names and rows}


def not_logged(metrics: Metrics) -> list[str]:
    """The diagnostics that a run lacks."""
    return [name for name in DIAGNOSTICS if not metrics.get(name)]


def series_of(metrics: Metrics) -> dict[str, Series]:
    """The finite values of what the rules know."""
    series = {name: finite(name, rows) for name, rows in known(metrics).items()}
    return {name: found for name, found in series.items() if found.values}


def finite(name: str, rows: list[tuple[int, float]]) -> Series:
    """A metric without what is no number."""
    kept = [(step, max(-HUGE, min(value, HUGE))) for step, value in rows if math.isfinite(value)]
    return Series(name, [step for step, _ in kept], [value for _, value in kept])


def _both(series: Series) -> tuple[list[int], list[float]]:
    return series.steps, series.values
