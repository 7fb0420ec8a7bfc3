"""A stamp is renewed if an edit changed no number; where rounding differs, the lesson as it was runs too."""

import dataclasses
import json
import subprocess

import pytest

from chapters.course import ledger
from chapters.course.catalog import Item, find
from chapters.utils.claims import Claim


@pytest.fixture
def item(tmp_path, monkeypatch):
    """B1 with a results folder of its own and an old stamp in its ledger."""
    lesson = find("B1")
    book = ledger.load(lesson)
    book["stamp"] = "an old one"
    monkeypatch.setattr(Item, "results", property(lambda self: tmp_path))
    (tmp_path / "B1.json").write_text(json.dumps(book), encoding="utf-8")
    (tmp_path / "B1.png").write_bytes(b"recorded")
    return lesson


@pytest.fixture
def runs(item, tmp_path, monkeypatch):
    """What B1's runs would measure, by where they are made: now, or (None: cannot be had) as recorded."""
    book = ledger.load(item)
    drawn = tmp_path / "new" / "B1.png"
    drawn.parent.mkdir()
    drawn.write_bytes(b"drawn now")
    add = {"now": 0.0, "then": None, "bound": 0.0}

    def run_once(item, seed, scratch, *flags, root=None):
        (entry,) = [run for run in book["runs"] if run["seed"] == seed]
        more = add["then" if root else "now"]
        claims = []
        for first, _ in ledger.claims_of(book):
            fields = first.to_dict()
            if not root and fields.get("at_least") is not None:
                fields["at_least"] += add["bound"]
            claims.append(Claim.from_dict(fields))
        metrics = {name: [(0, value + more)] for name, value in entry["metrics"].items()}
        config = {**book["config"], "evidence": book["evidence_config"]}
        return {**entry, "claims": claims, "metrics": metrics, "figures": [drawn], "config": config}

    monkeypatch.setattr(ledger, "run_once", run_once)
    monkeypatch.setattr(ledger, "smoke_fingerprint", lambda *_: (book["fingerprint"], {"seconds": 1.0}))
    monkeypatch.setattr(ledger, "checkout", lambda *_: add["then"] is not None)
    return add


def renewed(item):
    ledger.restamp(item, say=lambda _: None)
    return ledger.load(item)["stamp"] == ledger.stamp(item)


def figure(item):
    return (item.results / "B1.png").read_bytes()


def test_no_number_changed(item, runs):
    assert renewed(item)


def test_a_number_changed_and_nothing_tells_why(item, runs):
    runs["now"] = 0.5
    with pytest.raises(ledger.RecordError, match="numbers changed, so record again: metrics"):
        renewed(item)


def test_rounding_changed_it_since_the_lesson_as_recorded_measures_the_same_here(item, runs):
    runs.update(now=0.5, then=0.5)
    before = ledger.load(item)["runs"]
    assert renewed(item)
    assert ledger.load(item)["runs"] == before
    assert figure(item) == b"recorded"  # that of now shows other numbers than the ledger's


def test_the_edit_changed_it_since_the_lesson_as_recorded_measures_something_else_here(item, runs):
    runs.update(now=0.5, then=0.4)
    with pytest.raises(ledger.RecordError, match=r"numbers changed.*now"):
        renewed(item)


def test_a_moved_bound_is_no_rounding(item, runs):
    runs.update(now=0.5, then=0.5, bound=0.1)
    with pytest.raises(ledger.RecordError, match="at_least recorded"):
        renewed(item)


LESSON = """x = 1
SMOKE = {
    'steps': 2,
}
y = 2
# a line of its own
def colour(text='a text, used'):
    \'\'\'Does one thing.\'\'\'
    return '#fff'  # said of it
"""


@pytest.mark.parametrize(
    ("after", "same"),
    [
        (LESSON.replace("2,", "3,"), True),
        (LESSON.replace("SMOKE", "SMOKE: dict"), True),
        (LESSON.replace("x = 1", "x = 2"), False),
        (LESSON.replace("y = 2", "y = 3"), False),
        (LESSON.replace("SMOKE", "SMALL"), False),
        (LESSON.replace("y = 2", "SMOKE['steps'] = 2"), False),
        (LESSON.replace("one thing", "another"), True),
        (LESSON.replace("one thing", "a thing\n\n    and more"), True),
        (LESSON.replace("  # said of it", ""), True),
        (LESSON.replace("# a line of its own", "# another\n# and one more"), True),
        (LESSON.replace("'#fff'", "'#000'"), False),
        (LESSON.replace("'a text, used'", "'another text'"), False),
        (LESSON.replace("return", "yield"), False),
    ],
)
def test_smoke_sizes_docstrings_and_comments_are_no_part_of_a_stamp(after, same):
    before, now = ([line.rstrip() for line in ledger._that_computes(code)] for code in (LESSON, after))
    assert (list(filter(None, now)) == list(filter(None, before))) is same


class TestOtherSizesOfASmokeRun:
    @pytest.fixture
    def found(self, item, monkeypatch):
        """What the smoke run gives now; the ledger's stamp is up to date."""
        book = ledger.load(item)
        book["stamp"] = ledger.stamp(item)
        item.ledger.write_text(json.dumps(book), encoding="utf-8")
        claims = [first for first, _ in ledger.claims_of(book)]
        smoke = {"cpu_seconds": 3.5, "claims": claims}
        new = {"metrics": {"steps": {"count": 1}}, "claims": {}, "compared": "1 of 1"}
        monkeypatch.setattr(ledger, "smoke_fingerprint", lambda *_: (new, smoke))
        monkeypatch.setattr(ledger.rounding, "can", lambda setting: True)
        return smoke

    def test_its_numbers_are_taken_anew_and_nothing_else(self, item, found):
        before = ledger.load(item)
        ledger.record_smoke(item, say=lambda _: None)
        after = ledger.load(item)
        assert after.pop("fingerprint")["metrics"] == {"steps": {"count": 1}}
        assert after.pop("smoke_seconds") == 3.5
        assert after == {key: before[key] for key in after}

    def test_what_was_not_compared_stays_out_where_a_setting_cannot_be_tried(self, item, found, monkeypatch):
        book = ledger.load(item)
        book["fingerprint"] = {"metrics": {"loss": {"count": 2, "mean": 0.1}}, "claims": {}}
        item.ledger.write_text(json.dumps(book), encoding="utf-8")
        now = {"loss": {"count": 1, "mean": 0.5, "last": 0.7}, "new": {"last": 0.3}}
        new = {"metrics": now, "claims": {}, "compared": "4 of 5"}
        monkeypatch.setattr(ledger, "smoke_fingerprint", lambda *_: (new, found))
        monkeypatch.setattr(ledger.rounding, "can", lambda setting: setting != "avx512")
        ledger.record_smoke(item, say=lambda _: None)
        kept = {"loss": {"count": 1, "mean": 0.5}, "new": {"last": 0.3}}
        assert ledger.load(item)["fingerprint"] == {"metrics": kept, "claims": {}, "compared": "3 of 5"}

    def refused(self, item, match):
        before = item.ledger.read_bytes()
        with pytest.raises(ledger.RecordError, match=match):
            ledger.record_smoke(item, say=lambda _: None)
        assert item.ledger.read_bytes() == before

    def test_not_if_other_code_changed(self, item, found):
        item.ledger.write_text(item.ledger.read_text().replace(ledger.stamp(item), "0" * 16))
        self.refused(item, "other code than SMOKE changed")

    def test_not_if_it_makes_other_claims(self, item, found):
        found["claims"] = found["claims"][1:]
        self.refused(item, "on one side only")

    def test_not_if_a_claim_fails_that_must_always_hold(self, item, found):
        place = next(n for n, claim in enumerate(found["claims"]) if claim.always)
        found["claims"][place] = dataclasses.replace(found["claims"][place], value=float("nan"))
        self.refused(item, "fails")


def git(folder, *words):
    name = ["-c", "user.name=A learner", "-c", "user.email=learner@example.org"]
    subprocess.run(["git", "-C", folder, *name, *words], check=True, capture_output=True)


def test_the_repository_as_it_was_when_a_stamp_was_committed(tmp_path, monkeypatch):
    course = tmp_path / "course"
    (course / "results").mkdir(parents=True)
    git(course, "init")
    book = course / "results" / "B1.json"
    for stamp, code in (("stamp-1", "one"), ("stamp-2", "two"), ("stamp-2", "three")):
        book.write_text(json.dumps({"stamp": stamp}))
        (course / "lesson.py").write_text(code)
        git(course, "add", ".")
        git(course, "commit", "-m", code)
    monkeypatch.setattr(ledger, "ROOT", course)
    monkeypatch.setattr(Item, "results", property(lambda self: course / "results"))
    assert ledger.checkout(find("B1"), "stamp-2", tmp_path / "then")
    assert (tmp_path / "then" / "lesson.py").read_text() == "two"
    assert not ledger.checkout(find("B1"), "stamp-1", tmp_path / "never")  # of an earlier ledger
    assert not ledger.checkout(find("B1"), "stamp-3", tmp_path / "never")  # recorded, and not committed
    (course / ".git").rename(tmp_path / "no longer a clone")
    assert not ledger.checkout(find("B1"), "stamp-2", tmp_path / "never")
    assert not (tmp_path / "never").exists()
