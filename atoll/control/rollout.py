"""How a version of a function comes into service and leaves it. Pure.

1. Every PoP that answers prepares the version: its host runs, nothing changes for users.
2. If one of them refuses, nothing is activated anywhere: the version in service stays untouched.
3. A PoP that does not answer never blocks: it catches up from the store by itself.
4. Activation is one compare-and-swap of the function's spec; each PoP answers with a receipt.
5. A rollback mends something: a PoP that cannot run the version, or takes long, does not keep the others from
   it. It is activated once one PoP has prepared and the rest have had their moment.
6. Ten versions are kept; the one that serves and the one before it are never among the forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from atoll.config.spec import FunctionSpec, FunctionVersion
from atoll.errors import AtollError, RemoteError

KEPT_VERSIONS: Final = 10
ID_LENGTH: Final = 16

ACTIVE: Final = "active"
LATE: Final = "late"
CATCHES_UP: Final = "catches up"
REFUSED: Final = "refused"


class Prepared(msgspec.Struct, frozen=True):
    """The PoP's host answers; `ms` is None when there was nothing to prepare."""

    ms: float | None


class Refused(msgspec.Struct, frozen=True):
    """The PoP could not run it, in the runtime's words."""

    message: str
    hint: str = ""
    where: str = ""


class Absent(msgspec.Struct, frozen=True):
    """Nobody answered for the PoP."""


Preparation = Prepared | Refused | Absent


class PopReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """One PoP's part of a change.

    `late`: prepared, but no acknowledgement in time. `refused`: it cannot run what a rollback has activated
    and serves what it served before.
    """

    state: str  # active | late | catches up | refused
    prepare_ms: float | None = None
    activate_ms: float | None = None
    why: str = ""  # it refused, in the runtime's words


def admit(preparations: Mapping[str, Preparation], *, back: bool = False) -> tuple[str, ...]:
    """The PoPs whose receipts activation waits for. `back`: for a rollback one is enough.

    Raises:
        RemoteError: a PoP refused (422), or none answered (503).
    """
    ready = tuple(pop for pop, p in preparations.items() if isinstance(p, Prepared))
    refusals = {pop: p for pop, p in sorted(preparations.items()) if isinstance(p, Refused)}
    if refusals and not (back and ready):
        pop, refusal = next(iter(refusals.items()))
        where = refusal.where or ", ".join(refusals)
        raise RemoteError(refusal.message, 422, refusal.hint or f"{pop} could not run it", where)
    if not ready:
        raise RemoteError("no PoP answers", 503, "look at `atoll status`; start one with `atoll pop start`")
    return ready


def receipts(
    preparations: Mapping[str, Preparation], activated_ms: Mapping[str, float]
) -> dict[str, PopReceipt]:
    """What each PoP did, in the network's order."""
    return {pop: _receipt(p, activated_ms.get(pop)) for pop, p in preparations.items()}


def _receipt(preparation: Preparation, activate_ms: float | None) -> PopReceipt:
    if isinstance(preparation, Refused) and activate_ms is None:
        return PopReceipt(state=REFUSED, why=str(AtollError(preparation.message, where=preparation.where)))
    if not isinstance(preparation, Prepared):
        state = CATCHES_UP if activate_ms is None else ACTIVE  # it may have come up meanwhile
        return PopReceipt(state=state, activate_ms=activate_ms)
    state = LATE if activate_ms is None else ACTIVE
    return PopReceipt(state=state, prepare_ms=preparation.ms, activate_ms=activate_ms)


def new_version(
    spec: FunctionSpec | None, bundle: str, size: int, routes: tuple[str, ...], now_s: float
) -> FunctionVersion:
    """The version that a bundle becomes; the same content is the same version again."""
    version_id = bundle[:ID_LENGTH]
    known = spec.versions if spec else ()
    for version in known:
        if version.id == version_id:
            return version
    number = max((version.number for version in known), default=0) + 1
    return FunctionVersion(
        id=version_id, bundle=bundle, number=number, created_s=now_s, size=size, routes=routes
    )


def activated(spec: FunctionSpec, version: FunctionVersion) -> FunctionSpec:
    """`spec` with `version` in service, added if it is new, and old versions forgotten."""
    previous = spec.active if spec.active != version.id else spec.previous
    versions = spec.versions if version in spec.versions else (*spec.versions, version)
    return FunctionSpec(
        name=spec.name,
        tenant=spec.tenant,
        active=version.id,
        previous=previous,
        versions=retained(versions, {version.id, previous}),
        routes=version.routes,
    )


def retained(versions: tuple[FunctionVersion, ...], needed: set[str]) -> tuple[FunctionVersion, ...]:
    """The newest versions and those needed, `KEPT_VERSIONS` at most, by number."""
    newest_first = sorted(versions, key=lambda version: (version.id in needed, version.number), reverse=True)
    return tuple(sorted(newest_first[:KEPT_VERSIONS], key=lambda version: version.number))


def rollback_target(spec: FunctionSpec, to: str | None) -> FunctionVersion:
    """The version a rollback goes to: `to` (a number, an id or its beginning), else what served before.

    Raises:
        RemoteError: there is no such version (404), or nothing to go back to (409).
    """
    wanted = spec.previous if to is None else to
    if not wanted:
        raise RemoteError(
            f"{spec.name} has no version to go back to", 409, f"see `atoll versions {spec.name}`"
        )
    found = [v for v in spec.versions if str(v.number) == wanted]
    found = found or [v for v in spec.versions if v.id.startswith(wanted)]
    if len(found) != 1:
        numbers = ", ".join(str(v.number) for v in spec.versions)
        problem = "no version" if not found else "more than one version"
        raise RemoteError(f"{spec.name} has {problem} {wanted}", 404, f"there are {numbers}")
    if found[0].id == spec.active:
        raise RemoteError(f"version {found[0].number} of {spec.name} serves already", 409)
    return found[0]
