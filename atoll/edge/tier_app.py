"""The side of the cache that other workers' caches ask: `tier-<i>.sock`.

A peer that has asked hears at once that its question has arrived (102), so that it knows how long to wait.
Who asks has done admission and functions; here there is only the cache and what is behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from atoll.cache import keys
from atoll.cache.store import Entry
from atoll.edge.cached import CacheStep
from atoll.edge.routing import Table
from atoll.edge.tier import CHANGED, FROM_OUTSIDE, FROM_POP, HOP, NOT_HERE, SCHEME, TROUBLE
from atoll.errors import RemoteError
from atoll.http.exchange import ConnectionInfo, Exchange, HotEntry
from atoll.http.fields import Headers, get
from atoll.http.limits import Limits

_log = logging.getLogger("atoll.edge")
_PROCESSING = 102


class TierApp:
    """The `App` of a worker's tier socket."""

    def __init__(self, limits: Limits, cache: CacheStep, table: Callable[[], Table]) -> None:
        self.limits = limits
        self.draining = False
        self._cache = cache
        self._table = table
        self._tasks: set[asyncio.Task[None]] = set()

    def opened(self, conn: ConnectionInfo) -> None:
        """Peers are nowhere in particular."""

    def hot(self, key: object) -> HotEntry | None:
        """What a peer asks for it keeps itself: it does not ask twice."""
        return None

    def count_hot(self, conn: ConnectionInfo, entry: HotEntry, now_s: float) -> None:
        """See `hot`."""

    def refused(self, conn: ConnectionInfo, status: int, reason: str) -> None:
        """A peer that sends nonsense is told so."""

    def handle(self, exchange: Exchange) -> None:
        """A peer's question."""
        task = asyncio.ensure_future(self._guarded(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except RemoteError as error:
            text = error.message.encode("ascii", "replace")
            exchange.stream.respond(error.status, [(TROUBLE, text)], b"")
        except Exception:  # noqa: BLE001 - one question's end: logged, and the peer asks elsewhere
            _log.exception("a peer's question failed: %r %r", exchange.authority, exchange.target)
            exchange.stream.abort()

    async def _answer(self, exchange: Exchange) -> None:
        scheme = get(exchange.headers, SCHEME) or b"https"
        hop = FROM_POP if get(exchange.headers, HOP) == b"%d" % FROM_POP else FROM_OUTSIDE
        site = self._table().site(exchange.authority)
        route = site.route(exchange.target) if site is not None else None
        if site is None or route is None or not route.cache:
            raise RemoteError("no such site or route here", NOT_HERE)
        if get(exchange.headers, CHANGED) is not None:
            self._cache.drop((keys.primary_key(scheme, site.host, exchange.target),))
        exchange.headers = [f for f in exchange.headers if not f[0].startswith(b"atoll-")]
        if self._cache.answer_stored(exchange, site, route, scheme, hop):
            return
        exchange.stream.inform(_PROCESSING, [])
        await self._cache.run(exchange, site, route, scheme, hop)


class TierOutcome:
    """What is told of a peer's question: its fields go back as they are, nobody counts it as a visit."""

    def headers(
        self, exchange: Exchange, headers: Headers, verdict: bytes, cache_status: bytes, origin_ms: float
    ) -> Headers:
        """See `Outcome`."""
        return [*headers, (b"cache-status", cache_status)]

    def done(self, exchange: Exchange, code: int, size: int, verdict: bytes) -> None:
        """See `Outcome`."""

    def hit(self, exchange: Exchange, primary: bytes, entry: Entry) -> bool:
        """See `Outcome`."""
        return False
