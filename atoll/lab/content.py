"""What the lab's origin answers, as bytes that tell what they are. Pure.

A body begins with a line that names its version, length and path. Hexadecimal digits derived from that line
follow, again and again, with a period that is prime: what is a block of any size out of its place shows. So
whoever reads a body knows whether it is the right one, without having kept anything: a byte too few, a byte
of another object or of another version, a byte elsewhere, and it is not. Long bodies cost a copy.
"""

from __future__ import annotations

from hashlib import shake_128
from typing import Final

import msgspec

MAX_SIZE: Final = 16 * 1024 * 1024
MAX_PATH: Final = 1024
_PERIOD: Final = 4093
_MAX_LINE: Final = MAX_PATH + 64


class Claim(msgspec.Struct, frozen=True):
    """What a body says of itself."""

    version: int
    size: int
    path: str


def content(path: str, version: int, size: int) -> bytes:
    """The body of `path` in a version; longer than `size` where its first line needs more."""
    size = max(size, len(_line(path, version, MAX_SIZE)))
    line = _line(path, version, size)
    left = size - len(line)
    digits = shake_128(line).hexdigest(_PERIOD // 2 + 1)[:_PERIOD].encode()
    return line + (digits * (left // _PERIOD + 1))[:left]


def _line(path: str, version: int, size: int) -> bytes:
    return f"{version} {size} {path}\n".encode()


def claim_of(body: bytes) -> Claim | None:
    """What `body` says of itself; None when its first line is not one of ours."""
    line, end, _ = body[:_MAX_LINE].partition(b"\n")
    parts = line.decode("latin-1").split(" ")
    if not end or len(parts) != 3 or not (parts[0].isdigit() and parts[1].isdigit()):
        return None
    return Claim(int(parts[0]), int(parts[1]), parts[2])


def check(path: str, body: bytes) -> int | None:
    """The version of `path` that `body` is, byte for byte; None when it is none."""
    claim = claim_of(body)
    if claim is None or claim.path != path or claim.size > MAX_SIZE:
        return None
    return claim.version if body == content(path, claim.version, claim.size) else None
