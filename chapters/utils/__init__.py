"""What lessons share and never teach: seeds, the run log, statistics, plots, the command line.

Importing this package costs next to nothing: each helper loads torch, gymnasium or matplotlib only when
it is called.
"""

import os

# One thread for JAX, as for torch; read when JAX starts its first computation. With jax 0.10.2 on two cores a
# large program now and then waits for ever: all threads of XLA's pool sleep while work is left.
os.environ.setdefault("PJRT_NPROC", "1")

from chapters.utils import plotting
from chapters.utils.claims import Claim
from chapters.utils.evaluation import bootstrap_interval
from chapters.utils.files import write_atomic
from chapters.utils.lesson import UsageError, in_range, run_lesson
from chapters.utils.runlog import RunLog
from chapters.utils.seeding import seed_everything
from chapters.utils.timing import CpuClock

__all__ = [
    "Claim",
    "CpuClock",
    "RunLog",
    "UsageError",
    "bootstrap_interval",
    "in_range",
    "plotting",
    "run_lesson",
    "seed_everything",
    "write_atomic",
]
