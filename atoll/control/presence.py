"""What the PoPs' agents have said lately: heartbeats, and receipts by `seq`. In memory only.

A receipt may arrive before the store has told its author the `seq` it is for, so the last few are kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final

import msgspec

from atoll.wire.control import Heartbeat, Receipt

REMEMBERED_RECEIPTS: Final = 64
SILENT_AFTER_S: Final = 3.0


class Presence:
    """The latest word of every PoP. Times are the caller's monotonic clock."""

    def __init__(self) -> None:
        self._beats: dict[str, tuple[Heartbeat, float]] = {}
        self._receipts: dict[str, deque[tuple[Receipt, float]]] = {}
        self._news = asyncio.Condition()

    def heard(self, beat: Heartbeat, now_s: float) -> None:
        """A heartbeat has arrived."""
        self._beats[beat.pop] = (beat, now_s)

    async def acknowledged(self, receipt: Receipt, now_s: float) -> None:
        """A receipt has arrived."""
        kept = self._receipts.setdefault(receipt.pop, deque(maxlen=REMEMBERED_RECEIPTS))
        kept.append((receipt, now_s))
        async with self._news:
            self._news.notify_all()

    def last(self, pop: str, now_s: float) -> tuple[Heartbeat, float] | None:
        """A PoP's last heartbeat, brought up to date by later receipts, and its age in seconds."""
        known = self._beats.get(pop)
        if known is None:
            return None
        beat, at_s = known
        for receipt, acked_s in self._receipts.get(pop, ()):
            if acked_s > at_s:
                functions = beat.functions if receipt.functions is None else receipt.functions
                beat = msgspec.structs.replace(
                    beat, seq=receipt.seq, functions=functions, store=receipt.store
                )
        return beat, now_s - at_s

    def silent(self, pop: str, now_s: float) -> bool:
        """Whether a PoP that was there has fallen silent."""
        known = self._beats.get(pop)
        return known is not None and now_s - known[1] > SILENT_AFTER_S

    def alive(self, pops: Collection[str], now_s: float) -> tuple[str, ...]:
        """The PoPs heard lately."""
        return tuple(pop for pop in pops if pop in self._beats and not self.silent(pop, now_s))

    def acknowledged_at(self, pop: str, store: str, seq: int) -> float | None:
        """When a PoP first acknowledged `seq` of `store` or later; another store counts apart."""
        kept = self._receipts.get(pop, ())
        return min((at_s for r, at_s in kept if r.store == store and r.seq >= seq), default=None)

    async def receipts(
        self, pops: Collection[str], store: str, seq: int, timeout_s: float
    ) -> dict[str, float]:
        """When each of `pops` acknowledged `seq` of `store`, waiting for all of them, `timeout_s` at most."""

        def arrived() -> dict[str, float]:
            times = {pop: self.acknowledged_at(pop, store, seq) for pop in pops}
            return {pop: at_s for pop, at_s in times.items() if at_s is not None}

        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: len(arrived()) == len(pops))
        except TimeoutError:
            pass
        return arrived()
