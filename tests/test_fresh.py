"""Verdicts on fresh seeds: what is kept, what is refused, and that no claim fails too often."""

import json

import pytest

from chapters.course import cli, fresh, ledger, tables
from chapters.course.catalog import CHAPTERS, Item, find, lessons
from chapters.utils.claims import Claim


@pytest.fixture
def item(tmp_path, monkeypatch):
    """B1 with a results folder of its own."""
    lesson = find("B1")
    book = ledger.load(lesson)
    book["runs"] = book["runs"][:2]
    monkeypatch.setattr(Item, "results", property(lambda self: tmp_path))
    (tmp_path / "B1.json").write_text(json.dumps(book), encoding="utf-8")
    return lesson


def claims(score):
    return [Claim("score", "high enough", score, at_least=0.5), Claim("sure", "always", 1.0, at_least=1.0)]


def test_verdicts_are_kept_and_a_seed_run_anew_counts_once(item):
    fresh.keep(item, {7: claims(0.4), 8: claims(0.9)})
    assert fresh.load(item) == {"seeds": [7, 8], "failed": {"score": {"7": 0.4}}}
    fresh.keep(item, {9: claims(0.1)})
    assert fresh.load(item) == {"seeds": [7, 8, 9], "failed": {"score": {"7": 0.4, "9": 0.1}}}
    fresh.keep(item, {7: claims(0.6), 9: claims(0.5)})
    assert fresh.load(item) == {"seeds": [7, 8, 9], "failed": {}}


def test_the_table_counts_seeds_on_which_every_claim_holds(item, monkeypatch):
    monkeypatch.setattr(fresh, "lessons", lambda: [item])
    assert "| B1 | – | – | – |" in fresh.table()
    fresh.keep(
        item, {7: [Claim("a", "", 0.0, at_least=1.0), Claim("b", "", 0.0, at_least=1.0)], 8: claims(1.0)}
    )
    assert "| B1 | 2 | 1 | `a` on 1, `b` on 1 |" in fresh.table()


def test_a_seed_of_the_ledger_is_not_fresh(item):
    with pytest.raises(ValueError, match=r"\[1\] stand in the ledger of B1"):
        fresh.record(item, [1, 2])


def test_runs_are_made_and_judged(item, monkeypatch):
    made = []

    def run_once(item, seed, scratch):
        made.append(seed)
        return {"claims": claims(seed / 10)}

    monkeypatch.setattr(ledger, "run_once", run_once)
    said = []
    fresh.record(item, [4, 6], say=said.append)
    assert made == [4, 6]
    assert said == ["B1 seed 4: failed: score", "B1 seed 6: all claims hold"]
    assert fresh.load(item)["failed"] == {"score": {"4": 0.4}}


def test_a_new_recording_forgets_them_and_a_renewed_stamp_does_not(item, course, tmp_path, monkeypatch):
    """They were those of other settings, or of other code; a stamp is renewed where no number moved."""
    monkeypatch.setattr(cli.catalog, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "update", lambda: None)
    monkeypatch.setattr(ledger, "restamp", lambda item: None)
    monkeypatch.setattr(ledger, "record", lambda item, seeds, jobs, far: ledger.load(item))
    fresh.keep(item, {7: claims(0.4)})
    course.rl("record", "B1", "--restamp")
    assert fresh.load(item)["seeds"] == [7]
    course.rl("record", "B1", "--seeds", "0:2")
    assert fresh.load(item)["seeds"] == []
    course.rl("record", "B1", "--seeds", "0:2")  # there were none


def test_how_often_a_claim_may_fail():
    assert [fresh.allowed(num) for num in (5, 10, 20, 40)] == [1, 1, 1, 2]


@pytest.mark.parametrize("item", lessons(), ids=lambda item: item.id)
def test_no_claim_fails_on_more_fresh_seeds_than_chance_explains(item):
    book = fresh.load(item)
    names = set(ledger.load(item)["claims"])
    assert not {run["seed"] for run in ledger.load(item)["runs"]} & set(book["seeds"])
    for name, values in book["failed"].items():
        assert name in names, f"{item.id} makes no claim {name} any more"
        assert set(map(int, values)) <= set(book["seeds"])
        assert len(values) <= fresh.allowed(len(book["seeds"])), name


def test_no_verdicts_without_a_lesson():
    assert {path.stem for path in CHAPTERS.glob("*/results/fresh/*.json")} <= {item.id for item in lessons()}
