"""The course's tooling: what `rl` does."""

import os
import signal
import sys


def _leave(number: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


if os.path.basename(sys.argv[0]) == "rl":  # while its own modules are imported: later, `main` handles signals
    for _signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_signal) is not signal.SIG_IGN:
            signal.signal(_signal, _leave)
