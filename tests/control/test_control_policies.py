"""A network under what operators apply: what stands in whose place, what stays, what does not fit."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import network, pop

from atoll.config.geo import GeoDatabaseSpec
from atoll.config.spec import (
    FunctionSpec,
    NetworkSpec,
    OriginSpec,
    Policy,
    PoolSpec,
    RouteSpec,
    SiteSpec,
    Snapshot,
)
from atoll.control.policies import merged, require_fit, upserted
from atoll.control.reconcile import relocated
from atoll.control.reconcile import snapshot as snapshot_of
from atoll.control.sites import compile_network
from atoll.control.specs import Specs, changed, filled
from atoll.errors import RemoteError

A = OriginSpec(host="a", url="http://127.0.0.1:1")
B = OriginSpec(host="b", url="http://127.0.0.1:2")
FRONT = PoolSpec(name="front", origins=("a",))
WWW = SiteSpec(
    name="www", host="www.example.com", aliases=("example.com",), routes=(RouteSpec(pool="front"),)
)
SHOP = SiteSpec(name="shop", host="shop.example.com", routes=(RouteSpec(pool="front"),))
BASE = msgspec.structs.replace(
    network(pop("lhr", 0)), sites=(WWW, SHOP), pools=(FRONT,), origins=(A,), default_site="www"
)


CALLS_G = SiteSpec(name="f", host="f.example", routes=(RouteSpec(function="g"),))


def site(host: str, name: str = "", *aliases: str, pool: str = "front") -> SiteSpec:
    named = name or host.replace(".", "-")
    return SiteSpec(name=named, host=host, aliases=aliases, routes=(RouteSpec(pool=pool),))


def hosts(network: NetworkSpec) -> dict[str, tuple[str, ...]]:
    return {each.name: (each.host, *each.aliases) for each in network.sites}


def test_what_a_policy_does_not_name_stays() -> None:
    assert merged(BASE, Policy()) == BASE
    more = merged(BASE, Policy(sites=(site("mine.example.com", "mine"),), origins=(B,)))
    assert more.sites[:2] == BASE.sites
    assert hosts(more)["mine"] == ("mine.example.com",)
    assert more.origins == (A, B)


def test_a_site_takes_the_place_of_the_one_with_its_host_and_keeps_its_name() -> None:
    under = merged(BASE, Policy(sites=(site("www.example.com"),)))
    assert hosts(under) == {"www": ("www.example.com",), "shop": ("shop.example.com",)}
    assert under.default_site == "www"


def test_a_site_with_a_name_of_its_own_keeps_that() -> None:
    under = merged(BASE, Policy(sites=(site("www.example.com", "front"),)))
    assert hosts(under) == {"front": ("www.example.com",), "shop": ("shop.example.com",)}
    assert under.default_site == "front"


def test_a_site_takes_the_place_of_the_one_with_its_name() -> None:
    assert hosts(merged(BASE, Policy(sites=(site("new.example.com", "shop"),)))) == {
        "www": ("www.example.com", "example.com"),
        "shop": ("new.example.com",),
    }


def test_an_alias_of_the_networks_goes_to_who_names_it() -> None:
    assert hosts(merged(BASE, Policy(sites=(site("example.com", "apex"),)))) == {
        "www": ("www.example.com",),
        "shop": ("shop.example.com",),
        "apex": ("example.com",),
    }


def test_pools_and_origins_go_by_their_names() -> None:
    slow = msgspec.structs.replace(FRONT, response_timeout_s=60)
    moved = msgspec.structs.replace(A, url="http://127.0.0.1:9")
    under = merged(BASE, Policy(pools=(slow,), origins=(moved,), resolvers=("192.0.2.53",)))
    assert (under.pools, under.origins, under.resolvers) == ((slow,), (moved,), ("192.0.2.53",))


def test_what_was_applied_before_stays_unless_it_is_pruned() -> None:
    first = Policy(sites=(site("a.example"),), origins=(B,), geo=GeoDatabaseSpec(asn="/a"))
    second = Policy(sites=(site("b.example"),))
    both = upserted(first, second, prune=False)
    assert [each.host for each in both.sites] == ["a.example", "b.example"]
    assert (both.origins, both.geo) == ((B,), GeoDatabaseSpec(asn="/a"))
    assert upserted(both, second, prune=True) == second
    assert upserted(both, both, prune=False) == both


SITES = st.lists(
    st.builds(
        site,
        st.sampled_from(["www.example.com", "example.com", "shop.example.com", "a.example", "b.example"]),
        st.sampled_from(["", "www", "shop", "x", "y"]),
    ),
    max_size=4,
    unique_by=(lambda each: each.host, lambda each: each.name),
)


@given(SITES, SITES)
def test_no_host_and_no_name_is_ever_two_sites(first: list[SiteSpec], second: list[SiteSpec]) -> None:
    policy = upserted(Policy(sites=tuple(first)), Policy(sites=tuple(second)), prune=False)
    under = merged(BASE, policy)
    names = [each.name for each in under.sites]
    all_hosts = [host for each in under.sites for host in (each.host, *each.aliases)]
    assert len(set(names)) == len(names)
    assert len(set(all_hosts)) == len(all_hosts)
    assert {each.host for each in second} <= set(all_hosts)
    assert merged(under, policy).sites == under.sites


@pytest.mark.parametrize(
    ("change", "message", "status"),
    [
        ({"pools": (PoolSpec(name="front", origins=("nosuch",)),)}, "no origin nosuch", 422),
        ({"pools": (PoolSpec(name="front", origins=("a",), failover="x"),)}, "no origin x", 422),
        ({"pools": (PoolSpec(name="front", origins=("a",), shield="xyz"),)}, "no PoP xyz", 422),
        ({"sites": (site("a.example", pool="nosuch"),)}, "no pool nosuch", 422),
        ({"sites": (site("a.example", pool=""),)}, "leads nowhere", 422),
        ({"sites": (site("*", "rest"),)}, "has a host of its own", 422),
        ({"sites": (site("a.example"), site("b.example", "b", "a.example"))}, "also a host of site", 409),
        ({"sites": (CALLS_G,)}, "no function g", 422),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str, status: int) -> None:
    with pytest.raises(RemoteError, match=message) as caught:
        require_fit(msgspec.structs.replace(BASE, **change), ["hello"])
    assert caught.value.status == status
    assert caught.value.hint


def test_what_fits_is_let_pass() -> None:
    shielded = PoolSpec(name="front", origins=("a",), shield="lhr", failover="a")
    routed = SiteSpec(name="f", host="f.example", routes=(RouteSpec(function="hello"),))
    require_fit(msgspec.structs.replace(BASE, pools=(shielded,), sites=(routed,)), ["hello"])


# --- with functions, and on the way to the PoPs

HELLO = FunctionSpec(name="hello", active="v1", routes=("mine.example.com/*",))
MINE = Policy(sites=(site("mine.example.com", "mine"),))


def test_functions_routes_come_upon_what_was_applied() -> None:
    compiled = compile_network(BASE, [HELLO], MINE)
    [mine] = [each for each in compiled.sites if each.name == "mine"]
    assert [(route.path, route.function, route.pool) for route in mine.routes] == [("/*", "hello", "front")]


def test_specs_hold_what_was_applied() -> None:
    specs = changed(Specs(seq=1, network=BASE), "policy", 2, msgspec.json.encode(MINE))
    assert specs == Specs(seq=2, network=BASE, policy=MINE)
    assert changed(specs, "policy", 3, None) == Specs(seq=3, network=BASE)
    broken = changed(Specs(network=BASE), "policy", 4, b"{")
    assert broken.unreadable == ("policy",)
    assert filled(broken, specs).policy == MINE


def test_pops_serve_what_was_applied_and_where_this_runs_ports_are() -> None:
    here = BASE.pops[0]
    specs = Specs(seq=7, network=BASE, policy=MINE)
    served = snapshot_of(specs, here, {}, {})
    assert hosts(served.network)["mine"] == ("mine.example.com",)
    moved = msgspec.structs.replace(BASE, pops=(msgspec.structs.replace(here, http_port=9),))
    again: Snapshot = relocated(served, moved, (), MINE)
    assert (again.pop.http_port, hosts(again.network)["mine"]) == (9, ("mine.example.com",))
