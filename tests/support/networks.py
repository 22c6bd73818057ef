"""Small networks for tests."""

from __future__ import annotations

from atoll.config.spec import EyeballSpec, NetworkSpec, PopSpec, RouteSpec, SiteSpec


def pop(code: str, index: int, workers: int = 2) -> PopSpec:
    """A PoP."""
    return PopSpec(
        code=code, index=index, asn=64512 + index, city="london", country="GB", continent="EU", lat=51.5,
        lon=-0.1, http_port=1, https_port=2, workers=workers,
    )  # fmt: skip


def network(*pops: PopSpec) -> NetworkSpec:
    """A network of these PoPs, one city and one site."""
    tokyo = EyeballSpec(
        city="tokyo", asn=64600, country="JP", continent="AS", lat=35.7, lon=139.7, address4="192.0.2.9",
        address6="2001:db8::9",
    )  # fmt: skip
    www = SiteSpec(name="www", host="www.example.com", routes=(RouteSpec(path="/*"),))
    return NetworkSpec(
        name="test", prefixes=("192.0.2.0/24",), anycast4="192.0.2.1", anycast6="2001:db8::1", pops=pops,
        eyeballs=(tokyo,), origins=(), pools=(), sites=(www,), default_site="www",
    )  # fmt: skip
