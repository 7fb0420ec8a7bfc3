"""Every lesson, found by file name, runs in smoke mode; its ledger and its fingerprint are rechecked."""

import dataclasses
import json
import math

import pytest

from chapters.course import ledger, tables
from chapters.course.catalog import ROOT, lessons
from chapters.course.parts import edits_of, evidence_of, lesson_of
from chapters.utils.claims import Claim
from chapters.utils.lesson import failed_claims
from chapters.utils.runlog import RunLog

LESSONS = pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)


@LESSONS
def test_smoke_run_holds_its_always_claims(item, smoke_run):
    log = smoke_run(item)
    own = [claim for claim in log.claims if not claim.evidence]
    assert any(claim.always for claim in own), "a smoke run must assert something"
    assert 2 <= len(own) <= 5, (
        "a lesson makes the claims that a learner must see; its evidence makes the rest"
    )
    assert not failed_claims(log)
    assert f"{item.id}.png" in {figure.name for figure in log.figures}, "every lesson draws what it claims"


@LESSONS
def test_fingerprint_equals_the_recorded_one(item, smoke_run):
    log = smoke_run(item)
    recorded = ledger.load(item)["fingerprint"]
    assert ledger.compare_fingerprints(recorded, ledger.fingerprint(log.folder)) == []


@LESSONS
def test_ledger_is_true(item):
    evidence = evidence_of(item)
    own = dataclasses.asdict(evidence.Config()) if evidence else None
    assert ledger.verify(item, ledger.load(item), dataclasses.asdict(lesson_of(item).Config()), own) == []


@LESSONS
def test_ledger_says_and_demands_what_the_code_does(item, smoke_run):
    log = smoke_run(item)
    assert ledger.differing_claims(ledger.load(item), log.claims) == []


@LESSONS
def test_edits_predict_claims_that_the_lesson_makes(item):
    own = {name for name, entry in ledger.load(item)["claims"].items() if not entry.get("evidence")}
    predicting = [edit for edit in edits_of(item).values() if edit.fails]
    assert len(predicting) >= 2
    for edit in predicting:
        assert set(edit.fails) <= own, edit.says


@LESSONS
def test_ledger_has_its_figures(item):
    names = {path.name for path in ledger.own_figures(item)}
    assert f"{item.id}.png" in names
    for path in ledger.own_figures(item):
        assert path.stat().st_size < 500_000, f"{path.name} is over 500 kB"


def test_generated_blocks_are_up_to_date():
    stale = [str(path.relative_to(ROOT)) for path in tables.update(check=True)]
    assert stale == [], "run `rl tables`"


def test_a_value_in_a_table_stands_on_its_side_of_the_bound():
    below = Claim("x", "says x", 0.0, at_most=1 - 1e-6)
    assert [tables._number(value, below) for value in (0.9997, 0.94846, 1.0)] == ["0.9997", "0.948", "1"]
    above = Claim("x", "says x", 0.0, at_least=475.0)
    assert [tables._number(value, above) for value in (474.8, 475.2)] == ["474.8", "475"]
    assert tables._number(None, above) == "not a number"


@pytest.mark.parametrize(
    ("values", "bound", "text"),
    [
        ([1.0, 5.0, 2.0, 4.0, 3.0], {"at_least": 0.0}, "3 (1 to 5)"),  # five: the range
        ([1.0, 5.0, 2.0, 4.0, 3.0], {"at_least": 2.0}, "3 (1 to 5)"),  # the failing seed is seen in it
        ([*range(10, 0, -1)], {"at_least": 0.0}, "5.5 (2 to 9)"),  # ten: without the extremes
        ([*range(10, 0, -1)], {"at_least": 1.5}, "5.5 (2 to 9); worst 1"),
        ([*range(10, 0, -1)], {"at_most": 9.5}, "5.5 (2 to 9); worst 10"),
        ([*range(10, 0, -1)], {"near": (6.0, 4.5)}, "5.5 (2 to 9); worst 1"),
        ([7.0] * 9 + [1.0], {"at_least": 2.0}, "7; worst 1"),
        ([7.0] * 9 + [1.0], {"at_least": 1.0}, "7"),
        ([7.0, 7.0, 7.0, 7.0, math.nan], {"at_least": 1.0}, "not a number"),
    ],
)
def test_a_value_over_seeds_is_a_median_with_the_interval_that_covers_it(values, bound, text):
    assert tables.over_seeds([Claim("x", "says x", float(value), **bound) for value in values]) == text


def test_the_head_of_a_table_says_what_its_intervals_cover():
    for lesson, head in (
        ("B3", "median (94 % interval) over 5 seeds"),
        ("B1", "median (98 % interval) over 10"),
    ):
        assert head in tables.results_table(lesson)


class TestTheLedgerChecksThemselves:
    """A ledger that was tampered with, or has gone stale, is noticed."""

    @pytest.fixture
    def item(self):
        return lessons()[0]

    @pytest.fixture
    def book(self, item):
        return ledger.load(item)

    def problems(self, item, book):
        evidence = evidence_of(item)
        own = dataclasses.asdict(evidence.Config()) if evidence else None
        return " ".join(ledger.verify(item, book, dataclasses.asdict(lesson_of(item).Config()), own))

    def test_a_value_beyond_its_bound(self, item, book):
        name = next(iter(book["claims"]))
        for run in book["runs"]:
            run["claims"][name]["value"] = None
        assert f"{name} holds on 0/" in self.problems(item, book)

    def test_a_stored_verdict_that_its_values_deny(self, item, book):
        name = next(iter(book["claims"]))
        book["claims"][name]["held"] = "0/1"
        assert "stored verdict differs" in self.problems(item, book)

    def test_other_defaults(self, item, book):
        book["config"] = {**book["config"], "another": 1}
        assert "other settings" in self.problems(item, book)

    def test_other_code(self, item, book):
        book["stamp"] = "0" * 16
        assert "the code changed" in self.problems(item, book)

    def test_over_budget(self, item, book):
        for run in book["runs"]:
            run["cpu_seconds"] = item.budgets[1] + 1
        assert "the header says" in self.problems(item, book)

    def test_a_lesson_that_keeps_its_reader_waiting(self, item, book):
        for run in book["runs"]:
            run["lesson_cpu_seconds"] = ledger.LESSON_SECONDS + 1
        assert "own run takes at most" in self.problems(item, book)

    def test_too_few_seeds(self, item, book):
        book["runs"] = book["runs"][:4]
        assert "needs 5" in self.problems(item, book)

    def test_another_fingerprint(self, book):
        other = json.loads(json.dumps(book["fingerprint"]))
        name = next(name for name, numbers in other["metrics"].items() if "last" in numbers)
        other["metrics"][name]["last"] = (other["metrics"][name]["last"] or 0) * 1.01 + 0.01
        assert ledger.compare_fingerprints(book["fingerprint"], other)

    def test_a_metric_that_is_gone(self, book):
        other = json.loads(json.dumps(book["fingerprint"]))
        del other["metrics"][next(iter(other["metrics"]))]
        assert "on one side only" in ledger.compare_fingerprints(book["fingerprint"], other)[0]


CLAIM = {"name": "high", "statement": "It is high.", "value": 0.9, "at_least": 0.5, "seeds": "9/10"}
BOOK = {
    "claims": {"high": {"statement": "It is high.", "seeds": "9/10", "held": "1/1"}},
    "runs": [{"claims": {"high": {"value": 0.9, "at_least": 0.5}}}],
}


class TestAChangedClaimIsNoticed:
    """A bound that was loosened or turned, fewer seeds, another sentence: `differing_claims`, fingerprint."""

    def differing(self, **changes):
        fields = {**CLAIM, **changes}
        return ledger.differing_claims(BOOK, [Claim.from_dict(fields)])

    def test_the_same_claim_is_the_same(self):
        assert self.differing() == []
        assert self.differing(value=0.7) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"statement": "It is low."},
            {"seeds": "5/10"},
            {"source": "nowhere"},
            {"unit": "metres"},
            {"timed": True},
            {"evidence": True},
            {"always": True},
            {"at_least": None, "at_most": 0.5},
            {"name": "low"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_another_is_not(self, change):
        assert self.differing(**change)

    @pytest.mark.parametrize("bound", [{"at_least": 0.4}, {"at_most": 0.5}, {"near": (0.5, 0.1)}])
    def test_a_moved_bound_is_in_the_fingerprint(self, bound, tmp_path):
        found = []
        for name, limits in (("before", {"at_least": 0.5}), ("after", bound)):
            log = RunLog(tmp_path / name, "X0")
            log.claim("high", "It is high.", 0.9, **limits)
            log.close()
            (log.folder / "run.json").write_text('{"lesson_rows": 0}')
            found.append(ledger.fingerprint(log.folder))
        assert ledger.compare_fingerprints(*found)

    def test_a_moved_bound_is_refused_by_restamp(self):
        before = {"high": {"value": 0.9, "at_least": 0.5}}
        assert ledger._differences(before, {"high": {"value": 0.9, "at_least": 0.5}}, "claims") == []
        assert ledger._differences(before, {"high": {"value": 0.9, "at_least": 0.4}}, "claims")
        assert ledger._differences(before, {"high": {"value": 0.9, "at_most": 0.5}}, "claims")
