"""What `atoll serve` tells about itself, on loopback or a unix socket alone: JSON, and text for Prometheus.

It reads and changes nothing. A page in a browser on this machine must not read it by a name of its own that
leads to loopback, so on TCP only loopback's own names are answered.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.http.exchange import ConnectionInfo, Exchange, HotEntry
from atoll.http.fields import Headers
from atoll.http.limits import Limits
from atoll.wire.messages import EdgeStats

_JSON: Final[Headers] = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_METRICS: Final[Headers] = [
    (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
    (b"cache-control", b"no-store"),
]
_TEXT: Final[Headers] = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
_PATHS: Final = b"/stats, /metrics, /health\n"

_RESULTS: Final = ("hits", "misses", "stale", "bypass")
_GAUGES: Final = (
    ("connections", "connections", "Open connections."),
    ("cache_bytes", "cache_memory_bytes", "Memory that stored responses take."),
    ("cache_objects", "cache_objects", "Responses stored in memory."),
)
_COUNTERS: Final = (
    ("requests", "requests_total", "Requests."),
    ("errors", "errors_total", "Requests that no origin and no stored response answered."),
    ("handshakes", "tls_handshakes_total", "TLS handshakes done."),
    ("handshakes_resumed", "tls_handshakes_resumed_total", "Of those, resumed sessions."),
    ("handshakes_failed", "tls_handshakes_failed_total", "TLS handshakes that failed."),
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `/stats` answers."""

    version: str
    pid: int
    uptime_s: float
    listen: tuple[str, ...]
    policy: str  # the file; "": none
    policy_seq: int  # grows with every policy taken
    sites: tuple[str, ...]  # their hosts
    restarts: int  # of workers
    workers: tuple[EdgeStats, ...]


class AdminApp:
    """The `App` of the admin socket. `local`: it is a file, and may be asked for by any name."""

    def __init__(self, report: Callable[[], Awaitable[Report]], *, local: bool) -> None:
        self.limits = Limits(connections=64)
        self.draining = False
        self._report = report
        self._local = local
        self._tasks: set[asyncio.Task[None]] = set()

    def opened(self, conn: ConnectionInfo) -> None:
        """See `App`."""

    def hot(self, key: object) -> HotEntry | None:
        """Nothing here is the same twice."""
        return None

    def count_hot(self, conn: ConnectionInfo, entry: HotEntry, now_s: float) -> None:
        """See `hot`."""

    def refused(self, conn: ConnectionInfo, status: int, reason: str) -> None:
        """See `App`."""

    def handle(self, exchange: Exchange) -> None:
        """See `App`."""
        exchange.decline_upgrade()
        task = asyncio.ensure_future(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange) -> None:
        path = exchange.target.partition(b"?")[0]
        if not self._local and not _loopback(exchange.authority):
            exchange.stream.respond(421, _TEXT, b"ask for it by its address on loopback\n")
        elif exchange.method not in (b"GET", b"HEAD"):
            exchange.stream.respond(405, [*_TEXT, (b"allow", b"GET, HEAD")], b"GET only\n")
        elif path == b"/health":
            exchange.stream.respond(200, _TEXT, b"ok\n")
        elif path in (b"/stats", b"/metrics"):
            try:
                report = await self._report()
            except AtollError as error:
                exchange.stream.respond(503, _TEXT, f"{error}\n".encode())
                return
            if path == b"/stats":
                text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
                exchange.stream.respond(200, _JSON, text)
            else:
                exchange.stream.respond(200, _METRICS, metrics(report).encode())
        else:
            exchange.stream.respond(404, _TEXT, _PATHS)


def _loopback(authority: bytes) -> bool:
    name = authority.decode("latin-1")
    host = name.rpartition(":")[0] if not name.endswith("]") and ":" in name else name
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def metrics(report: Report) -> str:
    """`report` in Prometheus' text format, a line a worker."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield from _family("uptime_seconds", "gauge", "Since the start.", [("", report.uptime_s)])
    yield from _family("worker_restarts_total", "counter", "Workers started again.", [("", report.restarts)])
    for field, name, about in _COUNTERS:
        yield from _family(name, "counter", about, _each(report.workers, field))
    for field, name, about in _GAUGES:
        yield from _family(name, "gauge", about, _each(report.workers, field))
    results = [
        (_labels(worker=str(n), result=result), float(getattr(stats, result)))
        for n, stats in enumerate(report.workers)
        for result in _RESULTS
    ]
    yield from _family("responses_total", "counter", "Responses, by what the cache did.", results)
    origins = [
        (_labels(worker=str(n), origin=host), float(up))
        for n, stats in enumerate(report.workers)
        for host, up in stats.origins_up.items()
    ]
    yield from _family("origin_up", "gauge", "Whether an origin passes its checks.", origins)
    refused = [
        (_labels(worker=str(n), rule=rule), float(count))
        for n, stats in enumerate(report.workers)
        for rule, count in stats.refused.items()
    ]
    yield from _family("refused_total", "counter", "Requests refused by a route's rule.", refused)


def _each(workers: Sequence[EdgeStats], field: str) -> list[tuple[str, float]]:
    return [(_labels(worker=str(n)), float(getattr(stats, field))) for n, stats in enumerate(workers)]


def _family(name: str, kind: str, about: str, samples: Sequence[tuple[str, float]]) -> Iterator[str]:
    if samples:
        yield f"# HELP atoll_{name} {about}"
        yield f"# TYPE atoll_{name} {kind}"
        yield from (f"atoll_{name}{labels} {_number(value)}" for labels, value in samples)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
