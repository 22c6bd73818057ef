"""Who is connected, by address: how many connections each has, and how often it asks. Pure.

An IPv6 client has a whole /64 to take addresses from, so that counts as one. Only addresses are remembered
that are connected or were too eager a moment ago: the table is hardly larger than what is open already.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
_MOST_SLOWED: Final = 10_000


def party(ip: str) -> bytes:
    """What counts as one client: an IPv4 address, or an IPv6 network of 64 bits; b"" for what is neither."""
    try:
        packed = ipaddress.ip_address(ip.partition("%")[0]).packed
    except ValueError:
        return b""
    if len(packed) == 16:
        return packed[12:] if packed.startswith(_V4_MAPPED) else packed[:8]
    return packed


class Crowd:
    """Counts by party. Limits of 0 are none."""

    def __init__(self, most_connections: int, most_requests_s: int, slowed_s: float) -> None:
        self._most_connections = most_connections
        self._most_requests_s = most_requests_s
        self._slowed_s = slowed_s
        self._connected: dict[bytes, int] = {}
        self._asked: dict[bytes, int] = {}
        self._slowed: dict[bytes, float] = {}  # until when
        self._since_s = 0.0

    def __len__(self) -> int:
        """Parties that something is known of."""
        return len(self._connected.keys() | self._slowed.keys())

    def enter(self, who: bytes) -> bool:
        """Whether `who` may have another connection; if so, it has."""
        if self.full(who):
            return False
        self._connected[who] = self._connected.get(who, 0) + 1
        return True

    def full(self, who: bytes) -> bool:
        """Whether `who` has as many connections as it may."""
        return 0 < self._most_connections <= self._connected.get(who, 0)

    def leave(self, who: bytes) -> None:
        """A connection of `who` has ended."""
        count = self._connected.get(who, 0) - 1
        if count > 0:
            self._connected[who] = count
        else:
            self._connected.pop(who, None)

    def asked(self, who: bytes, requests: int) -> None:
        """`who` has sent so many requests since the last time."""
        if requests:
            self._asked[who] = self._asked.get(who, 0) + requests

    def judge(self, now_s: float) -> set[bytes]:
        """Who has asked too often since the last judgement, and is slowed from now on."""
        took_s, self._since_s = now_s - self._since_s, now_s
        asked, self._asked = self._asked, {}
        if len(self._slowed) > _MOST_SLOWED:
            self._slowed.clear()
        self._slowed = {who: until_s for who, until_s in self._slowed.items() if until_s > now_s}
        most = self._most_requests_s * took_s
        eager = {who for who, requests in asked.items() if most and requests > most}
        self._slowed.update(dict.fromkeys(eager, now_s + self._slowed_s))
        return eager

    def slowed(self, who: bytes, now_s: float) -> bool:
        """Whether `who` was too eager a moment ago."""
        return self._slowed.get(who, 0.0) > now_s
