"""A request at the cache, and what is worked out for it once."""

from __future__ import annotations

from typing import Final

from atoll.cache import keys, rules
from atoll.cache.preferences import normalised
from atoll.config.spec import RouteSpec
from atoll.edge.routing import Site
from atoll.edge.tier import FROM_CLIENT
from atoll.http.exchange import Exchange
from atoll.http.fields import CacheControl

READS: Final = (b"GET", b"HEAD")


class Visit:
    """`primary` is the cache key's first part, `cc` the request's directives, `hop` says who asks."""

    __slots__ = ("cc", "exchange", "hop", "primary", "route", "scheme", "site")

    def __init__(
        self, exchange: Exchange, site: Site, route: RouteSpec, scheme: bytes, hop: int = FROM_CLIENT
    ) -> None:
        if route.cache and exchange.method in READS:
            # What is looked up with must be what the origin is asked with.
            exchange.headers = normalised(exchange.headers)
        self.exchange = exchange
        self.site = site
        self.route = route
        self.scheme = scheme
        self.hop = hop
        self.primary = keys.primary_key(scheme, site.host, exchange.target)
        self.cc: CacheControl = rules.request_directives(exchange.headers)
