"""Prepared responses as HTTP/3 writes them: HEADERS and DATA in one piece, the same for every connection.

An entry gives its fields anew once a second; as long as it gives the same ones, the frames made of them are
written again. Bounded by bytes and forgotten as a whole: what is asked for often is back at once.
"""

from __future__ import annotations

from typing import Final

from atoll.http.exchange import HotEntry
from atoll.http.fields import Headers
from atoll.http.h3_engine import data_frame_head, head_frame

BYTES: Final = 16 * 1024 * 1024


class PreparedResponses:
    """Frames by entry, for all connections of a process."""

    def __init__(self, most: int = BYTES) -> None:
        self._most = most
        self._bytes = 0
        self._made: dict[HotEntry, tuple[tuple[Headers, bytes], bytes]] = {}

    def wire(self, entry: HotEntry, now_s: float) -> bytes | None:
        """The whole response; None when there is none to be repeated."""
        prepared = entry.h2(now_s)
        if prepared is None:
            return None
        made = self._made.get(entry)
        if made is not None and made[0] is prepared:
            return made[1]
        fields, body = prepared
        wire = head_frame([(b":status", b"200"), *fields])
        if body:
            wire += data_frame_head(len(body)) + body
        if self._bytes + len(wire) > self._most:
            self._made.clear()
            self._bytes, made = 0, None
        if made is None:
            self._bytes += len(wire)
        self._made[entry] = (prepared, wire)
        return wire
