"""B5's functions against their definitions, and its named edits."""

import math

import numpy as np
from scipy.stats import norm

from chapters.envs.recommendation import Log
from chapters.utils.edits import Edit


def random_belief(rng, num_bandits, d):
    roots = rng.normal(size=(num_bandits, d, d))
    return rng.normal(size=(num_bandits, d)), roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(d)


def random_log(rng, shape, num_types, num_articles):
    """A log, and two policies that show every article."""
    log = Log(
        rng.integers(num_types, size=shape), rng.integers(num_articles, size=shape), rng.random(shape).round()
    )
    policy, logging = (rng.dirichlet(np.ones(num_articles), num_types) for _ in range(2))
    return log, policy, logging


def check_posterior_update(posterior_update):
    """Against the precision form of (1), one play after another, each bandit by itself."""
    rng = np.random.default_rng(0)
    for num_bandits, d in ((1, 1), (4, 3), (3, 6)):
        mean, covariance = random_belief(rng, num_bandits, d)
        precision, pull = np.linalg.inv(covariance), np.zeros((num_bandits, d))
        for b in range(num_bandits):
            pull[b] = precision[b] @ mean[b]
        for play in range(4):
            features, rewards = rng.normal(size=(num_bandits, d)), rng.normal(size=num_bandits)
            mean, covariance = posterior_update(mean, covariance, features, rewards)
            for b in range(num_bandits):
                precision[b] += np.outer(features[b], features[b])
                pull[b] += features[b] * rewards[b]
                expected = np.linalg.inv(precision[b])
                told = f"bandit {b} after {play + 1} plays"
                np.testing.assert_allclose(covariance[b], expected, atol=1e-8, err_msg=f"Sigma, {told}")
                np.testing.assert_allclose(mean[b], expected @ pull[b], atol=1e-8, err_msg=f"mean, {told}")


def scored(rng, width):
    """Beliefs, features and what each arm scores, in loops; some features are the same for all bandits."""
    for num_bandits, num_arms, d, shared in ((1, 2, 1, False), (3, 4, 2, False), (5, 3, 4, True)):
        mean, covariance = random_belief(rng, num_bandits, d)
        features = rng.normal(size=(num_arms, d) if shared else (num_bandits, num_arms, d))
        each = np.broadcast_to(features, (num_bandits, num_arms, d))
        expected = np.zeros((num_bandits, num_arms))
        for b, k in np.ndindex(expected.shape):
            x = each[b, k]
            expected[b, k] = x @ mean[b] + width * math.sqrt(x @ covariance[b] @ x)
        yield mean, covariance, features, expected


def check_ucb_scores(ucb_scores):
    rng = np.random.default_rng(2)
    for num_plays in (0, 1, 2, 50, 4096):
        width = math.sqrt(2 * math.log(max(num_plays, 1)))
        for mean, covariance, features, expected in scored(rng, width):
            found = ucb_scores(mean, covariance, features, num_plays, rng)
            np.testing.assert_allclose(found, expected, atol=1e-10, err_msg=f"after {num_plays} plays")


def check_thompson_scores(thompson_scores):
    """Scores are one linear function of the features, and over many draws they follow the belief."""
    rng = np.random.default_rng(3)
    num_draws, d = 20_000, 3
    mean, covariance = random_belief(rng, 1, d)
    beliefs = np.tile(mean, (num_draws, 1)), np.tile(covariance, (num_draws, 1, 1))
    arms = rng.normal(size=(2, d))
    features = np.concatenate([arms, arms[:1] - 2 * arms[1:]])  # the third is a combination
    scores = thompson_scores(*beliefs, features, 5, rng)
    assert np.shape(scores) == (num_draws, 3)
    combined = scores[:, 0] - 2 * scores[:, 1]
    np.testing.assert_allclose(scores[:, 2], combined, atol=1e-8, err_msg="one draw serves all arms")
    for k, x in enumerate(features):
        quantiles = np.sort(norm(x @ mean[0], math.sqrt(x @ covariance[0] @ x)).cdf(scores[:, k]))
        uniform = (np.arange(num_draws) + 0.5) / num_draws
        assert np.abs(quantiles - uniform).max() < 2.2 / math.sqrt(num_draws), f"arm {k}: not the belief"
    own = thompson_scores(*random_belief(rng, 500, d), np.broadcast_to(features, (500, 3, d)), 5, rng)
    assert np.shape(own) == (500, 3)


def check_LinearAgent(LinearAgent):
    """Starts from N(0, I), shows its rule the belief, plays the highest score, and learns every bandit."""
    rng = np.random.default_rng(4)
    asked = []

    def rule(mean, covariance, features, num_plays, rng):
        asked.append((mean.copy(), covariance.copy(), num_plays))
        return np.array([[0.0, 3.0, 1.0], [2.0, -1.0, 0.0]])

    agent = LinearAgent(2, 4, rule)
    features = rng.normal(size=(2, 3, 4))
    np.testing.assert_array_equal(agent.act(features, 9, rng), [1, 0])
    mean, covariance, num_plays = asked[0]
    assert num_plays == 9
    np.testing.assert_array_equal(mean, np.zeros((2, 4)))
    np.testing.assert_array_equal(covariance, np.stack([np.eye(4)] * 2))
    played, rewards = rng.normal(size=(6, 2, 4)), rng.normal(size=(6, 2))
    for x, r in zip(played, rewards):
        agent.learn(x, r)
    for b in range(2):
        precision = np.eye(4) + played[:, b].T @ played[:, b]
        np.testing.assert_allclose(agent.covariance[b], np.linalg.inv(precision), atol=1e-9)
        expected = np.linalg.solve(precision, played[:, b].T @ rewards[:, b])
        np.testing.assert_allclose(agent.mean[b], expected, atol=1e-9)


def logs_of_all_shapes(rng):
    for shape, num_types, num_articles in (((1,), 1, 2), ((9,), 3, 4), ((4, 6), 5, 2)):
        yield random_log(rng, shape, num_types, num_articles)


def check_importance_ratios(importance_ratios):
    rng = np.random.default_rng(5)
    for log, policy, logging in logs_of_all_shapes(rng):
        found = importance_ratios(log, policy, logging)
        for at in np.ndindex(log.rewards.shape):
            x, a = log.contexts[at], log.actions[at]
            np.testing.assert_allclose(found[at], policy[x, a] / logging[x, a], err_msg=f"record {at}")


def check_direct_method(direct_method):
    rng = np.random.default_rng(6)
    for log, policy, _ in logs_of_all_shapes(rng):
        model = rng.random(policy.shape)
        found = direct_method(log, policy, model)
        for at in np.ndindex(log.rewards.shape):
            x = log.contexts[at]
            expected = sum(policy[x, a] * model[x, a] for a in range(policy.shape[1]))
            np.testing.assert_allclose(found[at], expected, err_msg=f"record {at}")


def check_ips(ips):
    rng = np.random.default_rng(7)
    for log, policy, logging in logs_of_all_shapes(rng):
        found = ips(log, policy, logging)
        for at in np.ndindex(log.rewards.shape):
            x, a = log.contexts[at], log.actions[at]
            np.testing.assert_allclose(found[at], policy[x, a] / logging[x, a] * log.rewards[at])


def check_self_normalised(self_normalised):
    rng = np.random.default_rng(8)
    for shape, num_types, num_articles in (((1, 1), 1, 2), ((1, 9), 3, 4), ((4, 6), 5, 2)):
        log, policy, logging = random_log(rng, shape, num_types, num_articles)
        found = self_normalised(log, policy, logging)
        assert np.shape(found) == shape[:1], "one estimate for each log"
        for m in range(len(found)):
            weighed = weights = 0.0
            for x, a, r in zip(log.contexts[m], log.actions[m], log.rewards[m]):
                weights += policy[x, a] / logging[x, a]
                weighed += policy[x, a] / logging[x, a] * r
            np.testing.assert_allclose(found[m], weighed / weights, atol=1e-12)


def check_doubly_robust(doubly_robust):
    rng = np.random.default_rng(9)
    for log, policy, logging in logs_of_all_shapes(rng):
        model = rng.random(policy.shape)
        found = doubly_robust(log, policy, logging, model)
        for at in np.ndindex(log.rewards.shape):
            x, a, r = log.contexts[at], log.actions[at], log.rewards[at]
            expected = sum(policy[x, other] * model[x, other] for other in range(policy.shape[1]))
            expected += policy[x, a] / logging[x, a] * (r - model[x, a])
            np.testing.assert_allclose(found[at], expected, atol=1e-12, err_msg=f"record {at}")


EDITS = {
    "no_error": Edit(
        function="posterior_update",
        old="errors = rewards - (features * mean).sum(axis=1)",
        new="errors = rewards",
        says="adds gain times reward, without taking off what was expected",
        fails=("worst_slope_LinUCB", "worst_slope_Thompson"),
    ),
    "grows_surer_nowhere": Edit(
        function="posterior_update",
        old="covariance - gain",
        new="covariance + gain",
        says="grows less sure with each reward",
        fails=("worst_slope_LinUCB", "worst_slope_Thompson"),
    ),
    "no_noise": Edit(
        function="posterior_update",
        old="reach / (1.0 + ",
        new="reach / (1e-9 + ",
        says="takes rewards for free of noise: one is enough to be sure",
        fails=("worst_slope_LinUCB", "worst_slope_Thompson"),
    ),
    "no_features": Edit(
        function="posterior_update",
        old="reach[:, None, :]  # eq. (2)",
        new="features[:, None, :]  # eq. (2)",
        says="takes off g x' instead of g x' Sigma",
        fails=("worst_slope_LinUCB", "worst_slope_Thompson"),
    ),
    "no_bonus": Edit(
        function="ucb_scores",
        old=" + width * np.sqrt(variances)",
        new="",
        says="leaves the bonus out: greedy",
        fails=("worst_slope_LinUCB",),
    ),
    "pessimism": Edit(
        function="ucb_scores",
        old=" + width * np.sqrt(variances)",
        new=" - width * np.sqrt(variances)",
        says="subtracts the bonus: what was played is played again",
        fails=("worst_slope_LinUCB",),
    ),
    "variance_for_deviation": Edit(
        function="ucb_scores",
        old="width * np.sqrt(variances)",
        new="width * variances",
        says="adds the variance instead of the standard deviation",
    ),
    "half_the_logarithm": Edit(
        function="ucb_scores",
        old="np.sqrt(2 * np.log(max(num_plays, 1)))",
        new="np.sqrt(np.log(max(num_plays, 1)))",
        says="forgets the 2 before the logarithm",
    ),
    "no_draw": Edit(
        function="thompson_scores",
        old="root @ rng.standard_normal((*mean.shape, 1))",
        new="0.0 * root @ rng.standard_normal((*mean.shape, 1))",
        says="plays by the belief's mean, without a draw",
        fails=("worst_slope_Thompson",),
    ),
    "covariance_for_root": Edit(
        function="thompson_scores",
        old="np.linalg.cholesky(covariance)",
        new="covariance",
        says="multiplies the noise by the covariance instead of its root",
    ),
    "each_weight_alone": Edit(
        function="thompson_scores",
        old="np.linalg.cholesky(covariance)",
        new="np.sqrt(covariance * np.eye(mean.shape[1]))",
        says="draws each weight by itself, as if the belief knew no correlation",
    ),
    "noise_for_each_arm": Edit(
        function="thompson_scores",
        old="return (features @ draw)[:, :, 0]",
        new="return (features @ draw)[:, :, 0] + rng.standard_normal((len(mean), features.shape[-2]))",
        says="adds noise of its own to each arm's score",
        fails=("worst_slope_Thompson",),
    ),
    "lowest_score": Edit(
        function="LinearAgent",
        old=".argmax(axis=1)",
        new=".argmin(axis=1)",
        says="plays the lowest score",
        fails=("worst_slope_LinUCB", "worst_slope_Thompson"),
    ),
    "sure_at_the_start": Edit(
        function="LinearAgent",
        old="np.eye(num_features)",
        new="0.01 * np.eye(num_features)",
        says="starts from a belief with a tenth of the deviation",
        fails=("worst_slope_LinUCB",),
    ),
    "upside_down": Edit(
        function="importance_ratios",
        old="(policy / logging)",
        new="(logging / policy)",
        says="turns the ratio upside down",
        fails=("ips_expected", "dr_expected"),
    ),
    "best_article_only": Edit(
        function="direct_method",
        old="(policy * model).sum(axis=1)",
        new="model.max(axis=1)",
        says="takes the model's best article for what the policy shows",
        fails=("dr_expected",),
    ),
    "unweighted": Edit(
        function="direct_method",
        old="(policy * model).sum(axis=1)",
        new="model.mean(axis=1)",
        says="averages the model over all articles alike",
        fails=("dr_expected",),
    ),
    "no_ratio": Edit(
        function="ips",
        old="importance_ratios(log, policy, logging) * log.rewards",
        new="log.rewards",
        says="no ratio: what the old page earned",
        fails=("ips_expected",),
    ),
    "divided_by_number": Edit(
        function="self_normalised",
        old="/ ratios.sum(axis=1)",
        new="/ ratios.shape[1]",
        says="divides by the number of records: plain IPS",
    ),
    "normalised_over_logs": Edit(
        function="self_normalised",
        old="/ ratios.sum(axis=1)",
        new="/ (ratios.sum() / len(ratios))",
        says="divides by the ratios of all logs together",
    ),
    "no_correction": Edit(
        function="doubly_robust",
        old=" + importance_ratios(log, policy, logging) * errors",
        new="",
        says="leaves the correction out: the direct method",
        fails=("dr_expected",),
    ),
    "reward_for_error": Edit(
        function="doubly_robust",
        old="errors = log.rewards - model[log.contexts, log.actions]",
        new="errors = log.rewards",
        says="adds all of IPS to the model's answer: counts twice",
        fails=("dr_expected",),
    ),
    "error_unweighted": Edit(
        function="doubly_robust",
        old="importance_ratios(log, policy, logging) * errors",
        new="errors",
        says="corrects without the ratio: as right as the model on what the old page showed",
        fails=("dr_expected",),
    ),
}
