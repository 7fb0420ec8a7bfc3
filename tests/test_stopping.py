"""Ctrl-C, SIGTERM and SIGHUP at any moment: one line, 128 + signal, nothing torn, nothing left running."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from chapters.course import children
from chapters.course.catalog import ROOT, find
from chapters.course.progress import own_status, read_run
from chapters.utils import files, lesson, stopping
from chapters.utils.lesson import RunOptions, execute
from chapters.utils.runlog import RunLog

RL = shutil.which("rl", path=str(Path(sys.executable).parent))
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def heed_signals() -> None:
    """Whoever runs the tests in the background may have had them ignored."""
    for number in CODES:
        signal.signal(number, signal.SIG_DFL)


def start(command, **env) -> subprocess.Popen:
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        preexec_fn=heed_signals,
    )


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
    return found


def one_line(process: subprocess.Popen, number: int) -> str:
    """Send the signal; the one line that the process says then."""
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == CODES[number], errors
    (line,) = errors.splitlines()
    assert line.startswith("interrupted")
    return line


@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        *((signal.SIGINT, seconds) for seconds in (0.15, 0.4, 0.8)),
        (signal.SIGTERM, 0.4),
        (signal.SIGHUP, 0.8),
    ],
)
def test_while_modules_are_imported(tmp_path, number, seconds):
    process = start([RL, "run", "B1", "--out", tmp_path])
    time.sleep(seconds)
    one_line(process, number)


def test_signals_are_heeded_before_anything_else_is_imported():
    """What `rl` imports first takes its handlers along: each module before them is a moment without."""
    code = "import sys; sys.argv[0] = 'rl'; was = {*sys.modules}\n"
    code += "import chapters.course; print({*sys.modules} - was)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() in ("{'chapters', 'chapters.course'}", "{'chapters.course', 'chapters'}")


@pytest.mark.parametrize("number", CODES)
def test_while_a_lesson_runs(tmp_path, number):
    process = start([RL, "run", "B1", "--out", tmp_path])
    (rows,) = wait_for(lambda: list(tmp_path.glob("B1/*/metrics.jsonl")))
    time.sleep(0.5)
    assert "what was measured so far is in" in one_line(process, number)
    assert json.loads((rows.parent / "run.json").read_text())["status"] == "interrupted"
    assert all(json.loads(line) for line in rows.read_text().splitlines())
    assert not list(rows.parent.glob(".*")), "nothing half-written"


STUBBORN = """
import gc, sys, time
from dataclasses import dataclass
from chapters.utils.lesson import run_lesson

@dataclass(frozen=True)
class Config:
    '''A lesson.'''
    seed: int = 0
    '''Its seed.'''

def main(cfg, log):
    log.write(0, ready=1)
    {body}

run_lesson(main, Config, {{}})
"""
SWALLOWED = {
    "by a finaliser": """
    class Slow:
        def __del__(self):
            time.sleep(0.2)
    while True:
        Slow()
        time.sleep(0.1)
""",
    "by a collector's callback": """
    gc.callbacks.append(lambda *_: time.sleep(0.1))
    while True:
        gc.collect()
        time.sleep(0.1)
""",
    "as another error": """
    try:
        time.sleep(60)
    except BaseException:
        raise ImportError("numpy: import error") from None
""",
}


@pytest.mark.parametrize("how", SWALLOWED)
def test_an_interruption_that_a_library_swallows_still_ends_the_run(tmp_path, how):
    path = tmp_path / "B1_stubborn.py"
    path.write_text(STUBBORN.format(body=SWALLOWED[how]))
    process = start([sys.executable, path, "--out", tmp_path])
    (folder,) = wait_for(lambda: [path.parent for path in tmp_path.glob("B1/*/metrics.jsonl")])
    time.sleep(0.3)
    one_line(process, signal.SIGINT)
    assert read_run(folder)["status"] == "interrupted"


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),  # a lesson that runs is tried with all three
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_recording_ends_its_children_and_leaves_nothing(tmp_path, number):
    flags = ["--fresh", "--seeds", "900:904", "--jobs", "2"]
    process = start([RL, "record", "B1", *flags], TMPDIR=tmp_path)
    wait_for(lambda: list(tmp_path.glob("*/full-*/B1/*/metrics.jsonl")))
    own = psutil.Process(process.pid).children(recursive=True)
    assert own
    one_line(process, number)
    assert not [child for child in own if child.is_running()]
    assert not list(tmp_path.iterdir()), "its folder is gone"


def test_children_end_with_a_recording_that_is_killed(tmp_path):
    process = start([RL, "record", "B1", "--fresh", "--seeds", "900:902", "--jobs", "2"], TMPDIR=tmp_path)
    wait_for(lambda: list(tmp_path.glob("*/full-*/B1/*/metrics.jsonl")))
    own = psutil.Process(process.pid).children(recursive=True)
    assert own
    process.kill()
    process.communicate()
    wait_for(lambda: not [child for child in own if child.is_running()], seconds=20)
    for path in tmp_path.glob("*/full-*/B1/*/run.json"):
        assert read_run(path.parent)["status"] in ("interrupted", "lost")


def test_an_error_ends_the_other_seeds():
    begun_ones, ended = [], []

    def work(seed):
        if seed:
            wait_for(lambda: begun_ones)
            raise ValueError("broken")
        process = children.start([sys.executable, "-c", "import time; time.sleep(60)"])
        begun_ones.append(process)
        ended.append(process.wait())
        return {}

    begun = time.monotonic()
    with pytest.raises(ValueError, match="broken"):
        list(children.each(work, [1, 0, 0], 2))
    assert time.monotonic() - begun < 20
    assert ended
    assert set(ended) == {-signal.SIGTERM}


@dataclass(frozen=True)
class Config:
    seed: int = 0


def full_after(monkeypatch, count: int) -> None:
    """The disk is full from the given file on."""
    made = []
    original = files.tempfile.mkstemp

    def mkstemp(*args, **kwargs):
        made.append(1)
        if len(made) > count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **kwargs)

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)


def as_script(monkeypatch) -> None:
    """A lesson run here is a script's, also after a test of notebooks; signals stay pytest's."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(stopping, "start", lambda: None)


def claims_one(cfg: Config, log: RunLog) -> None:
    log.write(0, loss=1.0)
    log.claim("exact", "It is exact.", 0.0, at_most=1.0, always=True)
    log.figure(log.kept.get("figure") or Figure())


class Figure:
    def savefig(self, buffer, **_):
        buffer.write(b"picture")


@pytest.mark.parametrize("count", range(5))
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys, count):
    """At config.json, run.json, claims.json, the figure and the last run.json."""
    full_after(monkeypatch, count)
    as_script(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["B1_x.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        lesson.run_lesson(claims_one, Config, {})
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "error: the disk is full: free some space, or use another (--out, RL_CACHE)\n"
    )


def test_a_full_disk_is_one_line_whichever_library_finds_out(tmp_path, monkeypatch, capsys):
    import safetensors
    import torch

    def saves(cfg: Config, log: RunLog) -> None:
        raise found.pop()

    as_script(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["B1_x.py", "--out", str(tmp_path)])
    found = [safetensors.SafetensorError("Error while serializing: I/O error: No space left on device")]
    if Path("/dev/full").exists():
        with pytest.raises(RuntimeError) as caught:
            torch.save({"weights": torch.zeros(10**5)}, "/dev/full")
        found.append(caught.value)
    while found:
        with pytest.raises(SystemExit) as left:
            lesson.run_lesson(saves, Config, {})
        assert left.value.code == 2
        assert capsys.readouterr().err.startswith("error: the disk is full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([RL, "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_reader_that_has_seen_enough_is_told_nothing():
    reading = f'"{RL}" goals | head -1'  # quoted: a folder's name may hold a space
    done = subprocess.run(["bash", "-c", reading], capture_output=True, check=False)
    assert done.stdout.count(b"\n") == 1
    assert not done.stderr


@pytest.mark.parametrize("seed", [-1, 10**6, 10**400])
def test_every_lesson_refuses_a_seed_that_libraries_cannot_take(monkeypatch, capsys, tmp_path, seed):
    as_script(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["B1_x.py", "--seed", str(seed), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        lesson.run_lesson(claims_one, Config, {})
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is out of range (allowed: 0 to 999999)" in error
    assert not list(tmp_path.iterdir())


def test_a_run_whose_process_is_gone_is_lost(tmp_path):
    code = "import os, sys; print(os.getpid()); sys.stdout.flush(); os.abort()"
    gone = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    seen = []

    def main(cfg, log):
        seen.append(json.loads((log.folder / "run.json").read_text()))
        seen.append(read_run(log.folder)["status"])

    log = execute(main, Config(), Path("B1_x.py"), RunOptions(out=tmp_path), print_claims=False)
    running, status = seen
    assert status == "running"
    place = log.folder / "run.json"
    place.write_text(json.dumps(running | {"process": running["process"] | {"pid": gone}}))
    assert read_run(log.folder)["status"] == "lost"
    assert own_status(find("B1"), tmp_path) == "lost"
    for other in (
        {"since": running["process"]["since"] - 1000},  # its number was given to another process
        {"host": "elsewhere", "pid": gone},
        {"pid": "x"},
        {"pid": 10**30},
    ):
        place.write_text(json.dumps(running | {"process": running["process"] | other}))
        expected = "lost" if "since" in other else "running"
        assert read_run(log.folder)["status"] == expected, other


LETTERS = """
from chapters.utils.lesson import run_lesson
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    '''A lesson.'''
    seed: int = 0
    '''Its seed.'''

def main(cfg, log):
    print(repr(input()), "漢字 ✓")
    log.claim("exact", "It is exact: ✓.", 0.0, at_most=1.0, always=True)

run_lesson(main, Config, {})
"""


def test_a_lesson_run_as_a_file_writes_and_reads_any_letter(tmp_path):
    path = tmp_path / "B1_letters.py"
    path.write_text(LETTERS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path, "--out", tmp_path],
        input=b"\xc3\xa4\xff\n",
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0] == rb"'\\xc3\\xa4\\xff' \u6f22\u5b57 \u2713"


@pytest.mark.parametrize(
    ("number", "when"), [(signal.SIGINT, "run"), (signal.SIGTERM, "draw"), (signal.SIGHUP, "run")]
)
def test_a_days_study_says_a_line_and_keeps_what_is_done(tmp_path, number, when):
    path = tmp_path / "study.py"
    path.write_text(
        f"import sys, time; sys.path.insert(0, {str(ROOT / 'days')!r})\n"
        "from pathlib import Path\n"
        "from experiment import command, heed_signals\n"
        f"def run(seed):\n    seed and time.sleep({60 * (when == 'run')})\n    return {{'value': 1.0}}\n"
        "def draw(results):\n    print('drawing', flush=True)\n    time.sleep(60)\n"
        "Path(__file__).with_name('README.md').write_text('<!-- measured -->\\n<!-- /measured -->')\n"
        "heed_signals()\n"
        "command(Path(__file__).with_name('results.json'), {'arm': run}, range(2), str, draw)\n"
    )
    process = start([sys.executable, path], PYTHONPATH=str(ROOT))
    wait_for(lambda: (tmp_path / "results.json").exists())
    if when == "draw":
        assert any(line == "drawing\n" for line in process.stdout)
    assert "every run that finished is in results.json" in one_line(process, number)
    kept = json.loads((tmp_path / "results.json").read_text())["arm"]
    assert kept == {str(seed): {"value": 1.0} for seed in range(1 if when == "run" else 2)}


@pytest.mark.parametrize(
    "script", ["Day01/train_here", "Day01/rft", "Day02/compare", "Day02/preferences", "Day03/study"]
)
def test_every_script_of_a_day_heeds_signals(script):
    assert "    heed_signals()" in (ROOT / "days" / f"{script}.py").read_text(encoding="utf-8")


def test_a_full_disk_says_where_it_is(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fdopen", full)
    with pytest.raises(OSError, match="No space left") as error:
        files.write_atomic(tmp_path / "file", "text")
    assert error.value.filename == str(tmp_path / "file")
    assert not list(tmp_path.iterdir())
