"""Ray, the engine of the extra `scale`: started on loopback behind a token, ended so that nothing is left.

C8 and its evidence start nodes on this machine; `rl sweep --on ray` does too, or joins a cluster that is
there. Importing this package imports no Ray.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from chapters.utils.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
EXTRA = "uv sync --inexact --compile-bytecode --extra scale"
"""With bytecode: a node ends if its agents take over 15 s to start, as they may while Python compiles Ray."""
STORE_BYTES = 200_000_000
"""Shared memory of a node's object store."""
LEFT_BEHIND = [".git", ".venv", ".uv", ".cache", "runs", "practice", "*.png", "*.gif"]
"""What is not sent to the machines of a cluster that was there before."""
SURROUNDINGS = {
    "RAY_AUTH_MODE": "token",  # whoever cannot show the token gets no answer
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback, and not the machine's address
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent home
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # 15 by itself: anything else on the machine would go first
}


def missing() -> str:
    """Why no cluster can be started here; "" if one can."""
    if importlib.util.find_spec("ray") is None:
        return f"Ray is not installed: it is the extra `scale` ({EXTRA})"
    return ""


def load(own: bool = True) -> ModuleType:
    """The module `ray`. Raises UsageError, in one line, where the extra is not installed.

    own: for clusters of this process, which then makes their token. Ray reads it once, so it is made once.
    """
    if why := missing():
        raise UsageError(why)
    os.environ.update({name: os.environ.get(name, value) for name, value in SURROUNDINGS.items()})
    if own:
        os.environ.setdefault("RAY_AUTH_TOKEN", _token())
    import ray

    return ray


@functools.cache
def _token() -> str:
    """Of this process: Ray keeps the first one that it reads, also where its variables are put back."""
    return secrets.token_hex(32)


class Node:
    """One of several nodes on this machine: a raylet, its agents, its workers."""

    def __init__(self, processes: set) -> None:
        self.processes = processes

    def kill(self) -> None:
        """As if its plug were pulled: every process of it ends at once, and says goodbye to nobody."""
        import psutil

        for process in [*self.processes, *_below(self.processes)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _below(processes: set) -> set:
    """All that some processes have started."""
    import psutil

    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(process.children(recursive=True))
    return found


@contextlib.contextmanager
def nodes(*num_cpus: int) -> Iterator[list[Node]]:
    """A cluster on this machine with a node for each number of CPUs; this process drives it.

    Raises UsageError if Ray is missing or does not start, as on a machine with too much else to do.
    """
    import psutil

    ray = load()
    from ray.cluster_utils import Cluster

    me = psutil.Process()
    with _watched(), contextlib.ExitStack() as stack:
        found = []
        try:
            with _same_signals():
                cluster = Cluster()
                stack.callback(cluster.shutdown)
                for cpus in num_cpus:
                    before = _below({me})
                    head = {} if found else {"include_dashboard": False}
                    cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES, **head)
                    found.append(Node(_below({me}) - before))
                stack.callback(ray.shutdown)
                _drive(ray, cluster.address)
        except Exception as error:
            told = (str(error) or type(error).__name__).splitlines()[0][:150]
            raise UsageError(
                f"Ray did not start, it needs a machine with little else to do: {told}"
            ) from None
        yield found


def _drive(ray: ModuleType, address: str, **options: Any) -> None:
    """Connect. Functions of an edited lesson are sent whole."""
    for name, module in list(sys.modules.items()):
        if name.endswith("__edited"):  # an edited lesson is no file that a worker could import
            ray.cloudpickle.register_pickle_by_value(module)
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)


@contextlib.contextmanager
def _same_signals() -> Iterator[None]:
    """What a signal does stays as it was, where Ray would change it."""
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for name, handler in before.items():
                signal.signal(name, handler)


@contextlib.contextmanager
def joined(address: str) -> Iterator[None]:
    """This process drives the cluster at `address`, HOST:PORT or auto, whose machines get the course's code.

    Raises UsageError if there is no cluster that lets it in.
    """
    _look(address)
    ray = load(own=False)
    try:
        with _same_signals():
            _drive(ray, address, runtime_env={"working_dir": str(ROOT), "excludes": LEFT_BEHIND})
    except Exception as error:
        told = (str(error) or type(error).__name__).splitlines()[0][:150]
        raise UsageError(f"--address {address}: no cluster there that lets us in ({told})") from None
    try:
        yield
    finally:
        ray.shutdown()


def _look(address: str) -> None:
    """Refuse an address at which nobody listens: Ray would try it again for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--address {address}: not an address (allowed: HOST:PORT, auto)")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        told = error.strerror or error
        raise UsageError(
            f"--address {address}: no cluster there ({told}); ray start --head makes one"
        ) from None


@contextlib.contextmanager
def _plain_interpreter(folder: Path) -> Iterator[None]:
    """A name for this Python that a shell takes as it stands: a link to its environment, in `folder`.

    Ray hands the name to a shell without quotes. With a space in it no worker starts, nobody says so, and
    what waits for the worker waits for ever.
    """
    before = sys.executable
    if shlex.quote(before) != before:
        environment = folder / "environment"
        environment.symlink_to(sys.prefix)
        sys.executable = str(environment / Path(before).relative_to(sys.prefix))
    try:
        yield
    finally:
        sys.executable = before


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """A temporary folder of this cluster's own, and a guard that clears up even after a kill."""
    # not in TMPDIR, which on a Mac is too long for the name of a socket
    folder = tempfile.mkdtemp(prefix="rl-ray-", dir="/tmp")
    own = {
        "RAY_TMPDIR": folder,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    command = [sys.executable, "-m", "chapters.cluster.guard", str(os.getpid()), folder]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, start_new_session=True)
    try:
        with _plain_interpreter(Path(folder)):
            yield
    finally:
        guard.stdin.close()  # what it waits for; the system closes it too when this process is killed
        guard.wait()
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
