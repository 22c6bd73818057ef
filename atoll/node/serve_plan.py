"""What `atoll serve` is asked to do, as a value, and the network of one PoP that this makes.

The PoP is called `local`. It is nowhere: no city, no country, no AS; who comes is told by address alone,
unless the policy names a database.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from atoll.config.policy import Surroundings, origin_name, plain_origin, plain_route
from atoll.config.spec import ANYWHERE, NetworkSpec, Policy, PoolSpec, PopSpec, SiteSpec, Snapshot
from atoll.errors import AtollError

POP: Final = "local"
POOL: Final = "origin"
"""The pool of the origins that the command line names."""

CONNECT_TIMEOUT_S: Final = 5.0
RESPONSE_TIMEOUT_S: Final = 60.0
"""As other proxies have it: an origin that nobody knows may be slow."""

MAX_WORKERS: Final = 256
_LISTEN: Final = re.compile(r"(?:(https?)://)?(?:(\[[0-9a-fA-F:.]+\]|[^:/\[\]]*):)?(\d{1,5})/?")
_ALL: Final = ("0.0.0.0", "::")  # noqa: S104 - asked for by name
_LOOPBACK: Final = ("127.0.0.1", "::1")

Scheme = Literal["http", "https"]


class Listen(msgspec.Struct, frozen=True):
    """Where to listen: every address of `addresses`, with one port; port 0 is any that is free."""

    scheme: Scheme
    addresses: tuple[str, ...]
    port: int
    optional: bool = False  # addresses after the first may be missing on this machine

    def __str__(self) -> str:
        """As a URL."""
        address = self.addresses[0]
        if self.addresses == _ALL:
            return f"{self.scheme}://*:{self.port}"
        return f"{self.scheme}://{f'[{address}]' if ':' in address else address}:{self.port}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that the command line says."""

    listen: tuple[Listen, ...]
    origins: tuple[str, ...] = ()  # URLs
    host_header: str = ""
    certificate: Path | None = None  # and its chain
    key: Path | None = None
    self_signed: bool = False
    http3: bool = False
    policy: Path | None = None
    memory_bytes: int = 256 * 1024 * 1024  # of all workers together
    disk: Path | None = None
    disk_bytes: int = 1024 * 1024 * 1024
    workers: int = 1
    access_log: str = ""  # a path; "-": standard output; "": none
    purge_token: Path | None = None
    admin: str = ""  # an address and port, or `unix:` and a path

    @property
    def secure(self) -> bool:
        """Whether there is a certificate."""
        return self.certificate is not None or self.self_signed


def parse_listen(text: str, scheme: Scheme) -> Listen:
    """`127.0.0.1:8000`, `[::1]:8000`, `:8000` and `8000` (every address), each with `http://` or `https://`
    before it where that is not `scheme`.

    Raises:
        AtollError: it is none of these.
    """
    found = _LISTEN.fullmatch(text)
    hint = "ADDRESS:PORT, for example 127.0.0.1:8000, [::1]:8000, or :8000 for every address"
    if found is None or int(found[3]) > 65_535:
        raise AtollError(f"{text!r} is nowhere to listen", hint)
    chosen: Scheme = "https" if found[1] == "https" else "http" if found[1] else scheme
    name, port = (found[2] or "").strip("[]"), int(found[3])
    if name in ("", "*"):
        return Listen(chosen, _ALL, port, optional=True)
    if name == "localhost":
        return Listen(chosen, _LOOPBACK, port, optional=True)
    try:
        return Listen(chosen, (str(ipaddress.ip_address(name)),), port)
    except ValueError:
        raise AtollError(f"{name!r} is no address of this machine", hint) from None


def surroundings(plan: Plan) -> Surroundings:
    """What a policy may name without saying it."""
    if not plan.origins:
        return Surroundings(functions=False)
    names = [origin_name(url) for url in plan.origins]
    return Surroundings(pools=(POOL,), origins=names, pool=POOL, functions=False)


def local_pop(plan: Plan, https_port: int) -> PopSpec:
    """The PoP that serves."""
    return PopSpec(
        code=POP,
        index=0,
        asn=0,
        city="",
        country="",
        continent="",
        lat=0.0,
        lon=0.0,
        http_port=0,
        https_port=https_port,
        workers=plan.workers,
        http3=plan.http3,
    )


def snapshot_of(plan: Plan, policy: Policy, pop: PopSpec, seq: int) -> Snapshot:
    """What the workers serve: the policy's sites, and the command line's origins for every other host.

    Raises:
        AtollError: the policy has an origin or a pool of a name that the command line's have.
    """
    known = {origin.host for origin in policy.origins}
    mine = [plain_origin(url) for url in dict.fromkeys(plan.origins) if origin_name(url) not in known]
    pools, sites = list(policy.pools), list(policy.sites)
    if plan.origins:
        if any(pool.name == POOL for pool in pools):
            raise AtollError(
                f"two pools are called {POOL}: the policy's, and the one that --origin makes",
                "give the policy's another name, or leave --origin out",
            )
        pools.append(_pool(plan))
        if not any(site.host == ANYWHERE for site in sites):
            sites.append(SiteSpec(name=_free("anywhere", sites), host=ANYWHERE, routes=(plain_route(POOL),)))
    if not sites:
        raise AtollError("there is nothing to serve", "name an --origin, or a --policy with sites")
    network = NetworkSpec(
        name="serve",
        prefixes=(),
        anycast4="",
        anycast6="",
        pops=(),
        eyeballs=(),
        origins=(*policy.origins, *mine),
        pools=tuple(pools),
        sites=tuple(sites),
        default_site="",
        development=False,
        resolvers=policy.resolvers,
        geo=policy.geo,
    )
    return Snapshot(seq=seq, pop=pop, network=network)


def _pool(plan: Plan) -> PoolSpec:
    return PoolSpec(
        name=POOL,
        origins=tuple(dict.fromkeys(origin_name(url) for url in plan.origins)),
        balance="weighted",
        host_header=plan.host_header,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        response_timeout_s=RESPONSE_TIMEOUT_S,
    )


def _free(name: str, sites: Sequence[SiteSpec]) -> str:
    taken = {site.name for site in sites}
    return next(
        each for each in (name, *(f"{name}-{n}" for n in range(2, len(taken) + 3))) if each not in taken
    )
