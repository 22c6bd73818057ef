"""Connections to origins: name, address, socket, TLS.

Happy Eyeballs (RFC 8305): addresses of both families in turn, the next one tried when the last has failed or
has taken a quarter of a second, the first that connects wins. Addresses that have just failed come last. The
address that was judged is the one connected to, so that a name that changes between question and use (DNS
rebinding) changes nothing. TLS verifies the origin unless it was said not to, and agrees on the version of
HTTP (ALPN).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from itertools import zip_longest
from time import monotonic
from typing import Final, TypeVar

import msgspec

from atoll.config.origins import TLS_USUAL, OriginProtocol, OriginTlsSpec
from atoll.errors import AtollError, RemoteError
from atoll.http.addresses import Address, literal, refusal
from atoll.http.resolve import Resolver

H1: Final = "http/1.1"
H2: Final = "h2"
_NEXT_S: Final = 0.25  # RFC 8305 §5, "Connection Attempt Delay"
_SHUN_S: Final = 30.0
_MOST_SHUNNED: Final = 1024
_MOST_ATTEMPTS: Final = 6

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where an origin is, and how it is spoken to."""

    host: str  # a name, or an address without brackets
    port: int
    secure: bool = False
    protocol: OriginProtocol = "auto"
    tls: OriginTlsSpec = TLS_USUAL
    allow_private: bool = False  # whether a name may lead to a private address

    @property
    def maybe_h2(self) -> bool:
        """Whether HTTP/2 may be what the origin speaks."""
        return self.protocol == H2 or (self.secure and self.protocol == "auto")


class Dialer:
    """Connects; for all origins of a worker."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._shunned: dict[Address, float] = {}
        self._turn = 0

    async def connect(self, target: Target, context: ssl.SSLContext | None, factory: Callable[[], P]) -> P:
        """A connection whose protocol `factory` makes; returns that.

        Raises:
            RemoteError: there is none, and why.
        """
        sock = await self._race(await self._where(target), target.port)
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            if context is None:
                _, protocol = await loop.create_connection(factory, sock=sock)
                undo.pop_all()
                return protocol
            name = target.tls.server_name or target.host
            try:
                _, protocol = await loop.create_connection(
                    factory, sock=sock, ssl=context, server_hostname=name
                )
            except ssl.SSLCertVerificationError as error:
                raise RemoteError(f"its certificate is not believed: {error.verify_message}", 502) from error
            except ssl.SSLError as error:
                raise RemoteError(f"TLS failed: {error.reason or error}", 502) from error
            except OSError as error:  # in the middle of the handshake
                raise RemoteError(f"TLS failed: {_reason(error)}", 502) from error
            undo.pop_all()
        return protocol

    async def _where(self, target: Target) -> list[Address]:
        """The addresses to try, in order."""
        found = await self._resolver.addresses(target.host)
        if literal(target.host) is None:  # a literal address is the operator's own word
            refused = {address: refusal(address, target.allow_private) for address in found}
            found = tuple(address for address, why in refused.items() if not why)
            if not found:
                address, why = next(iter(refused.items()))
                hint = "" if target.allow_private else ", and allow_private is not set"
                raise RemoteError(f"{target.host} leads to {address} ({why}){hint}", 502)
        self._turn += 1
        now_s = monotonic()
        return in_order(found, self._turn, [a for a, until_s in self._shunned.items() if until_s > now_s])

    async def _race(self, addresses: Sequence[Address], port: int) -> socket.socket:
        """A socket that is connected to one of `addresses`.

        Raises:
            RemoteError: to none of them.
        """
        attempts: dict[asyncio.Task[socket.socket], Address] = {}
        waiting = list(addresses[:_MOST_ATTEMPTS])
        running: set[asyncio.Task[socket.socket]] = set()
        failure = RemoteError("connect failed: no address", 502)
        won: socket.socket | None = None
        try:
            while waiting or running:
                if waiting:
                    address = waiting.pop(0)
                    task = asyncio.ensure_future(_open(address, port))
                    attempts[task] = address
                    running.add(task)
                done, running = await asyncio.wait(
                    running, timeout=_NEXT_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    error = task.exception()
                    if error is None:
                        won = task.result()
                        self._shunned.pop(attempts[task], None)
                        return won
                    self._shun(attempts[task])
                    failure = RemoteError(f"connect failed: {_reason(error)} ({attempts[task]})", 502)
        except asyncio.CancelledError:
            for task in running:
                self._shun(attempts[task])  # it has taken all the time there was
            raise
        finally:
            for task in attempts:
                if not task.done():
                    task.cancel()
                elif task.exception() is None and task.result() is not won:
                    task.result().close()
        raise failure

    def _shun(self, address: Address) -> None:
        if len(self._shunned) >= _MOST_SHUNNED:
            self._shunned.clear()
        self._shunned[address] = monotonic() + _SHUN_S


def in_order(found: Sequence[Address], turn: int, last: Sequence[Address] = ()) -> list[Address]:
    """Addresses as they are tried: families in turn, IPv6 first (RFC 8305 §4), those in `last` at the end.

    Within a family it is another one's turn each time: they are there to share the load.
    """
    families = []
    for version in (6, 4):
        family = [address for address in found if address.version == version]
        start = turn % len(family) if family else 0
        families.append(family[start:] + family[:start])
    mixed = [address for pair in zip_longest(*families) for address in pair if address is not None]
    return sorted(mixed, key=lambda address: address in last)


def client_context(target: Target, alpn: Sequence[str]) -> ssl.SSLContext | None:
    """What an origin's TLS is made of; None if it has none.

    Raises:
        AtollError: a file of the origin's `tls` cannot be used.
    """
    if not target.secure:
        return None
    spec = target.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if spec.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    if not spec.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if spec.ca:
            context.load_verify_locations(cafile=spec.ca)
        elif spec.verify:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("ca", spec.ca, error) from error
    try:
        if spec.certificate:
            context.load_cert_chain(spec.certificate, spec.key or None)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("certificate", spec.certificate, error) from error
    return context


def _unusable(field: str, path: str, error: OSError) -> AtollError:
    return AtollError(f"{path} cannot be used: {error.strerror or error}", "a PEM file", f"tls.{field}")


async def _open(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.ExitStack() as undo:
        sock = socket.socket(family, socket.SOCK_STREAM)
        undo.callback(sock.close)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
        undo.pop_all()
    return sock


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)  # event loops write texts of their own
    return str(error) or type(error).__name__
