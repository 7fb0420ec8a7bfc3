"""A tracker that cannot start costs seconds and a line, never the run."""

import os
import socket
import subprocess
import sys

PROGRAM = """
import sys, time
from pathlib import Path
import wandb
from chapters.utils.tracking import make_trackers
start = time.monotonic()
print(make_trackers("wandb", Path(sys.argv[1]), "E3", {}), time.monotonic() - start < 8.0)
"""


def test_wandb_online_without_a_network_is_given_up_in_seconds(tmp_path):
    """Left alone, wandb tries for 90 s; a server takes the connection and is silent, or there is none.

    Both are waited for at the same time.
    """
    with socket.socket() as silent, socket.socket() as nobody:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        nobody.bind(("127.0.0.1", 0))
        programs = [started(server, tmp_path / name) for name, server in (("a", silent), ("b", nobody))]
        for program in programs:
            out, err = program.communicate(timeout=80)
            assert out.splitlines()[-1] == "[] True", err
            told = [line for line in err.splitlines() if line.startswith("--track wandb: ")]
            assert len(told) == 1
            assert told[0].endswith("; the run goes on without it")
            assert "Traceback" not in err


def started(server: socket.socket, folder) -> subprocess.Popen:
    folder.mkdir()
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env |= {"WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": address}
    program = [sys.executable, "-c", PROGRAM, str(folder)]
    return subprocess.Popen(program, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
