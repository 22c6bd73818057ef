"""One request over a connection of its own, and everything that comes back, read as it is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import msgspec

TIMEOUT_S = 10.0
_NO_BODY = frozenset({204, 304})
Fields = list[tuple[str, str]]


class Response(msgspec.Struct):
    """A response; names of fields in lowercase. `whole` is false when its end did not come."""

    status: int
    fields: Fields
    body: bytes = b""
    interim: list[int] = []
    trailers: Fields = []
    whole: bool = True
    seconds: float = 0.0

    def field(self, name: str) -> str | None:
        """All values of a field, None without one."""
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None


async def ask(address: tuple[str, int], request: bytes, *, head: bool, leave_s: float = 0.0) -> Response:
    """Send and read to the end. A status of 0 says that there was no answer.

    With `leave_s` the client hangs up after so long, whatever has come.
    """
    began_s = monotonic()
    answer = Response(0, [], whole=False)
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
        async with asyncio.timeout(leave_s or TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(request)
                await _read(reader, answer, head)
            finally:
                writer.close()
    answer.seconds = monotonic() - began_s
    return answer


async def _read(reader: asyncio.StreamReader, answer: Response, head: bool) -> None:
    while True:
        line, *rest = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        status = int(line.split(" ")[1])
        if status >= 200 or status == 101:
            break
        answer.interim.append(status)
    answer.status = status
    answer.fields = [
        (name.lower(), value.strip(" \t")) for name, _, value in (f.partition(":") for f in rest)
    ]
    if head or status in _NO_BODY:
        answer.whole = True
    elif (answer.field("transfer-encoding") or "").lower().endswith("chunked"):
        await _read_chunks(reader, answer)
    elif (length := answer.field("content-length")) is not None:
        await _read_length(reader, answer, int(length))
    else:
        answer.body = await reader.read(-1)
        answer.whole = True


async def _read_chunks(reader: asyncio.StreamReader, answer: Response) -> None:
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        answer.body += (await reader.readexactly(size + 2))[:-2]
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        answer.trailers.append(_field(line[:-2].decode("latin-1")))
    answer.whole = True


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip(" \t")


async def _read_length(reader: asyncio.StreamReader, answer: Response, length: int) -> None:
    try:
        answer.body = await reader.readexactly(length)
        answer.whole = True
    except asyncio.IncompleteReadError as cut:
        answer.body = cut.partial
