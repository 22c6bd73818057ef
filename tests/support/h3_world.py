"""An edge worker as `edge_world` has it, with a UDP socket that speaks HTTP/3."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

from edge_world import World, running
from http3_client import Client, connected

from atoll.control.certificates import ensure_authority, issue
from atoll.edge.door import Door
from atoll.http.certificates import Certificates
from atoll.http.guard import LOOPBACK
from atoll.http.limits import Limits
from atoll.http.quic_endpoint import SECRET_BYTES, QuicEndpoint
from atoll.http.quic_tls import QuicLeaves
from atoll.node.listeners import bind_udp

SECRET = bytes(range(SECRET_BYTES))
NAMES = ("localhost", "shop.test")


class H3World:
    """A world and its endpoints."""

    def __init__(self, world: World, proxies: frozenset[str] = LOOPBACK) -> None:
        self.world = world
        self.proxies = proxies
        self.origin, self.edge = world.origin, world.edge
        self.leaf_folder = world.folder / "leaf"
        self.leaf_folder.mkdir()
        now = dt.datetime.now(dt.UTC)
        authority = ensure_authority(world.folder / "ca", now)
        for name in NAMES:
            (self.leaf_folder / f"{name}.pem").write_bytes(issue(authority, name, now))
        self.sock = bind_udp("127.0.0.1", 0)
        self.sock.setblocking(False)
        self.address: tuple[str, int] = self.sock.getsockname()
        self.certificates = Certificates(self.leaf_folder, world.folder / "issued")
        self.endpoints: list[QuicEndpoint] = []
        self.apps: list[Door] = []
        self.endpoint = self.serve()

    def serve(self) -> QuicEndpoint:
        """One more endpoint on the same socket, as a successor would be."""
        leaves = QuicLeaves(self.certificates, self.leaf_folder / "localhost.pem")
        sock = self.sock.dup()
        sock.setblocking(False)
        app = Door(self.edge, self.world.folder / "challenges")
        self.apps.append(app)
        endpoint = QuicEndpoint(app, sock, leaves, SECRET, self.world.folder, self.proxies)
        self.endpoints.append(endpoint)
        return endpoint

    def crash(self, endpoint: QuicEndpoint) -> None:
        """An endpoint goes as in a process that is killed: nobody is told, its socket stays in the folder."""
        self.endpoints.remove(endpoint)
        for sock in (endpoint._sock, endpoint._inbox):
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()

    def client(self, host: str = "shop.test", **how: Any) -> contextlib.AbstractAsyncContextManager[Client]:
        """A client's connection."""
        return connected(how.pop("address", self.address), host, **how)

    def stop(self) -> None:
        """Close all."""
        for endpoint in self.endpoints:
            endpoint.end()
        self.sock.close()


@contextlib.asynccontextmanager
async def h3_running(
    limits: Limits | None = None, proxies: frozenset[str] = LOOPBACK
) -> AsyncIterator[H3World]:
    """A world that runs."""
    async with running(limits) as world:
        h3 = H3World(world, proxies)
        try:
            yield h3
        finally:
            h3.stop()
