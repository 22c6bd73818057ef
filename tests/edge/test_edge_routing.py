"""Hosts and paths to sites and routes."""

import msgspec
import pytest
from networks import network

from atoll.config.spec import RouteSpec, SiteSpec
from atoll.edge.routing import Table, compile_site, table_of


def table() -> Table:
    www = compile_site(
        SiteSpec(
            name="www",
            host="www.example.com",
            aliases=("example.com",),
            routes=(
                RouteSpec(path="/*", pool="all"),
                RouteSpec(path="/api/*", pool="api"),
                RouteSpec(path="/api/exact", pool="one"),
            ),
        )
    )
    shop = compile_site(
        SiteSpec(name="shop", host="shop.example.com", routes=(RouteSpec(path="/a/*", pool="a"),))
    )
    return Table(
        hosts={b"www.example.com": www, b"example.com": www, b"shop.example.com": shop},
        names={b"www": www, b"shop": shop},
        default=www,
        cities=frozenset((b"tokyo", b"new-york")),
        functions={},
    )


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        (b"www.example.com", "www"),
        (b"example.com:8080", "www"),
        (b"tokyo.localhost:8080", "www"),
        (b"new-york.localhost", "www"),
        (b"shop.tokyo.localhost:8443", "shop"),
        (b"shop.example.com", "shop"),
        (b"atlantis.localhost", None),
        (b"nosuch.tokyo.localhost", None),
        (b"a.shop.tokyo.localhost", None),
        (b"localhost", None),
        (b"[::1]:8080", None),
        (b"", None),
    ],
)
def test_site_of_a_host(authority: bytes, name: str | None) -> None:
    site = table().site(authority)
    assert (site.spec.name if site else None) == name


@pytest.mark.parametrize(
    ("target", "pool"),
    [
        (b"/", "all"),
        (b"/api", "all"),
        (b"/api/", "api"),
        (b"/api/x?y=/z", "api"),
        (b"/api/exact", "one"),
        (b"/api/exact?q", "one"),
        (b"/api/exactly", "api"),
    ],
)
def test_the_longest_pattern_wins(target: bytes, pool: str) -> None:
    site = table().hosts[b"www.example.com"]
    route = site.route(target)
    assert route is not None
    assert route.pool == pool


def test_a_site_may_have_no_route() -> None:
    assert table().hosts[b"shop.example.com"].route(b"/b") is None


def test_the_404_page_can_name_every_host() -> None:
    known = table().known_hosts()
    assert "new-york.localhost" in known
    assert "shop.new-york.localhost" in known
    assert "example.com" in known


def test_a_name_that_is_spelled_out_to_the_root_is_the_same_name() -> None:
    anywhere = SiteSpec(name="rest", host="*", routes=(RouteSpec(path="/*", pool="rest"),))
    www = SiteSpec(name="www", host="www.example.com")
    found = table_of(msgspec.structs.replace(network(), sites=(www, anywhere), default_site="www"))
    for authority in (b"www.example.com.", b"www.example.com.:8080"):
        site = found.site(authority)
        assert site is not None
        assert (site.host, site.spec.name) == (b"www.example.com", "www")


def test_one_site_may_answer_for_every_other_host() -> None:
    anywhere = SiteSpec(name="rest", host="*", routes=(RouteSpec(path="/*", pool="rest"),))
    www = SiteSpec(name="www", host="www.example.com", aliases=("example.com",))
    known = msgspec.structs.replace(network(), sites=(www, anywhere), default_site="www")
    found = table_of(known)
    assert found.canonical("example.com") == "www.example.com"
    other = found.site(b"nowhere.example:8080")
    assert other is not None
    assert (other.host, other.spec.name) == (b"nowhere.example:8080", "rest")
    route = other.route(b"/a?b")
    assert route is anywhere.routes[0]
    assert found.site(b"") is not None
    assert "*" not in found.known_hosts()
