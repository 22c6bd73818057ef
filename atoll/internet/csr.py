"""The whole Internet's graph as flat arrays: compressed sparse rows, a few megabytes for 78,000 ASes.

`atoll.internet.graph.Graph` is right for tens of networks and their names; here an AS is a row number. Rows
ascend by AS number and so do neighbours within a row, so that the first of the shortest routes is the one of
the lowest neighbour number, the tie-break of `atoll.internet.routing`. Neighbours of row `r` are
`nodes[start[r]:start[r + 1]]`. The same faults are refused as there: an AS linked to itself, two relations
between the same pair, a cycle of providers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.errors import AtollError
from atoll.internet.graph import Graph

MAX_ASES: Final = 2_000_000  # rows are 32-bit; 130,000 AS numbers are given out
MAX_ENDS: Final = 16_000_000  # link ends: as many as a file's lines allow

Ints = NDArray[np.int32]
Pairs = NDArray[np.int64]


class Rows(msgspec.Struct, frozen=True):
    """Neighbours of one kind. `start` has one entry more than there are rows."""

    start: Ints
    nodes: Ints

    def of(self, row: int) -> Ints:
        """The neighbours of a row, ascending."""
        return self.nodes[self.start[row] : self.start[row + 1]]


class CsrGraph(msgspec.Struct, frozen=True):
    """A checked AS graph in arrays."""

    asns: Pairs  # shape (ases,), ascending
    providers: Rows
    customers: Rows
    peers: Rows
    order: Ints  # rows, every customer before each of its providers

    @property
    def size(self) -> int:
        """How many ASes."""
        return len(self.asns)

    @property
    def links(self) -> int:
        """How many links."""
        return len(self.providers.nodes) + len(self.peers.nodes) // 2

    @property
    def peer_links(self) -> int:
        """How many of the links are peerings."""
        return len(self.peers.nodes) // 2

    def row(self, asn: int) -> int:
        """The row of an AS.

        Raises:
            AtollError: it is not in the graph.
        """
        found = int(np.searchsorted(self.asns, asn))
        if found == self.size or self.asns[found] != asn:
            raise AtollError("is not in the graph", hint="add it with its links", where=f"AS{asn}")
        return found

    def rows(self, asns: Iterable[int]) -> Ints:
        """Rows of several ASes, in their order.

        Raises:
            AtollError: one is not in the graph.
        """
        wanted = np.fromiter(asns, dtype=np.int64)
        found = np.searchsorted(self.asns, wanted)
        missing = self.asns[np.minimum(found, self.size - 1)] != wanted
        if missing.any():
            self.row(int(wanted[missing][0]))
        return found.astype(np.int32)

    def neighbours(self, row: int) -> Ints:
        """All that a row has a link with, ascending."""
        return np.sort(np.concatenate((self.providers.of(row), self.customers.of(row), self.peers.of(row))))


def build(transit: object, peering: object, alone: Iterable[int] = ()) -> CsrGraph:
    """A graph from links between AS numbers.

    Args:
        transit: (provider, customer) pairs, anything that makes an array of shape (n, 2).
        peering: pairs of peers.
        alone: ASes that may have no link.

    Raises:
        AtollError: an AS number out of range, a link to itself, two links of a pair, a cycle of providers.
    """
    sells, peers = _pairs(transit), _pairs(peering)
    asns = np.unique(np.concatenate((sells.ravel(), peers.ravel(), np.fromiter(alone, dtype=np.int64))))
    _check(asns, sells, peers)
    size = len(asns)
    sold, met = np.searchsorted(asns, sells), np.searchsorted(asns, peers)
    providers = _rows(sold[:, 1], sold[:, 0], size)
    customers = _rows(sold[:, 0], sold[:, 1], size)
    both = np.concatenate((met, met[:, ::-1]))
    return CsrGraph(
        asns,
        providers,
        customers,
        _rows(both[:, 0], both[:, 1], size),
        _bottom_up(asns, providers, customers),
    )


def from_graph(graph: Graph) -> CsrGraph:
    """The small model's graph in arrays."""
    transit = [(link.b, link.a) for link in graph.links if link.relation == "customer-provider"]
    peering = [(link.a, link.b) for link in graph.links if link.relation == "peer"]
    return build(transit, peering, graph.ases)


def _pairs(links: object) -> Pairs:
    return np.asarray(links, dtype=np.int64).reshape(-1, 2)


def _check(asns: Pairs, sells: Pairs, peers: Pairs) -> None:
    if not len(asns):
        raise AtollError("a graph without ASes", hint="give it links")
    if asns[0] < 1 or asns[-1] > 4_294_967_295:
        bad = asns[0] if asns[0] < 1 else asns[-1]
        raise AtollError("not an AS number", hint="1 to 4294967295", where=f"AS{bad}")
    both = np.sort(np.concatenate((sells, peers)), axis=1)
    if len(asns) > MAX_ASES or 2 * len(both) > MAX_ENDS:
        raise AtollError(
            "the graph is too large", hint=f"up to {MAX_ASES:,} ASes and {MAX_ENDS // 2:,} links"
        )
    itself = both[both[:, 0] == both[:, 1]]
    if len(itself):
        raise AtollError("an AS cannot be linked to itself", where=f"AS{itself[0, 0]}")
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    twice = both[1:][(both[1:] == both[:-1]).all(axis=1)]
    if len(twice):
        where = f"AS{twice[0, 0]} and AS{twice[0, 1]}"
        raise AtollError("these two have two links", hint="keep one of them", where=where)


def _rows(heads: NDArray[np.int64], tails: NDArray[np.int64], size: int) -> Rows:
    start = np.zeros(size + 1, dtype=np.int32)
    np.cumsum(np.bincount(heads, minlength=size), out=start[1:])
    return Rows(start, tails[np.lexsort((tails, heads))].astype(np.int32))


def _bottom_up(asns: Pairs, providers: Rows, customers: Rows) -> Ints:
    """Kahn's order, a whole layer at a time; what is left when nothing can be taken holds a cycle."""
    waiting = np.diff(customers.start)
    ready = np.flatnonzero(waiting == 0)
    layers = [ready]
    while len(ready):
        above = _neighbours_of(providers, ready)
        np.subtract.at(waiting, above, 1)
        above = np.unique(above)
        ready = above[waiting[above] == 0]
        layers.append(ready)
    order = np.concatenate(layers).astype(np.int32)
    if len(order) < len(asns):
        _refuse_cycle(asns, np.setdiff1d(np.arange(len(asns)), order), customers)
    return order


def _neighbours_of(rows: Rows, chosen: NDArray[np.int64]) -> Ints:
    """The neighbours of several rows, one after the other."""
    first = rows.start[chosen].astype(np.int64)
    counts = rows.start[chosen + 1] - first
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    found: Ints = rows.nodes[np.arange(total) + np.repeat(first - (ends - counts), counts)]
    return found


def _refuse_cycle(asns: Pairs, left: NDArray[np.int64], customers: Rows) -> None:
    """Everything in `left` has a customer in `left`: going down comes back to where it was."""
    stuck = set(left.tolist())
    walked = [min(stuck)]
    while True:
        below = min(row for row in customers.of(walked[-1]).tolist() if row in stuck)
        if below in walked:
            break
        walked.append(below)
    cycle = [*walked[walked.index(below) :], below]
    shown = " sells to ".join(f"AS{asns[row]}" for row in cycle[:12])
    raise AtollError(
        f"these ASes are each other's providers: {shown}",
        hint="remove one of these links",
        where=f"AS{asns[cycle[1]]} buys from AS{asns[cycle[0]]}",
    )
