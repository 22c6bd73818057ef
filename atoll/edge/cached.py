"""The cache step: hit, stale, collapse with an identical request in flight, or miss and fill.

The rules are `atoll.cache.rules`'s, the bytes `atoll.cache.store`'s; this decides what happens with a request
between the two. One request per key goes to the origin: others that arrive meanwhile wait for it and are
served from what it stored, or go on alone when it could not be stored. An origin that does not answer is
covered by a stale response for as long as the route allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time
from typing import Final, Protocol

from atoll.cache import keys, rules, status
from atoll.cache.store import Entry, Store
from atoll.config.spec import RouteSpec
from atoll.edge.finish import BYPASS, HIT, MISS, STALE
from atoll.edge.origin import Origins
from atoll.edge.relay import body_length, pass_on, relay, without_length
from atoll.edge.routing import Site
from atoll.errors import RemoteError
from atoll.http.exchange import Exchange
from atoll.http.fields import (
    Headers,
    format_http_date,
    get,
    get_all,
    parse_cache_control,
    parse_vary,
)
from atoll.http.upstream import ResponseReader

MAX_OBJECT: Final = 16 * 1024 * 1024
_UNSAFE: Final = frozenset((b"POST", b"PUT", b"DELETE", b"PATCH"))


class Outcome(Protocol):
    """Told how a request went: adds the edge's fields, counts and logs."""

    def headers(
        self, exchange: Exchange, headers: Headers, verdict: bytes, cache_status: bytes, origin_ms: float
    ) -> Headers:
        """The response's fields with the edge's own."""

    def done(self, exchange: Exchange, code: int, size: int, verdict: bytes) -> None:
        """The response is complete."""

    def hit(self, exchange: Exchange, primary: bytes, entry: Entry) -> bool:
        """A fresh hit on a plain GET: answer it from prepared bytes; False when that cannot be."""


class _Flight:
    """A fetch under way for a key, and who waits for it."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class CacheStep:
    """Cache lookups and fills of one worker."""

    def __init__(
        self,
        pop: str,
        store: Store,
        origins: Callable[[], Origins],
        outcome: Outcome,
    ) -> None:
        self._pop = pop
        self._store = store
        self._origins = origins
        self._outcome = outcome
        self._flights: dict[bytes, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def lookup(self, exchange: Exchange, site: Site, route: RouteSpec) -> bool:
        """Answer a fresh hit in place. False when `run` has to see to it."""
        if exchange.method not in (b"GET", b"HEAD") or not route.cache or route.consistency == "critical":
            return False
        primary = keys.primary_key(exchange.conn.scheme, site.host, exchange.target)
        entry = self._store.get(primary, exchange.headers)
        if entry is None or self._decide(entry, exchange) is not rules.Decision.FRESH:
            return False
        self._serve(exchange, primary, entry, HIT, b"")
        return True

    async def run(self, exchange: Exchange, site: Site, route: RouteSpec, scheme: bytes) -> None:
        """Everything that may have to wait.

        Raises:
            RemoteError: no origin answered and nothing stored may be served in its place.
        """
        primary = keys.primary_key(scheme, site.host, exchange.target)
        if exchange.method not in (b"GET", b"HEAD"):
            reader = await self._pass(exchange, site, route, b"fwd=method")
            if rules.invalidated_by(exchange.method, reader.status):
                self._invalidate(exchange, site, reader.headers)
            return
        if not route.cache or route.consistency == "critical":
            await self._pass(exchange, site, route, b"fwd=bypass")
            return
        while True:
            entry = self._store.get(primary, exchange.headers)
            if self._answered(exchange, site, route, primary, entry):
                return
            flight = self._flights.get(self._flight_key(primary, exchange))
            if flight is None or not await asyncio.shield(flight.done):
                break
            found = self._store.get(primary, exchange.headers)
            if found is not None and self._answers(found, exchange):
                self._serve(exchange, primary, found, HIT, b"collapsed")
                return
        if not exchange.stream.gone:  # who has left while waiting asks for nothing any more
            await self._lead(exchange, site, route, primary, entry)

    def _answered(
        self, exchange: Exchange, site: Site, route: RouteSpec, primary: bytes, entry: Entry | None
    ) -> bool:
        """Answer from what is stored, if that may be.

        Raises:
            RemoteError: the client wants nothing but what is stored, and there is nothing.
        """
        decision = self._decide(entry, exchange)
        if decision is rules.Decision.ONLY_IF_CACHED:
            raise RemoteError("only-if-cached, and nothing usable is stored", 504)
        if entry is None:
            return False
        if decision is rules.Decision.FRESH:
            self._serve(exchange, primary, entry, HIT, b"")
        elif decision is rules.Decision.STALE:
            self._serve(exchange, primary, entry, STALE, b"max-stale")
        elif decision is rules.Decision.STALE_WHILE_REVALIDATE:
            self._serve(exchange, primary, entry, STALE, b"stale-while-revalidate")
            self._refresh(exchange, site, route, primary, entry)
        elif self._origins().dark(route.pool) and self._covers(entry, route):
            # Asking first would make this user wait for every origin in turn.
            self._serve(exchange, primary, entry, STALE, b"no origin is healthy")
            self._refresh(exchange, site, route, primary, entry)
        else:
            return False
        return True

    def _answers(self, entry: Entry, exchange: Exchange) -> bool:
        """Whether the answer that was waited for is one to this request too, fresh for long or not.

        The origin gave it after the request had come: that is as good as asking again (RFC 9111 §4).
        """
        asked = get(exchange.headers, b"cache-control") or get(exchange.headers, b"pragma")
        return entry.response_time_s >= exchange.received_s and asked is None

    # --- fetching

    async def _lead(
        self, exchange: Exchange, site: Site, route: RouteSpec, primary: bytes, entry: Entry | None
    ) -> None:
        key = self._flight_key(primary, exchange)
        flight = _Flight()
        self._flights.setdefault(key, flight)
        stored = False
        try:
            stored = await self._fill(exchange, site, route, primary, entry)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.done.done():
                flight.done.set_result(stored)

    async def _fill(
        self, exchange: Exchange, site: Site, route: RouteSpec, primary: bytes, entry: Entry | None
    ) -> bool:
        began_s = time()
        epoch = self._store.purge_epoch
        headers = [f for f in exchange.headers if not f[0].startswith(b"if-") and f[0] != b"range"]
        if entry is not None:
            headers += rules.conditional_request(entry.headers)
        try:
            reader, _ = await self._origins().fetch(
                route.pool, b"GET" if entry else exchange.method, exchange.target, site.host, headers, None
            )
        except RemoteError as error:
            if entry is not None and self._covers(entry, route):
                self._serve(exchange, primary, entry, STALE, f"{error.status} {error.message}".encode())
                return True
            raise
        origin_ms = (reader.received_s - began_s) * 1000
        if entry is not None and reader.status == 304:
            await reader.read_all(0)
            fresh = self._revalidated(exchange, entry, reader, began_s)
            self._replace(primary, exchange, reader, fresh, epoch)
            self._serve(exchange, primary, fresh or entry, MISS, b"revalidated", origin_ms)
            return fresh is not None
        if entry is not None and reader.status >= 500 and self._covers(entry, route):
            reader.cancel()
            self._serve(exchange, primary, entry, STALE, b"origin answered %d" % reader.status)
            return True
        return await self._stream_and_keep(
            exchange, primary, reader, began_s, origin_ms, epoch, entry is not None
        )

    async def _stream_and_keep(
        self,
        exchange: Exchange,
        primary: bytes,
        reader: ResponseReader,
        began_s: float,
        origin_ms: float,
        epoch: int,
        was_stale: bool,
    ) -> bool:
        cc = parse_cache_control(get_all(reader.headers, b"cache-control"))
        method = b"GET" if was_stale else exchange.method  # what was really asked: see `_fill`
        verdict = rules.storability(method, exchange.headers, reader.status, reader.headers, cc)
        length = body_length(reader.headers)
        keep = verdict.store and method == b"GET" and (length is None or length <= MAX_OBJECT)
        if was_stale:
            self._forget_refused(primary, reader)
        forward: status.Forward = "stale" if was_stale else self._kind_of_miss(primary)
        cache_status = status.forward(
            self._pop, forward, fwd_status=reader.status, stored=keep, detail="" if keep else verdict.reason
        )
        fields = self._outcome.headers(exchange, reader.headers, MISS, cache_status, origin_ms)
        if not keep:
            await relay(reader, exchange.stream, fields)
            self._outcome.done(exchange, reader.status, length or 0, MISS)
            return False
        body = await self._copy(exchange, reader, fields, length)
        if body is None:
            return False
        entry = entry_from(
            method, exchange.headers, reader.status, reader.headers, body, began_s, reader.received_s
        )
        self._outcome.done(exchange, reader.status, len(body), MISS)
        return entry is not None and self._store.put(primary, exchange.headers, entry, epoch)

    async def _copy(
        self, exchange: Exchange, reader: ResponseReader, fields: Headers, length: int | None
    ) -> bytes | None:
        """Stream to the client and keep a copy; the fetch goes on when the client leaves."""
        stream = exchange.stream
        stream.start(reader.status, without_length(fields), length)
        parts: list[bytes] = []
        sent = size = 0
        try:
            while size <= MAX_OBJECT and (data := await reader.read()):
                size += len(data)
                parts.append(data)
                while sent < len(parts) and not stream.congested():
                    stream.write(parts[sent])
                    sent += 1
        except RemoteError:
            stream.abort()
            return None
        whole = size <= MAX_OBJECT
        if whole and sent == len(parts):
            stream.finish()
        else:  # a client that reads slowly keeps nobody else waiting for what is there
            task = asyncio.ensure_future(pass_on(stream, parts[sent:], None if whole else reader))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return b"".join(parts) if whole else None

    def _invalidate(self, exchange: Exchange, site: Site, response: Headers) -> None:
        """Forget what an unsafe request has changed, by either scheme (RFC 9111 §4.4)."""
        for scheme in (b"http", b"https"):
            self._store.purge(keys.primary_key(scheme, site.host, exchange.target))
            for related in keys.related_keys(scheme, site.host, exchange.target, response):
                self._store.purge(related)

    async def _pass(self, exchange: Exchange, site: Site, route: RouteSpec, why: bytes) -> ResponseReader:
        """Straight to the origin and back; the response, passed on already.

        A client that leaves before there is an answer takes the question back, unless it may have changed
        something.
        """
        began_s = time()
        task = asyncio.current_task()
        assert task is not None, "a coroutine that waits runs in a task"

        def take_back() -> None:
            task.cancel()

        if exchange.method not in _UNSAFE:
            exchange.stream.on_gone(take_back)
        reader, _ = await self._origins().fetch(
            route.pool, exchange.method, exchange.target, site.host, exchange.headers, exchange.body
        )
        origin_ms = (reader.received_s - began_s) * 1000
        cache_status = b"atoll-%b; %b; fwd-status=%d" % (self._pop.encode(), why, reader.status)
        fields = self._outcome.headers(exchange, reader.headers, BYPASS, cache_status, origin_ms)
        await relay(reader, exchange.stream, fields)
        self._outcome.done(exchange, reader.status, body_length(reader.headers) or 0, BYPASS)
        return reader

    def _refresh(
        self, exchange: Exchange, site: Site, route: RouteSpec, primary: bytes, entry: Entry
    ) -> None:
        key = self._flight_key(primary, exchange)
        if key in self._flights:
            return
        self._flights[key] = flight = _Flight()
        task = asyncio.ensure_future(self._refresh_behind(exchange, site, route, primary, entry, key, flight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh_behind(
        self,
        exchange: Exchange,
        site: Site,
        route: RouteSpec,
        primary: bytes,
        entry: Entry,
        key: bytes,
        flight: _Flight,
    ) -> None:
        began_s, epoch, stored = time(), self._store.purge_epoch, False
        headers = [f for f in exchange.headers if not f[0].startswith(b"if-") and f[0] != b"range"]
        headers += rules.conditional_request(entry.headers)
        try:
            reader, _ = await self._origins().fetch(
                route.pool, b"GET", exchange.target, site.host, headers, None
            )
            body = await reader.read_all(MAX_OBJECT)
            fresh: Entry | None
            if reader.status == 304:
                fresh = self._revalidated(exchange, entry, reader, began_s)
            else:
                fresh = entry_from(
                    b"GET", exchange.headers, reader.status, reader.headers, body, began_s, reader.received_s
                )
            stored = self._replace(primary, exchange, reader, fresh, epoch)
        except RemoteError:
            stored = False  # the stale response goes on being served for as long as its rules allow
        finally:
            del self._flights[key]
            if not flight.done.done():
                flight.done.set_result(stored)

    # --- storing and serving

    def _replace(
        self, primary: bytes, exchange: Exchange, reader: ResponseReader, entry: Entry | None, epoch: int
    ) -> bool:
        """Store what a revalidation brought; an error leaves what was stored, to stand in."""
        if entry is not None and reader.status < 500:
            return self._store.put(primary, exchange.headers, entry, epoch)
        self._forget_refused(primary, reader)
        return False

    def _forget_refused(self, primary: bytes, reader: ResponseReader) -> None:
        """Drop what is stored if the origin's last word is that nothing of it may be kept, by whomever.

        A client's own `no-store` or credentials keep only its own response out.
        """
        if reader.status >= 500 or reader.status == 429:
            return  # no word on what is stored
        cc = parse_cache_control(get_all(reader.headers, b"cache-control"))
        if not rules.storability(b"GET", [], reader.status, reader.headers, cc).store:
            self._store.purge(primary)

    def _kind_of_miss(self, primary: bytes) -> status.Forward:
        return "vary-miss" if primary in self._store else "uri-miss"

    def _revalidated(
        self, exchange: Exchange, entry: Entry, reader: ResponseReader, began_s: float
    ) -> Entry | None:
        fresh = reader.headers
        if get(fresh, b"date") is None:  # RFC 9110 §6.6.1: else it would be as old as what it renews
            fresh = [*fresh, (b"date", format_http_date(reader.received_s))]
        merged = rules.update_stored(entry.headers, fresh)
        return entry_from(
            b"GET", exchange.headers, entry.status, merged, entry.body, began_s, reader.received_s
        )

    def _serve(
        self,
        exchange: Exchange,
        primary: bytes,
        entry: Entry,
        verdict: bytes,
        detail: bytes,
        origin_ms: float = 0.0,
    ) -> None:
        if verdict is HIT and not detail and self._outcome.hit(exchange, primary, entry):
            return  # fresh, and for more than this one request
        age_s = rules.current_age_s(entry.initial_age_s, entry.response_time_s, time())
        ttl = int(entry.lifetime_s - age_s)
        if verdict is MISS:
            cache_status = status.forward(
                self._pop, "stale", fwd_status=304, stored=True, detail="revalidated"
            )
        else:
            cache_status = status.hit(self._pop, ttl, detail.decode("latin-1"))
        headers = [*entry.headers, (b"age", b"%d" % max(age_s, 0))]
        if rules.not_modified(exchange.headers, entry.headers, entry.status):
            headers = [*rules.headers_for_304(entry.headers), (b"age", b"%d" % max(age_s, 0))]
            code, body = 304, b""
        else:
            code, body = entry.status, entry.body
        fields = self._outcome.headers(exchange, headers, verdict, cache_status, origin_ms)
        if code == 304:
            exchange.stream.start(304, fields, None)
            exchange.stream.finish()
        else:
            exchange.stream.start(code, fields, len(body))
            if exchange.method != b"HEAD":
                exchange.stream.write(body)
            exchange.stream.finish()
        self._outcome.done(exchange, code, len(body), verdict)

    def _decide(self, entry: Entry | None, exchange: Exchange) -> rules.Decision:
        request_cc = parse_cache_control(get_all(exchange.headers, b"cache-control"))
        if entry is None:
            return rules.decide_absent(request_cc)
        age_s = rules.current_age_s(entry.initial_age_s, entry.response_time_s, time())
        return rules.decide(entry.cc, entry.lifetime_s, age_s, request_cc)

    def _covers(self, entry: Entry, route: RouteSpec) -> bool:
        age_s = rules.current_age_s(entry.initial_age_s, entry.response_time_s, time())
        return rules.usable_on_error(entry.cc, entry.lifetime_s, age_s, route.stale_if_error_s)

    def _flight_key(self, primary: bytes, exchange: Exchange) -> bytes:
        vary = self._store.vary_of(primary)
        return primary + b"\0" + exchange.method + b"\0" + keys.vary_key(vary, exchange.headers)


def entry_from(
    method: bytes,
    request: Headers,
    code: int,
    headers: Headers,
    body: bytes,
    request_time_s: float,
    response_time_s: float,
) -> Entry | None:
    """A storable entry of a response, or None when RFC 9111 §3 forbids storing it."""
    cc = parse_cache_control(get_all(headers, b"cache-control"))
    vary = parse_vary(get_all(headers, b"vary"))
    if vary is None or not rules.storability(method, request, code, headers, cc).store:
        return None
    date_s = rules.response_date_s(headers, response_time_s)
    kept = [f for f in rules.storable_headers(headers, cc) if f[0] not in (b"age", b"content-length")]
    if get(kept, b"date") is None:
        kept.append((b"date", format_http_date(date_s)))
    return Entry(
        status=code,
        headers=kept,
        body=body,
        request_time_s=request_time_s,
        response_time_s=response_time_s,
        date_s=date_s,
        lifetime_s=rules.freshness_lifetime_s(code, headers, cc, date_s),
        initial_age_s=rules.initial_age_s(headers, request_time_s, response_time_s, date_s),
        cc=cc,
        vary=vary,
    )
