"""The set of specs a network should run, at one point of the store's global order. Pure.

`seq` is the store's revision: every change of any key has one, and they are totally ordered. A PoP keeps
the last set it saw on disk, so its format is versioned and read one version ahead. A value that this version
cannot read (a newer control plane wrote it, or it is damaged) takes nothing out of service: the value known
before it stays, and the key is named until somebody writes one that can be read.

Two stores may count alike and hold different things, so a store has an identity, a random word that the
control plane writes once. A PoP that follows one does not follow another until it is told to.
"""

from __future__ import annotations

import msgspec

from atoll.config.spec import FunctionSpec, NetworkSpec, Policy

NETWORK_KEY = "network"
POLICY_KEY = "policy"
STORE_KEY = "store-id"
FUNCTION_PREFIX = "fn."


class Specs(msgspec.Struct, frozen=True, kw_only=True):
    """All specs. `functions` are sorted by tenant and name."""

    v: int = 1
    seq: int = 0
    network: NetworkSpec | None = None
    policy: Policy | None = None  # what operators have applied, beside the network or in its place
    functions: tuple[FunctionSpec, ...] = ()
    store: str = ""  # the identity of the store they are from, "" before it has one
    unreadable: tuple[str, ...] = ()  # keys whose present value this version cannot read, sorted

    def function(self, tenant: str, name: str) -> FunctionSpec | None:
        """The function of that name, if there is one."""
        return next((f for f in self.functions if (f.tenant, f.name) == (tenant, name)), None)


def function_key(tenant: str, name: str) -> str:
    """The store's key of a function."""
    return f"{FUNCTION_PREFIX}{tenant}.{name}"


def changed(specs: Specs, key: str, seq: int, value: bytes | None) -> Specs:
    """`specs` after one change of the store (`value` None: the key was deleted).

    Keys this version does not know, and values it cannot read, only advance `seq`.
    """
    unreadable = tuple(other for other in specs.unreadable if other != key)
    after = msgspec.structs.replace(specs, seq=max(specs.seq, seq), unreadable=unreadable)
    try:
        return _set(after, key, value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.structs.replace(after, unreadable=tuple(sorted((*unreadable, key))))


def _set(specs: Specs, key: str, value: bytes | None) -> Specs:
    if key == NETWORK_KEY:
        network = msgspec.json.decode(value, type=NetworkSpec) if value else None
        return msgspec.structs.replace(specs, network=network)
    if key == POLICY_KEY:
        policy = msgspec.json.decode(value, type=Policy) if value else None
        return msgspec.structs.replace(specs, policy=policy)
    if key == STORE_KEY:
        return msgspec.structs.replace(specs, store=(value or b"").decode())
    if key.startswith(FUNCTION_PREFIX):
        read = [msgspec.json.decode(value, type=FunctionSpec)] if value else []
        if any(function_key(function.tenant, function.name) != key for function in read):
            raise msgspec.ValidationError("it names another function than its key")
        return with_functions(specs, _without(specs, key) + read)
    return specs


def continues(specs: Specs, known: Specs) -> bool:
    """Whether `specs` are of the history that `known` are of, and not of an earlier point."""
    return specs.seq >= known.seq and known.store in ("", specs.store)


def filled(specs: Specs, known: Specs) -> Specs:
    """`specs` with the values of `known`, an earlier set of the same store, where its own cannot be read."""
    functions = list(specs.functions)
    for function in known.functions:
        key = function_key(function.tenant, function.name)
        if key in specs.unreadable and specs.function(function.tenant, function.name) is None:
            functions.append(function)
    unread = NETWORK_KEY in specs.unreadable and specs.network is None
    network = known.network if unread else specs.network
    unread = POLICY_KEY in specs.unreadable and specs.policy is None
    policy = known.policy if unread else specs.policy
    return with_functions(msgspec.structs.replace(specs, network=network, policy=policy), functions)


def _without(specs: Specs, key: str) -> list[FunctionSpec]:
    return [f for f in specs.functions if function_key(f.tenant, f.name) != key]


def with_functions(specs: Specs, functions: list[FunctionSpec]) -> Specs:
    """`specs` with exactly these functions."""
    ordered = tuple(sorted(functions, key=lambda f: (f.tenant, f.name)))
    return msgspec.structs.replace(specs, functions=ordered)


def with_function(specs: Specs, function: FunctionSpec) -> Specs:
    """`specs` with `function` added, or replaced."""
    key = function_key(function.tenant, function.name)
    return with_functions(specs, [*_without(specs, key), function])
