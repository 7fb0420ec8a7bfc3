"""Files that a disk, a kill or a hand damaged: each is one line, and the rest of the course goes on."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from chapters.course import catalog, fresh, ledger, pictures, plans, tables
from chapters.course.catalog import Item, find
from chapters.course.journal import read_day
from chapters.utils.lesson import UsageError
from chapters.utils.runlog import RunLog

DEEP = "[" * 100_000
LONG = "9" * 400


def damaged(change):
    """B1's ledger after a change, as text."""
    book = ledger.load(find("B1"))
    change(book)
    return json.dumps(book)


LEDGERS = {
    "empty": lambda: "",
    "cut off": lambda: damaged(lambda book: None)[:1000],
    "no object": lambda: "[1, 2]",
    "null": lambda: "null",
    "deeply nested": lambda: DEEP,
    "not UTF-8": lambda: b"\xff\xfe{}",
    "no claims": lambda: damaged(lambda book: book.pop("claims")),
    "no runs": lambda: damaged(lambda book: book.update(runs=[])),
    "claims of another kind": lambda: damaged(lambda book: book.update(claims=[1])),
    "a run without claims": lambda: damaged(lambda book: book["runs"][0].pop("claims")),
    "a value that is a text": lambda: damaged(
        lambda book: next(iter(book["claims"].values())).update(median="high")
    ),
    "a number too long": lambda: re.sub(
        r'"median": [\d.e-]+', f'"median": {LONG}', damaged(lambda book: None)
    ),
    "seconds that are no number": lambda: damaged(lambda book: book["runs"][0].update(cpu_seconds="long")),
    "no bound": lambda: damaged(lambda book: [run["claims"].clear() for run in book["runs"]]),
    "pooled of another kind": lambda: damaged(lambda book: book.update(pooled=[3])),
    "no machine": lambda: damaged(lambda book: book.pop("machine")),
}


@pytest.fixture
def broken_ledger(tmp_path, monkeypatch):
    """A course of one lesson, B1, whose ledger one can damage."""
    lesson = find("B1")
    monkeypatch.setattr(catalog, "items", lambda: [lesson])

    def place(content):
        content = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr(Item, "results", property(lambda self: tmp_path))
        (tmp_path / "B1.json").write_bytes(content)
        return lesson

    return place


@pytest.mark.parametrize("kind", LEDGERS)
def test_a_damaged_ledger_is_one_line(course, broken_ledger, kind):
    lesson = broken_ledger(LEDGERS[kind]())
    with pytest.raises(ledger.LedgerError, match="damaged ledger") as error:
        ledger.load(lesson)
    assert "\n" not in str(error.value)
    code, out, err = course.rl("list")
    assert (code, err.count("\n")) == (0, 1)
    assert "damaged" in out.splitlines()[1]
    for command in (["status"], ["next"], ["goals"]):
        code, _, err = course.rl(*command)
        assert err.count("\n") <= 1, command
    assert "cannot be read" in course.refused("predict", "B1", "--all", "0.5")


@pytest.mark.parametrize("kind", LEDGERS)
def test_tables_name_the_damaged_ledger_and_write_nothing(course, broken_ledger, monkeypatch, tmp_path, kind):
    page = tmp_path / "note.md"
    page.write_text("<!-- results: B1 -->\nold\n<!-- /results -->\n")
    monkeypatch.setattr(tables, "documents", lambda: [page])
    monkeypatch.setattr(pictures, "update", lambda check: [])
    broken_ledger(LEDGERS[kind]())
    assert "damaged ledger" in course.refused("tables")
    assert "old" in page.read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", DEEP, '{"seeds": 3, "failed": {}}', '{"seeds": []}'])
def test_damaged_verdicts_on_fresh_seeds_are_one_line(broken_ledger, content):
    lesson = broken_ledger("")
    fresh.path_of(lesson).parent.mkdir()
    fresh.path_of(lesson).write_text(content)
    with pytest.raises(UsageError, match="damaged") as error:
        fresh.load(lesson)
    assert "\n" not in str(error.value)


def test_a_damaged_picture_is_drawn_anew(tmp_path):
    path = tmp_path / "D0.png"
    for content in (b"", b"\x89PNG\r\n\x1a\n" + b"x" * 100, b"no picture"):
        path.write_bytes(content)
        assert pictures.stored(path) == {}


ONE_DAY = '[a]\ntitle = "A"\n[[a.days]]\nname = "one"\nitems = "A3"\n'


@pytest.mark.parametrize("content", ["", "x", "[a]\ndays = 3\n", "a = " + "[" * 5000, "\x00", ONE_DAY])
def test_damaged_plans_end_the_tables_in_one_line(course, monkeypatch, tmp_path, content):
    place, page = tmp_path / "plans.toml", tmp_path / "note.md"
    place.write_text(content)
    page.write_text("<!-- plans -->\n<!-- /plans -->\n")
    load = plans.load
    monkeypatch.setattr(plans, "load", lambda: load(place))
    monkeypatch.setattr(tables, "documents", lambda: [page])
    monkeypatch.setattr(pictures, "update", lambda check: [])
    assert str(place) in course.refused("tables")


RUN_FILES = {
    "deeply nested": DEEP,
    "a long number": f'{{"status": "passed", "seconds": {LONG}, "seed": {LONG}, "started": {LONG}}}',
    "a lone surrogate": '{"status": "passed", "lesson": "\\ud800", "seconds": 1}',
    "a long name": json.dumps({"status": "passed", "lesson": "x" * 5000, "seconds": 1}),
    "no time": '{"status": "passed"}',
}
CLAIMS = {
    "deeply nested": DEEP,
    "a long number": f'[{{"name": "a", "statement": "A.", "value": {LONG}, "at_least": {LONG}}}]',
    "a lone surrogate": '[{"name": "\\ud800", "statement": "\\ud800", "value": 1, "at_least": 0}]',
    "a long name": json.dumps([{"name": "x" * 5000, "statement": "A.", "value": 1, "at_least": 0}]),
    "values of other kinds": '[{"name": "a", "statement": 3, "value": [1], "at_least": {}}]',
}
METRICS = {
    "deeply nested": '{"step": 0, "loss": ' + DEEP,
    "a long number": f'{{"step": 0, "approx_kl": {LONG}}}',
    "a long step": f'{{"step": {LONG}, "approx_kl": 1.0}}',
    "a lone surrogate": '{"step": 0, "\\ud800": 1.0}',
    "a long name": json.dumps({"step": 0, "x" * 5000: 1.0}),
    "texts": '{"step": "a", "approx_kl": "high"}',
}
DAMAGE = [(name, kind, text) for name, table in (
    ("run.json", RUN_FILES), ("claims.json", CLAIMS), ("metrics.jsonl", METRICS), ("config.json", RUN_FILES),
) for kind, text in table.items()]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "text"), DAMAGE, ids=[f"{name}, {kind}" for name, kind, _ in DAMAGE]
)
def test_whatever_a_run_folder_holds_no_command_breaks(course, name, kind, text):
    course.rl("day", "new")
    course.rl("predict", "B1", "--all", "0.9")
    folder = course.run("B1/by-hand", {"success_4x4": 0.9})
    (folder / "metrics.jsonl").write_text('{"step": 0, "approx_kl": 0.01}\n')
    (folder / name).write_text(text)
    (folder / "nowhere").symlink_to(folder / "gone")
    commands = (
        ["list"],
        ["next"],
        ["status"],
        ["goals"],
        ["predict"],
        ["diagnose", "B1"],
        ["day", "log", "B1"],
    )
    for command in commands:
        code, _, err = course.rl(*command)
        assert code in (0, 2), command
        assert err.count("\n") <= 1, (command, err)


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000, "\x00", "\ud800", "…" * 300])
def test_whatever_a_run_is_called_no_command_breaks(course, name):
    course.rl("day", "new")
    assert course.refused("diagnose", name)
    assert course.refused("day", "log", name)
    assert course.refused("run", name)
    assert course.refused("predict", name)
    (course.days / "predictions").mkdir()
    fields = {"lesson": name, "predicted": "2026-01-01T00:00:00", "claims": {"a": 0.5}}
    (course.days / "predictions" / "a.json").write_text(json.dumps(fields))
    assert course.rl("status")[0] == 0
    assert course.rl("predict")[0] == 0


def test_below_a_folder_that_cannot_be_entered(course, monkeypatch):
    """As root one can enter every folder, so the refusal is simulated."""
    from pathlib import Path

    def refuse(self):
        raise PermissionError(13, os.strerror(13), str(self))

    monkeypatch.setattr(Path, "is_file", refuse)
    assert "Permission denied" in course.refused("diagnose", "closed/run")


@pytest.mark.parametrize(
    "text",
    ["<!--" * 250_000, "# " + "#" * 500_000, "**Hypothesis" * 80_000, "# Hypothesis\n" * 80_000,
     "**Hypothesis" + "*" * 500_000, "\n " * 400_000, "# " + "2026-" * 200_000, "<!-- -->" * 100_000],
    ids=lambda text: repr(text[:14]),
)  # fmt: skip
def test_a_page_of_a_megabyte_is_read_at_once(tmp_path, text):
    folder = tmp_path / "Day01"
    folder.mkdir()
    (folder / "README.md").write_text(text)
    begun = time.process_time()
    assert read_day(folder).marks
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("seeds", ["0:99999999", "999999:1000001", "1,1", "1,1000000", "1\n2", "9" * 5000])
def test_seeds_that_no_recording_can_take_are_refused_before_it_begins(course, seeds):
    error = course.refused("record", "B1", "--fresh", "--seeds", seeds)
    assert "allowed" in error or "like 0:5" in error


def test_what_is_refused_is_one_line_whatever_it_quotes(course, tmp_path):
    assert str(UsageError("a\nb\u2028c")) == "a b c"
    for command in (["run", "a\nb"], ["diagnose", "a\r\nb"], ["predict", "B1", "--claim", "a\nb=0.5"]):
        assert course.refused(*command)


@pytest.mark.parametrize(
    "command",
    [("plan",), ("predict",), ("grade",), ("grade", "B1"), ("break", "B1"), ("notebook", "B1", "--out"),
     ("day",), ("next",), ("run", "A3", "--smoke", "--out"), ("run", "A3", "--smoke", "--tolerance"), ()],
    ids=" ".join,
)  # fmt: skip
def test_nobody_reads_a_megabyte_back(course, command):
    assert len(course.refused(*command, "x" * 1_000_000)) < 1000


@pytest.mark.parametrize(
    "command", [("predict", "B1", "--all", "0.5"), ("break", "B1", "merged"), ("grade", "B1")]
)
@pytest.mark.parametrize("seed", ["-1", "1000000", "9" * 30])
def test_a_seed_that_no_run_can_have_is_refused(course, command, seed):
    assert "--seed" in course.refused(*command, "--seed", seed)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_wrong_flag_is_told_in_the_same_words_on_any_terminal(encoding):
    found = subprocess.run(
        [sys.executable, find("A3").path, "--tolerance", "much"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert found.stderr == (
        "error: Error parsing --tolerance: could not convert string to float: 'much' (allowed: 1e-10 to 1)\n"
    )


def test_where_no_error_can_be_told_the_exit_code_says_it():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", "from chapters.course.cli import main; main()", "foo"]
        assert subprocess.run(command, stderr=full, cwd=catalog.ROOT).returncode == 2


def test_what_is_no_utf_8_is_kept_all_the_same(course, tmp_path):
    """A name of a file may be any bytes; Python holds those that are no letters as halves of letters."""
    course.rl("predict", "B1", "--all", "0.5", "--note", "\udcff")
    (path,) = (course.days / "predictions").glob("*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["note"] == "\udcff"
    assert course.refused("run", "C3", "--smoke", "--env-id", "\udcff", "--out", tmp_path / "out")


def test_who_asks_for_nothing_is_shown_what_there_is(course):
    """`rl` and `rl day` alone: the help, which is no error message."""
    for command, known in (([], "diagnose"), (["day"], "log")):
        code, _, said = course.rl(*command)
        assert code == 2
        assert said.startswith("Usage: ")
        assert known in said
        assert "see rl --help" not in said


def test_a_run_that_ends_before_its_first_check_says_so(tmp_path):
    """That is a matter of its settings, not of its code: no KeyError."""
    log = RunLog(tmp_path, "B1")
    with pytest.raises(UsageError, match=r"^no return: .*a longer run"):
        log.series("return")
    log.close()
