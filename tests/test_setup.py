"""The set-up, run against a Python, a uv and a pip that are stand-ins: nothing is downloaded or installed.

What the stand-ins print when they fail was taken from the real ones (uv 0.13.8, pip 23.0) with the network
unplugged, a port closed, and a disk of 300 MB.
"""

import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from chapters.course.catalog import ROOT

A0 = "chapters/A_foundations/A0_environment_setup.sh"
OPTIONS = ["--test", "--no-lesson", "--python", "--no-disk-check", "--renew", "--help"]
TOOLS = ["awk", "bash", "cat", "chmod", "cmp", "cp", "dirname", "env", "grep", "head"]
TOOLS += ["ln", "mkdir", "mv", "readlink", "rm", "sh", "sleep", "tail"]

REFUSED = """error: Request failed after 3 retries in 5.0s
  cause: Failed to fetch: http://127.0.0.1:9/gguf/
  cause: error sending request for url (http://127.0.0.1:9/gguf/)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)"""
NO_DNS = """error: Request failed after 3 retries in 4.2s
  cause: Failed to fetch: https://index.invalid/datasets/
  cause: error sending request for url (https://index.invalid/datasets/)
  cause: client error (Connect)
  cause: dns error
  cause: error resolving DNS
  cause: failed to lookup address information: Temporary failure in name resolution"""
PIP_REFUSED = """WARNING: Retrying (Retry(total=0, connect=None, read=None)) after connection broken by \
'NewConnectionError('Failed to establish a new connection: [Errno 111] Connection refused')': /simple/uv/
ERROR: Could not find a version that satisfies the requirement uv==0.13.8 (from versions: none)
ERROR: No matching distribution found for uv==0.13.8"""
UNKNOWN_ISSUER = """error: Failed to fetch: https://index.invalid/datasets/
  cause: error sending request for url (https://index.invalid/datasets/)
  cause: client error (Connect)
  cause: invalid peer certificate: UnknownIssuer"""
FULL_UNPACKING = """error: Failed to download `ruff==0.17.5`
  cause: Failed to extract archive: ruff-0.17.5-py3-none-manylinux_2_17_x86_64.whl
  cause: I/O operation failed during extraction
  cause: failed to write to file `cache/ruff`: No space left on device (os error 28)"""
FULL_LINKING = """error: Failed to install: numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (numpy==2.4.6)
  cause: failed to copy file from a to b: No space left on device (os error 28)"""

# Answers A0's question about itself; makes a uv when pip is asked to; notes every call.
PYTHON = """#!/bin/sh
case "$*" in
  *platform.machine*)
    printf '%s\\n' "$0" "${FAKE_VERSION:-3.11.9}" "${FAKE_PLATFORM:-Linux-x86_64}" "$FAKE_MACOS" ;;
  *find_uv_bin*) [ -n "$FAKE_UV_MODULE" ] && echo "$FAKE_UV_MODULE" ;;
  "-m pip --version") ;;
  "-m pip install"*)
    echo "pip $*" >>"$CALLS"
    case "$PIP_USER$PIP_REQUIRE_VIRTUALENV" in *1*) echo "ERROR: not with --target" >&2; exit 1 ;; esac
    if [ -n "$FAKE_PIP" ]; then echo "$FAKE_PIP" >&2; exit 1; fi
    while [ "$1" != --target ]; do shift; done
    mkdir -p "$2/bin" && cp "$FAKE_UV" "$2/bin/uv" ;;
  "-m pytest") echo pytest >>"$CALLS"; echo "7 passed in 0.1s"; exit "${FAKE_PYTEST:-0}" ;;
  "-c "*) ;;
  *) echo "python $*" >>"$CALLS"; echo "figure: runs/A3/A3.png" ;;
esac
"""
# A uv whose index, disk and patience can be taken away: FAKE_LOCK and FAKE_SYNC are what it dies of.
UV = """#!/bin/sh
echo "uv $*" >>"$CALLS"
die() { echo "$1" >&2; exit 2; }
case "$*" in
  --version) echo "uv ${FAKE_UV_VERSION:-0.13.8} (x86_64-unknown-linux-gnu)" ;;
  "cache dir") echo "$HOME/no/cache/yet" ;;
  "lock --check --offline") [ -s uv.lock ] ;;
  lock*)
    [ ! -e uv.lock ] || [ -s uv.lock ] || die 'error: Failed to parse `uv.lock`'
    [ -z "$FAKE_LOCK" ] || [ -n "$UV_SYSTEM_CERTS" ] || die "$FAKE_LOCK"
    echo "a lock" >uv.lock ;;
  export*) cat "$FAKE_EXPORT" ;;
  sync*--check) [ -e .venv/whole ] ;;
  sync*)
    mkdir -p .venv/bin
    cp "$FAKE_PYTHON" .venv/bin/python
    printf '#!/bin/sh\\necho "rl $*" >>"$CALLS"\\nexit "${FAKE_DOCTOR:-0}"\\n' >.venv/bin/rl
    chmod +x .venv/bin/rl
    [ -z "$FAKE_SYNC" ] || die "$FAKE_SYNC"
    [ -z "$FAKE_SLOW" ] || { echo $$ >"$FAKE_SLOW"; exec sleep 30; }
    echo >.venv/whole ;;
  *) die "error: no such command: $*" ;;
esac
"""


@dataclass
class Machine:
    """A clone of the set-up's files in a folder with spaces, and a PATH with only what is put there."""

    home: Path
    clone: Path
    path: Path
    calls_file: Path
    env: dict[str, str] = field(default_factory=dict)

    def put(self, name, script, folder=None):
        """An executable file: on the PATH unless a folder is given."""
        target = (folder or self.path) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(script)
        target.chmod(0o755)
        return target

    def setup(self, *arguments, cwd=None, **knobs):
        self.calls_file.write_text("")
        return subprocess.run(
            [self.clone / "setup.sh", *arguments],
            env=self.env | knobs,
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self):
        return self.calls_file.read_text().splitlines()

    def called(self, text):
        return any(text in call for call in self.calls)

    @property
    def installed(self):
        """Did uv fill .venv in the last run, rather than only look at it?"""
        return any(call.startswith("uv sync") and "--check" not in call for call in self.calls)


@pytest.fixture
def machine(tmp_path):
    clone, home, path = tmp_path / "a folder with spaces" / "clone", tmp_path / "home", tmp_path / "bin"
    for folder in (clone, home, path):
        folder.mkdir(parents=True)
    for name in ("setup.sh", A0, "pyproject.toml", "requirements.txt"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    for tool in TOOLS:
        (path / tool).symlink_to(shutil.which(tool))
    machine = Machine(home, clone, path, tmp_path / "calls")
    python = machine.put("python3", PYTHON)
    machine.put("df", "#!/bin/sh\necho Filesystem\necho disk 1 1 ${FAKE_FREE_KB:-99999999} 1% /\n")
    spare = machine.put("uv", UV, folder=tmp_path / "spare")
    machine.env = {
        "HOME": str(home),
        "PATH": str(path),
        "CALLS": str(machine.calls_file),
        "FAKE_PYTHON": str(python),
        "FAKE_UV": str(spare),
        "FAKE_EXPORT": str(tmp_path / "export"),
    }
    exported = [line for line in requirements().splitlines(keepends=True) if not line.startswith("#")]
    (tmp_path / "export").write_text("".join(exported))
    return machine


@pytest.fixture
def with_uv(machine):
    machine.put("uv", UV)
    return machine


def requirements():
    return (ROOT / "requirements.txt").read_text()


def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def fails_in_one_line(result, *words, code=1):
    assert result.returncode == code, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("setup.sh: ")
    for word in words:
        assert word in result.stderr


# ---------------------------------------------------------------------------------------------------------
# The command line


def test_help_names_every_option_and_touches_nothing(machine):
    result = machine.setup("--help")
    assert result.returncode == 0
    assert not result.stderr
    for option in OPTIONS:
        assert f"\n  {option} " in result.stdout
    assert "Apple Silicon" in result.stdout
    assert not (machine.clone / ".uv").exists()


def test_an_unknown_option_is_refused_before_any_work(machine):
    result = machine.setup("--tset")
    fails_in_one_line(result, "--tset", *OPTIONS, code=2)
    assert not result.stdout
    assert not (machine.clone / ".uv").exists()
    fails_in_one_line(machine.setup("--python"), "--python needs", code=2)


@pytest.mark.parametrize("given", ["a\nb", "x" * 5000], ids=["two lines", "long"])
def test_what_was_typed_fits_into_the_one_line(with_uv, given):
    for arguments in ([given], ["--python", given]):
        result = with_uv.setup(*arguments)
        fails_in_one_line(result, code=2)
        assert len(result.stderr) < 300


def test_a_folder_is_no_python(with_uv):
    """Pyenv's versions are looked up by their number: a path must not find any of them."""
    with_uv.put("python", PYTHON, folder=with_uv.home / ".pyenv/versions/3.12.4/bin")
    for folder in ("/", "./", str(with_uv.home)):
        fails_in_one_line(with_uv.setup("--python", folder, FAKE_VERSION="3.12.4"), "is no Python", code=2)
    assert with_uv.setup("--no-lesson", "--python", "3.12", FAKE_VERSION="3.12.4").returncode == 0


# ---------------------------------------------------------------------------------------------------------
# What it does when all is well


def test_it_sets_up_then_examines_then_runs_the_first_lesson(with_uv):
    result = with_uv.setup()
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    work = [call for call in with_uv.calls if not call.startswith("uv ") or "sync --locked --inexact" in call]
    assert work[-2:] == ["rl doctor", "python chapters/A_foundations/A3_mdp_and_bellman.py"]
    steps = [line.split()[0] for line in result.stdout.splitlines()[1:6]]
    assert steps == ["python", "uv", "lock", "disk", "packages"]
    assert f'cd "{with_uv.clone}"' in result.stdout  # it was run from another folder
    assert "source .venv/bin/activate" in result.stdout
    assert "rl next" in result.stdout
    assert 'cd "' not in with_uv.setup(cwd=with_uv.clone).stdout


def test_a_second_run_finds_everything_there_and_needs_no_index(with_uv):
    with_uv.setup()
    begun = time.monotonic()
    result = with_uv.setup("--no-lesson", FAKE_LOCK=REFUSED, FAKE_SYNC=REFUSED, FAKE_FREE_KB="1")
    assert time.monotonic() - begun < 5
    assert result.returncode == 0, result.stderr
    assert not with_uv.installed
    assert not with_uv.called("A3_")
    assert with_uv.called("rl doctor")


def test_a_problem_found_by_the_doctor_stops_it(with_uv):
    fails_in_one_line(with_uv.setup(FAKE_DOCTOR="1"), "rl doctor", "delete the folder .venv")
    assert not with_uv.called("A3_")


def test_it_runs_under_plain_sh_too(with_uv):
    result = subprocess.run(
        ["sh", with_uv.clone / "setup.sh", "--no-lesson"], env=with_uv.env, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr


# ---------------------------------------------------------------------------------------------------------
# Python


def test_a_python_too_old_is_named(with_uv):
    fails_in_one_line(
        with_uv.setup(FAKE_VERSION="3.9.18"), "3.11", "only 3.9.18", "brew install", "apt install"
    )
    assert with_uv.calls == []


def test_without_any_python_it_says_so(with_uv):
    (with_uv.path / "python3").unlink()
    fails_in_one_line(with_uv.setup(), "3.11", "none was found")


@pytest.mark.parametrize("version", ["3.12.4", "3.13.0"])
def test_a_newer_python_serves_and_uv_run_is_told_of_it(with_uv, version):
    result = with_uv.setup("--no-lesson", FAKE_VERSION=version)
    assert result.returncode == 0, result.stderr
    assert f"export UV_PYTHON={version[:4]}" in result.stdout


def test_a_python_that_only_pyenv_knows_is_found(with_uv):
    with_uv.put("python3", "#!/bin/sh\necho \"pyenv: version '3.11' is not installed\" >&2\nexit 1\n")
    with_uv.put("python", PYTHON, folder=with_uv.home / ".pyenv/versions/3.12.4/bin")
    result = with_uv.setup("--no-lesson", FAKE_VERSION="3.12.4")
    assert result.returncode == 0, result.stderr
    assert str(with_uv.home / ".pyenv/versions/3.12.4/bin/python") in result.stdout


def test_a_shim_is_seen_through(with_uv):
    # In a folder whose .python-version names a Python that pyenv lacks, its shims refuse to run.
    real = with_uv.put("python3", PYTHON, folder=with_uv.home / "elsewhere")
    (with_uv.clone / ".python-version").write_text("3.11\n")
    with_uv.put("python3", f'#!/bin/sh\n[ ! -e .python-version ] || exit 1\nexec "{real}" "$@"\n')
    result = with_uv.setup("--no-lesson", FAKE_VERSION="3.12.4")
    assert result.returncode == 0, result.stderr
    assert f"({real})" in result.stdout


@pytest.mark.parametrize("arguments", [["--python"], ["--python", ""]])
def test_a_wanted_python_must_be_named(with_uv, arguments):
    fails_in_one_line(with_uv.setup(*arguments), "--python needs a version (3.12) or a path", code=2)


def test_a_wanted_python_that_is_not_there_is_refused(with_uv):
    fails_in_one_line(with_uv.setup("--python", "3.7"), "--python 3.7", code=2)
    with_uv.put("python3.12", PYTHON)
    result = with_uv.setup("--no-lesson", "--python", "3.12", FAKE_VERSION="3.12.4")
    assert str(with_uv.path / "python3.12") in result.stdout


@pytest.mark.parametrize(
    ("platform", "macos", "words"),
    [
        ("Darwin-x86_64", "15.1", ["Intel", "arm64"]),
        ("Darwin-arm64", "13.6", ["macOS 14", "13.6"]),
        ("Windows-AMD64", "", ["Windows-AMD64", "WSL"]),
    ],
)
def test_a_machine_without_wheels_is_told_before_anything_is_fetched(with_uv, platform, macos, words):
    fails_in_one_line(with_uv.setup(FAKE_PLATFORM=platform, FAKE_MACOS=macos), *words)
    assert with_uv.calls == []


def test_apple_silicon_asks_for_less_room(with_uv):
    mac = {"FAKE_PLATFORM": "Darwin-arm64", "FAKE_MACOS": "14.0", "FAKE_FREE_KB": str(3 * 1024**2)}
    result = with_uv.setup("--no-lesson", **mac)
    assert result.returncode == 0, result.stderr
    assert "3 GB free, 2 GB needed" in result.stdout


# ---------------------------------------------------------------------------------------------------------
# uv


def test_without_uv_pip_puts_one_into_the_clone_and_uv_run_works_there(machine):
    result = machine.setup("--no-lesson", PIP_USER="1", PIP_REQUIRE_VIRTUALENV="1")
    assert result.returncode == 0, result.stderr
    pip = next(call for call in machine.calls if call.startswith("pip"))
    assert "--target" in pip  # leaves the machine's Python alone, so PEP 668 has nothing to forbid
    assert re.search(r"uv==\d+\.\d+\.\d+$", pip)
    assert (machine.clone / ".uv/tool/bin/uv").exists()
    assert os.access(machine.clone / ".venv/bin/uv", os.X_OK)
    again = machine.setup("--no-lesson")
    assert again.returncode == 0
    assert not machine.called("pip install")


def test_a_uv_that_pip_put_off_the_path_is_found(machine):
    (machine.path / "python3").rename(machine.path / "python3.11")
    result = machine.setup("--no-lesson", FAKE_UV_MODULE=machine.env["FAKE_UV"])
    assert result.returncode == 0, result.stderr
    assert machine.env["FAKE_UV"] in result.stdout
    assert not machine.called("pip")


def test_a_uv_in_the_home_folder_is_found(machine):
    uv = machine.put("uv", UV, folder=machine.home / ".local/bin")
    result = machine.setup("--no-lesson")
    assert result.returncode == 0, result.stderr
    assert str(uv) in result.stdout


@pytest.mark.parametrize("broken", [{"FAKE_UV_VERSION": "0.8.24"}, {"FAKE_UV_VERSION": "from a shim"}])
def test_a_uv_too_old_or_broken_is_passed_over(with_uv, broken):
    fresh = UV.replace("${FAKE_UV_VERSION:-0.13.8}", "0.13.8")
    with_uv.put("uv", fresh, folder=Path(with_uv.env["FAKE_UV"]).parent)
    result = with_uv.setup("--no-lesson", **broken)
    assert result.returncode == 0, result.stderr
    assert with_uv.called("pip")


def test_the_uv_in_an_activated_venv_outlives_the_venv(machine):
    machine.setup("--no-lesson")
    (machine.clone / ".uv/unfinished").touch()
    bin_folder = machine.clone / ".venv/bin"
    result = machine.setup(
        "--no-lesson", PATH=f"{bin_folder}:{machine.path}", VIRTUAL_ENV=str(bin_folder.parent)
    )
    assert result.returncode == 0, result.stderr
    assert machine.installed


# ---------------------------------------------------------------------------------------------------------
# What goes wrong


@pytest.mark.parametrize("message", [REFUSED, NO_DNS])
@pytest.mark.parametrize("stage", ["FAKE_LOCK", "FAKE_SYNC"])
def test_an_index_out_of_reach_is_one_line_and_costs_nothing(with_uv, stage, message):
    fails_in_one_line(with_uv.setup(**{stage: message}), "index is out of reach", "network", "again")
    result = with_uv.setup("--no-lesson")
    assert result.returncode == 0, result.stderr
    assert "cut off" not in result.stdout  # nothing was half made, so nothing is thrown away


def test_pip_without_an_index_is_one_line(machine):
    fails_in_one_line(machine.setup(FAKE_PIP=PIP_REFUSED), "index is out of reach", "installing uv")
    assert not (machine.clone / ".uv/tool").exists()


def test_a_proxy_that_signs_with_its_own_certificate_is_tried_again(with_uv):
    result = with_uv.setup("--no-lesson", FAKE_LOCK=UNKNOWN_ISSUER)
    assert result.returncode == 0, result.stderr
    assert "certificates" in result.stdout


def test_too_little_room_is_told_before_the_download(with_uv):
    result = with_uv.setup(FAKE_FREE_KB=str(6 * 1024**2))
    fails_in_one_line(result, "6 GB free", "7 GB are needed", "--no-disk-check")
    assert not with_uv.installed
    assert with_uv.setup("--no-lesson", "--no-disk-check", FAKE_FREE_KB="6").returncode == 0


@pytest.mark.parametrize("message", [FULL_UNPACKING, FULL_LINKING])
def test_a_disk_that_fills_up_is_one_line_and_the_next_run_starts_clean(with_uv, message):
    fails_in_one_line(with_uv.setup(FAKE_SYNC=message), "disk is full", "free some space", "again")
    (with_uv.clone / ".venv/half").touch()
    result = with_uv.setup("--no-lesson")
    assert result.returncode == 0, result.stderr
    assert "made again" in result.stdout
    assert not (with_uv.clone / ".venv/half").exists()


def test_any_other_failure_quotes_its_first_line(with_uv):
    result = with_uv.setup(FAKE_SYNC="Resolved\nerror: something new\n  cause: who knows")
    fails_in_one_line(result, "something new", ".uv/setup.log")


def test_a_lock_cut_short_is_made_again(with_uv):
    (with_uv.clone / "uv.lock").touch()
    assert with_uv.setup("--no-lesson").returncode == 0


def test_a_folder_that_cannot_be_written_is_one_line(with_uv):
    (with_uv.clone / ".uv").write_text("in the way")
    fails_in_one_line(with_uv.setup(), "cannot write", "folder of your own")


def test_ctrl_c_stops_uv_and_the_next_run_repairs(with_uv, tmp_path):
    pid_file = tmp_path / "uv-pid"
    process = subprocess.Popen(
        [with_uv.clone / "setup.sh"],
        env=with_uv.env | {"FAKE_SLOW": str(pid_file)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert time.monotonic() < deadline, "uv was never started"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error == "setup.sh: interrupted; run ./setup.sh again, and it goes on from here\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    result = with_uv.setup("--no-lesson")
    assert result.returncode == 0, result.stderr
    assert "made again" in result.stdout
    assert (with_uv.clone / ".venv/whole").exists()


# ---------------------------------------------------------------------------------------------------------
# --test and --renew


@pytest.mark.parametrize("verdict", [0, 1, 5])
def test_the_test_run_ends_with_pytests_verdict(with_uv, verdict):
    result = with_uv.setup("--test", FAKE_PYTEST=str(verdict))
    assert result.returncode == verdict, result.stderr
    assert result.stdout.splitlines()[-1] == "7 passed in 0.1s"
    assert not with_uv.called("A3_")
    assert "hash for hash" in result.stdout


def test_an_index_that_gives_other_files_than_requirements_is_told_and_fails_nothing(with_uv):
    listed = with_uv.clone / "requirements.txt"
    listed.write_text(listed.read_text().replace("certifi==", "certifi==1."))
    result = with_uv.setup("--test")
    assert result.returncode == 0
    assert not result.stderr
    assert "other files than requirements.txt names for certifi; ./setup.sh --renew" in result.stdout
    assert with_uv.called("pytest")
    assert with_uv.setup("--renew").returncode == 0
    assert listed.read_text() == requirements()
    assert "hash for hash" in with_uv.setup("--test").stdout


def test_a_renewal_without_index_leaves_requirements_alone(with_uv):
    fails_in_one_line(with_uv.setup("--renew", FAKE_LOCK=REFUSED), "index is out of reach")
    assert (with_uv.clone / "requirements.txt").read_text() == requirements()


# ---------------------------------------------------------------------------------------------------------
# The files themselves


def test_every_requirement_has_a_version_and_hashes_and_no_address():
    text = requirements()
    assert "://" not in text
    entries = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^ ]+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+$", entry), entry


def test_direct_dependencies_are_pinned_exactly_and_locked_at_that_version():
    table = pyproject()
    direct = table["project"]["dependencies"] + table["dependency-groups"]["dev"]
    optional = [pin for extra in table["project"]["optional-dependencies"].values() for pin in extra]
    for pin in direct + optional + table["build-system"]["requires"]:
        assert re.match(r"[\w.-]+(\[[\w,.-]+\])?==[\w.]+( ;.*)?$", pin), pin
    locked = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", requirements(), re.MULTILINE))
    for pin in direct:
        name, version = re.sub(r"\[.*?\]| ;.*", "", pin).split("==")
        assert locked[re.sub(r"[-_.]+", "-", name.lower())] == version


def test_the_lock_is_bounded_in_time_and_covers_the_three_platforms():
    settings = pyproject()["tool"]["uv"]
    assert re.match(r"\d{4}-\d\d-\d\dT", settings["exclude-newer"])
    required = " ".join(settings["required-environments"])
    for platform in ("darwin", "arm64", "x86_64", "aarch64"):
        assert platform in required
    script = (ROOT / A0).read_text()
    oldest = re.search(r"^uv_min_minor=(\d+)", script, re.MULTILINE)[1]
    assert settings["required-version"] == f">=0.{oldest}"
    assert int(re.search(r"^uv_pin=0\.(\d+)", script, re.MULTILINE)[1]) >= int(oldest)


def test_the_lock_stays_out_of_git():
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"uv.lock", ".venv", ".uv/", "runs/"} <= set(ignored)
    if (ROOT / ".git").exists():  # not in an unpacked archive
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "uv.lock" not in tracked.stdout.split()


def test_the_scripts_keep_to_what_macos_has():
    newer = r"mapfile|readarray|declare -A|\$\{\w+(,,|\^\^)|&>>|wait -n"  # bash 4 and later
    newer += r"|readlink -f|\btimeout \d|sed -i|df -B|grep -P"  # GNU
    for name in ("setup.sh", A0, ".ci/run"):
        code = re.sub(r"^ *#.*$", "", (ROOT / name).read_text(), flags=re.MULTILINE)
        assert not re.search(newer, code), name
        assert os.access(ROOT / name, os.X_OK)
        assert subprocess.run(["bash", "-n", ROOT / name], check=False).returncode == 0


def test_ci_and_the_workflow_run_the_readmes_commands():
    ci = (ROOT / ".ci/run").read_text()
    assert "\n./setup.sh --test\n" in ci
    assert 'chapters.course.rounding under "$setting"' in ci
    job = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["tests"]
    systems = {row["os"].split("-")[0] for row in job["strategy"]["matrix"]["include"]}
    assert systems == {"ubuntu", "macos"}
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[:2] == [".ci/run", "./setup.sh"]


def test_commit_hooks_are_local_and_need_no_network():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    for repo in config["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            assert hook["language"] == "system"
            assert hook["entry"].startswith(".venv/bin/")
