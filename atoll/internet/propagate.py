"""Which route each AS of the whole Internet chooses, for several prefixes in one pass: milliseconds a prefix.

The rules are those of `atoll.internet.routing`, word for word, and tests hold the two equal: an own
announcement first; customer before peer before provider; the shorter AS path; the lower neighbour number;
valley-free export. An origin can say more here, as operators do with their communities and sessions:

- more copies of its number towards one neighbour, nothing at all towards another, or NO_EXPORT (RFC 1997),
  with which a neighbour uses the route and tells nobody;
- a path that goes on behind it: a hijacker that forges the true origin, or a network that leaks what it has
  learned (RFC 7908). ASes named there drop it as a loop (RFC 4271 §9.1.2);
- an origin that is invalid: ASes that validate origins (RFC 6811) drop it, wherever they hear it.

The work is done by `atoll.internet.kernel`, which is imported when something runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.errors import AtollError
from atoll.internet.csr import CsrGraph, Ints
from atoll.internet.routing import MAX_PREPEND, Announcement

if TYPE_CHECKING:
    from atoll.internet.kernel import Links, Seeds

MAX_ORIGINS: Final = 4096  # of a prefix
MAX_CLAIMS: Final = 64  # ASes; operators' filters drop longer paths
MAX_ROUTES: Final = 40_000_000  # prefixes × ASes, 14 bytes each
RELATIONS: Final = ("", "origin", "customer", "peer", "provider")

Bytes = NDArray[np.uint8]


class Origin(msgspec.Struct, frozen=True):
    """An AS announces a prefix, to each neighbour in its own way. All numbers are AS numbers."""

    asn: int
    prepend: int = 0  # extra copies of its number, towards everybody
    only_to: frozenset[int] | None = None  # neighbours that hear it; None: all
    not_to: frozenset[int] = frozenset()  # neighbours that do not
    prepend_to: Mapping[int, int] = {}  # copies more towards a neighbour
    no_export_to: frozenset[int] = frozenset()  # neighbours that use it and tell nobody
    claims: tuple[int, ...] = ()  # the path behind it, forged or leaked; the last is the claimed origin
    invalid: bool = False  # by route-origin validation

    @classmethod
    def of(cls, announcement: Announcement) -> Origin:
        """The small model's announcement."""
        return cls(announcement.asn, announcement.prepend, announcement.only_to)

    def copies(self, neighbour: int) -> int:
        """How often its number is in the path that this neighbour hears."""
        return 1 + self.prepend + self.prepend_to.get(neighbour, 0)


Plan = Sequence[Sequence[Origin]]
"""Origins of each prefix."""


class Routes(msgspec.Struct, frozen=True):
    """The chosen routes, arrays of shape (prefixes, ASes); rows are the graph's."""

    graph: CsrGraph
    plan: tuple[tuple[Origin, ...], ...]
    rov: frozenset[int]
    origin: Ints  # which of the prefix's origins, -1: no route
    length: Ints  # of the AS path, the AS itself and prepended copies included; 0: no route
    next_hop: Ints  # a row; its own at an origin, -1: no route
    relation: Bytes  # an index of RELATIONS
    muted: Bytes  # 1: it heard the route with NO_EXPORT

    def path(self, asn: int, prefix: int = 0) -> tuple[int, ...]:
        """The AS path, from `asn` to the origin and what that claims; () without a route.

        Raises:
            AtollError: the AS is not in the graph.
        """
        row = self.graph.row(asn)
        if self.origin[prefix, row] < 0:
            return ()
        hops = [row]
        while (after := int(self.next_hop[prefix, hops[-1]])) != hops[-1]:
            hops.append(after)
        asns: list[int] = self.graph.asns[hops].tolist()
        origin = self.plan[prefix][int(self.origin[prefix, row])]
        copies = origin.copies(asns[-2]) if len(asns) > 1 else 1 + origin.prepend
        return (*asns[:-1], *(origin.asn,) * copies, *origin.claims)

    def relation_of(self, asn: int, prefix: int = 0) -> str:
        """`origin`, `customer`, `peer` or `provider`; "" without a route."""
        return RELATIONS[self.relation[prefix, self.graph.row(asn)]]


def propagate(graph: CsrGraph, plan: Plan, rov: Iterable[int] = ()) -> Routes:
    """The chosen route of every AS for every prefix.

    Args:
        graph: the Internet.
        plan: origins of each prefix.
        rov: ASes that validate origins.

    Raises:
        AtollError: an announcement that cannot be made in this graph, or too much at once.
    """
    from atoll.internet import kernel

    validating = frozenset(rov)
    seeds = _seeds(graph, plan)
    shape = (len(plan), graph.size)
    state = kernel.State(
        np.full(shape, -1, np.int32),
        np.zeros(shape, np.int32),
        np.full(shape, -1, np.int32),
        np.zeros(shape, np.uint8),
        np.zeros(shape, np.uint8),
    )
    nothing = np.zeros((len(plan), 0), np.uint8)
    marks = kernel.Marks(nothing, nothing, nothing)
    kernel.run(_links(graph), seeds, _rov(graph, validating), state, state, marks, True)
    return Routes(graph, tuple(tuple(each) for each in plan), validating, *state)


def what_if(base: Routes, plan: Plan, rov: Iterable[int] | None = None) -> Routes:
    """As `propagate` would say for another plan, looking only at what changes. `base` stays as it is.

    Raises:
        AtollError: as `propagate`; or another number of prefixes than `base` has.
    """
    from atoll.internet import kernel

    if len(plan) != len(base.plan):
        raise AtollError(f"{len(plan)} prefixes", hint=f"{len(base.plan)}, as it was")
    graph = base.graph
    validating = base.rov if rov is None else frozenset(rov)
    seeds = _seeds(graph, plan)
    before = kernel.State(base.origin.copy(), base.length, base.next_hop, base.relation, base.muted)
    marks = kernel.Marks(*(np.zeros(base.origin.shape, np.uint8) for _ in range(3)))
    for mark in marks:
        mark[:, graph.rows(validating ^ base.rov)] = 1
    for prefix, (old, new) in enumerate(zip(base.plan, plan, strict=True)):
        numbers, changed = _renumbered(old, new)
        before.origin[prefix] = numbers[base.origin[prefix]]
        marks.up[prefix, graph.rows(changed)] = 1
    state = kernel.State(
        before.origin.copy(),
        before.length.copy(),
        before.next_hop.copy(),
        before.relation.copy(),
        before.muted.copy(),
    )
    kernel.run(_links(graph), seeds, _rov(graph, validating), before, state, marks, False)
    return Routes(graph, tuple(tuple(each) for each in plan), validating, *state)


def leak(routes: Routes, leaker: int, prefix: int = 0) -> Origin:
    """The origin that stands for `leaker` telling everybody the route it has, against valley-free export.

    Raises:
        AtollError: it has no route, or announces the prefix itself.
    """
    path = routes.path(leaker, prefix)
    if not path or routes.relation_of(leaker, prefix) == "origin":
        raise AtollError("has no learned route to leak", hint="another AS", where=f"AS{leaker}")
    source = routes.plan[prefix][int(routes.origin[prefix, routes.graph.row(leaker)])]
    return Origin(leaker, claims=path[1:], invalid=source.invalid)


def _renumbered(old: Sequence[Origin], new: Sequence[Origin]) -> tuple[Ints, set[int]]:
    """New numbers by old ones (the last entry is for -1), and the ASes whose announcement changed."""
    place = {origin.asn: at for at, origin in enumerate(new)}
    numbers = np.full(len(old) + 1, -1, np.int32)
    changed = {origin.asn for origin in new}
    for at, origin in enumerate(old):
        now = place.get(origin.asn)
        if now is not None and new[now] == origin:
            numbers[at] = now
            changed.discard(origin.asn)
        else:  # a number that nobody has: whoever used it differs from whatever comes
            numbers[at] = len(new) + at
            changed.add(origin.asn)
    return numbers, changed


def _links(graph: CsrGraph) -> Links:
    from atoll.internet.kernel import Links

    up, down, side = graph.providers, graph.customers, graph.peers
    return Links(up.start, up.nodes, down.start, down.nodes, side.start, side.nodes, graph.order)


def _rov(graph: CsrGraph, validating: frozenset[int]) -> Bytes:
    found = np.zeros(graph.size, np.uint8)
    found[graph.rows(validating)] = 1
    return found


def _seeds(graph: CsrGraph, plan: Plan) -> Seeds:
    from atoll.internet.kernel import Seeds

    if not plan:
        raise AtollError("a plan without prefixes", hint="one at least")
    if len(plan) * graph.size > MAX_ROUTES:
        hint = f"up to {MAX_ROUTES // graph.size} at once"
        raise AtollError(f"{len(plan)} prefixes over {graph.size} ASes", hint=hint)
    origins = [origin for prefix in plan for origin in prefix]
    for prefix in plan:
        _check_prefix(prefix)
    rules = [_rules(graph, origin) for origin in origins]
    claims = [_known(graph, origin.claims) for origin in origins]
    flat = [rule for each in rules for rule in each]
    return Seeds(
        bound=_starts(plan),
        row=graph.rows(origin.asn for origin in origins),
        length=np.array([origin.copies(0) + len(origin.claims) for origin in origins], np.int32),
        flags=np.array([_flags(*each) for each in zip(origins, rules, claims, strict=True)], dtype=np.uint8),
        rule_start=_starts(rules),
        rule_row=np.array([row for row, _, _ in flat], np.int32),
        rule_add=np.array([add for _, add, _ in flat], np.int32),
        rule_stop=np.array([stop for _, _, stop in flat], np.uint8),
        claim_start=_starts(claims),
        claim_row=np.array([row for each in claims for row in each], np.int32),
    )


def _flags(origin: Origin, rules: Sequence[object], claims: Sequence[int]) -> int:
    from atoll.internet.kernel import CLAIMS, INVALID, RULES

    return (RULES if rules else 0) | (INVALID if origin.invalid else 0) | (CLAIMS if claims else 0)


def _starts(groups: Iterable[Sequence[object]]) -> Ints:
    return np.cumsum([0, *(len(each) for each in groups)]).astype(np.int32)


def _known(graph: CsrGraph, asns: Sequence[int]) -> list[int]:
    """Rows of those that are in the graph: a forged path may name anybody."""
    found = np.searchsorted(graph.asns, asns)
    pairs = zip(found.tolist(), asns, strict=True)
    return sorted({row for row, asn in pairs if row < graph.size and graph.asns[row] == asn})


def _check_prefix(origins: Sequence[Origin]) -> None:
    if len(origins) > MAX_ORIGINS:
        raise AtollError(f"{len(origins)} origins of a prefix", hint=f"up to {MAX_ORIGINS}")
    seen: set[int] = set()
    for origin in origins:
        where = f"AS{origin.asn}"
        if origin.asn in seen:
            raise AtollError("announces the prefix twice", hint="one announcement per AS", where=where)
        seen.add(origin.asn)
        for count in (origin.prepend, *(origin.prepend + more for more in origin.prepend_to.values())):
            if not 0 <= count <= MAX_PREPEND or min(origin.prepend_to.values(), default=0) < 0:
                hint = f"0 to {MAX_PREPEND} times"
                raise AtollError(f"prepends {count} times", hint=hint, where=where)
        if len(origin.claims) > MAX_CLAIMS or origin.asn in origin.claims:
            hint = f"up to {MAX_CLAIMS} others"
            raise AtollError("claims a path that cannot be", hint=hint, where=where)


def _rules(graph: CsrGraph, origin: Origin) -> list[tuple[int, int, int]]:
    """(row, copies more or -1, NO_EXPORT) of each neighbour that hears something else than the others."""
    where = f"AS{origin.asn}"
    try:
        own = graph.row(origin.asn)
    except AtollError as error:
        message = "announces, but is not in the graph"
        raise AtollError(message, hint=error.hint, where=where) from error
    named = origin.not_to | origin.no_export_to | frozenset(origin.prepend_to)
    if not named and origin.only_to is None:
        return []
    neighbours = graph.neighbours(own)
    asns: list[int] = graph.asns[neighbours].tolist()
    strangers = (named | (origin.only_to or frozenset())) - frozenset(asns)
    if strangers:
        names = ", ".join(f"AS{asn}" for asn in sorted(strangers))
        hint = "only_to and the like name neighbours"
        raise AtollError(f"has no link with {names}", hint=hint, where=where)
    heard = frozenset(asns if origin.only_to is None else origin.only_to) - origin.not_to
    return [
        (row, origin.prepend_to.get(asn, 0) if asn in heard else -1, int(asn in origin.no_export_to))
        for row, asn in zip(neighbours.tolist(), asns, strict=True)
        if asn in named or asn not in heard
    ]
