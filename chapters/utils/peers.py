"""Other libraries as yardsticks, without what they say of themselves."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

_heard: list[tuple[TextIO, TextIO]] = []
"""Where stdout and stderr went before each silence that has not ended."""


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """TRL, datasets and transformers print bars, tables and deprecations of their own; not inside this."""
    nowhere = io.StringIO()
    _heard.append((sys.stdout, sys.stderr))
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        _heard.pop()


@contextlib.contextmanager
def aloud() -> Iterator[None]:
    """Inside of `silence`: what the course itself has to say, as how far along it is."""
    out, error = _heard[0] if _heard else (sys.stdout, sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        yield
