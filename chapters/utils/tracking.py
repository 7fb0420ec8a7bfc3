"""Mirrors of the run log in TensorBoard and Weights & Biases."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TRACKERS = ("none", "tensorboard", "wandb")


class TensorBoard:
    """Scalars as TensorBoard event files in `folder/tensorboard`."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary import Writer

        self.writer = Writer(str(folder / "tensorboard"))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step=step)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A W&B run; offline unless WANDB_MODE says otherwise. Online, the first answer must come within 3 s."""

    def __init__(self, folder: Path, lesson: str, config: dict) -> None:
        # To tell its makers how it goes, wandb waits for a silent server at the program's end: ten seconds.
        quiet = {"MODE": "offline", "SILENT": "true", "INIT_TIMEOUT": "3", "ERROR_REPORTING": "false"}
        for name, usual in quiet.items():
            os.environ.setdefault(f"WANDB_{name}", usual)
        import wandb

        names = {"project": "rl-curriculum", "group": lesson, "name": folder.name}
        self.run = wandb.init(**names, dir=str(folder), config=config)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self.run.log({**metrics, "step": step})

    def close(self) -> None:
        self.run.finish()


def make_trackers(kind: str, folder: Path, lesson: str, config: dict) -> list:
    """The tracker called `kind`, in a list; an empty one, with a word why, if it cannot start."""
    try:
        if kind == "tensorboard":
            return [TensorBoard(folder)]
        if kind == "wandb":
            return [WandB(folder, lesson, config)]
    except ImportError as error:
        print(f"--track {kind}: {error.name} is not installed; the run goes on without it", file=sys.stderr)
    except Exception as error:  # wandb raises many kinds; none may stop a lesson
        why = " ".join(str(error).split())[:150]
        print(f"--track {kind}: {why}; the run goes on without it", file=sys.stderr)
    return []
