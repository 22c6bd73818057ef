"""What operators apply, and what becomes of a network under it. Pure.

A network is what its own run says (PoPs, ports, its own sites); a policy is kept beside it and put over it
wherever it is looked at, so that neither forgets the other. A site of a policy takes the place of the
network's that has its name or its host; pools and origins go by their names. What a policy does not name
stays. This never fails: a network that has changed since is served as far as it fits, and what does not
fit is found when a policy is applied (`require_fit`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from atoll.config.policy_schema import site_name
from atoll.config.spec import ANYWHERE, NetworkSpec, OriginSpec, Policy, PoolSpec, SiteSpec
from atoll.errors import RemoteError

_Named = TypeVar("_Named", PoolSpec, OriginSpec)


def merged(network: NetworkSpec, policy: Policy) -> NetworkSpec:
    """`network` under `policy`."""
    sites, renamed = _over(network.sites, policy.sites)
    return msgspec.structs.replace(
        network,
        sites=sites,
        pools=_named(network.pools, policy.pools),
        origins=_named(network.origins, policy.origins),
        default_site=renamed.get(network.default_site, network.default_site),
        resolvers=policy.resolvers or network.resolvers,
        geo=policy.geo or network.geo,
    )


def upserted(before: Policy, new: Policy, *, prune: bool) -> Policy:
    """What has been applied so far, and now `new`; with `prune` nothing of before that it does not name."""
    if prune:
        return new
    sites, _ = _over(before.sites, new.sites)
    return Policy(
        sites=sites,
        pools=_named(before.pools, new.pools),
        origins=_named(before.origins, new.origins),
        resolvers=new.resolvers or before.resolvers,
        geo=new.geo or before.geo,
    )


def _over(before: Sequence[SiteSpec], new: Sequence[SiteSpec]) -> tuple[tuple[SiteSpec, ...], dict[str, str]]:
    """`before` with `new` in place of what they name, and the names that have become others."""
    hosts = {host for site in new for host in _hosts(site)}
    names = {site.name for site in new}
    by_host = {site.host: site for site in before}
    renamed: dict[str, str] = {}
    placed: list[SiteSpec] = []
    for site in new:
        same = by_host.get(site.host)
        if same is not None and site.name == site_name(site.host) and same.name not in names:
            placed.append(msgspec.structs.replace(site, name=same.name))  # nobody has given it another
        else:
            placed.append(site)
            if same is not None:
                renamed[same.name] = site.name
    taken = {site.name for site in placed}
    kept = [
        msgspec.structs.replace(site, aliases=tuple(alias for alias in site.aliases if alias not in hosts))
        for site in before
        if site.host not in hosts and site.name not in taken
    ]
    order = {site.name: at for at, site in enumerate(before)}  # what takes a place stands there
    ordered = sorted((*kept, *placed), key=lambda site: order.get(site.name, len(order)))
    return tuple(ordered), renamed


def _named(before: Iterable[_Named], new: Iterable[_Named]) -> tuple[_Named, ...]:
    """The same for what goes by one name; each stays where it was."""
    found = {_name(spec): spec for spec in before}
    found.update({_name(spec): spec for spec in new})
    return tuple(found.values())


def _name(spec: PoolSpec | OriginSpec) -> str:
    return spec.name if isinstance(spec, PoolSpec) else spec.host


def _hosts(site: SiteSpec) -> tuple[str, ...]:
    return (site.host, *site.aliases)


def require_fit(network: NetworkSpec, functions: Iterable[str]) -> None:
    """Whether everything that a network's sites and pools name is there; `functions` are those deployed.

    Raises:
        RemoteError: it is not (422), or two sites want one host (409).
    """
    pops = {pop.code for pop in network.pops}
    origins = {origin.host for origin in network.origins}
    pools = {pool.name for pool in network.pools}
    known = set(functions)
    for pool in network.pools:
        where = f"pool {pool.name}"
        for host in (*pool.origins, pool.failover):
            _require(not host or host in origins, f"no origin {host}", origins, where)
        _require(pool.shield in {"", "auto", *pops}, f"no PoP {pool.shield}", pops, where)
    seen: dict[str, str] = {}
    for site in network.sites:
        where = f"site {site.name}"
        if site.host == ANYWHERE:
            hint = "`atoll serve` is for that; name the site's hosts"
            raise RemoteError("a network's site has a host of its own", 422, hint, where)
        for host in _hosts(site):
            if host in seen:
                hint = "name it in one of them"
                raise RemoteError(f"{host} is also a host of site {seen[host]}", 409, hint, where)
            seen[host] = site.name
        for route in site.routes:
            place = f"{where}, route {route.path}"
            _require(not route.pool or route.pool in pools, f"no pool {route.pool}", pools, place)
            _require(
                not route.function or route.function in known, f"no function {route.function}", known, place
            )
            if not route.pool and not route.function:
                raise RemoteError("a route leads nowhere", 422, "give it a pool", place)


def _require(holds: bool, message: str, there_are: Iterable[str], where: str) -> None:
    if not holds:
        listed = ", ".join(sorted(there_are)[:12]) or "none"
        raise RemoteError(message, 422, f"there are: {listed}", where)
