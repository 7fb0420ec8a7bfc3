"""B5: agents against regret in closed form, the worlds they play in, and what the evidence measures with."""

import functools
import itertools
import math

import numpy as np
import pytest
from scipy.stats import chisquare, norm

from chapters.B_core_algorithms import B5_contextual_bandits as lesson
from chapters.B_core_algorithms.checks.B5 import EDITS
from chapters.B_core_algorithms.evidence import B5 as evidence
from chapters.envs import recommendation
from chapters.exact.logged import all_records
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited

GAP, NUM_RUNS = 0.8, 40_000
ARMS = np.array([[-1.0], [1.0]])


def expected_second_regret(name):
    """One feature, two arms, weight +-GAP with equal chance: the regret of the second play, in closed form.

    After a first reward r for the arm x the belief has the mean x r / 2 ~ N(weight / 2, 1/4) and the variance
    1/2. LinUCB's bonus is the same for both arms, so it plays the mean's sign, as greedy does; Thompson the
    sign of a draw ~ N(weight / 2, 1/4 + 1/2).
    """
    spread = math.sqrt(0.75) if name == "Thompson" else 0.5
    return 2 * GAP * norm.cdf(-GAP / 2 / spread)


def second_regret_error(module, name):
    """Simulated minus expected regret of the second play, in (at most) standard errors."""
    rng = np.random.default_rng(0)
    weights = GAP * rng.choice((-1.0, 1.0), (NUM_RUNS, 1))
    agent = module.LinearAgent(NUM_RUNS, 1, module.RULES[name])
    first, both = recommendation.recommend(agent, weights, lambda rng: ARMS, [1, 2], rng).mean(axis=1)
    assert abs(first - GAP) < 5 * GAP / math.sqrt(NUM_RUNS)  # nothing is known yet: half are wrong
    return abs(both - first - expected_second_regret(name)) / (GAP / math.sqrt(NUM_RUNS))


@pytest.mark.parametrize("name", lesson.RULES)
def test_agent_has_the_expected_regret(name):
    assert second_regret_error(lesson, name) < 4.5


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("Thompson", "no_draw"),
        ("Thompson", "no_noise"),
        ("Thompson", "grows_surer_nowhere"),
        ("Thompson", "sure_at_the_start"),
        ("Thompson", "noise_for_each_arm"),
        ("Thompson", "covariance_for_root"),
        ("Thompson", "lowest_score"),
        ("greedy", "lowest_score"),
        ("LinUCB", "lowest_score"),
    ],
)
def test_a_wrong_agent_has_not(name, edit):
    assert second_regret_error(edited(lesson, EDITS[edit]), name) > 6


# The page and its logs


def check_random_page(module):
    rng = np.random.default_rng(1)
    for shape, floor in (((20, 5), 0.1), ((3, 2), 0.4)):
        page = module.random_page(*shape, rng, floor)
        assert page.clicks.shape == page.old.shape == page.new.shape == shape
        for rows in (page.shares[None], page.old, page.new):
            np.testing.assert_allclose(rows.sum(axis=1), 1)
        assert page.old.min() >= floor / shape[1] - 1e-12
        for x, a in np.ndindex(shape):
            best = page.clicks[x, a] == page.clicks[x].max()
            assert page.new[x, a] == pytest.approx((1 - floor) * best + floor / shape[1])
        expected = sum(page.shares[x] * page.new[x, a] * page.clicks[x, a] for x, a in np.ndindex(shape))
        assert page.value == pytest.approx(expected)
        for a in range(shape[1]):
            shown = [page.shares[x] * page.old[x, a] for x in range(shape[0])]
            rate = sum(s * page.clicks[x, a] for x, s in enumerate(shown)) / sum(shown)
            np.testing.assert_allclose(page.article_rates[:, a], rate)


def check_draw_logs(module):
    """Each record as often as its probability says."""
    rng = np.random.default_rng(2)
    page = module.random_page(3, 4, rng)
    log = module.draw_logs(page, 40, 1000, rng)
    assert all(part.shape == (40, 1000) for part in log)
    *record, probabilities = all_records(page.shares, page.clicks, page.old)
    counts = [((log[0] == x) & (log[1] == a) & (log[2] == r)).sum() for x, a, r in zip(*record)]
    assert chisquare(counts, 40_000 * probabilities).pvalue > 1e-4


def check_click_table(module):
    rng = np.random.default_rng(3)
    log = module.Log(
        rng.integers(3, size=12), rng.integers(4, size=12), rng.integers(2, size=12).astype(float)
    )
    table = module.click_table(log, (3, 5))
    for x, a in np.ndindex(3, 5):
        clicks = [r for i, j, r in zip(*log) if (i, j) == (x, a)]
        assert table[x, a] == pytest.approx(np.mean(clicks) if clicks else 0.0)


class ScriptedAgent:
    """Plays given actions [T, B] and keeps what it was told."""

    def __init__(self, actions, num_features=2):
        self.actions, self.told, self.asked = actions, [], []
        self.mean = np.zeros((actions.shape[1], num_features))

    def act(self, features, num_plays, rng):
        self.asked.append((features, num_plays))
        return self.actions[num_plays]

    def learn(self, features, rewards):
        self.told.append((features, rewards))


def check_recommend(module):
    rng = np.random.default_rng(4)
    num_plays, num_bandits = 30, 400
    for shared in (False, True):
        weights = rng.standard_normal((num_bandits, 2))
        agent = ScriptedAgent(rng.integers(3, size=(num_plays, num_bandits)))
        shape = (3, 2) if shared else (num_bandits, 3, 2)
        draw_features = functools.partial(np.random.Generator.standard_normal, size=shape)
        regret = module.recommend(agent, weights, draw_features, [1, 7, 30], rng)
        assert [plays for _, plays in agent.asked] == list(range(num_plays))
        so_far, noise, noted = np.zeros(num_bandits), [], []
        for play, ((features, _), (told, rewards)) in enumerate(zip(agent.asked, agent.told)):
            each = np.broadcast_to(features, (num_bandits, 3, 2))
            means = np.einsum("bkd,bd->bk", each, weights)
            for b in range(num_bandits):
                np.testing.assert_array_equal(told[b], each[b, agent.actions[play, b]])
                so_far[b] += means[b].max() - means[b, agent.actions[play, b]]
                noise.append(rewards[b] - told[b] @ weights[b])
            if play + 1 in (1, 7, 30):
                noted.append(so_far.copy())
        np.testing.assert_allclose(regret, noted, atol=1e-9)
        assert abs(np.mean(noise)) < 5 / math.sqrt(len(noise))
        assert abs(np.var(noise) - 1) < 0.05


def check_regret_by_gap(module):
    """An agent that always says -1 to every feature: its regret counts the signs that are +1."""
    gaps, num_runs = np.array([1.0, 0.25]), 4000
    agent = ScriptedAgent(np.zeros((40, 2 * num_runs), dtype=int), num_features=2)
    regret = module.regret_by_gap(agent, gaps, 40, np.random.default_rng(5))
    assert list(regret) == [16, 32]
    corners = set(itertools.product((-1.0, 1.0), repeat=2))
    assert {tuple(arm) for arm in agent.asked[0][0]} == corners
    assert tuple(agent.asked[0][0][0]) == (-1.0, -1.0)
    for plays, by_gap in regret.items():
        np.testing.assert_allclose(by_gap, 2 * gaps * plays, rtol=5 / math.sqrt(num_runs))


WORLD_CHECKS = [
    check_random_page, check_draw_logs, check_click_table, check_recommend, check_regret_by_gap,
]  # fmt: skip
WRONG_WORLDS = {
    "new page is not the best": (check_random_page, "clicks.argmax(axis=1)", "clicks.argmin(axis=1)"),
    "value of the old page": (check_random_page, "self.new * self.clicks", "self.old * self.clicks"),
    "articles averaged alike": (check_random_page, "shown = self.shares[:, None] *", "shown = "),
    "floor forgotten": (check_random_page, "(1 - floor) * policy + floor / num_articles", "policy"),
    "logs of the new page": (check_draw_logs, "page.old.cumsum", "page.new.cumsum"),
    "clicks of the type alone": (
        check_draw_logs, "page.clicks[contexts, actions]", "page.clicks[contexts].mean(axis=-1)",
    ),
    "all types alike": (check_draw_logs, ", p=page.shares", ""),
    "table of counts": (check_click_table, "clicks / np.maximum(shown, 1)", "clicks"),
    "regret against the reward": (
        check_recommend, "means.max(axis=1) - played", "means.max(axis=1) - means.mean(axis=1)",
    ),
    "agent told another arm": (
        check_recommend, "[bandits, actions]\n        agent", "[bandits, 0]\n        agent",
    ),
    "no noise": (check_recommend, "+ rng.standard_normal(len(bandits))", "+ 0.0"),
    "noted a play late": (check_recommend, "num_plays + 1 in marks", "num_plays in marks"),
    "gaps in turns": (check_regret_by_gap, "np.repeat(gaps, ", "np.tile(gaps, "),
    "all signs alike": (check_regret_by_gap, "rng.choice((-1.0, 1.0)", "rng.choice((1.0, 1.0)"),
}  # fmt: skip


@pytest.mark.parametrize("check", WORLD_CHECKS)
def test_worlds(check):
    check(recommendation)


@pytest.mark.parametrize(("check", "old", "new"), WRONG_WORLDS.values(), ids=WRONG_WORLDS)
def test_a_wrong_world_is_noticed(check, old, new):
    wrong = edited(recommendation, Edit("", old, new, "wrong"))
    with pytest.raises(Exception):  # noqa: B017, PT011 — an assertion, a shape or a crash: each is a rejection
        check(wrong)


# What the evidence measures with


def test_ridge_error_sees_a_wrong_belief(monkeypatch):
    assert evidence.ridge_error(20, np.random.default_rng(0)) < 1e-10
    for edit in ("no_error", "no_noise", "sure_at_the_start"):
        monkeypatch.setattr(evidence, "lesson", edited(lesson, EDITS[edit]))
        assert evidence.ridge_error(20, np.random.default_rng(0)) > 1e-3


@pytest.mark.parametrize("belief", ["mean", "covariance"])
def test_ridge_error_sees_one_wrong_number(belief, monkeypatch):
    class Agent(lesson.LinearAgent):
        num_plays = 0

        def learn(self, features, rewards):
            super().learn(features, rewards)
            self.num_plays += 1
            if self.num_plays == 20:
                getattr(self, belief)[-1].flat[-1] += 1e-3

    monkeypatch.setattr(lesson, "LinearAgent", Agent)
    assert evidence.ridge_error(20, np.random.default_rng(0)) == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize("name", ["LinUCB", "Thompson"])
def test_coverage_is_what_an_interval_promises(name):
    found = evidence.coverage(lesson.RULES[name], 4000, np.random.default_rng(0), num_plays=10)
    assert found == pytest.approx(0.9, abs=5 * math.sqrt(0.09 / 4000))


@pytest.mark.parametrize("edit", ["no_noise", "sure_at_the_start", "grows_surer_nowhere"])
def test_coverage_sees_a_belief_that_is_too_sure_or_not_sure_enough(monkeypatch, edit):
    wrong = edited(lesson, EDITS[edit])
    monkeypatch.setattr(evidence, "lesson", wrong)
    found = evidence.coverage(wrong.RULES["LinUCB"], 2000, np.random.default_rng(0), num_plays=10)
    assert abs(found - 0.9) > 0.05


def test_slope_and_deviation():
    plays = np.array([4, 16, 64])
    assert evidence.slope(plays, 3.0 * plays**0.7) == pytest.approx(0.7)
    values = np.array([1.0, 2.0, 3.0, 6.0])
    expected = abs(3.0 - 1.0) / (np.std(values) / 2)
    assert evidence.deviation_from(values, 1.0) == pytest.approx(expected)


def test_models_are_what_their_names_say():
    page = recommendation.random_page(4, 3, np.random.default_rng(0))
    none, upside_down, articles, half, true = evidence.models(page).values()
    assert not none.any()
    np.testing.assert_allclose(upside_down + page.clicks, 1)
    np.testing.assert_array_equal(articles, page.article_rates)
    np.testing.assert_allclose(2 * half, true)
    np.testing.assert_array_equal(true, page.clicks)


def kept(folder, regret=None):
    """A log that holds what `main` hands over, with a small page and made-up regret."""
    log = RunLog(folder, "B5", smoke=True)
    page = recommendation.random_page(4, 3, np.random.default_rng(7))
    rng = np.random.default_rng(8)
    cfg = lesson.Config(num_logs=400, log_size=100)
    log.keep(page=page, estimates=lesson.estimate_from_logs(page, cfg, log, rng), regret=regret or {})
    return log, cfg


def claims(log):
    return {claim.name: claim for claim in log.claims}


def test_verdicts_on_made_up_regret(tmp_path):
    marks = [2**power for power in range(4, 13)]
    root = {plays: np.full(len(lesson.GAPS), plays**0.5) for plays in marks}
    slow = {plays: np.full(len(lesson.GAPS), 0.01 * plays**0.3) for plays in marks}
    log, _ = kept(tmp_path, {"greedy": root, "LinUCB": slow, "Thompson": root})
    evidence.claim_lower_bound(log)
    evidence.claim_one_bandit(log)
    made = claims(log)
    smallest = 0.01 * 4096**0.3 / (math.exp(-2) / 8 * 3 * 64)
    assert made["above_lower_bound"].value == pytest.approx(smallest)
    assert not made["above_lower_bound"].holds
    assert made["one_bandit_slope_LinUCB"].value == pytest.approx(0.3)
    assert made["one_bandit_slope_Thompson"].value == pytest.approx(0.5)


def test_what_is_said_of_logs_holds_on_another_page(tmp_path):
    log, cfg = kept(tmp_path)
    extra = evidence.Config(num_small_logs=4000, num_fitted_logs=60)
    rng = np.random.default_rng(9)
    evidence.claim_direct_method(cfg, log)
    evidence.claim_variance(cfg, log)
    evidence.claim_double_robustness(rng, log)
    evidence.claim_self_normalised(cfg, extra, rng, log)
    evidence.claim_self_normalised_scatter(log)
    evidence.claim_same_log(extra, rng, log)
    made = claims(log)
    assert all(claim.holds for claim in made.values() if claim.always)
    page = log.kept["page"]
    bias = (page.shares[:, None] * page.new * (page.article_rates - page.clicks)).sum()
    ratios = page.new / page.old
    second = (page.shares[:, None] * page.old * ratios**2 * page.clicks).sum() - page.value**2
    expected = abs(bias) / math.sqrt(second / cfg.log_size)
    assert made["direct_method_biased"].value == pytest.approx(expected)
    assert made["measured_variance_IPS"].value == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize(
    ("edit", "claim"),
    [
        ("reward_for_error", "variance_formula"),
        ("upside_down", "dr_wrong_model"),
        ("no_correction", "dr_wrong_model"),
        ("divided_by_number", "snips_first_record"),
        ("normalised_over_logs", "snips_exact_mean"),
        ("error_unweighted", "variance_formula"),
    ],
)
def test_a_wrong_estimator_loses_its_claim(tmp_path, monkeypatch, edit, claim):
    log, cfg = kept(tmp_path)
    monkeypatch.setattr(evidence, "lesson", edited(lesson, EDITS[edit]))
    rng = np.random.default_rng(9)
    evidence.claim_variance(cfg, log)
    evidence.claim_double_robustness(rng, log)
    evidence.claim_self_normalised(cfg, evidence.Config(num_small_logs=2000), rng, log)
    evidence.claim_self_normalised_scatter(log)
    assert not claims(log)[claim].holds
