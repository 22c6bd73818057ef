"""Frames of HTTP/2 as bytes (RFC 9113 §4, §6): reading them from what arrives, and making them. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_WINDOW: Final = 65_535
MOST_WINDOW: Final = 2**31 - 1
FRAME_SIZE: Final = 16_384  # what everybody takes; we offer no more

_FIXED: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_ON_STREAM: Final = frozenset((DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION))
_ON_CONNECTION: Final = frozenset((SETTINGS, PING, GOAWAY))


class H2Error(Exception):
    """The peer broke the protocol: the connection ends with `code`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Frame(NamedTuple):
    """One frame. `payload` is without padding and priority, `size` is the payload's length with them."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    size: int


class FrameReader:
    """Bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes.

        Raises:
            H2Error: one is malformed.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= 9:
                length = int.from_bytes(buffer[at : at + 3], "big")
                if length > FRAME_SIZE:
                    raise H2Error(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
                if len(buffer) - at < 9 + length:
                    break
                kind, flags = buffer[at + 3], buffer[at + 4]
                stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & MOST_WINDOW
                payload = bytes(buffer[at + 9 : at + 9 + length])
                at += 9 + length
                yield _checked(kind, flags, stream, payload)
        finally:
            del buffer[:at]


def _checked(kind: int, flags: int, stream: int, payload: bytes) -> Frame:
    size = len(payload)
    if kind in _FIXED and size != _FIXED[kind]:
        raise H2Error(FRAME_SIZE_ERROR, f"a frame of kind {kind} with {size} bytes")
    if kind in (_ON_CONNECTION if stream else _ON_STREAM):
        raise H2Error(PROTOCOL_ERROR, f"a frame of kind {kind} on stream {stream}")
    if kind in (DATA, HEADERS):
        payload = _unpadded(kind, flags, payload)
    return Frame(kind, flags, stream, payload, size)


def _unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    start = end = 0
    if flags & PADDED:
        if not payload:
            raise H2Error(FRAME_SIZE_ERROR, "a padded frame without a byte")
        start, end = 1, payload[0]
    if kind == HEADERS and flags & WITH_PRIORITY:
        start += 5
    if start + end > len(payload):
        raise H2Error(PROTOCOL_ERROR, "more padding than frame")
    return payload[start : len(payload) - end]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return struct.pack(">BHBBI", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *item) for item in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """What a SETTINGS frame says.

    Raises:
        H2Error: a value that cannot be one (§6.5.2).
    """
    if len(payload) % 6:
        raise H2Error(FRAME_SIZE_ERROR, "settings that are cut short")
    found: list[tuple[int, int]] = list(struct.iter_unpack(">HI", payload))
    for name, value in found:
        if name == INITIAL_WINDOW_SIZE and value > MOST_WINDOW:
            raise H2Error(FLOW_CONTROL_ERROR, "an initial window that is too large")
        if name == MAX_FRAME_SIZE and not FRAME_SIZE <= value < 2**24:
            raise H2Error(PROTOCOL_ERROR, f"a frame size of {value}")
    return found


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int, code: int) -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code))


def header_frames(stream: int, block: bytes, end_stream: bool) -> bytes:
    """A header block as a HEADERS frame, and as many CONTINUATION frames as it needs."""
    pieces = [block[at : at + FRAME_SIZE] for at in range(0, len(block), FRAME_SIZE)] or [b""]
    frames = []
    for number, piece in enumerate(pieces):
        flags = END_HEADERS if number == len(pieces) - 1 else 0
        if number == 0 and end_stream:
            flags |= END_STREAM
        frames.append(frame(CONTINUATION if number else HEADERS, flags, stream, piece))
    return b"".join(frames)
