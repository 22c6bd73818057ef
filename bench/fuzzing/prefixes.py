"""What comes before HTTP on a connection: PROXY protocol headers and the name in a TLS ClientHello.

Each parser says "more", an answer or a refusal, and nothing else; what it says of a whole is what it says
when that is followed by more; of what is not yet whole it never says what turns out to be wrong.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from random import Random
from typing import Final

from atoll.errors import RemoteError
from atoll.http.client_hello import server_name
from atoll.http.proxy_protocol import MAX_HEADER, SIGNATURE, Parsed, build, parse
from bench.fuzzing.mutate import Mutator

_HELLO: Final = 22
_WORDS: Final = (
    SIGNATURE, b"\x21\x11\x00\x0c", b"\x20\x00\x00\x00", b"\x21\x21\x00\x24", b"\x11\x11\x00\x0c",
    b"\xff\xff", b"\x02\x18", b"\x00\x00", b"\x16\x03\x01\x00\x05", b"\x01\x00\x00\x05",
    b"\x00\x00\x00\x09\x00\x07\x00\x00\x04host", b"GET / HTTP/1.1\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n",
)  # fmt: skip


def _hello(name: bytes, pad: int = 0) -> bytes:
    """A ClientHello in one record."""
    listed = b"\0" + len(name).to_bytes(2, "big") + name
    names = len(listed).to_bytes(2, "big") + listed
    own = b"\x00\x15" + pad.to_bytes(2, "big") + bytes(pad) + b"\0\0" + len(names).to_bytes(2, "big") + names
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + len(own).to_bytes(2, "big") + own
    shake = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + len(shake).to_bytes(2, "big") + shake


def _seeds() -> list[bytes]:
    found = [
        build("192.0.2.1", 1, "198.51.100.2", 65_535),
        build("2001:db8::1", 4711, "2001:db8::2", 443),
        build("::ffff:192.0.2.1", 0, "2001:db8::2", 0),
        SIGNATURE + b"\x20\x00\x00\x00",
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x20" + bytes(12) + b"\3\0\4abcd\4\0\0" + bytes(10),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(300),
        SIGNATURE,
        b"",
        _hello(b"shop.test"),
        _hello(b"a" * 255, 400),
        _hello(b"\xff"),
        _hello(b""),
        b"\x16\3\1\0\1\1" * 3,
    ]
    return [*found, *(each + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" for each in found)]


class PrefixTarget:
    """See `bench.fuzz.Target`."""

    name = "prefix"

    def __init__(self) -> None:
        self._mutator = Mutator(_seeds(), _WORDS)
        self.counts: Counter[str] = Counter()

    def make(self, rng: Random) -> bytes:
        """The first bytes of a connection."""
        return self._mutator.make(rng)

    def seeds(self) -> list[bytes]:
        """What is tried as it is, first."""
        return _seeds()

    def check(self, data: bytes) -> list[str]:
        """What is wrong with how they are understood."""
        return self._proxy(data) + self._hello(data)

    def _proxy(self, data: bytes) -> list[str]:
        whole = _parsed(data)
        if isinstance(whole, Parsed):
            self.counts["PROXY"] += 1
            if not 16 <= whole.length <= min(len(data), MAX_HEADER) or _parsed(data[: whole.length]) != whole:
                return ["a PROXY header that does not end where it ends"]
            for address in filter(None, (whole.source_ip, whole.dest_ip)):
                ipaddress.ip_address(address)
        found = []
        for end in range(0, min(len(data), 64), 7):
            part = _parsed(data[:end])
            if part is not None and part != whole:
                found.append("a part of a PROXY header is something else")
        return found

    def _hello(self, data: bytes) -> list[str]:
        whole = server_name(data)
        if whole:
            self.counts["names"] += 1
        for end in (len(data) // 3, len(data) // 2, len(data) - 1):
            part = server_name(data[:end]) if end >= 0 else None
            if part is not None and part != whole:
                return ["the beginning of a hello has another name"]
        return []


def _parsed(data: bytes) -> Parsed | str | None:
    try:
        return parse(data)
    except RemoteError as refusal:
        return str(refusal.status)
