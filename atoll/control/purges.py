"""Purging: a selector goes into the stream, every PoP answers that nothing it selects is served any more.

A PoP that answers has applied the purge on every worker. One that does not has lost touch: its lease on
what is stored runs out within `LEASE_S` of the moment the purge was published (see
`atoll.node.agent_purges`), so nobody is waited for any longer, and not at all if it is known to be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from time import monotonic, time_ns
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import RetentionPolicy, StreamConfig

from atoll.config.purge import Selector
from atoll.control.answers import Purge, PurgedPop
from atoll.control.presence import Presence
from atoll.errors import RemoteError
from atoll.wire import control as wire

LEASE_S: Final = 5.0
MARGIN_S: Final = 0.5
"""How much longer than a lease a PoP is waited for: messages take time, and clocks do not run alike."""

MAX_KEPT: Final = 65_536
_STORE_TIMEOUT_S: Final = 5.0


class Purger:
    """Purges of the whole network, over one NATS connection at a time."""

    def __init__(self, pops: Collection[str], presence: Presence) -> None:
        self.pops = tuple(pops)  # who answers
        self._presence = presence
        self._client: Client | None = None
        self._applied: dict[str, list[tuple[int, float]]] = {}
        self._news = asyncio.Condition()

    async def session(self, client: Client) -> None:
        """Make the stream if it is missing, and listen for receipts.

        Numbers begin with the time, so that a stream that had to be made anew goes on after the one before.
        """
        js = client.jetstream()
        try:
            await js.stream_info(wire.PURGES_STREAM)
        except nats.js.errors.NotFoundError:
            await js.add_stream(
                StreamConfig(
                    name=wire.PURGES_STREAM,
                    subjects=[wire.PURGES],
                    retention=RetentionPolicy.LIMITS,
                    max_msgs=MAX_KEPT,
                    first_seq=time_ns() // 1000,
                )
            )
        await client.subscribe(wire.ALL_PURGE_RECEIPTS, cb=self._on_receipt)
        self._client = client

    def lost(self) -> None:
        """The connection is gone."""
        self._client = None

    async def purge(self, selector: Selector, down: Collection[str] = ()) -> Purge:
        """Purge, and wait for every PoP but those that are `down`.

        Raises:
            RemoteError: NATS is not reachable: nothing has been purged, or it is not known.
        """
        client = self._client
        if client is None:
            raise RemoteError("NATS is not reachable", 503, "it restarts by itself; see `atoll logs nats`")
        started_s = monotonic()
        order = wire.encode(wire.PurgeOrder(selector=selector))
        try:
            ack = await client.jetstream().publish(wire.PURGES, order, timeout=_STORE_TIMEOUT_S)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise RemoteError(f"the purge could not be stored ({reason})", 503, "try again") from error
        published_s = monotonic()
        gone = {pop for pop in self.pops if pop in down or self._gone(pop, published_s)}
        waited = [pop for pop in self.pops if pop not in gone]
        await self._wait(waited, ack.seq, LEASE_S + MARGIN_S)
        states = {pop: self._state(pop, ack.seq, started_s, gone) for pop in self.pops}
        total_ms = round((monotonic() - started_s) * 1000, 2)
        return Purge(seq=ack.seq, selector=selector, pops=states, total_ms=total_ms)

    def _gone(self, pop: str, now_s: float) -> bool:
        """Whether a PoP has said nothing for so long that its lease has run out already."""
        last = self._presence.last(pop, now_s)
        return last is not None and last[1] > LEASE_S + MARGIN_S

    def _state(self, pop: str, seq: int, started_s: float, gone: Collection[str]) -> PurgedPop:
        at_s = self._at(pop, seq)
        if at_s is not None:
            return PurgedPop(state="applied", ms=round((at_s - started_s) * 1000, 2))
        return PurgedPop(state="gone" if pop in gone else "lapsed")

    def _at(self, pop: str, seq: int) -> float | None:
        """When a PoP first said that it had applied `seq` or a later one."""
        return min((at_s for applied, at_s in self._applied.get(pop, ()) if applied >= seq), default=None)

    async def _wait(self, pops: Collection[str], seq: int, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: all(self._at(pop, seq) is not None for pop in pops))
        except TimeoutError:
            pass

    async def _on_receipt(self, message: Msg) -> None:
        receipt = wire.decode(message.data, wire.PurgeReceipt)
        kept = self._applied.setdefault(receipt.pop, [])
        kept.append((receipt.seq, monotonic()))
        del kept[:-64]
        async with self._news:
            self._news.notify_all()
