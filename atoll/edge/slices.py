"""Large objects in slices: whoever wants a part of a film costs the origin that part and no more.

On a route with `slice_bytes` a request for a range is answered from slices of that size, each fetched, stored
and evicted by itself, each asked for once however many want it. The first one says how long the whole is and
which validator it has; a slice that says anything else later is of another representation, and the response
ends short rather than mix the two. An origin that does not know ranges is asked for the whole as usual.

The slices of a URL have a generation in their keys, which a note beside them tells: what drops the note drops
them all, however many there are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from time import time
from typing import Final, NamedTuple

from atoll.cache import ranges, rules, status
from atoll.cache.ranges import Span, Spec
from atoll.cache.store import Cache, Entry
from atoll.edge.answer import plan
from atoll.edge.behind import Behind
from atoll.edge.finish import HIT, MISS
from atoll.edge.flight import Flights
from atoll.edge.keeping import Asked, Draft, judge
from atoll.edge.serve import Server, age_s
from atoll.edge.visit import Visit
from atoll.errors import RemoteError
from atoll.http.fields import get_all

MIN_SLICE: Final = 64 * 1024
MAX_SLICE: Final = 16 * 1024 * 1024
_ROUNDS: Final = 3  # of waiting for others before a slice is fetched regardless


class Whole(NamedTuple):
    """What a slice says of the representation that it is a part of."""

    length: int
    validator: bytes


class Refusal(NamedTuple):
    """No slice came; whether there are none for anybody."""

    for_all: bool


Decide = Callable[[Entry | None, Visit], rules.Decision]


class Slicer:
    """Slices of one worker's routes; `decide` says what may be done with one that is stored."""

    def __init__(
        self, pop: str, store: Cache, behind: Behind, flights: Flights, server: Server, decide: Decide
    ) -> None:
        self._pop = pop
        self._store = store
        self._behind = behind
        self._flights = flights
        self._server = server
        self._decide = decide

    async def answer(self, visit: Visit) -> bool:
        """Answer a request for a range of a large object. False: it is one for the whole, or the usual way.

        Raises:
            RemoteError: nobody answered.
        """
        spec = _spec(visit)
        if spec is None or self._flights.marked(_key(visit, -1), time()):
            return False
        size = visit.route.slice_bytes
        first = await self._slice(visit, spec.first // size if spec.first is not None else 0)
        whole = _whole(first[0]) if not isinstance(first, Refusal) else None
        if isinstance(first, Refusal) or whole is None:
            if not isinstance(first, Refusal) or first.for_all:
                self._flights.mark(_key(visit, -1), time())
            return False
        entry, fetched = first
        request = visit.exchange.headers
        stored = ranges.whole_headers(entry.headers)
        planned = plan(b"GET", request, 200, stored, whole.length, b"")
        fields = [*planned.headers, (b"age", rules.age_value(age_s(entry)))]
        content = _Sliced(self, visit, whole, size, entry)
        if fetched:
            said = status.forward(self._pop, "partial", fwd_status=206, stored=True, detail="slice")
            self._server.planned(visit, planned, fields, content, MISS, said, entry.purge_seq)
        else:
            said = status.hit(self._pop, rules.ttl_s(entry.lifetime_s, age_s(entry)), "slice")
            self._server.planned(visit, planned, fields, content, HIT, said, entry.purge_seq)
        return True

    def forget(self, primary: bytes) -> None:
        """Drop every slice of a URL."""
        self._store.purge(_note(primary))

    async def slice(self, visit: Visit, index: int, whole: Whole) -> bytes:
        """The bytes of a slice.

        Raises:
            OSError: it is not to be had, or not of this representation any more.
        """
        try:
            found = await self._slice(visit, index)
        except RemoteError as error:
            raise OSError(error.message) from error
        if isinstance(found, Refusal) or _whole(found[0]) != whole:
            raise OSError("the representation has changed")
        body = found[0].body
        return body if isinstance(body, bytes) else body.read(0, len(body))

    async def _slice(self, visit: Visit, index: int) -> tuple[Entry, bool] | Refusal:
        """A slice, and whether it had to be fetched."""
        key = _key(visit, index)
        for _ in range(_ROUNDS):
            entry = self._fresh(visit, index)
            if entry is not None:
                return entry, False
            flight = self._flights.find(key, visit.exchange.headers, time())
            if flight is None:
                break
            await asyncio.shield(flight.settled)
        flight = self._flights.begin(key, visit.exchange.headers)
        try:
            fetched = await self._fetch(visit, index, key)
        finally:
            self._flights.land(flight)
        return fetched if isinstance(fetched, Refusal) else (fetched, True)

    def _fresh(self, visit: Visit, index: int) -> Entry | None:
        generation = self._generation(visit.primary)
        if generation is None:
            return None
        entry = self._store.get(_slice_key(visit, index, generation), visit.exchange.headers)
        return entry if self._decide(entry, visit) is rules.Decision.FRESH else None

    def _generation(self, primary: bytes) -> bytes | None:
        note = self._store.get(_note(primary), [])
        return note.body if note is not None and isinstance(note.body, bytes) else None

    async def _fetch(self, visit: Visit, index: int, key: bytes) -> Entry | Refusal:
        span = ranges.slice_span(index, visit.route.slice_bytes)
        began_s, epoch = time(), self._store.purge_epoch
        kept = [f for f in visit.exchange.headers if not f[0].startswith(b"if-") and f[0] != b"range"]
        wanted = (b"range", ranges.format_range([span]))
        fetched = await self._behind.fetch(visit, b"GET", [*kept, wanted], key)
        reader = fetched.reader
        tenant = visit.site.spec.tenant
        headers, seq, heuristics = visit.exchange.headers, fetched.purge_seq, visit.route.heuristics
        asked = Asked(b"GET", headers, visit.primary, tenant, began_s, seq, epoch, heuristics)
        draft = judge(asked, reader.status, reader.headers, reader.received_s, partial=True)
        part = ranges.part_of(reader.headers) if reader.status == 206 else None
        length = part.length if part is not None else None
        expected = ranges.slice_span(index, visit.route.slice_bytes, length)
        if part is None or length is None or Span(part.start or 0, part.end or 0) != expected:
            reader.cancel()
            return Refusal(reader.status < 400)  # an error, or no such range: that is one request's affair
        if not isinstance(draft, Draft):
            reader.cancel()
            return Refusal(draft.for_all)
        try:
            body = await reader.read_all(MAX_SLICE)
        except asyncio.CancelledError:  # it was for somebody who has left
            reader.cancel()
            raise
        if len(body) != expected.end - expected.start:
            return Refusal(True)
        entry = draft.entry(body)
        self._keep(visit, index, draft, entry, epoch)
        return entry

    def _keep(self, visit: Visit, index: int, draft: Draft, entry: Entry, epoch: int) -> None:
        noted = _note(visit.primary)
        if self._store.dropped_since(noted, epoch):
            return
        generation = self._generation(visit.primary)
        if generation is None:
            generation = secrets.token_hex(8).encode()
            note = draft._replace(vary=(), headers=[]).entry(generation)
            self._store.put(noted, [], note, epoch)
        self._store.put(_slice_key(visit, index, generation), visit.exchange.headers, entry, epoch)


class _Sliced:
    """Content that is put together from slices, the next one being fetched while one is sent."""

    def __init__(self, slicer: Slicer, visit: Visit, whole: Whole, size: int, first: Entry) -> None:
        self._first: Entry | None = first  # which is here already, stored or not
        self._slicer = slicer
        self._visit = visit
        self._whole = whole
        self._size = size

    async def blocks(self, span: Span) -> AsyncGenerator[bytes, None]:
        """See `atoll.edge.serving.Content`."""
        indexes = ranges.slices(span.start, span.end, self._size)
        ahead: asyncio.Task[bytes] | None = None
        try:
            for index in indexes:
                data = await (ahead or self._get(index))
                ahead = asyncio.ensure_future(self._get(index + 1)) if index + 1 in indexes else None
                offset = index * self._size
                yield data[max(0, span.start - offset) : span.end - offset]
        finally:
            if ahead is not None:
                ahead.add_done_callback(_seen)
                ahead.cancel()

    async def _get(self, index: int) -> bytes:
        first = self._first
        part = ranges.part_of(first.headers) if first is not None else None
        if first is not None and part is not None and part.start == index * self._size:
            self._first = None
            return first.body if isinstance(first.body, bytes) else first.body.read(0, len(first.body))
        return await self._slicer.slice(self._visit, index, self._whole)


def _spec(visit: Visit) -> Spec | None:
    """The one range that is asked for."""
    values = get_all(visit.exchange.headers, b"range")
    specs = ranges.parse_range(values[0]) if len(values) == 1 and visit.exchange.method == b"GET" else None
    return specs[0] if specs is not None and len(specs) == 1 else None


def _whole(entry: Entry) -> Whole | None:
    part = ranges.part_of(entry.headers)
    validator = rules.strong_validator(entry.headers)
    if part is None or part.length is None or validator is None:
        return None
    return Whole(part.length, validator)


def _seen(task: asyncio.Task[bytes]) -> None:
    """What was fetched ahead is not needed, and neither is why it failed."""
    if not task.cancelled():
        task.exception()


def _key(visit: Visit, index: int) -> bytes:
    """Which fetches are for the same slice, and who of several caches has it."""
    return b"%b\0slice\0%d\0%d" % (visit.primary, visit.route.slice_bytes, index)


def _slice_key(visit: Visit, index: int, generation: bytes) -> bytes:
    return b"%b\0%b" % (_key(visit, index), generation)


def _note(primary: bytes) -> bytes:
    return primary + b"\0slices"
