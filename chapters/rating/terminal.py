"""Rating in the terminal: one key an answer, or one line an answer where there is no terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from chapters.rating.session import Progress, Session, Shown
from chapters.rating.store import StaleAnswer

if TYPE_CHECKING:
    from rich.console import Console

SIDE_BY_SIDE = 76  # columns
GUARD_SECONDS = 0.3  # a key this soon after a pair appeared was meant for the one before
KEYS = {"a": "left", "b": "right", "t": "tie", "s": "skip", "u": "undo", "q": "quit"}
ARROWS = {b"\x1b[D": "a", b"\x1bOD": "a", b"\x1b[C": "b", b"\x1bOC": "b"}
HELP = "[b]a[/] A is better   [b]b[/] B is better   [b]t[/] tie   [b]s[/] skip   [b]u[/] undo   [b]q[/] stop"
# C0 and C1 controls, and marks that reorder text
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def rate_in_terminal(session: Session) -> Progress:
    """Ask until all is rated, `q`, or the end of input. Every answer is kept, also when Ctrl-C interrupts."""
    from rich.console import Console

    console = Console(highlight=False)
    try:
        with _keys() as (read, single):
            _ask(session, console, read, single)
    except KeyboardInterrupt:
        console.print()
        raise
    finally:
        if session.next() is not None:  # else it is on the screen
            console.print(*session.summary(), sep="\n", markup=False, soft_wrap=True)
    return session.progress


def _ask(session: Session, console: Console, read: Callable[[], str | None], single: bool) -> None:
    note = ""
    while True:
        shown = session.next()
        if single:
            console.clear()
        _show(console, session, shown, note)
        since, key = time.monotonic(), ""
        while key not in KEYS or (single and time.monotonic() - since < GUARD_SECONDS and key != "q"):
            key = read()
            if key in (None, "q"):
                return
            if key not in KEYS and not single:
                console.print(f"{key!r} is no answer (allowed: {', '.join(KEYS)})", markup=False)
        try:
            if key == "u":
                note = "Undone." if session.undo(source="terminal") else "There is nothing to undo."
            elif shown is not None:
                session.answer(KEYS[key], source="terminal")
                note = f"Recorded: {key.upper() if key in 'ab' else KEYS[key]}."
        except StaleAnswer as error:
            note = f"Not recorded: {error}."


def _show(console: Console, session: Session, shown: Shown | None, note: str) -> None:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    if note:
        console.print(note, markup=False, style="italic")
    if shown is None:
        console.print("Everything is rated.", *session.summary(), sep="\n", markup=False, soft_wrap=True)
        console.print("[b]u[/] undo the last answer   [b]q[/] done")
        return
    done, total = session.progress
    console.rule(f"{done + 1} of {total}")
    console.print(session.criterion, markup=False, style="bold")
    texts = (
        ("text", shown.pair.prompt, "dim"),
        ("A", shown.text("left"), "blue"),
        ("B", shown.text("right"), "magenta"),
    )
    prompt, *sides = (
        Panel(Text(visible(text)), title=name, title_align="left", border_style=style)
        for name, text, style in texts
    )
    if console.width >= SIDE_BY_SIDE:
        grid = Table.grid(expand=True)
        for _ in sides:
            grid.add_column(ratio=1)
        grid.add_row(*sides)
        sides = [grid]
    console.print(prompt, *sides, HELP, sep="\n")


def visible(text: str) -> str:
    """Control characters and reordering marks spelled out: a model's text must not drive the terminal."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@contextlib.contextmanager
def _keys() -> Iterator[tuple[Callable[[], str | None], bool]]:
    """(a function that returns the next key, or None at the end of input; whether single keys are read)."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield _line, False
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda: _key(terminal), True
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _line() -> str | None:
    line = sys.stdin.readline() if sys.stdin else ""
    return line.strip().lower() if line else None


def _key(terminal: int) -> str | None:
    try:
        key = os.read(terminal, 1)
        if key == b"\x1b" and select.select([terminal], [], [], 0.03)[0]:
            key += os.read(terminal, 8)  # the rest of the code of an arrow or so; some contain an "A"
    except OSError:  # the terminal is gone
        return None
    if key in (b"", b"\x04"):
        return None
    return ARROWS.get(key, "") if key[:1] == b"\x1b" else key.decode("latin-1").strip().lower()
