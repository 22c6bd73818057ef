"""Compressing responses: stored ones once for each coding, others as they pass.

**Stored.** `sibling` gives the encoded sibling of an entry, which lives as long as the entry does.
Small content is compressed on the spot with a fast level, and again behind with a better one; larger
content only behind, in a thread, while requests are served as they pass. So a hit compresses nothing.

**Passing.** `attach` wraps a request's stream. Content whose length is not known, and server-sent events,
leave with every piece that comes in; nothing waits for a block to fill.

Bounds: encoded siblings take `BUDGET` bytes together; content above `MAX_KEPT` is only ever compressed as it
passes. A stream that is compressed takes the compressor's window, up to about 1 MB with br. Nothing is ever
decompressed here, so there is no bomb to guard against.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, cast

import brotli  # type: ignore[import-untyped]
import zstandard

from atoll.cache.eviction import Node
from atoll.cache.store import Dependant, Entry, Key
from atoll.config.spec import RouteSpec, Snapshot
from atoll.errors import AtollError
from atoll.http.exchange import Exchange, PreparedHead, Stream
from atoll.http.fields import Headers, combined, get, get_all, parse_cache_control
from atoll.http.negotiate import (
    Coding,
    Terms,
    encoded_fields,
    may_be_encoded,
    preferred,
    terms_of,
    varied,
    varies,
    weakened,
)

FAST: Final[dict[Coding, int]] = {b"br": 4, b"zstd": 3, b"gzip": 4}
"""Levels for one response: 25 to 85 MB/s of text here, 3.5 to 3.7 times smaller."""

BETTER: Final[dict[Coding, int]] = {b"br": 9, b"zstd": 12, b"gzip": 6}
"""Levels for what is kept: 4 to 10 MB/s in a thread, 3.7 to 4.3 times smaller."""

BUDGET: Final = 64 * 1024 * 1024  # bytes of encoded siblings and what they were made of
AT_ONCE: Final = 32 * 1024  # bytes that are compressed on the spot: about a millisecond
MAX_KEPT: Final = 4 * 1024 * 1024
MAX_PENDING: Final = 64  # compressions that wait for the thread
_WORTH: Final = 0.95  # what does not get smaller than this is left as it is
_WINDOW_BITS: Final = 18  # of a passing stream: 256 KiB, however many there are
_EVENTS: Final = b"text/event-stream"
_GZIP: Final = 16 + zlib.MAX_WBITS


class _Compressor(Protocol):
    def feed(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...

    def finish(self) -> bytes: ...


class Encoder:
    """One piece of content on its way into a coding. After `finish` it is of no more use."""

    __slots__ = ("_compressor",)

    def __init__(self, coding: Coding, level: int, *, window_bits: int = _WINDOW_BITS) -> None:
        self._compressor: _Compressor = _MAKERS[coding](level, window_bits)

    def feed(self, data: bytes) -> bytes:
        """What has become of `data`, as far as anything has yet."""
        return self._compressor.feed(data)

    def flush(self) -> bytes:
        """Everything fed until now; the client can decode all of it."""
        return self._compressor.flush()

    def finish(self) -> bytes:
        """The rest."""
        return self._compressor.finish()


class _Brotli:
    def __init__(self, level: int, window_bits: int) -> None:
        self._inner = brotli.Compressor(quality=level, lgwin=window_bits)

    def feed(self, data: bytes) -> bytes:
        return cast(bytes, self._inner.process(data))

    def flush(self) -> bytes:
        return cast(bytes, self._inner.flush())

    def finish(self) -> bytes:
        return cast(bytes, self._inner.finish())


class _Zstandard:
    def __init__(self, level: int, window_bits: int) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(level, window_log=window_bits)
        self._inner = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._inner.compress(data)

    def flush(self) -> bytes:
        return self._inner.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._inner.flush()


class _Gzip:
    def __init__(self, level: int, _: int) -> None:
        self._inner = zlib.compressobj(level, zlib.DEFLATED, _GZIP)

    def feed(self, data: bytes) -> bytes:
        return self._inner.compress(data)

    def flush(self) -> bytes:
        return self._inner.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._inner.flush()


_MAKERS: Final[dict[Coding, Any]] = {b"br": _Brotli, b"zstd": _Zstandard, b"gzip": _Gzip}


def encode(coding: Coding, level: int, data: bytes) -> bytes:
    """`data` as a whole. The interpreter is free for others meanwhile."""
    # RFC 9659 §3: no zstd window above 8 MiB; content that is kept is smaller than that.
    bits = max(_WINDOW_BITS, min(len(data).bit_length(), 22))
    encoder = Encoder(coding, level, window_bits=bits)
    return encoder.feed(data) + encoder.finish()


def check(snapshot: Snapshot) -> None:
    """Look at every route's compression.

    Raises:
        AtollError: a spec names what there is not.
    """
    for site in snapshot.network.sites:
        for route in site.routes:
            if route.compression is not None:
                try:
                    terms_of(route.compression)
                except AtollError as error:
                    error.where = f"sites.{site.name}.routes[{route.path}].{error.where}"
                    raise


# --- stored responses


class EncodedEntry(Entry):
    """An entry with its content in a coding (or with `Vary` alone). It lives and ages as its source does."""

    __slots__ = ("_retired", "_source")

    def __init__(self, source: Entry, headers: Headers, body: bytes) -> None:
        self._source = source
        self._retired = False
        super().__init__(
            status=source.status,
            headers=headers,
            body=body,
            request_time_s=source.request_time_s,
            response_time_s=source.response_time_s,
            date_s=source.date_s,
            lifetime_s=source.lifetime_s,
            initial_age_s=source.initial_age_s,
            cc=source.cc,
            vary=source.vary,
            place=source.place,
            purge_seq=source.purge_seq,
        )

    @property
    def cost(self) -> int:
        """Bytes that are held because of it, its source included: that may have left the store."""
        return self.size + self._source.size

    def tell(self, dependant: Dependant) -> None:
        """It leaves when its source does."""
        self._source.tell(dependant)

    def untell(self, dependant: Dependant) -> None:
        """See `tell`."""
        self._source.untell(dependant)

    def retire(self) -> None:
        """Another one has taken its place."""
        self._retired = True

    @property
    def live(self) -> bool:
        """Whether the source is, and nothing better has been made of it."""
        return self._source.live and not self._retired

    @live.setter
    def live(self, value: bool) -> None:
        """It is the source that lives or not."""

    @property
    def node(self) -> Node[Key] | None:
        """Uses count for the source."""
        return self._source.node

    @node.setter
    def node(self, value: Node[Key] | None) -> None:
        """See `node`."""

    @property
    def softened(self) -> bool:
        """As the source."""
        return self._source.softened

    @softened.setter
    def softened(self, value: bool) -> None:
        """See `softened`."""

    @property
    def lifetime_s(self) -> float:
        """As the source's: it may be cut short."""
        return self._source.lifetime_s

    @lifetime_s.setter
    def lifetime_s(self, value: float) -> None:
        """See `lifetime_s`."""


def encoded_entry(entry: Entry, coding: Coding, body: bytes) -> EncodedEntry:
    """`entry` as it is served in `coding`, in which its content is `body`."""
    return EncodedEntry(entry, encoded_fields(entry.headers, coding), body)


class Encodings:
    """Encoded siblings of one worker's entries, the least recently used of which goes first."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._bytes = 0
        self._siblings: OrderedDict[tuple[int, bytes], tuple[Entry, EncodedEntry]] = OrderedDict()
        self._pending: dict[tuple[int, bytes], asyncio.Task[None]] = {}
        self._thread: ThreadPoolExecutor | None = None

    @property
    def bytes_used(self) -> int:
        """Of siblings and what they were made of."""
        return self._bytes

    def pick(self, terms: Terms, coding: Coding | None, entry: Entry) -> Entry | None:
        """What answers in place of `entry`: its sibling in `coding`, or itself where there is nothing to do.

        None where there should be a sibling and is none yet, or there never will be, as it is too large.
        """
        if isinstance(entry, EncodedEntry) or not may_be_encoded(entry.status) or entry.partial is not None:
            return entry
        headers, body = entry.headers, entry.body
        stored, kind = get(headers, b"content-encoding"), get(headers, b"content-type")
        if not varies(terms, stored, kind, len(body), entry.cc):
            return entry
        if not isinstance(body, bytes):
            return None
        if coding is None:
            return self._kept(entry, b"") or self._keep(
                entry, b"", EncodedEntry(entry, varied(headers), body)
            )
        found = self._kept(entry, coding)
        if found is None and len(body) <= AT_ONCE:
            found = self._made(entry, coding, encode(coding, FAST[coding], body), body)
            self._behind(entry, coding, body)
        elif found is None and len(body) <= MAX_KEPT:
            self._behind(entry, coding, body)
        return found

    def close(self) -> None:
        """Stop making any."""
        for task in self._pending.values():
            task.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _kept(self, entry: Entry, coding: bytes) -> EncodedEntry | None:
        key = (id(entry), coding)
        found = self._siblings.get(key)
        if found is None or found[0] is not entry:
            return None
        self._siblings.move_to_end(key)
        return found[1]

    def _made(self, entry: Entry, coding: Coding, encoded: bytes, body: bytes) -> EncodedEntry:
        if len(encoded) > len(body) * _WORTH:
            return self._keep(entry, coding, EncodedEntry(entry, varied(entry.headers), body))
        return self._keep(entry, coding, encoded_entry(entry, coding, encoded))

    def _keep(self, entry: Entry, coding: bytes, sibling: EncodedEntry) -> EncodedEntry:
        key = (id(entry), coding)
        before = self._siblings.pop(key, None)
        if before is not None:
            before[1].retire()
            self._bytes -= before[1].cost
        self._siblings[key] = (entry, sibling)  # which keeps the entry, so that its id stays its own
        self._bytes += sibling.cost
        self._drop_dead()
        return sibling

    def _drop_dead(self) -> None:
        """The oldest, while they are dead or there is too much."""
        while self._siblings:
            key, (source, sibling) = next(iter(self._siblings.items()))
            if (source.live or len(self._siblings) == 1) and self._bytes <= self._budget:
                return
            del self._siblings[key]
            self._bytes -= sibling.cost

    def _behind(self, entry: Entry, coding: Coding, body: bytes) -> None:
        key = (id(entry), coding)
        if key in self._pending or len(self._pending) >= MAX_PENDING:
            return
        task = self._pending[key] = asyncio.ensure_future(self._better(entry, coding, body))
        task.add_done_callback(lambda _: self._pending.pop(key, None))

    async def _better(self, entry: Entry, coding: Coding, body: bytes) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="compress")
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(self._thread, encode, coding, BETTER[coding], body)
        known = self._kept(entry, coding)
        if entry.live and (known is None or len(encoded) < len(known.body)):
            self._made(entry, coding, encoded, body)


# --- passing responses


def wanted(terms: Terms, exchange: Exchange) -> Coding | None:
    """The coding that a request would take; None for one that asks for ranges or forbids changes."""
    headers = exchange.headers
    if get(headers, b"range") is not None:
        return None
    if parse_cache_control(get_all(headers, b"cache-control")).no_transform:
        return None
    return preferred(terms.codings, combined(headers, b"accept-encoding"))


def attach(exchange: Exchange, route: RouteSpec, encodings: Encodings) -> None:
    """Have whatever answers `exchange` compressed, if its route says so. Before the request goes further."""
    if route.compression is not None:
        terms = terms_of(route.compression)
        exchange.stream = cast(Stream, _CompressedStream(exchange, terms, encodings))
        if route.function:
            exchange.raw = None  # a request that is repeated for a function goes past this


def sibling(exchange: Exchange, entry: Entry) -> Entry:
    """What of a stored response answers `exchange`: itself, or a sibling in a coding.

    While there is no sibling the stream compresses what passes, and the next such request is to ask again.
    """
    pick: Callable[[Entry], Entry | None] | None = getattr(exchange.stream, "pick", None)
    found = entry if pick is None else pick(entry)
    if found is None:
        exchange.raw = None
        return entry
    return found


class _CompressedStream:
    """A stream that compresses what may be compressed of what passes through it."""

    __slots__ = ("_accepted", "_eager", "_encoder", "_encodings", "_head", "_stream", "_terms")

    def __init__(self, exchange: Exchange, terms: Terms, encodings: Encodings) -> None:
        self._stream = exchange.stream
        self._encodings = encodings
        self._terms = terms
        self._head = exchange.method == b"HEAD"
        self._accepted = wanted(terms, exchange)
        self._encoder: Encoder | None = None
        self._eager = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def pick(self, entry: Entry) -> Entry | None:
        """See `sibling`."""
        return self._encodings.pick(self._terms, self._accepted, entry)

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """See `Stream`."""
        fields, coding = self._judge(status, headers, length)
        if coding is None:
            self._stream.start(status, fields, length)
            return
        if not self._head:
            self._encoder = Encoder(coding, FAST[coding])
            events = (get(headers, b"content-type") or b"").lower().startswith(_EVENTS)
            self._eager = length is None or events
        self._stream.start(status, fields, None)

    def write(self, data: bytes) -> None:
        """See `Stream`."""
        encoder = self._encoder
        if encoder is None:
            self._stream.write(data)
            return
        encoded = encoder.feed(data)
        if self._eager:
            encoded += encoder.flush()
        if encoded:
            self._stream.write(encoded)

    def finish(self, trailers: Headers | None = None) -> None:
        """See `Stream`."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            self._stream.write(encoder.finish())
        self._stream.finish(trailers)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See `Stream`."""
        fields, coding = self._judge(status, headers, len(body))
        if coding is not None:
            encoded = encode(coding, FAST[coding], body)
            self._stream.respond(status, fields, encoded)
        else:
            self._stream.respond(status, fields, body)

    def respond_prepared(self, head: PreparedHead, more: Headers, body: bytes) -> None:
        """See `Stream`."""
        self.respond(head.status, [*head.fields, *more], body)

    def _judge(self, status: int, headers: Headers, length: int | None) -> tuple[Headers, Coding | None]:
        """The fields to send, and the coding that they say."""
        if status == 304:
            # Which bytes the client has is not known here; a weak tag is true of all.
            return (varied(weakened(headers)) if self._accepted is not None else headers), None
        if not may_be_encoded(status):
            return headers, None
        stored, kind = get(headers, b"content-encoding"), get(headers, b"content-type")
        cc = parse_cache_control(get_all(headers, b"cache-control"))
        if not varies(self._terms, stored, kind, length, cc):
            return headers, None
        if self._accepted is None or not self._terms.uncached:
            return varied(headers), None
        return encoded_fields(headers, self._accepted), self._accepted
