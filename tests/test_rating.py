"""Human ratings: order and sides, undo and resumption, what a kill leaves, export, and the terminal."""

import codecs
import contextlib
import io
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import termios
import threading
import time
from collections import Counter

import pytest

from chapters.course.catalog import ROOT
from chapters.rating import (
    Pair,
    RatingStore,
    ScriptedRater,
    Session,
    StaleAnswer,
    export,
    plan,
    rate_in_terminal,
    terminal,
)
from chapters.utils.lesson import UsageError

OTHER = {"first": "second", "second": "first"}


def make_pairs(count):
    return [Pair(f"p{i}", f"text {i}", f"one {i}", f"two {i}") for i in range(count)]


@pytest.fixture
def store(tmp_path):
    with RatingStore(tmp_path / "new folder" / "ratings.sqlite") as store:
        yield store


def answer_all(session, choose):
    shown_in_order = []
    while (shown := session.next()) is not None:
        shown_in_order.append(shown)
        session.answer(choose(shown))
    return shown_in_order


# ---------------------------------------------------------------------------------------------------------
# Order and sides


@pytest.mark.parametrize(
    ("count", "share", "repeats"), [(1, 0.1, 0), (2, 0.1, 1), (20, 0.1, 2), (30, 0.5, 15)]
)
@pytest.mark.parametrize("seed", range(5))
def test_plan_shows_every_pair_once_and_repeats_some_with_sides_swapped(count, share, repeats, seed):
    showings = plan(make_pairs(count), seed, share)
    new = [showing for showing in showings if not showing.repeat]
    assert sorted(showing.pair.id for showing in new) == sorted(pair.id for pair in make_pairs(count))
    assert len(showings) - len(new) == repeats
    for place, showing in enumerate(showings):
        if showing.repeat:
            (before,) = [i for i, other in enumerate(showings[:place]) if other.pair == showing.pair]
            assert showing.left == OTHER[showings[before].left]
            assert place - before > min(5, count // 2)
    for stop in range(count + 1):  # balanced wherever one stops
        sides = Counter(showing.left for showing in new[:stop])
        assert abs(sides["first"] - sides["second"]) <= 1


def test_plan_is_random_and_depends_on_the_seed_only():
    pairs = make_pairs(40)
    assert plan(pairs, 3, 0.1) == plan(pairs, 3, 0.1)
    assert plan(pairs, 3, 0.1) != plan(pairs, 4, 0.1)
    lefts, early = Counter(), Counter()
    for seed in range(400):
        showings = [showing for showing in plan(pairs, seed, 0.1) if not showing.repeat]
        lefts.update(showing.pair.id for showing in showings if showing.left == "first")
        early.update(showing.pair.id for showing in showings[:20])
    # 400 fair coins each: 200 +- 10, so that 5 standard deviations are 50
    assert all(150 < counts[pair.id] < 250 for counts in (lefts, early) for pair in pairs)


def test_wrong_input_is_one_line(store):
    pairs = make_pairs(2)
    for wrong in ([], [pairs[0], pairs[0]]):
        with pytest.raises(UsageError):
            Session(wrong, store)
    with pytest.raises(UsageError, match="0 to 1"):
        Session(pairs, store, repeat_share=1.5)
    with pytest.raises(UsageError, match="UTF-8"):
        Pair("0", "a", "\ud800", "b")
    session = Session(pairs, store)
    with pytest.raises(StaleAnswer):
        session.answer("tie")  # nothing was shown
    session.next()
    with pytest.raises(UsageError, match="allowed: first, second"):
        session.answer("middle")
    assert session.progress == (0, 3)


# ---------------------------------------------------------------------------------------------------------
# Answers, undo, resumption


def test_an_answer_is_kept_in_terms_of_the_pair_with_what_was_seen(store):
    session = Session(make_pairs(6), store, rater="kim")
    shown = session.next()
    assert session.next() is shown  # asking again shows the same
    time.sleep(0.02)
    session.answer("left", source="web")
    (event,) = store.events("kim")
    assert (event.pair, event.choice, event.left) == (shown.pair.key, shown.left, shown.left)
    assert (event.source, event.repeat, event.number) == ("web", False, 1)
    assert 0.02 <= event.seconds < 5
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00$", event.time)
    assert shown.text("left") == getattr(shown.pair, shown.left)
    assert shown.text("right") == getattr(shown.pair, OTHER[shown.left])
    assert store.pairs() == [shown.pair]


def test_undo_shows_the_same_again_down_to_the_first(store):
    session = Session(make_pairs(3), store, repeat_share=0)
    seen = answer_all(session, lambda shown: "left")
    for before in reversed(seen):
        assert session.undo()
        again = session.next()
        assert (again.pair, again.left) == (before.pair, before.left)
    assert not session.undo()
    assert session.progress == (0, 3)
    session.answer("tie")
    assert session.progress == (1, 3)
    assert len(store.events("me")) == 7  # nothing is ever removed from the log


def test_a_session_goes_on_where_another_stopped(store):
    pairs = make_pairs(12)
    whole = answer_all(Session(pairs, store, seed=5, rater="whole"), lambda shown: "tie")
    for expected in whole:  # a new session for every answer, as after a kill
        session = Session(pairs, store, seed=5, rater="halting")
        shown = session.next()
        assert (shown.pair, shown.left, shown.repeat) == (expected.pair, expected.left, expected.repeat)
        session.answer("skip")
        session.undo()
        Session(pairs, store, seed=5, rater="halting").next()
        session.next()
        session.answer("first")
    assert Session(pairs, store, seed=5, rater="halting").next() is None


def test_answers_stay_when_pairs_or_seed_change(store):
    pairs = make_pairs(10)
    session = Session(pairs, store, seed=0, repeat_share=0)
    for _ in range(4):
        session.next()
        session.answer("first")
    more = Session([*pairs, Pair("new", "a", "b", "c")], store, seed=1, repeat_share=1.0)
    assert more.progress == (4, 22)
    seen = answer_all(more, lambda shown: "left")
    assert len(seen) == 18
    first_left = {event.pair: event.left for event in store.events("me") if not event.repeat}
    for shown in seen:
        if shown.repeat:
            assert shown.left == OTHER[first_left[shown.pair.key]]
    # the same id with other texts is another pair
    assert Session([Pair("p0", "text 0", "one 0", "changed")], store).progress == (0, 1)


def test_consistency_counts_repeats_and_sides(store):
    def choose(shown):  # changes its mind about five pairs
        number = int(shown.pair.id[1:])
        return "skip" if number == 19 else "second" if shown.repeat and number < 5 else "first"

    session = Session(make_pairs(20), store, repeat_share=1.0)
    answer_all(session, choose)
    seen = session.consistency()
    assert (seen.num_repeats, seen.num_same, seen.num_decided) == (19, 14, 38)
    share, low, high = seen.agreement
    assert share == 14 / 19
    assert (low, high) == pytest.approx((0.5121, 0.8819), abs=1e-4)  # Wilson, worked out by hand
    # with sides swapped a consistent rater says left once; one who changes their mind says it twice or never
    assert seen.num_left in range(14, 25)
    assert any("14 answered the same (74 %, 95 % interval 51 to 88 %)" in line for line in session.summary())

    biased = Session(make_pairs(20), store, repeat_share=0.5, rater="lefty")
    answer_all(biased, lambda shown: "left")
    assert biased.consistency().agreement[0] == 0
    assert biased.consistency().left[0] == 1
    nobody = Session(make_pairs(20), store, rater="nobody")
    assert nobody.consistency().agreement[1:] == (0, 1)
    assert nobody.summary()[0].startswith("0 of 22 answered")


def test_scripted_rater_prefers_and_errs_as_told(tmp_path):
    pairs = [Pair(str(i), "text", "a" * (i % 7), "b" * (i % 5)) for i in range(100)]
    rater = ScriptedRater(lambda prompt, first, second: len(first) - len(second), noise=0.2, seed=1)
    answers = {}
    for half in ("whole", "resumed"):
        with RatingStore(tmp_path / f"{half}.sqlite") as store:
            session = Session(pairs, store, seed=0 if half == "whole" else 9, repeat_share=0)
            if half == "resumed":
                for _ in range(10):
                    session.answer(rater(session.next()))
            assert rater.rate(session) == (100, 100)
            answers[half] = {event.pair: event.choice for event in store.events("me")}
    assert answers["whole"] == answers["resumed"]  # whatever the order
    wrong = 0
    for pair in pairs:
        difference = len(pair.first) - len(pair.second)
        truth = "tie" if not difference else "first" if difference > 0 else "second"
        assert (truth == "tie") == (answers["whole"][pair.key] == "tie")
        wrong += answers["whole"][pair.key] != truth
    assert 8 < wrong < 28  # of 86 that are no ties, a fifth


# ---------------------------------------------------------------------------------------------------------
# The file


def test_two_sessions_on_one_file_never_answer_the_same_showing(store):
    one, two = Session(make_pairs(4), store), Session(make_pairs(4), RatingStore(store.path))
    one.next()
    two.next()
    one.answer("tie")
    with pytest.raises(StaleAnswer):
        two.answer("tie")
    assert two.next().pair == one.next().pair
    two.answer("skip")
    assert one.undo()  # takes the other's answer back, which is the latest
    assert one.progress == two.progress == (1, 5) or two.next()
    assert two.progress == (1, 5)
    with pytest.raises(StaleAnswer):
        one.undo(token=0)


@pytest.mark.parametrize("content", [b"no database at all, but a text of some length" * 20, None])
def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "other.sqlite"
    if content is None:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE recipes (name)")
        other.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"other\.sqlite") as caught:
        RatingStore(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    with pytest.raises(UsageError, match="folder"):
        RatingStore(tmp_path / "other.sqlite" / "folder" / "x.sqlite")
    with pytest.raises(UsageError):
        RatingStore(tmp_path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("left", "middle"), ("choice", "best"), ("choice", b"first"), ("number", 2**63 - 1), ("number", "many")],
)
def test_a_row_that_is_no_answer_is_one_line(tmp_path, column, value):
    path = tmp_path / "ratings.sqlite"
    pairs = [Pair(str(number), "request", "one", "other") for number in range(3)]
    with RatingStore(path) as store:
        session = Session(pairs, store)
        session.next()
        session.answer("left")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"UPDATE events SET {column} = ?", (value,))
        database.commit()
    with RatingStore(path) as store, pytest.raises(UsageError, match="no answer") as refused:
        Session(pairs, store)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_busy_file_is_one_line_and_the_answer_can_be_given_again(store, monkeypatch):
    session = Session(make_pairs(3), store)
    store._db.execute("PRAGMA busy_timeout = 50")
    session.next()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UsageError, match="locked"):
        session.answer("tie")
    other.execute("ROLLBACK")
    session.answer("tie")
    assert session.progress == (1, 4)


KILLED = """
import json, os, random, signal, sys, time
from chapters.rating import Pair, RatingStore, Session

path, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
pairs = [Pair(f"p{i}", "text", f"one {i}", f"two {i}") for i in range(1000)]
acknowledged = 0
for round in range(rounds):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        store = RatingStore(path)
        session = Session(pairs, store, seed=0)
        os.write(writer, b"ready\\n")
        while True:
            shown = session.next()
            session.answer("left" if shown.token % 2 else "skip")
            os.write(writer, f"{shown.token + 1} {shown.pair.key}\\n".encode())
            if shown.token % 7 == 0:
                session.undo()
                os.write(writer, f"{shown.token + 2} {shown.pair.key}\\n".encode())
    os.read(reader, 6)
    time.sleep(rng.uniform(0, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader) as lines:
        acks = [line.split() for line in lines if line.endswith("\\n")]
    with RatingStore(path) as store:
        events = store.events("me")
        assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert len(events) - acknowledged - len(acks) in (0, 1), "at most the one on its way was not acknowledged"
    for number, key in acks:
        assert events[int(number) - 1].pair == key, "an acknowledged answer is lost"
    acknowledged = len(events)
print(acknowledged)
"""


def test_no_acknowledged_answer_is_lost_to_sigkill(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "ratings.sqlite", "0", "25"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 25


def test_two_processes_share_a_file(tmp_path):
    code = """
import sys
from chapters.rating import Pair, RatingStore, ScriptedRater, Session
pairs = [Pair(f"p{i}", "text", f"one {i}", f"two {i}") for i in range(100)]
with RatingStore(sys.argv[1]) as store:
    print(ScriptedRater(lambda *texts: 1.0).rate(Session(pairs, store)))
"""
    path = tmp_path / "ratings.sqlite"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, path],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        out, error = process.communicate(timeout=60)
        assert "done=110" in out, error
    with RatingStore(path) as store:
        events = store.events("me")
    assert len(events) == len({(event.pair, event.repeat) for event in events}) == 110


# ---------------------------------------------------------------------------------------------------------
# Export


def rate(store, rater, pair, *choices):
    """The answers of one rater to one pair, first showing first."""
    session = Session([pair, Pair("filler", "x", "y", "z")], store, repeat_share=1.0, rater=rater)
    choices = list(choices)
    answer_all(session, lambda shown: choices.pop(0) if shown.pair == pair else "skip")


def test_export_is_what_trl_reads(store, tmp_path):
    datasets = pytest.importorskip("datasets")
    nasty = 'line\nbreak "quoted" \u2028 </script> \u202e مرحبا 🙂 \x00'
    cases = {
        "plain": ("first", "tie"),
        "second": ("second", "second"),
        "contradictory": ("first", "second"),
        "tied": ("tie", "skip"),
        "majority": ("first", "second"),
    }
    pairs = {name: Pair(name, f"text {name} {nasty}", f"one {nasty}", f"two {name}") for name in cases}
    for name, choices in cases.items():
        rate(store, "kim", pairs[name], *choices)
    rate(store, "lee", pairs["majority"], "second", "second")
    path = tmp_path / "out" / "preferences.jsonl"
    counts = export(store, [*pairs.values(), Pair("unrated", "a", "b", "c")], path)
    assert counts == {"exported": 3, "contradictory": 1, "undecided": 1, "unrated": 1}
    rows = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows.column_names == ["prompt", "chosen", "rejected"]
    assert rows["prompt"][:] == [pairs[name].prompt for name in ("plain", "second", "majority")]
    assert rows["chosen"][:] == [pairs["plain"].first, "two second", "two majority"]
    assert rows["rejected"][:] == ["two plain", pairs["second"].first, pairs["majority"].first]

    again = tmp_path / "again.jsonl"
    command = [sys.executable, "-m", "chapters.rating", store.path, again]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("3 exported, 1 contradictory, 2 undecided, 0 unrated")
    assert sorted(again.read_text().splitlines()) == sorted(path.read_text().splitlines())


def test_export_never_leaves_half_a_file(store, tmp_path):
    pair = Pair("p", "a", "b", "c")
    path = tmp_path / "preferences.jsonl"
    with pytest.raises(UsageError, match="no preference"):
        export(store, [pair], path)
    assert not path.exists()
    rate(store, "me", pair, "first", "first")
    path.write_text("old")
    with pytest.raises(UsageError, match="cannot write"):
        export(store, [pair], path / "below a file")
    assert path.read_text() == "old"
    export(store, [pair], path)
    assert json.loads(path.read_text()) == {"prompt": "a", "chosen": "b", "rejected": "c"}


# ---------------------------------------------------------------------------------------------------------
# The terminal


def test_lines_are_answers_where_there_is_no_terminal(store, monkeypatch, capsys):
    session = Session(make_pairs(5), store, repeat_share=0)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nx\n\nB\nt\nu\ns\n"))
    assert rate_in_terminal(session) == (3, 5)  # and the end of input ends it
    choices = [event.choice for event in store.events("me")]
    assert choices[2:] == ["tie", "undo", "skip"]
    lefts = [event.left for event in store.events("me")]
    assert choices[:2] == [lefts[0], OTHER[lefts[1]]]
    assert {event.source for event in store.events("me")} == {"terminal"}
    out = capsys.readouterr().out
    assert "'x' is no answer (allowed: a, b, t, s, u, q)" in out
    assert "3 of 5 answered: 2 preferences, 0 ties, 1 skipped." in out

    monkeypatch.setattr("sys.stdin", io.StringIO("q\na\n"))
    assert rate_in_terminal(session) == (3, 5)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\nu\nb\nq\n"))  # undo also after the last
    assert rate_in_terminal(session) == (5, 5)
    assert "Everything is rated." in capsys.readouterr().out


def test_texts_cannot_drive_the_terminal(store, monkeypatch, capsys):
    evil = "\x1b[2J\x1b]0;title\x07 [red]markup[/] \x9b31m \u202egnorw\u2066 fine ünïcode 🙂"
    assert (
        terminal.visible("tab\tand\nline stay, e\u0301 and 👩‍🔬 too")
        == "tab\tand\nline stay, e\u0301 and 👩‍🔬 too"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setenv("COLUMNS", "200")
    rate_in_terminal(Session([Pair("0", evil, evil, evil)], store))
    out = capsys.readouterr().out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066]", out)
    assert "\\u001b[2J" in out
    assert "[red]markup[/]" in out


def test_narrow_screens_show_one_above_the_other(store, monkeypatch, capsys):
    for columns, together in (("120", True), ("50", False)):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        rate_in_terminal(Session(make_pairs(1), store))
        lines = capsys.readouterr().out.splitlines()
        assert any("one 0" in line and "two 0" in line for line in lines) == together


class Typist:
    """A person at a terminal of their own. For the program time passes when it reads a `w`, and only then.

    It says what it read, and takes the terminal itself: what runs between fork and exec of a process with
    JAX's threads may wait for ever.
    """

    def __init__(self, path, count=4):
        code = f"""
import fcntl, sys, termios, types
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from chapters.rating import Pair, RatingStore, Session, rate_in_terminal, terminal
read, now = terminal._key, [0.0]
def key(screen):
    found = read(screen)
    print("read", repr(found), flush=True)
    now[0] += found == "w"
    return found
terminal._key, terminal.time = key, types.SimpleNamespace(monotonic=lambda: now[0])
pairs = [Pair(f"p{{i}}", f"text {{i}}", f"one {{i}}", f"two {{i}}") for i in range({count})]
with RatingStore(sys.argv[1]) as store:
    print("progress", *rate_in_terminal(Session(pairs, store, repeat_share=0)))
"""
        self.screen, terminal_end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, path],
            cwd=ROOT,
            stdin=terminal_end,
            stdout=terminal_end,
            stderr=terminal_end,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "90"},
            start_new_session=True,
        )
        os.close(terminal_end)
        self.seen, self.read_to = "", 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        """What is read may end within a letter, or within the code of a colour: both wait for the rest."""
        letters, raw = codecs.getincrementaldecoder("utf-8")(), ""
        try:
            while chunk := os.read(self.screen, 4096):
                raw += letters.decode(chunk)
                self.seen = re.sub(r"\x1b\[[\d;?]*\w", "", raw)
        except OSError:
            pass

    def wait_for(self, text):
        """Until `text` appears after what was waited for last."""
        deadline = time.monotonic() + 60
        while text not in self.seen[self.read_to :]:
            assert time.monotonic() < deadline, self.seen[self.read_to :]
            time.sleep(0.01)
        self.read_to = self.seen.index(text, self.read_to) + len(text)

    def type(self, keys):
        os.write(self.screen, keys.encode())


def test_single_keys_on_a_terminal(tmp_path):
    path = tmp_path / "ratings.sqlite"
    typist = Typist(path)
    typist.wait_for("1 of 4")
    typist.wait_for("q stop")
    typist.type("wxAaaa")  # no Enter; x means nothing; whoever leans on the key does not mean the next pair
    typist.wait_for("Recorded: A.")
    typist.wait_for("u undo   q stop")
    typist.type("w\x1b[A\x1b[B")  # up and down: codes that contain A and B
    typist.wait_for("read ''")
    typist.type("\x1b[C")
    typist.wait_for("Recorded: B.")
    typist.type("wu")
    typist.wait_for("Undone.")
    typist.wait_for("2 of 4")
    typist.wait_for("q stop")
    typist.type("wt")
    typist.wait_for("Recorded: tie.")
    typist.type("\x04")  # Ctrl-D: the end of input
    typist.wait_for("progress 2 4")
    assert typist.process.wait(60) == 0
    with RatingStore(path) as store:
        choices = [event.choice for event in store.events("me")]
    assert choices[2:] == ["undo", "tie"]
    assert len(choices) == 4


def test_ctrl_c_keeps_everything_and_restores_the_terminal(tmp_path):
    path = tmp_path / "ratings.sqlite"
    typist = Typist(path)
    typist.wait_for("1 of 4")
    typist.wait_for("q stop")  # the end of what it shows
    typist.type("ws")
    typist.wait_for("Recorded: skip.")
    typist.wait_for("q stop")  # Ctrl-C empties the terminal of what nobody has read
    assert not termios.tcgetattr(typist.screen)[3] & termios.ECHO
    typist.type("\x03")
    typist.wait_for("1 of 4 answered")
    typist.wait_for("KeyboardInterrupt")  # run_lesson turns it into exit code 130
    typist.process.wait(60)
    assert termios.tcgetattr(typist.screen)[3] & termios.ECHO
    with RatingStore(path) as store:
        assert [event.choice for event in store.events("me")] == ["skip"]
