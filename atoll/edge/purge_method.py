"""`PURGE`: the method that nginx's, Varnish's and Fastly's users know, with a receipt as its answer.

    curl -X PURGE -H "Authorization: Bearer $TOKEN" https://shop.example/products/7

purges that URL with all its variants. With `Surrogate-Key` (words) or `Cache-Tag` (commas) it purges what is
tagged so instead; `Soft-Purge: 1` has it validated instead of forgotten. Whoever carries purges out says who
may ask for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from atoll.config.purge import Selector
from atoll.edge.keeping import tags_in
from atoll.errors import AtollError, RemoteError
from atoll.http.exchange import Exchange
from atoll.http.fields import Headers, get

METHOD: Final = b"PURGE"
_BEARER: Final = b"bearer "
_JSON: Final[Headers] = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="purge"')
_SOFT: Final = (b"soft-purge", b"fastly-soft-purge")


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a purge: each PoP's word, and how long it took."""

    pops: dict[str, str]
    total_ms: float


CarryOut = Callable[[tuple[Selector, ...], str], Awaitable[Done]]
"""Purges, if the token (second argument) is one that may. Raises `RemoteError`: 401 if it is not."""


class PurgeMethod:
    """Answers of one worker to `PURGE`; without anybody to carry it out it is a method like any other."""

    def __init__(self) -> None:
        self.carry_out: CarryOut | None = None

    def takes(self, exchange: Exchange) -> bool:
        """Whether it is answered here."""
        return exchange.method == METHOD and self.carry_out is not None

    async def answer(self, exchange: Exchange, host: bytes, tenant: str) -> None:
        """A whole response, whatever happens; `host` is the site's canonical one."""
        assert self.carry_out is not None, "`takes` has said so"
        selectors = selectors_of(exchange, host, tenant)
        try:
            done = await self.carry_out(selectors, token_of(exchange.headers))
        except AtollError as error:
            status = error.status if isinstance(error, RemoteError) else 503
            body = {"message": error.message, "hint": error.hint}
            fields = [*_JSON, _CHALLENGE] if status == 401 else _JSON
            exchange.stream.respond(status, fields, msgspec.json.encode(body) + b"\n")
            return
        purged = [{"kind": selector.kind, "value": selector.value} for selector in selectors]
        report = {"purged": purged, "soft": selectors[0].soft, "pops": done.pops, "total_ms": done.total_ms}
        exchange.stream.respond(200, _JSON, msgspec.json.encode(report) + b"\n")


def selectors_of(exchange: Exchange, host: bytes, tenant: str) -> tuple[Selector, ...]:
    """What a request purges: its tags, or the URL it is for."""
    soft = any(get(exchange.headers, name) == b"1" for name in _SOFT)
    tags = tags_in(exchange.headers)
    if tags:
        return tuple(Selector(kind="tag", value=_text(tag), soft=soft, tenant=tenant) for tag in tags)
    url = host + exchange.target.partition(b"#")[0]
    return (Selector(kind="url", value=_text(url), soft=soft, tenant=tenant),)


def token_of(headers: Headers) -> str:
    """The bearer token of a request; "" if it has none."""
    value = get(headers, b"authorization") or b""
    return _text(value[len(_BEARER) :].strip()) if value[: len(_BEARER)].lower() == _BEARER else ""


def _text(value: bytes) -> str:
    return value.decode("latin-1")
