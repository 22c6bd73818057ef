"""Withdraws what BIRD announces for us when we are gone: BIRD itself would go on for ever.

Started as `python bird_guard.py CONTROL INCLUDE`. It waits for the end of its standard input, which comes
however we end. Unless the last line that it was given says that somebody else goes on, it empties the file
that BIRD includes and has BIRD read it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

GOES_ON = b"goes on\n"
TIMEOUT_S = 10.0


def main() -> None:
    """Wait, and act."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a whole process group may be told to end
    control, include = sys.argv[1], Path(sys.argv[2])
    nothing = include.with_suffix(".none").read_bytes()
    if sys.stdin.buffer.read().endswith(GOES_ON):
        return
    fresh = include.with_suffix(".new")
    fresh.write_bytes(nothing)
    os.replace(fresh, include)
    with socket.socket(socket.AF_UNIX) as bird:
        bird.settimeout(TIMEOUT_S)
        bird.connect(control)
        bird.recv(4096)
        bird.sendall(b"configure\n")
        bird.recv(4096)


if __name__ == "__main__":
    main()
