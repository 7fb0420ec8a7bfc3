"""Ends the processes of a cluster when whoever started it has ended, however that was.

    python -m chapters.cluster.guard PARENT FOLDER        # its input is a pipe that PARENT holds open

A driver that is killed leaves Ray's agents behind, for a minute or for good. This process notes what the
parent has started with RAY_TMPDIR=FOLDER, and what those have started. When the pipe closes it ends them.
"""

from __future__ import annotations

import select
import shutil
import signal
import sys

import psutil

SECONDS_BETWEEN_LOOKS = 0.5
PATIENCE = 5.0


def of_cluster(
    processes: list[psutil.Process], folder: str, known: set[psutil.Process]
) -> set[psutil.Process]:
    """Those of `processes` that were started for the cluster in `folder`, or by such a process."""
    found = set(known)
    for process in processes:  # a parent stands before what it has started
        try:
            if process.ppid() in {one.pid for one in found} or process.environ().get("RAY_TMPDIR") == folder:
                found.add(process)
        except psutil.Error:
            continue
    return found


def main() -> None:
    parent, folder = int(sys.argv[1]), sys.argv[2]
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # it ends last
    known: set[psutil.Process] = set()
    closed = False
    while not closed:
        closed = bool(select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)[0])
        try:
            started = psutil.Process(parent).children(recursive=True)
        except psutil.Error:
            started = [child for one in known if one.is_running() for child in one.children(recursive=True)]
        known = of_cluster([one for one in started if one.pid != psutil.Process().pid], folder, known)
    left = [one for one in known if one.is_running()]  # the same process, and not another of its number
    for one in left:
        one.terminate()
    for one in psutil.wait_procs(left, PATIENCE)[1]:
        one.kill()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
