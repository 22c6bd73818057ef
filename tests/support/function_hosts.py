"""Function hosts for tests: real workerd in its sandbox, with a bindings socket that remembers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import msgspec

from atoll.functions.workers import bundle
from atoll.functions.workers.binaries import esbuild_binary, shared_libraries, workerd_binary
from atoll.functions.workers.build import build
from atoll.functions.workers.host import HostId, Surroundings, plan
from atoll.functions.workers.process import FunctionHost, load

EXAMPLES = Path(__file__).parents[2] / "examples"
WRANGLER = 'name = "{name}"\nmain = "worker.js"\ncompatibility_date = "2026-11-01"\n'

Reply = tuple[int, dict[str, str], bytes]


class Message(msgspec.Struct, frozen=True):
    """A request or a response; header names in small letters."""

    first: str  # the request or status line
    headers: dict[str, str]
    body: bytes = b""

    @property
    def method(self) -> str:
        return self.first.split(" ")[0]

    @property
    def url(self) -> str:
        return self.first.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])


async def read_message(reader: asyncio.StreamReader, *, to_end: bool) -> Message | None:
    """The next message; None at the end. `to_end`: a body without a length lasts until the end."""
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await reader.read() if to_end else b""
    return Message(first, headers, body)


class FakeBindings:
    """Answers outbound requests with `origin` and keeps a Cache API in a dict."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outbound: list[Message] = []
        self.cache_calls: list[Message] = []
        self.cached: dict[str, bytes] = {}
        self.stored = asyncio.Event()
        self.origin: Callable[[Message], Reply] = lambda _request: (
            200,
            {"content-type": "text/html"},
            b"<p>",
        )
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path=str(self.path))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    def asked(self, path: str) -> list[Message]:
        """Outbound requests for a path."""
        return [request for request in self.outbound if urlsplit(request.url).path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_message(reader, to_end=False)) is not None:
                writer.write(self._answer(request))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, request: Message) -> bytes:
        if request.headers.get("atoll-service") == "cache":
            self.cache_calls.append(request)
            return self._cache(request)
        self.outbound.append(request)
        return _render(*self.origin(request))

    def _cache(self, request: Message) -> bytes:
        key = request.url
        if request.method == "PUT":
            self.cached[key] = request.body
            self.stored.set()
            return _render(204, {}, b"")
        if request.method == "PURGE":
            return _render(200 if self.cached.pop(key, None) else 404, {}, b"")
        if key not in self.cached:
            return _render(504, {"cf-cache-status": "MISS"}, b"")
        return self.cached[key].replace(b"\r\n", b"\r\ncf-cache-status: HIT\r\n", 1)


def _render(status: int, headers: dict[str, str], body: bytes) -> bytes:
    length = {} if status == 204 else {"content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **length}.items())
    return f"HTTP/1.1 {status} -\r\n{lines}\r\n".encode() + body


async def ask(
    socket: Path, path: str = "/", headers: dict[str, str] | None = None, host: str = "www.example.com"
) -> Message | None:
    """One request on a connection of its own; None when the host hung up without an answer."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n".encode())
    try:
        return await read_message(reader, to_end=True)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    finally:
        writer.close()


def open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class Bench:
    """A PoP's corner for function hosts, in a folder of its own: `run` deploys and starts."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bindings = FakeBindings(home / "b.sock")
        self.log = home / "host.log"
        workerd = workerd_binary(os.environ)
        self.around = Surroundings(
            run_dir=home / "fn",
            bindings_socket=self.bindings.path,
            workerd=workerd,
            libraries=shared_libraries(workerd),
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.around.run_dir.mkdir()
        await self.bindings.start()
        self._stack.push_async_callback(self.bindings.stop)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def script(self, text: str, name: str = "hello", **options: bool) -> FunctionHost:
        """A running host of a one-file project."""
        project = self.home / f"project-{name}"
        project.mkdir()
        (project / "wrangler.toml").write_text(WRANGLER.format(name=name))
        (project / "worker.js").write_text(text)
        return await self.run(project, **options)

    async def run(self, project: Path, memory_mb: int = 128, **options: bool) -> FunctionHost:
        """A running host of the project in a directory, stopped at the end of the test."""
        host = await self.host(project, memory_mb, **options)
        await host.start()
        self._stack.push_async_callback(host.stop)
        return host

    async def host(
        self, project: Path, memory_mb: int = 128, *, namespaces: bool = True, required: bool = False
    ) -> FunctionHost:
        """A host of the project in a directory, not started."""
        described, data = await build(project, esbuild_binary(os.environ))
        version = bundle.digest(data)[:16]
        unpacked = self.home / "bundles" / version
        if not unpacked.exists():
            bundle.unpack(data, unpacked)
        host_plan = plan(HostId("default", described.name, version), load(unpacked), self.around, memory_mb)
        return FunctionHost(host_plan, self.log, open_log, namespaces=namespaces, required=required)
