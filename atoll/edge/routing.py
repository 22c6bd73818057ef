"""Which site and route a request belongs to. Pure: compiled once per snapshot, looked up per request.

`<city>.localhost` is the default site seen from a city and `<site>.<city>.localhost` a named one; everything
else is looked up by host; the dot that ends a name which is spelled out to the root changes nothing.
Whatever name was used, the site's canonical host is what cache keys and function URLs carry. A site whose
host is `*` answers for every host that no other site has; there the name that was used is the canonical one,
with its port.
"""

from __future__ import annotations

from typing import Final

import msgspec

from atoll.config.spec import ANYWHERE, FunctionRuntime, NetworkSpec, RouteSpec, SiteSpec, Snapshot

HEALTH_HOST: Final = b"health.atoll.internal"
_LOCAL: Final = b".localhost"


class Site(msgspec.Struct, frozen=True):
    """A compiled site: `exact` paths first, then `prefixes`, longest first."""

    spec: SiteSpec
    host: bytes
    exact: dict[bytes, RouteSpec]
    prefixes: tuple[tuple[bytes, RouteSpec], ...]

    def route(self, target: bytes) -> RouteSpec | None:
        """The route for a request target (its query is left aside)."""
        path = target.split(b"?", 1)[0]
        found = self.exact.get(path)
        if found is not None:
            return found
        for prefix, route in self.prefixes:
            if path.startswith(prefix):
                return route
        return None

    def named(self, host: bytes) -> Site:
        """The same site with another canonical host."""
        return Site(self.spec, host, self.exact, self.prefixes)


class Table(msgspec.Struct, frozen=True):
    """All that routing needs of a snapshot."""

    hosts: dict[bytes, Site]
    names: dict[bytes, Site]
    default: Site | None
    cities: frozenset[bytes]
    functions: dict[tuple[str, str], FunctionRuntime]  # (tenant, name)
    anywhere: Site | None = None  # for hosts that no other site has

    def site(self, authority: bytes) -> Site | None:
        """The site that answers for `authority` (lowercase, with or without a port)."""
        found = self._known(authority)
        return found if found is not None or self.anywhere is None else self.anywhere.named(authority)

    def _known(self, authority: bytes) -> Site | None:
        host = authority.rsplit(b":", 1)[0] if not authority.endswith(b"]") else authority
        host = host.removesuffix(b".")
        found = self.hosts.get(host)
        if found is not None or not host.endswith(_LOCAL):
            return found
        labels = host[: -len(_LOCAL)].split(b".")
        if labels[-1] not in self.cities:
            return None
        if len(labels) == 1:
            return self.default
        return self.names.get(labels[0]) if len(labels) == 2 else None

    def canonical(self, host: str) -> str | None:
        """The canonical host of the site that answers for `host`."""
        site = self.site(host.lower().encode())
        return None if site is None else site.host.decode()

    def known_hosts(self) -> list[str]:
        """Names a visitor could have meant, for the development 404 page."""
        city = sorted(self.cities)[0].decode() if self.cities else "city"
        local = [f"{city}.localhost"] + [f"{name.decode()}.{city}.localhost" for name in sorted(self.names)]
        return local + [host.decode() for host in sorted(self.hosts)]


def compile_site(spec: SiteSpec) -> Site:
    """`spec` with its routes sorted for lookup."""
    exact: dict[bytes, RouteSpec] = {}
    prefixes: list[tuple[bytes, RouteSpec]] = []
    for route in spec.routes:
        pattern = route.path.encode()
        if pattern.endswith(b"*"):
            prefixes.append((pattern[:-1], route))
        else:
            exact[pattern] = route
    prefixes.sort(key=lambda item: len(item[0]), reverse=True)
    return Site(spec, spec.host.lower().encode(), exact, tuple(prefixes))


def compile_table(snapshot: Snapshot) -> Table:
    """The routing table of a snapshot."""
    return table_of(snapshot.network, snapshot.functions)


def table_of(network: NetworkSpec, functions: tuple[FunctionRuntime, ...] = ()) -> Table:
    """The routing table of a network; without its functions it says whose a host is."""
    sites = [compile_site(spec) for spec in network.sites]
    hosts: dict[bytes, Site] = {}
    anywhere: Site | None = None
    for site in sites:
        if site.spec.host == ANYWHERE:
            anywhere = site
            continue
        for name in (site.spec.host, *site.spec.aliases):
            hosts[name.lower().encode()] = site
    names = {site.spec.name.encode(): site for site in sites}
    return Table(
        hosts=hosts,
        names=names,
        default=names.get(network.default_site.encode()),
        cities=frozenset(eyeball.city.encode() for eyeball in network.eyeballs),
        functions={(runtime.tenant, runtime.name): runtime for runtime in functions},
        anywhere=anywhere,
    )
