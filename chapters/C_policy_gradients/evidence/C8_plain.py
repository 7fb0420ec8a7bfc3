"""What a plain process of C8's evidence does: a job of the lesson, told and answered in plain numbers."""

from __future__ import annotations

import os

from chapters.C_policy_gradients import C8_scaling_with_ray as lesson


def run(settings: dict, sigma: float, seed: int) -> tuple:
    """The fields of `lesson.Done`."""
    return tuple(lesson.run(lesson.Job(lesson.Config(**settings), sigma, seed), str(os.getpid())))
