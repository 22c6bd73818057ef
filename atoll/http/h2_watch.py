"""What an HTTP/2 client sends that its engine neither reports nor counts (RFC 9113 §6). Pure.

Only frames' heads are looked at, in the order in which they come, before the engine parses the same bytes.
Two things are found here: priority frames that contradict themselves, and frames that carry nothing, of which
a client may send no more than its requests explain (RFC 9113 §10.5).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_DATA: Final = 0x0
_HEADERS: Final = 0x1
_PRIORITY: Final = 0x2
_CONTINUATION: Final = 0x9
_END_STREAM: Final = 0x1
_PADDED: Final = 0x8
_HAS_PRIORITY: Final = 0x20
_NEEDED: Final = 6  # bytes of a payload that tell what a stream depends on: its padding's length, and that

_frame_head: Final = Struct(">HBBBL").unpack_from  # length in two parts, type, flags, stream


class FrameWatch:
    """Follows one connection. `idle_frames` counts frames that bring nothing; `fault` says what is wrong."""

    __slots__ = ("_skip", "_tail", "fault", "idle_frames")

    def __init__(self) -> None:
        self._skip = len(PREFACE)  # bytes until the next frame's head
        self._tail = b""  # of a frame whose head, or beginning, is not there yet
        self.idle_frames = 0
        self.fault = ""

    def look(self, data: bytes) -> bool:
        """`data` has arrived. Whether there is something to judge since the last time."""
        news = False
        at, size = self._skip, len(data)
        if self._tail:
            data = self._tail + data
            self._tail, size = b"", len(data)
        elif not at and size > 9:
            high, low, kind, flags, stream = _frame_head(data)
            if kind == _HEADERS and not flags & _HAS_PRIORITY and size == 9 + (high << 8 | low):
                return False  # one request and nothing else: what a client sends most often
        while at + 9 <= size:
            high, low, kind, flags, stream = _frame_head(data, at)
            length = high << 8 | low
            if kind > _HEADERS or flags & _HAS_PRIORITY or (kind == _DATA and length <= 256):
                if size - at - 9 < length and size - at - 9 < _NEEDED:
                    break
                self._judge(data, at + 9, length, kind, flags, stream & 0x7FFFFFFF)
                news = True
            at += 9 + length
        if at < size:
            self._tail, self._skip = data[at:], 0
        else:
            self._skip = at - size
        return news

    def _judge(self, data: bytes, at: int, length: int, kind: int, flags: int, stream: int) -> None:
        if kind == _DATA:
            padding = data[at] + 1 if flags & _PADDED and length else 0
            if length <= padding and not flags & _END_STREAM:
                self.idle_frames += 1
            return
        if kind == _HEADERS:
            if flags & _PADDED:
                at, length = at + 1, length - 1
        elif kind != _CONTINUATION:  # of which the engine takes few
            self.idle_frames += 1
        if kind <= _PRIORITY:
            if not stream:
                self.fault = "a priority for the connection"
            elif length >= 4 and int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF == stream:
                self.fault = "a stream that depends on itself"
