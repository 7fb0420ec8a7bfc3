"""What tests of whole learners watch: each step of the optimiser, and which seeds what was played with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType

import numpy as np
import pytest
import torch

from chapters.utils import RunLog
from chapters.utils.optim import Adam

DEMANDING = ("BothMatter", "DelayedReward", "Endless")
"""Probes that ask most: to act on what is seen, to look ahead, to tell a time limit from an end."""


def each_probe(names: Iterable[str]) -> pytest.MarkDecorator:
    """Run a test for each probe, as `probe`; those that ask less of a learner are among the slow tests."""
    slow = pytest.mark.slow
    cases = [pytest.param(name, marks=() if name in DEMANDING else slow) for name in names]
    return pytest.mark.parametrize("probe", cases)


def watch_adam(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[tuple[float, float]]:
    """(step size, norm of the gradient that is stepped along) of each step that `module`'s Adam takes.

    Between two steps the gradients must have been forgotten, else the step fails.
    """
    steps: list[tuple[float, float]] = []

    class Watched(Adam):
        def zero_grad(self) -> None:
            super().zero_grad()
            self.is_empty = True

        def step(self) -> None:
            assert self.is_empty, "the last step's gradients were not forgotten"
            self.is_empty = False
            gradients = [part.grad.flatten() for part in self.parameters if part.grad is not None]
            steps.append((self.lr, float(torch.cat(gradients).norm())))
            super().step()

    monkeypatch.setattr(module, "Adam", Watched)
    return steps


def watch_seeds(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, scores: list[float] | None = None
) -> tuple[list, list]:
    """(seeds of resets that name one, (seed, policy) of each evaluation): nothing is played in evaluations.

    scores: what evaluations return, one after the other; 0 from there on.
    """
    resets: list[int] = []
    evaluated: list[tuple] = []
    left = list(scores or [])
    original = module.make_envs

    def make_envs(*arguments, **keywords):
        envs = original(*arguments, **keywords)
        reset = envs.reset

        def watched(*, seed=None, **more):
            resets.extend([] if seed is None else [seed])
            return reset(seed=seed, **more)

        envs.reset = watched
        return envs

    def evaluate(policy, *_, seed, **__):
        evaluated.append((seed, policy))
        return np.full(3, left.pop(0) if left else 0.0)

    monkeypatch.setattr(module, "make_envs", make_envs)
    monkeypatch.setattr(module, "evaluate", evaluate)
    return resets, evaluated


def weights(network: torch.nn.Module) -> torch.Tensor:
    """All parameters of a network, copied into one row."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


def assert_seeds_apart(monkeypatch: pytest.MonkeyPatch, lesson: ModuleType, log: RunLog) -> None:
    """A lesson's `main` trains, selects its best weights and reports on three seeds of their own."""
    resets, evaluated = watch_seeds(monkeypatch, lesson)
    lesson.main(lesson.Config(seed=3, **lesson.SMOKE), log)
    log.close()
    seeds = [seed for seed, _ in evaluated]
    assert resets == [3]
    assert set(seeds[:-1]) == {10_003}
    assert seeds[-1] == 20_003


def race(name: str, returns: Sequence[float], seconds: Sequence[float]) -> dict[str, list[tuple[int, float]]]:
    """A learner's checks as the run log keeps them: its returns and CPU seconds at every 100th step."""
    steps = range(100, 100 * len(returns) + 1, 100)
    return {
        f"{name}_return": list(zip(steps, returns, strict=True)),
        f"{name}_cpu_seconds": list(zip(steps, seconds, strict=True)),
    }
