"""What an exercise of a lesson is. `checks/<ID>_exercises.py` has a lesson's own, in a table `EXERCISES`.

Three kinds: to write functions of the lesson, which its checks grade; to write a function that goes beyond
the lesson, with a solution and a check of its own; and to answer a question, with the answer folded away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from chapters.utils.edits import Edit


@dataclass(frozen=True)
class Exercise:
    """One exercise. Its key in `EXERCISES` is the name of the function to write, or a short name."""

    title: str
    """A few words: "A clip for the critic"."""
    task: str
    """What to do, in markdown; an equation has a number of its own, such as (E1)."""
    minutes: int
    """What it takes someone who has just read the lesson."""
    difficulty: Literal["easy", "medium", "hard"]
    functions: tuple[str, ...] = ()
    """Functions of the lesson to write, if that is the exercise."""
    solution: Callable | None = None
    """The right function, if it goes beyond the lesson; its signature and docstring are the stub."""
    check: Callable[[Callable], None] | None = None
    """Raises AssertionError unless a function does what the task says."""
    edits: dict[str, Edit] = field(default_factory=dict)
    """Named mistakes: edits of the solution's own source, each of which the check must reject."""
    hints: tuple[str, ...] = ()
    """For a function beyond the lesson: the idea, the limiting case, the first line."""
    answer: str = ""
    """For a question: the answer, in markdown. Else, if there is something to say, why the solution is so."""
