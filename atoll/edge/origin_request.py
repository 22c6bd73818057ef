"""One request to a pool of origins, rendered once and asked as often as it may be; an origin's checks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from math import inf
from typing import Final

from atoll.config.spec import OriginSpec, PoolSpec
from atoll.errors import RemoteError
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.upstream import (
    REPEATABLE,
    ResponseReader,
    Terms,
    Unsent,
    UpstreamPool,
    fetch,
    known_length,
    render_request,
    render_request_lines,
    render_upgrade,
)

_CHECK_BODY: Final = 64 * 1024


class Question:
    """What origins are asked in turn. `repeatable`: another may be asked after one has heard all of it."""

    def __init__(
        self,
        pool: PoolSpec,
        method: bytes,
        target: bytes,
        host: bytes,
        headers: Headers,
        body: RequestBody | None,
        upgrade: bytes,
        now_s: float,
    ) -> None:
        self._pool = pool
        self._body = body
        self.repeatable = method in REPEATABLE and (body is None or bool(upgrade))
        length = None
        if upgrade:
            self._request = render_upgrade(target, host, headers, upgrade)
        elif body is not None and method in REPEATABLE and _whole(body, pool.retry.body):
            lines = render_request_lines(method, target, host, headers)
            content = _taken(body)
            self._request = b"%bContent-Length: %d\r\n\r\n%b" % (lines, len(content), content)
            self._body, self.repeatable = None, True
        else:
            self._request = render_request(method, target, host, headers, body)
            length = known_length(headers) if body is not None else None
        self._expires_s = now_s + (pool.total_timeout_s or inf)
        self._terms = Terms(
            length=length,
            upgrade=upgrade,
            between_s=(pool.tunnel_idle_s if upgrade else pool.between_timeout_s) or inf,
            expires_s=self._expires_s,
        )

    def may_repeat(self, unsent: bool, now_s: float) -> bool:
        """Whether another origin may be asked; `unsent`: nothing has reached the last one."""
        return (unsent or self.repeatable) and now_s < self._expires_s

    async def ask(
        self, origin: UpstreamPool, patient: bool, inform: Callable[[int, Headers], None] | None
    ) -> ResponseReader:
        """One origin's response. It has as much time as a check, unless we are `patient`.

        Raises:
            RemoteError: there is none.
        """
        patience_s = self._pool.response_timeout_s if patient else self._pool.health_timeout_s
        return await fetch(origin, self._request, self._body, patience_s, terms=self._terms, inform=inform)


async def checks(origin: UpstreamPool, spec: OriginSpec, pool: PoolSpec) -> AsyncIterator[bool]:
    """An origin's health again and again: whether it answers its check as it should, in time."""
    host = (spec.health_host or spec.host).encode()
    request = render_request(
        b"GET", spec.health_path.encode(), host, [(b"user-agent", b"atoll-health")], None
    )
    terms = Terms(between_s=pool.health_timeout_s)
    while True:
        try:
            reader = await fetch(origin, request, None, pool.health_timeout_s, terms=terms)
            await reader.read_all(_CHECK_BODY)
            first, last = pool.health_statuses
            yield first <= reader.status <= last
        except RemoteError as error:
            if not (isinstance(error, Unsent) and error.status == 503):  # that is our own limit
                yield False
        jitter = random.uniform(-pool.health_jitter, pool.health_jitter)  # noqa: S311 - no secret
        await asyncio.sleep(pool.health_interval_s * (1 + jitter))


class _Keeper:
    """A body sink for what is there."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def body_data(self, data: bytes) -> None:
        """See `BodySink`."""
        self.pieces.append(data)

    def body_end(self) -> None:
        """See `BodySink`."""

    def body_failed(self) -> None:
        """See `BodySink`."""


def _whole(body: RequestBody, most: int) -> bool:
    """Whether a body is there as a whole, and small."""
    return body.complete and body.buffered == body.received <= most and not body.trailers


def _taken(body: RequestBody) -> bytes:
    keeper = _Keeper()
    body.attach(keeper)
    return b"".join(keeper.pieces)
