"""The set of specs a network should run, at one point of the store's global order. Pure.

`seq` is the store's revision: every change of any key has one, and they are totally ordered. A PoP keeps
the last set it saw on disk, so its format is versioned and read one version ahead.
"""

from __future__ import annotations

import msgspec

from atoll.config.spec import FunctionSpec, NetworkSpec

NETWORK_KEY = "network"
FUNCTION_PREFIX = "fn."


class Specs(msgspec.Struct, frozen=True, kw_only=True):
    """All specs. `functions` are sorted by tenant and name."""

    v: int = 1
    seq: int = 0
    network: NetworkSpec | None = None
    functions: tuple[FunctionSpec, ...] = ()

    def function(self, tenant: str, name: str) -> FunctionSpec | None:
        """The function of that name, if there is one."""
        return next((f for f in self.functions if (f.tenant, f.name) == (tenant, name)), None)


def function_key(tenant: str, name: str) -> str:
    """The store's key of a function."""
    return f"{FUNCTION_PREFIX}{tenant}.{name}"


def changed(specs: Specs, key: str, seq: int, value: bytes | None) -> Specs:
    """`specs` after one change of the store (`value` None: the key was deleted).

    Keys this version does not know only advance `seq`: a newer control plane may write them.
    """
    specs = msgspec.structs.replace(specs, seq=max(specs.seq, seq))
    if key == NETWORK_KEY:
        network = msgspec.json.decode(value, type=NetworkSpec) if value else None
        return msgspec.structs.replace(specs, network=network)
    if key.startswith(FUNCTION_PREFIX):
        kept = [f for f in specs.functions if function_key(f.tenant, f.name) != key]
        return with_functions(
            specs, kept + ([msgspec.json.decode(value, type=FunctionSpec)] if value else [])
        )
    return specs


def with_functions(specs: Specs, functions: list[FunctionSpec]) -> Specs:
    """`specs` with exactly these functions."""
    ordered = tuple(sorted(functions, key=lambda f: (f.tenant, f.name)))
    return msgspec.structs.replace(specs, functions=ordered)


def with_function(specs: Specs, function: FunctionSpec) -> Specs:
    """`specs` with `function` added, or replaced."""
    key = function_key(function.tenant, function.name)
    kept = [f for f in specs.functions if function_key(f.tenant, f.name) != key]
    return with_functions(specs, [*kept, function])
