"""The scripted origin of the conformance table: answers as the step that is played says, byte for byte.

The case travels in the first segment of the path, so that many are played at once. Every request is written
down with the step in which it came.
"""

from __future__ import annotations

import asyncio
import re
import socket
from time import time
from typing import Final
from urllib.parse import urlsplit

import msgspec
from conformance_case import Answer
from conformance_time import Places

REASONS: Final = {200: "OK", 206: "Partial Content", 304: "Not Modified", 404: "Not Found"}
_RANGE: Final = re.compile(r"bytes=(?P<first>\d*)-(?P<last>\d*)")
_NO_BODY: Final = frozenset({204, 304})
_BACKLOG: Final = 1024


class Asked(msgspec.Struct):
    """A request as the origin got it."""

    step: int
    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes

    def field(self, name: str) -> str | None:
        """All values of a field, None without one."""
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None


class Script:
    """What the origin says in one case, and what it was asked."""

    def __init__(self, case: str, places: Places) -> None:
        self.case = case
        self.places = places
        self.step = 0
        self.answer = Answer()
        self.asked: list[Asked] = []
        self.begun: set[int] = (
            set()
        )  # steps that are being answered: a part has been sent, or is thought about
        self.changed = asyncio.Event()

    def notify(self) -> None:
        """Wake who waits for something to happen."""
        self.changed.set()
        self.changed = asyncio.Event()

    def in_step(self, step: int) -> list[Asked]:
        """What came in a step."""
        return [asked for asked in self.asked if asked.step == step]


def step_body(case: str, step: int) -> bytes:
    """The body that an answer has when it says none."""
    return f"{case}, answer {step}\n".encode()


class ScriptedOrigin:
    """Listens on a port of its own."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=sock, backlog=_BACKLOG)

    def stop(self) -> None:
        """Listen no more and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, OSError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *rest = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ", 2)
        fields = [(name.lower(), value.strip(" \t")) for name, _, value in (f.partition(":") for f in rest)]
        asked = Asked(0, method, target, fields, b"")
        asked.body = await _read_body(reader, asked)
        script = self.scripts.get(urlsplit(target).path.split("/")[1] if "/" in target else "")
        if script is None:
            await _send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\nok")
            return True
        asked.step = step = script.step
        script.asked.append(asked)
        script.notify()
        return await _answer(writer, script, step, script.answer, asked)


async def _read_body(reader: asyncio.StreamReader, asked: Asked) -> bytes:
    if (asked.field("transfer-encoding") or "").lower() == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return body
    return await reader.readexactly(int(asked.field("content-length") or 0))


async def _answer(
    writer: asyncio.StreamWriter, script: Script, step: int, answer: Answer, asked: Asked
) -> bool:
    """Say `answer`; whether the connection can be used again."""
    answer = _chosen(answer, asked)
    for status, lines in answer.interim:
        await _send(writer, _head(status, _filled(script, lines)))
    if answer.delay_s:
        script.begun.add(step)
        script.notify()
        await asyncio.sleep(answer.delay_s)
    if answer.dropped:
        return False
    code, head, body = _response(script, step, answer, asked)
    writer.write(_head(code, head, answer.version))
    if asked.method != "HEAD" and code not in _NO_BODY:
        await _send_body(writer, script, step, answer, body)
    script.begun.add(step)
    script.notify()
    await writer.drain()
    return answer.framing != "close" and answer.cut < 0 and answer.version == "HTTP/1.1"


def _chosen(answer: Answer, asked: Asked) -> Answer:
    """The answer, or the one that it has for such a request."""
    if asked.body and answer.with_body is not None:
        answer = answer.with_body
    if answer.validated is not None and _validates(asked, answer.validated):
        answer = answer.validated
    return answer


def _response(script: Script, step: int, answer: Answer, asked: Asked) -> tuple[int, list[str], bytes]:
    """Status, field lines and body of an answer."""
    body = step_body(script.case, step) if answer.body is None else answer.body
    if answer.reflects:
        body = f"{answer.reflects}={asked.field(answer.reflects)}".encode()
    code, lines = answer.status, _filled(script, answer.lines)
    if answer.ranged and code == 200:
        code, lines, body = _ranged(asked, lines, body)
    if answer.dated and not any(line.lower().startswith("date:") for line in lines):
        lines.append(script.places.fill("Date: {now}", time()))
    if code in _NO_BODY:
        return code, lines, b""
    framing = {
        "length": f"Content-Length: {len(body)}",
        "chunked": "Transfer-Encoding: chunked",
        "close": "Connection: close",
    }
    return code, [*lines, framing[answer.framing]], body


async def _send_body(
    writer: asyncio.StreamWriter, script: Script, step: int, answer: Answer, body: bytes
) -> None:
    chunked = answer.framing == "chunked"
    sent = body if answer.cut < 0 else body[: answer.cut]
    half = len(sent) // 2 if answer.halves_s else 0
    if half:
        await _send(writer, _piece(sent[:half], chunked))
        script.begun.add(step)
        script.notify()
        await asyncio.sleep(answer.halves_s)
    if len(sent) > half:
        await _send(writer, _piece(sent[half:], chunked))
    if chunked and answer.cut < 0:
        await _send(writer, "\r\n".join(["0", *answer.trailers, "", ""]).encode("latin-1"))


def _piece(data: bytes, chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data


def _filled(script: Script, lines: tuple[str, ...]) -> list[str]:
    now_s = time()
    return [script.places.fill(line, now_s) for line in lines]


def _head(status: int, lines: list[str], version: str = "HTTP/1.1") -> bytes:
    head = [f"{version} {status} {REASONS.get(status, 'Status')}", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _ranged(asked: Asked, lines: list[str], body: bytes) -> tuple[int, list[str], bytes]:
    """One range of `body`, or all of it: RFC 9110 §14 as a file server does it."""
    lines = [*lines, "Accept-Ranges: bytes"]
    match = _RANGE.fullmatch(asked.field("range") or "")
    if match is None or asked.method != "GET" or not _same(asked.field("if-range"), lines):
        return 200, lines, body
    size = len(body)
    if match["first"]:
        begin, end = int(match["first"]), min(int(match["last"] or size - 1), size - 1)
    else:
        begin, end = max(size - int(match["last"] or 0), 0), size - 1
    if begin > end:
        return 416, [*lines, f"Content-Range: bytes */{size}"], b""
    return 206, [*lines, f"Content-Range: bytes {begin}-{end}/{size}"], body[begin : end + 1]


def _validates(asked: Asked, validated: Answer) -> bool:
    """Whether the request is conditional, and on the entity tag of the 304 if that has one."""
    tags, since = asked.field("if-none-match"), asked.field("if-modified-since")
    etag = next((line[5:].strip() for line in validated.lines if line.startswith("ETag:")), "")
    return (tags is not None and etag in tags) or (tags is None and since is not None)


def _same(condition: str | None, lines: list[str]) -> bool:
    if condition is None:
        return True
    values = dict(line.partition(":")[::2] for line in lines)
    return condition in (values.get("ETag", "").strip(), values.get("Last-Modified", "").strip())
