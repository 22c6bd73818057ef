"""What BIRD reads and says: the file that its configuration includes, its replies. Pure text.

The file has a static protocol for each family with the prefixes, `atoll4` and `atoll6`, and a function for
each neighbour, `atoll_to_NAME()`, which says whether a route is for it and gives the route its attributes.
The operator's own configuration stays the operator's: a BGP protocol has `export where atoll_to_NAME();` and
may say more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from atoll.anycast.bird_control import Line
from atoll.anycast.neighbors import Family, Neighbor, Speaking, family_of, routed
from atoll.anycast.speaker import Announcement
from atoll.errors import AtollError

PROTOCOLS: Final[dict[Family, str]] = {"ipv4": "atoll4", "ipv6": "atoll6"}
PROTOCOL_LINE: Final = 1002
ROUTE_LINE: Final = 1007

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,50}")


def check_name(name: str, where: str = "") -> str:
    """The same name, if BIRD takes it for one of a protocol.

    Raises:
        AtollError: it does not.
    """
    if not _NAME.fullmatch(name):
        raise AtollError(
            f"{name!r} is no name for BIRD", hint="letters, digits and _, no digit first", where=where
        )
    return name


def included(speaking: Speaking, announcements: Iterable[Announcement]) -> str:
    """The file: everything that is announced, and to whom how."""
    wanted = sorted(announcements, key=lambda each: each.prefix)
    parts = ["# Written by Atoll; changes are lost.\n"]
    for family, protocol in PROTOCOLS.items():
        routes = "".join(
            f"  route {each.prefix} blackhole;\n" for each in wanted if family_of(each.prefix) == family
        )
        parts.append(f"protocol static {protocol} {{\n  {family};\n{routes}}}\n")
    parts += [_function(speaking, neighbor, wanted) for neighbor in speaking.neighbors]
    return "".join(parts)


def _function(speaking: Speaking, neighbor: Neighbor, wanted: list[Announcement]) -> str:
    lines = [f"function atoll_to_{check_name(neighbor.name)}()", "{"]
    lines.append(f'  if proto != "{PROTOCOLS["ipv4"]}" && proto != "{PROTOCOLS["ipv6"]}" then return false;')
    for announcement in wanted:
        route = routed(announcement, speaking, neighbor)
        if route is None:
            continue
        lines.append(f"  if net = {route.prefix} then {{")
        lines += [f"    bgp_path.prepend({asn});" for asn in route.as_path[1:]]  # BIRD adds the first itself
        if route.med:
            lines.append(f"    bgp_med = {route.med};")
        for text in route.communities:
            lines.append(f"    bgp_community.add(({text.replace(':', ',')}));")
        for text in route.large_communities:
            lines.append(f"    bgp_large_community.add(({text.replace(':', ',')}));")
        lines += ["    return true;", "  }"]
    return "\n".join([*lines, "  return false;", "}", ""])


def established(lines: Iterable[Line]) -> dict[str, tuple[bool, str]]:
    """From `show protocols`: for each BGP protocol whether its session is up, and what BIRD says of it.

    >>> established([Line(1002, "up1        BGP        ---        up     18:17:34.829  Established   ")])
    {'up1': (True, 'Established')}
    """
    found = {}
    for line in lines:
        words = line.text.split(None, 5)
        if line.code == PROTOCOL_LINE and len(words) >= 5 and words[1] == "BGP":
            info = words[5].strip() if len(words) > 5 else words[3]
            found[words[0]] = (words[3] == "up" and info.startswith("Established"), info)
    return found


def has_route(lines: Iterable[Line]) -> bool:
    """Whether a reply to `show route` has a route."""
    return any(line.code == ROUTE_LINE for line in lines)
