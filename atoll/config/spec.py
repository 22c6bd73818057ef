"""Specs: what should be. Sites, routes, origins, pools, PoPs and functions as typed, immutable values.

The control plane stores these, an agent turns them into a `Snapshot` for its PoP, an edge worker compiles
the snapshot. Everything here is a value: no I/O. Times carry their unit in the name, sizes are bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from atoll.config.admission import AdmissionSpec
from atoll.config.compression import CompressionSpec
from atoll.config.geo import GeoDatabaseSpec
from atoll.config.origins import (
    EJECTION_USUAL,
    LIMITS_USUAL,
    RETRY_USUAL,
    TLS_USUAL,
    Balance,
    EjectionSpec,
    OriginLimitsSpec,
    OriginProtocol,
    OriginTlsSpec,
    RetrySpec,
)
from atoll.config.tls import USUAL, TlsSpec

DEFAULT_TENANT = "default"
ANYWHERE = "*"  # the `SiteSpec.host` of the site that answers for every host no other site has

Consistency = Literal["eventual", "merged", "strict", "critical"]
"""What a cached answer promises: `strict` is never older than a purge that has been acknowledged, even where
a PoP has lost touch with the others; `critical` has been validated by the origin for this very request."""

Strategy = Literal["edge-first", "origin-first", "edge-only"]
"""Where an answer comes from: the cache while it is fresh; the origin, the cache standing in when that fails;
or the cache alone."""


class OriginSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A server that holds the truth. `host` is its name in the network's own name table."""

    host: str  # e.g. "us-origin.example.com": what functions and pools call it
    url: str  # e.g. "http://127.0.0.1:9611" or "https://origin.example.com": where it really listens
    region: str = ""  # continent code (NA, EU, AS, ...), for people
    lat: float = 0.0
    lon: float = 0.0
    health_path: str = "/health"  # "": it is not checked, and only requests say how it is
    health_host: str = ""  # what its checks say as Host; "": `host`
    weight: int = 1  # how much of a pool's requests it takes, beside the others; 0: only when all others fail
    protocol: OriginProtocol = "auto"
    tls: OriginTlsSpec = TLS_USUAL
    allow_private: bool = False  # whether its name may lead to a private address; a literal one always may
    tenant: str = DEFAULT_TENANT  # whose functions may name it


class PoolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Origins that can answer for each other. Tried in the order of `balance`; `failover` last."""

    name: str
    origins: tuple[str, ...]  # OriginSpec.host
    failover: str = ""  # OriginSpec.host of the last resort
    connect_timeout_s: float = 1.0
    response_timeout_s: float = 10.0  # until the response's head
    between_timeout_s: float = 30.0  # of silence within a response's body; 0: for ever
    total_timeout_s: float = 0.0  # for all of it, other origins' attempts included; 0: no end
    tunnel_idle_s: float = 600.0  # of silence in a WebSocket or another protocol gone on with; 0: for ever
    health_interval_s: float = 1.0
    health_jitter: float = 0.1  # part of the interval by which each pause differs: checks spread out
    health_timeout_s: float = 2.0
    health_statuses: tuple[int, int] = (200, 299)  # the first and the last that say "healthy"
    rise: int = 2
    fall: int = 2
    balance: Balance = "nearest"
    slow_start_s: float = 0.0  # over which an origin that has recovered gets its whole weight back
    ejection: EjectionSpec = EJECTION_USUAL
    retry: RetrySpec = RETRY_USUAL
    limits: OriginLimitsSpec = LIMITS_USUAL
    host_header: str = ""  # what its origins are told as Host; "": the name that was asked for
    shield: str = ""  # PopSpec.code that asks these origins for all PoPs; "auto": the nearest; "": none


class RouteSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a site's routing table; the longest matching `path` prefix wins.

    `path` is a prefix pattern: "/*" everything, "/api/*" a subtree, "/exact" one path.
    """

    path: str = "/*"
    function: str = ""  # name of a function that answers viewer requests
    pool: str = ""  # PoolSpec.name, the origin when no function answers
    upgrades: tuple[str, ...] = ("websocket",)  # protocols that a request may go on with, in lowercase
    cache: bool = True
    consistency: Consistency = "eventual"
    strategy: Strategy = "edge-first"
    honour_client: bool = True  # whether a client's Cache-Control may have the origin asked
    refresh_ahead_s: int = 0  # renew behind what is asked for when it has only so long to live
    stale_while_revalidate_s: int = 0  # for responses that do not say it themselves
    heuristics: bool = True  # guess how long what does not say it is fresh (RFC 9111 §4.2.2)
    slice_bytes: int = 0  # answer ranges of large objects from slices of so many bytes; 0: no slices
    stale_if_error_s: int = 86_400  # serve stale this long past freshness when no origin answers
    admission: AdmissionSpec | None = None  # who may ask, and what browsers are told
    compression: CompressionSpec | None = None  # for clients that accept it


class SiteSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A web site. `host` is canonical: cache keys, purges and function URLs use it."""

    name: str
    host: str
    aliases: tuple[str, ...] = ()
    routes: tuple[RouteSpec, ...] = ()
    tenant: str = DEFAULT_TENANT
    tls: TlsSpec = USUAL  # what its clients' connections have to be like


class PopSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A point of presence. `index` fixes its ports; `code` is what `X-Edge-Location` says."""

    code: str  # "lhr"
    index: int
    asn: int
    city: str  # key of atoll.internet.geography's city table, e.g. "london"
    country: str  # ISO 3166 alpha-2
    continent: str
    lat: float
    lon: float
    http_port: int  # on `address`: the PoP's own unicast side (the gateway speaks PROXY v2 to it)
    https_port: int
    address: str = "127.0.0.1"
    workers: int = 1
    http3: bool = False  # one more edge worker speaks HTTP/3, on UDP port `https_port`

    @property
    def edges(self) -> int:
        """Edge workers of both kinds: 0 and up speak TCP, the last one HTTP/3 if there is one."""
        return self.workers + self.http3


class EyeballSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A network of users in a city: what `<city>.localhost` makes of a browser."""

    city: str  # "tokyo", "new-york"
    asn: int
    country: str
    continent: str
    lat: float
    lon: float
    address4: str  # the source address the gateway puts into PROXY v2
    address6: str
    label: str = ""  # "Tokyo"


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A whole network, as `atoll up` runs it."""

    name: str
    prefixes: tuple[str, ...]  # announced by every PoP, e.g. ("192.0.2.0/24", "2001:db8:a70::/48")
    anycast4: str
    anycast6: str
    pops: tuple[PopSpec, ...]
    eyeballs: tuple[EyeballSpec, ...]
    origins: tuple[OriginSpec, ...]
    pools: tuple[PoolSpec, ...]
    sites: tuple[SiteSpec, ...]
    default_site: str  # SiteSpec.name served on `<city>.localhost`
    development: bool = True  # 404 pages name the known hosts
    resolvers: tuple[str, ...] = ()  # DNS for origins' names, "192.0.2.53" or with a port; (): the machine's
    geo: GeoDatabaseSpec | None = None  # where clients are; without it only the lab's own are known


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator wants beside what a network has by itself, or in its place: a policy file's value."""

    sites: tuple[SiteSpec, ...] = ()
    pools: tuple[PoolSpec, ...] = ()
    origins: tuple[OriginSpec, ...] = ()
    resolvers: tuple[str, ...] = ()  # of origins' names; (): the network's
    geo: GeoDatabaseSpec | None = None  # where clients are; None: as the network knows it


class FunctionVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version of a function. `id` is the first 16 hex digits of the bundle's SHA-256."""

    id: str
    bundle: str  # full SHA-256 of the bundle, its name in the object store
    number: int  # 1, 2, 3 ... in order of deployment, for people
    created_s: float  # seconds since the epoch
    size: int  # bytes of the bundle
    routes: tuple[str, ...] = ()  # its manifest's: a rollback brings back its routes too


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A function, the versions it has had and the one that serves."""

    name: str
    active: str  # FunctionVersion.id; "" when none has been activated
    previous: str = ""  # what was active before: kept warm, and where a rollback goes
    versions: tuple[FunctionVersion, ...] = ()
    routes: tuple[str, ...] = ()  # wrangler route patterns: "www.example.com/*"
    tenant: str = DEFAULT_TENANT


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says of itself: the part of wrangler.toml that the runtime needs."""

    name: str
    main: str  # file name inside the bundle
    syntax: Literal["modules", "service-worker"]
    compatibility_date: str
    compatibility_flags: tuple[str, ...] = ()
    vars: dict[str, str | int | float | bool | list[object] | dict[str, object]] = {}
    routes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # every file of the bundle, sorted; modules by their ending


class FunctionRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """Where a function's active version answers on this PoP."""

    name: str
    version: str
    socket: str  # path of the unix socket its host listens on
    routes: tuple[str, ...] = ()
    tenant: str = DEFAULT_TENANT


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that an edge worker of one PoP needs, as one value. Applied atomically, kept on disk.

    `seq` grows with every change of the network's specs; a worker acknowledges the seq it serves.
    """

    v: int = 1
    seq: int
    pop: PopSpec
    network: NetworkSpec
    functions: tuple[FunctionRuntime, ...] = ()
