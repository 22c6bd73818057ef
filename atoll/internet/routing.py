"""Which route each AS chooses for a prefix that several ASes announce: Gao–Rexford, in three phases.

Rules, in the order in which they decide:

1. Its own announcement before any learned one.
2. A route learned from a customer (who pays) before one from a peer before one from a provider (who is
   paid): RFC 4271 §9.1.1's degree of preference, as money sets it.
3. The shortest AS path, prepended copies counted (§9.1.2.2 a).
4. The lowest AS number of the neighbour it was learned from. Real routers compare origin code, MED, IGP cost
   and router id here; at AS level those do not exist, so this rule stands for them.

Export is valley-free: a route learned from a customer, or an AS's own, goes to everybody; a route learned
from a peer or a provider goes to customers only. Hence three phases suffice: up along providers, once
across peers, down along customers. In each phase an AS hears only from neighbours that have decided, so
one pass over the graph is the stable state, whatever the order of real messages would be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from atoll.errors import AtollError
from atoll.internet.graph import Graph

MAX_PREPEND: Final = 16  # operators' filters drop longer ones

Source = Literal["origin", "customer", "peer", "provider"]


class Announcement(msgspec.Struct, frozen=True):
    """An AS announces the prefix.

    `prepend` extra copies of its number lengthen the path; `only_to`, when given, is the neighbours that
    hear it (a session down, or a prefix kept from one upstream).
    """

    asn: int
    prepend: int = 0
    only_to: frozenset[int] | None = None


class Route(msgspec.Struct, frozen=True):
    """The route that `asn` has chosen. `as_path` starts with `asn` itself and ends at the origin."""

    asn: int
    as_path: tuple[int, ...]  # prepended copies of the origin included
    learned_from: Source
    next_hop: int  # the neighbour it was learned from; `asn` at the origin

    @property
    def origin(self) -> int:
        """The AS that announced it."""
        return self.as_path[-1]

    @property
    def hops(self) -> tuple[int, ...]:
        """The ASes a packet crosses, each once."""
        return tuple(dict.fromkeys(self.as_path))


def propagate(graph: Graph, announcements: Iterable[Announcement]) -> dict[int, Route]:
    """The chosen route of every AS that has one.

    Raises:
        AtollError: an announcement that cannot be made in this graph.
    """
    seeds, only_to = _seeds(graph, announcements)
    routes = _up(graph, seeds, only_to)
    routes.update(_across(graph, routes, only_to))
    _down(graph, routes, only_to)
    return routes


_OnlyTo = Mapping[int, frozenset[int]]


def _seeds(graph: Graph, announcements: Iterable[Announcement]) -> tuple[dict[int, Route], _OnlyTo]:
    seeds: dict[int, Route] = {}
    only_to: dict[int, frozenset[int]] = {}
    for announcement in announcements:
        asn = announcement.asn
        _check(graph, announcement)
        if asn in seeds:
            raise AtollError("announces the prefix twice", hint="one announcement per AS", where=f"AS{asn}")
        seeds[asn] = Route(asn, (asn,) * (1 + announcement.prepend), "origin", asn)
        if announcement.only_to is not None:
            only_to[asn] = announcement.only_to
    return seeds, only_to


def _check(graph: Graph, announcement: Announcement) -> None:
    where = f"AS{announcement.asn}"
    if announcement.asn not in graph.ases:
        raise AtollError("announces, but is not in the graph", hint="add it with its links", where=where)
    if not 0 <= announcement.prepend <= MAX_PREPEND:
        raise AtollError(
            f"prepends {announcement.prepend} times", hint=f"0 to {MAX_PREPEND} times", where=where
        )
    strangers = (announcement.only_to or frozenset()) - graph.neighbours(announcement.asn)
    if strangers:
        names = ", ".join(f"AS{asn}" for asn in sorted(strangers))
        raise AtollError(f"has no link with {names}", hint="only_to names neighbours", where=where)


def _up(graph: Graph, seeds: Mapping[int, Route], only_to: _OnlyTo) -> dict[int, Route]:
    """Phase 1: customers' routes climb; when an AS is looked at, all its customers have decided."""
    routes = dict(seeds)
    for asn in graph.bottom_up:
        if asn not in seeds:
            found = _best(asn, graph.customers[asn], routes, only_to, "customer")
            if found is not None:
                routes[asn] = found
    return routes


def _across(graph: Graph, climbed: Mapping[int, Route], only_to: _OnlyTo) -> dict[int, Route]:
    """Phase 2: what came up crosses one peering link; nothing crosses two."""
    crossed: dict[int, Route] = {}
    for asn, peers in graph.peers.items():
        if asn not in climbed:
            found = _best(asn, peers, climbed, only_to, "peer")
            if found is not None:
                crossed[asn] = found
    return crossed


def _down(graph: Graph, routes: dict[int, Route], only_to: _OnlyTo) -> None:
    """Phase 3: everything sinks to customers; providers are looked at before their customers."""
    for asn in reversed(graph.bottom_up):
        if asn not in routes:
            found = _best(asn, graph.providers[asn], routes, only_to, "provider")
            if found is not None:
                routes[asn] = found


def _best(
    asn: int, neighbours: tuple[int, ...], routes: Mapping[int, Route], only_to: _OnlyTo, source: Source
) -> Route | None:
    """Rules 3 and 4 among `neighbours`, which ascend: the first of the shortest is the lowest."""
    best: Route | None = None
    for neighbour in neighbours:
        route = routes.get(neighbour)
        if route is None or (best is not None and len(route.as_path) >= len(best.as_path)):
            continue
        if route.learned_from == "origin" and asn not in only_to.get(neighbour, (asn,)):
            continue
        best = route
    if best is None:
        return None
    return Route(asn, (asn, *best.as_path), source, best.asn)
