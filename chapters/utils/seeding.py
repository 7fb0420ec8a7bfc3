"""One seed for everything random."""

from __future__ import annotations

import random
import sys


def seed_everything(seed: int, torch_threads: int = 1) -> None:
    """Seed Python, numpy and, if it is loaded, torch; and fix torch's thread count.

    The thread count belongs here because it decides the order of floating-point sums, and with it the last
    digits of every result. One thread is also the fastest choice for networks of 64 units a layer.
    Environments are seeded by their own `reset(seed=...)`.
    """
    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 — libraries that we call still draw from the global state
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
        torch.set_num_threads(torch_threads)
