"""A graph of ASes as real routers: addresses, and what each BIRD is told. Pure.

Every AS is one router. It prefers what customers announce to what peers do to what providers do, and exports
to peers and providers only its customers' and its own routes (Gao–Rexford). Router ids ascend with AS
numbers, so that BIRD's last tie-break is the model's (`atoll.internet.routing`, rule 4): what real routers
choose can be compared with what the model says, AS by AS.
"""

from __future__ import annotations

import ipaddress
from typing import Final, Literal

import msgspec

from atoll.internet.graph import Graph

Relation = Literal["customer", "peer", "provider"]

LINKS: Final = ipaddress.IPv4Network("10.0.0.0/8")  # a /30 for each link
ROUTER_IDS: Final = ipaddress.IPv4Address("172.16.0.0")
PREFERENCE: Final[dict[Relation, int]] = {"customer": 300, "peer": 200, "provider": 100}
HOLD_S: Final = 90
BFD_INTERVAL_MS: Final = 50
BFD_MULTIPLIER: Final = 3

_FROM_CUSTOMER: Final = 1  # large community (own AS, 1, 1): learned from a customer


class Side(msgspec.Struct, frozen=True):
    """One end of a link as its router sees it: who is there, what it is to us, and both addresses."""

    asn: int
    relation: Relation
    local: str
    remote: str


class Router(msgspec.Struct, frozen=True):
    """One AS's router."""

    asn: int
    router_id: str
    sides: tuple[Side, ...]
    originates: tuple[str, ...]  # prefixes of its own


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """How routers notice each other's end."""

    hold_s: int = HOLD_S
    bfd: bool = True  # with those who are named to `configuration`
    bfd_interval_ms: int = BFD_INTERVAL_MS
    bfd_multiplier: int = BFD_MULTIPLIER


def space(asn: int) -> str:
    """The name of an AS's namespace, and of the devices that lead to it."""
    return f"as{asn}"


def plan(graph: Graph, originates: dict[int, tuple[str, ...]]) -> dict[int, Router]:
    """Routers by AS number. `originates`: which AS has which prefixes of its own."""
    sides: dict[int, list[Side]] = {asn: [] for asn in graph.ases}
    for index, link in enumerate(graph.links):
        first = int(LINKS.network_address) + 4 * index
        a, b = str(ipaddress.IPv4Address(first + 1)), str(ipaddress.IPv4Address(first + 2))
        is_peer = link.relation == "peer"
        sides[link.a].append(Side(link.b, "peer" if is_peer else "provider", a, b))
        sides[link.b].append(Side(link.a, "peer" if is_peer else "customer", b, a))
    return {
        asn: Router(asn, str(ROUTER_IDS + index), tuple(sides[asn]), originates.get(asn, ()))
        for index, asn in enumerate(sorted(graph.ases), start=1)
    }


def configuration(router: Router, timers: Timers, guarded: frozenset[int] = frozenset()) -> str:
    """BIRD's configuration. `guarded`: neighbours with whom it speaks BFD."""
    parts = [
        f"router id {router.router_id};",
        "protocol device { scan time 10; }",
        "protocol kernel { ipv4 { import none; export all; }; }",
        _static(router),
    ]
    watched = [side.asn for side in router.sides if timers.bfd and side.asn in guarded]
    parts.append(_bfd(watched, timers))
    parts += [_protocol(router, side, timers, side.asn in watched) for side in router.sides]
    return "\n".join(parts) + "\n"


def pop_configuration(router: Router, timers: Timers, include: str) -> str:
    """BIRD's configuration at a PoP, whose announcements are in the file `include`."""
    parts = [
        f"router id {router.router_id};",
        f'include "{include}";',
        "protocol device { scan time 10; }",
        _bfd([side.asn for side in router.sides] if timers.bfd else [], timers),
    ]
    parts += [
        _session(router, side, timers, timers.bfd)
        + f"\n  ipv4 {{ import none; export where atoll_to_{space(side.asn)}(); }};\n}}"
        for side in router.sides
    ]
    return "\n".join(parts) + "\n"


def _bfd(asns: list[int], timers: Timers) -> str:
    if not asns:
        return ""
    times = f"interval {timers.bfd_interval_ms} ms; multiplier {timers.bfd_multiplier};"
    names = " ".join(f'interface "{space(asn)}" {{ {times} }};' for asn in asns)
    return f"protocol bfd {{ {names} }}"


def _static(router: Router) -> str:
    routes = " ".join(f"route {prefix} unreachable;" for prefix in router.originates)
    return f"protocol static own {{ ipv4; {routes} }}"


def _session(router: Router, side: Side, timers: Timers, guarded: bool) -> str:
    """How a BGP protocol begins, whatever it exports."""
    return f"""\
protocol bgp {space(side.asn)} {{
  local {side.local} as {router.asn};
  neighbor {side.remote} as {side.asn};
  hold time {timers.hold_s};
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  check link yes;{" bfd on;" if guarded else ""}"""


def _protocol(router: Router, side: Side, timers: Timers, guarded: bool) -> str:
    mine = f"({router.asn}, 1, {_FROM_CUSTOMER})"
    tag = f"bgp_large_community.add({mine}); " if side.relation == "customer" else ""
    everything = "accept;"
    ours = f"if source = RTS_STATIC || {mine} ~ bgp_large_community then accept; reject;"
    return f"""\
{_session(router, side, timers, guarded)}
  ipv4 {{
    import filter {{
      bgp_large_community.delete([({router.asn}, 1, *)]);
      {tag}bgp_local_pref = {PREFERENCE[side.relation]};
      if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
      accept;
    }};
    export filter {{ {everything if side.relation == "customer" else ours} }};
  }};
}}"""
