"""A whole edge worker in this process, for tests that speak bytes to it.

Sockets are real and their buffers small, so that a client that does not read is felt soon. The origin and the
function's host are scripted and keep their connections open.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import pytest_asyncio
from networks import network, pop

from atoll.cache.disk import DiskStore
from atoll.cache.levels import Levels
from atoll.cache.purge import PurgeLog
from atoll.cache.store import Cache, Store
from atoll.config.spec import FunctionRuntime, OriginSpec, PoolSpec, RouteSpec, SiteSpec, Snapshot
from atoll.edge.clock import Clock
from atoll.edge.log import AccessLog
from atoll.edge.pipeline import Edge, PublicApp
from atoll.http.accept import Listener
from atoll.http.limits import Limits

WAIT_S = 5.0
_LOOK_S = 0.002
HOST = b"shop.test"
ORIGIN = "origin.test"
_BUFFER = 64 * 1024  # of sockets, in the kernel
ROUTES = (
    RouteSpec(path="/*", pool="shop"),
    RouteSpec(path="/live/*", pool="shop", cache=False),
    RouteSpec(path="/fn/*", function="fn"),
)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Asked(NamedTuple):
    """A request as a server got it."""

    line: bytes
    fields: dict[bytes, bytes]
    body: bytes = b""

    @property
    def target(self) -> bytes:
        """Path and query."""
        return self.line.split(b" ")[1]


Conversation = Callable[[Asked, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """An origin or a function's host: counts what it is asked and answers with what the test says.

    With a `hold` it answers when that is set. `converse` takes over after a request's head, with all that
    follows on the connection.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.port = 0
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], bytes] = lambda asked: page(b"hello " + asked.target)
        self.hold: asyncio.Event | None = None
        self.converse: Conversation | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        if self.path is not None:
            self._server = await asyncio.start_unix_server(self._serve, self.path)
        else:
            sock = socket.create_server(("127.0.0.1", 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.setblocking(False)
            self._server = await asyncio.start_server(self._serve, sock=sock)
            self.port = sock.getsockname()[1]

    def stop(self) -> None:
        """Listen no more, and end every conversation."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def until_asked(self, count: int = 1) -> None:
        """Wait until it has been asked so often."""
        await until(lambda: len(self.asked) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *rest = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        fields = {name.lower(): value for name, _, value in (f.partition(b": ") for f in rest)}
        asked = Asked(line, fields)
        if asked.target == b"/health":
            writer.write(page(b"ok"))
            return True
        if self.converse is not None:
            self.asked.append(asked)
            await self.converse(asked, reader, writer)
            return False
        if fields.get(b"transfer-encoding") == b"chunked":
            asked = asked._replace(body=await reader.readuntil(b"0\r\n\r\n"))
        elif b"content-length" in fields:
            asked = asked._replace(body=await reader.readexactly(int(fields[b"content-length"])))
        self.asked.append(asked)
        if self.hold is not None:
            await self.hold.wait()
        writer.write(self.answer(asked))
        await writer.drain()
        return True


def page(
    body: bytes, cache: bytes = b"no-store", *fields: bytes, status: bytes = b"200 OK", length: int = -1
) -> bytes:
    """A whole response."""
    size = len(body) if length < 0 else length
    lines = [b"HTTP/1.1 " + status, b"Cache-Control: " + cache, b"Content-Length: %d" % size, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(target: bytes, *fields: bytes, method: bytes = b"GET", host: bytes = HOST) -> bytes:
    """A request's head."""
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: " + host, *fields]) + b"\r\n\r\n"


def post(target: bytes, body: bytes, *fields: bytes) -> bytes:
    """A whole request with a body."""
    return get(target, b"Content-Length: %d" % len(body), *fields, method=b"POST") + body


class Response(NamedTuple):
    """A response as the client got it; names in lowercase."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for key, value in self.fields if key == name]

    def field(self, name: str) -> str:
        """A field's values, "" if it has none."""
        return ", ".join(self.all(name))


async def read_response(reader: asyncio.StreamReader, *, head: bool = False) -> Response:
    """The next response; `head` when it answers a HEAD."""
    async with asyncio.timeout(WAIT_S):
        line, *rest = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        fields = tuple((name.lower(), value) for name, _, value in (f.partition(": ") for f in rest))
        answer, body = Response(int(line.split(" ")[1]), fields, b""), b""
        if head or answer.status in (204, 304) or answer.status < 200:
            return answer
        if answer.field("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(answer.field("content-length")))
    return answer._replace(body=body)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells."""
    for _ in range(int(WAIT_S / _LOOK_S)):
        if condition():
            return
        await asyncio.sleep(_LOOK_S)
    raise TimeoutError


async def settled(measure: Callable[[], int]) -> int:
    """What `measure` says once it says the same for a while."""
    last, same = measure(), 0
    async with asyncio.timeout(WAIT_S):
        while same < 10:
            await asyncio.sleep(0.005)
            now = measure()
            same, last = (same + 1, now) if now == last else (0, now)
    return last


class World:
    """An edge worker, an origin and a function's host."""

    def __init__(
        self, folder: Path, limits: Limits, response_timeout_s: float, store_bytes: int, disk_bytes: int
    ) -> None:
        self.folder = folder
        self.origin = Server()
        self.function = Server(folder / "fn.sock")
        self._limits = limits
        self._timeout_s = response_timeout_s
        self.disk = DiskStore(folder / "cache", disk_bytes, PurgeLog()) if disk_bytes else None
        memory = Store(store_bytes, log=self.disk.log if self.disk is not None else None)
        self._store: Cache = Levels(memory, self.disk) if self.disk is not None else memory

    async def start(self) -> None:
        """Start all."""
        await self.origin.start()
        await self.function.start()
        clock = Clock()
        self.log = AccessLog(self.folder / "access.log", clock)
        self.edge = Edge(self.snapshot(1), self.log, self._store, clock)
        self.edge.limits = self._limits
        public = socket.create_server(("127.0.0.1", 0))
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            public.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        public.setblocking(False)
        self.address: tuple[str, int] = public.getsockname()
        self.app = PublicApp(self.edge)
        self.listener = Listener(self.app, public)
        bindings = socket.socket(socket.AF_UNIX)
        bindings.bind(str(self.folder / "bindings.sock"))
        bindings.listen()
        bindings.setblocking(False)
        self.bindings = Listener(self.edge.bindings, bindings, trusted=True)

    def stop(self) -> None:
        """Stop all."""
        self.listener.close()
        self.bindings.close()
        for connection in (*self.listener.connections, *self.bindings.connections):
            connection.transport.abort()
        self.edge.origins.close()
        self.origin.stop()
        self.function.stop()
        self.log.close()
        if self.disk is not None:
            self.disk.close()

    def snapshot(self, seq: int, *more: SiteSpec, routes: tuple[RouteSpec, ...] = ROUTES) -> Snapshot:
        """One site, `shop.test`, and `more`; its origin and its function."""
        here = pop("nrt", 0)
        pool = PoolSpec(
            name="shop",
            origins=(ORIGIN,),
            response_timeout_s=self._timeout_s,
            health_interval_s=3600.0,
        )
        spec = msgspec.structs.replace(
            network(here),
            sites=(SiteSpec(name="shop", host=HOST.decode(), routes=routes), *more),
            origins=(OriginSpec(host=ORIGIN, url=f"http://127.0.0.1:{self.origin.port}"),),
            pools=(pool,),
            default_site="shop",
        )
        runtime = FunctionRuntime(name="fn", version=f"{seq:016}", socket=str(self.function.path))
        return Snapshot(seq=seq, pop=here, network=spec, functions=(runtime,))

    async def connect(self, address: str = "127.0.0.1") -> Streams:
        """A client's connection."""
        return await asyncio.open_connection(*self.address, local_addr=(address, 0))

    async def ask(self, request: bytes, address: str = "127.0.0.1") -> Response:
        """One request on a connection of its own."""
        reader, writer = await self.connect(address)
        writer.write(request)
        try:
            return await read_response(reader, head=request.startswith(b"HEAD"))
        finally:
            writer.close()

    async def ask_bindings(self, request: bytes) -> Response:
        """What a function's host asks of the worker."""
        reader, writer = await asyncio.open_unix_connection(str(self.folder / "bindings.sock"))
        writer.write(request)
        try:
            return await read_response(reader)
        finally:
            writer.close()

    def deaf_client(self) -> socket.socket:
        """A client that reads only when the test does."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(self.address)
        client.setblocking(False)
        return client


def reset(client: socket.socket) -> None:
    """Leave at once: a client that only closes might still wait for its answer."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextlib.asynccontextmanager
async def running(
    limits: Limits | None = None,
    response_timeout_s: float = 2.0,
    store_bytes: int = 64 * 1024 * 1024,
    disk_bytes: int = 0,
) -> AsyncIterator[World]:
    """A world that runs; with `disk_bytes`, the machine's disk is behind the worker's memory."""
    with TemporaryDirectory(prefix="edge-") as folder:
        world = World(Path(folder), limits or Limits(), response_timeout_s, store_bytes, disk_bytes)
        await world.start()
        try:
            yield world
        finally:
            world.stop()


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    """A world with the usual limits."""
    async with running() as world:
        yield world
