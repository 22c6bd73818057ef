"""What a PoP should run and serve, from the specs and the hosts that are ready. Pure.

A function is never taken out of service because its next version is not ready: until then the version that
served keeps serving. A PoP acknowledges a `seq` only when every function serves its active version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from atoll.config.spec import FunctionRuntime, FunctionSpec, NetworkSpec, Policy, PopSpec, Snapshot
from atoll.control.sites import compile_network
from atoll.control.specs import Specs


def host_id(tenant: str, name: str, version: str) -> str:
    """The id a supervisor knows a function host by."""
    return f"{tenant}.{name}.{version}"


def function_id(function: FunctionSpec) -> str:
    """A function's name in heartbeats: "<tenant>.<name>"."""
    return f"{function.tenant}.{function.name}"


def wanted_hosts(functions: Iterable[FunctionSpec], serving: Mapping[str, str]) -> dict[str, str]:
    """Hosts that should run, with their bundles: of each function the active version, the one before it, and
    the one that serves as long as neither is ready."""
    return {
        host_id(function.tenant, function.name, version.id): version.bundle
        for function in functions
        for version in function.versions
        if version.id in (function.active, function.previous, serving.get(function_id(function)))
    }


def active_hosts(functions: Iterable[FunctionSpec]) -> set[str]:
    """The hosts without which a PoP does not serve what it should."""
    return {host_id(f.tenant, f.name, f.active) for f in functions if f.active}


def serving_versions(
    functions: Iterable[FunctionSpec], ready: Mapping[str, str], serving: Mapping[str, str]
) -> dict[str, str]:
    """The version each function serves: the active one if its host is ready, else the one that served."""
    chosen = {}
    for function in functions:
        for version in (function.active, serving.get(function_id(function), ""), function.previous):
            if version and host_id(function.tenant, function.name, version) in ready:
                chosen[function_id(function)] = version
                break
    return chosen


def snapshot(specs: Specs, pop: PopSpec, ready: Mapping[str, str], versions: Mapping[str, str]) -> Snapshot:
    """What the PoP's edge workers serve. `ready`: host id to socket; `versions`: function id to version."""
    assert specs.network is not None, "a PoP serves nothing before it has seen its network"
    runtimes = tuple(
        FunctionRuntime(
            name=function.name,
            version=versions[function_id(function)],
            socket=ready[host_id(function.tenant, function.name, versions[function_id(function)])],
            routes=function.routes,
            tenant=function.tenant,
        )
        for function in specs.functions
        if function_id(function) in versions
    )
    last = Snapshot(seq=specs.seq, pop=pop, network=specs.network, functions=runtimes)
    return relocated(last, specs.network, specs.functions, specs.policy)


def relocated(
    last: Snapshot, network: NetworkSpec, functions: Iterable[FunctionSpec], policy: Policy | None = None
) -> Snapshot:
    """`last` in `network`: the same versions, with the sites, origins and ports that are true now."""
    compiled = compile_network(network, functions, policy)
    pop = next((p for p in compiled.pops if p.code == last.pop.code), last.pop)
    return msgspec.structs.replace(last, pop=pop, network=compiled)


def up_to_date(functions: Iterable[FunctionSpec], versions: Mapping[str, str]) -> bool:
    """Whether every function serves its active version."""
    return all(versions.get(function_id(f)) == f.active for f in functions if f.active)
