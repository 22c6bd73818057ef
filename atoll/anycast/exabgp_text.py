"""What ExaBGP reads and says: its configuration, its API's commands, its JSON events. Pure text.

Checked against ExaBGP 5.0.15. An `update` event with direction `send` comes when the message is written to
the session's socket; it is what a withdrawal is proven by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from atoll.anycast.neighbors import Neighbor, Route, Speaking

SAFI: Final = "unicast"
DONE: Final = "done"
ERROR: Final = "error"

ENVIRONMENT: Final = {
    "exabgp_daemon_drop": "false",  # it stays who we are, or its child could not reach our socket
    "exabgp_api_ack": "true",
    "exabgp_api_cli": "false",
    "exabgp_api_respawn": "false",
    "exabgp_log_level": "WARNING",
    "exabgp_log_short": "true",
}


class Up(msgspec.Struct, frozen=True):
    """The session with that address is established."""

    address: str


class Down(msgspec.Struct, frozen=True):
    """It is not, or no more."""

    address: str
    reason: str


class Sent(msgspec.Struct, frozen=True):
    """An UPDATE left for that address."""

    address: str
    announced: tuple[str, ...]
    withdrawn: tuple[str, ...]


class Acknowledged(msgspec.Struct, frozen=True):
    """The answer to the oldest command that has none yet."""

    accepted: bool


Event = Up | Down | Sent | Acknowledged


def configuration(speaking: Speaking, relay: tuple[str, ...], passwords: Mapping[str, str]) -> str:
    """A configuration file. `passwords`: by the neighbour's name; the file holds them in clear.

    `relay` is the command of the child that ExaBGP speaks to.
    """
    process = f"process atoll {{\n  run {' '.join(relay)};\n  encoder json;\n}}\n"
    return process + "".join(
        _neighbor(speaking, neighbor, passwords.get(neighbor.name, "")) for neighbor in speaking.neighbors
    )


def _neighbor(speaking: Speaking, neighbor: Neighbor, password: str) -> str:
    lines = [
        f"router-id {speaking.router_id};",
        f"local-address {neighbor.local_address};",
        f"local-as {speaking.asn};",
        f"peer-as {neighbor.asn};",
        f"connect {neighbor.port};",
        f"hold-time {neighbor.hold_time_s};",
        "group-updates false;",
        "manual-eor true;",
    ]
    if password:
        lines.append(f'md5-password "{password}";')
    if neighbor.ttl_security:
        lines += ["outgoing-ttl 255;", "incoming-ttl 255;"]
    if speaking.graceful_restart_s:
        lines.append(f"capability {{ graceful-restart {speaking.graceful_restart_s}; }}")
    families = " ".join(f"{family} {SAFI};" for family in neighbor.families)
    lines.append(f"family {{ {families} }}")
    lines.append("api { processes [ atoll ]; neighbor-changes; send { parsed; update; } }")
    return f"neighbor {neighbor.address} {{\n  " + "\n  ".join(lines) + "\n}\n"


def announce(neighbor: Neighbor, route: Route) -> str:
    """The command that has one neighbour told of a route.

    >>> from atoll.anycast.speaker import Announcement
    >>> from atoll.anycast.neighbors import routed
    >>> peer = Neighbor(name="a", address="10.0.0.2", asn=64600, local_address="10.0.0.1")
    >>> us = Speaking(asn=64512, router_id="10.0.0.1", neighbors=(peer,))
    >>> announce(peer, routed(Announcement(prefix="192.0.2.0/24", prepend=1), us, peer))
    'neighbor 10.0.0.2 announce route 192.0.2.0/24 next-hop 10.0.0.1 as-path [ 64512 64512 ]'
    """
    words = [
        f"neighbor {neighbor.address} announce route {route.prefix} next-hop {route.next_hop}",
        f"as-path [ {' '.join(map(str, route.as_path))} ]",
    ]
    if route.med:
        words.append(f"med {route.med}")
    if route.communities:
        words.append(f"community [ {' '.join(route.communities)} ]")
    if route.large_communities:
        words.append(f"large-community [ {' '.join(route.large_communities)} ]")
    return " ".join(words)


def withdraw(neighbor: Neighbor, prefix: str) -> str:
    """The command that takes a route back from one neighbour."""
    return f"neighbor {neighbor.address} withdraw route {prefix}"


def end_of_rib(neighbor: Neighbor) -> Iterator[str]:
    """The commands that tell a neighbour, family by family, that it has been told everything."""
    for family in neighbor.families:
        yield f"neighbor {neighbor.address} announce eor {family} {SAFI}"


ADMINISTRATIVE_RESET: Final = 4  # a subcode of Cease (RFC 4486 §3)


def teardown(neighbor: Neighbor) -> str:
    """The command that ends a session. ExaBGP goes on to begin a new one."""
    return f"neighbor {neighbor.address} teardown {ADMINISTRATIVE_RESET}"


def read_event(line: str) -> Event | None:
    """What a line says, or None where it is of no interest.

    Raises:
        msgspec.DecodeError: not what ExaBGP says.
    """
    if line in (DONE, ERROR):
        return Acknowledged(line == DONE)
    if not line.startswith("{"):
        return None
    said = msgspec.json.decode(line, type=_Said)
    if said.neighbor is None:
        return None
    address = said.neighbor.address.peer
    if said.kind == "state":
        return _state(address, said.neighbor)
    if said.kind == "update" and said.neighbor.direction == "send" and said.neighbor.message is not None:
        update = said.neighbor.message.update
        announced = (
            route.nlri
            for hops in update.announce.values()
            for routes in hops.values()
            for route in _routes(routes)
        )
        withdrawn = (route.nlri for routes in update.withdraw.values() for route in _routes(routes))
        return Sent(address, tuple(announced), tuple(withdrawn))
    return None


def _state(address: str, neighbor: _Neighbor) -> Event | None:
    if neighbor.state == "up":
        return Up(address)
    if neighbor.state == "down":
        return Down(address, neighbor.reason)
    return None


class _Address(msgspec.Struct):
    peer: str


class _Nlri(msgspec.Struct):
    nlri: str


class _Update(msgspec.Struct, frozen=True):
    announce: dict[str, dict[str, list[_Nlri | str] | dict[str, object]]] = {}
    withdraw: dict[str, list[_Nlri | str]] = {}


class _Message(msgspec.Struct):
    update: _Update = _Update()


class _Neighbor(msgspec.Struct):
    address: _Address
    state: str = ""
    reason: str = ""
    direction: str = ""
    message: _Message | None = None


class _Said(msgspec.Struct):
    kind: str = msgspec.field(name="type", default="")
    neighbor: _Neighbor | None = None


def _routes(routes: object) -> Iterator[_Nlri]:
    """The routes of a list; whatever else an UPDATE of other families has is not ours."""
    if isinstance(routes, list):
        for route in routes:
            yield route if isinstance(route, _Nlri) else _Nlri(str(route))
