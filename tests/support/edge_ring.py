"""Edge workers of several PoPs in this process, before one origin: for tests of the caches between them.

Every worker has its own store and purge log, a public socket and one for the others, as in a network. A
worker can be deaf: its sockets take connections, and nobody answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from edge_world import HOST, ORIGIN, Response, Server, get, read_response
from networks import network, pop

from atoll.cache.store import Store
from atoll.config.spec import OriginSpec, PoolSpec, RouteSpec, SiteSpec, Snapshot
from atoll.edge.clock import Clock
from atoll.edge.log import AccessLog
from atoll.edge.pipeline import Edge, PublicApp
from atoll.edge.tier import Tier
from atoll.http.accept import Listener

_ROUTES = (RouteSpec(path="/*", pool="shop"), RouteSpec(path="/strict/*", pool="shop", consistency="strict"))


class Worker:
    """One worker of a PoP."""

    def __init__(self, folder: Path, code: str, index: int, snapshot: Snapshot) -> None:
        clock = Clock()
        self.name = f"{code}/{index}"
        self.log = AccessLog(folder / f"{code}-{index}.log", clock)
        tier = Tier(index, lambda pop, number: str(folder / f"{pop}-{number}.sock"))
        self.edge = Edge(snapshot, self.log, Store(64 * 1024 * 1024), clock, tier)
        public = socket.create_server(("127.0.0.1", 0))
        public.listen(1024)
        public.setblocking(False)
        self.address: tuple[str, int] = public.getsockname()
        self._inner = socket.socket(socket.AF_UNIX)
        self._inner.bind(str(folder / f"{code}-{index}.sock"))
        self._inner.listen(1024)
        self._inner.setblocking(False)
        self.listeners = [
            Listener(PublicApp(self.edge), public),
            Listener(self.edge.tier_app(), self._inner.dup(), trusted=True),
        ]

    def deafen(self) -> None:
        """From now on peers that connect get no answer, as from a worker that hangs."""
        inner = self.listeners.pop()
        inner.close()
        for connection in inner.connections:
            connection.transport.abort()

    def stop(self) -> None:
        """End it."""
        for listener in self.listeners:
            listener.close()
            for connection in listener.connections:
                connection.transport.abort()
        self._inner.close()
        if self.edge.tier is not None:
            self.edge.tier.close()
        self.edge.origins.close()
        self.log.close()


class Ring:
    """PoPs with workers, and their origin."""

    def __init__(
        self,
        folder: Path,
        pops: Sequence[tuple[str, int]],
        shield: str,
        routes: tuple[RouteSpec, ...] = _ROUTES,
    ) -> None:
        self._folder = folder
        self._pops = [pop(code, index, workers) for index, (code, workers) in enumerate(pops)]
        self._shield = shield
        self._routes = routes
        self.origin = Server()
        self.workers: dict[str, Worker] = {}

    async def start(self) -> None:
        """Start all."""
        await self.origin.start()
        for spec in self._pops:
            for index in range(spec.workers):
                snapshot = self.snapshot(spec.code, self._routes)
                self.workers[f"{spec.code}/{index}"] = Worker(self._folder, spec.code, index, snapshot)

    def stop(self) -> None:
        """Stop all."""
        for worker in self.workers.values():
            worker.stop()
        self.origin.stop()

    def snapshot(self, code: str, routes: tuple[RouteSpec, ...]) -> Snapshot:
        """What a PoP serves."""
        pool = PoolSpec(name="shop", origins=(ORIGIN,), health_interval_s=3600.0, shield=self._shield)
        spec = msgspec.structs.replace(
            network(*self._pops),
            sites=(SiteSpec(name="shop", host=HOST.decode(), routes=routes),),
            origins=(OriginSpec(host=ORIGIN, url=f"http://127.0.0.1:{self.origin.port}"),),
            pools=(pool,),
            default_site="shop",
        )
        here = next(pop for pop in self._pops if pop.code == code)
        return Snapshot(seq=1, pop=here, network=spec)

    async def ask(self, worker: str, target: bytes, *fields: bytes) -> Response:
        """One request to a worker, on a connection of its own."""
        return await self.send(worker, get(target, *fields))

    async def send(self, worker: str, request: bytes) -> Response:
        """The same with a request of any kind."""
        reader, writer = await asyncio.open_connection(*self.workers[worker].address)
        writer.write(request)
        try:
            return await read_response(reader)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def ring(
    *pops: tuple[str, int], shield: str = "", routes: tuple[RouteSpec, ...] = _ROUTES
) -> AsyncIterator[Ring]:
    """PoPs, as code and number of workers, that run."""
    with TemporaryDirectory(prefix="ring-") as folder:
        made = Ring(Path(folder), pops, shield, routes)
        await made.start()
        try:
            yield made
        finally:
            made.stop()
