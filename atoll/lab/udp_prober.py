"""A user in the lab with real routers: `python -m atoll.lab.udp_prober FROM TO PORT INTERVAL_MS`.

Sends a probe each interval, whatever becomes of those before, and writes a line for each answer: the probe's
number, when it was sent, when the answer came (CLOCK_MONOTONIC, which all processes of a machine share), and
who answered. On the end of its input it says how many it has sent.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
from time import monotonic


def main(local: str, remote: str, port: int, interval_s: float) -> None:
    """Probe until the input ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((local, 0))
        probe.setblocking(False)
        selector = selectors.DefaultSelector()
        selector.register(probe, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        began_s = due_s = monotonic()
        sent: list[float] = []
        while True:
            for key, _ in selector.select(max(0.0, due_s - monotonic())):
                if key.fileobj is sys.stdin:
                    sys.stdout.write(f"sent {len(sent)} {began_s}\n")
                    return
                receive(probe, sent)
            if monotonic() >= due_s:
                send(probe, (remote, port), sent)
                due_s += interval_s


def send(probe: socket.socket, to: tuple[str, int], sent: list[float]) -> None:
    """One probe; one that finds no way at all counts as sent."""
    sent.append(monotonic())
    with contextlib.suppress(OSError):
        probe.sendto(b"%d" % (len(sent) - 1), to)


def receive(probe: socket.socket, sent: list[float]) -> None:
    """All answers that wait."""
    while True:
        try:
            data = probe.recv(256)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error, which a user would not notice either
            continue
        number, _, name = data.decode().partition(" ")
        sys.stdout.write(f"{number} {sent[int(number)]:.6f} {monotonic():.6f} {name}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) / 1000)
