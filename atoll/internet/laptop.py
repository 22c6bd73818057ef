"""The laptop network: the effective `NetworkSpec` of `atoll up` when nobody wrote another one.

Five PoPs on the default world, three origins of a shop, the two backends of the A/B test, an origin that says
what experiments want it to say, four sites. It is a value, made from tables; the ports of a PoP follow from
its index.
"""

from __future__ import annotations

from typing import Final

from atoll.config.compression import CompressionSpec
from atoll.config.spec import NetworkSpec, OriginSpec, PoolSpec, PopSpec, RouteSpec, SiteSpec
from atoll.internet.geography import CITIES
from atoll.internet.world import POP_ASNS, POP_CITIES, default_world

HTTP_PORT_BASE: Final = 18080
HTTPS_PORT_BASE: Final = 18443
LAB_ORIGIN: Final = "lab-origin.example.com"

# host, port, continent, city
_ORIGINS: Final = (
    ("us-origin.example.com", 19611, "NA", "ashburn"),
    ("eu-origin.example.com", 19612, "EU", "frankfurt"),
    ("asia-origin.example.com", 19613, "AS", "tokyo"),
    ("version-a.example.com", 19614, "NA", "ashburn"),
    ("version-b.example.com", 19615, "NA", "ashburn"),
    (LAB_ORIGIN, 19616, "NA", "ashburn"),
)
_SHOP_POOL: Final = PoolSpec(
    name="shop",
    origins=("us-origin.example.com", "eu-origin.example.com", "asia-origin.example.com"),
    failover="us-origin.example.com",
)
_LANDING_POOL: Final = PoolSpec(name="landing", origins=("version-a.example.com", "version-b.example.com"))
_LAB_POOL: Final = PoolSpec(name="lab", origins=(LAB_ORIGIN,), shield="auto", health_interval_s=5.0)
_TO_LAB: Final = (
    RouteSpec(path="/*", pool="lab"),
    RouteSpec(path="/strict/*", pool="lab", consistency="strict"),
    RouteSpec(path="/plain/*", pool="lab", consistency="eventual"),
    RouteSpec(path="/text/*", pool="lab", compression=CompressionSpec()),
)
_TO_SHOP: Final = (RouteSpec(path="/*", pool="shop"),)
_TO_SHOP_SMALLER: Final = (RouteSpec(path="/*", pool="shop", compression=CompressionSpec()),)
_SITES: Final = (
    # Functions come by deploying them; until then their sites' routes end at the pool.
    SiteSpec(name="www", host="www.example.com", aliases=("example.com",), routes=_TO_SHOP),
    SiteSpec(name="shop", host="shop.example.com", routes=_TO_SHOP_SMALLER),
    SiteSpec(name="ab", host="ab.example.com", routes=(RouteSpec(path="/*", pool="landing"),)),
    SiteSpec(name="lab", host="lab.example.com", routes=_TO_LAB),  # what experiments ask for
)


def laptop_network() -> NetworkSpec:
    """The whole network that runs on one machine."""
    return NetworkSpec(
        name="laptop",
        prefixes=("192.0.2.0/24", "2001:db8:a70::/48"),
        anycast4="192.0.2.1",
        anycast6="2001:db8:a70::1",
        pops=tuple(_pop(index, code) for index, code in enumerate(POP_ASNS)),
        eyeballs=default_world().eyeballs,
        origins=tuple(_origin(*row) for row in _ORIGINS),
        pools=(_SHOP_POOL, _LANDING_POOL, _LAB_POOL),
        sites=_SITES,
        default_site="www",
    )


def _pop(index: int, code: str) -> PopSpec:
    place = CITIES[POP_CITIES[code]]
    return PopSpec(
        code=code,
        index=index,
        asn=POP_ASNS[code],
        city=place.key,
        country=place.country,
        continent=place.continent,
        lat=place.lat,
        lon=place.lon,
        http_port=HTTP_PORT_BASE + index,
        https_port=HTTPS_PORT_BASE + index,
        http3=True,
    )


def _origin(host: str, port: int, continent: str, city: str) -> OriginSpec:
    place = CITIES[city]
    return OriginSpec(
        host=host, url=f"http://127.0.0.1:{port}", region=continent, lat=place.lat, lon=place.lon
    )
