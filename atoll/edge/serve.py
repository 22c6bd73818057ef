"""The cache step's answers: from what is stored, from what is arriving, or passed on as they come."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from time import time
from typing import Any, Final, Protocol

from atoll.cache import rules, status
from atoll.cache.ranges import Span
from atoll.cache.store import Entry
from atoll.edge import serving
from atoll.edge.answer import Plan, plan
from atoll.edge.compress import sibling
from atoll.edge.finish import HIT, MISS, STALE
from atoll.edge.keeping import Draft
from atoll.edge.lease import Lease
from atoll.edge.relay import body_length, relay, without_length
from atoll.edge.serving import Arriving, Content, InFile, InMemory, InParts
from atoll.edge.spool import Spool
from atoll.edge.tier import FROM_CLIENT, PURGE_SEQ
from atoll.edge.visit import Visit
from atoll.http.exchange import Exchange
from atoll.http.fields import Headers, get
from atoll.http.upstream import ResponseReader

_AT_ONCE: Final = serving.BLOCK
"""Bytes of content that are written in one go."""


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


class Server:
    """Answers of one worker."""

    def __init__(self, pop: str, outcome: Outcome, lease: Lease) -> None:
        self._lease = lease
        self._pop = pop
        self._outcome = outcome
        self._tasks: set[asyncio.Task[None]] = set()

    def behind(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def hit(self, visit: Visit, entry: Entry, detail: str = "", *, repeats: bool = False) -> None:
        """Answer from what is stored; `repeats`: the next such request gets the same while it is fresh."""
        entry = sibling(visit.exchange, entry)
        if repeats and not detail and self._outcome.hit(visit.exchange, visit.primary, entry):
            return
        verdict = HIT if entry.lifetime_s > age_s(entry) else STALE
        self.stored(visit, entry, verdict, self.hit_status(entry, detail))

    def covers(self, entry: Entry, visit: Visit) -> bool:
        """Whether `entry` may stand in for an origin that fails (RFC 5861 §4)."""
        consistency = visit.route.consistency
        if consistency == "critical" or entry.partial is not None:
            return False
        if consistency == "strict" and not self._lease.holds():
            return False  # it may have been purged
        allowed_s = visit.route.stale_if_error_s
        return rules.usable_on_error(entry.cc, entry.lifetime_s, age_s(entry), allowed_s, visit.cc)

    def hit_status(self, entry: Entry, detail: str = "") -> bytes:
        """`Cache-Status` of an answer from `entry`."""
        return status.hit(self._pop, rules.ttl_s(entry.lifetime_s, age_s(entry)), detail)

    def stored(
        self, visit: Visit, entry: Entry, verdict: bytes, cache_status: bytes, origin_ms: float = 0.0
    ) -> None:
        """Answer from an entry."""
        exchange = visit.exchange
        entry = sibling(exchange, entry)
        length = entry.partial.length if entry.partial is not None else len(entry.body)
        planned = plan(
            exchange.method, exchange.headers, entry.status, entry.headers, length, boundary(exchange)
        )
        fields = [*planned.headers, (b"age", rules.age_value(age_s(entry))), *_seq(visit, entry.purge_seq)]
        headers = self._outcome.headers(exchange, fields, verdict, cache_status, origin_ms)
        body = entry.body
        if isinstance(body, bytes) and entry.partial is None and (planned.length or 0) <= _AT_ONCE:
            serving.at_once(exchange.stream, planned, headers, body)
            self._outcome.done(exchange, planned.status, planned.sent, verdict)
            return
        content: Content
        if entry.partial is not None:
            content = InParts(entry.partial)
        else:
            content = InMemory(body) if isinstance(body, bytes) else InFile(body)
        self.behind(self._stream(exchange, planned, headers, content, verdict))

    def arriving(
        self,
        visit: Visit,
        code: int,
        fields: Headers,
        spool: Spool,
        verdict: bytes,
        cache_status: bytes,
        purge_seq: int,
        origin_ms: float = 0.0,
    ) -> None:
        """Answer from a response that has begun to arrive; `fields` are its own."""
        exchange = visit.exchange
        planned = plan(
            exchange.method, exchange.headers, code, without_length(fields), spool.length, boundary(exchange)
        )
        kept = [*planned.headers, *_seq(visit, purge_seq)]
        headers = self._outcome.headers(exchange, kept, verdict, cache_status, origin_ms)
        self.behind(self._stream(exchange, planned, headers, Arriving(spool), verdict))

    def whole(
        self,
        visit: Visit,
        reader: ResponseReader,
        body: bytes,
        verdict: bytes,
        cache_status: bytes,
        purge_seq: int,
        origin_ms: float,
    ) -> None:
        """Answer from a response that has arrived as a whole."""
        exchange = visit.exchange
        length = len(body)
        if exchange.method == b"HEAD" and reader.head_only:
            length = body_length(reader.headers) or 0
        fields = without_length(reader.headers)
        planned = plan(exchange.method, exchange.headers, reader.status, fields, length, boundary(exchange))
        kept = [*planned.headers, *_seq(visit, purge_seq)]
        headers = self._outcome.headers(exchange, kept, verdict, cache_status, origin_ms)
        if (planned.length or 0) > _AT_ONCE:
            self.behind(self._stream(exchange, planned, headers, InMemory(body), verdict))
            return
        serving.at_once(exchange.stream, planned, headers, body)
        self._outcome.done(exchange, planned.status, planned.sent, verdict)

    def planned(
        self,
        visit: Visit,
        planned: Plan,
        fields: Headers,
        content: Content,
        verdict: bytes,
        cache_status: bytes,
        purge_seq: int,
    ) -> None:
        """Answer as `planned`, with `fields`, from any content."""
        exchange = visit.exchange
        kept = [*fields, *_seq(visit, purge_seq)]
        headers = self._outcome.headers(exchange, kept, verdict, cache_status, 0.0)
        self.behind(self._stream(exchange, planned, headers, content, verdict))

    async def pass_on(
        self, visit: Visit, reader: ResponseReader, verdict: bytes, cache_status: bytes, origin_ms: float
    ) -> None:
        """Answer with a response that is not stored."""
        exchange = visit.exchange
        fields = self._outcome.headers(exchange, reader.headers, verdict, cache_status, origin_ms)
        sent = await relay(reader, exchange.stream, fields)
        self._outcome.done(exchange, reader.status, sent, verdict)

    async def judged(
        self,
        visit: Visit,
        reader: ResponseReader,
        cache_status: bytes,
        purge_seq: int,
        origin_ms: float,
        body: bytes | None = None,
    ) -> None:
        """Answer with what came for a read and is not stored, `body` being its content if that is here.

        The client's own conditions have been kept from the origin, so they are judged here.
        """
        exchange = visit.exchange
        reader.headers = [*reader.headers, *_seq(visit, purge_seq)]
        request, fields = exchange.headers, without_length(reader.headers)
        condition = rules.preconditions(exchange.method, request, fields, reader.status)
        if condition is rules.Precondition.PROCEED and body is None:
            await self.pass_on(visit, reader, MISS, cache_status, origin_ms)
            return
        planned = Plan(reader.status, fields, len(body or b""), (body,) if body else ())
        if condition is not rules.Precondition.PROCEED:
            reader.cancel()
            planned = plan(exchange.method, request, reader.status, fields, None, b"")
        headers = self._outcome.headers(exchange, planned.headers, MISS, cache_status, origin_ms)
        self.behind(self._stream(exchange, planned, headers, InMemory(b""), MISS))

    async def _stream(
        self, exchange: Exchange, planned: Plan, headers: Headers, content: Content, verdict: bytes
    ) -> None:
        try:
            size = await serving.as_it_comes(exchange.stream, planned, headers, content)
        finally:
            if isinstance(content, Arriving):
                content.leave()
        self._outcome.done(exchange, planned.status, size, verdict)


def _seq(visit: Visit, purge_seq: int) -> Headers:
    """What a peer that stores the answer has to know: which purges it had heard of."""
    return [] if visit.hop == FROM_CLIENT else [(PURGE_SEQ, b"%d" % purge_seq)]


def covered(exchange: Exchange, entry: Entry) -> bool:
    """Whether the parts that are stored of a response answer a request."""
    partial = entry.partial
    if partial is None or partial.length is None:
        return False
    planned = plan(exchange.method, exchange.headers, 200, entry.headers, partial.length, boundary(exchange))
    spans = [piece for piece in planned.pieces if isinstance(piece, Span)]
    return bool(spans) and all(partial.covers(*span) for span in spans)


def boundary(exchange: Exchange) -> bytes:
    """A boundary for several ranges, if that is what is asked for."""
    wanted = get(exchange.headers, b"range")
    return secrets.token_hex(16).encode() if wanted is not None and b"," in wanted else b""


def age_s(response: Entry | Draft) -> float:
    """How old a stored response is now, or one that is arriving (RFC 9111 §4.2.3)."""
    return rules.current_age_s(response.initial_age_s, response.response_time_s, time())
