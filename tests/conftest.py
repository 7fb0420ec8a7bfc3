"""Every test runs offline, on one torch thread, with shapes checked at run time."""

import atexit
import functools
import gc
import inspect
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

# Threads that wait for each other burn the other worker's time: with two, small networks take twice as much.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.update(
    HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", JAX_PLATFORMS="cpu", MPLBACKEND="Agg"
)
# What a test forgets to redirect lands here and not in the repository, also where it starts another process.
os.environ.update(
    RL_DAYS=(elsewhere := tempfile.mkdtemp(prefix="rl-tests-")) + "/days",
    RL_RUNS=elsewhere + "/runs",
    RL_PRACTICE=elsewhere + "/practice",
)
# XLA compiles each program once, whichever worker or kernel asks for it: they have the folder of the process
# that starts them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", elsewhere + "/jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# And it compiles in two thirds of the time what runs too briefly here to earn that back.
os.environ["XLA_FLAGS"] = " ".join(
    dict.fromkeys(
        [
            *os.environ.get("XLA_FLAGS", "").split(),
            "--xla_backend_optimization_level=0",
            "--xla_cpu_use_fusion_emitters=false",
        ]
    )
)
# The same for Python: else each of a hundred processes compiles the course anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import jaxtyping
import pytest
import tyro  # noqa: F401 — first: it cannot be imported any more where a prompt's last value, `_`, holds a list
from xdist.scheduler import LoadScopeScheduling

from chapters.course.catalog import CHAPTERS, Item
from chapters.utils import plotting

# Figures are drawn to see that they can be: coarsely, and without the search for a layout, half of the time.
plotting.STYLE.update({"savefig.dpi": 50, "figure.constrained_layout.use": False})

# As for the processes that tests start: lessons under the hook below and rewritten tests are compiled once.
sys.dont_write_bytecode = False

# Libraries make millions of objects that stay: looking through them for garbage costs a tenth of the time.
gc.set_threshold(20_000, 20, 20)

# Under nohup a hang-up is ignored, and Ctrl-C in the background of a script; also by the processes that tests
# start to see how they end, which then wait for ever.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(shutil.rmtree, elsewhere, ignore_errors=True)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MACOS_BROWSER = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

WATCHED = 64  # calls of a function whose shapes are checked one by one; then each so many-th
in_full = jaxtyping.jaxtyped
calls = {}  # of each piece of code: how often it was called


def sparing(**options: object) -> Callable:
    """Checks the shapes of a function's first calls and of every 64th: a training loop calls it a thousand
    times with the same ones, and to check them takes as long as the function.

    What checks them is made at the first call: that takes milliseconds, a worker imports five thousand
    functions to call some of them, and a function inside another is made anew whenever the other is called.
    """
    check = in_full(**options)

    def decorate(thing: Callable) -> Callable:
        if not inspect.isfunction(thing):  # a class
            return check(thing)
        count = calls.setdefault(thing.__code__, itertools.count())
        checked = None

        @functools.wraps(thing)
        def called(*arguments, **named):
            nonlocal checked
            number = next(count)
            if number > WATCHED and number % WATCHED:
                return thing(*arguments, **named)
            checked = checked or check(thing)
            return checked(*arguments, **named)

        return called

    return decorate


jaxtyping.jaxtyped = sparing
# Must come before any lesson is imported: from here on an annotated shape that is wrong raises.
folders = sorted(path.name for path in CHAPTERS.glob("[A-E]_*"))
checked = [*folders, "text", "exact"]
jaxtyping.install_import_hook([f"chapters.{name}" for name in checked], "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="run the slow tests, too")


def pytest_configure(config: pytest.Config) -> None:
    """Whoever names a file works on it, and has all of its tests; workers are told by their parent."""
    if config.args_source is pytest.Config.ArgsSource.ARGS and not hasattr(config, "workerinput"):
        config.option.whole = True


def pytest_report_header(config: pytest.Config) -> str:
    return "" if config.option.whole else "without the slow tests, which `pytest --whole` runs"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A slow test trains a learner, or starts processes, to see what a quick test nearly always sees first.

    So the time that all take together does not grow with each lesson. Continuous integration runs them all.
    """
    if config.option.whole:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)


def pytest_collection_finish() -> None:
    """What was imported to collect the tests stays to the end: no search for garbage looks through it."""
    gc.freeze()


class ByLesson(LoadScopeScheduling):
    """Each worker keeps to some lessons, so that what they import and run is imported and run once.

    All tests of a lesson go to one worker; those of chapter D together, and with them E3's and all that need
    language models, since importing TRL takes longer than most of them; the others by file. The groups with
    most tests begin first.
    """

    WITH_D = (
        "E3",
        *(
            f"tests/test_{name}.py"
            for name in ("foreign_logs", "language_models", "preference_files", "rewriting")
        ),
    )

    def _split_scope(self, nodeid: str) -> str:
        found = re.search(r"\[([A-E])(\d+)\b", nodeid) or re.search(r"test_([A-E])(\d+)\.py", nodeid)
        scope = found[1] + found[2] if found else nodeid.split("::")[0]
        return "D" if scope.startswith("D") or scope in self.WITH_D else scope


@pytest.hookimpl(optionalhook=True)  # mutate.py runs without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByLesson:
    return ByLesson(config, log)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """`smoke_run(item)` is the log of a lesson's smoke run with its evidence, made once a worker."""
    from chapters.course.parts import lesson_of
    from chapters.utils.lesson import RunOptions, execute

    done = {}

    def run(item: Item):
        # C8 needs Ray, an optional extra of a gigabyte, and cannot run without it; its ledger, checks and
        # exercises are tested all the same. That no other lesson is spared stands in test_contract.py.
        if item.lacks:
            pytest.skip(item.lacks)
        if item.id not in done:
            lesson = lesson_of(item)
            out = tmp_path_factory.mktemp("runs")
            options = RunOptions(smoke=True, evidence=item.evidence.exists(), out=out)
            config = lesson.Config(**lesson.SMOKE)
            done[item.id] = execute(lesson.main, config, item.path, options, print_claims=False)
        return done[item.id]

    return run


@pytest.fixture(scope="module")
def chromium():
    """A real browser, for the pages that the course writes."""
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    executable = executable or (MACOS_BROWSER if os.path.exists(MACOS_BROWSER) else None)
    if executable is None:
        # a browser is no part of the set-up, and a learner may have none: what the rating server refuses and
        # keeps, and what the site's pages hold, is tested without one; .ci/run installs Chromium where it may
        pytest.skip("no Chromium or Chrome on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def course(tmp_path, monkeypatch, capsys):
    """`rl` with folders of its own: `course.rl("next")` returns (exit code, stdout, stderr)."""
    from typer import main as building

    from chapters.course import cli

    if not hasattr(building.get_command, "cache_clear"):  # each process builds the commands once; so do tests
        building.get_command = functools.cache(building.get_command)
    days, runs = tmp_path / "days", tmp_path / "runs"
    monkeypatch.setattr(cli, "DAYS", days)
    monkeypatch.setattr(cli, "RUNS", runs)
    monkeypatch.setattr(cli, "PRACTICE", tmp_path / "practice")
    monkeypatch.setattr(cli.stopping, "start", lambda: None)  # signals stay pytest's
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # tests of notebooks leave it; this is none

    def rl(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rl", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return (left.value.code or 0, *capsys.readouterr())

    def refused(*arguments: object) -> str:
        """The one line of a refusal: exit code 2, nothing on stdout."""
        code, out, err = rl(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), (code, out, err)
        assert err.startswith("error: ")
        return err

    def run(name: str, claims: dict | None = None, **fields) -> Path:
        """A run folder such as `B1/20260101-000000-seed0`; a claim's value must be at least 0.5 to hold."""
        folder = runs / name
        folder.mkdir(parents=True)
        run_json = {"lesson": name[:2], "seed": 0, "smoke": False, "status": "passed", "seconds": 1.0}
        bounds = {"statement": "It is high.", "at_least": 0.5}
        records = [{"name": key, "value": value, **bounds} for key, value in (claims or {}).items()]
        (folder / "run.json").write_text(json.dumps({**run_json, **fields}))
        (folder / "config.json").write_text('{"seed": 0}')
        (folder / "claims.json").write_text(json.dumps(records))
        return folder

    return SimpleNamespace(rl=rl, refused=refused, run=run, days=days, runs=runs)
