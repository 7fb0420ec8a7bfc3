"""B8: the measuring code on cases whose answer is known, and planted errors in it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from chapters.B_core_algorithms import B8_evaluating_agents as lesson
from chapters.B_core_algorithms.checks.B8 import EDITS
from chapters.B_core_algorithms.checks.B8_exercises import bca_interval
from chapters.B_core_algorithms.evidence import B8 as evidence
from chapters.B_core_algorithms.evidence import B8_audit as audit
from chapters.exact.atari import PRINTED, human_normalised
from chapters.utils import RunLog
from chapters.utils.edits import Edit, edited


def wrong(module, function, old, new):
    return edited(module, Edit(function, old, new, "wrong"))


def covered_by(module, tmp_path, **settings):
    cfg = module.Config(**{"num_experiments": 4000, "num_resamples": 200} | settings)
    log = RunLog(tmp_path, "B8")
    return module.measure_coverage(cfg, log, np.random.default_rng(1)), log


def test_coverage_is_what_theory_says(tmp_path):
    covered, log = covered_by(lesson, tmp_path)
    assert covered["normal", "t", 3] == pytest.approx(0.95, abs=0.015)
    assert covered["normal", "percentile", 5] == pytest.approx(0.84, abs=0.03)
    assert covered["bimodal", "t", 5] == pytest.approx(evidence.enumerated_coverage("t", 5), abs=0.025)
    assert covered["bimodal", "median", 10] == pytest.approx(0.9785, abs=0.01)
    assert log.series("bimodal_median")[0] == list(lesson.NUM_SEEDS)
    assert log.series("normal_t")[1] == [covered["normal", "t", n] for n in lesson.NUM_SEEDS]


COUNTED = "(low <= truth) & (truth <= high)"
MEDIAN = '"median": (median_interval(values), median)'
RESAMPLED = "percentile_interval(v, resamples)"


@pytest.mark.parametrize(
    ("old", "new", "moved"),
    [
        (COUNTED, "(low <= truth)", ("normal", "percentile", 5)),
        (MEDIAN, MEDIAN.replace(", median)", ", mean)"), ("bimodal", "median", 5)),
        (RESAMPLED, "percentile_interval(v, resamples, 0.99)", ("normal", "percentile", 5)),
    ],
)
def test_wrong_counting_is_noticed(old, new, moved, tmp_path):
    right, _ = covered_by(lesson, tmp_path / "right", num_experiments=1000)
    module = wrong(lesson, "measure_coverage", old, new)
    other, _ = covered_by(module, tmp_path / "wrong", num_experiments=1000)
    assert abs(right[moved] - other[moved]) > 0.02


@pytest.mark.parametrize(("name", "claim"), [("n_for_divisor", 0.945), ("leaves_out_more", 0.9)])
def test_broken_recipes_cover_less(name, claim, tmp_path):
    recipe = "t" if name == "n_for_divisor" else "median"
    broken, _ = covered_by(edited(lesson, EDITS[name]), tmp_path)
    assert broken["normal", recipe, 5] < claim


@pytest.mark.parametrize("shape", ["normal", "bimodal"])
def test_draws_have_the_mean_and_median_that_are_said(shape):
    values, mean, median = lesson.draw_returns(shape, (1000, 400), np.random.default_rng(0))
    assert values.mean() == pytest.approx(mean, abs=0.01)
    assert np.median(values) == pytest.approx(median, abs=0.005)


def test_experiments_in_parts_are_the_same_experiments(tmp_path, monkeypatch):
    whole, _ = covered_by(lesson, tmp_path / "a", num_experiments=300)
    monkeypatch.setattr(lesson, "CHUNK", 7000)
    parts, _ = covered_by(lesson, tmp_path / "b", num_experiments=300)
    assert whole == parts


def test_bimodal_coverage_by_hand():
    """Three seeds, a fifth fails: t holds the mean with one or two failures, (1 - .8^3 - .2^3)."""
    assert evidence.enumerated_coverage("t", 3) == pytest.approx(0.48)
    assert evidence.enumerated_coverage("percentile", 3) == pytest.approx(0.48)
    one_to_three = sum(stats.binom.pmf(k, 5, 0.2) for k in (1, 2, 3))
    assert evidence.enumerated_coverage("t", 5) == pytest.approx(one_to_three)
    edge = stats.binom.pmf(3, 5, 0.2) / 2  # three failures: the upper quantile is the mean itself
    assert evidence.enumerated_coverage("percentile", 5) == pytest.approx(one_to_three - edge)


def test_theory_of_the_bootstrap_by_hand():
    assert [round(evidence.normal_theory(n), 2) for n in (3, 5, 10, 20)] == [0.75, 0.85, 0.9, 0.93]


def test_all_draws_of_a_population_are_counted_with_their_chances():
    drawn, chances = audit.multisets(4, 3)
    assert len(drawn) == 20
    assert chances.sum() == pytest.approx(1)
    assert chances[[(row == [0, 0, 0]).all() for row in drawn]].item() == pytest.approx(1 / 64)
    assert chances[[(row == [0, 1, 2]).all() for row in drawn]].item() == pytest.approx(6 / 64)
    assert chances[[(row == [1, 1, 3]).all() for row in drawn]].item() == pytest.approx(3 / 64)


@pytest.mark.parametrize("population", [[0.0, 1.0], [1.0, 2.0, 4.0, 8.0, 9.0], [0.0] * 9 + [1.0]])
def test_audited_coverage_is_what_draws_show(population):
    population = np.array(population)
    values = np.random.default_rng(0).choice(population, size=(40_000, 5))
    low, high = lesson.t_interval(values)
    mean, median = population.mean(), np.median(population)
    shown = ((low <= mean + 1e-9) & (mean - 1e-9 <= high)).mean()
    assert audit.t_coverage(population) == pytest.approx(shown, abs=0.01)
    low, high = lesson.median_interval(values)
    shown = ((low <= median) & (median <= high)).mean()
    assert audit.median_coverage(population) == pytest.approx(shown, abs=0.01)


def test_audited_coverage_of_ten_leaves_out_the_extremes():
    assert audit.median_coverage(np.arange(100.0), 10) == pytest.approx(lesson.median_ranks(10)[1])


def test_many_bca_intervals_are_the_single_ones():
    rng = np.random.default_rng(3)
    values, resamples = rng.exponential(size=(20, 12)), rng.integers(12, size=(400, 12))
    found = audit.bca_interval(values, resamples, 0.9)
    single = np.array([bca_interval(row, resamples, 0.9) for row in values]).T
    np.testing.assert_allclose(found, single, atol=1e-9)
    np.testing.assert_allclose(audit.bca_interval(np.full((1, 5), 0.3), rng.integers(5, size=(50, 5))), 0.3)


def test_bootstrap_coverage_of_a_two_point_population():
    """Half at 0, half at 1: (percentile, BCa) miss the mean of five when all, or all but one, are alike."""
    shares = audit.bootstrap_coverage(np.array([0.0, 1.0]), 4000, 400, np.random.default_rng(3))
    assert shares[0] == pytest.approx(1 - 2 / 32, abs=0.02)
    assert shares[1] <= 1 - 2 / 32 + 0.02


def test_the_snapshot_is_of_the_ledgers(tmp_path):
    recorded = json.loads(audit.RECORDED.read_text(encoding="utf-8"))
    assert len(recorded) > 100
    assert all(len(values) >= 5 and len({*values}) > 1 for values in recorded.values())
    run = {"v": {"value": 1.0}, "same": {"value": 2.0}, "seconds": {"value": 1.0, "timed": True}}
    other = {"v": {"value": 3.0}, "same": {"value": 2.0}, "seconds": {"value": 2.0, "timed": True}}
    book = {"claims": dict.fromkeys(run), "runs": [{"claims": run}, {"claims": other}]}
    results = tmp_path / "X_chapter" / "results"
    results.mkdir(parents=True)
    for name in ("B1", "B8"):
        (results / f"{name}.json").write_text(json.dumps(book))
    assert audit.collect(tmp_path) == {"B1.v": [1.0, 3.0]}


def test_aggregates_by_hand():
    scores = np.array([[0.0, 2.0, 4.0], [1.0, 0.5, 6.0]])  # two runs on three tasks
    mean, median, iqm, gap = evidence.aggregates(scores)
    assert mean == pytest.approx(13.5 / 6)
    assert median == pytest.approx(1.25)
    assert iqm == pytest.approx((0.5 + 1 + 2 + 4) / 4)
    assert gap == pytest.approx(1 - (0 + 1 + 1 + 1 + 0.5 + 1) / 6)
    profile = evidence.performance_profile(scores, np.array([-1.0, 1.0, 5.0, 6.0]))
    assert profile.tolist() == pytest.approx([1, 3 / 6, 1 / 6, 0])


def test_the_iqm_of_endlessly_many_runs():
    rng = np.random.default_rng(6)
    for levels in (np.zeros(3), np.array([-2.0, 0.5, 0.7, 3.0])):
        runs = levels + rng.normal(size=(200_000, len(levels)))
        assert evidence.mixed_iqm(levels) == pytest.approx(lesson.interquartile_mean(runs), abs=0.01)


def test_races_of_medians():
    assert evidence.race_coverage(3, 300, 100, np.random.default_rng(0)) == pytest.approx(0.74, abs=0.08)
    assert evidence.race_coverage(5, 300, 100, np.random.default_rng(0)) > 0.88


class TestJudge:
    def test_probabilities_stand_where_they_belong(self):
        says = evidence.judged((1.0, 0.4, 0.8))
        for better, first, longer in np.ndindex(2, 2, 2):
            logit = (2 * better - 1) + 0.4 * (2 * first - 1) + 0.8 * (2 * longer - 1)
            assert says[better, first, longer] == pytest.approx(1 / (1 + math.exp(-logit)))

    def test_rates_by_enumeration(self):
        weights, truth, share = (1.0, 0.4, 0.8), np.array([0.3, 0.8]), 0.7
        first = swapped = 0.0
        for better, longer in np.ndindex(2, 2):
            chance = (share if longer else 1 - share) * (truth[longer] if better else 1 - truth[longer])
            says = evidence.judged(weights)[better, :, longer]
            first += chance * says[1]
            swapped += chance * says.mean()
        found = [*evidence.win_rates(weights, truth, share).values()]
        assert found[:2] == pytest.approx([first, swapped])
        assert found[3] == pytest.approx(0.3 * 0.3 + 0.7 * 0.8)

    def test_error_rates_of_an_even_mix_are_right_where_length_does_not_matter(self):
        even = [*evidence.win_rates((1.0, 0.4, 0.0), np.array([0.3, 0.8]), 0.7).values()][2]
        assert even == pytest.approx(0.3 * 0.3 + 0.7 * 0.8)

    def test_common_error_rates_will_do_if_they_are_of_the_judged_mix(self):
        """And the win rate is the same for longer and shorter answers; the even mix overshoots."""
        says = evidence.judged((1.0, 0.4, 0.8)).mean(axis=1)  # [better, longer]
        mix = np.array([0.2, 0.8])
        swapped = mix @ (0.7 * says[1] + 0.3 * says[0])
        assert lesson.corrected_rate(swapped, mix @ says[1], 1 - mix @ says[0]) == pytest.approx(0.7)
        even = [*evidence.win_rates((1.0, 0.4, 0.8), np.array([0.5, 0.5]), 0.8).values()]
        assert even[2] > even[1] + 0.1

    @pytest.mark.parametrize("truth", [0.2, 0.5])
    def test_evaluations_scatter_round_the_truth_as_their_errors_say(self, truth):
        extra = evidence.Config(num_evaluations=3000)
        raw, rate, error = evidence.evaluations(extra, truth, np.random.default_rng(4))
        assert rate.mean() == pytest.approx(truth, abs=0.02)
        assert rate.std() == pytest.approx(error.mean(), rel=0.15)
        assert abs(raw.mean() - truth) > 0.05

    def test_only_longer_or_only_shorter_answers(self):
        for share in (0.0, 1.0):
            extra = evidence.Config(num_evaluations=50, share_longer=share)
            _, rate, error = evidence.evaluations(extra, 0.5, np.random.default_rng(5))
            assert rate.mean() == pytest.approx(0.5, abs=0.1)
            assert (error > 0).all()


def test_the_text_quotes_what_is_in_print():
    text = Path(lesson.__file__).read_text(encoding="utf-8")
    for place in (0, 1):
        row = " | ".join(f"{PRINTED[name][place]:g}" for name in ("DQN", "Double DQN", "dueling"))
        assert row in text


def test_the_numbers_in_the_text():
    """85 % for five seeds, a third of experiments without a failure, 17 seeds for a gap of one deviation."""
    assert round(100 * evidence.normal_theory(5)) == 85
    assert pytest.approx(1 / 3, abs=0.01) == 0.8**5
    assert lesson.power(16, 1.0) < 0.8 < lesson.power(17, 1.0)
    assert stats.t.ppf(0.975, 4) == pytest.approx(2.78, abs=0.005)
    assert round(100 * lesson.power(5, 1.0)) == 29
    of_ten_games = (
        2 * stats.t.cdf(1.96 * math.sqrt(4 / 5), 40) - 1
    )  # Student's t of 10 x 4 degrees of freedom
    assert round(100 * of_ten_games) == 91
    assert round(100 * human_normalised("dqn").mean()) == 433
