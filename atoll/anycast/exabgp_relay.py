"""Between ExaBGP, which speaks to a child over pipes, and us, who listen on a unix socket.

ExaBGP starts it as `python exabgp_relay.py SOCKET`. When we are gone it ends ExaBGP, too: routes whose
announcer has died are to be withdrawn. With graceful restart ExaBGP ends without a word, and neighbours keep
routes; so it is first given the commands in the file `SOCKET.farewell`, which withdraw what is announced.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from time import monotonic

CHUNK = 1 << 16
FAREWELL_S = 1.0
WITHDRAWN = b'"withdraw"'


def pump(link: socket.socket, commands: int, events: int) -> None:
    """Carry bytes both ways until either end closes: `events` from ExaBGP, `commands` to it."""
    selector = selectors.DefaultSelector()
    selector.register(events, selectors.EVENT_READ, link.sendall)
    selector.register(link, selectors.EVENT_READ, lambda data: write_all(commands, data))
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, CHUNK)
            if not data:
                return
            key.data(data)


def write_all(descriptor: int, data: bytes) -> None:
    """All of it, however often the pipe is full."""
    while data:
        data = data[os.write(descriptor, data) :]


def part(farewell: str, commands: int, events: int) -> None:
    """Have every route withdrawn, and wait a little for ExaBGP to say so."""
    with open(farewell, "rb") as file:
        said = file.read()
    write_all(commands, said)
    waiting, heard = said.count(b"\n"), b""
    until_s = monotonic() + FAREWELL_S
    selector = selectors.DefaultSelector()
    selector.register(events, selectors.EVENT_READ)
    while heard.count(WITHDRAWN) < waiting and selector.select(max(0.0, until_s - monotonic())):
        data = os.read(events, CHUNK)
        if not data:
            return
        heard += data


def main() -> None:
    """Until either end is gone."""
    speaker = os.getppid()
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(sys.argv[1])
        pump(link, sys.stdout.fileno(), sys.stdin.fileno())
        part(f"{sys.argv[1]}.farewell", sys.stdout.fileno(), sys.stdin.fileno())
    except OSError as error:
        sys.stderr.write(f"the relay to ExaBGP's announcer: {error}\n")
    if os.getppid() == speaker:
        os.kill(speaker, signal.SIGTERM)


if __name__ == "__main__":
    main()
