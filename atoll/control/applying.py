"""Putting an operator's policy into the running network, and telling what sites there are.

1. What the network would be is made out of its own, what has been applied before, and the new policy.
2. It has to fit together, and every worker has to be able to serve it; otherwise nothing changes anywhere.
3. One compare-and-swap stores the policy; each PoP answers with a receipt.
"""

from __future__ import annotations

from time import monotonic
from typing import Literal

from atoll.config.spec import NetworkSpec, Policy, RouteSpec, SiteSpec
from atoll.control.answers import Applied, ApplyOrder, Route, Site, Sites
from atoll.control.deployments import ControlPlane
from atoll.control.policies import merged, require_fit, upserted
from atoll.control.policy_changes import changes
from atoll.control.sites import compile_network
from atoll.control.specs import POLICY_KEY, Specs
from atoll.edge.soundness import require_sound
from atoll.errors import AtollError, RemoteError


async def apply(plane: ControlPlane, order: ApplyOrder) -> Applied:
    """Apply a policy, or say what that would change.

    Raises:
        RemoteError: it does not fit the network (422, 409), somebody else has applied one meanwhile (409), or
            the network is not able to (503).
    """
    started_s, store = monotonic(), plane.store
    stored = await store.load()
    specs = stored.specs
    if POLICY_KEY in specs.unreadable:
        hint = "a newer version has applied it; use that one"
        raise RemoteError("what has been applied before cannot be read", 409, hint)
    known = specs.policy or Policy()
    policy = upserted(known, order.policy, prune=order.prune)
    before, after = merged(plane.network, known), merged(plane.network, policy)
    _require(after, specs, policy, plane.network)
    found = changes(before, after)
    if order.dry_run or policy == known:
        return Applied(changes=found, seq=None, pops={}, total_ms=_ms_since(started_s))
    alive = plane.presence.alive([pop.code for pop in plane.network.pops], started_s)
    at_s, seq = await plane.put_policy(policy, stored.revisions.get(POLICY_KEY, 0))
    pops = await plane.receipts(alive, specs.store, seq, at_s)
    return Applied(changes=found, seq=seq, pops=pops, total_ms=_ms_since(started_s))


async def sites(plane: ControlPlane) -> Sites:
    """Every site there is, whoever made it."""
    specs = (await plane.store.load()).specs
    policy = specs.policy or Policy()
    compiled = compile_network(plane.network, specs.functions, policy)
    applied = {site.name for site in policy.sites}
    # A policy's site may have kept the name of the network's site whose place it has taken.
    applied |= {site.name for site in merged(plane.network, policy).sites if site not in plane.network.sites}
    own = {site.name for site in plane.network.sites}
    return Sites(
        sites=tuple(_site(site, applied, own) for site in compiled.sites),
        pools=tuple(pool.name for pool in compiled.pools),
        origins=tuple(origin.host for origin in compiled.origins),
    )


def _require(after: NetworkSpec, specs: Specs, policy: Policy, network: NetworkSpec) -> None:
    """Whether it fits, and workers can serve it with functions' routes on it.

    Raises:
        RemoteError: it does not, or they cannot.
    """
    require_fit(after, (function.name for function in specs.functions if function.active))
    compiled = compile_network(network, specs.functions, policy)
    try:
        require_sound(compiled)
    except RemoteError:
        raise
    except AtollError as error:
        raise RemoteError(error.message, 422, error.hint, error.where) from error


def _site(site: SiteSpec, applied: set[str], own: set[str]) -> Site:
    source: Literal["network", "policy", "function"] = "function"
    if site.name in applied:
        source = "policy"
    elif site.name in own:
        source = "network"
    return Site(
        name=site.name,
        host=site.host,
        aliases=site.aliases,
        tenant=site.tenant,
        source=source,
        routes=tuple(_route(route) for route in site.routes),
    )


def _route(route: RouteSpec) -> Route:
    rules: tuple[str, ...] = ()
    if route.admission is not None:
        rules = tuple(
            name
            for name in route.admission.__struct_fields__
            if getattr(route.admission, name) not in (None, ())
        )
    return Route(path=route.path, pool=route.pool, function=route.function, cache=route.cache, rules=rules)


def _ms_since(start_s: float) -> float:
    return round((monotonic() - start_s) * 1000, 2)
