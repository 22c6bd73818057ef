"""One check of the real serving path: a request to the PoP's own address, as a user's would arrive.

A new connection each time, so that accepting is checked, too. A refused connection is the only proof that
nobody listens; a reset may be one worker that died with this very connection, so it is tried once more.
Every other failure to get an answer is silence: this side may be short of ports or descriptors itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from atoll.anycast.health import Verdict, classify

HEALTH_PATH: Final = "/.well-known/atoll/health"
HEALTH_HOST: Final = "health.atoll.internal"
TIMEOUT_S: Final = 1.0

_MAX_STATUS_LINE: Final = 1024


class Finding(msgspec.Struct, frozen=True):
    """A verdict and its reason."""

    verdict: Verdict
    detail: str


async def check(
    host: str,
    port: int,
    timeout_s: float = TIMEOUT_S,
    name: str = HEALTH_HOST,
    path: str = HEALTH_PATH,
) -> Finding:
    """Ask once for `path` of the host `name`, in at most `timeout_s`."""
    request = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(timeout_s):
            try:
                line = await _status_line(host, port, request)
            except (ConnectionResetError, asyncio.IncompleteReadError):
                line = await _status_line(host, port, request)
    except TimeoutError:
        return Finding(Verdict.SILENT, f"no answer within {timeout_s:g} s")
    except ConnectionRefusedError:
        return Finding(Verdict.REFUSED, "connection refused")
    except (OSError, asyncio.IncompleteReadError) as error:
        return Finding(Verdict.SILENT, _reason(error))
    except asyncio.LimitOverrunError:
        return Finding(Verdict.WRONG, "the answer is no HTTP")
    return read_status(line)


def read_status(line: bytes) -> Finding:
    """What a status line says."""
    version, code = [*line.rstrip().split(b" ", 2), b""][:2]
    if not version.startswith(b"HTTP/1.") or len(code) != 3 or not code.isdigit():
        return Finding(Verdict.WRONG, "the answer is no HTTP")
    return Finding(classify(int(code)), f"status {int(code)}")


def _reason(error: OSError | asyncio.IncompleteReadError) -> str:
    if isinstance(error, OSError) and not isinstance(error, ConnectionResetError):
        return error.strerror or str(error)
    return "connection closed without an answer"


async def _status_line(host: str, port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, limit=_MAX_STATUS_LINE)
    try:
        writer.write(request)
        return await reader.readuntil(b"\r\n")
    finally:
        writer.transport.abort()
