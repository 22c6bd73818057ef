"""What the control plane and the PoPs' agents say over NATS: its values and their subjects.

JSON, so that `nats sub 'atoll.>'` is readable. Unknown fields are ignored and missing ones take their
defaults, so each side reads one version back and one ahead.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from atoll.config.purge import Selector
from atoll.errors import AtollError
from atoll.wire.messages import EdgeStats

ALL_RECEIPTS: Final = "atoll.receipt.*"
ALL_HEARTBEATS: Final = "atoll.heartbeat.*"
ALL_PURGE_RECEIPTS: Final = "atoll.purged.*"
PURGES: Final = "atoll.purge"
"""Where purges are published; JetStream keeps them in the stream `ATOLL_PURGES` and numbers them."""
PURGES_STREAM: Final = "ATOLL_PURGES"


class PrepareRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fetch this bundle and have a host for it answer; changes nothing for users."""

    v: int = 1
    tenant: str
    name: str
    version: str
    bundle: str  # SHA-256, its name in the object store


class PrepareReply(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` and how long it took, or the runtime's own words."""

    v: int = 1
    ok: bool
    ms: float = 0.0
    message: str = ""
    hint: str = ""
    where: str = ""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Every edge worker of `pop` routes new requests by `seq`; `ms` since the agent saw it."""

    v: int = 1
    pop: str
    seq: int
    ms: float
    functions: dict[str, str] | None = None  # as in `Heartbeat`; None from an agent that does not say
    store: str = ""  # the identity of the store that counts `seq`


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One second of a PoP: what it serves, and its edge workers' counters."""

    v: int = 1
    pop: str
    seq: int  # what its edge workers have acknowledged
    functions: dict[str, str] = {}  # "<tenant>.<name>": version that serves
    edges: tuple[EdgeStats, ...] = ()
    store: str = ""  # the identity of the store it follows; "" before it has seen one


class AdoptRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Follow the store of this identity from now on, whatever was followed before."""

    v: int = 1
    store: str


class AdoptReply(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it follows that store now, and if not, why."""

    v: int = 1
    ok: bool
    message: str = ""


class PurgeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A purge; its number is the message's in the stream."""

    v: int = 1
    selector: Selector


class PurgeReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """Every edge worker of `pop` has applied all purges up to `seq`; `ms` since the agent saw it."""

    v: int = 1
    pop: str
    seq: int
    ms: float


_Body = TypeVar("_Body")
_Any = (
    PrepareRequest
    | PrepareReply
    | Receipt
    | Heartbeat
    | AdoptRequest
    | AdoptReply
    | PurgeOrder
    | PurgeReceipt
)


def encode(body: _Any) -> bytes:
    """The bytes of a message."""
    return msgspec.json.encode(body)


def decode(data: bytes, kind: type[_Body]) -> _Body:
    """The message in `data`.

    Raises:
        AtollError: it is not one.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise AtollError(f"a NATS message that is no {kind.__name__}: {error}") from error


def prepare_subject(pop: str) -> str:
    """Where a PoP's agent answers `PrepareRequest`."""
    return f"atoll.pop.{pop}.prepare"


def adopt_subject(pop: str) -> str:
    """Where a PoP's agent answers `AdoptRequest`."""
    return f"atoll.pop.{pop}.adopt"


def receipt_subject(pop: str) -> str:
    """Where a PoP's agent publishes `Receipt`."""
    return f"atoll.receipt.{pop}"


def purge_receipt_subject(pop: str) -> str:
    """Where a PoP's agent publishes `PurgeReceipt`."""
    return f"atoll.purged.{pop}"


def heartbeat_subject(pop: str) -> str:
    """Where a PoP's agent publishes `Heartbeat`."""
    return f"atoll.heartbeat.{pop}"
