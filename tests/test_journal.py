"""The learning log survives its readers, its writers and their accidents."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from chapters.course import journal
from chapters.course.catalog import ROOT
from chapters.course.journal import JournalError, days, log_run, new_day, read_day
from chapters.utils import plotting
from chapters.utils.files import write_json
from chapters.utils.lesson import RunOptions, execute
from chapters.utils.runlog import RunLog


def page(days_, number: int, text: str | bytes):
    folder = days_ / f"Day{number:02d}"
    folder.mkdir(parents=True)
    (folder / "README.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


@dataclass(frozen=True)
class Config:
    seed: int = 0


def tiny_lesson(cfg: Config, log: RunLog) -> None:
    log.write(1, error=0.25)
    log.claim("exact", "It is exact.", 0.0, at_most=1e-9, always=True)
    figure, _ = plotting.new_figure(1, 1)
    log.figure(figure)


@pytest.fixture
def finished(tmp_path):
    """The runs folder of a finished run under B1's name, made as every lesson's is."""
    runs = tmp_path / "finished"
    execute(tiny_lesson, Config(), Path("B1_tiny.py"), RunOptions(out=runs), print_claims=False)
    return runs


# Starting a day


def test_days_are_numbered_and_dated(course):
    code, out, _ = course.rl("day", "new")
    assert (code, out.strip()) == (0, str(course.days / "Day01" / "README.md"))
    (course.days / "Day07").mkdir()
    (course.days / "notes").mkdir()
    readme = new_day(course.days)
    assert readme.parent.name == "Day08"
    assert readme.read_text().startswith(f"# Day 08 · {time.strftime('%Y-%m-%d')}\n")
    assert not list(course.days.glob(".draft-*"))


def test_days_started_at_once_are_different_days(tmp_path):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        names = [path.parent.name for path in pool.map(new_day, [tmp_path] * 24)]
    assert sorted(names) == [f"Day{number:02d}" for number in range(1, 25)]
    assert all((path / "README.md").read_text().startswith("# Day") for path in days(tmp_path))


def test_a_folder_that_cannot_be_written_is_one_line(course):
    course.days.write_text("not a folder")
    assert "cannot write there" in course.refused("day", "new")
    assert course.days.read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(course):
    course.days.mkdir()
    course.days.chmod(0o555)
    assert "Permission denied" in course.refused("day", "new")


def test_a_start_that_breaks_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "write_atomic", full)
    with pytest.raises(JournalError, match="No space left"):
        new_day(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_kill_leaves_whole_days_and_predictions(tmp_path):
    """SIGKILL at any moment of a loop that writes; afterwards everything can be read, and work goes on."""
    code = f"""
from datetime import datetime
from pathlib import Path
from chapters.course import journal, predictions
root = Path({str(tmp_path)!r})
made = predictions.Prediction("B1", datetime.now().astimezone(), {{f"claim_{{i}}": 0.5 for i in range(2000)}})
while True:
    journal.new_day(root)
    predictions.save(made, root)
"""
    from chapters.course import predictions

    for wait in (0.02, 0.11, 0.23):
        before = len(days(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        while len(days(tmp_path)) < before + 2 and process.poll() is None:
            time.sleep(0.005)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert all(read_day(folder).marks == ("no hypothesis yet",) for folder in days(tmp_path))
        found, problems = predictions.load(tmp_path)
        assert found
        assert problems == []
    assert new_day(tmp_path).exists()
    assert not list(tmp_path.glob(".draft-*")), "a killed start's leftover is swept by the next"


# Listing days


def test_list_shows_hypothesis_and_verdict(course):
    one = "**Hypothesis.** Larger steps\nlearn faster.\n\n## Result\n\n**Verdict.** refuted\n"
    two = (
        "## Hypothesis\n\nIt holds on all seeds.\n\nMore.\n\n## Result\n**Verdict:** *Supported* on 5 of 5\n"
    )
    three = "**Hypothesis.** Windows\r\nlines.\r\n\r\n**Verdict.** mixed\r\n"
    page(course.days, 1, f"# Day 01 · 2026-11-20\n\n{one}")
    page(course.days, 2, f"# Second\n\n{two}")
    page(course.days, 12, f"# Day 12 · 2026-12-01\r\n\r\n{three}")
    code, out, err = course.rl("day", "list")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Day01   2026-11-20  Larger steps learn faster. → refuted",
        "Day02               It holds on all seeds. → supported",
        "Day12   2026-12-01  Windows lines. → mixed",
    ]


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        (journal.TEMPLATE.format(number=1, date="2026-01-01", prompt=journal.PROMPT), "no hypothesis yet"),
        ("", "no verdict"),
        ("**Hypothesis.** H\n", "no verdict"),
        ("**Hypothesis.** H\n\n**Verdict.** banana\n", "verdict 'banana' is none of supported"),
        ("**Hypothesis.** <!-- later -->\n\n**Verdict.** open\n", "no hypothesis yet"),
        ("**Hypothesis.** größer\n\n**Verdict.** open\n".encode("latin-1"), "README.md is not UTF-8"),
        ("**Hypothesis.** H\n\n**Verdict.** open\n".encode("utf-16"), "README.md is not UTF-8"),
        (bytes(range(256)), "README.md is not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_missing_or_unreadable_is_marked(course, text, mark):
    page(course.days, 1, text)
    code, out, _ = course.rl("day", "list")
    assert code == 0
    assert f"[{mark}" in out
    assert out.count("\n") == 1, "one line a day"


def test_odd_folders_are_marked(course):
    (course.days / "Day01").mkdir(parents=True)
    (course.days / "Day02").write_text("a file, no folder")
    (course.days / "Day03" / "README.md").mkdir(parents=True)
    page(course.days, 4, "﻿# Day 04 · 2026-01-01\n\n**Hypothesis.** \x1b[31mred\x1b[0m\n\n**Verdict.** open")
    lines = course.rl("day", "list")[1].splitlines()
    assert "[no README.md]" in lines[0]
    assert "[README.md cannot be read" in lines[1]
    assert "[README.md cannot be read" in lines[2]
    assert lines[3].startswith("Day04   2026-01-01")
    assert "\x1b" not in lines[3]


def test_a_long_hypothesis_is_cut_where_there_is_no_terminal_too(course):
    page(course.days, 1, f"# Day 01 · 2026-11-20\n\n**Hypothesis.** {'word ' * 100}\n\n**Verdict.** open\n")
    (line,) = course.rl("day", "list")[1].splitlines()
    assert len(line) <= 100
    assert line.endswith("… → open")


def test_no_test_and_no_process_of_one_writes_into_the_repository():
    code = "from chapters.course import cli; print(cli.DAYS, cli.RUNS, sep='\\n')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for folder in map(Path, found.stdout.splitlines()):
        assert not folder.is_relative_to(ROOT)


def test_no_days_yet(course):
    assert "rl day new" in course.rl("day", "list")[1]


def test_a_line_fits_the_terminal():
    day = journal.Day("Day01", "2026-01-01", "word " * 100, "open", ("mark",))
    assert len(day.line(80)) <= 80
    assert day.line(80).endswith("→ open  [mark]")


@pytest.mark.parametrize("name", ["Day01", "Day02", "Day03"])
def test_the_days_of_the_course_have_no_marks(name):
    day = read_day(ROOT / "days" / name)
    assert day.marks == ()
    assert day.date


# Logging a run


def test_a_run_is_appended_with_its_figures(course, finished):
    readme = new_day(course.days)
    readme.write_text(readme.read_text() + "\nMy own words.\n")
    assert log_run("b1", course.days, finished) == readme
    text = readme.read_text()
    assert "My own words." in text
    assert "| claim | value | bound | holds |" in text
    figures = re.findall(r"!\[\w+\]\(([^)]+)\)", text)
    assert figures
    assert all((readme.parent / figure).exists() for figure in figures)
    with pytest.raises(JournalError, match="has this run already"):
        log_run("B1", course.days, finished)


def test_only_what_was_changed_is_told_of_the_settings(course):
    from chapters.course import ledger
    from chapters.course.catalog import find

    new_day(course.days)
    usual = ledger.load(find("B1"))
    folder = course.run("B1/20260101-000000-seed0")
    config = {"seed": 3, **usual["config"], "evidence": usual["evidence_config"]}
    (folder / "config.json").write_text(json.dumps(config))
    readme = log_run("B1", course.days, course.runs)
    assert "\nSettings: seed 3; everything as recorded.\n" in readme.read_text()
    other = course.run("B1/20260102-000000-seed0")
    (other / "config.json").write_text(json.dumps({**config, "epsilon": 0.25}))
    log_run(str(other), course.days, course.runs)
    assert "\nSettings: seed 3, `epsilon=0.25`; the rest as recorded.\n" in readme.read_text()


def test_of_many_metrics_the_longest_curves_are_told_and_no_timings(course):
    new_day(course.days)
    folder = course.run("B1/20260101-000000-seed0")
    rows = [{"step": 0, **{f"once_{n}": 1.0 for n in range(40)}, "update_seconds": 1.0}]
    rows += [{"step": step, "curve": float(step)} for step in range(5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = log_run("B1", course.days, course.runs).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Last metrics: ")]
    assert line.startswith("Last metrics: curve 4, ")
    assert line.endswith("; 33 more in its metrics.jsonl.")
    assert line.count(",") == 7
    assert "seconds" not in line


def test_texts_that_a_run_wrote_are_quoted(course):
    new_day(course.days)
    folder = course.run("B1/20260101-000000-seed0")
    (folder / "samples.txt").write_text("\n".join(f"text {n}" for n in range(30)))
    text = log_run("B1", course.days, course.runs).read_text()
    assert "samples.txt:\n\n    text 0\n" in text
    assert "    text 19\n    …\n" in text
    assert "text 20" not in text


def test_a_run_is_named_by_its_folder(course, monkeypatch):
    course.rl("day", "new")
    first = course.run("B1/20260101-000000-seed0", {"early": 0.9})
    course.run("B1/20260102-000000-seed0", {"late": 0.1}, status="failed")
    assert course.rl("day", "log", "B1/20260101-000000-seed0")[0] == 0
    text = (course.days / "Day01" / "README.md").read_text()
    assert "B1 · Tabular Q-learning and SARSA: run passed" in text
    assert "| It is high. | 0.9 | ≥ 0.5 | yes |" in text
    assert "has this run already" in course.refused("day", "log", first)
    assert course.rl("day", "log", "B1")[0] == 0
    assert "**no**" in (course.days / "Day01" / "README.md").read_text()
    monkeypatch.chdir(course.runs)
    elsewhere = course.run("B1/20260103-000000-seed0", {"other": 0.9})
    assert course.rl("day", "log", f"{elsewhere.relative_to(course.runs)}/")[0] == 0


def test_runs_logged_at_once_are_all_there(course):
    readme = new_day(course.days)
    names = [str(course.run(f"B1/2026010{number}-000000-seed0")) for number in range(1, 9)]
    with multiprocessing.get_context("fork").Pool(8) as pool:
        pool.starmap(log_run, [(name, course.days, course.runs) for name in names])
    assert readme.read_text().count("<!-- run: B1/") == 8


def test_a_run_that_goes_on_is_not_the_latest(course):
    course.rl("day", "new")
    course.run("B1/20260101-000000-seed0")
    course.run("B1/20260102-000000-seed0", status="running")
    course.rl("day", "log", "B1")
    assert "B1/20260101-000000-seed0" in (course.days / "Day01" / "README.md").read_text()


def test_nothing_to_log(course):
    assert "rl day new" in course.refused("day", "log", "B1")
    course.rl("day", "new")
    assert "no run of B1 to log yet" in course.refused("day", "log", "B1")
    for wrong in ("B99", "B1/nonsense", "", ".", "/", "x" * 5000):
        assert "no lesson or run" in course.refused("day", "log", wrong)


@pytest.mark.parametrize("name", ["config.json", "run.json", "claims.json"])
@pytest.mark.parametrize("content", [b"", b"[1, 2", b"null", b"\xff\xfe", b'{"status": 3}', b"[[1]]"])
def test_a_broken_run_is_refused_or_logged_without_the_broken_part(course, name, content):
    course.rl("day", "new")
    folder = course.run("B1/20260101-000000-seed0", {"a": 0.9})
    (folder / name).write_bytes(content)
    code, _, err = course.rl("day", "log", "B1/20260101-000000-seed0")
    assert code in (0, 2)
    assert err.count("\n") == (1 if code == 2 else 0)
    assert code == 2 or name != "run.json" or "status" in content.decode()


def test_a_page_in_another_encoding_is_left_alone(course):
    text = "# größer\n".encode("latin-1")
    folder = page(course.days, 1, text)
    course.run("B1/20260101-000000-seed0")
    assert "is not UTF-8" in course.refused("day", "log", "B1")
    assert (folder / "README.md").read_bytes() == text


def test_an_empty_day_gets_a_page(course):
    (course.days / "Day01").mkdir(parents=True)
    course.run("B1/20260101-000000-seed0")
    course.rl("day", "log", "B1")
    assert (course.days / "Day01" / "README.md").read_text().startswith("# Day01\n")


# What the log reads from runs


def test_started_by_run_json_or_by_name(course):
    from chapters.course.progress import full_runs

    course.run("B1/20260103-000000-seed0", started="2026-01-01T00:00:00+00:00")
    course.run("B1/20260102-000000-seed0")
    course.run("B1/by-hand", started="not a time")
    names = [folder.name for folder, _ in full_runs("B1", course.runs)]
    assert names == ["20260103-000000-seed0", "20260102-000000-seed0", "by-hand"]


def test_every_run_says_when_it_was_started(finished):
    from chapters.course.progress import moment, runs_of

    ((folder, run),) = runs_of("B1", finished)
    assert moment(run["started"]).strftime("%Y%m%d-%H%M") == folder.name[:13]


def test_claims_that_cannot_be_read_are_left_out(course):
    from chapters.course.progress import claims_of_run

    folder = course.run("B1/20260101-000000-seed0")
    good = {"name": "good", "statement": "s", "value": 1.0, "at_least": 0.5}
    bad = [{**good, "value": "high"}, {**good, "at_least": "x"}, {"name": "x"}, 3, None, {**good, "extra": 1}]
    write_json(folder / "claims.json", [*bad, good])
    assert list(claims_of_run(folder)) == ["good"]
    assert json.loads((folder / "claims.json").read_text())[-1] == good


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_folder_in_which_nothing_can_be_made_is_not_said_to_be_in_use(monkeypatch):
    monkeypatch.setattr(journal, "PATIENCE", 0.1)
    with pytest.raises(JournalError, match="/proc: cannot write there"), journal.locked(Path("/proc")):
        pass
