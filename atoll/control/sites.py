"""Functions' route patterns merged onto the network's sites. Pure.

A pattern is `host/path` or `host/path*`, as in wrangler.toml; a bare `host` means all of it. A host that no
site has becomes a new site named after the function. Two functions on one host and path are a conflict that
names both: nobody's traffic changes hands by accident.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from atoll.config.spec import FunctionSpec, NetworkSpec, Policy, RouteSpec, SiteSpec
from atoll.control.policies import merged
from atoll.errors import RemoteError

_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class RoutePattern(msgspec.Struct, frozen=True):
    """A parsed pattern: `path` is a `RouteSpec.path`."""

    host: str
    path: str


def parse_pattern(pattern: str, function: str) -> RoutePattern:
    """A wrangler route pattern.

    Raises:
        RemoteError: it is not one this network routes.
    """
    text = pattern.removeprefix("https://").removeprefix("http://")
    host, slash, rest = text.partition("/")
    path = f"/{rest}" if slash else "/*"
    if not _HOST.fullmatch(host.lower()):
        raise RemoteError(
            f"no host name in {pattern!r}", 422, "a route is host/path*", f"routes of {function}"
        )
    if "*" in path[:-1] or "?" in path or "#" in path:
        hint = "one * at the end is all a path may have"
        raise RemoteError(f"a path that cannot be routed in {pattern!r}", 422, hint, f"routes of {function}")
    return RoutePattern(host.lower(), path)


def compile_network(
    network: NetworkSpec, functions: Iterable[FunctionSpec], policy: Policy | None = None
) -> NetworkSpec:
    """`network` under `policy`, with the sites that the active functions' routes make of it."""
    under = merged(network, policy) if policy is not None else network
    return msgspec.structs.replace(under, sites=compile_sites(under.sites, functions))


def compile_sites(sites: tuple[SiteSpec, ...], functions: Iterable[FunctionSpec]) -> tuple[SiteSpec, ...]:
    """The sites with every active function's routes on them.

    Raises:
        RemoteError: a bad pattern (422), or two functions on one host and path (409).
    """
    compiled = list(sites)
    for function in functions:
        if function.active:
            for pattern in function.routes:
                _attach(compiled, function, parse_pattern(pattern, function.name))
    return tuple(compiled)


def _attach(sites: list[SiteSpec], function: FunctionSpec, pattern: RoutePattern) -> None:
    """Put one route on its site, in place."""
    for index, site in enumerate(sites):
        if pattern.host == site.host or pattern.host in site.aliases:
            sites[index] = _with_route(site, function, pattern)
            return
    name = _free_name(function.name, {site.name for site in sites})
    route = RouteSpec(path=pattern.path, function=function.name)
    sites.append(SiteSpec(name=name, host=pattern.host, routes=(route,), tenant=function.tenant))


def _with_route(site: SiteSpec, function: FunctionSpec, pattern: RoutePattern) -> SiteSpec:
    if site.tenant != function.tenant:
        raise RemoteError(
            f"{pattern.host} belongs to another tenant", 409, where=f"routes of {function.name}"
        )
    same = next((route for route in site.routes if route.path == pattern.path), None)
    if same is None:
        base = _covering(site, pattern.path)
        route = msgspec.structs.replace(base, path=pattern.path, function=function.name)
        return msgspec.structs.replace(site, routes=(*site.routes, route))
    if same.function not in ("", function.name):
        raise RemoteError(
            f"{function.name} and {same.function} both want {pattern.host}{pattern.path}",
            409,
            "give one of them another route, or delete it",
            f"routes of {function.name}",
        )
    route = msgspec.structs.replace(same, function=function.name)
    return msgspec.structs.replace(site, routes=tuple(route if r is same else r for r in site.routes))


def _covering(site: SiteSpec, path: str) -> RouteSpec:
    """The route that serves `path` so far, whose pool and policy a new function keeps behind it."""
    covering = [r for r in site.routes if r.path.endswith("*") and path.startswith(r.path[:-1])]
    return max(covering, key=lambda route: len(route.path), default=RouteSpec())


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(f"{name}-{n}" for n in range(2, len(taken) + 3) if f"{name}-{n}" not in taken)
