"""Edge and origin: a cache that asks once, renews ahead of time and stands in for an origin that is down.

    python examples/edge-origin-cache/main.py

Everything is real: the origin is an HTTP server in this process that counts what it is asked and can be shut
down. Only the clock is turned forward instead of waited for.
"""

from __future__ import annotations

import asyncio
import json
from time import monotonic

from atoll.cache import CacheStrategy, EdgeOriginCache

LATENCY_S = 0.1


class Origin:
    """A small HTTP origin, 100 ms away."""

    def __init__(self) -> None:
        self.requests = 0
        self.port = 0
        self._version = 1
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests += 1
        await asyncio.sleep(LATENCY_S)
        key, etag = head.split(" ")[1].lstrip("/"), f'"v{self._version}"'
        body = json.dumps({"key": key, "value": f"Data for {key}"}).encode()
        if f"if-none-match: {etag}" in head.lower():
            writer.write(f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\nConnection: close\r\n\r\n".encode())
        else:
            fields = f"ETag: {etag}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


class Clock:
    """The time, and a hand to turn it forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead_s


async def main() -> None:
    origin, clock = Origin(), Clock()
    await origin.start()
    cache = EdgeOriginCache("edge-us-west", f"http://127.0.0.1:{origin.port}", clock=clock)

    async def show(title: str, **options: object) -> None:
        answer = await cache.get("user:12345", ttl_s=60, **options)  # type: ignore[arg-type]
        data = "data" if answer.data else "no data"
        print(f"{title:<46}{answer.source:<32}{data}, age {answer.age_s:4.1f} s")

    print("Strategies")
    await show("cold: the origin is asked")
    await show("warm: from the edge")
    await show("edge only, and it is there", strategy=CacheStrategy.EDGE_ONLY)
    await show("origin first: asked though it is there", strategy=CacheStrategy.ORIGIN_FIRST)

    print("\nAhead of expiry")
    clock.ahead_s += 50
    await show("10 s left of 60: served, renewed behind")
    await cache.settle()
    await show("the renewed one")

    print("\nStale")
    clock.ahead_s += 70
    await show("10 s past its end: served, renewed behind", stale_while_revalidate_s=30)
    await cache.settle()

    print("\nStampede")
    before = origin.requests
    answers = await asyncio.gather(*(cache.get("popular:item", ttl_s=120) for _ in range(10)))
    print(f"10 concurrent requests, sources: {sorted({answer.source for answer in answers})}")
    print(f"origin requests made: {origin.requests - before} (should be 1)")

    print("\nThe origin goes down")
    await origin.stop()
    clock.ahead_s += 3600
    await show("an hour later: what is there stands in")
    answer = await cache.get("never:seen")
    print(f"{'what was never there':<46}{answer.source:<32}{answer.warning}")

    print("\nStatistics")
    for key, value in cache.get_stats().items():
        print(f"  {key:<18}{value}")


if __name__ == "__main__":
    asyncio.run(main())
