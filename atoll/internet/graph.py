"""The Internet as a graph of autonomous systems (ASes) and the money between them.

Two relations matter to routing: a customer pays a provider for reaching everything, and peers carry each
other's customers for nothing. A `Graph` is a checked, immutable value; `GraphBuilder` collects it and
refuses what no real Internet has: two relations between the same pair, an AS linked to itself, or a cycle
of providers. An exchange's route server is no AS of its own: it makes its members peers of each other
and does not show in paths (RFC 7947 §2.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from atoll.errors import AtollError
from atoll.internet.geography import city as city_of

Kind = Literal["transit", "regional", "eyeball", "pop"]


class AutonomousSystem(msgspec.Struct, frozen=True):
    """One network. `name` of a PoP's AS is the PoP's code; `cities` is where others can hand over to it."""

    asn: int
    name: str
    kind: Kind
    city: str  # where it is at home
    cities: tuple[str, ...]  # every city of presence, the home included


class Link(msgspec.Struct, frozen=True):
    """An edge. `a` is the customer and `b` the provider, or both are peers and a < b."""

    a: int
    b: int
    relation: Literal["customer-provider", "peer"]
    exchange: str = ""  # where a route server made them peers

    def __str__(self) -> str:
        """As error messages name it."""
        sign = "buys from" if self.relation == "customer-provider" else "peers with"
        return f"AS{self.a} {sign} AS{self.b}"


class Graph(msgspec.Struct, frozen=True):
    """A checked AS graph. Neighbour tuples ascend by ASN: propagation's tie-break rests on that."""

    ases: Mapping[int, AutonomousSystem]
    links: tuple[Link, ...]
    providers: Mapping[int, tuple[int, ...]]
    customers: Mapping[int, tuple[int, ...]]
    peers: Mapping[int, tuple[int, ...]]
    bottom_up: tuple[int, ...]  # every customer before each of its providers

    def neighbours(self, asn: int) -> frozenset[int]:
        """All that `asn` has a link with."""
        return frozenset((*self.providers[asn], *self.customers[asn], *self.peers[asn]))


class GraphBuilder:
    """Collects ASes and links; every fault is an `AtollError` that names the AS or link."""

    def __init__(self) -> None:
        self._ases: dict[int, AutonomousSystem] = {}
        self._links: dict[tuple[int, int], Link] = {}

    def add(self, asn: int, name: str, kind: Kind, city: str, presence: Iterable[str] = ()) -> GraphBuilder:
        """Adds an AS at home in `city`, also present in the cities of `presence`."""
        if asn in self._ases:
            raise AtollError(f"AS{asn} is there twice", hint="one entry per AS number", where=f"AS{asn}")
        if asn < 1 or asn > 4_294_967_295:
            raise AtollError("not an AS number", hint="1 to 4294967295", where=f"AS{asn}")
        cities = tuple(dict.fromkeys((city, *presence)))
        for key in cities:
            city_of(key)
        self._ases[asn] = AutonomousSystem(asn, name, kind, city, cities)
        return self

    def buys_from(self, customer: int, *providers: int) -> GraphBuilder:
        """`customer` pays each of `providers` for transit."""
        for provider in providers:
            self._link(Link(customer, provider, "customer-provider"))
        return self

    def peer(self, one: int, *others: int) -> GraphBuilder:
        """`one` and each of `others` carry each other's customers."""
        for other in others:
            self._link(Link(min(one, other), max(one, other), "peer"))
        return self

    def mesh(self, members: Iterable[int]) -> GraphBuilder:
        """Every pair of `members` peers, as tier-1 networks do."""
        ordered = sorted(members)
        for index, one in enumerate(ordered):
            self.peer(one, *ordered[index + 1 :])
        return self

    def exchange(self, name: str, city: str, members: Iterable[int]) -> GraphBuilder:
        """A route server in `city`: its members peer, except pairs that have a relation already."""
        ordered = sorted(members)
        for asn in ordered:
            if city not in self._as(asn, name).cities:
                raise AtollError(f"AS{asn} is not present in {city}", hint="add the city", where=name)
        for index, one in enumerate(ordered):
            for other in ordered[index + 1 :]:
                if (one, other) not in self._links:
                    self._link(Link(one, other, "peer", name))
        return self

    def build(self) -> Graph:
        """The graph.

        Raises:
            AtollError: providers form a cycle; `where` is a link of it.
        """
        providers: dict[int, list[int]] = {asn: [] for asn in self._ases}
        customers: dict[int, list[int]] = {asn: [] for asn in self._ases}
        peers: dict[int, list[int]] = {asn: [] for asn in self._ases}
        for link in self._links.values():
            there, back = (peers, peers) if link.relation == "peer" else (providers, customers)
            there[link.a].append(link.b)
            back[link.b].append(link.a)
        return Graph(
            ases=dict(sorted(self._ases.items())),
            links=tuple(link for _, link in sorted(self._links.items())),
            providers=_ascending(providers),
            customers=_ascending(customers),
            peers=_ascending(peers),
            bottom_up=_bottom_up(providers, customers),
        )

    def _as(self, asn: int, where: str) -> AutonomousSystem:
        found = self._ases.get(asn)
        if found is None:
            raise AtollError(f"AS{asn} is not in the graph", hint="add it before its links", where=where)
        return found

    def _link(self, link: Link) -> None:
        where = str(link)
        if link.a == link.b:
            raise AtollError("an AS cannot be linked to itself", where=where)
        self._as(link.a, where)
        self._as(link.b, where)
        pair = (min(link.a, link.b), max(link.a, link.b))
        if pair in self._links:
            raise AtollError(
                "these two have a link already", hint=f"{self._links[pair]}; keep one of them", where=where
            )
        self._links[pair] = link


def _ascending(neighbours: Mapping[int, list[int]]) -> dict[int, tuple[int, ...]]:
    return {asn: tuple(sorted(found)) for asn, found in neighbours.items()}


def _bottom_up(providers: Mapping[int, list[int]], customers: Mapping[int, list[int]]) -> tuple[int, ...]:
    """Kahn's order; what is left when nothing more can be taken holds a cycle of providers."""
    waiting = {asn: len(found) for asn, found in customers.items()}
    ready = sorted(asn for asn, count in waiting.items() if count == 0)
    order: list[int] = []
    while ready:
        asn = ready.pop()
        order.append(asn)
        for provider in providers[asn]:
            waiting[provider] -= 1
            if waiting[provider] == 0:
                ready.append(provider)
    if len(order) < len(providers):
        _refuse_cycle(set(providers) - set(order), customers)
    return tuple(order)


def _refuse_cycle(left: set[int], customers: Mapping[int, list[int]]) -> None:
    """Everything in `left` has a customer in `left`: going down comes back to where it was, on a cycle."""
    walked = [min(left)]
    while True:
        below = min(asn for asn in customers[walked[-1]] if asn in left)
        if below in walked:
            break
        walked.append(below)
    cycle = [*walked[walked.index(below) :], below]
    raise AtollError(
        "these ASes are each other's providers: " + " sells to ".join(f"AS{asn}" for asn in cycle),
        hint="remove one of these links",
        where=str(Link(cycle[1], cycle[0], "customer-provider")),
    )
