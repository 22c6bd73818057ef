"""`python -m atoll.node.tether PID PROGRAM ARGUMENT...`: run a program that ends with process PID.

For programs that know nothing of supervisors, such as nats-server: the request to be killed with the parent
outlives `execve`, so this process becomes the program and costs nothing afterwards.
"""

from __future__ import annotations

import os
import signal
import sys

from atoll.node.role import READY_VARIABLE, end_with


def main(argv: list[str]) -> None:
    """Entry point; does not return."""
    parent, program, *arguments = argv
    end_with(int(parent), signal.SIGKILL)
    os.environ.pop(READY_VARIABLE, None)
    try:
        os.execvp(program, [program, *arguments])  # noqa: S606
    except OSError as error:
        sys.exit(f"{program} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
