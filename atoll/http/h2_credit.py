"""Room for a client's uploads that its HTTP/2 engine has given and nobody has (RFC 9113 §5.2). Pure.

The engine makes room again for whatever has arrived. A stream whose body nobody takes must not get more: its
WINDOW_UPDATE frames are taken out of what the engine sends, and given later. The client stops sending on that
stream alone; what it says about others, answers it makes room for included, is still read. A client that goes
on regardless has broken its window, and says so by the credit that is kept back.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_WINDOW_UPDATE: Final = 0x8
_FIRST_WINDOW: Final = 65_535  # what the engine announces

_frame_head: Final = Struct(">HBBBL").unpack_from
_update: Final = Struct(">HBBBLL").pack


class Credit:
    """Credit that is kept back, by stream; stream 0 is the connection's."""

    __slots__ = ("_kept", "closed")

    def __init__(self) -> None:
        self.closed: set[int] = set()  # streams that get no more room for now
        self._kept: dict[int, int] = {}

    def filter(self, data: bytes) -> bytes:
        """`data`, whole frames to be sent, without room for streams in `closed`."""
        kept: list[bytes] = []
        start = at = 0
        while at < len(data):
            high, low, kind, _, stream = _frame_head(data, at)
            end = at + 9 + (high << 8 | low)
            if kind == _WINDOW_UPDATE and stream in self.closed:
                self._kept[stream] = self._kept.get(stream, 0) + int.from_bytes(data[at + 9 : end], "big")
                kept.append(data[start:at])
                start = end
            at = end
        return b"".join([*kept, data[start:]]) if kept else data

    def close(self, stream: int) -> None:
        """No more room for `stream`."""
        self.closed.add(stream)

    def open(self, stream: int) -> bytes:
        """Room again for `stream`: the frame that says so, b"" if there is nothing to say."""
        self.closed.discard(stream)
        increment = self._kept.pop(stream, 0)
        return _update(0, 4, _WINDOW_UPDATE, 0, stream, increment) if increment else b""

    def forget(self, stream: int) -> None:
        """`stream` has ended: nobody needs room on it."""
        self.closed.discard(stream)
        self._kept.pop(stream, None)

    def overdrawn(self, stream: int) -> bool:
        """Whether its client has sent more than it had room for."""
        return self._kept.get(stream, 0) > 2 * _FIRST_WINDOW
