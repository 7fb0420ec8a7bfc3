"""Ctrl-C, SIGTERM, a closed terminal (SIGHUP): one line, exit code 128 + signal; nothing before `start`."""

import os
import signal
import sys
import threading

_mode = "leave"
_end = os._exit  # whatever stands in its place while a learner's file runs
asked = 0
"""The signal that came. An exception after it is its echo, of whatever type: imports make it ImportError."""


class Stopped(KeyboardInterrupt):
    """Raised by each of the signals: whoever handles Ctrl-C handles all."""


def start() -> None:
    """Handle the signals, but those that are ignored, as under nohup; first by leaving at once."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if signal.getsignal(number := getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(number, _signalled)
    sys.unraisablehook = _swallowed
    any_letter()


def any_letter() -> None:
    """What a terminal cannot show, or send, is no error: it is spelled out."""
    for stream in filter(None, (sys.stdin, sys.stdout, sys.stderr)):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def then(mode: str) -> None:
    """What a signal does from now on: "leave" at once, "raise" Stopped, or "wait" for one of these modes."""
    global _mode
    _mode = mode
    if asked and mode == "leave":
        _signalled(asked)


def leave() -> None:
    """End now, with all that this process started: libraries whose threads still compute crash otherwise."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        child.terminate()
    sys.stdout.flush()
    _end(128 + (asked or signal.SIGINT))


def _signalled(number: int, frame: object = None) -> None:
    global asked
    asked = number
    if _mode == "raise":
        raise Stopped
    if _mode == "leave":
        if sys.stderr:
            os.write(2, b"interrupted\n")
        _end(128 + number)


def _swallowed(error) -> None:
    """What is raised in a finaliser or a garbage collector's callback goes nowhere: ask again, elsewhere."""
    if asked and issubclass(error.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, os.kill, (os.getpid(), asked)).start()
    else:
        sys.__unraisablehook__(error)
