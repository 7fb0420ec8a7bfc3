"""A tracker that cannot start costs seconds and a line, never the run."""

import os
import socket
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from pathlib import Path
import wandb
from chapters.utils.tracking import make_trackers
start = time.monotonic()
print(make_trackers("wandb", Path(sys.argv[1]), "E3", {}), time.monotonic() - start < 8.0)
"""


@pytest.mark.parametrize("answers", ["nothing", "nobody"])
def test_wandb_online_without_a_network_is_given_up_in_seconds(answers, tmp_path):
    """Left alone, wandb tries for 90 s; a server takes the connection and is silent, or there is none."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers == "nothing":
            server.listen(50)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        env |= {"WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": address}
        program = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=80)
    assert done.stdout.splitlines()[-1] == "[] True", done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("--track wandb: ")]
    assert len(told) == 1
    assert told[0].endswith("; the run goes on without it")
    assert "Traceback" not in done.stderr
