"""Load for HTTP/3: `python -m bench.h3_load`, started by `bench.h3` on the load generator's core.

Reads a plan as a line of JSON, keeps a number of requests open on each of a number of connections, with a
client that is not the server's library, and checks every body. Prints what it has done as JSON, after two
marks between which it counted.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from time import perf_counter
from typing import Any, Final

import msgspec
from qh3.asyncio.client import connect
from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.h3.connection import H3Connection
from qh3.h3.events import DataReceived, HeadersReceived
from qh3.quic.configuration import QuicConfiguration

_WARM_S: Final = 0.5


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask, and how much at once. `seconds` is 0 for as many handshakes as `handshakes`."""

    port: int
    host: str
    path: str
    body: str  # what has to come back
    connections: int = 1
    streams: int = 1
    seconds: float = 2.0
    handshakes: int = 0  # instead of requests on open connections


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What has been done between the two marks on standard output."""

    requests: int
    seconds: float
    wrong: int


class _Client(QuicConnectionProtocol):
    """One connection that asks again as soon as it has been answered."""

    plan: Plan
    http: H3Connection
    done = 0
    wrong = 0
    open = True

    def begin(self, plan: Plan) -> None:
        """Open as many requests as there are to be."""
        self.plan = plan
        self.http = H3Connection(self._quic)
        self._body = plan.body.encode()
        self._got: dict[int, list[bytes]] = {}
        for _ in range(plan.streams):
            self._ask()
        self.transmit()

    def _ask(self) -> None:
        stream = self._quic.get_next_available_stream_id()
        plan = self.plan
        fields = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", plan.host.encode()),
            (b":path", plan.path.encode()),
            (b"user-agent", b"bench"),
        ]
        self._got[stream] = []
        self.http.send_headers(stream, fields, end_stream=True)

    def quic_event_received(self, event: Any) -> None:
        """See `QuicConnectionProtocol`."""
        for found in self.http.handle_event(event) if hasattr(self, "http") else ():
            if isinstance(found, DataReceived):
                self._got[found.stream_id].append(found.data)
            if isinstance(found, DataReceived | HeadersReceived) and found.stream_ended:
                got = b"".join(self._got.pop(found.stream_id))
                self.wrong += got != self._body
                self.done += 1
                if self.open:
                    self._ask()


def _configuration(plan: Plan) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, server_name=plan.host
    )


async def _requests(plan: Plan) -> Done:
    clients: list[_Client] = []
    closing = asyncio.Event()

    async def hold(ready: asyncio.Event) -> None:
        where = ("127.0.0.1", plan.port)
        async with connect(*where, configuration=_configuration(plan), create_protocol=_Client) as client:
            assert isinstance(client, _Client)
            client.begin(plan)
            clients.append(client)
            ready.set()
            await closing.wait()
            client.open = False

    tasks = []
    for _ in range(plan.connections):
        ready = asyncio.Event()
        tasks.append(asyncio.ensure_future(hold(ready)))
        await ready.wait()
    await asyncio.sleep(_WARM_S)
    before = sum(client.done for client in clients)
    began_s = perf_counter()
    _mark()
    await asyncio.sleep(plan.seconds)
    requests = sum(client.done for client in clients) - before
    took_s = perf_counter() - began_s
    _mark()
    closing.set()
    await asyncio.gather(*tasks)
    return Done(requests=requests, seconds=took_s, wrong=sum(client.wrong for client in clients))


async def _handshakes(plan: Plan) -> Done:
    began_s = perf_counter()
    _mark()
    for _ in range(plan.handshakes):
        async with connect("127.0.0.1", plan.port, configuration=_configuration(plan)):
            pass
    took_s = perf_counter() - began_s
    _mark()
    return Done(requests=plan.handshakes, seconds=took_s, wrong=0)


def _mark() -> None:
    """Whoever started us reads the server's clock now."""
    print("mark", flush=True)
    sys.stdin.readline()


def main() -> None:
    """Entry point."""
    plan = msgspec.json.decode(sys.stdin.readline(), type=Plan)
    done = asyncio.run(_handshakes(plan) if plan.handshakes else _requests(plan))
    print(msgspec.json.encode(done).decode(), flush=True)


if __name__ == "__main__":
    main()
