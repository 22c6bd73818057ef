"""The load of a soak: what users of one PoP ask for, in their shares, each answer checked byte for byte.

Popularity follows Zipf's law. Hits over HTTP/1.1 in the clear and over TLS and over HTTP/2, misses, ranges,
compressed text, conditional requests that are answered with 304, large objects, and readers that take their
time. What one request found is an error in words, "" for none.
"""

from __future__ import annotations

import asyncio
import bisect
import gzip
import itertools
import random
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

import brotli  # type: ignore[import-untyped]
import msgspec
import zstandard

from atoll.config.origins import OriginTlsSpec
from atoll.errors import RemoteError
from atoll.http.dial import Dialer, Target
from atoll.http.fields import Headers, get
from atoll.http.resolve import Resolver
from atoll.http.upstream import UpstreamPool, fetch, render_request
from atoll.lab.content import MAX_SIZE, check, content
from atoll.lab.lab_origin import Answer
from atoll.lab.reader import Got, Reader
from atoll.lab.scene import HOST
from atoll.lab.watch import Ledger

HOT: Final = 2000  # objects that are asked for by Zipf's law
MEDIUM: Final = 50
LARGE: Final = 5
MEDIUM_BYTES: Final = 200_000
LARGE_BYTES: Final = 3 * 1024 * 1024
SLOW_BYTES_S: Final = 300_000

ROOT: Final = "/plain/soak"
TEXT: Final = "/text/soak"
ANSWERS: Final = (
    Answer(prefix=f"{ROOT}/hot/", size=2048, cache_control="max-age=86400"),
    Answer(prefix=f"{ROOT}/once/", size=1024, cache_control="max-age=86400"),
    Answer(prefix=f"{ROOT}/medium/", size=MEDIUM_BYTES, cache_control="max-age=86400"),
    Answer(prefix=f"{ROOT}/large/", size=LARGE_BYTES, cache_control="max-age=86400"),
    Answer(prefix=f"{TEXT}/", size=8192, cache_control="max-age=86400"),
)
SHARES: Final = {
    "hit": 0.38,
    "hit-tls": 0.10,
    "hit-h2": 0.20,
    "miss": 0.08,
    "range": 0.06,
    "compressed": 0.09,
    "conditional": 0.085,
    "large": 0.005,
}
"""Of all requests."""

_ZIPF: Final = 0.9
_TIMEOUT_S: Final = 10.0
_BLOCK: Final = 32 * 1024
_ETAGS: Final = 4096
_CODINGS: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"br", brotli.decompress),
    (b"gzip", gzip.decompress),
    (b"zstd", lambda data: zstandard.ZstdDecompressor().decompress(data, MAX_SIZE)),
)


class Place(msgspec.Struct, frozen=True):
    """Where a PoP's worker listens, and who is believed to be it."""

    http: tuple[str, int]
    https: tuple[str, int]
    authority: Path


class Mix:
    """Requests for one PoP. Opened in an event loop; `close` it there."""

    def __init__(self, place: Place, ledger: Ledger, seed: int) -> None:
        host = HOST.encode()
        context = ssl.create_default_context(cafile=str(place.authority))
        self._host = host
        self._clear = Reader(place.http, host, timeout_s=_TIMEOUT_S)
        self._secure = Reader(place.https, host, timeout_s=_TIMEOUT_S, tls=context, name=HOST)
        target = Target(
            host=place.https[0],
            port=place.https[1],
            secure=True,
            protocol="h2",
            tls=OriginTlsSpec(ca=str(place.authority), server_name=HOST),
        )
        self._h2 = UpstreamPool(target, dialer=Dialer(Resolver()))
        self._place = place
        self._ledger = ledger
        self._random = random.Random(seed)  # noqa: S311 - a load, not a secret
        self._seed = seed
        self._popular = _zipf(HOT)
        self._number = 0
        self._etags: dict[str, bytes] = {}
        self._kinds: dict[str, Callable[[], Awaitable[str]]] = {
            "hit": self._hit,
            "hit-tls": self._hit_tls,
            "hit-h2": self._hit_h2,
            "miss": self._miss,
            "range": self._range,
            "compressed": self._compressed,
            "conditional": self._conditional,
            "large": self._large,
        }

    def close(self) -> None:
        """End every connection."""
        self._clear.close()
        self._secure.close()
        self._h2.close()

    def choose(self) -> str:
        """The kind of the next request."""
        return self._random.choices(list(SHARES), list(SHARES.values()))[0]

    async def ask(self, kind: str) -> str:
        """One request of a kind: what was wrong with its answer, "" for nothing."""
        return await self._kinds[kind]()

    def purgeable(self) -> tuple[str, ...]:
        """Paths of one name, which one tag purges: popular ones more often."""
        name = self._name()
        return tuple(f"{root}/{name}" for root in (f"{ROOT}/hot", f"{ROOT}/medium", TEXT))

    # --- kinds

    async def _hit(self) -> str:
        return await self._whole(self._clear, f"{ROOT}/hot/{self._name()}")

    async def _hit_tls(self) -> str:
        return await self._whole(self._secure, f"{ROOT}/hot/{self._name()}")

    async def _miss(self) -> str:
        self._number += 1
        return await self._whole(self._clear, f"{ROOT}/once/{self._seed}-{self._number}")

    async def _large(self) -> str:
        return await self._whole(self._clear, f"{ROOT}/large/{self._random.randrange(LARGE)}")

    async def _whole(self, reader: Reader, path: str) -> str:
        floor = self._ledger.floor(path)[0]
        got = await reader.get(path)
        if not got.error and got.status == 200:
            self._remember(path, got)
        return _judged(path, got.error, got.status, got.body, floor)

    async def _hit_h2(self) -> str:
        path = f"{ROOT}/hot/{self._name()}"
        floor = self._ledger.floor(path)[0]
        request = render_request(b"GET", path.encode(), self._host, [], None)
        try:
            reader = await fetch(self._h2, request, None, _TIMEOUT_S)
            body = await reader.read_all(MAX_SIZE)
        except RemoteError as error:
            return f"h2: {error.message}"
        return _judged(path, "", reader.status, body, floor)

    async def _range(self) -> str:
        path = f"{ROOT}/medium/{self._random.randrange(MEDIUM)}"
        start = self._random.randrange(MEDIUM_BYTES - 1000)
        end = start + self._random.randrange(1000)
        got = await self._clear.get(path, [(b"Range", b"bytes=%d-%d" % (start, end))])
        if got.error or got.status not in (200, 206):
            return got.error or f"status {got.status}"
        version = int(got.text(b"lab-version") or -1)
        whole = _known(path, version, MEDIUM_BYTES)
        return "" if got.body == (whole if got.status == 200 else whole[start : end + 1]) else "wrong range"

    async def _compressed(self) -> str:
        path = f"{TEXT}/{self._name()}"
        floor = self._ledger.floor(path)[0]
        coding, decode = self._random.choice(_CODINGS)
        got = await self._clear.get(path, [(b"Accept-Encoding", coding)])
        if got.error or got.status != 200:
            return got.error or f"status {got.status}"
        if got.fields.get(b"content-encoding") != coding:
            return f"not {coding.decode()}"
        try:
            body = decode(got.body)
        except (brotli.error, OSError, EOFError, zstandard.ZstdError) as error:
            return f"wrong {coding.decode()}: {error}"
        return _judged(path, "", 200, body, floor)

    async def _conditional(self) -> str:
        path = f"{ROOT}/hot/{self._name()}"
        floor = self._ledger.floor(path)[0]
        etag = self._etags.get(path)
        got = await self._clear.get(path, [(b"If-None-Match", etag)] if etag is not None else ())
        if got.status == 304:
            same = etag is not None and get(_fields(got), b"etag") == etag
            current = int(got.text(b"lab-version") or -1) >= floor
            return "" if same and current and not got.body else "wrong 304"
        if not got.error and got.status == 200:
            self._remember(path, got)
        return _judged(path, got.error, got.status, got.body, floor)

    def _remember(self, path: str, got: Got) -> None:
        etag = got.fields.get(b"etag")
        if etag is not None and (path in self._etags or len(self._etags) < _ETAGS):
            self._etags[path] = etag

    async def read_slowly(self) -> str:
        """A large object, read no faster than somebody on a slow line can."""
        path = f"{ROOT}/large/{self._random.randrange(LARGE)}"
        reader, writer = await asyncio.open_connection(*self._place.http, limit=_BLOCK)
        try:
            writer.write(render_request(b"GET", path.encode(), self._host, [(b"connection", b"close")], None))
            head = await reader.readuntil(b"\r\n\r\n")
            body = bytearray()
            while block := await reader.read(_BLOCK):
                body += block
                await asyncio.sleep(len(block) / SLOW_BYTES_S)
        finally:
            writer.close()
        status = int(head.split(b" ", 2)[1])
        return _judged(path, "", status, bytes(body), 0)

    def _name(self) -> int:
        return bisect.bisect(self._popular, self._random.random())


def _zipf(count: int) -> list[float]:
    """Cumulative shares of the ranks."""
    weights = [1 / rank**_ZIPF for rank in range(1, count + 1)]
    total = sum(weights)
    return [share / total for share in itertools.accumulate(weights[:-1])]


def _judged(path: str, error: str, status: int, body: bytes, floor: int) -> str:
    if error or status != 200:
        return error or f"status {status}"
    version = check(path, body)
    if version is None:
        return "wrong bytes"
    return "" if version >= floor else "stale"


def _fields(got: Got) -> Headers:
    return list(got.fields.items())


@lru_cache(maxsize=2 * MEDIUM)
def _known(path: str, version: int, size: int) -> bytes:
    return content(path, version, size)
