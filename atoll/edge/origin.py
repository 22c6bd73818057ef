"""Origins: the name table, health, and the order in which a pool's origins are asked.

Nearest healthy origin first, then the others, the pool's failover last. A request moves on to the next origin
when it could not be connected to, did not answer in time, or answered 502, 503 or 504, as long as nothing
of it has been lost: no body, and a method that may be repeated (RFC 9110 §9.2.2). When every origin is
marked down they are all tried all the same: a broken check must not take a site dark.

An origin that takes connections and then says nothing is found out by its checks. Those who wait for it then
go elsewhere at once, and it gets no more time than a check has, unless it is the last one to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from atoll.config.spec import NetworkSpec, OriginSpec, PoolSpec, PopSpec
from atoll.errors import AtollError, RemoteError
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.upstream import (
    REPEATABLE,
    ResponseReader,
    Terms,
    UpstreamPool,
    fetch,
    known_length,
    render_request,
    render_upgrade,
)
from atoll.internet.geography import great_circle_km

_RETRY_STATUS: Final = frozenset((502, 503, 504))
Inform = Callable[[int, Headers], None]
_DEFAULT_POOL: Final = PoolSpec(name="", origins=())


class Origin:
    """One origin: its connections and what its health checks say."""

    def __init__(self, spec: OriginSpec, connect_timeout_s: float) -> None:
        self.spec = spec
        parts = urlsplit(spec.url)
        if parts.scheme != "http":
            raise AtollError(
                f"{spec.url!r} cannot be an origin's address", "http://host:port", f"origin {spec.host}"
            )
        self.pool = UpstreamPool((parts.hostname or "", parts.port or 80), connect_timeout_s)
        self.up = True
        self._streak = 0

    def observe(self, ok: bool, policy: PoolSpec) -> None:
        """A check's result: `rise` good ones bring it up, `fall` bad ones take it down."""
        if ok == self.up:
            self._streak = 0
            return
        self._streak += 1
        if self._streak >= (policy.rise if ok else policy.fall):
            self.up = ok
            self._streak = 0

    def give_up(self) -> None:
        """End calls that wait for the first byte and may be repeated."""
        for call in tuple(self.pool.active):
            if not call.started and call.repeatable:
                call.cancel()
                call.failed(RemoteError("its health checks fail", 504))


class Origins:
    """Every origin of the network as this PoP sees it."""

    def __init__(self, pop: PopSpec, network: NetworkSpec) -> None:
        self._pop = pop
        self._specs = network.origins
        policy = {host: pool for pool in network.pools for host in pool.origins}
        self._policy = policy
        self.by_host = {
            spec.host: Origin(spec, policy.get(spec.host, _DEFAULT_POOL).connect_timeout_s)
            for spec in network.origins
        }
        self._pools = {pool.name: (pool, self._order(pool)) for pool in network.pools}
        self._tasks = [asyncio.ensure_future(self._watch(host, pool)) for host, pool in policy.items()]

    def same(self, network: NetworkSpec) -> bool:
        """Whether `network` has these very origins and pools, so that nothing needs to be rebuilt."""
        pools = tuple(pool for pool, _ in self._pools.values())
        return network.origins == self._specs and network.pools == pools

    def close(self) -> None:
        """Stop checking; open calls end by themselves."""
        for task in self._tasks:
            task.cancel()
        for origin in self.by_host.values():
            origin.pool.close()

    def dark(self, pool_name: str) -> bool:
        """Whether every origin of a pool is marked down."""
        found = self._pools.get(pool_name)
        return found is not None and not any(origin.up for origin in found[1])

    def up(self) -> dict[str, bool]:
        """Health by host."""
        return {host: origin.up for host, origin in self.by_host.items()}

    async def fetch(
        self,
        pool_name: str,
        method: bytes,
        target: bytes,
        host: bytes,
        headers: Headers,
        body: RequestBody | None,
        *,
        upgrade: bytes = b"",
        inform: Inform | None = None,
    ) -> tuple[ResponseReader, str]:
        """The response of the first origin of a pool that gives one, and that origin's host.

        With `upgrade`, the name of a protocol, the origin is asked to go on with it; if it does, the response
        is 101 and `body` is what it is sent from then on. `inform` is called with interim responses, e.g.
        `Stream.inform`.

        Raises:
            RemoteError: no origin answered; the message is the last one's.
        """
        found = self._pools.get(pool_name)
        if found is None:
            raise RemoteError(f"no pool named {pool_name}", 502)
        pool, order = found
        if upgrade:
            request = render_upgrade(target, host, headers, upgrade)
        else:
            request = render_request(method, target, host, headers, body)
        terms = Terms(length=known_length(headers) if body is not None else None, upgrade=upgrade)
        repeatable = body is None and method in REPEATABLE
        last = RemoteError("the pool has no origins", 502)
        candidates = self._candidates(order)
        for position, origin in enumerate(candidates):
            final = position == len(candidates) - 1 or not repeatable
            patience_s = pool.response_timeout_s if origin.up or final else pool.health_timeout_s
            try:
                reader = await fetch(origin.pool, request, body, patience_s, terms=terms, inform=inform)
            except RemoteError as error:
                if error.status != 400:  # the client's own doing says nothing about the origin
                    origin.observe(False, pool)
                last = RemoteError(f"{origin.spec.host}: {error.message}", error.status)
                if final:
                    raise last from error
                continue
            if reader.status in _RETRY_STATUS and not final:
                reader.cancel()
                continue
            return reader, origin.spec.host
        raise last

    async def fetch_backend(
        self,
        host: str,
        method: bytes,
        target: bytes,
        authority: bytes,
        headers: Headers,
        body: RequestBody | None,
        timeout_s: float,
    ) -> ResponseReader:
        """The response of one origin by its name in the network's table.

        Raises:
            RemoteError: the name is not in the table, or the origin did not answer.
        """
        origin = self.by_host.get(host)
        if origin is None:
            raise RemoteError(f"{host} is not in the network's name table", 530)
        request = render_request(method, target, authority, headers, body)
        terms = Terms(length=known_length(headers) if body is not None else None)
        return await fetch(origin.pool, request, body, timeout_s, terms=terms)

    def _order(self, pool: PoolSpec) -> list[Origin]:
        origins = [self.by_host[host] for host in pool.origins if host in self.by_host]
        origins.sort(
            key=lambda origin: great_circle_km(self._pop.lat, self._pop.lon, origin.spec.lat, origin.spec.lon)
        )
        last = self.by_host.get(pool.failover)
        if last is not None and last not in origins:
            origins.append(last)
        return origins

    def _candidates(self, order: list[Origin]) -> list[Origin]:
        healthy = [origin for origin in order if origin.up]
        return healthy + [origin for origin in order if not origin.up]

    async def _watch(self, host: str, pool: PoolSpec) -> None:
        origin = self.by_host.get(host)
        if origin is None:
            return
        request = render_request(
            b"GET", origin.spec.health_path.encode(), host.encode(), [(b"user-agent", b"atoll-health")], None
        )
        while True:
            was_up = origin.up
            origin.observe(await _healthy(origin, request, pool.health_timeout_s), pool)
            if was_up and not origin.up and not self.dark(pool.name):
                origin.give_up()
            await asyncio.sleep(pool.health_interval_s)


async def _healthy(origin: Origin, request: bytes, timeout_s: float) -> bool:
    try:
        reader = await fetch(origin.pool, request, None, timeout_s)
        await reader.read_all(64 * 1024)
    except RemoteError:
        return False
    return 200 <= reader.status < 300
