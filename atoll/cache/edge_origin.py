"""A cache in front of an origin as a small Python API: one process, one node, any key.

Three strategies. `EDGE_FIRST` answers from the cache while an entry is fresh, renews it behind when it is
about to expire, and falls back on what is stale when the origin fails. `ORIGIN_FIRST` asks the origin every
time and falls back likewise. `EDGE_ONLY` never asks. However many callers want a key at once, the origin is
asked once.

The edge's own cache (`atoll.edge.cached`) follows the same three strategies for HTTP, with HTTP's rules; this
is for programs that want the pattern without the protocol. Times come from a clock that never jumps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from time import monotonic
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from atoll.cache.eviction import S3Fifo
from atoll.errors import RemoteError

DEFAULT_TTL_S: Final = 300.0
REFRESH_SHARE: Final = 0.2
"""An entry is renewed behind when so much of its life is left."""

_SLOT: Final = 512  # bytes that an entry costs beside its data


class CacheStrategy(Enum):
    """Where an answer comes from."""

    EDGE_FIRST = "edge_first"
    ORIGIN_FIRST = "origin_first"
    EDGE_ONLY = "edge_only"


class Fetched(NamedTuple):
    """What an origin answered. `data` is None only with `unchanged`: what has `etag` still holds."""

    data: Any
    etag: str = ""
    size: int = 0  # bytes; 0: unknown
    unchanged: bool = False


Fetch = Callable[[str, str], Awaitable[Fetched]]
"""Asks the origin for a key; the second argument is the entity tag of what is cached, "" if nothing is.

Raises `RemoteError` when there is no answer; any other exception is a defect and reaches the caller.
"""


class Answer(msgspec.Struct, frozen=True):
    """What `get` returns. `source` is one of the words in `SOURCES`; `data` is None for the last two."""

    data: Any
    source: str
    age_s: float = 0.0
    warning: str = ""


SOURCES: Final = {
    "edge_cache_fresh": "from the cache",
    "edge_cache_refreshing": "from the cache, renewed behind because it is about to expire",
    "edge_cache_stale_revalidating": "stale, renewed behind",
    "edge_cache_after_wait": "somebody else's question to the origin answered this one too",
    "origin": "from the origin, just now",
    "edge_cache_stale_fallback": "stale, because the origin did not answer",
    "not_cached": "EDGE_ONLY, and nothing fresh is cached",
    "failed": "the origin did not answer, and nothing may stand in",
}


class Stats(msgspec.Struct):
    """Counters. Every `get` is a hit or a miss; `origin_requests` counts questions, not callers."""

    edge_hits: int = 0
    edge_misses: int = 0
    origin_requests: int = 0
    origin_failures: int = 0
    stale_served: int = 0
    revalidations: int = 0
    collapsed: int = 0


class _Entry(msgspec.Struct):
    data: Any
    etag: str
    stored_s: float
    ttl_s: float


class EdgeOriginCache:
    """One node's cache of what `origin_url` (or `fetch`) answers.

    Args:
        node_id: the node's name, for `get_stats`.
        origin_url: where keys are asked for, as `{origin_url}/{key}`, unless there is a `fetch`.
        fetch: how the origin is asked.
        capacity: bytes of data to keep, counted by `Fetched.size`.
        stale_s: for how long past its end an entry may stand in for an origin that fails.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        node_id: str,
        origin_url: str = "",
        *,
        fetch: Fetch | None = None,
        capacity: int = 64 * 1024 * 1024,
        stale_s: float = 86_400.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.node_id = node_id
        self.origin_url = origin_url
        self.stats = Stats()
        self._fetch = fetch if fetch is not None else HttpOrigin(origin_url)
        self._stale_s = stale_s
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._policy: S3Fifo[str] = S3Fifo(capacity)
        self._asking: dict[str, asyncio.Task[_Entry]] = {}

    async def get(
        self,
        key: str,
        strategy: CacheStrategy = CacheStrategy.EDGE_FIRST,
        ttl_s: float = DEFAULT_TTL_S,
        stale_while_revalidate_s: float = 0.0,
    ) -> Answer:
        """The data of `key`. A failing origin is an answer too (`failed`), never an exception.

        `ttl_s` is how long what the origin answers now will be fresh; for `stale_while_revalidate_s` past
        its end an entry is served at once and renewed behind.
        """
        entry = self._entries.get(key)
        if strategy is CacheStrategy.EDGE_ONLY:
            return self._from_edge_only(key, entry)
        if strategy is CacheStrategy.ORIGIN_FIRST:
            return await self._from_origin(key, entry, ttl_s)
        if entry is not None:
            left_s = entry.ttl_s - self._age_s(entry)
            if left_s > entry.ttl_s * REFRESH_SHARE:
                return self._hit(key, entry, "edge_cache_fresh")
            if left_s > 0:
                self._renew_behind(key, entry, ttl_s)
                return self._hit(key, entry, "edge_cache_refreshing")
            if -left_s <= stale_while_revalidate_s:
                self.stats.stale_served += 1
                self._renew_behind(key, entry, ttl_s)
                return self._hit(key, entry, "edge_cache_stale_revalidating")
        return await self._from_origin(key, entry, ttl_s)

    def invalidate(self, key: str) -> bool:
        """Forget `key`; what is on its way is not kept. Whether it was there."""
        self._asking.pop(key, None)
        self._policy.remove(key)
        return self._entries.pop(key, None) is not None

    def get_stats(self) -> dict[str, str | int | float]:
        """The counters, with the node's name and the hit rate in percent."""
        stats = self.stats
        total = stats.edge_hits + stats.edge_misses
        rate = 100 * stats.edge_hits / total if total else 0.0
        return {
            "node_id": self.node_id,
            "total_requests": total,
            "edge_hit_rate": round(rate, 1),
            **msgspec.structs.asdict(stats),
        }

    async def settle(self) -> None:
        """Wait until nothing is asked any more."""
        while self._asking:
            await asyncio.gather(*self._asking.values(), return_exceptions=True)

    # --- where answers come from

    def _from_edge_only(self, key: str, entry: _Entry | None) -> Answer:
        if entry is not None and self._age_s(entry) < entry.ttl_s:
            return self._hit(key, entry, "edge_cache_fresh")
        self.stats.edge_misses += 1
        return Answer(None, "not_cached")

    async def _from_origin(self, key: str, entry: _Entry | None, ttl_s: float) -> Answer:
        self.stats.edge_misses += 1
        waits = key in self._asking
        self.stats.collapsed += waits
        try:
            fresh = await asyncio.shield(self._ask(key, entry, ttl_s))
        except RemoteError as error:
            return self._fallback(entry, str(error))
        return Answer(fresh.data, "edge_cache_after_wait" if waits else "origin", self._age_s(fresh))

    def _fallback(self, entry: _Entry | None, why: str) -> Answer:
        if entry is None or self._age_s(entry) - entry.ttl_s > self._stale_s:
            return Answer(None, "failed", warning=why)
        self.stats.stale_served += 1
        return Answer(entry.data, "edge_cache_stale_fallback", self._age_s(entry), why)

    def _hit(self, key: str, entry: _Entry, source: str) -> Answer:
        self.stats.edge_hits += 1
        self._policy.touch(key)
        return Answer(entry.data, source, self._age_s(entry))

    # --- asking

    def _renew_behind(self, key: str, entry: _Entry, ttl_s: float) -> None:
        if key not in self._asking:
            self.stats.revalidations += 1
            self._ask(key, entry, ttl_s).add_done_callback(_seen)

    def _ask(self, key: str, entry: _Entry | None, ttl_s: float) -> asyncio.Task[_Entry]:
        """The one question that is under way for `key`; it goes on when whoever waits for it leaves."""
        task = self._asking.get(key)
        if task is None:
            task = asyncio.ensure_future(self._question(key, entry, ttl_s))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        return task

    async def _question(self, key: str, entry: _Entry | None, ttl_s: float) -> _Entry:
        self.stats.origin_requests += 1
        began_s = self._clock()
        me = asyncio.current_task()
        try:
            answer = await self._fetch(key, entry.etag if entry is not None else "")
        except RemoteError:
            self.stats.origin_failures += 1
            raise
        data = entry.data if answer.unchanged and entry is not None else answer.data
        fresh = _Entry(data, answer.etag, began_s, ttl_s)
        if self._asking.get(key) is me:  # else it has been invalidated meanwhile
            self._keep(key, fresh, answer.size)
        return fresh

    def _keep(self, key: str, entry: _Entry, size: int) -> None:
        evicted = self._policy.admit(key, size + len(key) + _SLOT)
        if evicted is None:
            self._entries.pop(key, None)
            return
        for gone in evicted:
            self._entries.pop(gone, None)
        self._entries[key] = entry

    def _asked(self, key: str, task: asyncio.Task[_Entry]) -> None:
        if self._asking.get(key) is task:
            del self._asking[key]
        if not task.cancelled():
            task.exception()  # seen, also when everybody who waited for it has left

    def _age_s(self, entry: _Entry) -> float:
        return self._clock() - entry.stored_s


def _seen(task: asyncio.Task[_Entry]) -> None:
    """An origin that fails behind somebody's back is counted; anything else is a defect and is told."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, RemoteError):
        context = {"message": "asking an origin failed", "exception": error, "task": task}
        asyncio.get_running_loop().call_exception_handler(context)


class HttpOrigin:
    """Asks `{url}/{key}` over HTTP; a JSON answer becomes its value, any other its text."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s

    async def __call__(self, key: str, etag: str) -> Fetched:
        """See `Fetch`."""
        import httpx

        headers = {"if-none-match": etag} if etag else {}
        try:
            async with httpx.AsyncClient(timeout=self._timeout_s) as client:
                answer = await client.get(f"{self._url}/{quote(key)}", headers=headers)
        except httpx.HTTPError as error:
            raise RemoteError(f"{self._url} does not answer: {error or type(error).__name__}") from error
        tag = answer.headers.get("etag", "")
        if answer.status_code == 304 and etag:
            return Fetched(None, tag or etag, unchanged=True)
        if answer.status_code >= 400:
            raise RemoteError(f"{self._url} answered {answer.status_code}", answer.status_code)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        try:
            data = answer.json() if is_json else answer.text
        except ValueError as error:
            raise RemoteError(f"{self._url} says JSON and sends something else: {error}") from error
        return Fetched(data, tag, len(answer.content))
