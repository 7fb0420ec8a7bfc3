"""The rules for logs of any origin: those of `rules.py` where they can apply, and those that trials added.

A symptom is kept only for the learners whose bugs can cause it, so a deep Q-network that forgets is not
accused of a sign in a policy's loss. `judged` says which suspects a log could have named at all: without
one, "no alarm" would mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from statistics import fmean

from chapters.diagnosis.names import HOMES, Learner
from chapters.diagnosis.rules import (
    BOUND,
    CATALOGUE,
    FEW,
    IDENTITY,
    MANY,
    ROUNDING,
    RULES,
    SCALES,
    SURE,
    SYMPTOM,
    Entry,
    Finding,
    Series,
    finite,
    over,
    ranked,
    strength,
    trend,
)

Logged = dict[str, Series]
OTHERS = {
    "unstable": Entry(
        "what was learned is lost again: unstable, or forgetting",
        ("dqn", "reinforce", "ppo", "text"), ("", ""),
    ),
    "impossible_kl": Entry(
        "the samples are not of the policy that judges them, or the estimate has the wrong sign",
        ("reinforce", "ppo", "text"), ("", ""),
    ),
    "equal_groups": Entry("rewards in a group are all equal, so nothing is learned", ("text",), ("", "")),
    "world_learnt": Entry("a tool's or a world's words are learned from (D9)", ("text",), ("", "")),
    "calls_uncredited": Entry("what stands before a tool's answer earns no credit (D9)", ("text",), ("", "")),
}  # fmt: skip
"""Suspects that the zoo of E3 does not hold."""
LOSS_OF_SCALE = SCALES[1] ** 2 / MANY
"""Mean squared error of a critic, 1e5, that only returns beyond what it is at ease with give."""
FAR_FROM_REFERENCE = 10.0
"""Convention: nats a completion or a token from the reference beyond which text is no longer the model's."""
ROUNDED = 1e-6
"""Size of a mean divergence that rounding alone can give where nothing moves."""
LONG = 8
"""Values below which nothing is said about a course."""


def everything(bug: str) -> Entry:
    """What is known of a suspect."""
    return CATALOGUE.get(bug) or OTHERS[bug]


# Rules


def impossible_kl(m: Logged) -> Finding | None:
    """A divergence is never negative, so the mean of an estimate from the policy's own samples is not."""
    for name in ("kl_ref", "approx_kl"):
        found = m.get(name)
        if found and len(found.values) >= LONG and found.mean + SURE * found.standard_error < -ROUNDED:
            errors = over(-found.mean, found.standard_error)
            evidence = (
                f"{name} is {found.mean:.3g} on average, {errors:.0f} standard errors below 0: "
                "impossible for samples of the policy itself (other sampling settings, or padding counted?)"
            )
            return Finding("impossible_kl", strength(BOUND + 0.2, errors / SURE), evidence)
    return None


def equal_groups(m: Logged) -> Finding | None:
    """Where all rewards of a group are equal its advantages are 0; at the end of a good run that is right."""
    if (found := m.get("equal_groups")) and len(found.values) >= 4:
        share, what = found.values, "equal_groups"
    elif (found := m.get("reward_std")) and len(found.values) >= 4:
        share, what = [float(abs(value) < 1e-9) for value in found.values], "reward_std is 0, the share"
    else:
        return None
    if fmean(share) < 0.95 or fmean(share[: len(share) // 4 + 1]) < 0.95:
        return None
    evidence = f"{what} is {fmean(share):.2f} from the start: every advantage is 0, so no gradient"
    return Finding("equal_groups", strength(BOUND + 0.2, MANY), evidence)


def world_learnt(m: Logged) -> Finding | None:
    """The policy did not choose the world's tokens, so no gradient may pull at them."""
    if "world_pull" not in m:
        return None
    step, worst = m["world_pull"].worst()
    if abs(worst) <= ROUNDING:
        return None
    evidence = f"world_pull is {worst:.3g} at step {step}: tokens that the policy did not choose"
    return Finding("world_learnt", strength(IDENTITY, over(abs(worst), ROUNDING)), evidence)


def calls_uncredited(m: Logged) -> Finding | None:
    """Texts that ask and are answered, and never any pull at what asked."""
    if not {"early_pull", "answered"} <= m.keys() or len(m["early_pull"].values) < LONG:
        return None
    asked = fmean(m["answered"].values)
    if asked < 1 / MANY or max(m["early_pull"].values) > 0:
        return None
    evidence = f"early_pull is 0 in every update, though {asked:.0%} of the texts were answered"
    return Finding("calls_uncredited", strength(BOUND + 0.2, MANY), evidence)


def scale_of_returns(m: Logged) -> Finding | None:
    """A critic's error of 1e5 and more that was there from the first: returns beyond its reach."""
    name = next((name for name in ("value_loss", "td_loss") if name in m), None)
    if name is None:
        return _too_small(m)
    errors = m[name]
    first, size = errors.values[0], fmean(errors.values)
    explained = max(m["explained_variance"].values) if "explained_variance" in m else -math.inf
    earned = max(abs(value) for value in m["return"].values) if "return" in m else math.inf
    if min(first, size) < LOSS_OF_SCALE or explained > 0.5 or not _own_scale(m, errors, earned):
        return _too_small(m)
    whence = f" at returns up to {earned:.3g}" if math.isfinite(earned) else ""
    evidence = f"{name} is {size:.3g}{whence}, from the first update on: divide the rewards"
    return Finding("reward_scale", strength(BOUND + 0.1, size / LOSS_OF_SCALE), evidence)


def _own_scale(m: Logged, errors: Series, earned: float) -> bool:
    """Whether an error is of the returns' own size, and was so before any update: no explosion.

    Rewards may be multiplied behind the monitor that logs returns; then the error is large at once.
    """
    grown = max(errors.values) / max(errors.values[0], 1e-12)
    return grown < 1e3 and (errors.values[0] > LOSS_OF_SCALE or earned > SCALES[1])


def _too_small(m: Logged) -> Finding | None:
    if "return" not in m or len(m["return"].values) < LONG:
        return None
    size = max(abs(value) for value in m["return"].values)
    if size == 0 or size >= SCALES[0] ** 2 or not {"value_loss", "td_loss"} & m.keys():
        return None
    evidence = f"returns are at most {size:.2g}, a critic is at ease above {SCALES[0]:g}"
    return Finding("reward_scale", strength(BOUND + 0.1, SCALES[0] / size), evidence)


def explodes(m: Logged) -> Finding | None:
    """Values, or a critic's errors, that no return explains, and that grew in the course of the run."""
    seen: list[tuple[float, str]] = []
    earned = max((abs(value) for value in m["return"].values), default=0.0) if "return" in m else 0.0
    for name in ("value_loss", "td_loss"):
        if name in m and len(m[name].values) >= 4:
            step, worst = m[name].worst()
            usual = max(earned, 1.0) ** 2
            if worst > MANY * MANY * usual and worst > 1e3 * max(abs(m[name].values[0]), 1e-12):
                what = f"{name} grew from {m[name].values[0]:.2g} to {worst:.3g} at step {step}"
                seen.append((worst / usual, f"{what}, beyond any return seen ({earned:.3g})"))
    if "q_mean" in m and earned and "return_bound" not in m:
        step, worst = m["q_mean"].worst()
        if abs(worst) > MANY * max(earned, MANY):
            seen.append((abs(worst) / earned, f"q_mean is {worst:.3g} at step {step}, returns {earned:.3g}"))
    if not seen:
        return None
    times, evidence = max(seen)
    return Finding("learning_rate_too_high", strength(BOUND, times), evidence)


def leaves_the_reference(m: Logged) -> Finding | None:
    """Far from the reference early: a step size, for a penalty that is too weak lets go slowly."""
    if "kl_ref" not in m or len((found := m["kl_ref"]).values) < LONG:
        return None
    early = found.values[: len(found.values) // 2]
    usual = sorted(early)[len(early) // 2]
    pays = (course := trend(m)) and course[1] - course[0] > SURE * course[2]
    if usual < FAR_FROM_REFERENCE or pays:  # what earns more on its way out follows too weak a penalty
        return None
    evidence = f"kl_ref is {usual:.3g} nats in the middle of the first half: the first updates went too far"
    return Finding("learning_rate_too_high", strength(SYMPTOM + 0.1, usual / FAR_FROM_REFERENCE), evidence)


def loses_again(m: Logged) -> Finding | None:
    """A return that had risen and fell back by more than half of what was gained, for good."""
    if "return" not in m or (count := len(m["return"].values)) < 2 * LONG:
        return None
    values = m["return"].values
    width = max(count // 8, 2)
    means = [fmean(values[start : start + width]) for start in range(0, count - width + 1, width)]
    first, best, last = Series("", [], values[:width]), max(means[:-1]), Series("", [], values[-width:])
    peak = Series("", [], values[means.index(best) * width :][:width])
    error = SURE * math.hypot(peak.standard_error, last.standard_error)
    rose = best - first.mean > SURE * math.hypot(first.standard_error, peak.standard_error)
    if rose and best - last.mean > max(error, 0.5 * (best - first.mean)):
        evidence = (
            f"the return rose from {first.mean:.3g} to {best:.3g} and fell back to {last.mean:.3g}: "
            "keep the best policy, lower the step size, renew the target less often"
        )
        return Finding("unstable", strength(SYMPTOM, 4.0), evidence)
    return None


def falls(m: Logged) -> Finding | None:
    """For a value learner, which has no sign to get wrong: the return ends below where it began."""
    if (found := trend(m)) is None:
        return None
    first, last, error = found
    if first - last <= max(SURE * error, 0.1 * abs(first)):
        return None
    return Finding("unstable", strength(SYMPTOM, 3.0), f"the return fell from {first:.3g} to {last:.3g}")


def never_left(m: Logged) -> Finding | None:
    """A divergence from the reference of exactly 0: the policy stands still, or the reference goes along."""
    if "kl_ref" not in m or len((found := m["kl_ref"]).values) < LONG or max(map(abs, found.values)) > 1e-9:
        return None
    moved = "entropy" in m and len({round(value, 9) for value in m["entropy"].values[-LONG:]}) > 1
    if (course := trend(m)) and course[1] - course[0] > SURE * course[2] and moved:
        evidence = "kl_ref is 0 in every update while the return rises: the reference moves along"
        return Finding("trained_reference", strength(BOUND + 0.2, MANY), evidence)
    evidence = "kl_ref is 0 in every update and the return stays: no gradient reaches the policy"
    return Finding("missing_detach", strength(SYMPTOM, 4.0), evidence)


def prefers_the_rejected(m: Logged) -> Finding | None:
    """Pairs are learned the wrong way round."""
    if "preference_accuracy" not in m or (count := len(m["preference_accuracy"].values)) < LONG:
        return None
    late = Series("", [], m["preference_accuracy"].values[-max(count // 2, 4) :])
    if late.mean + SURE * late.standard_error >= 0.5:
        return None
    evidence = f"preference_accuracy is {late.mean:.2f} in the second half: chosen and rejected exchanged?"
    return Finding("wrong_sign", strength(BOUND + 0.2, 0.5 / max(late.mean, 0.05)), evidence)


def no_number(metrics: dict[str, list[tuple[int, float]]]) -> Finding | None:
    """What ends as no number; a share of no variance and a mean of no episode are none without any fault.

    Nor is a hole, as wide tables have where nothing was logged: only an end longer than any hole before it.
    """
    for name in ("value_loss", "td_loss", "approx_kl", "entropy", "kl_ref", "q_mean", "grad_norm", "return"):
        rows = metrics.get(name) or [(0, 0.0)]
        if math.isfinite(rows[-1][1]) or not any(math.isfinite(value) for _, value in rows):
            continue
        runs = [(known, len(list(run))) for known, run in groupby(math.isfinite(value) for _, value in rows)]
        *before, (_, end) = runs[runs[0][0] is False :]  # what comes before the first number is no hole
        if end <= max((length for known, length in before if not known), default=0):
            continue
        last = max(step for step, value in rows if math.isfinite(value))
        evidence = f"{name} is no longer a number after step {last}"
        return Finding("learning_rate_too_high", strength(BOUND, math.inf), evidence)
    return None


MORE: tuple[Callable[[Logged], Finding | None], ...] = (
    impossible_kl, equal_groups, world_learnt, calls_uncredited, scale_of_returns, explodes,
    leaves_the_reference, loses_again, never_left, prefers_the_rejected,
)  # fmt: skip


def critic_learns(m: Logged) -> bool:
    """Whether the value loss falls, which a dead critic's does not, however little is left to explain.

    Returns that hardly vary, or batches of a few steps, leave a good critic without a share explained.
    """
    if "value_loss" not in m or (count := len(m["value_loss"].values)) < LONG:
        return False
    values = m["value_loss"].values
    return fmean(values[-count // 4 :]) < 0.7 * fmean(values[: count // 4])


def suspects(learner: Learner) -> list[Finding]:
    """The suspects of a learner, the strongest evidence first, among those that its kind can have."""
    m = series_of_log(learner)
    found = [rule(m) for rule in (*RULES, *MORE)] + [no_number(learner.metrics)]
    if critic_learns(m):
        found = [one for one in found if not (one and one.bug == "dead_critic" and one.score < BOUND)]
    if learner.kind == "off-policy":
        found.append(falls(m))
    possible = HOMES.get(learner.kind)
    kept = [one for one in found if one and (not possible or possible & {*everything(one.bug).homes})]
    return _without_consequences(ranked(kept))


def _without_consequences(found: list[Finding]) -> list[Finding]:
    """Leave out what a stronger suspect explains."""
    named = {one.bug for one in found}
    explained = set()
    if "impossible_kl" in named:
        explained.add("kl_sign")  # the penalty is the same estimate, times -beta
    if "reward_scale" in named:
        explained.add("dead_critic")  # a critic that cannot get there explains nothing on its way
    if "equal_groups" in named:
        explained |= {"missing_detach", "calls_uncredited"}  # advantages of 0 move no policy
    if named & {"learning_rate_too_high", "reward_scale"}:
        explained.add("unstable")
    elif "unstable" in named:
        explained.add("wrong_sign")  # what has risen has no wrong sign
    return [one for one in found if one.bug not in explained or one.score >= IDENTITY]


def series_of_log(learner: Learner) -> Logged:
    """The finite values of a learner's metrics, of a Gaussian policy without its entropy.

    The entropy of a density has no zero to fall to: it may rightly end below 0.
    """
    m = {name: finite(name, rows) for name, rows in learner.metrics.items()}
    m = {name: found for name, found in m.items() if found.values}
    if "entropy" in m and ("action_std" in m or min(m["entropy"].values) < 0):
        del m["entropy"]
    return m


# What could be judged

NEEDS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("merged_time_limit", ("gap_truncated",), 1),
    ("bootstraps_past_the_end", ("gap_terminated",), 1),
    ("off_by_one", ("gap_inside",), 1),
    ("missing_detach", ("constants_with_grad",), 1),
    ("missing_detach", ("approx_kl", "return"), LONG),
    ("missing_detach", ("kl_ref",), LONG),
    ("wrong_sign", ("alignment",), LONG),
    ("wrong_sign", ("return",), LONG),
    ("wrong_sign", ("preference_accuracy",), LONG),
    ("stale_log_probs", ("first_ratio_gap",), 1),
    ("dead_critic", ("critic_change",), 2),
    ("dead_critic", ("explained_variance",), 4),
    ("frozen_target", ("target_change",), 2),
    ("unmasked_after_eos", ("loss_tokens", "completion_tokens"), 1),
    ("kl_sign", ("kl_penalty",), 2),
    ("trained_reference", ("approx_kl", "kl_ref"), 2),
    ("trained_reference", ("kl_ref", "return", "entropy"), LONG),
    ("noisy_evaluation", ("eval_return", "eval_return_again"), 1),
    ("unseeded_environment", ("repeat_gap",), 1),
    ("learning_rate_too_high", ("approx_kl",), 1),
    ("learning_rate_too_high", ("descended",), FEW),
    ("learning_rate_too_high", ("q_mean", "return_bound"), 1),
    ("learning_rate_too_high", ("q_mean", "return"), 1),
    ("learning_rate_too_high", ("value_loss",), 4),
    ("learning_rate_too_high", ("td_loss",), 4),
    ("learning_rate_too_high", ("entropy",), LONG),
    ("learning_rate_too_high", ("kl_ref",), LONG),
    ("reward_scale", ("return_bound",), 1),
    ("reward_scale", ("value_loss",), 1),
    ("reward_scale", ("td_loss",), 1),
    ("unstable", ("return",), 2 * LONG),
    ("impossible_kl", ("kl_ref",), LONG),
    ("impossible_kl", ("approx_kl",), LONG),
    ("equal_groups", ("equal_groups",), 4),
    ("equal_groups", ("reward_std",), 4),
    ("world_learnt", ("world_pull",), 1),
    ("calls_uncredited", ("early_pull", "answered"), LONG),
)
"""(suspect, what a rule for it needs, how many values of each at least)."""

ADVICE = {
    "off-policy": ("return", "q_mean", "return_bound", "td_loss", "target_change"),
    "on-policy": ("return", "approx_kl", "explained_variance", "value_loss", "entropy"),
    "text": ("return", "kl_ref", "entropy", "first_ratio_gap", "equal_groups"),
    "": ("return", "approx_kl", "entropy", "explained_variance", "value_loss", "q_mean", "kl_ref"),
}
"""A kind of learner -> what to log first."""


def judged(learner: Learner) -> dict[str, list[str]]:
    """Every suspect that this log could have named, and by which of its metrics."""
    m = series_of_log(learner)
    possible = HOMES.get(learner.kind)
    found: dict[str, list[str]] = {}
    for bug, names, count in NEEDS:
        if possible and not possible & {*everything(bug).homes}:
            continue
        if all(name in m and len(m[name].values) >= count for name in names):
            found.setdefault(bug, []).extend(name for name in names if name not in found.get(bug, []))
    return found
