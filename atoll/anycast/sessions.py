"""What is known of the BGP session with one neighbour."""

from __future__ import annotations

from typing import Final

import msgspec

from atoll.anycast.neighbors import Neighbor

NEVER: Final = "not established yet"


class Session(msgspec.Struct, kw_only=True):
    """Which neighbour, whether the session is up and since when, and if not, why not."""

    neighbor: Neighbor
    up: bool = False
    since_s: float = 0.0  # of the loop's clock; 0: since the start
    reason: str = NEVER
