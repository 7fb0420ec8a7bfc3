"""Ray started, driven, killed and ended. What needs Ray is skipped without the extra; clear lines are not."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from chapters import cluster
from chapters.C_policy_gradients import C8_scaling_with_ray as lesson
from chapters.C_policy_gradients.checks.C8 import EDITS
from chapters.cluster import guard
from chapters.course import ledger, remote
from chapters.course.catalog import ROOT, find
from chapters.utils.edits import edited
from chapters.utils.lesson import UsageError

needs_ray = pytest.mark.skipif(bool(cluster.missing()), reason=cluster.missing())


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)


def test_without_the_extra_one_line_says_how_to_get_it(no_ray, course):
    assert cluster.EXTRA == "uv sync --inexact --compile-bytecode --extra scale"
    says = f"error: --on ray: Ray is not installed: it is the extra `scale` ({cluster.EXTRA})\n"
    assert course.refused("sweep", "A4", "--on", "ray") == says
    assert course.refused("record", "A4", "--on", "ray") == says
    with (
        pytest.raises(UsageError, match="extra `scale`"),
        cluster.nodes(1),
    ):
        pass


def test_what_does_not_go_with_ray_is_refused(course, monkeypatch):
    monkeypatch.setattr(cluster, "missing", lambda: "")
    assert "--restamp runs here" in course.refused("record", "A4", "--restamp", "--on", "ray")
    assert "--address goes with --on ray" in course.refused("record", "A4", "--address", "auto")


@pytest.mark.parametrize("address", ["nonsense", ":1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "h:0"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match=r"not an address \(allowed: HOST:PORT, auto\)"):
        cluster._look(address)


def test_where_nobody_listens_is_told_at_once():
    with pytest.raises(UsageError, match=r"no cluster there \(Connection refused\)"):
        cluster._look("127.0.0.1:1")
    cluster._look("auto")


def test_a_run_finds_the_same_around_it_wherever_it_is_made(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    found = remote.environment()
    assert not [name for name in found if name.startswith("RAY_")]
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "1"


def test_a_task_returns_the_run_or_why_it_broke(monkeypatch, tmp_path):
    def run_process(item, flags, out, env):
        if "--bad" in flags:
            raise remote.ledger.RecordError("it broke:\nbadly")
        folder = out / "A4" / "20260101-000000-seed0"
        folder.mkdir(parents=True)
        (folder / "run.json").write_bytes(b"{}")
        return {"seconds": 1.0}

    monkeypatch.setattr(remote.ledger, "run_process", run_process)
    ended = remote.run_one("A4", ["--seed", "0"])
    assert (ended.files, ended.used, ended.broke) == ({"run.json": b"{}"}, {"seconds": 1.0}, "")
    assert (ended.unpack(tmp_path / "new") / "run.json").read_bytes() == b"{}"
    assert remote.run_one("A4", ["--bad"]) == remote.Ended({}, {}, "it broke:\nbadly")


# ---------------------------------------------------------------------------------------------------------
# The guard

DRIVER = """
import os, subprocess, sys, time

folder = sys.argv[1]
guard = subprocess.Popen([sys.executable, "-m", "chapters.cluster.guard", str(os.getpid()), folder],
                         stdin=subprocess.PIPE, start_new_session=True)
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], env={})"
parent = f"import subprocess, sys, time; {child}; time.sleep(60)"
other = subprocess.Popen(sleep, start_new_session=True)
node = subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, "RAY_TMPDIR": folder})
print(guard.pid, other.pid, node.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def spaced(monkeypatch, tmp_path):
    """As in a checkout whose folder has a space in its name."""
    environment = tmp_path / "my course" / ".venv"
    environment.parent.mkdir()
    environment.symlink_to(sys.prefix)
    python = str(environment / Path(sys.executable).relative_to(sys.prefix))
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(sys, "prefix", str(environment))
    return python


def test_a_shell_finds_the_interpreter_also_where_its_folder_has_a_space(spaced, tmp_path):
    with cluster._plain_interpreter(tmp_path):
        said = subprocess.check_output(
            ["sh", "-c", f"exec {sys.executable} -c 'import torch, sys; print(sys.flags.safe_path)'"]
        )
        assert said == b"False\n"
        assert sys.executable != spaced
    assert sys.executable == spaced


def test_a_process_keeps_its_token_where_its_variables_are_put_back(monkeypatch):
    """Ray would go on with the first one, and its own nodes would not let it in."""
    monkeypatch.setattr(cluster, "missing", lambda: "")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    tokens = []
    for _ in range(2):
        monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
        cluster.load()
        tokens.append(os.environ["RAY_AUTH_TOKEN"])
    assert len(tokens[0]) == 64
    assert tokens[0] == tokens[1]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of somebody's cluster")
    cluster.load()
    assert os.environ["RAY_AUTH_TOKEN"] == "of somebody's cluster"


def test_the_guard_ends_what_a_killed_driver_leaves_and_nothing_else(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    command = [sys.executable, "-c", DRIVER, str(folder)]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    watcher, other, node = (psutil.Process(int(pid)) for pid in driver.stdout.readline().split())
    while not (below := node.children()):
        time.sleep(0.05)
    time.sleep(2 * guard.SECONDS_BETWEEN_LOOKS + 0.3)  # seen by the guard, also on a machine with much to do
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    try:
        _, alive = psutil.wait_procs([node, *below, watcher], timeout=20)
        assert not alive
        assert other.is_running()
        assert not folder.exists()
    finally:
        other.kill()


# ---------------------------------------------------------------------------------------------------------
# With Ray


@pytest.fixture(scope="module")
def two_nodes():
    """One cluster for the tests below, which can run an edited lesson too."""
    wrong = edited(lesson, EDITS["chance_by_process"])
    before = signal.getsignal(signal.SIGTERM)
    with cluster.nodes(1, 1) as found:
        import ray

        assert signal.getsignal(signal.SIGTERM) is before, "Ray's own handler would end the process unheard"
        yield ray, found, wrong


@needs_ray
def test_workers_start_also_where_the_folder_has_a_space(spaced):
    with cluster.nodes(1):
        import ray

        address = ray.get_runtime_context().gcs_address
        ray.shutdown()
        with cluster.joined(address):
            assert ray.get(ray.remote(num_cpus=1)(lambda: 6 * 7).remote(), timeout=60) == 42


@needs_ray
def test_it_listens_on_loopback_only_and_demands_its_token(two_nodes):
    ray, *_ = two_nodes
    address = ray.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:")
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    heard = [
        one.laddr.ip for process in family for one in process.net_connections("tcp") if one.status == "LISTEN"
    ]
    assert heard
    assert {ip.removeprefix("::ffff:") for ip in heard} == {"127.0.0.1"}
    code = "from chapters.course.cli import main; main()"
    command = [sys.executable, "-c", code, "sweep", "A4", "--smoke", "--on", "ray", "--address", address]
    for token in ("wrong", ""):
        env = {**os.environ, "RAY_AUTH_TOKEN": token, "HOME": os.environ["RAY_TMPDIR"]}
        refused = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert refused.returncode == 2, refused.stderr
        assert "no cluster there that lets us in" in refused.stderr.splitlines()[-1]


@needs_ray
def test_workers_are_as_urgent_as_who_started_them(two_nodes):
    """Ray would have them wait for all else on the machine, and C8 measures them beside plain processes."""
    ray, *_ = two_nodes
    assert ray.get(ray.remote(num_cpus=1)(lambda: os.nice(0)).remote()) == os.nice(0)


@needs_ray
def test_a_sweep_on_a_cluster_gives_the_same_bytes_as_one_here(two_nodes, tmp_path):
    ray, *_ = two_nodes
    address = ray.get_runtime_context().gcs_address
    flags = ["sweep", "A4", "--smoke", "--seeds", "0:2", "--set", "num_steps=100,200"]
    rl = [sys.executable, "-c", "from chapters.course.cli import main; main()", *flags]
    for where in (["--jobs", "1"], ["--jobs", "2"], ["--on", "ray", "--address", address]):
        subprocess.run([*rl, *where, "--out", str(tmp_path / where[-1][:3])], cwd=ROOT, check=True)
    found = [path.read_bytes() for path in tmp_path.glob("*/A4/*/sweep.json")]
    assert len(found) == 3
    assert len(set(found)) == 1


@needs_ray
def test_an_edited_lesson_runs_on_workers_as_it_is_edited(two_nodes):
    """Noise that depends on the process: not what this process computes, and not the same on two nodes."""
    *_, wrong = two_nodes
    for module, differ in ((lesson, 0), (wrong, 2)):
        cfg = module.Config(num_iterations=2, num_members=8, num_eval_episodes=3)
        jobs = [module.Job(cfg, 0.1, seed) for seed in (0, 1)]
        here = {job: module.run(job) for job in jobs}
        assert module.num_different(module.sweep_on_ray(jobs), here) == differ


@needs_ray
def test_a_run_that_breaks_on_a_cluster_says_why(two_nodes, monkeypatch):
    monkeypatch.setattr(remote.cluster, "nodes", lambda *cpus: contextlib.nullcontext())
    ((key, ended),) = remote.each(find("A4"), {7: ["--seed", "7", "--gamma", "2"]}, remote.Place("ray"))
    assert (key, ended.files) == (7, {})
    assert "--gamma 2 is out of range" in ended.broke


@needs_ray
def test_what_a_recording_needs_comes_back_from_a_cluster(two_nodes, monkeypatch, tmp_path):
    monkeypatch.setattr(remote.cluster, "nodes", lambda *cpus: contextlib.nullcontext())
    item = find("A4")
    monkeypatch.setattr(
        ledger, "read_back", lambda folder, used: {"seed": 0, "files": sorted(os.listdir(folder))}
    )
    ((seed, run),) = remote.each_seed(item, [0], remote.Place("ray"), tmp_path)
    assert seed == run["seed"] == 0
    assert {"claims.json", "run.json", "metrics.jsonl", "A4.png"} <= set(run["files"])


@needs_ray
def test_a_node_that_is_killed_loses_no_task(two_nodes, tmp_path):
    """The last of these tests: it leaves one node."""
    ray, found, _ = two_nodes

    @ray.remote(num_cpus=1, max_retries=5)
    def task(number):
        (tmp_path / f"{number}-{os.getpid()}").touch()
        time.sleep(0.5)
        return number, ray.get_runtime_context().get_node_id()

    tasks = [task.remote(number) for number in range(8)]
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.05)
    found[1].kill()
    done = ray.get(tasks)
    assert [number for number, _ in done] == list(range(8))
    assert len({node for _, node in done[2:]}) == 1
    assert len(list(tmp_path.iterdir())) in (8, 9), "at most the task that ran there was begun twice"
