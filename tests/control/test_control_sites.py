"""Routes onto sites: patterns, new hosts, what stays behind a function, conflicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.spec import FunctionSpec, RouteSpec, SiteSpec
from atoll.control.sites import RoutePattern, compile_sites, parse_pattern
from atoll.errors import RemoteError

WWW = SiteSpec(name="www", host="www.example.com", aliases=("example.com",), routes=(RouteSpec(pool="shop"),))


def function(name: str, *routes: str, active: str = "v1", tenant: str = "default") -> FunctionSpec:
    return FunctionSpec(name=name, active=active, routes=routes, tenant=tenant)


@pytest.mark.parametrize(
    ("pattern", "host", "path"),
    [
        ("www.example.com/*", "www.example.com", "/*"),
        ("www.example.com", "www.example.com", "/*"),
        ("www.example.com/", "www.example.com", "/"),
        ("WWW.Example.com/API/v1*", "www.example.com", "/API/v1*"),
        ("https://www.example.com/exact", "www.example.com", "/exact"),
    ],
)
def test_patterns(pattern: str, host: str, path: str) -> None:
    assert parse_pattern(pattern, "f") == RoutePattern(host, path)


@pytest.mark.parametrize(
    "pattern",
    ["", "*/x", "*.example.com/*", "/only/path", "a.test/*/x", "a.test/x?y", "../etc/*", "a_b.test/*"],
)
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(RemoteError) as raised:
        parse_pattern(pattern, "hello")
    assert raised.value.status == 422
    assert raised.value.where == "routes of hello"


def test_a_conflict_is_told_as_the_one_of_the_function_that_comes_last() -> None:
    functions = [function("first", "www.example.com/*"), function("a-later-one", "www.example.com/*")]
    with pytest.raises(RemoteError, match="a-later-one and first") as raised:
        compile_sites((WWW,), functions)
    assert raised.value.where == "routes of a-later-one"


def test_a_new_host_becomes_a_site_named_after_the_function() -> None:
    sites = compile_sites((WWW,), [function("ab-test", "ab.example.com/*")])
    assert sites[1] == SiteSpec(
        name="ab-test", host="ab.example.com", routes=(RouteSpec(path="/*", function="ab-test"),)
    )


def test_a_second_new_host_gets_a_name_of_its_own() -> None:
    sites = compile_sites((), [function("f", "a.test/*", "b.test/x", "b.test/y")])
    assert [(site.name, site.host, len(site.routes)) for site in sites] == [
        ("f", "a.test", 1),
        ("f-2", "b.test", 2),
    ]


def test_a_function_keeps_the_route_it_covers_behind_it() -> None:
    (site,) = compile_sites((WWW,), [function("api", "example.com/api/*")])
    assert site.routes == (RouteSpec(pool="shop"), RouteSpec(path="/api/*", pool="shop", function="api"))


def test_a_function_takes_a_route_over_with_its_policy() -> None:
    www = SiteSpec(name="www", host="www.test", routes=(RouteSpec(path="/*", pool="shop", cache=False),))
    (site,) = compile_sites((www,), [function("f", "www.test/*")])
    assert site.routes == (RouteSpec(path="/*", pool="shop", cache=False, function="f"),)


def test_a_function_that_is_not_active_has_no_routes() -> None:
    assert compile_sites((WWW,), [function("f", "www.example.com/*", active="")]) == (WWW,)


@pytest.mark.parametrize("host", ["www.example.com", "new.test"])
def test_two_functions_on_one_route_conflict(host: str) -> None:
    with pytest.raises(RemoteError, match=f"beta and alpha both want {host}") as raised:
        compile_sites((WWW,), [function("alpha", f"{host}/*"), function("beta", f"{host}/*")])
    assert raised.value.status == 409


def test_a_host_of_another_tenant_is_not_taken() -> None:
    with pytest.raises(RemoteError, match="another tenant"):
        compile_sites((WWW,), [function("f", "www.example.com/x*", tenant="other")])


_hosts = st.sampled_from(["a.test", "b.test", "www.example.com", "example.com"])
_paths = st.sampled_from(["/*", "/x", "/x/*", "/y*"])


@given(st.lists(st.tuples(_hosts, _paths), max_size=8))
def test_every_route_is_found_on_exactly_one_site(wanted: list[tuple[str, str]]) -> None:
    routes = [host + path for host, path in wanted]
    sites = compile_sites((WWW,), [function("f", *routes)])
    assert len({site.name for site in sites}) == len(sites)
    for host, path in wanted:
        owners = [site for site in sites if host in (site.host, *site.aliases)]
        assert len(owners) == 1
        assert [route.function for route in owners[0].routes if route.path == path] == ["f"]
