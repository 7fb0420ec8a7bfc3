"""B0: whole agents against the exact regret, found by enumerating every history of a small bandit."""

import functools
import itertools
import math

import numpy as np
import pytest
from scipy.stats import beta

from chapters.B_core_algorithms import B0_multi_armed_bandits as lesson
from chapters.B_core_algorithms.checks.B0 import EDITS
from chapters.B_core_algorithms.evidence import B0 as evidence
from chapters.envs import bandits
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited

MEANS, NUM_PLAYS, NUM_RUNS, EPSILON = (0.7, 0.4), 8, 40_000, 0.1
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


def ties_shared(scores):
    best = [score == max(scores) for score in scores]
    return [b / sum(best) for b in best]


def epsilon_greedy(counts, num_plays):
    means = [s / max(s + f, 1) for s, f in counts]
    return [(1 - EPSILON) * share + EPSILON / 2 for share in ties_shared(means)]


def ucb1(counts, num_plays):
    def score(s, f):
        return s / (s + f) + np.sqrt(2 * np.log(num_plays) / (s + f)) if s + f else np.inf

    return ties_shared([score(*arm) for arm in counts])


def thompson(counts, num_plays):
    (s0, f0), (s1, f1) = counts
    x = (NODES + 1) / 2  # a polynomial of degree 17 at most, which 16 nodes integrate exactly
    first = WEIGHTS @ (beta.pdf(x, 1 + s0, 1 + f0) * beta.cdf(x, 1 + s1, 1 + f1)) / 2
    return [first, 1 - first]


@functools.cache
def exact_regret(choose):
    """Expected regret after NUM_PLAYS plays: every history's counts, with their probability."""
    histories, regret = {((0, 0), (0, 0)): 1.0}, 0.0
    for num_plays in range(NUM_PLAYS):
        following = {}
        for (counts, probability), arm in itertools.product(histories.items(), (0, 1)):
            chance = probability * choose(counts, num_plays)[arm]
            regret += chance * (max(MEANS) - MEANS[arm])
            for success in (0, 1):
                after = list(counts)
                after[arm] = (counts[arm][0] + success, counts[arm][1] + 1 - success)
                share = chance * (MEANS[arm] if success else 1 - MEANS[arm])
                following[tuple(after)] = following.get(tuple(after), 0.0) + share
        histories = following
    return regret


AGENTS = {
    "epsilon": (epsilon_greedy, lambda module, shape: module.ValueAgent(shape, module.greedy_rule(EPSILON))),
    "ucb1": (ucb1, lambda module, shape: module.ValueAgent(shape, module.ucb_rule(2**0.5))),
    "thompson": (thompson, lambda module, shape: module.ValueAgent(shape, module.thompson_rule)),
}


def deviation(module, name):
    """Simulated minus exact regret, in (at most) standard errors."""
    choose, make = AGENTS[name]
    rng = np.random.default_rng(0)
    agent = make(module, (NUM_RUNS, 2))
    curves = bandits.play(agent, np.tile(MEANS, (NUM_RUNS, 1)), NUM_PLAYS, rng, bernoulli=True)
    widest = NUM_PLAYS * (MEANS[0] - MEANS[1]) / 2  # no run's regret varies more than this
    return abs(curves.regret[-1] - exact_regret(choose)) / (widest / np.sqrt(NUM_RUNS))


@pytest.mark.parametrize("name", AGENTS)
def test_agent_has_the_exact_regret(name):
    assert deviation(lesson, name) < 4


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("epsilon", "mostly_random"),
        ("epsilon", "first_maximum"),
        ("ucb1", "pessimism"),
        ("ucb1", "untried_last"),
        ("thompson", "swapped_belief"),
        ("thompson", "no_draw"),
        ("thompson", "every_pull_a_failure"),
    ],
)
def test_a_wrong_agent_has_not(name, edit):
    assert deviation(edited(lesson, EDITS[edit]), name) > 5


# The bandits that are played


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


def check_play(module):
    rng = np.random.default_rng(10)
    num_steps, num_bandits = 40, 500
    for bernoulli in (False, True):
        means = rng.random((num_bandits, 3))
        agent = ScriptedAgent(rng.integers(3, size=(num_steps, num_bandits)))
        curves = module.play(agent, means, num_steps, rng, bernoulli)
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


def test_play():
    check_play(bandits)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gaps.cumsum()", "gaps"),
        ("(best - played).mean()", "(best - rewards).mean()"),
        ("agent.learn(actions, rewards)", "agent.learn(actions, played)"),
        ("(played == best).mean()", "(rewards == best).mean()"),
        ("bandit_reward / num_steps", "bandit_reward"),
    ],
    ids=[
        "regret not summed", "regret against the reward", "agent learns the mean", "reward for arm",
        "total reward",
    ],
)  # fmt: skip
def test_a_wrong_play_is_noticed(old, new):
    with pytest.raises(AssertionError):
        check_play(edited(bandits, Edit("play", old, new, "wrong")))


# What the evidence measures with


def check_gradient_step(module):
    """Entry by entry as written; and on average over actions the gradient of the expected reward."""
    rng = np.random.default_rng(6)
    logits, rewards, baseline = rng.normal(size=(5, 4)), rng.normal(size=5), rng.normal(size=5)
    actions = rng.integers(4, size=5)
    stepped = module.gradient_step(logits, actions, rewards, baseline, 0.3)
    for b in range(5):
        pi = np.exp(logits[b]) / np.exp(logits[b]).sum()
        for a in range(4):
            step = 0.3 * (rewards[b] - baseline[b]) * ((a == actions[b]) - pi[a])
            assert math.isclose(stepped[b, a], logits[b, a] + step, rel_tol=1e-9)

    def expected_reward(row):
        return float(np.exp(row) @ q / np.exp(row).sum())

    q, row = rng.normal(size=4), rng.normal(size=4)
    pi = np.exp(row) / np.exp(row).sum()
    steps = module.gradient_step(np.tile(row, (4, 1)), np.arange(4), q, np.full(4, 0.7), 1.0) - row
    nudges = 1e-5 * np.eye(4)
    numeric = [(expected_reward(row + nudge) - expected_reward(row - nudge)) / 2e-5 for nudge in nudges]
    np.testing.assert_allclose(pi @ steps, numeric, atol=1e-8)


def check_gradient_agent(module):
    """Plays from the softmax of its logits; its baseline is the mean of the rewards before this one."""
    rng = np.random.default_rng(9)
    agent = module.GradientAgent((30_000, 3), 0.1)
    agent.logits[:] = [0.0, 1.0, -1.0]
    shares = np.bincount(agent.act(0, rng), minlength=3) / 30_000
    expected = np.exp([0.0, 1.0, -1.0]) / np.exp([0.0, 1.0, -1.0]).sum()
    assert np.abs(shares - expected).max() < 5 * 0.5 / math.sqrt(30_000)

    for use_baseline in (True, False):
        agent, logits, earlier = module.GradientAgent((1, 3), 0.4, use_baseline), np.zeros(3), []
        for _ in range(6):
            action, reward = int(rng.integers(3)), float(rng.normal(4.0))
            agent.learn(np.array([action]), np.array([reward]))
            baseline = np.mean(earlier) if use_baseline and earlier else 0.0
            pi = np.exp(logits) / np.exp(logits).sum()
            logits = logits + 0.4 * (reward - baseline) * (np.eye(3)[action] - pi)
            earlier.append(reward)
            np.testing.assert_allclose(agent.logits[0], logits, rtol=1e-9)


def check_known_best_regret(module):
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
    jumped = module.known_best_regret(mean, best, horizons, 4000, rng)
    spread = (best - mean) * pulls.std() / math.sqrt(num_runs)
    assert np.abs(jumped - regret).max() < 5 * math.sqrt(2) * spread


def check_gradient_error(module):
    assert module.gradient_error(10, np.random.default_rng(0)) < 1e-12


EVIDENCE_CHECKS = [check_gradient_step, check_gradient_agent, check_known_best_regret, check_gradient_error]
WRONG = {
    "baseline added": (check_gradient_step, "(rewards - baseline)[:, None]", "(rewards + baseline)[:, None]"),
    "descends": (check_gradient_step, "return logits + alpha *", "return logits - alpha *"),
    "only the chosen arm": (
        check_gradient_step, "(chosen - softmax(logits, axis=1))", "chosen * (1 - softmax(logits, axis=1))",
    ),
    "seen as no gradient": (
        check_gradient_error, "softmax(logits, axis=1))", "1.1 * softmax(logits, axis=1))",
    ),
    "normalised over bandits": (
        check_gradient_step, "(chosen - softmax(logits, axis=1))", "(chosen - softmax(logits, axis=0))",
    ),
    "baseline is the last reward": (
        check_gradient_agent, "np.full(len(rewards), float(self.num_plays))", "np.ones(len(rewards))",
    ),
    "greedy instead of sampled": (
        check_gradient_agent, "np.argmax(self.logits + gumbel, axis=1)", "np.argmax(self.logits, axis=1)",
    ),
    "Gumbel noise with one logarithm": (check_gradient_agent, "-np.log(-np.log(1.0 -", "-(-np.log(1.0 -"),
    "always a baseline": (check_gradient_agent, "if self.use_baseline:", "if True:"),
    "tail on the wrong side": (
        check_known_best_regret, "1.0 + failures, 1.0 + successes, 1.0 - best",
        "1.0 + successes, 1.0 + failures, 1.0 - best",
    ),
    "failures and successes swapped": (
        check_known_best_regret, "rng.random(num_runs) < mean", "rng.random(num_runs) > mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("check", EVIDENCE_CHECKS)
def test_what_the_evidence_measures_with(check):
    check(evidence)


@pytest.mark.parametrize(("check", "old", "new"), WRONG.values(), ids=WRONG)
def test_a_wrong_measure_is_noticed(check, old, new):
    with pytest.raises(AssertionError):
        check(edited(evidence, Edit("", old, new, "wrong")))


def test_the_known_arm_must_be_the_better_one():
    with pytest.raises(ValueError, match="must be the better one"):
        evidence.known_best_regret(0.5, 0.5, np.array([10.0]), 10, np.random.default_rng(0))


def test_tie_bias_sees_a_favourite(monkeypatch):
    rng = np.random.default_rng(0)
    assert evidence.tie_bias(10, rng) < 4.5
    monkeypatch.setattr(lesson, "random_argmax", lambda scores, rng: scores.argmax(axis=1))
    assert evidence.tie_bias(10, rng) > 100


def test_order_matters_to_the_first_maximum_alone():
    """What B0 says of `first_maximum`: nothing changes on arms as drawn, everything on arms in order."""
    rng = np.random.default_rng(0)
    rising = np.sort(rng.standard_normal((500, 10)), axis=1)
    naive = edited(lesson, EDITS["first_maximum"])
    last, first = (
        evidence.greedy_share(naive, np.ascontiguousarray(m), rng) for m in (rising, rising[:, ::-1])
    )
    assert last < 0.15
    assert first > 0.8
    assert 0.25 < evidence.greedy_share(lesson, rising, rng) < 0.45


# What the lesson's own curves are made of


def rules_played(run, cfg, monkeypatch):
    """{name: (agent, means, number of plays, whether rewards are 0 and 1)}, none of them played."""
    played = []

    def play(agent, means, num_steps, rng, bernoulli=False):
        played.append((agent, means, num_steps, bernoulli))
        return bandits.Curves(*np.full((4, 1), len(played) - 1))

    monkeypatch.setattr(lesson, "play", play)
    return {name: played[int(made.reward[0])] for name, made in run(cfg, np.random.default_rng(0)).items()}


def share_of_others(agent, rng):
    """How often an agent plays another arm than the one that looks best."""
    agent.estimates[:, 1] = 1.0
    agent.counts[:] = 1000.0
    return (agent.act(1000, rng) != 1).mean()


def bonus(agent, rng):
    """The c of a UCB rule: the lead at which an arm pulled 100 times draws level with one pulled once."""
    for lead in np.arange(0.0, 10.0, 0.01):
        agent.estimates[:], agent.counts[:] = -100.0, 1.0
        agent.estimates[:, :2], agent.counts[:, 0] = (lead, 0.0), 100.0
        if (agent.act(1000, rng) == 0).all():
            return lead / (math.sqrt(math.log(1000)) * (1 - 0.1))
    return math.inf


def test_each_rule_of_the_testbed_is_what_its_name_says(monkeypatch):
    rng = np.random.default_rng(1)
    cfg = lesson.Config(num_bandits=40_000, num_steps=70, ucb_c=2.0)
    rules = rules_played(lesson.run_testbed, cfg, monkeypatch)
    for name, epsilon in (("greedy", 0.0), ("epsilon_0.01", 0.01), ("epsilon_0.1", 0.1)):
        error = 5 * math.sqrt(0.9 * epsilon / 40_000)
        assert share_of_others(rules[name][0], rng) == pytest.approx(0.9 * epsilon, abs=error)
    assert bonus(lesson.ValueAgent((3, 10), rules["ucb"][0].choose), rng) == pytest.approx(2.0, abs=0.02)
    means = rules["greedy"][1]
    assert means.shape == (40_000, 10)
    assert abs(means.mean()) < 0.01
    assert means.std() == pytest.approx(1.0, abs=0.01)
    for _, same, num_plays, bernoulli in rules.values():
        assert same is means
        assert (num_plays, bernoulli) == (70, False)


def test_each_rule_of_the_two_arms_is_what_its_name_says(monkeypatch):
    rng = np.random.default_rng(2)
    cfg = lesson.Config(num_runs=40_000, horizon=900, short_horizon=90)
    rules = rules_played(lesson.run_bernoulli, cfg, monkeypatch)
    assert {name: plays for name, (_, _, plays, _) in rules.items()} == {
        "thompson": 900,
        "ucb1": 90,
        "epsilon": 90,
    }
    for _, means, _, bernoulli in rules.values():
        assert (means == lesson.MEANS).all()
        assert means.shape == (40_000, 2)
        assert bernoulli
    assert share_of_others(rules["epsilon"][0], rng) == pytest.approx(0.05, abs=0.006), "one of two arms"
    assert bonus(lesson.ValueAgent((3, 2), rules["ucb1"][0].choose), rng) == pytest.approx(2**0.5, abs=0.02)
    thompson = rules["thompson"][0]
    thompson.counts[:], thompson.estimates[:] = (1.0, 2.0), (1.0, 0.5)
    # theta_1 ~ Beta(2, 1), theta_2 ~ Beta(2, 2): the first is larger with probability 0.7
    assert (thompson.act(3, rng) == 0).mean() == pytest.approx(0.7, abs=0.012)


def test_curves_are_written_as_means_of_ten_and_regret_at_its_horizons(tmp_path):
    log = RunLog(tmp_path, "B0")
    steps = np.arange(1000)
    testbed = {"ucb": bandits.Curves(steps, (steps % 20 < 10).astype(float), steps, steps)}
    bernoulli = {"thompson": bandits.Curves(steps, steps, 10.0 * (steps + 1), steps)}
    lesson.write_curves(testbed, bernoulli, log)
    log.close()
    at, shares = log.series("optimal_ucb")
    assert at == list(range(10, 1001, 10))
    assert shares == [1.0, 0.0] * 50
    horizons, regret = log.series("regret_thompson")
    assert regret == [10.0 * plays for plays in horizons]
    assert (horizons[0], horizons[-1]) == (1, 1000)
    assert 40 <= len(horizons) <= 61
    ratios = np.diff(np.log(horizons[20:]))
    assert ratios.max() / ratios.min() < 1.5, "evenly apart in the logarithm"


def test_the_share_is_that_after_the_last_play_and_a_curve_is_a_mean_over_runs(monkeypatch):
    asked = []

    def play(agent, means, num_steps, rng):
        asked.append((share_of_others(agent, rng), num_steps))
        return bandits.Curves(*np.array([[0.0] * 3, [0.5, 0.5, 0.25], [0.0] * 3, [0.0] * 3]))

    monkeypatch.setattr(evidence, "play", play)
    assert evidence.greedy_share(lesson, np.zeros((50, 3)), np.random.default_rng(0)) == 0.25
    assert asked == [(0.0, evidence.NUM_ORDER_PLAYS)]
    runs = [{"metrics": {"m": [(10, 1.0), (20, 3.0)]}}, {"metrics": {"m": [(10, 3.0), (20, 5.0)]}}]
    at, mean = evidence.mean_curve(runs, "m")
    assert (at.tolist(), mean.tolist()) == ([10, 20], [2.0, 4.0])


@pytest.mark.parametrize("spare", [0, 100])
def test_tie_bias_by_hand(spare, monkeypatch):
    """400 draws of four arms: 100 each, but `spare` go from the second to the first."""
    picks = np.repeat(np.arange(4), [100 + spare, 100 - spare, 100, 100])
    monkeypatch.setattr(lesson, "random_argmax", lambda scores, rng: picks)
    found = evidence.tie_bias(4, np.random.default_rng(0), 400)
    assert found == pytest.approx(spare / 400 / math.sqrt(0.75 * 0.25 / 400))
