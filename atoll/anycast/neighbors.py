"""Whom a speaker speaks to, and what an announcement becomes for each of them.

Upstreams publish communities that have them treat a route differently: not export it to somebody, prepend in
a region, drop its traffic (RFC 7999). The values differ from one upstream to the next, so an announcement
names what it wants (`actions`), and each neighbour has a dictionary from names to communities. A name that a
neighbour does not know says nothing to it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from atoll.anycast.bfd import Timers
from atoll.anycast.speaker import Announcement
from atoll.errors import AtollError

Family = Literal["ipv4", "ipv6"]

BGP_PORT: Final = 179
HOLD_TIME_S: Final = 90
MAX_AS: Final = 2**32 - 1
RESERVED_AS: Final = frozenset({0, 23456, 65535, MAX_AS})  # RFC 7607, 6793, 7300


class Neighbor(msgspec.Struct, frozen=True, kw_only=True):
    """A router that takes our routes. `password_file` has the secret of TCP-MD5 (RFC 2385)."""

    name: str
    address: str
    asn: int
    local_address: str
    port: int = BGP_PORT
    hold_time_s: int = HOLD_TIME_S
    families: tuple[Family, ...] = ("ipv4",)
    next_hops: Mapping[Family, str] = {}  # where it is not the session's own local address
    password_file: str = ""
    ttl_security: bool = False  # RFC 5082: a packet from beyond the link is not believed
    bfd: Timers | None = None
    communities: Mapping[str, str] = {}


class Speaking(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are, and to whom we speak."""

    asn: int
    router_id: str
    neighbors: tuple[Neighbor, ...]
    graceful_restart_s: int = 0  # how long neighbours keep routes of a speaker that restarts; 0: not at all


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """An announcement as one neighbour is to get it."""

    prefix: str
    next_hop: str
    as_path: tuple[int, ...]
    med: int
    communities: tuple[str, ...]
    large_communities: tuple[str, ...]


def family_of(prefix: str) -> Family:
    """The address family of a prefix in canonical form."""
    return "ipv6" if ":" in prefix else "ipv4"


def routed(announcement: Announcement, speaking: Speaking, neighbor: Neighbor) -> Route | None:
    """What `neighbor` is told; None when it takes no routes of that family."""
    family = family_of(announcement.prefix)
    if family not in neighbor.families:
        return None
    named = [neighbor.communities[name] for name in announcement.actions if name in neighbor.communities]
    standard = [text for text in named if text.count(":") == 1]
    large = [text for text in named if text.count(":") == 2]
    return Route(
        prefix=announcement.prefix,
        next_hop=next_hop(neighbor, family),
        as_path=(speaking.asn,) * (1 + announcement.prepend),
        med=announcement.med,
        communities=_once((*announcement.communities, *standard)),
        large_communities=_once((*announcement.large_communities, *large)),
    )


def next_hop(neighbor: Neighbor, family: Family) -> str:
    """Where the neighbour is to send what is for our prefixes."""
    return neighbor.next_hops.get(family) or neighbor.local_address


def check_neighbor(neighbor: Neighbor, where: str = "") -> Neighbor:
    """The same neighbour, if one can speak to it.

    Raises:
        AtollError: an address, an AS number or a time that cannot be.
    """
    for field, text in (("address", neighbor.address), ("local_address", neighbor.local_address)):
        _check_address(field, text, where)
    if (":" in neighbor.address) != (":" in neighbor.local_address):
        raise AtollError(
            f"address {neighbor.address} and local_address {neighbor.local_address} are of two families",
            hint="one session has both ends in IPv4, or both in IPv6",
            where=where,
        )
    check_asn(neighbor.asn, where)
    if neighbor.hold_time_s != 0 and not 3 <= neighbor.hold_time_s <= 65535:
        raise AtollError(
            f"hold_time_s is {neighbor.hold_time_s}", hint="0 or 3 to 65535 (RFC 4271 §4.2)", where=where
        )
    for family in neighbor.families:
        hop = next_hop(neighbor, family)
        _check_address(f"next_hops.{family}", hop, where)
        if (":" in hop) != (family == "ipv6"):
            raise AtollError(
                f"no {family} next hop for {neighbor.name}",
                hint=f'next_hops = {{ {family} = "…" }}, an address of this machine that it reaches',
                where=where,
            )
    return neighbor


def check_asn(asn: int, where: str = "") -> int:
    """The same AS number, if it may be one's own or a neighbour's.

    Raises:
        AtollError: out of range or reserved.
    """
    if not 0 < asn <= MAX_AS or asn in RESERVED_AS:
        raise AtollError(
            f"AS {asn} is no network's number",
            hint="1 to 4294967294; private ones are 64512 to 65534 and 4200000000 to 4294967294",
            where=where,
        )
    return asn


def _check_address(field: str, text: str, where: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise AtollError(f"{field} {text!r} is no IP address", where=where) from None


def _once(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
