"""The course's tooling: what `rl` does."""

import _signal  # what `signal` is made of: that would first import more, and Ctrl-C meanwhile be a traceback
import os
import sys


def _leave(number: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


if os.path.basename(sys.argv[0]) == "rl":  # while its own modules are imported: later, `main` handles signals
    for _number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(_number) != _signal.SIG_IGN:
            _signal.signal(_number, _leave)
