"""As much of the WebSocket protocol as an echo and its client need (RFC 6455): the handshake, whole messages.

Fragments and extensions are neither sent nor taken.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final, NamedTuple

from atoll.errors import RemoteError
from atoll.http.upgrade import accept_for

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
MAX_PAYLOAD: Final = 65_535
_FIN: Final = 0x80
_MASKED: Final = 0x80
_SHORT: Final = 125
_MEDIUM: Final = 126


class Frame(NamedTuple):
    """A message, or a control frame."""

    opcode: int
    payload: bytes


def encode(frame: Frame, *, mask: bool = False) -> bytes:
    """The frame as it is sent; clients mask (RFC 6455 §5.3).

    >>> encode(Frame(TEXT, b"hi"))
    b'\\x81\\x02hi'
    """
    size = len(frame.payload)
    assert size <= MAX_PAYLOAD, size
    masked = _MASKED if mask else 0
    if size <= _SHORT:
        head = bytes((_FIN | frame.opcode, masked | size))
    else:
        head = bytes((_FIN | frame.opcode, masked | _MEDIUM)) + size.to_bytes(2, "big")
    if not mask:
        return head + frame.payload
    key = os.urandom(4)
    return head + key + _masked(frame.payload, key)


async def read(reader: asyncio.StreamReader) -> Frame:
    """The next frame.

    Raises:
        asyncio.IncompleteReadError: the other side has left.
        RemoteError: it is none that is understood here.
    """
    first, second = await reader.readexactly(2)
    size = second & ~_MASKED
    if not first & _FIN or size > _MEDIUM:
        raise RemoteError("fragments and long messages are not understood", 400)
    if size == _MEDIUM:
        size = int.from_bytes(await reader.readexactly(2), "big")
    key = await reader.readexactly(4) if second & _MASKED else b""
    payload = await reader.readexactly(size)
    return Frame(first & 0x0F, _masked(payload, key) if key else payload)


def answer(key: bytes) -> bytes:
    """The server's half of the handshake."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_for(key)
    )


def question(host: str, path: str, key: bytes) -> bytes:
    """The client's half."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode('ascii')}\r\n\r\n"
    ).encode()


def _masked(data: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[position & 3] for position, byte in enumerate(data))
