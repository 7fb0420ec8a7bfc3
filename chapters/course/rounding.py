"""Which numbers of a smoke run rounding alone can move, found by making it round differently.

Processors add the same numbers in different orders, so the last digit of a sum differs from machine to
machine. Learning can amplify that digit until a whole episode comes out differently. A fingerprint that
compared such a number would show red to a learner whose code is right. So a smoke run is recorded under
several settings of the numerical libraries, and with the weights of each network moved by about one unit in
the last place when learning begins. Numbers that agree under all of them are compared strictly on every
machine; the others are not compared at all, only their names are.
"""

from __future__ import annotations

import math
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

SETTINGS: dict[str, dict[str, str]] = {
    "plain": {
        "ATEN_CPU_CAPABILITY": "default",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
        "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4",
        "MKL_CBWR": "COMPATIBLE",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    },
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "OPENBLAS_CORETYPE": "SkylakeX",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX512",
    },
}
"""Kernel settings of torch, OpenBLAS, NumPy, MKL and XLA."""
NEEDS = {"avx512": "avx512f"}
"""What a processor must have for a setting: told to use it, torch does, and dies where it is not."""
NOISE = {"noise-1": 1, "noise-2": 2}
"""Settings under which initial weights are moved instead: name -> seed of the noise."""
AMPLITUDE = 5e-7
"""Relative size of that noise: a few units in the last place of a 32-bit number."""
SAME = {"rel_tol": 1e-4, "abs_tol": 1e-6}
"""Numbers this close under every setting are stable: ten times closer than two machines are asked to be."""


def can(setting: str) -> bool:
    """Whether a setting can be used here; where no processor of this family is listed, it is ignored."""
    try:
        has = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return True
    return "avx2" not in has or NEEDS.get(setting, "avx2") in has


def environment(setting: str) -> dict[str, str]:
    """Environment variables of a setting ("" is the machine as it is)."""
    return {**os.environ, **SETTINGS.get(setting, {})}


def command(setting: str, lesson: Path, arguments: list[str]) -> list[str]:
    """The command line that runs a lesson under a setting, and ends it when this process is gone."""
    how = f"{os.getpid()}:{NOISE.get(setting, '')}"
    return [sys.executable, "-m", "chapters.course.rounding", "child", how, str(lesson), *arguments]


def stable(recorded: object, others: list) -> object:
    """`recorded` without the numbers that differ from those of another run.

    All are nested dictionaries of numbers, strings and None, as a fingerprint is. Raises ValueError if a name
    is missing in one of them: rounding moves numbers, it makes none.
    """
    if isinstance(recorded, dict):
        for other in others:
            if other.keys() != recorded.keys():
                raise ValueError(f"{sorted(other.keys() ^ recorded.keys())} on one side only")
        kept = {name: stable(value, [other[name] for other in others]) for name, value in recorded.items()}
        return {name: value for name, value in kept.items() if value is not UNSTABLE}
    return recorded if all(_same(recorded, other) for other in others) else UNSTABLE


UNSTABLE = object()


def _same(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, **SAME)
    return a == b


def add_noise(seed: int) -> None:
    """From now on every optimiser moves the weights it is given by about one unit in the last place."""
    import torch

    from chapters.utils.optim import Adam

    generator = torch.Generator().manual_seed(seed)

    def moved(parameters: list) -> list:
        for parameter in parameters:
            weights = parameter if torch.is_tensor(parameter) else None
            for tensor in [weights] if weights is not None else parameter["params"]:
                noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1
                tensor.data.mul_((1 + AMPLITUDE * noise).to(tensor.dtype))
        return parameters

    for optimizer in (Adam, torch.optim.Optimizer):
        original = optimizer.__init__

        def noisy(self, parameters, *args, original=original, **kwargs):
            groups = [
                {**group, "params": list(group["params"])} if isinstance(group, dict) else group
                for group in parameters
            ]
            original(self, moved(groups), *args, **kwargs)

        optimizer.__init__ = noisy


def end_with(parent: int) -> None:
    """Ask this process to end as soon as its parent has, even by a kill that no handler sees."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """`python -m chapters.course.rounding child PARENT:[SEED] LESSON [FLAGS]`: run a lesson, with a seed with
    noise in its weights, as long as the process PARENT is there.

    `python -m chapters.course.rounding under SETTING COMMAND ...`: run anything under a setting.
    """
    what, which, *rest = sys.argv[1:]
    if what == "under":
        if which not in SETTINGS:
            sys.exit(f"no setting {which!r} (there are: {', '.join(SETTINGS)})")
        if not can(which):
            print(f"{which}: this processor cannot; nothing was run under it", file=sys.stderr)
            return
        os.execvpe(rest[0], rest, environment(which))
    parent, _, seed = which.partition(":")
    threading.Thread(target=end_with, args=[int(parent)], daemon=True).start()
    if seed:
        add_noise(int(seed))
    sys.argv = rest
    runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    main()
