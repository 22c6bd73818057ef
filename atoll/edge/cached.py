"""The cache step: what is done with a request, given what is stored and what is on its way.

The rules are `atoll.cache.rules`'s, the bytes `atoll.cache.store`'s; fetching is `atoll.edge.fill`'s, writing
`atoll.edge.serve`'s. One request per key goes to the origin: others that come meanwhile are served from what
arrives, or go on alone when it is not for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from time import time
from typing import Final

from atoll.cache import keys, rules, status
from atoll.cache.purge import Verdict
from atoll.cache.store import Cache, Entry
from atoll.cache.validation import SAFE_METHODS
from atoll.config.spec import RouteSpec
from atoll.edge.announce import Announcer
from atoll.edge.behind import Behind
from atoll.edge.fill import Filler
from atoll.edge.finish import BYPASS, HIT, STALE
from atoll.edge.flight import Flight, Flights, for_anybody
from atoll.edge.keeping import Draft
from atoll.edge.lease import Lease
from atoll.edge.log import LEFT
from atoll.edge.routing import Site
from atoll.edge.serve import Outcome, Server, age_s, covered
from atoll.edge.slices import Slicer
from atoll.edge.tier import FROM_CLIENT
from atoll.edge.visit import READS, Visit
from atoll.errors import RemoteError
from atoll.http.exchange import Exchange
from atoll.http.fields import Headers, get
from atoll.http.upstream import ResponseReader

_ROUNDS: Final = 3  # of waiting for somebody who gets no answer, or one that is his alone
_NO_STORED: Final = "nothing that is stored may be used, and nobody else may be asked"


class CacheStep:
    """Cache lookups and fills of one worker, for one kind of asker; `flights` are the worker's."""

    def __init__(
        self,
        pop: str,
        store: Cache,
        behind: Behind,
        outcome: Outcome,
        flights: Flights,
        lease: Lease,
        announcer: Announcer,
    ) -> None:
        self._pop = pop
        self._store = store
        self._behind = behind
        self._outcome = outcome
        self._flights = flights
        self._lease = lease
        self._announcer = announcer
        self._server = Server(pop, outcome, lease)
        self._filler = Filler(pop, store, behind, flights, self._server)
        self._slicer = Slicer(pop, store, behind, flights, self._server, self._decide)

    def lookup(self, exchange: Exchange, site: Site, route: RouteSpec) -> bool:
        """Answer a fresh hit in place. False when `run` has to see to it."""
        if exchange.method not in READS or not route.cache:
            return False
        return self.answer_stored(exchange, site, route, exchange.conn.scheme, FROM_CLIENT)

    def answer_stored(
        self, exchange: Exchange, site: Site, route: RouteSpec, scheme: bytes, hop: int
    ) -> bool:
        """The same for a question by whomever."""
        visit = Visit(exchange, site, route, scheme, hop)
        entry = self._store.get(visit.primary, exchange.headers)
        if entry is None or self._decide(entry, visit) is not rules.Decision.FRESH:
            return False
        self._hit(visit, entry)
        return True

    def drop(self, keys: Collection[bytes]) -> None:
        """What is stored for these primary keys is invalid (RFC 9111 §4.4), here and behind."""
        for key in keys:
            self._slicer.forget(key)
            self._store.purge(key)
        self._behind.changed(keys)

    async def run(
        self, exchange: Exchange, site: Site, route: RouteSpec, scheme: bytes, hop: int = FROM_CLIENT
    ) -> None:
        """Everything that may have to wait.

        Raises:
            RemoteError: no origin answered and nothing stored may be served in its place.
        """
        visit = Visit(exchange, site, route, scheme, hop)
        if exchange.method not in READS:
            await self._change(visit)
        elif not route.cache:
            await self._pass(visit)
        else:
            await self._cached(visit)

    async def _cached(self, visit: Visit) -> None:
        key = self._flight_key(visit)
        rounds = 0
        while True:
            entry = self._store.get(visit.primary, visit.exchange.headers)
            if self._answered(visit, entry):
                return
            if visit.route.slice_bytes and await self._slicer.answer(visit):
                return
            flight = self._flights.find(key, visit.exchange.headers, time())
            if flight is None:
                break
            await asyncio.shield(flight.settled)
            if self._joined(visit, flight):
                return
            if self._takes_any(visit) and self._overtaken(visit, flight):
                self._flights.land(flight)  # for those who come from now on
                continue
            if flight.silent is not None and flight.is_by(visit.exchange.headers):
                self._filler.failed(visit, entry, flight.silent)
                return
            rounds += flight.in_vain
            if not flight.stored and not (flight.leaves_hope(visit.exchange.headers) and rounds < _ROUNDS):
                break
        if visit.exchange.stream.gone:  # who has left while waiting asks for nothing any more
            self._outcome.done(visit.exchange, LEFT, 0, BYPASS)
            return
        await self._lead(visit, entry, key)

    def _answered(self, visit: Visit, entry: Entry | None) -> bool:
        """Answer from what is stored, if that may be.

        Raises:
            RemoteError: nothing but what is stored may be used, and there is nothing.
        """
        decision = self._decide(entry, visit)
        if decision is rules.Decision.ONLY_IF_CACHED:
            raise RemoteError(_NO_STORED, 504)
        if entry is None or decision in (rules.Decision.MISS, rules.Decision.MUST_REVALIDATE):
            if entry is None or not (self._dark(visit) and self._server.covers(entry, visit)):
                return False
            # Asking first would make this user wait for every origin in turn.
            self._server.stored(visit, entry, STALE, self._server.hit_status(entry, "no origin is healthy"))
            self._refresh(visit, entry)
        elif decision is rules.Decision.FRESH:
            self._hit(visit, entry)
        elif decision is rules.Decision.STALE:
            self._server.stored(visit, entry, STALE, self._server.hit_status(entry, "max-stale"))
        else:
            self._server.stored(visit, entry, STALE, self._server.hit_status(entry, "stale-while-revalidate"))
            self._refresh(visit, entry)
        return True

    def _hit(self, visit: Visit, entry: Entry) -> None:
        """A fresh hit; one that is about to expire is renewed behind where the route says so."""
        ahead_s = visit.route.refresh_ahead_s
        if ahead_s and entry.partial is None and entry.lifetime_s - age_s(entry) <= ahead_s:
            self._server.hit(visit, entry, "refresh-ahead")
            self._refresh(visit, entry)
            return
        route = visit.route
        plain = route.strategy == "edge-first" and route.consistency in ("eventual", "merged") and not ahead_s
        self._server.hit(visit, entry, repeats=plain)

    def _joined(self, visit: Visit, flight: Flight) -> bool:
        """Answer from a fetch that somebody else has begun, if its response is for this request too."""
        exchange = visit.exchange
        draft, spool = flight.draft, flight.spool
        if draft is not None and spool is not None and spool.kept and not spool.failed:
            if keys.vary_key(draft.vary, exchange.headers) != flight.selection:
                return False
            if not self._takes_any(visit) or self._overtaken(visit, flight):
                return False
            if not self._is_his(visit, flight, draft):
                return False
            cache_status = status.forward(self._pop, "uri-miss", fwd_status=draft.status, collapsed=True)
            fields = [*draft.headers, (b"age", rules.age_value(age_s(draft)))]
            self._server.arriving(visit, draft.status, fields, spool, HIT, cache_status, draft.purge_seq)
            return True
        if not flight.stored:
            return False
        found = self._store.get(visit.primary, exchange.headers)
        if found is None or not self._recent(visit, found) or not self._takes_any(visit):
            return False
        if found.partial is not None and not covered(visit.exchange, found):
            return False
        if not self._is_his(visit, flight, found):
            return False
        cache_status = status.forward(self._pop, "uri-miss", fwd_status=found.status, collapsed=True)
        self._server.stored(visit, found, HIT, cache_status)
        return True

    def _overtaken(self, visit: Visit, flight: Flight) -> bool:
        """Whether what is arriving is none for who asks now: purged, changed or grown old since."""
        draft = flight.draft
        if draft is None:
            return False
        if self._store.dropped_since(visit.primary, flight.began_epoch):
            return True
        if self._store.log.verdict(draft.place, draft.purge_seq) is not Verdict.KEEP:
            return True
        if self._recent(visit, draft):
            return False
        return self._decide(draft.entry(b""), visit) is not rules.Decision.FRESH

    def _recent(self, visit: Visit, response: Draft | Entry) -> bool:
        """Whether the origin gave a response after the request had come, or was asked then if that counts."""
        exact = self._validates_each(visit)
        given_s = response.request_time_s if exact else response.response_time_s
        return given_s >= visit.exchange.received_s

    def _is_his(self, visit: Visit, flight: Flight, response: Draft | Entry) -> bool:
        """Whether a fetch's response may be for the one who asks; if not, nobody waits for the next one."""
        if for_anybody(response.cc, response.lifetime_s) or flight.is_by(visit.exchange.headers):
            return True
        self._flights.mark(flight.key, time())
        return False

    def _takes_any(self, visit: Visit) -> bool:
        """Whether what the origin gives now is good enough, fresh for long or not.

        The origin gave it after the request had come: that is as good as asking again (RFC 9111 §4).
        """
        headers = visit.exchange.headers
        return get(headers, b"cache-control") is None and get(headers, b"pragma") is None

    # --- fetching

    async def _lead(self, visit: Visit, entry: Entry | None, key: bytes) -> None:
        flight = self._flights.begin(key, visit.exchange.headers)
        try:
            await self._filler.fill(visit, entry, flight)
        finally:
            self._flights.land(flight)

    def _refresh(self, visit: Visit, entry: Entry) -> None:
        key = self._flight_key(visit)
        if not self._flights.under_way(key):
            flight = self._flights.begin(key, visit.exchange.headers)
            self._server.behind(self._refresh_behind(visit, entry, flight))

    async def _refresh_behind(self, visit: Visit, entry: Entry, flight: Flight) -> None:
        try:
            await self._filler.refresh(visit, entry, flight)
        finally:
            self._flights.land(flight)

    async def _change(self, visit: Visit) -> None:
        """A method that may change something: to the origin, and then what is stored is invalid (§4.4)."""
        exchange = visit.exchange
        began_s, purge_seq = time(), self._store.log.applied
        reader = await self._forward(visit)
        cache_status = status.forward(self._pop, "method", fwd_status=reader.status)
        if rules.invalidated_by(exchange.method, reader.status):
            urls = self._invalidate(visit, reader.headers)
            if visit.route.consistency in ("strict", "critical"):
                tenant = visit.site.spec.tenant
                detail = await self._announcer.changed(tenant, urls, reader.headers)
                cache_status = status.forward(self._pop, "method", fwd_status=reader.status, detail=detail)
            if exchange.method == b"POST" and await self._filler.keep_post(
                visit, reader, began_s, purge_seq, cache_status
            ):
                return
        await self._server.pass_on(visit, reader, BYPASS, cache_status, (reader.received_s - began_s) * 1000)

    def _invalidate(self, visit: Visit, response: Headers) -> set[bytes]:
        """Forget what an unsafe request has changed, by either scheme (RFC 9111 §4.4); the keys of it."""
        target = visit.exchange.target
        dropped: set[bytes] = set()
        for scheme in (b"http", b"https"):
            primary = keys.primary_key(scheme, visit.site.host, target)
            dropped |= {primary, *keys.related_keys(scheme, visit.site.host, target, response)}
        self.drop(dropped)
        return dropped

    async def _pass(self, visit: Visit) -> None:
        """Straight to the origin and back."""
        began_s = time()
        reader = await self._forward(visit)
        cache_status = status.forward(self._pop, "bypass", fwd_status=reader.status)
        await self._server.pass_on(visit, reader, BYPASS, cache_status, (reader.received_s - began_s) * 1000)

    async def _forward(self, visit: Visit) -> ResponseReader:
        """The origin's response to the request as it is.

        A client that leaves before there is an answer takes the question back, unless it may have changed
        something.
        """
        exchange = visit.exchange
        task = asyncio.current_task()
        assert task is not None, "a coroutine that waits runs in a task"

        def take_back() -> None:
            task.cancel()

        if exchange.method in SAFE_METHODS:
            exchange.stream.on_gone(take_back)
        reader, _ = await self._behind.origins().fetch(
            visit.route.pool,
            exchange.method,
            exchange.target,
            visit.site.host,
            exchange.headers,
            exchange.body,
            inform=exchange.stream.inform,
        )
        return reader

    # --- deciding

    def _decide(self, entry: Entry | None, visit: Visit) -> rules.Decision:
        route = visit.route
        decision = self._by_rules(entry, visit)
        if route.strategy == "edge-only" and decision is not rules.Decision.FRESH:
            return rules.Decision.ONLY_IF_CACHED
        if entry is None or decision is rules.Decision.ONLY_IF_CACHED:
            return decision
        if route.strategy == "origin-first" or self._validates_each(visit):
            return rules.Decision.MUST_REVALIDATE
        if entry.partial is not None and decision is rules.Decision.STALE_WHILE_REVALIDATE:
            return rules.Decision.MUST_REVALIDATE  # with the range that is asked for
        return decision

    def _validates_each(self, visit: Visit) -> bool:
        """Whether each request is to be validated by the origin."""
        consistency = visit.route.consistency
        return consistency == "critical" or (consistency == "strict" and not self._lease.holds())

    def _by_rules(self, entry: Entry | None, visit: Visit) -> rules.Decision:
        if entry is None or (entry.partial is not None and not covered(visit.exchange, entry)):
            return rules.decide_absent(visit.cc)
        age = age_s(entry)
        if entry.softened:  # its freshness ended with a purge that was found out now
            entry.softened = False
            entry.lifetime_s = min(entry.lifetime_s, age)
        return rules.decide(
            entry.cc,
            entry.lifetime_s,
            age,
            visit.cc,
            honour_client=visit.route.honour_client,
            route_stale_while_revalidate_s=visit.route.stale_while_revalidate_s,
        )

    def _dark(self, visit: Visit) -> bool:
        return self._behind.origins().dark(visit.route.pool)

    def _flight_key(self, visit: Visit) -> bytes:
        """Requests with the same key are likely to have the same answer."""
        headers = visit.exchange.headers
        vary = self._store.vary_of(visit.primary)
        wanted = get(headers, b"range") or b""
        return b"\0".join((visit.primary, visit.exchange.method, wanted, keys.vary_key(vary, headers)))
