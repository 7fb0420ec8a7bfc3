"""Every lesson, found by file name, runs in smoke mode; its ledger and its fingerprint are rechecked."""

import dataclasses
import importlib
import json

import pytest

from chapters.course import ledger, tables
from chapters.course.catalog import ROOT, lessons
from chapters.utils.lesson import RunOptions, execute, failed_claims
from chapters.utils.runlog import RunLog

LESSONS = pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)


@pytest.fixture(scope="module")
def smoke_runs() -> dict[str, RunLog]:
    """One smoke run a lesson, shared by the tests below."""
    return {}


def smoke_run(item, smoke_runs, tmp_path_factory) -> RunLog:
    if item.id not in smoke_runs:
        lesson = importlib.import_module(item.module)
        cfg = lesson.Config(**lesson.SMOKE)
        options = RunOptions(smoke=True, out=tmp_path_factory.mktemp("runs"))
        smoke_runs[item.id] = execute(lesson.main, cfg, item.path, options, print_claims=False)
    return smoke_runs[item.id]


@LESSONS
def test_smoke_run_holds_its_always_claims(item, smoke_runs, tmp_path_factory):
    log = smoke_run(item, smoke_runs, tmp_path_factory)
    assert any(claim.always for claim in log.claims), "a smoke run must assert something"
    assert not failed_claims(log)
    assert log.figures, "every lesson draws what it claims"


@LESSONS
def test_fingerprint_equals_the_recorded_one(item, smoke_runs, tmp_path_factory):
    log = smoke_run(item, smoke_runs, tmp_path_factory)
    recorded = ledger.load(item)["fingerprint"]
    assert ledger.compare_fingerprints(recorded, ledger.fingerprint(log.folder)) == []


@LESSONS
def test_ledger_is_true(item):
    defaults = dataclasses.asdict(importlib.import_module(item.module).Config())
    assert ledger.verify(item, ledger.load(item), defaults) == []


@LESSONS
def test_two_smoke_runs_with_one_seed_are_equal_to_the_bit(item, smoke_runs, tmp_path_factory):
    first = smoke_run(item, smoke_runs, tmp_path_factory)
    second = smoke_run(item, {}, tmp_path_factory)
    assert ledger.fingerprint(first.folder) == ledger.fingerprint(second.folder)


@LESSONS
def test_ledger_has_its_figures(item):
    names = {path.name for path in ledger.own_figures(item)}
    assert f"{item.id}.png" in names
    for path in ledger.own_figures(item):
        assert path.stat().st_size < 500_000, f"{path.name} is over 500 kB"


def test_generated_blocks_are_up_to_date():
    stale = [str(path.relative_to(ROOT)) for path in tables.update(check=True)]
    assert stale == [], "run `rl tables`"


class TestTheLedgerChecksThemselves:
    """A ledger that was tampered with, or has gone stale, is noticed."""

    @pytest.fixture
    def item(self):
        return lessons()[0]

    @pytest.fixture
    def book(self, item):
        return ledger.load(item)

    def problems(self, item, book):
        defaults = dataclasses.asdict(importlib.import_module(item.module).Config())
        return " ".join(ledger.verify(item, book, defaults))

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
        assert "another configuration" in self.problems(item, book)

    def test_other_code(self, item, book):
        book["stamp"] = "0" * 16
        assert "the code changed" in self.problems(item, book)

    def test_over_budget(self, item, book):
        for run in book["runs"]:
            run["cpu_seconds"] = item.budget + 1
        assert "the budget is" in self.problems(item, book)

    def test_too_few_seeds(self, item, book):
        book["runs"] = book["runs"][:4]
        assert "needs 5" in self.problems(item, book)

    def test_another_fingerprint(self, book):
        other = json.loads(json.dumps(book["fingerprint"]))
        name = next(iter(other["metrics"]))
        other["metrics"][name]["last"] = (other["metrics"][name]["last"] or 0) * 1.01 + 0.01
        assert ledger.compare_fingerprints(book["fingerprint"], other)
