"""How the connections of a pool come to be: a socket's path or an origin's `Target`, HTTP/1.1 or HTTP/2."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Protocol, cast

from atoll.errors import AtollError, RemoteError
from atoll.http.dial import H1, H2, Dialer, Target, client_context
from atoll.http.resolve import Resolver
from atoll.http.upstream_h1 import H1Pool, H1Upstream
from atoll.http.upstream_h2 import H2Pool, H2Upstream

_log = logging.getLogger("atoll.edge")

Address = str | tuple[str, int] | Target
"""A unix socket's path, or where an origin is: host and port for plain HTTP/1.1."""


class AnyPool(H1Pool, H2Pool, Protocol):
    """A pool of either sort of connections."""


class _Fresh(asyncio.Protocol):
    """A connection of which it turns out when it is made which version of HTTP it speaks."""

    def __init__(self, pool: AnyPool, target: Target | None) -> None:
        self._pool = pool
        self._target = target
        self.connection: H1Upstream | H2Upstream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        agreed = tls.selected_alpn_protocol() if tls is not None else None
        target = self._target
        known = target is not None and target.protocol == H2 and not target.secure
        if agreed == H2 or known:
            self.connection = H2Upstream(self._pool, secure=tls is not None)
        else:
            self.connection = H1Upstream(self._pool)
        cast(asyncio.Transport, transport).set_protocol(self.connection)
        self.connection.connection_made(transport)


class TlsFiles:
    """An origin's TLS, made of files that may change: new connections follow them.

    Files that cannot be used any more change nothing; if there never were good ones, the origin's requests
    fail, and nothing else does.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        spec = target.tls
        self._paths = [path for path in (spec.ca, spec.certificate, spec.key) if path]
        self._seen: list[tuple[int, int]] | None = None
        self._usual: ssl.SSLContext | None = None
        self._only_h1: ssl.SSLContext | None = None

    def context(self, only_h1: bool) -> ssl.SSLContext | None:
        """What the next connection is made with; None for plain HTTP.

        Raises:
            RemoteError: a file cannot be used.
        """
        if self._target.secure:
            seen = [_version(path) for path in self._paths]
            if seen != self._seen:
                self._load(seen)
        return self._only_h1 if only_h1 else self._usual

    def _load(self, seen: list[tuple[int, int]]) -> None:
        protocols = {"auto": (H2, H1), H1: (H1,), H2: (H2,)}[self._target.protocol]
        try:
            self._usual, self._only_h1 = (client_context(self._target, alpn) for alpn in (protocols, (H1,)))
        except AtollError as error:
            if self._usual is None:
                raise RemoteError(f"{error.where}: {error.message}", 502) from error
            _log.warning("origin at %s: %s; what was there before is used", self._target.host, error)
        self._seen = seen


class Opener:
    """How connections to one address are made."""

    def __init__(self, address: Address, dialer: Dialer | None) -> None:
        self._path = address if isinstance(address, str) else ""
        if isinstance(address, tuple):
            address = Target(host=address[0], port=address[1])
        self._target = None if isinstance(address, str) else address
        self._dialer = dialer
        self._tls = TlsFiles(self._target) if self._target is not None else None

    @property
    def maybe_h2(self) -> bool:
        """Whether HTTP/2 may be what is spoken."""
        return self._target is not None and self._target.maybe_h2

    async def open(self, pool: AnyPool, only_h1: bool) -> H1Upstream | H2Upstream:
        """A connection that is in no use.

        Raises:
            RemoteError: there is none.
            OSError: nobody listens on the socket.
        """
        target = self._target
        if target is None or self._tls is None:
            loop = asyncio.get_running_loop()
            _, plain = await loop.create_unix_connection(lambda: H1Upstream(pool), self._path)
            return plain
        if only_h1 and target.protocol == H2:
            raise RemoteError("no protocol can be gone on with over HTTP/2", 502)
        if self._dialer is None:
            self._dialer = Dialer(Resolver())
        context = self._tls.context(only_h1)
        fresh = await self._dialer.connect(target, context, lambda: _Fresh(pool, target))
        assert fresh.connection is not None, "the transport has told of the connection"
        if target.protocol == H2 and isinstance(fresh.connection, H1Upstream):
            fresh.connection.transport.close()
            raise RemoteError("it does not speak HTTP/2", 502)
        return fresh.connection


def _version(path: str) -> tuple[int, int]:
    try:
        stat = Path(path).stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)
