"""`rl doctor`: is this machine ready, and what to do about what is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chapters.course.catalog import ROOT

# A set-up only adds what is missing; it cannot see a package that is half there.
REINSTALL = "delete the folder .venv and run ./setup.sh"


@dataclass(frozen=True)
class Finding:
    """One line of the report; `advice` says what to do when `ok` is false."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def examine(root: Path = ROOT) -> list[Finding]:
    """Every finding, in the order of the report. Checks that break become findings themselves."""
    checks: list[Callable[[], Finding]] = [
        check_python,
        lambda: check_packages(root),
        check_torch,
        check_jax,
        lambda: check_runs_folder(root),
        self_test,
    ]
    findings = []
    for check in checks:
        try:
            findings.append(check())
        except Exception as error:
            name = getattr(check, "__name__", "check").removeprefix("check_")
            findings.append(Finding(name, False, f"{type(error).__name__}: {error}", REINSTALL))
    return findings


def check_python() -> Finding:
    version = platform.python_version()
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    where = f"{version} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Finding("Python", ok, where, "use Python 3.11, 3.12 or 3.13: delete .venv and run ./setup.sh")


def pins(root: Path) -> dict[str, str]:
    """Direct dependencies of this machine's platform and their pinned versions, from pyproject.toml."""
    from packaging.requirements import Requirement

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = map(Requirement, project["dependencies"])
    return {
        need.name: str(need.specifier).removeprefix("==")
        for need in wanted
        if need.marker is None or need.marker.evaluate()
    }


def check_packages(root: Path) -> Finding:
    wrong = []
    for name, pinned in pins(root).items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        # torch's CPU build calls itself 2.15.0+cpu
        if re.split(r"\+", found)[0] != pinned:
            wrong.append(f"{name} {found} instead of {pinned}")
    found = "; ".join(wrong) or f"{len(pins(root))} packages at their pinned versions"
    return Finding("packages", not wrong, found, REINSTALL)


def check_torch() -> Finding:
    import torch

    devices = ["cpu"]
    if torch.backends.mps.is_available():
        devices.append("mps (there for your own work; the lessons use the CPU, faster for small networks)")
    if torch.cuda.is_available():
        devices.append("cuda (there for your own work; the lessons use the CPU)")
    product = float(torch.ones(2, 2) @ torch.ones(2) @ torch.ones(2))
    return Finding("PyTorch", product == 4.0, f"{torch.__version__}: {', '.join(devices)}", REINSTALL)


def check_jax() -> Finding:
    import jax

    backend = jax.default_backend()
    ok = float(jax.jit(lambda x: x * 2)(1.0)) == 2.0
    advice = "unset JAX_PLATFORMS and uninstall jax-metal: the course runs JAX on the CPU"
    return Finding("JAX", ok, f"{jax.__version__} on {backend}", advice)


def check_runs_folder(root: Path) -> Finding:
    runs = root / "runs"
    advice = "free some disk space, or make the folder writable, or pass --out to the lessons"
    try:
        runs.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=runs):
            pass
    except OSError as error:
        return Finding("runs folder", False, f"{runs}: {error.strerror}", advice)
    free = shutil.disk_usage(runs).free / 1e9
    return Finding("runs folder", free > 1, f"writable, {free:.0f} GB free", advice)


def self_test(seconds: float = 5.0) -> Finding:
    """Fit the constant-reward probe with a small network: environment, gradients and optimiser together."""
    import torch

    from chapters.envs import make_envs
    from chapters.utils import seed_everything

    seed_everything(0)
    envs = make_envs("ProbeRewardByObservation-v0", 32)
    obs, _ = envs.reset(seed=0)
    network = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    start, steps, loss = time.monotonic(), 0, torch.tensor(1.0)
    while loss.item() > 1e-3 and time.monotonic() - start < seconds:
        next_obs, rewards, _, _, _ = envs.step(torch.zeros(32, dtype=torch.int64).numpy())
        values = network(torch.as_tensor(obs)).squeeze(-1)  # [32]
        loss = (values - torch.as_tensor(rewards, dtype=torch.float32)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        obs, steps = next_obs, steps + 1
    took = time.monotonic() - start
    found = f"a value network learned the probe environment in {steps} steps, {took:.1f} s"
    if loss.item() > 1e-3:
        found = (
            f"a value network did not learn the probe environment in {took:.0f} s (loss {loss.item():.3g})"
        )
    return Finding("self-test", loss.item() <= 1e-3, found, f"is the machine very busy? else {REINSTALL}")
