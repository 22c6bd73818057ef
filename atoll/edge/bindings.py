"""The side of the edge that function hosts talk to: outbound `fetch` and the Cache API.

workerd sends both here, over a unix socket only this user can open, with `Atoll-Service` injected by its
configuration (a function cannot forge it: the prelude and this module drop what comes with a request).
`Atoll-Backend` and `Atoll-Timeout-Ms` are what the prelude made of `fetch`'s `{backend, timeout}`; they are
consumed here and go no further.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import time
from typing import Final
from urllib.parse import urlsplit

import httptools

from atoll.cache import keys, rules
from atoll.cache.store import Cache, Entry
from atoll.edge.accept import accept_headers, forwarded
from atoll.edge.cached import CacheStep
from atoll.edge.keeping import Asked, Draft, judge
from atoll.edge.origin import Origins
from atoll.edge.relay import relay
from atoll.edge.routing import Table
from atoll.edge.serve import age_s
from atoll.errors import RemoteError
from atoll.http.exchange import ConnectionInfo, Exchange, HotEntry, RequestBody
from atoll.http.fields import Headers, get
from atoll.http.limits import Limits

_log = logging.getLogger("atoll.edge")

MAX_OBJECT: Final = 16 * 1024 * 1024
_DEFAULT_TIMEOUT_S: Final = 30.0
_MISS: Final[Headers] = [(b"cf-cache-status", b"MISS")]


class BindingsApp:
    """The `App` behind `bindings.sock`."""

    def __init__(
        self,
        limits: Limits,
        store: Cache,
        cache: CacheStep,
        table: Callable[[], Table],
        origins: Callable[[], Origins],
    ) -> None:
        self.limits = limits
        self.draining = False
        self._store = store
        self._cache = cache
        self._table = table
        self._origins = origins
        self._tasks: set[asyncio.Task[None]] = set()

    def opened(self, conn: ConnectionInfo) -> None:
        """Function hosts are nowhere in particular."""

    def hot(self, key: object) -> HotEntry | None:
        """Nothing is hot here: every call has its function's name in it."""
        return None

    def count_hot(self, conn: ConnectionInfo, entry: HotEntry, now_s: float) -> None:
        """See `hot`."""

    def refused(self, conn: ConnectionInfo, status: int, reason: str) -> None:
        """A function host that sends nonsense is told so; nothing is counted."""

    def handle(self, exchange: Exchange) -> None:
        """Outbound or cache, by the injected field."""
        control: dict[bytes, bytes] = {}
        headers: Headers = []
        for name, value in exchange.headers:
            if name.startswith(b"atoll-"):
                control[name] = value
            elif name not in (b"cf-blob", b"connection", b"keep-alive"):
                headers.append((name, value))
        exchange.headers = headers
        work = self._cache_api if control.get(b"atoll-service") == b"cache" else self._outbound
        task = asyncio.ensure_future(self._guarded(work, exchange, control))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(
        self,
        work: Callable[[Exchange, dict[bytes, bytes]], Awaitable[None]],
        exchange: Exchange,
        control: dict[bytes, bytes],
    ) -> None:
        try:
            await work(exchange, control)
        except RemoteError as error:
            text = str(error).encode()
            exchange.stream.respond(error.status, [(b"content-type", b"text/plain")], text + b"\n")
        except Exception:  # noqa: BLE001 - one request's end: logged, and nobody waits for it
            _log.exception("a function's request failed: %s", control.get(b"atoll-function"))
            exchange.stream.abort()

    # --- outbound

    async def _outbound(self, exchange: Exchange, control: dict[bytes, bytes]) -> None:
        tenant = control.get(b"atoll-function", b"").partition(b"/")[0].decode("latin-1")
        host = _backend_host(control.get(b"atoll-backend"))
        named = host or exchange.authority.rsplit(b":", 1)[0].decode("latin-1")
        origin = self._origins().by_host.get(named)
        if origin is not None:
            _check_owner(named, origin.spec.tenant, tenant)
            timeout_s = _timeout_s(control.get(b"atoll-timeout-ms"))
            await self._to_origin(exchange, named, exchange.authority, timeout_s)
            return
        site = self._table().site(exchange.authority) if not host else None
        route = site.route(exchange.target) if site is not None else None
        if site is None or route is None or not route.pool:
            raise RemoteError(f"{named} is not in the network's name table", 530)
        _check_owner(named, site.spec.tenant, tenant)
        fields = accept_headers(exchange.headers, exchange.method)
        exchange.headers = [*fields, *forwarded(exchange.conn, site.host)]
        await self._cache.run(exchange, site, route, control.get(b"atoll-scheme", b"http"))

    async def _to_origin(self, exchange: Exchange, host: str, authority: bytes, timeout_s: float) -> None:
        reader = await self._origins().fetch_backend(
            host, exchange.method, exchange.target, authority, exchange.headers, exchange.body, timeout_s
        )
        await relay(reader, exchange.stream, reader.headers)

    # --- Cache API

    async def _cache_api(self, exchange: Exchange, control: dict[bytes, bytes]) -> None:
        primary = self._primary(exchange, control)
        if exchange.method == b"GET":
            self._match(exchange, primary)
        elif exchange.method == b"PUT":
            await self._put(exchange, primary, control)
        elif exchange.method == b"PURGE":
            found = self._store.purge(primary)
            exchange.stream.respond(200 if found else 404, [], b"")
        else:
            raise RemoteError(f"{exchange.method.decode()} is no operation of the Cache API", 405)

    def _primary(self, exchange: Exchange, control: dict[bytes, bytes]) -> bytes:
        """Keys of the Cache API are a function's own: tenant and name, never its version."""
        owner = control.get(b"atoll-function", b"").rsplit(b"/", 1)[0]
        named = get(exchange.headers, b"cf-cache-namespace") or b""
        scheme = control.get(b"atoll-scheme", b"http")
        url = keys.primary_key(scheme, exchange.authority, exchange.target)
        return b"cacheapi\0%b\0%b\0%b" % (owner, named, url)

    def _match(self, exchange: Exchange, primary: bytes) -> None:
        entry = self._store.get(primary, exchange.headers)
        age = 0.0 if entry is None else age_s(entry)
        fresh = entry is not None and age < entry.lifetime_s and not entry.softened
        body = _content(entry) if entry is not None and fresh else None
        if entry is None or body is None:
            exchange.stream.respond(504, _MISS, b"")
            return
        headers = [*entry.headers, (b"age", rules.age_value(age)), (b"cf-cache-status", b"HIT")]
        exchange.stream.respond(entry.status, headers, body)

    async def _put(self, exchange: Exchange, primary: bytes, control: dict[bytes, bytes]) -> None:
        raw = await collect(exchange.body, MAX_OBJECT)
        status, headers, body = parse_response(raw)
        tenant = control.get(b"atoll-function", b"").partition(b"/")[0].decode("latin-1")
        log, epoch, now_s = self._store.log, self._store.purge_epoch, time()
        asked = Asked(b"GET", exchange.headers, primary, tenant, now_s, log.applied, epoch)
        draft = judge(asked, status, headers, now_s)
        if not isinstance(draft, Draft):
            exchange.stream.respond(413, [], b"")
            return
        self._store.put(primary, exchange.headers, draft.entry(body))
        exchange.stream.respond(204, [], b"")


def _content(entry: Entry) -> bytes | None:
    """What is stored, at most `MAX_OBJECT`; None when it is not what it was."""
    if isinstance(entry.body, bytes):
        return entry.body
    try:
        return entry.body.read(0, len(entry.body))
    except OSError:
        return None


def _backend_host(backend: bytes | None) -> str:
    """The host that `fetch`'s `backend` names, as a URL or by itself; empty when it names none.

    Raises:
        RemoteError: it is no URL.
    """
    text = (backend or b"").decode("latin-1")
    try:
        return urlsplit(text).hostname or text
    except ValueError as error:
        raise RemoteError(f"backend {text!r} is no URL: {error}", 530) from error


def _check_owner(host: str, owner: str, tenant: str) -> None:
    """A function reaches what is its tenant's; `tenant` is its host's word, which it cannot change."""
    if owner != tenant:
        raise RemoteError(f"{host} belongs to another tenant", 530)


def _timeout_s(value: bytes | None) -> float:
    try:
        milliseconds = int(value) if value is not None else 0
    except ValueError:
        milliseconds = 0
    return min(milliseconds / 1000, 300.0) if milliseconds > 0 else _DEFAULT_TIMEOUT_S


class _Collector:
    """A body sink that keeps everything up to a limit."""

    def __init__(self, limit: int) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = limit
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def body_data(self, data: bytes) -> None:
        """See `BodySink`."""
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)

    def body_end(self) -> None:
        """See `BodySink`."""
        if self.done.done():
            return
        if self._size > self._limit:
            self.done.set_exception(RemoteError(f"body larger than {self._limit} bytes", 413))
        else:
            self.done.set_result(b"".join(self._parts))

    def body_failed(self) -> None:
        """See `BodySink`."""
        if not self.done.done():
            self.done.set_exception(RemoteError("the request was cut short", 400))


async def collect(body: RequestBody | None, limit: int) -> bytes:
    """A whole request body.

    Raises:
        RemoteError: it is longer than `limit` bytes or was cut short.
    """
    if body is None:
        return b""
    collector = _Collector(limit)
    body.attach(collector)
    return await collector.done


class _ResponseParts:
    """Parser callbacks for a response that is there as a whole."""

    def __init__(self) -> None:
        self.headers: Headers = []
        self.body: list[bytes] = []
        self.complete = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field."""
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        """The response ends."""
        self.complete += 1

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self.body.append(data)


def parse_response(raw: bytes) -> tuple[int, Headers, bytes]:
    """Status, fields and body of a response in HTTP/1.1 format, as `cache.put` sends it.

    Raises:
        RemoteError: it is not one.
    """
    parts = _ResponseParts()
    parser = httptools.HttpResponseParser(parts)
    try:
        parser.feed_data(raw)
        status = parser.get_status_code()
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise RemoteError(f"no HTTP response in cache.put: {error}", 400) from error
    framed = get(parts.headers, b"content-length") or get(parts.headers, b"transfer-encoding")
    if parts.complete != 1 and (framed or parts.complete or b"\r\n\r\n" not in raw):
        raise RemoteError("the response in cache.put is not whole, or more than one", 400)
    skipped = (b"transfer-encoding", b"content-length", b"connection")
    headers = [field for field in parts.headers if field[0] not in skipped]
    return status, headers, b"".join(parts.body)
