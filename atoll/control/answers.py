"""What the API answers: the values behind `/openapi.json`, shared with the command line."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from atoll.config.purge import Kind, Selector
from atoll.config.spec import Policy
from atoll.control.policy_changes import SpecChange
from atoll.control.rollout import PopReceipt
from atoll.wire.messages import AnycastStatus, CatchmentRow, EdgeStats, ProcessInfo

FOLLOWS: Final = "follows"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error, in the three parts every Atoll error has."""

    message: str
    hint: str = ""
    where: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The API itself answers; `store` says whether it reaches NATS."""

    ok: bool
    store: bool


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A deploy, a rollback or a removal, with a receipt from each PoP."""

    name: str
    version: str  # what serves now, "" after a removal
    number: int
    previous: str  # what served before
    seq: int
    pops: dict[str, PopReceipt]
    total_ms: float
    routes: tuple[str, ...] = ()


class PurgedPop(msgspec.Struct, frozen=True, kw_only=True):
    """What a PoP made of a purge.

    applied: nothing that it selects is served there, `ms` after it was asked for. lapsed: the PoP did not
    answer, and its lease has run out: `strict` routes validate everything until it has caught up, others may
    serve what they have. gone: it is stopped, or had not been heard of for that long.
    """

    state: Literal["applied", "lapsed", "gone"]
    ms: float | None = None


class PurgeWish(msgspec.Struct, frozen=True, kw_only=True):
    """What to purge: a URL, a prefix of one, a host, a tag, or everything (`value` is empty)."""

    kind: Kind
    value: str = ""
    soft: bool = False


class Purge(msgspec.Struct, frozen=True, kw_only=True):
    """A purge, with a receipt from each PoP. `seq` is its number in the network."""

    seq: int
    selector: Selector
    pops: dict[str, PurgedPop]
    total_ms: float


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """Every PoP was told to follow the store there is: `follows`, or why it does not."""

    store: str
    pops: dict[str, str]


class ApplyOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What operators want from now on, beside the network's own or in its place.

    `prune`: what they have applied before and is not in it goes. `dry_run`: only say what would change.
    """

    policy: Policy
    prune: bool = False
    dry_run: bool = False


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy has changed, with a receipt from each PoP; nothing was asked of them if nothing has."""

    changes: tuple[SpecChange, ...]
    seq: int | None  # of the change; None: there was none
    pops: dict[str, PopReceipt]
    total_ms: float


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route of a site."""

    path: str
    pool: str
    function: str
    cache: bool
    rules: tuple[str, ...]  # those of its admission


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A site. `source`: the network's own, a policy's, or made for a function's routes."""

    name: str
    host: str
    aliases: tuple[str, ...]
    tenant: str
    source: Literal["network", "policy", "function"]
    routes: tuple[Route, ...]


class Sites(msgspec.Struct, frozen=True, kw_only=True):
    """Every site, and the names that a policy may name."""

    sites: tuple[Site, ...]
    pools: tuple[str, ...]
    origins: tuple[str, ...]


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function and the version that serves."""

    name: str
    tenant: str
    version: str
    number: int
    previous: str
    routes: tuple[str, ...]
    versions: int  # how many are kept


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a function."""

    id: str
    number: int
    created_s: float
    size: int
    routes: tuple[str, ...]
    active: bool
    previous: bool


class Pop(msgspec.Struct, frozen=True, kw_only=True):
    """A PoP: what the daemon, its agent, its edge workers and its anycast role say of it."""

    code: str
    city: str
    country: str
    asn: int
    http_port: int
    https_port: int
    state: str  # up | down | draining | starting | unknown
    seq: int | None  # the specs its edge workers serve; None: its agent has not been heard
    heard_s: float | None  # since its agent's last heartbeat
    store: str = ""  # the identity of the store it follows, as its agent says
    functions: dict[str, str] = {}  # "<tenant>.<name>": version
    processes: tuple[ProcessInfo, ...] = ()
    edges: tuple[EdgeStats, ...] = ()
    anycast: AnycastStatus | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole network. `degraded` names what is not as it should be, empty when all is well."""

    name: str
    seq: int | None  # of the store; None: NATS is not reachable
    latency: str  # off | real
    pops: tuple[Pop, ...]
    processes: tuple[ProcessInfo, ...]
    catchment: tuple[CatchmentRow, ...]
    degraded: tuple[str, ...] = ()
    store: str = ""  # the store's identity


class PopAction(msgspec.Struct, frozen=True, kw_only=True):
    """A PoP was told something and has done it; `anycast` is its receipt for drain and undrain."""

    pop: str
    action: str
    ms: float
    anycast: AnycastStatus | None = None


class ProcessKill(msgspec.Struct, frozen=True, kw_only=True):
    """A process was sent SIGKILL."""

    name: str


class RollbackOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Where to: a version's number or id; without it, what served before."""

    to: str | int | None = None
