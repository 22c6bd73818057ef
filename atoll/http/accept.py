"""Accepting connections on an inherited socket: PROXY protocol first, then TLS, then the right engine.

The PROXY header comes before the TLS handshake and has to be taken off the socket without a byte more, so
the first bytes are peeked at before any transport exists. Engines are chosen by ALPN, or by HTTP/2's
preface on a clear connection (prior knowledge, RFC 9113 §3.3).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from time import time
from typing import Final, cast

from atoll.errors import AtollError, RemoteError
from atoll.http import proxy_protocol
from atoll.http.client_hello import MAX_HELLO, server_name
from atoll.http.exchange import App, ConnectionInfo
from atoll.http.guard import LOOPBACK, Guard
from atoll.http.h1 import H1Connection
from atoll.http.h2 import H2Connection
from atoll.http.h2_parting import PartingH2
from atoll.http.tls import CertificateStore, TlsCounts, client_certificate

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PEEK: Final = 536  # the longest PROXY v2 header we take (16 + 216, with TLVs to spare)
_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.1
_BATCH: Final = 64  # connections accepted in one turn of the loop
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Listener:
    """One listening socket of a worker: accepts until closed, keeps its open connections."""

    def __init__(
        self,
        app: App,
        sock: socket.socket,
        tls: CertificateStore | ssl.SSLContext | None = None,
        trusted: bool = False,
        proxies: frozenset[str] = LOOPBACK,
        guard: Guard | None = None,
    ) -> None:
        self._app = app
        self._guard = guard or Guard(app.limits)
        self._proxies = proxies  # whose PROXY header is believed
        self._sock = sock
        self._tls = tls
        self._trusted = trusted
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: set[H1Connection | H2Connection] = set()
        self.handshakes = TlsCounts()
        self._accepting = True
        self._loop.add_reader(sock.fileno(), self._accept)

    @property
    def arriving(self) -> bool:
        """Whether a connection has been accepted whose first bytes are still awaited."""
        return bool(self._tasks)

    def close(self) -> None:
        """Accept no more; what is queued in the kernel stays for whoever shares the socket."""
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    @property
    def busy(self) -> int:
        """Connections, those included that have not said yet what they are."""
        return len(self.connections) + len(self._tasks)

    def secured(self, tls: ssl.SSLObject) -> None:
        """A handshake has been done."""
        self.handshakes.done += 1
        self.handshakes.resumed += bool(tls.session_reused)

    def remember(self, connection: H1Connection | H2Connection, who: bytes) -> None:
        """`connection` of a party has begun."""
        self.connections.add(connection)
        self._guard.opened(connection, who)

    def forget(self, connection: H1Connection | H2Connection) -> None:
        """`connection` has ended."""
        self.connections.discard(connection)
        self._guard.closed(connection)

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                client, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause()
                return
            client.setblocking(False)
            if self.busy >= self._app.limits.connections:
                self._send_away(client)
                continue
            task = self._loop.create_task(self._serve(client, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _send_away(self, client: socket.socket) -> None:
        """The newest are the first to go: whoever is in already shall be served to the end."""
        with contextlib.suppress(OSError):
            if self._tls is None:
                client.send(_FULL % self._app.limits.retry_after_s)
        client.close()

    def _pause(self) -> None:
        """Out of descriptors: leave the queue alone for a moment instead of spinning on it."""
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(0.1, self._resume)

    def _resume(self) -> None:
        if self._accepting:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    async def _serve(self, client: socket.socket, address: object) -> None:
        try:
            async with asyncio.timeout(self._app.limits.head_timeout_s):
                info, clear = await self._introduce(client, address)
                tls = await self._context(client, info)
        except (OSError, TimeoutError, AtollError):
            client.close()
            return
        ours = self._trusted or info.client_ip in self._proxies  # who is behind is not told apart
        who = b"" if ours else self._guard.enter(info.client_ip)
        if who is None:
            client.close()
            return
        chooser = _Chooser(self, self._app, info, clear, self._trusted, who)
        try:
            await self._begin(chooser, client, tls)
        finally:
            if not chooser.became:
                self._guard.leave(who)

    async def _begin(self, chooser: _Chooser, client: socket.socket, tls: ssl.SSLContext | None) -> None:
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def factory() -> asyncio.Protocol:
            return chooser

        with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError):
            if tls is None:
                await self._loop.connect_accepted_socket(factory, client)
            else:
                await self._secure(factory, client, tls)

    async def _secure(
        self, factory: Callable[[], asyncio.Protocol], client: socket.socket, tls: ssl.SSLContext
    ) -> None:
        """The handshake, and how it ends."""
        limit_s = self._app.limits.tls_handshake_s
        began_s = self._loop.time()
        try:
            await self._loop.connect_accepted_socket(factory, client, ssl=tls, ssl_handshake_timeout=limit_s)
        except (OSError, ssl.SSLError):
            if self._loop.time() - began_s >= limit_s:
                self.handshakes.timed_out += 1
            else:
                self.handshakes.failed += 1

    async def _context(self, client: socket.socket, info: ConnectionInfo) -> ssl.SSLContext | None:
        """What the handshake begins on; a site's own wishes have to be known before."""
        if not isinstance(self._tls, CertificateStore):
            return self._tls
        if not self._tls.strict:
            return self._tls.default
        hello = await self._peek(client, 1, MAX_HELLO)
        while (name := server_name(hello)) is None:
            hello = await self._peek(client, len(hello) + 1, MAX_HELLO)
        info.server_name = name
        try:
            return self._tls.begin(name)
        except AtollError:
            self.handshakes.failed += 1
            raise

    async def _introduce(self, client: socket.socket, address: object) -> tuple[ConnectionInfo, bytes]:
        """Who is there, and the first bytes (still on the socket) of a clear connection."""
        scheme = b"https" if self._tls is not None else b"http"
        if self._trusted:
            return ConnectionInfo("", 0, scheme), b""
        ip, port = cast(tuple[str, int], address)[:2]
        if ip not in self._proxies:
            return ConnectionInfo(ip, port, scheme), await self._first_clear(client, b"")
        first = await self._peek(client, 1)
        while proxy_protocol.is_prefix(first):
            parsed = proxy_protocol.parse(first)
            if parsed is not None:
                client.recv(parsed.length)
                ip, port = (parsed.source_ip, parsed.source_port) if parsed.source_ip else (ip, port)
                first = b""
                break
            first = await self._peek(client, len(first) + 1)
        return ConnectionInfo(ip, port, scheme), await self._first_clear(client, first)

    async def _first_clear(self, client: socket.socket, seen: bytes) -> bytes:
        if self._tls is not None:
            return b""
        first = seen or await self._peek(client, 1)
        while _PREFACE.startswith(first) and len(first) < len(_PREFACE):
            first = await self._peek(client, len(first) + 1)
        return first

    async def _peek(self, client: socket.socket, at_least: int, most: int = _PEEK) -> bytes:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                data = client.recv(most, socket.MSG_PEEK)
            except BlockingIOError:
                await self._readable(client)
                continue
            if data == b"":
                raise ConnectionResetError("closed before its first byte")
            if len(data) >= at_least:
                return data
            if len(data) >= most:
                raise RemoteError("first bytes make no sense", 400)
            # Bytes we have peeked at keep the socket readable: only time can bring the rest.
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _readable(self, client: socket.socket) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(client.fileno(), _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(client.fileno())

    def check_timeouts(self) -> None:
        """Let every connection look at the clock; called every few seconds."""
        now_s = time()
        for connection in list(self.connections):
            connection.check_timeouts(now_s)

    def close_idle(self, now_s: float, quiet_s: float) -> None:
        """End connections that nothing has been asked on for `quiet_s`; HTTP/2 is told that it is the end."""
        for connection in list(self.connections):
            if connection.idle() and now_s - connection.last_activity_s > quiet_s:
                if isinstance(connection, PartingH2):
                    connection.goaway_now()
                connection.transport.close()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Chooser(asyncio.Protocol):
    """Becomes an engine's connection as soon as it is known which."""

    def __init__(
        self, listener: Listener, app: App, info: ConnectionInfo, clear: bytes, trusted: bool, who: bytes
    ) -> None:
        self.became = False
        self._who = who
        self._listener = listener
        self._app = app
        self._info = info
        self._clear = clear
        self._trusted = trusted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        h2 = self._clear.startswith(_PREFACE)
        if tls is not None:
            h2 = tls.selected_alpn_protocol() == "h2"
            self._info.tls_version = tls.version() or ""
            self._info.client_certificate = client_certificate(tls)
            self._listener.secured(tls)
        self._app.opened(self._info)
        connection: H1Connection | H2Connection
        if h2:
            connection = _TrackedH2(self._listener, self._app, self._info)
        else:
            connection = _TrackedH1(self._listener, self._app, self._info, self._trusted)
        cast(asyncio.Transport, transport).set_protocol(connection)
        connection.connection_made(transport)
        self.became = True
        self._listener.remember(connection, self._who)


class _Gone(asyncio.Transport):
    """In place of a transport that has ended, so that its TLS engine's memory goes with the connection.

    Streams and exchanges point at their connection and it at them: such rings wait for the garbage collector,
    which sees small objects and not the tens of kilobytes that OpenSSL keeps for each.
    """

    def write(self, data: object) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        """It is."""

    def abort(self) -> None:
        """It is closed."""

    def is_closing(self) -> bool:
        """It is closed."""
        return True

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""

    def write_eof(self) -> None:
        """Nobody reads it."""

    def can_write_eof(self) -> bool:
        """Nobody would read it."""
        return False

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


GONE = _Gone()


class _TrackedH1(H1Connection):
    def __init__(self, listener: Listener, app: App, info: ConnectionInfo, trusted: bool) -> None:
        super().__init__(app, info, trusted)
        self._listener = listener

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        super().connection_lost(exc)
        self.transport = GONE


class _TrackedH2(PartingH2):
    def __init__(self, listener: Listener, app: App, info: ConnectionInfo) -> None:
        super().__init__(app, info)
        self._listener = listener

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        super().connection_lost(exc)
        self.transport = GONE
