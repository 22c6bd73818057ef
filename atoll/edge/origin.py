"""Origins: the name table, health, and the order in which a pool's origins are asked.

The pool's balance says who is asked first; who fails its checks, or has just failed requests in a row, comes
behind the others, and the pool's failover last. A request moves on to the next origin when it could not be
connected to, whatever it asks for; and when there was no answer in time, or one of 502, 503 or 504, if
nothing of it has been lost: a method that may be repeated (RFC 9110 §9.2.2), and no body or one that is kept.
Retries come out of a budget, so that a pool that fails is not asked twice as much for it. When every origin
is marked down they are all tried all the same: a broken check must not take a site dark.

An origin that takes connections and then says nothing is found out by its checks. Those who wait for it then
go elsewhere at once, and it gets no more time than a check has, unless it is the last one to ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

from atoll.config.spec import NetworkSpec, OriginSpec, PoolSpec, PopSpec
from atoll.edge.balance import Balancer, warming
from atoll.edge.ejection import PassiveHealth, RetryBudget, may_eject
from atoll.edge.origin_request import Question, checks
from atoll.errors import AtollError, RemoteError
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.upstream import (
    Dialer,
    Resolver,
    ResponseReader,
    Target,
    Terms,
    Unsent,
    UpstreamPool,
    fetch,
    known_length,
    render_request,
)
from atoll.internet.geography import great_circle_km

_log = logging.getLogger("atoll.edge")

Inform = Callable[[int, Headers], None]
"""Called with each interim response, e.g. `Stream.inform`."""

_RETRY_STATUS: Final = frozenset((502, 503, 504))
_OWN_FAULT: Final = frozenset((400, 413, 499))  # the client's own doing says nothing about the origin
_DEFAULT_POOL: Final = PoolSpec(name="", origins=())
_PORTS: Final = {"http": 80, "https": 443}


class Origin:
    """One origin: its connections, and what checks and requests say of its health."""

    def __init__(self, spec: OriginSpec, policy: PoolSpec, dialer: Dialer | None = None) -> None:
        self.spec = spec
        self.policy = policy
        self.pool = UpstreamPool(
            target_of(spec), policy.connect_timeout_s, dialer=dialer, limits=policy.limits
        )
        self.up = True
        self.passive = PassiveHealth()
        self._back_s = -inf  # when it came up again
        self._streak = 0

    @property
    def name(self) -> str:
        """See `Weighted`."""
        return self.spec.host

    @property
    def weight(self) -> int:
        """See `Weighted`."""
        return self.spec.weight

    def weight_now(self, now_s: float) -> float:
        """Its weight while it is only just back."""
        back_s = max(self._back_s, self.passive.until_s)
        return warming(self.spec.weight, now_s - back_s, self.policy.slow_start_s)

    def observe(self, ok: bool, policy: PoolSpec) -> None:
        """A check's result: `rise` good ones bring it up, `fall` bad ones take it down."""
        if ok == self.up:
            self._streak = 0
            return
        self._streak += 1
        if self._streak >= (policy.rise if ok else policy.fall):
            self.up = ok
            self._streak = 0
            if ok:
                self._back_s = monotonic()
            _log.warning("origin %s is %s", self.spec.host, "up again" if ok else "down")

    def give_up(self) -> None:
        """End calls that wait for the first byte and may be repeated."""
        for call in tuple(self.pool.active):
            if not call.started and call.repeatable:
                call.cancel()
                call.failed(RemoteError("its health checks fail", 504))


class Pool:
    """Origins that answer for each other."""

    def __init__(self, spec: PoolSpec, origins: list[Origin], failover: Origin | None) -> None:
        self.spec = spec
        self.host_header = spec.host_header.encode()
        self.origins = origins  # the nearest first, without the failover
        self.failover = failover
        self.budget = RetryBudget(spec.retry, monotonic())
        self._balancer = Balancer(spec.balance)

    @property
    def all(self) -> list[Origin]:
        """Every origin, the last resort at the end."""
        return self.origins if self.failover is None else [*self.origins, self.failover]

    def candidates(self, key: bytes, now_s: float) -> list[Origin]:
        """Every origin, in the order in which they are asked for `key`."""
        serving = [origin for origin in self.origins if origin.up and not origin.passive.out(now_s)]
        weights = None
        if self.spec.slow_start_s and self.spec.balance != "nearest":
            weights = {origin.name: origin.weight_now(now_s) for origin in serving}
        order = self._balancer.order(serving, key, weights)
        if self.failover is not None and self.failover.up and not self.failover.passive.out(now_s):
            order.append(self.failover)
        rest = [origin for origin in self.all if origin not in order]
        return order + [o for o in rest if o.up] + [o for o in rest if not o.up]

    def failed(self, origin: Origin, now_s: float) -> None:
        """A request to `origin` failed: after some in a row it is left out for a while."""
        policy = self.spec.ejection
        if origin.passive.out(now_s) or not origin.passive.failed(policy):
            return
        out = sum(other.passive.out(now_s) for other in self.all)
        left = sum(other.up and not other.passive.out(now_s) for other in self.all)
        if may_eject(out, left, policy):
            for_s = origin.passive.eject(now_s, policy)
            _log.warning("origin %s is left out for %.0f s: its requests fail", origin.spec.host, for_s)


class Origins:
    """Every origin of the network as this PoP sees it.

    What is the same as `before` is kept with its connections and what is known of its health.
    """

    def __init__(self, pop: PopSpec, network: NetworkSpec, before: Origins | None = None) -> None:
        self._pop = pop
        self._specs = network.origins
        self._resolvers = network.resolvers
        old = before if before is not None and before._resolvers == network.resolvers else None
        self.dialer: Dialer = old.dialer if old is not None else Dialer(Resolver(network.resolvers))
        policy = {host: pool for pool in network.pools for host in pool.origins}
        for pool in network.pools:
            policy.setdefault(pool.failover, pool)
        self.by_host: dict[str, Origin] = {}
        for spec in network.origins:
            wanted = policy.get(spec.host, _DEFAULT_POOL)
            known = old.by_host.get(spec.host) if old is not None else None
            same = known is not None and (known.spec, known.policy) == (spec, wanted)
            self.by_host[spec.host] = known if known and same else Origin(spec, wanted, self.dialer)
        self._pools = {pool.name: self._assemble(pool) for pool in network.pools}
        self._tasks = [
            asyncio.ensure_future(self._watch(self.by_host[host], pool))
            for host, pool in policy.items()
            if host in self.by_host and self.by_host[host].spec.health_path
        ]

    def same(self, network: NetworkSpec) -> bool:
        """Whether `network` has these very origins and pools, so that nothing needs to be rebuilt."""
        pools = tuple(pool.spec for pool in self._pools.values())
        mine = (self._specs, pools, self._resolvers)
        return mine == (network.origins, network.pools, network.resolvers)

    def close(self, successor: Origins | None = None) -> None:
        """Stop checking; open calls end by themselves. What `successor` has taken over goes on."""
        for task in self._tasks:
            task.cancel()
        kept = set(successor.by_host.values()) if successor is not None else set()
        for origin in self.by_host.values():
            if origin not in kept:
                origin.pool.close()

    def dark(self, pool_name: str) -> bool:
        """Whether every origin of a pool is marked down."""
        pool = self._pools.get(pool_name)
        return pool is not None and not any(origin.up for origin in pool.all)

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
        pool = self._pools.get(pool_name)
        if pool is None:
            raise RemoteError(f"no pool named {pool_name}", 502)
        now_s = monotonic()
        pool.budget.request(now_s)
        told = pool.host_header or host
        question = Question(pool.spec, method, target, told, headers, body, upgrade, now_s)
        candidates = pool.candidates(host + target, now_s)[: 1 + pool.spec.retry.most]
        last = RemoteError(f"pool {pool_name} has no origins", 502)
        for position, origin in enumerate(candidates):
            more = position < len(candidates) - 1
            final = not (more and question.repeatable)
            try:
                reader = await question.ask(origin.pool, origin.up or final, inform)
            except RemoteError as error:
                last = RemoteError(f"{origin.spec.host}: {error.message}", error.status)
                self._note_failure(pool, origin, error)
                unsent = isinstance(error, Unsent)
                if more and question.may_repeat(unsent, monotonic()) and pool.budget.take():
                    continue
                raise last from error
            self._note_answer(pool, origin, reader.status)
            if reader.status in _RETRY_STATUS and not final and pool.budget.take():
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
        try:
            return await fetch(origin.pool, request, body, timeout_s, terms=terms)
        except RemoteError as error:
            raise RemoteError(f"{host}: {error.message}", error.status) from error

    def _note_failure(self, pool: Pool, origin: Origin, error: RemoteError) -> None:
        if error.status in _OWN_FAULT or (error.status == 503 and isinstance(error, Unsent)):
            return  # the client's doing, or our own limits'
        if origin.spec.health_path:  # otherwise there is no check that would bring it up again
            origin.observe(False, pool.spec)
        pool.failed(origin, monotonic())

    def _note_answer(self, pool: Pool, origin: Origin, status: int) -> None:
        if status >= 500:
            pool.failed(origin, monotonic())
        else:
            origin.passive.succeeded(monotonic(), pool.spec.ejection)

    def _assemble(self, pool: PoolSpec) -> Pool:
        origins = [self.by_host[host] for host in pool.origins if host in self.by_host]
        origins.sort(
            key=lambda origin: great_circle_km(self._pop.lat, self._pop.lon, origin.spec.lat, origin.spec.lon)
        )
        last = self.by_host.get(pool.failover)
        return Pool(pool, origins, last if last not in origins else None)

    async def _watch(self, origin: Origin, pool: PoolSpec) -> None:
        async for ok in checks(origin.pool, origin.spec, pool):
            was_up = origin.up
            origin.observe(ok, pool)
            if was_up and not origin.up and not self.dark(pool.name):
                origin.give_up()


def target_of(spec: OriginSpec) -> Target:
    """Where an origin is.

    Raises:
        AtollError: its URL says something else.
    """
    where, hint = f"origin {spec.host}", "http://host:port or https://host"
    try:
        parts = urlsplit(spec.url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise AtollError(f"{spec.url!r} is no URL: {error}", hint, where) from error
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in _PORTS or not host or rest:
        raise AtollError(f"{spec.url!r} cannot be an origin's address", hint, where)
    return Target(
        host=host,
        port=_PORTS[parts.scheme] if port is None else port,
        secure=parts.scheme == "https",
        protocol=spec.protocol,
        tls=spec.tls,
        allow_private=spec.allow_private,
    )
