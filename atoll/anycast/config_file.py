"""The file that `atoll anycast` runs by: a service, how it is checked, and the routers that are told. Pure.

as = 64512
router_id = "10.0.0.1"
prefixes = ["192.0.2.0/24", "2001:db8::/48"]

[check]
http = "http://127.0.0.1:8080/health"

[[neighbor]]
name = "transit_a"
address = "10.0.0.2"
as = 64600
local_address = "10.0.0.1"
bfd = { interval_ms = 50, multiplier = 3 }
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from atoll.anycast.bfd import Timers, check_timers
from atoll.anycast.health import HealthLimits
from atoll.anycast.neighbors import Family, Neighbor, Speaking, check_asn, check_neighbor, family_of
from atoll.anycast.policy import PolicyLimits
from atoll.anycast.speaker import MAX_PREPEND, Announcement, checked
from atoll.config.located import Document, Path, parse_toml
from atoll.errors import AtollError

LONGEST: Final[dict[Family, int]] = {"ipv4": 24, "ipv6": 48}
"""Most networks take no longer prefix from others."""

MAX_PREFIXES: Final = 1000
MAX_NEIGHBORS: Final = 64

_AT: Final = re.compile(r" - at `\$?(?P<path>.*)`$")
_PART: Final = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class CheckTable(_Table, frozen=True, kw_only=True):
    """`[check]`: one of `http`, `tcp`, `command`, and how often it decides what."""

    http: str = ""
    tcp: str = ""
    command: tuple[str, ...] = ()
    host: str = ""  # what the request's Host says; default: the URL's
    interval_ms: int = 250
    timeout_ms: int = 1000
    rise: int = 2
    fall: int = 3
    on_failure: Literal["withdraw", "prepend"] = "withdraw"


class BfdTable(_Table, frozen=True, kw_only=True):
    """A neighbour's `bfd`."""

    interval_ms: int = 300
    multiplier: int = 3


class NeighborTable(_Table, frozen=True, kw_only=True):
    """`[[neighbor]]`."""

    name: str
    address: str
    asn: int = msgspec.field(name="as")
    local_address: str
    port: int = 179
    hold_time_s: int = 90
    families: tuple[Family, ...] = ()  # default: of the prefixes
    next_hops: dict[Family, str] = {}
    password_file: str = ""
    ttl_security: bool = False
    bfd: BfdTable | bool = False
    communities: dict[str, str] = {}


class BirdTable(_Table, frozen=True, kw_only=True):
    """`[bird]`: the BIRD that speaks for us, instead of an ExaBGP of our own."""

    control: str = "/run/bird/bird.ctl"
    include: str = "/run/atoll/anycast.conf"


class FileTable(_Table, frozen=True, kw_only=True):
    """The whole file."""

    asn: int = msgspec.field(name="as")
    router_id: str
    prefixes: tuple[str, ...]
    check: CheckTable
    neighbor: tuple[NeighborTable, ...]
    name: str = "anycast"
    bird: BirdTable | None = None
    prepend: int = 0
    med: int = 0
    communities: tuple[str, ...] = ()
    large_communities: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    drain_window_s: float = 5.0
    drain_prepend: int = 3
    graceful_restart_s: int = 0
    allow_longer: bool = False


_TABLES: Final[dict[str, type[_Table]]] = {
    "check": CheckTable,
    "neighbor": NeighborTable,
    "bird": BirdTable,
    "bfd": BfdTable,
}


class AnycastFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says, checked."""

    name: str
    speaking: Speaking
    template: Announcement  # what each prefix is announced with; its own prefix says nothing
    prefixes: tuple[str, ...]
    check: CheckTable
    bird: BirdTable | None
    health: HealthLimits
    policy: PolicyLimits


def read_anycast_file(name: str, text: str) -> AnycastFile:
    """The file `name` with its `text`.

    Raises:
        AtollError: with the line, what is wrong there, and what was expected.
    """
    document = parse_toml(name, text)
    try:
        table = msgspec.convert(document.fields, FileTable)
    except msgspec.ValidationError as error:
        raise _located(document, str(error)) from None
    _check_numbers(document, table)
    prefixes = tuple(
        _prefix(document, index, text, table.allow_longer) for index, text in enumerate(table.prefixes)
    )
    _check_prefixes(document, prefixes)
    template = checked_at(document, ("communities",), Announcement(
        prefix=prefixes[0], prepend=table.prepend, med=table.med, communities=table.communities,
        large_communities=table.large_communities, actions=table.actions,
    ))  # fmt: skip
    return AnycastFile(
        name=table.name,
        speaking=_speaking(document, table, prefixes),
        template=template,
        prefixes=prefixes,
        check=_check(document, table.check),
        bird=table.bird,
        health=HealthLimits(rise=table.check.rise, fall=table.check.fall),
        policy=PolicyLimits(
            drain_window_s=table.drain_window_s,
            drain_prepend=table.drain_prepend,
            soft_prepend=table.drain_prepend,
        ),
    )


def checked_at(document: Document, path: Path, announcement: Announcement) -> Announcement:
    """`checked`, with the line where the attribute stands."""
    try:
        return checked(announcement)
    except AtollError as error:
        field = (error.where,) if error.where in document.fields else path
        raise AtollError(error.message, error.hint, document.where(field)) from None


def _located(document: Document, said: str) -> AtollError:
    found = _AT.search(said)
    message = _AT.sub("", said)
    path: Path = ()
    if found is not None:
        path = tuple(
            int(part["index"]) if part["index"] else part["name"] for part in _PART.finditer(found["path"])
        )
    unknown = _UNKNOWN.fullmatch(message)
    hint = "see docs/anycast.md"
    if unknown is not None:
        message = f"{unknown['name']} is no field"
        path = (*path, unknown["name"])
        near = difflib.get_close_matches(unknown["name"], _names(path[:-1]), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_names(path[:-1]))}"
    elif path:
        message = f"{path[-1]}: {message}"
    return AtollError(message, hint, document.where(path))


def _names(path: Path) -> tuple[str, ...]:
    """The fields of the table at a path."""
    names = [part for part in path if isinstance(part, str)]
    table = _TABLES.get(names[-1], FileTable) if names else FileTable
    return tuple(field.encode_name for field in msgspec.structs.fields(table))


def _check_numbers(document: Document, table: FileTable) -> None:
    check_asn(table.asn, document.where(("as",)))
    bounds = (
        ("graceful_restart_s", table.graceful_restart_s, 0, 4095),
        ("drain_prepend", table.drain_prepend, 0, MAX_PREPEND),
        ("drain_window_s", table.drain_window_s, 0, 86_400),
    )
    for name, value, low, high in bounds:
        if not low <= value <= high:
            raise AtollError(f"{name} is {value:g}", f"{low} to {high}", document.where((name,)))
    try:
        ipaddress.IPv4Address(table.router_id)
    except ValueError:
        raise AtollError(
            f"router_id {table.router_id!r} is none",
            "four octets such as 10.0.0.1, and no other router's",
            document.where(("router_id",)),
        ) from None


def _prefix(document: Document, index: int, text: str, allow_longer: bool) -> str:
    where = document.where(("prefixes", index))
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise AtollError(f"not a prefix: {error}", "192.0.2.0/24, for example", where) from None
    prefix = str(network)
    longest = LONGEST[family_of(prefix)]
    if network.prefixlen > longest and not allow_longer:
        raise AtollError(
            f"{prefix} is longer than /{longest}",
            "most networks would ignore it; in a network of your own, set allow_longer = true",
            where,
        )
    return prefix


def _check_prefixes(document: Document, prefixes: tuple[str, ...]) -> None:
    where = document.where(("prefixes",))
    if not 0 < len(prefixes) <= MAX_PREFIXES:
        raise AtollError(f"{len(prefixes)} prefixes", f"1 to {MAX_PREFIXES}", where)
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    for index, network in enumerate(networks):
        for other in networks[:index]:
            if network.version == other.version and network.overlaps(other):
                raise AtollError(
                    f"{network} and {other} overlap",
                    "one would take the other's users where they differ; name each address once",
                    document.where(("prefixes", index)),
                )


def _speaking(document: Document, table: FileTable, prefixes: tuple[str, ...]) -> Speaking:
    if not 0 < len(table.neighbor) <= MAX_NEIGHBORS:
        raise AtollError(
            f"{len(table.neighbor)} neighbors", f"1 to {MAX_NEIGHBORS}", document.where(("neighbor",))
        )
    used: tuple[Family, ...] = tuple(dict.fromkeys(family_of(prefix) for prefix in prefixes))
    found: list[Neighbor] = []
    for index, each in enumerate(table.neighbor):
        where = document.where(("neighbor", index))
        if any(each.name == other.name or each.address == other.address for other in found):
            raise AtollError(f"two neighbors {each.name} ({each.address})", "one table a neighbour", where)
        if each.bfd and table.bird is not None:
            raise AtollError(
                f"bfd of {each.name}", "BIRD has its own: `bfd on;` in its protocol", document.where(
                    ("neighbor", index, "bfd")
                ),
            )  # fmt: skip
        found.append(check_neighbor(_neighbor(document, index, each, used), where))
    return Speaking(
        asn=table.asn,
        router_id=table.router_id,
        neighbors=tuple(found),
        graceful_restart_s=table.graceful_restart_s,
    )


def _neighbor(document: Document, index: int, each: NeighborTable, used: tuple[Family, ...]) -> Neighbor:
    where = document.where(("neighbor", index, "bfd"))
    for name, text in each.communities.items():
        try:
            attribute = {1: "communities", 2: "large_communities"}.get(text.count(":"), "communities")
            checked(msgspec.convert({"prefix": "192.0.2.0/24", attribute: (text,)}, Announcement))
        except AtollError as error:
            place = document.where(("neighbor", index, "communities", name))
            raise AtollError(error.message, "65000:1, or 65000:1:2", place) from None
    bfd = BfdTable() if each.bfd is True else each.bfd or None
    timers = None
    if bfd is not None:
        interval_us = bfd.interval_ms * 1000
        timers = check_timers(
            Timers(
                desired_min_tx_us=interval_us,
                required_min_rx_us=interval_us,
                detect_multiplier=bfd.multiplier,
            ),
            where,
        )
    return Neighbor(
        name=each.name,
        address=each.address,
        asn=each.asn,
        local_address=each.local_address,
        port=each.port,
        hold_time_s=each.hold_time_s,
        families=each.families or used,
        next_hops=each.next_hops,
        password_file=each.password_file,
        ttl_security=each.ttl_security,
        bfd=timers,
        communities=each.communities,
    )


def _check(document: Document, check: CheckTable) -> CheckTable:
    where = document.where(("check",))
    named = [name for name in ("http", "tcp", "command") if getattr(check, name)]
    if len(named) != 1:
        raise AtollError(
            f"{len(named)} ways to check", 'one of http = "URL", tcp = "ADDRESS:PORT", command = […]', where
        )
    if check.http:
        url = urlsplit(check.http)
        if url.scheme != "http" or not url.hostname:
            raise AtollError(
                f"{check.http!r} is no URL to check",
                "http://127.0.0.1:8080/health, for example",
                document.where(("check", "http")),
            )
    if check.tcp:
        host, mark, port = check.tcp.rpartition(":")
        if not (mark and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise AtollError(
                f"{check.tcp!r} is no address to check",
                "127.0.0.1:53, for example",
                document.where(("check", "tcp")),
            )
    for name, low, high in (
        ("interval_ms", 10, 3_600_000), ("timeout_ms", 10, 600_000), ("rise", 1, 1000), ("fall", 1, 1000),
    ):  # fmt: skip
        value = getattr(check, name)
        if not low <= value <= high:
            raise AtollError(f"{name} is {value}", f"{low} to {high}", document.where(("check", name)))
    return check
