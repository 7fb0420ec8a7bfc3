"""`rl sweep`: what is refused, what is kept, and that a kill at any moment loses no run and doubles none."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from chapters.course import ledger, sweep
from chapters.course.catalog import ROOT, find
from chapters.utils.lesson import UsageError

B1 = find("B1")
FAKE = """
import json, os, pathlib, sys, time

flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
seed, out = int(flags["--seed"]), pathlib.Path(flags["--out"])
with open(os.environ["BEGUN"], "a") as file:
    file.write(f"{flags['--size']} {seed}\\n")
if os.environ.get("BREAKS") == str(seed):
    sys.exit("a wheel came off")
if os.environ.get("WAITS") == str(seed):
    time.sleep(60)
folder = out / "B1" / f"20260101-000000-seed{seed}"
folder.mkdir(parents=True)
value = int(flags["--size"]) + seed / 3
claims = [{"name": "score", "statement": "It is high.", "value": value, "at_least": 2.0},
          {"name": "quick", "statement": "It is.", "value": time.time(), "at_least": 0.0, "timed": True}]
(folder / "config.json").write_text('{"seed": 0}')
(folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": value, "own_seconds": time.time()}))
(folder / "claims.json").write_text(json.dumps(claims))
time.sleep(0.05)
(folder / "run.json").write_text(json.dumps({"seed": seed, "lesson_cpu_seconds": 1.0}))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A sweep of a lesson that takes no time: it says in a file when it begins."""
    path = tmp_path / "B1_fake.py"
    path.write_text(FAKE)
    monkeypatch.setenv("BEGUN", str(tmp_path / "begun"))
    item = types.SimpleNamespace(id="B1", path=path, title="A fake", evidence=tmp_path / "none.py")
    monkeypatch.setattr(ledger, "stamp", lambda item: "0" * 16)
    settings = tuple(sweep.Setting(f"size={size}", ("--size", str(size))) for size in (1, 2))
    return sweep.Sweep(item, settings, (0, 1, 2), (), tmp_path / "kept")


def made(sweep_, jobs: int = 2) -> tuple[sweep.Runs, list[str]]:
    said: list[str] = []
    with sweep.alone(sweep_):
        runs = sweep.Runs(sweep_, say=said.append)
        runs.here(jobs)
    return runs, said


def begun(sweep_) -> list[str]:
    return (sweep_.folder.parent / "begun").read_text().splitlines()


# ---------------------------------------------------------------------------------------------------------
# What is asked for


def planned(*texts, item=B1, seeds="0:2", flags=()) -> sweep.Sweep:
    return sweep.plan(item, seeds, list(texts), flags, Path("/nowhere"))


def test_a_grid_is_every_value_with_every_other():
    found = planned("alpha=0.1,0.2", "gamma=0.9,0.99")
    assert [setting.label for setting in found.settings] == [
        "alpha=0.1 gamma=0.9", "alpha=0.1 gamma=0.99", "alpha=0.2 gamma=0.9", "alpha=0.2 gamma=0.99",
    ]  # fmt: skip
    assert found.settings[0].flags == ("--alpha=0.1", "--gamma=0.9")
    assert found.command(found.settings[0], 7) == ["--seed", "7", "--alpha=0.1", "--gamma=0.9"]
    assert [(setting.label, seed) for setting, seed in found.runs()][3:5] == [
        ("alpha=0.2 gamma=0.99", 0),
        ("alpha=0.1 gamma=0.9", 1),
    ]


def test_without_a_setting_the_defaults_are_run():
    found = planned(flags=("--smoke",))
    assert [(setting.label, setting.flags) for setting in found.settings] == [("defaults", ())]
    assert found.command(found.settings[0], 3) == ["--seed", "3", "--smoke"]
    assert found.folder.name.endswith("-smoke")


def test_a_setting_is_known_by_its_values_and_not_by_how_they_were_typed():
    assert planned("alpha=1e-1").settings[0].label == planned(" alpha = 0.1").settings[0].label == "alpha=0.1"
    assert planned("alpha=1e-1").folder == planned("alpha=0.1,0.2").folder, "what was run is found again"


def test_values_are_written_as_a_lesson_takes_them():
    assert sweep._flags("divide", "true", True) == ["--divide"]
    assert sweep._flags("divide", "False", True) == ["--no-divide"]
    assert sweep._flags("low", "-1", False) == ["--low=-1"]
    assert sweep._flags("hidden_sizes", "64 64", False) == ["--hidden-sizes", "64", "64"]
    with pytest.raises(UsageError, match=r"not a switch \(allowed: true, false\)"):
        sweep._flags("divide", "2", True)


def test_settings_have_folders_of_their_own():
    labels = ["model=a/b", "model=a_b", "x" * 200, "x" * 201, "a b=c"]
    names = [sweep.Setting(label, ()).folder for label in labels]
    assert len(set(names)) == len(labels)
    assert all("/" not in name and len(name) < 100 for name in names)
    assert sweep.Setting("learning_rate=0.001 num_envs=8", ()).folder == "learning_rate=0.001,num_envs=8"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "alpha"], "--set alpha: not a setting (like learning_rate=1e-3,3e-3)"),
        (["--set", "=1"], "not a setting"),
        (["--set", "beta=1"], "--set beta=1: B1 has no such setting (allowed: alpha, "),
        (["--set", "seed=1,2"], "seeds are given by --seeds"),
        (["--set", "alpha=0.1,,0.2"], "--set alpha=0.1,,0.2: a value is missing"),
        (["--set", "alpha=0.1,"], "a value is missing"),
        (["--set", "alpha=0.1", "--set", "alpha=0.2"], "--set alpha is given twice"),
        (["--set", "alpha=0.1,1e-1"], "--set: alpha=0.1 stands there twice"),
        (["--set", "alpha=0.1,high"], "high"),
        (["--set", "alpha=0.1,7"], "--alpha 7 is out of range"),
        (["--set", "out=x"], "B1 has no such setting"),
        (["--seeds", "x"], "--seeds x: not a range of seeds"),
        (["--seeds", "0:900", "--set", "alpha=" + ",".join(str(i / 20) for i in range(1, 20))], "17100 runs"),
        (["--jobs", "-1"], "--jobs"),
        (["--on", "moon"], "--on"),
        (["--address", "127.0.0.1:1"], "--address goes with --on ray"),
    ],
)
def test_wrong_usage_is_one_line_before_anything_starts(course, arguments, says):
    assert says in course.refused("sweep", "B1", *arguments)
    assert not (course.runs / "sweeps").exists()


def test_what_is_no_lesson_is_refused(course):
    assert "A1 is a note" in course.refused("sweep", "A1")
    assert "no lesson 'Z9'" in course.refused("sweep", "Z9")


def test_a_place_that_cannot_be_written_is_told(course, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write there" in course.refused("sweep", "B1", "--smoke", "--out", tmp_path / "file")


# ---------------------------------------------------------------------------------------------------------
# What is kept


def test_every_run_is_made_once_and_found_again(fake):
    runs, said = made(fake)
    assert sorted(begun(fake)) == sorted(f"{size} {seed}" for size in (1, 2) for seed in (0, 1, 2))
    assert (runs.done, runs.total, runs.broken, len(said)) == (6, 6, [], 6)
    assert "(6 of 6, the last)" in said[-1]
    assert "about" in said[0]
    again, said = made(fake)
    assert (again.done, said, len(begun(fake))) == (6, [], 6)


def test_more_seeds_and_values_run_what_is_new(fake):
    made(fake)
    wider = sweep.Sweep(fake.item, (*fake.settings, sweep.Setting("size=3", ("--size", "3"))), (0, 1, 2, 3),
                        (), fake.folder)  # fmt: skip
    runs, _ = made(wider)
    assert runs.total == 12
    assert len(begun(fake)) == len({*begun(fake)}) == 12


def test_a_run_that_breaks_costs_no_other_and_is_tried_again(fake, monkeypatch):
    monkeypatch.setenv("BREAKS", "1")
    runs, said = made(fake)
    assert sorted(runs.broken) == ["size=1 seed 1", "size=2 seed 1"]
    assert sum("broke: a wheel came off" in line for line in said) == 2
    assert "a wheel came off" in (fake.folder / "size=1/seed1.error.txt").read_text()
    monkeypatch.delenv("BREAKS")
    runs, said = made(fake)
    assert (runs.broken, len(said)) == ([], 2)
    assert not list(fake.folder.glob("*/*.error.txt"))


def test_numbers_are_the_same_bytes_however_many_processes_and_in_which_order(fake, tmp_path):
    made(fake, jobs=1)
    sweep.write(fake)
    first = (fake.folder / "sweep.json").read_bytes()
    other = sweep.Sweep(fake.item, fake.settings, fake.seeds, (), tmp_path / "other")
    made(other, jobs=3)
    sweep.write(other)
    assert (other.folder / "sweep.json").read_bytes() == first
    assert (other.folder / "B1_sweep.png").read_bytes() == (fake.folder / "B1_sweep.png").read_bytes()
    assert (other.folder / "times.json").read_bytes() != (fake.folder / "times.json").read_bytes()


def test_the_table_has_medians_intervals_and_verdicts_of_known_values(fake):
    made(fake)
    lines = sweep.write(fake)
    row = next(line for line in lines if "score" in line and "size=2" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["score", "size=2", "2.333"]
    assert cells[4:] == ["≥ 2", "3/3"]
    assert cells[3] == "2 to 2.667 (75 %)", "of three seeds the range, which holds the median so often"
    book = json.loads((fake.folder / "sweep.json").read_text())
    entry = book["settings"]["size=1"]
    assert entry["claims"]["score"]["held"] == "0/3"
    assert entry["claims"]["score"]["values"] == {"0": 1.0, "1": 1 + 1 / 3, "2": 1 + 2 / 3}
    assert entry["metrics"]["1"] == {"loss": 1 + 1 / 3}, "no times among the numbers"
    assert "quick" not in entry["claims"]
    assert "quick" in json.loads((fake.folder / "times.json").read_text())["size=1"]["claims"]


def test_values_that_are_no_numbers_are_left_out_of_the_median():
    claims = {
        seed: sweep.Claim("a", "", value, at_least=0.0) for seed, value in enumerate((1.0, float("nan")))
    }
    entry = sweep._over_seeds(claims)
    assert (entry["median"], entry["interval_of_median"], entry["held"]) == (1.0, None, "1/2")
    none = sweep._over_seeds({0: sweep.Claim("a", "", float("nan"), at_least=0.0)})
    assert none["median"] is None
    assert sweep._number(none["median"]) == "not a number"


def test_a_damaged_run_is_told_in_one_line(fake):
    made(fake)
    (fake.folder / "size=1/seed0/claims.json").write_text("{")
    with pytest.raises(UsageError, match=r"seed0: damaged .*: delete it") as told:
        sweep.write(fake)
    assert "\n" not in str(told.value)


def test_two_sweeps_at_once_are_refused(fake):
    with (
        sweep.alone(fake),
        pytest.raises(UsageError, match=r"another rl sweep of B1 is at work"),
        sweep.alone(fake),
    ):
        pass


def test_a_file_that_was_made_twice_is_not_kept_twice(fake, tmp_path):
    made(fake)
    runs = sweep.Runs(fake, say=lambda line: None)
    folder = tmp_path / "again"
    folder.mkdir()
    with pytest.raises(OSError, match="not empty"):
        runs.keep((fake.settings[0], 0), folder, {"seconds": 1.0})


def test_time_left_is_said_in_the_unit_that_one_would_say_it_in():
    assert [sweep.duration(s) for s in (0, 89, 90, 5000, 7200)] == ["0 s", "89 s", "2 min", "83 min", "2.0 h"]


# ---------------------------------------------------------------------------------------------------------
# Kills

DRIVER = """
import os, sys, types
from pathlib import Path
from chapters.course import ledger, sweep

item = types.SimpleNamespace(id="B1", path=Path(sys.argv[1]), title="A fake")
settings = tuple(sweep.Setting(f"size={size}", ("--size", str(size))) for size in (1, 2))
sweep_ = sweep.Sweep(item, settings, (0, 1, 2), (), Path(sys.argv[2]))
with sweep.alone(sweep_):
    sweep.Runs(sweep_).here(2)
"""
TASKS = """from chapters.course import remote

remote.find = lambda name: item
remote.each = lambda item, commands, place: (
    (run, remote.run_one(item.id, flags)) for run, flags in commands.items()
)
with sweep.alone"""
AS_TASKS = DRIVER.replace("with sweep.alone", TASKS).replace(".here(2)", ".there(None)")
"""What a task does and what becomes of its answer, without the engine that carries both."""


@pytest.mark.parametrize("driver", [DRIVER, AS_TASKS], ids=["in processes", "as tasks"])
def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(fake, driver):
    """The driver is killed again and again, each time after one more run; what was kept stays as it was."""
    command = [sys.executable, "-c", driver, str(fake.item.path), str(fake.folder)]
    kept: dict[Path, int] = {}
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()  # a run has ended
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        now = {path: path.stat().st_ino for path in fake.folder.glob("*/seed*") if path.is_dir()}
        assert kept.items() <= now.items(), "a run that was done was made again"
        assert len(now) > len(kept)
        kept = now
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=True).returncode == 0
    runs = sorted(path for path in fake.folder.glob("*/seed*"))
    assert len(runs) == 6
    assert not list(fake.folder.glob(f"{sweep.PART}*"))
    for path in runs:
        assert json.loads((path / "run.json").read_text())["seed"] == int(path.name.removeprefix("seed"))


COMMAND = """
import sys, types
from pathlib import Path
from chapters.course import cli, ledger, sweep

item = types.SimpleNamespace(id="B1", path=Path(sys.argv.pop(1)), title="A fake", evidence=Path("none.py"))
one = (sweep.Setting("size=1", ("--size", "1")),)
sweep.plan = lambda _, seeds, *more: sweep.Sweep(item, one, tuple(ledger.parse_seeds(seeds)), (), more[-1])
cli.main()
"""


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(fake, tmp_path):
    flags = ["sweep", "B1", "--seeds", "0:2", "--jobs", "1", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", COMMAND, str(fake.item.path), *flags]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "WAITS": "1"},
    )  # fmt: skip
    assert "B1 size=1 seed 0" in process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert out == "1 of 2 runs are kept: the same command goes on from there\n"
    assert not list((tmp_path / "out").glob(f"{sweep.PART}*"))
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout.startswith("1 of 2 runs are there already\n")
    assert "B1 size=1 seed 1" in again.stdout
    assert len(list((tmp_path / "out").glob("size=1/seed*"))) == 2
