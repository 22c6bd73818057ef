"""The lab's origin: it answers what it is told to.

Every path has a version, a number that its body names (`atoll.lab.content`). Experiments tell it over HTTP,
on the same socket under a host of its own that no edge forwards: what paths with a prefix answer
(`PUT /answers`), that paths have changed (`POST /bump`), and they ask how often each path was asked for
(`GET /counts`). The origin never looks at a clock to decide what it says: a response has the version that its
path had when the request came.

Idle it does nothing: no timers, no threads.
"""

from __future__ import annotations

import asyncio
import os
import signal
from hashlib import blake2b
from http import HTTPStatus
from time import time
from typing import Final, NamedTuple, TypeVar

import msgspec

from atoll.errors import AtollError, RemoteError
from atoll.http.dates import format_http_date
from atoll.http.fields import Headers, etag_matches, get
from atoll.lab import lasting
from atoll.lab.content import MAX_PATH, MAX_SIZE, content
from atoll.node.role import inherited_sockets, notify_ready

CONTROL_HOST: Final = b"lab-control.localhost"
EVERYTHING: Final = "lab"  # the tag of all that it answers, unless it is told otherwise
MAX_ANSWERS: Final = 256
MAX_PATHS: Final = 200_000
"""Paths that have a version, beyond which the lab has to be reset; and those that are counted."""

_MAX_HEAD: Final = 32 * 1024
_MAX_CONTROL_BODY: Final = 4 * 1024 * 1024
_PIECES: Final = 8
"""A body that takes its time comes in so many pieces."""

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_Told = TypeVar("_Told")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What paths that begin with `prefix` are answered with; the longest prefix counts."""

    prefix: str = "/"
    cache_control: str = "max-age=600"
    tags: tuple[str, ...] = (EVERYTHING, "lab-{name}")  # of Cache-Tag; `{name}` is the path's last part
    status: int = 200
    size: int = 256  # bytes of the body
    delay_ms: int = 0  # until the head
    spread_ms: int = 0  # from the head to the end of the body
    fields: dict[str, str] = {}  # besides


class Bump(msgspec.Struct, frozen=True):
    """These paths have a new version."""

    paths: tuple[str, ...]


class LabOrigin:
    """Versions, counts and answers of one origin."""

    def __init__(self) -> None:
        self._answers: tuple[Answer, ...] = ()
        self._versions: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self.reset()

    # --- what experiments say

    def control(self, method: str, path: str, body: bytes) -> bytes:
        """The JSON that a word of an experiment is answered with.

        Raises:
            RemoteError: it is not understood.
        """
        match method, path:
            case "PUT", "/answers":
                self._set_answers(_decoded(body, tuple[Answer, ...]))
                return b"{}"
            case "POST", "/bump":
                bump = _decoded(body, Bump)
                self._bound(bump.paths)
                for name in bump.paths:
                    self._versions[name] = self._versions.get(name, 0) + 1
                return msgspec.json.encode({name: self._versions[name] for name in bump.paths})
            case "GET", "/counts":
                return msgspec.json.encode(self._counts)
            case "POST", "/reset":
                self.reset()
                return b"{}"
        raise RemoteError(f"{method} {path} is not understood here", 404)

    def reset(self) -> None:
        """As it was in the beginning."""
        self._answers = (Answer(),)  # the longest prefix first
        self._versions.clear()
        self._counts.clear()

    def _set_answers(self, answers: tuple[Answer, ...]) -> None:
        if len(answers) > MAX_ANSWERS or any(answer.size > MAX_SIZE for answer in answers):
            raise RemoteError("too many answers, or too long ones", 413)
        chosen = {answer.prefix: answer for answer in (Answer(), *answers)}
        self._answers = tuple(sorted(chosen.values(), key=lambda answer: -len(answer.prefix)))

    def _bound(self, paths: tuple[str, ...]) -> None:
        new = sum(path not in self._versions for path in paths)
        if len(self._versions) + new > MAX_PATHS:
            raise RemoteError(f"more than {MAX_PATHS} paths", 413, "POST /reset")

    # --- what it says

    def answer_of(self, path: str) -> Answer:
        """What `path` is answered with."""
        return next(answer for answer in self._answers if path.startswith(answer.prefix))

    def counted(self, path: str) -> int:
        """A request for `path` has come: its version now."""
        if path in self._counts or len(self._counts) < MAX_PATHS:
            self._counts[path] = self._counts.get(path, 0) + 1
        return self._versions.get(path, 0)


def _decoded(body: bytes, kind: type[_Told]) -> _Told:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise RemoteError(f"not what is expected: {error}", 400) from error


class _Request(NamedTuple):
    method: str
    path: str  # without its query
    headers: Headers
    body: bytes


class Door:
    """Connections to an origin."""

    def __init__(self, origin: LabOrigin) -> None:
        self._origin = origin
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first request to its last."""
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._open.add(task)
        try:
            while request := await _read(reader):
                if request.path.startswith(lasting.PREFIX):
                    await lasting.converse(request.path, request.headers, reader, writer)
                    break
                await self._answer(request, writer)
                if (get(request.headers, b"connection") or b"").lower() == b"close":
                    break
        except RemoteError as error:
            _write(writer, error.status, [], error.message.encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the peer has left
        except asyncio.CancelledError:
            pass  # see `close`; asyncio's server would complain of a task that says so
        finally:
            self._open.discard(task)
            writer.close()

    def close(self) -> None:
        """End every connection."""
        for task in self._open:
            task.cancel()

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        if get(request.headers, b"host") == CONTROL_HOST:
            self._control(request, writer)
        elif request.path == "/health":
            _write(writer, 200, [(b"cache-control", b"no-store")], b"ok")
        elif request.method in ("GET", "HEAD"):
            await self._say(request, writer)
        else:
            _write(writer, 405, [(b"allow", b"GET, HEAD")], b"")
        await writer.drain()

    def _control(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        try:
            said = self._origin.control(request.method, request.path, request.body)
        except RemoteError as error:
            _write(writer, error.status, [], error.message.encode())
        else:
            _write(writer, 200, [(b"content-type", b"application/json")], said)

    async def _say(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        path = request.path
        version = self._origin.counted(path)  # from here on a change comes too late for this request
        answer = self._origin.answer_of(path)
        if answer.delay_ms:
            await asyncio.sleep(answer.delay_ms / 1000)
        fields = _fields(answer, path, version)
        etag = get(fields, b"etag")
        known = get(request.headers, b"if-none-match")
        if known is not None and etag is not None and etag_matches(known, etag, weak=True):
            _write(writer, 304, fields, None)
        elif request.method == "HEAD":
            length = len(content(path, version, answer.size))
            _write(writer, answer.status, [*fields, (b"content-length", b"%d" % length)], None)
        else:
            await _write_slowly(writer, answer, fields, content(path, version, answer.size))


def _fields(answer: Answer, path: str, version: int) -> Headers:
    mark = blake2b(path.encode(), digest_size=6).hexdigest()
    name = path.rpartition("/")[2]
    told = {
        "date": format_http_date(time()).decode(),
        "content-type": "text/plain",
        "cache-control": answer.cache_control,
        "cache-tag": ",".join(tag.replace("{name}", name) for tag in answer.tags),
        "etag": f'"{version}-{mark}"',
        "lab-version": str(version),
        **answer.fields,
    }
    return [(name.encode(), value.encode("latin-1")) for name, value in told.items() if value]


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    """The next request; None when there is none.

    Raises:
        RemoteError: it is none of ours.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise RemoteError("the head is too long", 431) from None
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    line, *lines = head[:-4].split(b"\r\n")
    parts = line.decode("latin-1").split(" ")
    pairs = [field.partition(b":") for field in lines]
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not all(colon for _, colon, _ in pairs):
        raise RemoteError("not a request", 400)
    headers = [(name.lower(), value.strip()) for name, _, value in pairs]
    path = parts[1].partition("?")[0]
    if len(path) > MAX_PATH or get(headers, b"transfer-encoding") is not None:
        raise RemoteError("a path that is too long, or a body without a length", 400)
    length = get(headers, b"content-length") or b"0"
    if not length.isdigit() or int(length) > _MAX_CONTROL_BODY:
        raise RemoteError("the body is too long", 413)
    body = await reader.readexactly(int(length))
    return _Request(parts[0], path, headers, body)


def _write(writer: asyncio.StreamWriter, status: int, fields: Headers, body: bytes | None) -> None:
    """A head, and all of the body; None for none, whatever the fields say."""
    if body is not None:
        fields = [*fields, (b"content-length", b"%d" % len(body))]
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}".encode()]
    lines += [name + b": " + value for name, value in fields]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""))


async def _write_slowly(writer: asyncio.StreamWriter, answer: Answer, fields: Headers, body: bytes) -> None:
    """A body in pieces, over the time that it is to take."""
    if not answer.spread_ms:
        _write(writer, answer.status, fields, body)
        return
    _write(writer, answer.status, [*fields, (b"content-length", b"%d" % len(body))], None)
    size = -(-len(body) // _PIECES)
    for start in range(0, len(body), size):
        writer.write(body[start : start + size])
        await writer.drain()
        await asyncio.sleep(answer.spread_ms / 1000 / _PIECES)


async def _serve() -> None:
    """The role, until it is told to stop.

    Raises:
        AtollError: the socket is missing.
    """
    sockets = inherited_sockets(os.environ)
    if "http" not in sockets:
        raise AtollError("an origin inherits its listening socket", where="ATOLL_FDS")
    door = Door(LabOrigin())
    server = await asyncio.start_server(door.serve, sock=sockets["http"], limit=_MAX_HEAD, backlog=1024)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    notify_ready()
    await stop.wait()
    server.close()
    door.close()


def serve() -> None:
    """The role, until it is told to stop.

    Raises:
        AtollError: the socket is missing.
    """
    asyncio.run(_serve())
