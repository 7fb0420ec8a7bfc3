"""The `rl` command and the lessons' own command line, as a user meets them.

What a process shows that a call cannot (exit codes, signals, what an import costs) is seen in processes of
their own; the words of a refusal are the same in this one, where libraries are imported already.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chapters.course.catalog import ROOT, find, items
from chapters.course.parts import lesson_of
from chapters.utils.lesson import UsageError, parse

B1 = str(find("B1").path)
TOO_FEW_STEPS = [word for part in ("4x4", "8x8", "ties") for word in (f"--steps-{part}", "100")]
RL = [sys.executable, "-c", "from chapters.course.cli import main; main()"]


def run(*command, **env) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "200", **env},
        timeout=120,
        check=False,
    )


def refused(result: subprocess.CompletedProcess) -> str:
    """The one line of a refusal: exit code 2, nothing on stdout, no traceback."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_the_module_is_the_command_too():
    """`python -m` once did nothing, and said nothing."""
    result = run(sys.executable, "-m", "chapters.course.cli", "run", "A1")
    assert "A1 is a note to read" in refused(result)


def test_list_names_everything_and_imports_nothing_heavy():
    code = """
import sys
from chapters.course.cli import main
sys.argv = ["rl", "list"]
try:
    main()
except SystemExit:
    print([name for name in ("torch", "jax", "gymnasium", "matplotlib", "numpy") if name in sys.modules])
"""
    result = run(sys.executable, "-c", code)
    lines = result.stdout.strip().splitlines()
    assert lines[-1] == "[]"
    assert [line.split()[0] for line in lines[1:-1]] == [item.id for item in items()]
    assert "not recorded" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "B99"], "no lesson 'B99' (there are: A3,"),
        (["run", "A1"], "A1 is a note to read"),
        (["run", "A0"], "run ./setup.sh"),
        (["run"], "Missing argument"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["record", "B1", "--seeds", "x"], "--seeds x: not a range of seeds"),
        (["record", "B1", "--seeds", "5:5"], "not a range of seeds"),
        (["run", "B1", "--alpha", "banana"], "'banana' (allowed: 1e-06 to 1)"),
        (["run", "B1", "--alpha", "7"], "--alpha 7 is out of range (allowed: "),
        (["run", "B1", "--alpha", "nan"], "--alpha nan is out of range"),
        (["run", "B1", "--alhpa", "0.1"], "--alhpa"),
        (["run", "B1", "--track", "paper"], "Expected one of ('none', 'tensorboard', 'wandb')"),
        (["notebook", "B1", "--out", f"{__file__}/x.ipynb"], "cannot write there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_exit_code_2(course, arguments, says):
    assert says in course.refused(*arguments)


def test_wrong_usage_ends_a_process_with_exit_code_2():
    assert "--alpha 7 is out of range (allowed: " in refused(run(*RL, "run", "B1", "--alpha", "7"))


def test_unknown_flag_names_the_allowed_ones():
    assert "--seed" in refused(run(sys.executable, B1, "--frobnicate"))


def test_unwritable_output_folder(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    line = refused(run(sys.executable, B1, "--smoke", "--out", blocker))
    assert "cannot write there" in line
    assert blocker.read_text() == "not a folder"


def numbers(out: Path) -> dict:
    """All metrics and claims of the one run in `out`, without timings."""
    from chapters.course.ledger import fingerprint

    (folder,) = out.glob("B1/*")
    return fingerprint(folder)


def test_rl_run_equals_running_the_file(course, tmp_path):
    flags = ["--smoke", "--seed", "7", "--out"]
    assert course.rl("run", "B1", *flags, tmp_path / "a")[0] == 0
    tracked = run(sys.executable, B1, *flags, tmp_path / "b", "--track", "tensorboard")
    assert tracked.returncode == 0, tracked.stderr
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert list(tmp_path.glob("b/B1/*/tensorboard/events*"))


def test_a_failed_claim_exits_1_and_is_named(tmp_path):
    """A hundred steps on the lakes cannot meet B1's claims; on the cliff no episode would end in so few."""
    lesson = find("B1")
    ledger = json.loads(lesson.ledger.read_text())
    result = run(sys.executable, B1, *TOO_FEW_STEPS, "--steps-cliff", "2000", "--out", tmp_path)
    assert result.returncode == 1, result.stderr
    named = re.findall(r"claim failed: (\w+) = .*it holds on (\d+) of (\d+) recorded seeds", result.stderr)
    assert named
    assert all(name in ledger["claims"] for name, _, _ in named)
    (run_json,) = tmp_path.glob("B1/*/run.json")
    assert json.loads(run_json.read_text())["status"] == "failed"


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    process = subprocess.Popen(
        [sys.executable, B1, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # whoever runs the tests in the background may have had them ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("B1/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: what was measured so far is in" in errors
    assert "Traceback" not in errors
    (folder,) = tmp_path.glob("B1/*")
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "nothing half-written"


LESSON = """
from dataclasses import dataclass
from chapters.utils.lesson import run_lesson

@dataclass(frozen=True)
class Config:
    '''A lesson that imports no library.'''
    seed: int = 0
    '''Its seed.'''

def main(cfg, log):
    log.write(0, loss=1.0)
    log.claim("exact", "It is exact.", 0.0, at_most=1.0, always=True)

run_lesson(main, Config, {})
"""


@pytest.fixture
def with_wandb(tmp_path):
    """`with_wandb(MODE="online")` is the error output of a small lesson that ran to its end with it."""
    path = tmp_path / "B1_small.py"
    path.write_text(LESSON)

    def run_it(**env) -> str:
        flags = ["--track", "wandb", "--out", tmp_path]
        result = run(sys.executable, path, *flags, **{"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **env})
        assert result.returncode == 0, result.stderr
        (run_json,) = tmp_path.glob("B1/*/run.json")
        assert json.loads(run_json.read_text())["status"] == "passed"
        return result.stderr

    return run_it


def test_wandb_without_account_or_network(with_wandb, tmp_path):
    assert with_wandb(WANDB_API_KEY="", WANDB_MODE="offline") == ""
    assert list(tmp_path.glob("B1/*/wandb/offline-run*"))


def test_wandb_online_without_a_key_does_not_stop_the_run(with_wandb, tmp_path):
    told = with_wandb(WANDB_API_KEY="", WANDB_MODE="online", NETRC=str(tmp_path / "none"))
    assert "the run goes on without it" in told


def test_missing_optional_package(with_wandb, tmp_path):
    """With wandb not importable, --track wandb says so in one line and the run goes on."""
    (tmp_path / "hide" / "wandb").mkdir(parents=True)
    (tmp_path / "hide" / "wandb" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='wandb')")
    told = with_wandb(PYTHONPATH=f"{tmp_path / 'hide'}{os.pathsep}{ROOT}")
    assert "wandb is not installed; the run goes on without it" in told


def test_a_lesson_that_does_not_parse_is_still_listed(tmp_path):
    """Learners are invited to break lessons; the course must not fall over with them."""
    from chapters.course.catalog import Item

    path = tmp_path / "B1_tabular_q_learning.py"
    path.write_text(find("B1").path.read_text(encoding="utf-8") + "\ndef broken(:\n")
    broken = Item("B1", "py", path)
    assert (broken.title, broken.question) == (find("B1").title, find("B1").question)
    assert broken.budgets == find("B1").budgets


def test_next_and_status_read_the_runs(tmp_path, monkeypatch, capsys):
    from chapters.course import cli

    monkeypatch.setattr(cli, "RUNS", tmp_path)
    monkeypatch.setattr(cli, "DAYS", tmp_path / "days")
    cli.next_()
    assert "rl run A3" in capsys.readouterr().out
    folder = tmp_path / "A3" / "20260101-000000-seed0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"status": "passed", "smoke": false}')
    (tmp_path / "A4" / "x").mkdir(parents=True)
    (tmp_path / "A4" / "x" / "run.json").write_text('{"status": "pas')  # torn by a kill
    cli.next_()
    assert "rl run A4" in capsys.readouterr().out
    cli.status()
    assert "Chapter A: 1 of 2 lessons passed" in capsys.readouterr().out


def test_a_smoke_run_is_not_a_pass(tmp_path):
    from chapters.course.progress import own_status

    folder = tmp_path / "A3" / "x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"status": "passed", "smoke": true}')
    assert own_status(find("A3"), tmp_path) == "smoke only"


def test_record_refuses_when_a_run_breaks(tmp_path):
    """A lesson that crashes leaves the ledger untouched."""
    from chapters.course import ledger
    from chapters.course.catalog import Item

    folder = tmp_path / "B_core_algorithms"
    folder.mkdir()
    path = folder / "B1_broken.py"
    path.write_text("raise SystemExit('this lesson is broken')")
    with pytest.raises(ledger.RecordError, match="this lesson is broken"):
        ledger.record(Item("B1", "py", path), [0], say=lambda _: None)
    assert not (folder / "results").exists()


def test_a_broken_smoke_run_is_found_before_the_full_runs(monkeypatch):
    """It takes seconds, they may take an hour."""
    from chapters.course import ledger

    def run_once(item, seed, scratch, *flags, setting=""):
        assert "--smoke" in flags, "a full run began first"
        raise ledger.RecordError("the smoke run broke")

    monkeypatch.setattr(ledger, "run_once", run_once)
    with pytest.raises(ledger.RecordError, match="the smoke run broke"):
        ledger.record(find("B1"), [0], say=lambda _: None)


def test_doctor_finds_a_wrong_package(tmp_path):
    from chapters.course.doctor import check_packages

    assert check_packages(ROOT).ok
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    text = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text.replace("numpy==", "numpy==9."))
    finding = check_packages(tmp_path)
    assert not finding.ok
    assert "numpy" in finding.found
    assert finding.advice


def test_an_empty_name_of_a_folder_is_none():
    """Not the folder that one happens to be in."""
    names = {"RL_DAYS": "cli.DAYS", "RL_PRACTICE": "cli.PRACTICE", "RL_RUNS": "lesson.RUNS"}
    names["RL_CACHE"] = "models.cache_folder()"
    code = "from chapters.course import cli\nfrom chapters.utils import lesson\n"
    code += "from chapters.text import models\n"
    code += f"print({', '.join(names.values())}, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **dict.fromkeys(names, "")},
    )
    found = [Path(line) for line in done.stdout.splitlines()]
    assert found == [ROOT / name for name in ("days", "practice", "runs", ".cache")]


@pytest.mark.parametrize("flags", [["--out", ""], ["--out="]])
def test_an_empty_out_is_refused(flags):
    lesson = lesson_of(find("B1"))
    with pytest.raises(UsageError, match="--out '' names no folder"):
        parse(lesson.Config, lesson.SMOKE, flags, prog="x")
    assert parse(lesson.Config, {}, ["--out", "."], prog="x")[2].out == Path(".")
