"""Exercises of B5: its functions, and what goes beyond them."""

import numpy as np

from chapters.B_core_algorithms.B5_contextual_bandits import doubly_robust
from chapters.envs.recommendation import Log, click_table
from chapters.exercises import Exercise
from chapters.utils.edits import Edit


def cross_fitted(log: Log, policy: np.ndarray, logging: np.ndarray) -> float:
    """The doubly robust estimate from one log [n] whose model of each half is the other half's click table.

    The first half are the first n // 2 records. policy, logging: [S, A].
    """
    half = len(log.rewards) // 2
    first, second = Log(*(part[:half] for part in log)), Log(*(part[half:] for part in log))
    terms = [
        doubly_robust(here, policy, logging, click_table(there, policy.shape))
        for here, there in ((first, second), (second, first))
    ]
    return float(np.concatenate(terms).mean())


def brute_force_term(log, i, policy, logging):
    """The doubly robust term of record i, its model from the records of the other half."""
    half = len(log.rewards) // 2
    others = range(half, len(log.rewards)) if i < half else range(half)

    def model(x, a):
        clicks = [log.rewards[j] for j in others if log.contexts[j] == x and log.actions[j] == a]
        return sum(clicks) / len(clicks) if clicks else 0.0

    x, a = log.contexts[i], log.actions[i]
    expected = sum(policy[x, other] * model(x, other) for other in range(policy.shape[1]))
    return expected + policy[x, a] / logging[x, a] * (log.rewards[i] - model(x, a))


def check_cross_fitted(cross_fitted):
    rng = np.random.default_rng(20)
    for num_types, num_articles, size in ((1, 2, 2), (3, 2, 7), (4, 3, 40)):
        logging = rng.dirichlet(np.full(num_articles, 3.0), num_types)
        policy = rng.dirichlet(np.full(num_articles, 1.0), num_types)
        log = Log(
            rng.integers(num_types, size=size),
            rng.integers(num_articles, size=size),
            rng.integers(2, size=size).astype(float),
        )
        found = cross_fitted(Log(*(part.copy() for part in log)), policy, logging)
        total = sum(brute_force_term(log, i, policy, logging) for i in range(size))
        np.testing.assert_allclose(found, total / size, atol=1e-12, err_msg=f"a log of {size} records")


def clipped_ips(log: Log, policy: np.ndarray, logging: np.ndarray, limit: float) -> np.ndarray:
    """A term for each record, the shape of `log.rewards`: its click, weighed by its ratio or by `limit`."""
    ratios = (policy / logging)[log.contexts, log.actions]
    return np.minimum(ratios, limit) * log.rewards


def check_clipped_ips(clipped_ips):
    rng = np.random.default_rng(21)
    for shape in ((5,), (3, 8)):
        logging, policy = rng.dirichlet(np.ones(4), 3), rng.dirichlet(np.ones(4), 3)
        log = Log(rng.integers(3, size=shape), rng.integers(4, size=shape), rng.random(shape))
        for limit in (0.5, 2.0, 1e9):
            found = clipped_ips(Log(*(part.copy() for part in log)), policy, logging, limit)
            assert np.shape(found) == shape
            for at in np.ndindex(shape):
                x, a = log.contexts[at], log.actions[at]
                weight = min(policy[x, a] / logging[x, a], limit)
                np.testing.assert_allclose(
                    found[at], weight * log.rewards[at], err_msg=f"record {at}, limit {limit}"
                )


EXERCISES = {
    "heart": Exercise(
        title="The heart of it",
        task="""
Write the step of the belief, (2), the optimistic score, (3), and the doubly robust terms, (8).
""",
        minutes=35,
        difficulty="medium",
        functions=("posterior_update", "ucb_scores", "doubly_robust"),
    ),
    "greed": Exercise(
        title="Predict first",
        task="""
`rl break B5 no_draw` plays by the belief's mean. Where is its regret *smaller* than Thompson sampling's, and
why does its worst case grow with $T$ itself?
""",
        minutes=10,
        difficulty="easy",
        answer=r"""
At first, and on many single runs: it spends nothing on exploring. But if its first rewards make a worse arm
look good enough, it plays that arm for ever. All its plays then have the same $x$, and in the directions
that $x$ does not tell apart the belief never moves again.
""",
    ),
    "cross_fitted": Exercise(
        title="Fit here, correct there",
        task="""
Write the cross-fitted estimate of section 5 for one log, with two halves and the table of mean clicks
(`click_table` of `chapters.envs.recommendation`) as the model. Then: a cell that the other half never saw
has the model 0. Is the estimate still right on average?
""",
        minutes=20,
        difficulty="medium",
        solution=cross_fitted,
        check=check_cross_fitted,
        hints=(
            "For each half in turn: a model from the other, the terms of (8) on this one.",
            "The halves of an odd number differ: it is the mean over all terms, not of two means.",
            "half = len(log.rewards) // 2",
        ),
        edits={
            "own_half": Edit(
                function="cross_fitted",
                old="click_table(there, policy.shape)",
                new="click_table(here, policy.shape)",
                says="fits each half's model on the half that it corrects",
            ),
            "whole_log": Edit(
                function="cross_fitted",
                old="click_table(there, policy.shape)",
                new="click_table(log, policy.shape)",
                says="fits one model on the whole log",
            ),
            "mean_of_means": Edit(
                function="cross_fitted",
                old="float(np.concatenate(terms).mean())",
                new="float(np.mean([part.mean() for part in terms]))",
                says="averages the two halves' means, though the halves may differ in size",
            ),
            "one_half_only": Edit(
                function="cross_fitted",
                old="((first, second), (second, first))",
                new="((second, first),)",
                says="uses the first half for the model only, and never changes sides",
            ),
        },
        answer="""
Yes. DR is right on average whatever the model, so long as the model does not depend on the records that it
is corrected by. A zero only costs variance: in that cell the estimate is IPS.
""",
    ),
    "clipped_ips": Exercise(
        title="A limit for the ratio",
        task=r"""
One record with $w = 30$ can move the whole estimate. Clip: weigh with $\min(w, c)$ instead of $w$. Then: on
which side of the truth is the estimate, and where have you met this bargain, or will meet it?
""",
        minutes=10,
        difficulty="easy",
        solution=clipped_ips,
        check=check_clipped_ips,
        hints=(
            "All that changes is what a click is multiplied by.",
            "With a limit above every ratio it is IPS; with the limit 0 it is 0.",
            "ratios = (policy / logging)[log.contexts, log.actions]",
        ),
        edits={
            "clips_the_term_below": Edit(
                function="clipped_ips",
                old="np.minimum(ratios, limit)",
                new="np.maximum(ratios, limit)",
                says="raises small ratios to the limit instead of cutting large ones",
            ),
            "drops_the_large": Edit(
                function="clipped_ips",
                old="np.minimum(ratios, limit)",
                new="(ratios * (ratios <= limit))",
                says="drops a record with a large ratio instead of weighing it less",
            ),
            "upside_down": Edit(
                function="clipped_ips",
                old="(policy / logging)",
                new="(logging / policy)",
                says="turns the ratio upside down",
            ),
        },
        answer=r"""
Below, or at it: clicks are never negative, and no weight grew. The bias is $-\mathbb E[\max(w - c, 0)\, r]$,
bought for less variance. PPO (C2) clips the ratio of one step too, within a loss; V-trace (C7) that of each
step.
""",
    ),
}
