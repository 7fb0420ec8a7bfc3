"""Definition checks of B0: bandits."""

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


def check_softmax(softmax):
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(3, 4)) * 5
    for row, probabilities in zip(logits, softmax(logits)):
        total = sum(math.exp(x) for x in row)
        np.testing.assert_allclose(probabilities, [math.exp(x) / total for x in row], rtol=1e-12)
    np.testing.assert_allclose(softmax(logits + 1e6), softmax(logits), rtol=1e-6)  # no overflow


def check_gradient_step(gradient_step):
    """Entry by entry as written; and on average over actions the gradient of the expected reward."""
    rng = np.random.default_rng(6)
    logits, rewards, baseline = rng.normal(size=(5, 4)), rng.normal(size=5), rng.normal(size=5)
    actions = rng.integers(4, size=5)
    stepped = gradient_step(logits, actions, rewards, baseline, 0.3)
    for b in range(5):
        pi = np.exp(logits[b]) / np.exp(logits[b]).sum()
        for a in range(4):
            step = 0.3 * (rewards[b] - baseline[b]) * ((a == actions[b]) - pi[a])
            assert math.isclose(stepped[b, a], logits[b, a] + step, rel_tol=1e-9)

    def expected_reward(row):
        return float(np.exp(row) @ q / np.exp(row).sum())

    q, row = rng.normal(size=4), rng.normal(size=4)
    pi = np.exp(row) / np.exp(row).sum()
    steps = gradient_step(np.tile(row, (4, 1)), np.arange(4), q, np.full(4, 0.7), 1.0) - row
    nudges = 1e-5 * np.eye(4)
    numeric = [(expected_reward(row + nudge) - expected_reward(row - nudge)) / 2e-5 for nudge in nudges]
    np.testing.assert_allclose(pi @ steps, numeric, atol=1e-8)


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


def check_ThompsonAgent(ThompsonAgent):
    rng = np.random.default_rng(8)
    agent = ThompsonAgent((2, 2))
    for actions, rewards in (([0, 1], [1.0, 0.0]), ([0, 1], [1.0, 1.0]), ([1, 1], [0.0, 0.0])):
        agent.learn(np.array(actions), np.array(rewards))
    np.testing.assert_array_equal(agent.successes, [[2, 0], [0, 1]])
    np.testing.assert_array_equal(agent.failures, [[0, 1], [0, 2]])
    # P(theta_0 > theta_1) for Beta(3, 1) against Beta(1, 2), by integration
    copies = ThompsonAgent((40_000, 2))
    copies.successes[:], copies.failures[:] = [2, 0], [0, 1]
    exact = quad(lambda x: beta_distribution(3, 1).pdf(x) * beta_distribution(1, 2).cdf(x), 0, 1)[0]
    assert abs((copies.act(3, rng) == 0).mean() - exact) < 5 * 0.5 / math.sqrt(40_000)


def check_GradientAgent(GradientAgent):
    """Plays from the softmax of its logits; its baseline is the mean of the rewards before this one."""
    rng = np.random.default_rng(9)
    agent = GradientAgent((30_000, 3), 0.1)
    agent.logits[:] = [0.0, 1.0, -1.0]
    shares = np.bincount(agent.act(0, rng), minlength=3) / 30_000
    expected = np.exp([0.0, 1.0, -1.0]) / np.exp([0.0, 1.0, -1.0]).sum()
    assert np.abs(shares - expected).max() < 5 * 0.5 / math.sqrt(30_000)

    for use_baseline in (True, False):
        agent, logits, earlier = GradientAgent((1, 3), 0.4, use_baseline), np.zeros(3), []
        for _ in range(6):
            action, reward = int(rng.integers(3)), float(rng.normal(4.0))
            agent.learn(np.array([action]), np.array([reward]))
            baseline = np.mean(earlier) if use_baseline and earlier else 0.0
            pi = np.exp(logits) / np.exp(logits).sum()
            logits = logits + 0.4 * (reward - baseline) * (np.eye(3)[action] - pi)
            earlier.append(reward)
            np.testing.assert_allclose(agent.logits[0], logits, rtol=1e-9)


class ScriptedAgent:
    """Plays given actions [T, B] and keeps what it was told."""

    def __init__(self, actions):
        self.actions, self.rewards, self.asked = actions, [], []

    def act(self, num_plays, rng):
        self.asked.append(num_plays)
        return self.actions[num_plays]

    def learn(self, actions, rewards):
        np.testing.assert_array_equal(actions, self.actions[len(self.rewards)])
        self.rewards.append(rewards.copy())


def check_play(play):
    rng = np.random.default_rng(10)
    num_steps, num_bandits = 40, 500
    for bernoulli in (False, True):
        means = rng.random((num_bandits, 3))
        agent = ScriptedAgent(rng.integers(3, size=(num_steps, num_bandits)))
        curves = play(agent, means, num_steps, rng, bernoulli)
        assert agent.asked == list(range(num_steps))
        rewards = np.array(agent.rewards)  # [T, B]
        played = np.take_along_axis(means, agent.actions.T, axis=1).T
        np.testing.assert_allclose(curves.reward, rewards.mean(axis=1))
        np.testing.assert_allclose(curves.bandit_reward, rewards.mean(axis=0))
        np.testing.assert_allclose(curves.optimal, (agent.actions == means.argmax(axis=1)).mean(axis=1))
        np.testing.assert_allclose(curves.regret, np.cumsum((means.max(axis=1) - played).mean(axis=1)))
        noise = rewards - played
        variance = (played * (1 - played)).mean() if bernoulli else 1.0
        assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
        assert abs(noise.var() - variance) < 0.05
        assert set(np.unique(rewards)) <= {0.0, 1.0} or not bernoulli


def check_expected_maximum(expected_maximum):
    assert math.isclose(expected_maximum(2), 1 / math.sqrt(math.pi), rel_tol=1e-8)  # closed forms
    assert math.isclose(expected_maximum(3), 1.5 / math.sqrt(math.pi), rel_tol=1e-8)
    sample = np.random.default_rng(11).standard_normal((100_000, 10)).max(axis=1)
    assert abs(expected_maximum(10) - sample.mean()) < 5 * sample.std() / math.sqrt(100_000)


def check_bernoulli_kl(bernoulli_kl):
    for p, q in ((0.5, 0.25), (0.25, 0.5), (0.9, 0.1), (0.3, 0.3)):
        outcomes = ((p, q), (1 - p, 1 - q))
        assert math.isclose(bernoulli_kl(p, q), sum(a * math.log(a / b) for a, b in outcomes), abs_tol=1e-12)


def check_lai_robbins(lai_robbins):
    def kl(p, q):
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    assert math.isclose(lai_robbins((0.5, 0.25)), 0.25 / kl(0.25, 0.5))
    assert math.isclose(lai_robbins((0.2, 0.9, 0.6)), 0.7 / kl(0.2, 0.9) + 0.3 / kl(0.6, 0.9))
    assert lai_robbins((0.4, 0.4)) == 0


def check_auer_bound(auer_bound):
    bounds = auer_bound((0.9, 0.6, 0.9, 0.5), np.array([1.0, 100.0]))
    for bound, plays in zip(bounds, (1.0, 100.0)):
        exploring = 8 * math.log(plays) / 0.3 + 8 * math.log(plays) / 0.4
        assert math.isclose(bound, exploring + (1 + math.pi**2 / 3) * 0.7, rel_tol=1e-12)


def check_log_slope(log_slope):
    plays = np.arange(1, 2001)
    assert math.isclose(log_slope(3.0 + 1.7 * np.log(plays), 20, 2000), 1.7, rel_tol=1e-12)


def check_known_best_regret(known_best_regret):
    """Against the same game played step by step."""
    rng = np.random.default_rng(12)
    num_runs, mean, best, horizons = 4000, 0.3, 0.6, np.array([5.0, 40.0, 200.0])
    successes, failures, pulls = np.zeros((3, num_runs))
    regret = []
    for step in range(1, 201):
        worse = rng.beta(1 + successes, 1 + failures) > best
        success = rng.random(num_runs) < mean
        successes += worse & success
        failures += worse & ~success
        pulls += worse
        if step in horizons:
            regret.append((best - mean) * pulls.mean())
    jumped = known_best_regret(mean, best, horizons, 4000, rng)
    spread = (best - mean) * pulls.std() / math.sqrt(num_runs)
    assert np.abs(jumped - regret).max() < 5 * math.sqrt(2) * spread


EDITS = {
    "counts_do_not_include": Edit(
        function="updated_mean",
        old="(rewards - estimates) / counts",
        new="(rewards - estimates) / (counts + 1)",
        says="counts do not include the new reward",
    ),
    "wrong_sign": Edit(
        function="updated_mean",
        old="return estimates + (rewards - estimates)",
        new="return estimates - (rewards - estimates)",
        says="wrong sign",
    ),
    "first_maximum": Edit(
        function="random_argmax",
        old="np.argmax(best * (1.0 - rng.random(scores.shape)), axis=1)",
        new="np.argmax(best, axis=1)",
        says="first maximum",
    ),
    "any_arm": Edit(
        function="random_argmax",
        old="best * (1.0 - rng.random(scores.shape))",
        new="1.0 - rng.random(scores.shape)",
        says="any arm",
    ),
    "explores_1_epsilon": Edit(
        function="epsilon_greedy",
        old="rng.random(num_bandits) < epsilon",
        new="rng.random(num_bandits) > epsilon",
        says="explores with 1 - epsilon",
    ),
    "never_explores_last_arm": Edit(
        function="epsilon_greedy",
        old="rng.integers(num_arms, size",
        new="rng.integers(num_arms - 1, size",
        says="never explores the last arm",
    ),
    "epsilon_greedy_first_maximum": Edit(
        function="epsilon_greedy",
        old="random_argmax(estimates, rng))",
        new="estimates.argmax(axis=1))",
        says="first maximum",
    ),
    "bonus_subtracted": Edit(
        function="ucb_scores",
        old="estimates + bonus",
        new="estimates - bonus",
        says="bonus subtracted",
    ),
    "logarithm_pulls": Edit(
        function="ucb_scores",
        old="np.log(max(num_plays, 1)) / np.maximum(counts, 1)",
        new="np.log(np.maximum(counts, 1)) / np.maximum(counts, 1)",
        says="logarithm of the pulls",
    ),
    "no_square_root": Edit(
        function="ucb_scores",
        old="c * np.sqrt(np.log(max(num_plays, 1))",
        new="c * (np.log(max(num_plays, 1))",
        says="no square root",
    ),
    "untried_arms_not_first": Edit(
        function="ucb_scores",
        old="estimates + bonus, np.inf)",
        new="estimates + bonus, 0.0)",
        says="untried arms not first",
    ),
    "successes_failures_swapped": Edit(
        function="thompson_scores",
        old="rng.beta(1.0 + successes, 1.0 + failures)",
        new="rng.beta(1.0 + failures, 1.0 + successes)",
        says="successes and failures swapped",
    ),
    "no_draw_mean": Edit(
        function="thompson_scores",
        old="rng.beta(1.0 + successes, 1.0 + failures)",
        new="(1.0 + successes) / (2.0 + successes + failures)",
        says="no draw, the mean",
    ),
    "overflows": Edit(
        function="softmax",
        old="np.exp(logits - logits.max(axis=1, keepdims=True))",
        new="np.exp(logits)",
        says="overflows",
    ),
    "normalised_over_bandits": Edit(
        function="softmax",
        old="weights.sum(axis=1, keepdims=True)",
        new="weights.sum(axis=0, keepdims=True)",
        says="normalised over bandits",
    ),
    "baseline_added": Edit(
        function="gradient_step",
        old="(rewards - baseline)[:, None]",
        new="(rewards + baseline)[:, None]",
        says="baseline added",
    ),
    "descends": Edit(
        function="gradient_step",
        old="logits + alpha *",
        new="logits - alpha *",
        says="descends",
    ),
    "only_chosen_arm": Edit(
        function="gradient_step",
        old="(chosen - softmax(logits))",
        new="chosen * (1 - softmax(logits))",
        says="only the chosen arm",
    ),
    "counts_every_arm": Edit(
        function="ValueAgent",
        old="self.counts[pulled] += 1",
        new="self.counts += 1",
        says="counts every arm",
    ),
    "counts_after_mean": Edit(
        function="ValueAgent",
        old="self.counts[pulled], rewards)",
        new="self.counts[pulled] + 1, rewards)",
        says="counts after the mean",
    ),
    "thompsonagent_successes_failures_swapped": Edit(
        function="ThompsonAgent",
        old="self.successes[pulled] += rewards",
        new="self.successes[pulled] += 1.0 - rewards",
        says="successes and failures swapped",
    ),
    "failures_never_counted": Edit(
        function="ThompsonAgent",
        old="self.failures[pulled] += 1.0 - rewards",
        new="pass",
        says="failures never counted",
    ),
    "baseline_includes_new_reward": Edit(
        function="GradientAgent",
        old="np.full(len(rewards), float(self.num_plays))",
        new="np.ones(len(rewards))",
        says="baseline includes the new reward twice",
    ),
    "greedy_instead_sampled": Edit(
        function="GradientAgent",
        old="np.argmax(self.logits + gumbel, axis=1)",
        new="np.argmax(self.logits, axis=1)",
        says="greedy instead of sampled",
    ),
    "gumbel_noise_one_logarithm": Edit(
        function="GradientAgent",
        old="-np.log(-np.log(1.0 -",
        new="-(-np.log(1.0 -",
        says="Gumbel noise with one logarithm",
    ),
    "regret_not_summed": Edit(
        function="play",
        old="gaps.cumsum()",
        new="gaps",
        says="regret not summed",
    ),
    "regret_against_reward": Edit(
        function="play",
        old="(best - played).mean()",
        new="(best - rewards).mean()",
        says="regret against the reward",
    ),
    "agent_learns_mean": Edit(
        function="play",
        old="agent.learn(actions, rewards)",
        new="agent.learn(actions, played)",
        says="agent learns the mean",
    ),
    "one_arm_too_few": Edit(
        function="expected_maximum",
        old="norm.cdf(x) ** (num_arms - 1)",
        new="norm.cdf(x) ** num_arms",
        says="one arm too few",
    ),
    "arguments_swapped": Edit(
        function="bernoulli_kl",
        old="p * np.log(p / q)",
        new="q * np.log(q / p)",
        says="arguments swapped",
    ),
    "kl_wrong_way_round": Edit(
        function="lai_robbins",
        old="bernoulli_kl(mean, best)",
        new="bernoulli_kl(best, mean)",
        says="KL the wrong way round",
    ),
    "gap_missing": Edit(
        function="lai_robbins",
        old="sum((best - mean) / bernoulli_kl",
        new="sum(1 / bernoulli_kl",
        says="gap missing",
    ),
    "gap_multiplied": Edit(
        function="auer_bound",
        old="8 * np.log(num_plays) / gap",
        new="8 * np.log(num_plays) * gap",
        says="gap multiplied",
    ),
    "constant_term": Edit(
        function="auer_bound",
        old="1 + np.pi**2 / 3",
        new="np.pi**2 / 3",
        says="constant term",
    ),
    "index_off_one": Edit(
        function="log_slope",
        old="regret[start - 1]",
        new="regret[start]",
        says="index off by one",
    ),
    "tail_wrong_side": Edit(
        function="known_best_regret",
        old="1.0 + failures, 1.0 + successes, 1.0 - best",
        new="1.0 + successes, 1.0 + failures, 1.0 - best",
        says="tail on the wrong side",
    ),
    "failures_successes_swapped": Edit(
        function="known_best_regret",
        old="success = rng.random(num_runs) < mean",
        new="success = rng.random(num_runs) > mean",
        says="failures and successes swapped",
    ),
}
