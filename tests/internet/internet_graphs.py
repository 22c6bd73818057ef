"""Random AS graphs for tests: layered like the Internet, so that no provider cycle can arise."""

import random

from atoll.internet.graph import Graph, GraphBuilder
from atoll.internet.routing import Announcement

_CITIES = ("london", "tokyo", "new-york", "singapore", "sao-paulo")


def random_graph(seed: int, size: int, connected: bool = True) -> Graph:
    """`size` ASes with scattered numbers; `connected` gives each a provider up to a clique of tier-1s."""
    rng = random.Random(seed)
    asns = rng.sample(range(1, 70_000), size)
    tier1 = max(2, size // 20)
    builder = GraphBuilder()
    for asn in asns:
        builder.add(asn, f"as{asn}", "regional", rng.choice(_CITIES))
    linked: set[frozenset[int]] = set()
    if connected:
        builder.mesh(asns[:tier1])
        linked.update(frozenset((a, b)) for a in asns[:tier1] for b in asns[:tier1])
    for rank in range(tier1, size):
        count = rng.choice((1, 1, 2, 3)) if connected else rng.choice((0, 1, 2))
        for provider in rng.sample(asns[:rank], min(count, rank)):
            builder.buys_from(asns[rank], provider)
            linked.add(frozenset((asns[rank], provider)))
    for _ in range(size):
        pair = frozenset(rng.sample(asns, 2))
        if pair not in linked:
            linked.add(pair)
            builder.peer(*sorted(pair))
    return builder.build()


def random_announcements(
    seed: int, graph: Graph, count: int, max_prepend: int = 3, partial: bool = True
) -> tuple[Announcement, ...]:
    """`count` origins, some prepending, some (if `partial`) announcing to a part of their neighbours."""
    rng = random.Random(seed)
    origins = rng.sample(sorted(graph.ases), count)
    return tuple(_announcement(rng, graph, asn, max_prepend, partial) for asn in origins)


def _announcement(
    rng: random.Random, graph: Graph, asn: int, max_prepend: int, partial: bool
) -> Announcement:
    prepend = rng.randint(0, max_prepend) if rng.random() < 0.5 else 0
    if not partial or rng.random() < 0.6:
        return Announcement(asn, prepend)
    heard = frozenset(each for each in sorted(graph.neighbours(asn)) if rng.random() < 0.5)
    return Announcement(asn, prepend, heard)
