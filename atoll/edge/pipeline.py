"""The life of a request, step by step: accept, hot path, route, function or cache, finish.

`PublicApp` is what the engines of one public listener (http or https) call. Each step is a function; the
state they share (routing table, store, origins, counters) is the `Edge` of the worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic, time
from typing import Final

import msgspec

from atoll.cache import rules
from atoll.cache.eviction import MAX_FREQ
from atoll.cache.store import Cache, Entry
from atoll.config.geo import GeoDatabaseSpec
from atoll.config.spec import RouteSpec, Snapshot
from atoll.edge import pages
from atoll.edge.accept import accept_headers, forwarded
from atoll.edge.admission.amended import amended_fields
from atoll.edge.admission.gate import Gate
from atoll.edge.announce import Announcer
from atoll.edge.behind import Behind
from atoll.edge.bindings import BindingsApp
from atoll.edge.cached import CacheStep
from atoll.edge.clock import Clock
from atoll.edge.compress import Encodings, attach, check
from atoll.edge.finish import BYPASS, HIT, MISS, STALE, Stamp, finish_headers, stamped, without_verdict
from atoll.edge.flight import Flights
from atoll.edge.function import Question
from atoll.edge.geo import Geo, GeoTable
from atoll.edge.geo_database import GeoDatabase
from atoll.edge.hot import MAX_BODY, MAX_FRAMED, Hot, HotTable
from atoll.edge.lease import Lease
from atoll.edge.log import LEFT, AccessLog, connection_prefix, record_head, record_tail
from atoll.edge.origin import Origins
from atoll.edge.routing import HEALTH_HOST, Site, Table, compile_table
from atoll.edge.serve import Outcome
from atoll.edge.tier import Tier
from atoll.edge.tier_app import TierApp, TierOutcome
from atoll.edge.tunnel import Tunnels
from atoll.errors import RemoteError
from atoll.http.exchange import ConnectionInfo, Exchange, HotEntry, PreparedHead, RequestBody
from atoll.http.fields import Headers
from atoll.http.guard import Guard
from atoll.http.limits import Limits
from atoll.http.upstream import ResponseReader, UpstreamPool
from atoll.wire.messages import EdgeStats, PurgeUpdate

_log = logging.getLogger("atoll.edge")

_HOT_SHARE: Final = 4  # known requests take this part of the store's size beside it
# A request that carries one of these is never answered from prepared bytes.
_NOT_HOT: Final = frozenset((b"range", b"cache-control", b"pragma", b"authorization"))
_CONDITIONS: Final = frozenset((b"if-none-match", b"if-modified-since"))


class Counters(msgspec.Struct):
    """What `EdgeStats` reports."""

    requests: int = 0
    hits: int = 0
    misses: int = 0
    stale: int = 0
    bypass: int = 0
    errors: int = 0


class Edge:
    """The state of one edge worker."""

    def __init__(
        self, snapshot: Snapshot, log: AccessLog, store: Cache, clock: Clock, tier: Tier | None = None
    ) -> None:
        self.limits = Limits()
        self.store = store
        self.clock = clock
        self.log = log
        self.counters = Counters()
        self.apps: list[PublicApp] = []
        self.fit = True  # whether health checks pass
        self._pools: dict[str, UpstreamPool] = {}
        self._trace = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.lease = Lease(monotonic)
        self.announcer = Announcer()
        self.tier = tier
        self.gate = Gate(self)
        self.encodings = Encodings()
        self.tunnels = Tunnels(self)
        self.guard = Guard(self.limits)
        self._geo_database: GeoDatabase | None = None
        self._load(snapshot)
        self.origins = Origins(snapshot.pop, snapshot.network)
        self._flights = Flights()
        self._behind = Behind(lambda: self.origins, tier, store.log)
        self.cache = self.cache_step(self)
        self.bindings = BindingsApp(
            self.limits, store, self.cache_step(_Quiet()), lambda: self.table, lambda: self.origins
        )

    def purge(self, update: PurgeUpdate) -> int:
        """Apply what the network has purged; the number of the last purge applied."""
        if update.behind:
            self.store.behind(update.behind)
        for purge in update.purges:
            self.store.apply_purge(purge.seq, purge.selector)
        if update.lease_until_s:
            self.lease.renew(update.lease_until_s)
        return self.store.log.applied

    def tier_app(self) -> TierApp:
        """What answers other workers' caches."""
        return TierApp(self.limits, self.cache_step(TierOutcome()), lambda: self.table)

    def cache_step(self, outcome: Outcome) -> CacheStep:
        """A cache step that tells `outcome`; all share what is stored and what is on its way."""
        return CacheStep(
            self.pop, self.store, self._behind, outcome, self._flights, self.lease, self.announcer
        )

    def apply(self, snapshot: Snapshot) -> None:
        """Serve `snapshot` from now on. Requests under way end as they began."""
        same = self.origins.same(snapshot.network)
        origins = self.origins if same else Origins(snapshot.pop, snapshot.network, self.origins)
        self._load(snapshot)
        if not same:
            self.origins.close(origins)
            self.origins = origins
        for app in self.apps:
            app.renew()
        sockets = {runtime.socket for runtime in snapshot.functions}
        for path in [path for path in self._pools if path not in sockets]:
            self._pools.pop(path).close()

    def _load(self, snapshot: Snapshot) -> None:
        # Each may refuse: nothing is half applied.
        check(snapshot)
        table, admission = compile_table(snapshot), self.gate.compile(snapshot)
        database = self._database(snapshot.network.geo)
        geo = GeoTable(snapshot, database.find if database is not None else None)
        self.gate.adopt(admission)
        self._geo_database = database
        self.snapshot = snapshot
        self.pop = snapshot.pop.code
        self.pop_bytes = self.pop.encode()
        self.table: Table = table
        self.geo = geo
        if self.tier is not None:
            self.tier.apply(snapshot)

    def _database(self, spec: GeoDatabaseSpec | None) -> GeoDatabase | None:
        """The databases of `spec`: those there are, if they are the same."""
        if spec is None:
            return None
        known = self._geo_database
        return known if known is not None and known.spec == spec else GeoDatabase(spec)

    def drain(self) -> None:
        """Ask clients to go with their next response."""
        for app in self.apps:
            app.draining = True

    def stats(self, connections: int) -> EdgeStats:
        """Counters since the start."""
        return EdgeStats(
            seq=self.snapshot.seq,
            connections=connections,
            cache_bytes=self.store.bytes_used,
            cache_objects=len(self.store),
            origins_up=self.origins.up(),
            refused=dict(self.gate.refused),
            **msgspec.structs.asdict(self.counters),
        )

    # --- steps

    def route(self, exchange: Exchange) -> tuple[Site, RouteSpec] | None:
        """The site and route of a request, or None after it was answered here."""
        site = self.table.site(exchange.authority)
        if site is None:
            known = self.table.known_hosts() if self.snapshot.network.development else []
            page = pages.unknown_host_page(exchange.authority.decode("latin-1"), known, self.pop)
            self.answer(exchange, 404, pages.HTML, page, b"detail=unknown-host")
            return None
        route = site.route(exchange.target)
        if route is None:
            page = pages.error_page(404, "No route of this site leads here.", self.pop)
            self.answer(exchange, 404, pages.HTML, page, b"detail=no-route")
            return None
        return site, route

    def call_function(self, exchange: Exchange, site: Site, name: str, table: HotTable) -> None:
        """Let a function answer; the next request of the same bytes finds its way by itself."""
        try:
            question = self._question(exchange, site, name)
        except RemoteError as error:
            self.fail(exchange, error)
            return
        if exchange.raw is not None:
            table.add(exchange.raw, question)
        question.ask(exchange.conn, exchange.stream, exchange.body, exchange.received_s)

    def _question(self, exchange: Exchange, site: Site, name: str) -> Question:
        runtime = self.table.functions.get((site.spec.tenant, name))
        if runtime is None:
            raise RemoteError(f"function {name} is not ready here", 503)
        pool = self._pools.get(runtime.socket)
        if pool is None:
            pool = self._pools[runtime.socket] = UpstreamPool(runtime.socket)
        return Question(self, runtime, pool, exchange, site.host)

    def upgrade(self, exchange: Exchange, site: Site, route: RouteSpec) -> None:
        """Ask whoever answers this route to go on with another protocol."""

        async def ask(body: RequestBody) -> ResponseReader:
            if route.function:
                question = self._question(exchange, site, route.function)
                return await question.ask_upgrade(exchange.conn, exchange.stream, body, exchange.upgrade)
            fields = [*exchange.headers, *forwarded(exchange.conn, site.host)]
            reader, _ = await self.origins.fetch(
                route.pool, b"GET", exchange.target, site.host, fields, body, upgrade=exchange.upgrade
            )
            return reader

        self.start_task(exchange, self.tunnels.run(exchange, ask))

    def start_task(self, exchange: Exchange, work: Coroutine[None, None, None]) -> None:
        """A step that may have to wait."""
        task = asyncio.ensure_future(self._guarded(exchange, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, exchange: Exchange, work: Coroutine[None, None, None]) -> None:
        if exchange.stream.gone:  # within the turn in which it came: nobody has been asked yet
            work.close()
            self.done(exchange, LEFT, 0, BYPASS)
            return
        try:
            await work
        except RemoteError as error:
            self.fail(exchange, error)
        except asyncio.CancelledError:  # by its own client, who has left
            self.done(exchange, LEFT, 0, BYPASS)
            raise
        except Exception as error:  # noqa: BLE001 - one request's end
            self.fault(exchange, error)

    def fault(self, exchange: Exchange, error: Exception) -> None:
        """A defect of ours costs the request that met it, and says so in the log."""
        _log.error("request failed: %r %r", exchange.authority, exchange.target, exc_info=error)
        if exchange.stream.started:
            exchange.stream.abort()
        else:
            self.fail(exchange, RemoteError("internal error", 502))

    def fail(self, exchange: Exchange, error: RemoteError) -> None:
        """An error page that says why, as `Cache-Status` and `Server-Timing` do."""
        status = error.status if error.status in (502, 503, 504, 413, 400) else 502
        page = pages.error_page(status, error.message, self.pop)
        detail = _printable(error.message)
        self.counters.errors += 1
        exchange.trouble = detail
        self.answer(exchange, status, pages.HTML, page, b'fwd=miss; detail="%b"' % detail)

    def answer(self, exchange: Exchange, status: int, headers: Headers, body: bytes, why: bytes) -> None:
        """A response made here."""
        cache_status = b"atoll-%b; %b" % (self.pop_bytes, why)
        fields = self.headers(exchange, headers, BYPASS, cache_status, -1.0)
        exchange.stream.start(status, fields, len(body))
        sent = body if exchange.method != b"HEAD" else b""
        exchange.stream.write(sent)
        exchange.stream.finish()
        self.done(exchange, status, len(sent), BYPASS)

    # --- finish (the cache step's `Outcome`)

    def headers(
        self, exchange: Exchange, headers: Headers, verdict: bytes, cache_status: bytes, origin_ms: float
    ) -> Headers:
        """See `Outcome`."""
        stamp = self.stamp(time(), exchange.received_s, origin_ms)
        exchange.trace = stamp.trace
        if exchange.trouble:
            stamp = stamp._replace(timing=stamp.timing + b', origin;desc="%b"' % exchange.trouble)
        fields = finish_headers(without_verdict(headers), self.pop_bytes, verdict, cache_status)
        return [*stamped(fields, stamp), *exchange.conn.announced]

    def stamp(self, now_s: float, received_s: float, origin_ms: float = 0.0) -> Stamp:
        """What belongs to one response that leaves now."""
        self._trace += 1
        timing = b'edge;desc="%b";dur=%.2f' % (self.pop_bytes, (now_s - received_s) * 1000)
        if origin_ms > 0:
            timing += b", origin;dur=%.2f" % origin_ms
        trace = b"%b-%x-%x" % (self.pop_bytes, int(received_s * 1000), self._trace)
        self.clock.tick(now_s)
        return Stamp(self.clock.date, timing, trace)

    def done(self, exchange: Exchange, code: int, size: int, verdict: bytes) -> None:
        """See `Outcome`."""
        self.count(verdict)
        head = record_head(exchange.method, exchange.authority, exchange.target)
        took_ms = elapsed_ms(exchange)
        tail = record_tail(head, code, size, verdict, took_ms, exchange.trace, exchange.trouble)
        self.record(exchange.conn, tail)

    def again(self) -> None:
        """A request has arrived that does not come by here: a known one, or one answered at the door."""
        self.counters.requests += 1

    def count(self, verdict: bytes) -> None:
        """A request has been answered."""
        counters = self.counters
        if verdict == HIT:
            counters.hits += 1
        elif verdict == MISS:
            counters.misses += 1
        elif verdict == STALE:
            counters.stale += 1
        else:
            counters.bypass += 1

    def record(self, conn: ConnectionInfo, tail: bytes) -> None:
        """A line of the access log; `tail` is what `record_tail` made."""
        self.clock.tick(time())
        self.log.add(conn, tail)

    def hit(self, exchange: Exchange, primary: bytes, entry: Entry) -> bool:
        """See `Outcome`: prepare the response, and remember the request's bytes for next time."""
        table = exchange.notes
        if (
            not isinstance(table, HotTable)
            or b"x-forwarded-for" in entry.vary
            or exchange.method != b"GET"
            or exchange.raw is None
        ):
            return False
        most = MAX_BODY if exchange.stream.protocol == "HTTP/1.1" else MAX_FRAMED
        if entry.status != 200 or len(entry.body) > most or entry.partial is not None:
            return False
        conditional = False
        for name, _ in exchange.headers:
            if name in _NOT_HOT:
                return False
            conditional = conditional or name in _CONDITIONS
        if conditional and rules.not_modified(exchange.headers, entry.headers, entry.status):
            return False
        framed = exchange.stream.protocol != "HTTP/1.1"
        hot, head = self._prepare(exchange, entry, framed)
        table.add(exchange.raw, hot)
        now_s = time()
        if framed:
            prepared = hot.h2(now_s)
            if prepared is None:
                return False
            exchange.stream.respond(200, *prepared)
        else:
            exchange.stream.respond_prepared(head, hot.changing(now_s), hot.body)
        self.counters.hits += 1
        self.record(exchange.conn, hot.log_tail)
        return True

    def _prepare(self, exchange: Exchange, entry: Entry, h2: bool) -> tuple[Hot, PreparedHead]:
        kept = without_verdict(entry.headers)
        *fields, (_, member) = finish_headers(kept, self.pop_bytes, HIT, b"atoll-" + self.pop_bytes)
        fields = [*amended_fields(exchange.stream, fields), *exchange.conn.announced]
        record = record_head(b"GET", exchange.authority, exchange.target)
        tail = record_tail(record, entry.status, len(entry.body), HIT, 0.0)
        head = PreparedHead(entry.status, fields)
        return Hot(entry, member, head, tail, self.store.log, h2=h2), head

    # --- connections

    def geo_of(self, conn: ConnectionInfo) -> Geo:
        """Where the client is, looked up once a connection."""
        if not isinstance(conn.geo, Geo):
            conn.geo = self.geo.lookup(conn.client_ip)
            conn.log_prefix = connection_prefix(conn, conn.geo.city)
        return conn.geo


class _Quiet:
    """The outcome of a function's own fetches: their fields are the origin's, nobody logs them as visits."""

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


class PublicApp:
    """The `App` of one public listener."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.limits = edge.limits
        self.draining = False
        self.table = HotTable(edge.store.capacity // _HOT_SHARE)
        self._counters = edge.counters
        self._clock = edge.clock
        self._log = edge.log
        edge.apps.append(self)
        self.hot: Callable[[object], HotEntry | None] = self.table.get

    def renew(self) -> None:
        """Forget all known requests: what routed them has changed, for those under way too."""
        self.table = HotTable(self.table.budget)
        self.hot = self.table.get

    def count_hot(self, conn: ConnectionInfo, entry: HotEntry, now_s: float) -> None:
        """See `App.count_hot`."""
        assert isinstance(entry, Hot)
        counters = self._counters
        counters.requests += 1
        counters.hits += 1
        clock, node = self._clock, entry.node
        if not clock.from_s <= now_s < clock.until_s:
            clock.tick(now_s)
        self._log.add(conn, entry.log_tail)
        if node is not None and node.freq < MAX_FREQ:
            node.freq += 1  # a use, for eviction

    def opened(self, conn: ConnectionInfo) -> None:
        """See `App.opened`."""
        self.edge.geo_of(conn)

    def refused(self, conn: ConnectionInfo, status: int, reason: str) -> None:
        """See `App.refused`."""
        self._counters.requests += 1
        self._counters.errors += 1
        self._clock.tick(time())
        self._log.add(conn, record_tail(record_head(b"", b"", reason.encode()), status, 0, b"refused", 0.0))

    def handle(self, exchange: Exchange) -> None:
        """See `App.handle`: the pipeline."""
        try:
            self._handle(exchange)
        except Exception as error:  # noqa: BLE001 - one request's end
            self.edge.fault(exchange, error)

    def _handle(self, exchange: Exchange) -> None:
        edge = self.edge
        if exchange.authority == HEALTH_HOST:
            status, text = (200, b"ok\n") if edge.fit else (503, b"waits for its functions\n")
            exchange.stream.respond(status, [(b"content-type", b"text/plain")], text)
            return
        self._counters.requests += 1
        exchange.headers = accept_headers(exchange.headers, exchange.method)
        found = edge.route(exchange)
        if found is None:
            return
        site, route = found
        attach(exchange, route, edge.encodings)
        if site.spec.name not in edge.gate.sites:
            self._admitted(exchange, site, route)
        else:
            edge.gate.admit(exchange, site, route, partial(self._admitted, exchange, site, route))

    def _admitted(self, exchange: Exchange, site: Site, route: RouteSpec) -> None:
        """What follows once the route's rules, if it has any, have let the request pass."""
        edge = self.edge
        if exchange.upgrade:
            go_on = partial(edge.upgrade, exchange, site, route)
            if edge.tunnels.offer(exchange, route.upgrades, go_on):
                return
        if route.function:
            edge.call_function(exchange, site, route.function, self.table)
            return
        exchange.notes = self.table  # of the snapshot that routes it
        if edge.cache.lookup(exchange, site, route):
            return
        exchange.headers = [*exchange.headers, *forwarded(exchange.conn, site.host)]
        edge.start_task(exchange, edge.cache.run(exchange, site, route, exchange.conn.scheme))


def _printable(text: str) -> bytes:
    """`text` as it may stand between quotes in a structured field or a record."""
    plain = text.encode("ascii", "replace")
    return bytes(byte for byte in plain if 32 <= byte < 127 and byte not in b'"\\')


def elapsed_ms(exchange: Exchange) -> float:
    """Since the request was received."""
    return (time() - exchange.received_s) * 1000
