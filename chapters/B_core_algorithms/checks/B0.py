"""B0's functions against their definitions, and its named edits."""

import math

import numpy as np
from scipy.integrate import quad
from scipy.stats import beta as beta_distribution

from chapters.utils.edits import Edit


def check_updated_mean(updated_mean):
    """Fed one by one, the rewards give their mean; the old estimate of an empty mean must not matter."""
    rng = np.random.default_rng(0)
    for num_bandits in (1, 5):
        rewards = rng.normal(3.0, 2.0, (7, num_bandits))
        estimate = rng.normal(size=num_bandits)
        for n in range(1, len(rewards) + 1):
            estimate = updated_mean(estimate, np.full(num_bandits, float(n)), rewards[n - 1])
            np.testing.assert_allclose(estimate, rewards[:n].mean(axis=0), rtol=1e-12)


def check_random_argmax(random_argmax):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(200, 6))
    np.testing.assert_array_equal(random_argmax(scores, rng), scores.argmax(axis=1))
    np.testing.assert_array_equal(random_argmax(-np.abs(scores), rng), np.abs(scores).argmin(axis=1))
    # ties, also between infinities, beside a higher index that must not win
    for row, tied in (
        ([0.0] * 4, [0, 1, 2, 3]),
        ([np.inf, 1.0, np.inf, -1.0], [0, 2]),
        ([-2, -2, -3, -3], [0, 1]),
    ):
        picks = random_argmax(np.tile(np.array(row, dtype=float), (20_000, 1)), rng)
        shares = np.bincount(picks, minlength=4) / 20_000
        expected = np.isin(np.arange(4), tied) / len(tied)
        assert (shares[expected == 0] == 0).all()
        assert np.abs(shares - expected).max() < 5 * 0.5 / math.sqrt(20_000)


def check_epsilon_greedy(epsilon_greedy):
    """The frequency of each arm is (1 - epsilon) * [among the best] / ties + epsilon / K."""
    rng = np.random.default_rng(2)
    num_draws = 40_000
    for row, best in (([0.1, 0.9, 0.3], [1]), ([0.7, -0.2, 0.7, 0.0], [0, 2]), ([-1.0, -2.0], [0])):
        for epsilon in (0.0, 0.1, 0.5, 1.0):
            picks = epsilon_greedy(np.tile(row, (num_draws, 1)), epsilon, rng)
            shares = np.bincount(picks, minlength=len(row)) / num_draws
            expected = np.full(len(row), epsilon / len(row))
            expected[best] += (1 - epsilon) / len(best)
            assert np.abs(shares - expected).max() < 5 * 0.5 / math.sqrt(num_draws)


def check_ucb_scores(ucb_scores):
    rng = np.random.default_rng(3)
    estimates = rng.normal(size=(4, 3))
    counts = rng.integers(1, 9, size=(4, 3)).astype(float)
    counts[1, 2] = counts[3, 0] = 0
    for num_plays, c in ((3, 2.0), (57, 0.5), (1000, math.sqrt(2))):
        scores = ucb_scores(estimates, counts, num_plays, c)
        for (bandit, arm), score in np.ndenumerate(scores):
            if counts[bandit, arm] == 0:
                assert score == np.inf
            else:
                bonus = c * math.sqrt(math.log(num_plays) / counts[bandit, arm])
                assert math.isclose(score, estimates[bandit, arm] + bonus, rel_tol=1e-12)
    assert np.isinf(ucb_scores(np.zeros((2, 2)), np.zeros((2, 2)), 0, 2.0)).all()  # the very first play


def check_thompson_scores(thompson_scores):
    """The draws follow Beta(1 + S, 1 + F): their quantiles are uniform."""
    rng = np.random.default_rng(4)
    for successes, failures in ((0, 0), (3, 0), (0, 5), (20, 4)):
        shape = (30_000, 2)
        draws = thompson_scores(np.full(shape, float(successes)), np.full(shape, float(failures)), rng)
        assert draws.shape == shape
        quantiles = np.sort(beta_distribution(1 + successes, 1 + failures).cdf(draws.ravel()))
        uniform = (np.arange(quantiles.size) + 0.5) / quantiles.size
        assert np.abs(quantiles - uniform).max() < 2.2 / math.sqrt(quantiles.size)  # Kolmogorov, p < 1e-3


def check_ValueAgent(ValueAgent):
    """After any history the estimates are the means, the counts the numbers of pulls."""
    rng = np.random.default_rng(7)
    seen = []
    agent = ValueAgent(
        (3, 2), lambda estimates, counts, num_plays, rng: seen.append(num_plays) or np.zeros(3, int)
    )
    agent.act(5, rng)
    assert seen == [5]
    history = [[[] for _ in range(2)] for _ in range(3)]
    for _ in range(20):
        actions, rewards = rng.integers(2, size=3), rng.normal(2.0, 1.0, 3)
        agent.learn(actions, rewards)
        for b in range(3):
            history[b][actions[b]].append(rewards[b])
    for b in range(3):
        for a in range(2):
            assert agent.counts[b, a] == len(history[b][a])
            assert math.isclose(agent.estimates[b, a], np.mean(history[b][a]), rel_tol=1e-9)


def check_thompson_rule(thompson_rule):
    """The better of two beliefs is played as often as it wins, by integration; whatever `num_plays`."""
    rng = np.random.default_rng(8)
    num_draws = 40_000
    for (s0, f0), (s1, f1) in (((2, 0), (0, 1)), ((7, 3), (1, 1)), ((0, 0), (4, 9))):
        counts = np.tile([s0 + f0, s1 + f1], (num_draws, 1)).astype(float)
        estimates = np.tile([s0, s1], (num_draws, 1)) / np.maximum(counts, 1)
        first, second = beta_distribution(1 + s0, 1 + f0), beta_distribution(1 + s1, 1 + f1)
        exact = quad(lambda x: first.pdf(x) * second.cdf(x), 0, 1)[0]  # noqa: B023
        share = (thompson_rule(estimates, counts, 3, rng) == 0).mean()
        assert abs(share - exact) < 5 * 0.5 / math.sqrt(num_draws), f"({s0}, {f0}) against ({s1}, {f1})"


EDITS = {
    "counts_exclude_new": Edit(
        function="updated_mean",
        old="(rewards - estimates) / counts",
        new="(rewards - estimates) / (counts + 1)",
        says="divides by one too many, as if the counts did not include the new reward",
    ),
    "wrong_sign": Edit(
        function="updated_mean",
        old="return estimates + (rewards - estimates)",
        new="return estimates - (rewards - estimates)",
        says="moves the estimate away from the reward",
        fails=(
            "optimal_share_epsilon_0.1",
            "ucb1_below_bound",
            "thompson_slope",
        ),
    ),
    "first_maximum": Edit(
        function="random_argmax",
        old="np.argmax(best * (1.0 - rng.random(scores.shape)), axis=1)",
        new="np.argmax(best, axis=1)",
        says="the first of several equal maxima always wins",
    ),
    "any_arm": Edit(
        function="random_argmax",
        old="best * (1.0 - rng.random(scores.shape))",
        new="1.0 - rng.random(scores.shape)",
        says="any arm, the best or not",
        fails=(
            "optimal_share_epsilon_0.1",
            "ucb1_below_bound",
        ),
    ),
    "mostly_random": Edit(
        function="epsilon_greedy",
        old="rng.random(num_bandits) < epsilon",
        new="rng.random(num_bandits) > epsilon",
        says="explores with probability 1 - epsilon",
        fails=("optimal_share_epsilon_0.1",),
    ),
    "never_explores_last_arm": Edit(
        function="epsilon_greedy",
        old="rng.integers(num_arms, size",
        new="rng.integers(num_arms - 1, size",
        says="never explores the last arm",
        fails=("optimal_share_epsilon_0.1",),
    ),
    "naive_greedy": Edit(
        function="epsilon_greedy",
        old="random_argmax(estimates, rng))",
        new="estimates.argmax(axis=1))",
        says="greedy by the first maximum",
    ),
    "pessimism": Edit(
        function="ucb_scores",
        old="estimates + bonus",
        new="estimates - bonus",
        says="subtracts the bonus: what was pulled often is pulled again",
        fails=("ucb1_below_bound",),
    ),
    "logarithm_of_pulls": Edit(
        function="ucb_scores",
        old="np.log(max(num_plays, 1)) / np.maximum(counts, 1)",
        new="np.log(np.maximum(counts, 1)) / np.maximum(counts, 1)",
        says="the logarithm of the arm's own pulls: an arm left alone never looks better with time",
        fails=("ucb1_below_bound",),
    ),
    "no_square_root": Edit(
        function="ucb_scores",
        old="c * np.sqrt(np.log(max(num_plays, 1))",
        new="c * (np.log(max(num_plays, 1))",
        says="a bonus without its square root",
    ),
    "untried_last": Edit(
        function="ucb_scores",
        old="estimates + bonus, np.inf)",
        new="estimates + bonus, 0.0)",
        says="an arm that was never pulled scores 0, not infinity",
        fails=("ucb1_below_bound",),
    ),
    "swapped_belief": Edit(
        function="thompson_scores",
        old="rng.beta(1.0 + successes, 1.0 + failures)",
        new="rng.beta(1.0 + failures, 1.0 + successes)",
        says="takes successes for failures: believes in the worse arm",
        fails=("thompson_slope",),
    ),
    "no_draw": Edit(
        function="thompson_scores",
        old="rng.beta(1.0 + successes, 1.0 + failures)",
        new="(1.0 + successes) / (2.0 + successes + failures)",
        says="the belief's mean instead of a draw: greedy again",
        fails=("thompson_slope",),
    ),
    "counts_every_arm": Edit(
        function="ValueAgent",
        old="self.counts[pulled] += 1",
        new="self.counts += 1",
        says="counts a pull of every arm",
        fails=(
            "optimal_share_epsilon_0.1",
            "ucb1_below_bound",
            "thompson_slope",
        ),
    ),
    "counts_after_mean": Edit(
        function="ValueAgent",
        old="self.counts[pulled], rewards)",
        new="self.counts[pulled] + 1, rewards)",
        says="counts the new reward twice",
    ),
    "every_pull_a_failure": Edit(
        function="thompson_rule",
        old="thompson_scores(successes, counts - successes, rng)",
        new="thompson_scores(successes, counts, rng)",
        says="counts every pull as a failure, successes too",
        fails=("thompson_slope",),
    ),
}
