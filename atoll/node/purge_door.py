"""The public side where purging is allowed: the method `PURGE`, for who has the token.

    curl -X PURGE -H 'Authorization: Bearer TOKEN' http://127.0.0.1:8000/products/7
    curl -X PURGE -H 'Authorization: Bearer TOKEN' http://127.0.0.1:8000/products/*     everything below
    curl -X PURGE -H … -H 'Surrogate-Key: product-7 prices' http://127.0.0.1:8000/      by tags

A URL is purged with all its variants, by both schemes. `Soft-Purge: 1` (or Fastly's name of it) keeps what is
selected as stale: it is validated, and may stand in for an origin that fails. The answer comes when nobody
serves it any more, and says what each PoP has made of it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from atoll.config.purge import Selector
from atoll.config.spec import DEFAULT_TENANT
from atoll.control.purge_wishes import Canonical, selector_of
from atoll.edge.door import Door
from atoll.edge.pipeline import Edge
from atoll.errors import AtollError, RemoteError
from atoll.http.exchange import Exchange
from atoll.http.fields import Headers, get, get_all
from atoll.wire.messages import PurgeState

MAX_TAGS: Final = 256
_PURGE: Final = b"PURGE"
_SOFT: Final = (b"soft-purge", b"fastly-soft-purge")
_SEPARATORS: Final = (
    (b"surrogate-key", re.compile(rb"[ \t]+")),
    (b"cache-tag", re.compile(rb"[ \t]*,[ \t]*")),
)
_JSON: Final[Headers] = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="purge"')

Purge = Callable[[Sequence[Selector]], Awaitable[PurgeState]]
"""Carries purges out everywhere; the number of the last, and what each PoP has made of them."""


class PurgeDoor(Door):
    """A `Door` that answers `PURGE`. `token` says what whoever purges has to bring."""

    def __init__(
        self, edge: Edge, challenges: Path, h3_port: int, token: Callable[[], str], purge: Purge
    ) -> None:
        super().__init__(edge, challenges, h3_port)
        self._token = token
        self._purge = purge

    def handle(self, exchange: Exchange) -> None:
        """See `App.handle`."""
        if exchange.method != _PURGE:
            super().handle(exchange)
            return
        self.edge.counters.requests += 1
        exchange.raw = None
        self.edge.start_task(exchange, self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            self._authorize(exchange)
            selectors = selectors_of(exchange, self.edge.table.canonical)
            done = await self._purge(selectors)
        except RemoteError as error:
            self._say(exchange, error.status, {"message": error.message, "hint": error.hint})
            return
        except AtollError as error:
            self._say(exchange, 400, {"message": error.message, "hint": error.hint})
            return
        self._say(exchange, 200, {"purged": selectors, "number": done.applied, "pops": done.pops})

    def _authorize(self, exchange: Exchange) -> None:
        """Raises `RemoteError`: the token is not the right one, or not to be had."""
        try:
            expected = self._token()
        except AtollError as error:
            raise RemoteError("nobody may purge: the token's file cannot be read", 503) from error
        given = get(exchange.headers, b"authorization") or b""
        if not expected or not hmac.compare_digest(given, b"Bearer " + expected.encode()):
            raise RemoteError("purging needs the token", 401, "Authorization: Bearer <token>")

    def _say(self, exchange: Exchange, status: int, value: object) -> None:
        fields = [*_JSON, _CHALLENGE] if status == 401 else _JSON
        self.edge.answer(exchange, status, fields, msgspec.json.encode(value) + b"\n", b"detail=purge")


def selectors_of(exchange: Exchange, canonical: Canonical) -> tuple[Selector, ...]:
    """What a `PURGE` selects: its tags, or else its URL, or all below it when that ends in `*`.

    Raises:
        AtollError: it selects nothing.
    """
    soft = any(get(exchange.headers, name) not in (None, b"0") for name in _SOFT)
    tags = dict.fromkeys(_tags(exchange.headers))
    if len(tags) > MAX_TAGS:
        raise AtollError(f"{len(tags)} tags in one request", f"{MAX_TAGS} at most")
    if tags:
        return tuple(selector_of("tag", tag, soft, DEFAULT_TENANT, canonical) for tag in tags)
    if not exchange.target.startswith(b"/"):
        raise AtollError("nothing is selected", "a URL, a URL and *, or tags in Surrogate-Key or Cache-Tag")
    url = f"{exchange.conn.scheme.decode()}://{_text(exchange.authority)}{_text(exchange.target)}"
    if url.endswith("*"):
        return (selector_of("prefix", url[:-1], soft, DEFAULT_TENANT, canonical),)
    return (selector_of("url", url, soft, DEFAULT_TENANT, canonical),)


def _tags(headers: Headers) -> list[str]:
    return [
        _text(tag)
        for name, separator in _SEPARATORS
        for value in get_all(headers, name)
        for tag in separator.split(value.strip(b" \t"))
        if tag
    ]


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")
