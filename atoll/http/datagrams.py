"""Sending datagrams: one system call for many of one size where the kernel cuts them itself.

What cannot be sent is lost, as datagrams are: whoever sends them sends again what matters.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final

Address = tuple[str, int]

_UDP_SEGMENT: Final = 103  # linux/udp.h: UDP's segmentation offload
_MOST_SEGMENTS: Final = 60
_MOST_BYTES: Final = 60_000  # of a run: what one datagram could hold
_REFUSALS: Final = (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP)


class DatagramSender:
    """Sends on a socket of somebody else's."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.segments = can_segment(sock)

    def send(self, data: bytes, address: Address) -> None:
        """One datagram."""
        with contextlib.suppress(OSError):
            self._sock.sendto(data, address)

    def send_all(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        """Many, in their order: runs of one size to one address in one call."""
        if len(datagrams) < 2 or not self.segments:
            for data, address in datagrams:
                self.send(data, address)
            return
        at = 0
        while at < len(datagrams):
            end = at + run_length(datagrams, at)
            first, address = datagrams[at]
            if end - at == 1:
                self.send(first, address)
            elif not self._send_run([data for data, _ in datagrams[at:end]], len(first), address):
                for data, to in datagrams[at:end]:
                    self.send(data, to)
            at = end

    def _send_run(self, run: list[bytes], size: int, address: Address) -> bool:
        """Whether the kernel has taken it, or has no room for anything now."""
        control = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
        try:
            self._sock.sendmsg(run, control, 0, address)
        except OSError as error:
            if error.errno in _REFUSALS:  # a path or a device that cannot
                self.segments = False
                return False
        return True


def run_length(datagrams: Sequence[tuple[bytes, Address]], at: int) -> int:
    """How many from `at` on go in one call: one size, one address; only the last may be shorter."""
    first, address = datagrams[at]
    size, end, total = len(first), at + 1, len(first)
    while end < len(datagrams) and end - at < _MOST_SEGMENTS and total < _MOST_BYTES:
        data, to = datagrams[end]
        if len(data) > size or to != address:
            break
        total += len(data)
        end += 1
        if len(data) < size:
            break
    return end - at


def can_segment(sock: socket.socket) -> bool:
    """Whether this kernel cuts datagrams."""
    try:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)
    except OSError:
        return False
    return True
