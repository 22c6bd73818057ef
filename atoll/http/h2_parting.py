"""How an HTTP/2 connection is ended without losing a request (RFC 9113 §6.8).

A GOAWAY names the last stream that is answered, but streams beyond it may be on their way already. So the
first one names no limit and only says that the connection is about to end: it is answered all the same, and a
client opens no more streams on it. The second follows when that has had time to arrive, with the true number.
"""

from __future__ import annotations

import asyncio
from typing import Final

from atoll.http.exchange import App, ConnectionInfo
from atoll.http.h2 import H2Connection

NOTICE_S: Final = 1.0  # longer than a round trip to anywhere
_MOST_UNHEEDED: Final = 100  # requests after the notice; the engine dies at some number not far beyond
_LAST: Final = 2**31 - 1
_NOTICE: Final = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + _LAST.to_bytes(4, "big") + bytes(4)


class PartingH2(H2Connection):
    """A connection that says twice that it ends."""

    def __init__(self, app: App, info: ConnectionInfo) -> None:
        super().__init__(app, info)
        self._noticed = 0  # requests when notice was given
        self._due: asyncio.TimerHandle | None = None

    def goaway(self, error_code: int = 0) -> None:
        """No new streams, please; those that are under way in either direction are finished."""
        if error_code or self._goaway:
            super().goaway(error_code)
        elif self._due is None:
            self._noticed = self._requests
            loop = asyncio.get_running_loop()
            loop.call_soon(self.transport.write, _NOTICE)  # after what is being answered, as whole frames
            self._due = loop.call_later(NOTICE_S, self.goaway_now)
        elif self._requests - self._noticed >= _MOST_UNHEEDED:
            self.goaway_now()

    def goaway_now(self) -> None:
        """The last word: what the client opens from now on is refused."""
        if not self.closing:
            super().goaway()
            self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._due is not None:
            self._due.cancel()
        super().connection_lost(exc)
