"""Filling the cache: asking what is behind, validating, keeping what arrives while it is passed on.

What is asked for here is asked for everybody: a client's own conditions stay here and are answered from what
comes. A range is asked for as it is when nothing is stored, and parts are put together as they come.
"""

from __future__ import annotations

from time import time
from typing import Final

from atoll.cache import ranges, rules, status
from atoll.cache.keys import vary_key
from atoll.cache.purge import Verdict
from atoll.cache.ranges import ContentRange
from atoll.cache.store import Cache, ContentWriter, Entry
from atoll.edge.behind import Behind
from atoll.edge.finish import BYPASS, MISS, STALE
from atoll.edge.flight import Flight, Flights, for_anybody
from atoll.edge.keeping import Asked, Draft, Refused, judge, renewed, stale_from
from atoll.edge.relay import body_length
from atoll.edge.serve import Server, age_s, covered
from atoll.edge.spool import MEMORY, Spool
from atoll.edge.visit import Visit
from atoll.errors import RemoteError
from atoll.http.fields import Headers, get
from atoll.http.upstream import ResponseReader

MAX_OBJECT: Final = 16 * 1024 * 1024
PATIENCE_S: Final = 10.0
"""How long content of unknown length is fetched for the cache alone, when everybody who asked has left."""

MAX_CANDIDATES: Final = 8
"""Stored responses of one URL that a validation asks about."""

_OF_THE_REQUEST: Final = frozenset(
    (400, 406, 408, 411, 412, 413, 414, 415, 416, 417, 421, 422, 425, 426, 428, 429, 431)
)
"""Statuses that say what is wrong with one request, and nothing of what others would get."""


class Filler:
    """Fetches of one worker."""

    def __init__(self, pop: str, store: Cache, behind: Behind, flights: Flights, server: Server) -> None:
        self._pop = pop
        self._store = store
        self._behind = behind
        self._flights = flights
        self._server = server

    async def fill(self, visit: Visit, entry: Entry | None, flight: Flight) -> None:
        """Answer `visit` from what is behind; `entry` is stored but may not be served as it is.

        Raises:
            RemoteError: nobody answered and nothing stored may be served in their place.
        """
        whole = entry if entry is not None and entry.partial is None else None
        wanted = [] if whole is not None else self._range_fields(visit, entry)
        candidates = [] if wanted else self._candidates(visit, whole)
        condition = rules.conditional_request(*(found.headers for found in candidates))
        asked, reader = await self._ask(visit, condition + wanted, whole, flight)
        if reader is not None and reader.status == 304 and condition:
            if await self._validated(visit, asked, whole, candidates, reader, flight):
                return
            asked, reader = await self._ask(visit, [], whole, flight)
        if reader is None:
            return
        if whole is not None and reader.status in rules.ERROR_STATUS and self._stands_in(visit, asked, whole):
            reader.cancel()
            self._server.stored(visit, whole, STALE, self._stale(whole, f"origin answered {reader.status}"))
        elif reader.status == 206 and wanted:
            await self._take_range(visit, asked, entry, reader, flight)
        elif visit.exchange.method == b"HEAD":
            await self._take_head(visit, asked, whole, reader)
        else:
            await self._take(visit, asked, reader, flight, whole)

    async def refresh(self, visit: Visit, entry: Entry, flight: Flight) -> None:
        """Renew `entry`, a whole response, while somebody is served from it."""
        assert entry.partial is None, "parts are completed, and renewed with that"
        candidates = self._candidates(visit, entry)
        condition = rules.conditional_request(*(found.headers for found in candidates))
        try:
            asked = self._asked(visit, b"GET")
            fetched = await self._behind.fetch(visit, b"GET", self._request(visit, condition))
            asked = asked._replace(purge_seq=fetched.purge_seq)
            reader = fetched.reader
            if reader.status == 304:
                await reader.read_all(0)
                flight.stored = self._renew(visit, asked, entry, candidates, reader) is not None
                return
        except RemoteError:
            return  # the stale response goes on being served for as long as its rules allow
        draft = self._judge(asked, reader)
        if isinstance(draft, Refused):
            reader.cancel()
            self._forget_refused(visit, reader, draft)
        elif reader.status >= 500:
            reader.cancel()
        elif (body := reader.buffered()) is not None:
            self._keep(visit, asked, draft.entry(body), flight)
        else:
            await self._copy(
                visit, asked, reader, draft, self._begin(visit, asked, reader, draft, flight), flight
            )

    async def keep_post(
        self, visit: Visit, reader: ResponseReader, began_s: float, purge_seq: int, cache_status: bytes
    ) -> bool:
        """Store a POST's response for later GETs and answer with it, if it is for them (RFC 9110 §9.3.3).

        What had been stored has been dropped before. `purge_seq` is the last purge applied when it was sent.
        """
        asked = self._asked(visit, b"POST")._replace(request_time_s=began_s, purge_seq=purge_seq)
        length = body_length(reader.headers)
        draft = judge(asked, reader.status, reader.headers, reader.received_s)
        if isinstance(draft, Refused) or length is None or length > MAX_OBJECT:
            return False
        body = await reader.read_all(MAX_OBJECT)
        self._store.put(visit.primary, visit.exchange.headers, draft.entry(body), asked.began_epoch)
        since_ms = self._since_ms(asked, reader)
        self._server.whole(visit, reader, body, BYPASS, cache_status, asked.purge_seq, since_ms)
        return True

    # --- asking

    async def _ask(
        self, visit: Visit, condition: Headers, whole: Entry | None, flight: Flight
    ) -> tuple[Asked, ResponseReader | None]:
        """A response's head; None when a stale one has been served in its place."""
        asked = self._asked(visit, visit.exchange.method)
        try:
            fetched = await self._behind.fetch(visit, asked.method, self._request(visit, condition))
        except RemoteError as error:
            flight.in_vain = True
            flight.silent = error if error.status == 504 else None
            self._fall_back(visit, asked, whole, error)
            return asked, None
        return asked._replace(purge_seq=fetched.purge_seq), fetched.reader

    def failed(self, visit: Visit, entry: Entry | None, error: RemoteError) -> None:
        """Answer one who has waited for another's question, which nobody has answered.

        Raises:
            RemoteError: nothing that is stored may be served.
        """
        whole = entry if entry is not None and entry.partial is None else None
        self._fall_back(visit, self._asked(visit, visit.exchange.method), whole, error)

    def _fall_back(self, visit: Visit, asked: Asked, whole: Entry | None, error: RemoteError) -> None:
        if whole is None:
            raise error
        if whole.cc.must_revalidate or whole.cc.proxy_revalidate:  # RFC 9111 §5.2.2.2
            raise RemoteError(error.message, 504) from error
        if not self._stands_in(visit, asked, whole):
            raise error
        self._server.stored(visit, whole, STALE, self._stale(whole, f"{error.status} {error.message}"))

    def _stands_in(self, visit: Visit, asked: Asked, whole: Entry) -> bool:
        """Whether `whole` may stand in for an origin that fails, and has not been dropped meanwhile."""
        if self._store.dropped_since(visit.primary, asked.began_epoch):
            return False
        gone = self._store.log.verdict(whole.place, whole.purge_seq) is Verdict.GONE
        return not gone and self._server.covers(whole, visit)

    def _asked(self, visit: Visit, method: bytes) -> Asked:
        tenant = visit.site.spec.tenant
        epoch, heuristics = self._store.purge_epoch, visit.route.heuristics
        return Asked(method, visit.exchange.headers, visit.primary, tenant, time(), 0, epoch, heuristics)

    def _request(self, visit: Visit, condition: Headers) -> Headers:
        """A client's fields without its own conditions, and with ours."""
        kept = [f for f in visit.exchange.headers if not f[0].startswith(b"if-") and f[0] != b"range"]
        return kept + condition

    def _candidates(self, visit: Visit, whole: Entry | None) -> list[Entry]:
        """The stored responses that might be what is wanted, the one that the request selects first."""
        if visit.exchange.method == b"HEAD" and whole is None:
            return []
        others = [
            entry
            for entry in self._store.variants(visit.primary)
            if entry is not whole and entry.etag is not None and entry.partial is None and entry.status == 200
        ]
        chosen = ([whole] if whole is not None else []) + others
        return chosen[:MAX_CANDIDATES]

    def _range_fields(self, visit: Visit, entry: Entry | None) -> Headers:
        """The range to ask for, or nothing when the whole is to be fetched."""
        exchange = visit.exchange
        value = get(exchange.headers, b"range")
        specs = ranges.parse_range(value) if value is not None and exchange.method == b"GET" else None
        if specs is None or len(specs) != 1:
            return []
        if entry is not None and entry.partial is not None and entry.partial.length is not None:
            wanted = ranges.requested(b"GET", exchange.headers, entry.headers, 200, entry.partial.length)
            if not isinstance(wanted, list):
                return []
            missing = ranges.completing_request(entry.partial, *wanted[0])
            if missing:
                return missing
        return [f for f in exchange.headers if f[0] in (b"range", b"if-range")]

    # --- what comes

    async def _validated(
        self,
        visit: Visit,
        asked: Asked,
        whole: Entry | None,
        candidates: list[Entry],
        reader: ResponseReader,
        flight: Flight,
    ) -> bool:
        """A 304. False when it is about nothing that was asked about."""
        await reader.read_all(0)
        fresh = self._renew(visit, asked, whole, candidates, reader)
        if fresh is None and whole is None:
            return False
        flight.stored = fresh is not None
        cache_status = status.forward(
            self._pop,
            self._forward(visit, whole),
            fwd_status=304,
            stored=flight.stored,
            detail="revalidated",
        )
        entry = fresh or whole
        assert entry is not None, "one of them was there"
        self._server.stored(visit, entry, MISS, cache_status, self._since_ms(asked, reader))
        return True

    def _renew(
        self,
        visit: Visit,
        asked: Asked,
        whole: Entry | None,
        candidates: list[Entry],
        reader: ResponseReader,
    ) -> Entry | None:
        """Renew what a 304 is about; the renewed response that answers the request, None if there is none."""
        picked = rules.select_for_update([entry.headers for entry in candidates], reader.headers)
        chosen: Entry | None = None
        for index in picked:
            before = candidates[index]
            draft = renewed(asked, before, reader.headers, reader.received_s)
            if isinstance(draft, Refused):
                self._forget_refused(visit, reader, draft)
                continue
            entry = draft.entry(before.body)
            if draft.vary == before.vary:
                self._store.renew(visit.primary, before.variant, entry, asked.began_epoch)
            elif not self._store.dropped_since(visit.primary, asked.began_epoch):
                self._store.purge(visit.primary)  # what was stored by another Vary selects wrongly now
                self._store.put(visit.primary, visit.exchange.headers, entry)
            if chosen is None and before is not whole:  # the origin chose it, whatever it was stored for
                entry = draft.entry(before.body)
                self._store.put(visit.primary, visit.exchange.headers, entry, asked.began_epoch)
            chosen = chosen or entry
        return chosen

    async def _take(
        self, visit: Visit, asked: Asked, reader: ResponseReader, flight: Flight, before: Entry | None
    ) -> None:
        """A whole response: kept if it may be, while it is passed on."""
        draft = self._judge(asked, reader)
        forward = self._forward(visit, before)
        since_ms = self._since_ms(asked, reader)
        if isinstance(draft, Refused):
            self._refused(visit, draft, reader, flight)
            cache_status = status.forward(self._pop, forward, fwd_status=reader.status, detail=draft.reason)
            await self._server.judged(visit, reader, cache_status, asked.purge_seq, since_ms)
            return
        if for_anybody(draft.cc, draft.lifetime_s):
            self._flights.unmark(flight.key)
        cache_status = status.forward(
            self._pop,
            forward,
            fwd_status=reader.status,
            stored=True,
            ttl_s=rules.ttl_s(draft.lifetime_s, draft.initial_age_s),
        )
        body = reader.buffered()
        if body is None:
            spool = self._begin(visit, asked, reader, draft, flight)
            self._server.arriving(
                visit, draft.status, reader.headers, spool, MISS, cache_status, draft.purge_seq, since_ms
            )
            await self._copy(visit, asked, reader, draft, spool, flight)
        else:
            self._keep(visit, asked, draft.entry(body), flight)
            self._server.whole(visit, reader, body, MISS, cache_status, draft.purge_seq, since_ms)

    def _judge(self, asked: Asked, reader: ResponseReader) -> Draft | Refused:
        """What is to be stored of a whole response."""
        length = body_length(reader.headers)
        if length is not None and length > self._store.max_object:
            return Refused("too large", True)
        return judge(asked, reader.status, reader.headers, reader.received_s)

    def _begin(
        self, visit: Visit, asked: Asked, reader: ResponseReader, draft: Draft, flight: Flight
    ) -> Spool:
        """Where content that is still arriving is going to be; others may read it from there."""
        length = body_length(reader.headers)
        file = self._file(visit, draft, length) if length is not None and length > MEMORY else None
        spool = Spool(length, file)
        selection = vary_key(draft.vary, visit.exchange.headers)
        flight.share(draft, spool, selection, asked.began_epoch)
        return spool

    def _file(self, visit: Visit, draft: Draft, length: int | None) -> ContentWriter | None:
        return self._store.writer(visit.primary, visit.exchange.headers, draft.entry(b""), length)

    async def _copy(
        self, visit: Visit, asked: Asked, reader: ResponseReader, draft: Draft, spool: Spool, flight: Flight
    ) -> None:
        """Read all of a response for those who read the spool, and store it if it is whole."""
        arrived, read_s = False, time()
        try:
            while data := await reader.read():
                spool.append(data)
                read_s = time() if spool.wanted or spool.length is not None else read_s
                if time() - read_s > PATIENCE_S:  # it may have no end
                    reader.cancel()
                    return
                self._make_room(visit, draft, spool)
                if not spool.kept:
                    self._flights.land(flight)
                    await spool.room()
                    if not spool.wanted:
                        reader.cancel()
                        return
            arrived = True
        except RemoteError:
            return
        finally:
            if not arrived:
                spool.fail()  # whatever it was: nobody waits for more
            if spool.file is not None and not (spool.kept and arrived):
                spool.file.abandon()
        spool.end()
        if spool.kept and spool.file is not None:
            flight.stored = spool.file.commit(asked.began_epoch)
        elif spool.kept:
            self._keep(visit, asked, draft.entry(spool.whole()), flight)

    def _make_room(self, visit: Visit, draft: Draft, spool: Spool) -> None:
        """Content that turns out to be long goes to a file, or is given up."""
        if spool.kept and spool.file is None and spool.size > MEMORY and spool.length is None:
            file = self._file(visit, draft, None)
            if file is not None:
                spool.spill(file)
        if spool.kept and spool.size > self._store.max_object:  # longer than anybody said
            spool.give_up()

    async def _take_range(
        self, visit: Visit, asked: Asked, entry: Entry | None, reader: ResponseReader, flight: Flight
    ) -> None:
        """A 206: what was missing of what is stored, or what the client asked for."""
        if entry is not None and not self._joins(asked, entry, reader):
            reader.cancel()
            own = [f for f in visit.exchange.headers if f[0] in (b"range", b"if-range")]
            asked, again = await self._ask(visit, own, None, flight)
            assert again is not None, "nothing else may be served"
            if again.status != 206:
                cache_status = status.forward(self._pop, "partial", fwd_status=again.status)
                since_ms = self._since_ms(asked, again)
                await self._server.judged(visit, again, cache_status, asked.purge_seq, since_ms)
                return
            entry, reader = None, again
        await self._take_part(visit, asked, entry, reader, flight)

    def _joins(self, asked: Asked, entry: Entry, reader: ResponseReader) -> bool:
        """Whether the missing part has come of what is stored in parts, and may be kept with the others."""
        draft = judge(asked, 206, reader.headers, reader.received_s, partial=True)
        length = body_length(reader.headers)
        fits = isinstance(draft, Draft) and length is not None and length <= MAX_OBJECT
        return (
            fits
            and entry.partial is not None
            and ranges.combinable(entry.headers, entry.partial, reader.headers)
        )

    async def _take_part(
        self, visit: Visit, asked: Asked, entry: Entry | None, reader: ResponseReader, flight: Flight
    ) -> None:
        """A 206: kept with other parts of the same representation, or passed on."""
        length = body_length(reader.headers)
        draft = judge(asked, 206, reader.headers, reader.received_s, partial=True)
        since_ms = self._since_ms(asked, reader)
        before = entry.partial if entry is not None else None
        forward: status.Forward = "partial" if before is not None else self._forward(visit, None)
        joins = (
            entry is not None
            and before is not None
            and ranges.combinable(entry.headers, before, reader.headers)
        )
        together = before if joins else ranges.begin(reader.headers)
        part = ranges.part_of(reader.headers)
        if isinstance(draft, Refused) or together is None or part is None or not _whole_part(part, length):
            detail = draft.reason if isinstance(draft, Refused) else "partial"
            cache_status = status.forward(self._pop, forward, fwd_status=206, detail=detail)
            await self._server.judged(visit, reader, cache_status, asked.purge_seq, since_ms)
            return
        body = await reader.read_all(MAX_OBJECT)
        assert part.start is not None, "`part_of` gives only parts that say where they are"
        together = together.add(part.start, body)
        headers = draft.headers
        if joins:
            assert entry is not None
            headers = ranges.combined_headers(entry.headers, draft.headers)
        whole = ranges.whole_headers(headers)
        kept = draft._replace(status=200, headers=whole)
        if together.complete() and together.length is not None:
            stored = kept.entry(b"".join(together.pieces(0, together.length)))
        else:
            stored = kept.entry(b"", together)
        if stored.size <= MAX_OBJECT:
            self._keep(visit, asked, stored, flight)
        cache_status = status.forward(self._pop, forward, fwd_status=206, stored=flight.stored)
        if stored.partial is None or covered(visit.exchange, stored):
            self._server.stored(visit, stored, MISS, cache_status, since_ms)
        else:  # less than was asked for, or by a validator that only the origin trusts
            await self._server.judged(visit, reader, cache_status, asked.purge_seq, since_ms, body)

    async def _take_head(
        self, visit: Visit, asked: Asked, before: Entry | None, reader: ResponseReader
    ) -> None:
        """A response to HEAD: it says something about the one that a GET would have got (RFC 9111 §4.3.5)."""
        if before is not None:
            effect = rules.head_update(before.headers, len(before.body), reader.status, reader.headers)
            after: Entry | None = None
            if effect is rules.HeadEffect.INVALIDATE:
                after = stale_from(before, age_s(before))
            elif isinstance(effect, list):
                draft = judge(asked._replace(method=b"GET"), before.status, effect, reader.received_s)
                after = draft.entry(before.body) if isinstance(draft, Draft) else None
            if after is not None:
                self._store.renew(visit.primary, before.variant, after, asked.began_epoch)
        forward = self._forward(visit, before)
        cache_status = status.forward(self._pop, forward, fwd_status=reader.status)
        since_ms = self._since_ms(asked, reader)
        await self._server.judged(visit, reader, cache_status, asked.purge_seq, since_ms)

    # --- what becomes of it

    def _keep(self, visit: Visit, asked: Asked, entry: Entry, flight: Flight) -> None:
        flight.stored = self._store.put(visit.primary, visit.exchange.headers, entry, asked.began_epoch)

    def _refused(self, visit: Visit, refused: Refused, reader: ResponseReader, flight: Flight) -> None:
        """Nothing of a response is kept: nobody needs to wait for the next one, if that is its nature."""
        flight.whose = refused.whose
        if (
            refused.for_all or refused.whose
        ) and reader.status < 500:  # an origin in trouble is not what it is
            self._flights.mark(flight.key, time(), refused.whose)
        flight.in_vain = not refused.for_all
        self._flights.land(flight)
        self._forget_refused(visit, reader, refused)

    def _forget_refused(self, visit: Visit, reader: ResponseReader, refused: Refused) -> None:
        """Drop what is stored if the origin's last word is that nothing of it may be kept, by whomever.

        A client's own `no-store` or credentials keep only its own response out.
        """
        if reader.status >= 500 or reader.status in _OF_THE_REQUEST or not refused.for_all:
            return  # no word on what is stored
        self._store.purge(visit.primary)

    def _forward(self, visit: Visit, before: Entry | None) -> status.Forward:
        """Why the request goes on (RFC 9211 §2.2)."""
        if before is not None:
            fresh = not before.cc.no_cache and before.lifetime_s > age_s(before)
            return "request" if fresh else "stale"
        return "vary-miss" if visit.primary in self._store else "uri-miss"

    def _stale(self, entry: Entry, detail: str) -> bytes:
        return self._server.hit_status(entry, detail)

    def _since_ms(self, asked: Asked, reader: ResponseReader) -> float:
        return (reader.received_s - asked.request_time_s) * 1000


def _whole_part(part: ContentRange, length: int | None) -> bool:
    """Whether a 206 with content of `length` bytes is as long as it says, of a known whole, and kept."""
    if part.start is None or part.end is None or part.length is None:
        return False
    return part.end - part.start == length and length <= MAX_OBJECT
