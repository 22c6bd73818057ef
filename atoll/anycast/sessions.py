"""What is known of the BGP session with one neighbour."""

from __future__ import annotations

from typing import Final

import msgspec

from atoll.anycast.neighbors import Neighbor
from atoll.anycast.speaker import SessionDown, SessionUp

NEVER: Final = "not established yet"


class Session(msgspec.Struct, kw_only=True):
    """Which neighbour, whether the session is up and since when, and if not, why not."""

    neighbor: Neighbor
    up: bool = False
    since_s: float = 0.0  # of the loop's clock; 0: since the start
    reason: str = NEVER

    def turned(self, *, up: bool, reason: str, now_s: float) -> SessionUp | SessionDown | None:
        """It is up now, or it is not and why; what is to be told of that, None when nothing has changed."""
        was_up, self.up, self.reason = self.up, up, "" if up else reason
        if was_up == up:
            return None
        self.since_s = now_s
        name = self.neighbor.name
        return SessionUp(neighbor=name) if up else SessionDown(reason=reason, neighbor=name)
