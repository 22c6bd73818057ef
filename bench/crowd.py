"""Who is there beside the requests that are measured: `python -m bench.crowd handshakes|readers PORT NUMBER`.

`handshakes` begins NUMBER TLS connections a second, asks for one object on each, and closes. `readers` keeps
NUMBER connections that ask for a large object and take little of it at a time. Both go on until they are told
to end (SIGTERM), and say then in one line of JSON what they have seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import sys
from typing import Final

import msgspec
import uvloop

from bench import objects, prefill

READ_OBJECT: Final = 7
READ_BYTES: Final = 100 * 1024  # of the object that slow readers ask for
SIP: Final = 2048  # bytes that a slow reader takes at a time
PAUSE_S: Final = 1.0  # between two
_MOST_UNDER_WAY: Final = 256
_TIMEOUT_S: Final = 10.0
_OPENING: Final = 64  # connections of readers that are opened at a time
_BUFFER: Final = 4096  # bytes that the kernel keeps for a slow reader, before it doubles them


class Seen(msgspec.Struct):
    """What became of them."""

    done: int = 0  # handshakes with a good answer; objects read to their end
    failed: int = 0
    open: int = 0  # readers now
    held_back: int = 0  # handshakes that were due while too many were under way


async def shake_hands(port: int, rate: float, seen: Seen) -> None:
    """For ever: TLS connections at a steady rate."""
    context, loop = prefill.unchecked_tls(), asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    due_s = loop.time()
    while True:
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        due_s += 1 / rate
        if len(tasks) >= _MOST_UNDER_WAY:
            seen.held_back += 1
            continue
        task = loop.create_task(_one_handshake(port, context, seen))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _one_handshake(port: int, context: ssl.SSLContext, seen: Seen) -> None:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=objects.HOST
            )
            writer.write(prefill.request(1).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answer = await reader.read(-1)
            writer.close()
    except (OSError, TimeoutError, ssl.SSLError):
        seen.failed += 1
        return
    good = answer.endswith(objects.body(1))
    seen.done += good
    seen.failed += not good


async def read_slowly(port: int, count: int, seen: Seen) -> None:
    """For ever: so many readers who are never done for long."""
    opening = asyncio.Semaphore(_OPENING)
    await asyncio.gather(*(_one_reader(port, opening, index / count, seen) for index in range(count)))


async def _one_reader(port: int, opening: asyncio.Semaphore, phase: float, seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    want = objects.body(READ_OBJECT, READ_BYTES)
    while True:
        async with opening:
            sock = await _connect(port)
        seen.open += 1
        try:
            await loop.sock_sendall(sock, prefill.request(READ_OBJECT, READ_BYTES))
            good = await _sip(sock, want, phase)
        except OSError:
            good = False
        finally:
            seen.open -= 1
            sock.close()
        seen.done += good
        seen.failed += not good


async def _connect(port: int) -> socket.socket:
    while True:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            await asyncio.sleep(PAUSE_S)
        else:
            return sock


async def _sip(sock: socket.socket, want: bytes, phase: float) -> bool:
    """Whether all of the object has come, a little at a time; `phase` keeps readers apart."""
    loop = asyncio.get_running_loop()
    got = b""
    await asyncio.sleep(phase * PAUSE_S)
    while data := await loop.sock_recv(sock, SIP):
        got += data
        head, end, body = got.partition(b"\r\n\r\n")
        if end and len(body) >= len(want):
            return head.startswith(b"HTTP/1.1 200") and body == want
        await asyncio.sleep(PAUSE_S)
    return False


async def _main(what: str, port: int, number: float) -> Seen:
    seen, loop = Seen(), asyncio.get_running_loop()
    work = shake_hands(port, number, seen) if what == "handshakes" else read_slowly(port, int(number), seen)
    task = asyncio.ensure_future(work)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    print("ready", flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return seen


if __name__ == "__main__":
    found = uvloop.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
    print(msgspec.json.encode(found).decode(), flush=True)
