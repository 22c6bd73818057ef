"""The fast propagation equals the small model, BGPy, and, with rules of its own, messages one by one."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internet_graphs import random_announcements, random_graph
from test_internet_bgpy import bgpy_choices

from atoll.errors import AtollError
from atoll.internet import routing
from atoll.internet.csr import build, from_graph
from atoll.internet.graph import Graph
from atoll.internet.propagate import Origin, Routes, leak, propagate, what_if
from atoll.internet.routing import Announcement

pytestmark = pytest.mark.timeout(120)  # numba's first call compiles, which takes seconds
few = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 100_000)
sizes = st.integers(6, 60)

Choices = dict[int, tuple[tuple[int, ...], str]]
RANK = {"origin": 0, "customer": 1, "peer": 2, "provider": 3}


def choices(routes: Routes, prefix: int = 0) -> Choices:
    asns = routes.graph.asns.tolist()
    found = {asn: (routes.path(asn, prefix), routes.relation_of(asn, prefix)) for asn in asns}
    for row, asn in enumerate(asns):
        assert len(found[asn][0]) == routes.length[prefix, row]
    return {asn: choice for asn, choice in found.items() if choice[0]}


def small(graph: Graph, announcements: Sequence[Announcement]) -> Choices:
    found = routing.propagate(graph, announcements)
    return {asn: (route.as_path, route.learned_from) for asn, route in found.items()}


def equal(one: Routes, other: Routes) -> bool:
    names = ("origin", "length", "next_hop", "relation", "muted")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@few
@given(seeds, sizes, st.integers(1, 5), st.booleans())
def test_it_equals_the_small_model(seed: int, size: int, count: int, connected: bool) -> None:
    graph = random_graph(seed, size, connected)
    plans = [random_announcements(seed + p, graph, count) for p in range(3)]
    routes = propagate(from_graph(graph), [[Origin.of(each) for each in plan] for plan in plans])
    for prefix, plan in enumerate(plans):
        assert choices(routes, prefix) == small(graph, plan)


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_bgpy(seed: int) -> None:
    graph = random_graph(seed, 250)
    plan = random_announcements(seed, graph, 4)
    routes = propagate(from_graph(graph), [[Origin.of(each) for each in plan]])
    assert choices(routes) == bgpy_choices(graph, plan)


# --- rules that the small model does not have, against messages that are sent until nothing changes


def relation(graph: Graph, one: int, other: int) -> str:
    """What `other` is to `one`."""
    if other in graph.customers[one]:
        return "customer"
    return "peer" if other in graph.peers[one] else "provider"


def heard(
    graph: Graph,
    rib: Mapping[int, tuple[tuple[int, ...], str, Origin, bool]],
    asn: int,
    rov: frozenset[int],
) -> list[tuple[tuple[int, int, int], tuple[tuple[int, ...], str, Origin, bool]]]:
    """What the neighbours of `asn` tell it, each with its rank."""
    found = []
    for neighbour in graph.neighbours(asn):
        if neighbour not in rib:
            continue
        path, source, origin, muted = rib[neighbour]
        own = source == "origin"
        upwards = relation(graph, neighbour, asn) != "customer"
        if muted or (upwards and RANK[source] > RANK["customer"]) or asn in path:
            continue
        if origin.invalid and asn in rov:
            continue
        if own:
            if asn in origin.not_to or (origin.only_to is not None and asn not in origin.only_to):
                continue
            path = (neighbour,) * origin.prepend_to.get(asn, 0) + path
        source = relation(graph, asn, neighbour)
        stop = own and asn in origin.no_export_to
        found.append(((RANK[source], len(path), neighbour), ((asn, *path), source, origin, stop)))
    return found


def messages(graph: Graph, origins: Sequence[Origin], rov: frozenset[int] = frozenset()) -> Choices:
    """Every AS chooses again from what its neighbours have, in any order, until nobody changes."""
    own = {
        each.asn: (((each.asn,) * (1 + each.prepend) + each.claims), "origin", each, False)
        for each in origins
    }
    rib: dict[int, tuple[tuple[int, ...], str, Origin, bool]] = dict(own)
    changed = True
    while changed:
        changed = False
        for asn in graph.ases:
            if asn in own:
                continue
            told = heard(graph, rib, asn, rov)
            best = min(told, key=lambda each: each[0])[1] if told else None
            if best != rib.get(asn):
                changed = True
                if best is None:
                    del rib[asn]
                else:
                    rib[asn] = best
    return {asn: (path, source) for asn, (path, source, _, _) in rib.items()}


def random_origins(seed: int, graph: Graph, count: int) -> list[Origin]:
    rng = random.Random(seed)
    asns = sorted(graph.ases)
    return [random_origin(rng, graph, asn, asns) for asn in rng.sample(asns, count)]


def random_origin(rng: random.Random, graph: Graph, asn: int, asns: list[int]) -> Origin:
    around = sorted(graph.neighbours(asn))

    def some(share: float) -> frozenset[int]:
        return frozenset(each for each in around if rng.random() < share)

    strangers = [each for each in asns if each != asn]
    return Origin(
        asn,
        prepend=rng.randint(0, 2),
        only_to=some(0.6) if rng.random() < 0.3 else None,
        not_to=some(0.2),
        prepend_to={each: rng.randint(0, 4) for each in some(0.4)},
        no_export_to=some(0.3),
        claims=tuple(rng.sample(strangers, rng.choice((0, 0, 1, 2)))),
        invalid=rng.random() < 0.3,
    )


def random_rov(seed: int, graph: Graph) -> frozenset[int]:
    rng = random.Random(seed)
    return frozenset(asn for asn in graph.ases if rng.random() < 0.3)


@few
@given(seeds, sizes, st.integers(1, 5))
def test_every_rule_is_as_messages_would_have_it(seed: int, size: int, count: int) -> None:
    graph = random_graph(seed, size)
    origins, rov = random_origins(seed, graph, count), random_rov(seed, graph)
    assert choices(propagate(from_graph(graph), [origins], rov)) == messages(graph, origins, rov)


@few
@given(seeds, sizes, st.integers(1, 4), st.integers(1, 4))
def test_a_what_if_is_a_run_of_its_own(seed: int, size: int, before: int, after: int) -> None:
    graph = random_graph(seed, size)
    rows = from_graph(graph)
    old = [random_origins(seed, graph, before), random_origins(seed + 1, graph, before)]
    kept = [each for each in old[0] if each.asn % 2]
    others = [each for each in random_origins(seed + 2, graph, after) if each.asn % 2 == 0]
    new = [[*others, *kept], old[1]]
    base = propagate(rows, old, random_rov(seed, graph))
    copy = Routes(
        base.graph, base.plan, base.rov, *(getattr(base, name).copy() for name in base.__struct_fields__[3:])
    )
    for rov in (base.rov, random_rov(seed + 1, graph)):
        assert equal(what_if(base, new, rov), propagate(rows, new, rov))
    assert equal(what_if(base, new), what_if(base, new, base.rov))
    assert equal(base, copy)  # stays as it was


@few
@given(seeds, sizes)
def test_a_leak_is_the_leakers_route_told_to_everybody(seed: int, size: int) -> None:
    graph = random_graph(seed, size)
    rows = from_graph(graph)
    origins = [Origin.of(each) for each in random_announcements(seed, graph, 2, partial=False)]
    base = propagate(rows, [origins])
    leaker = next(asn for asn in graph.ases if base.relation_of(asn) not in ("origin", ""))
    leaked = leak(base, leaker)
    assert (leaker, *leaked.claims) == base.path(leaker)
    after = choices(what_if(base, [[*origins, leaked]]))
    assert after == messages(graph, [*origins, leaked])
    for asn in graph.neighbours(leaker) - {*leaked.claims, *(each.asn for each in origins)}:
        assert asn in after


# --- a few by hand: 9 buys from 1 and 2, which peer; 3 buys from 1, 8 from 2

NET = build([(1, 9), (2, 9), (1, 3), (2, 8)], [(1, 2)])


@pytest.mark.parametrize(
    ("origin", "paths"),
    [
        (Origin(9), {1: (1, 9), 2: (2, 9), 3: (3, 1, 9)}),
        (Origin(9, prepend_to={1: 2}), {1: (1, 9, 9, 9), 2: (2, 9), 3: (3, 1, 9, 9, 9)}),
        (Origin(9, not_to=frozenset({1})), {1: (1, 2, 9), 2: (2, 9), 3: (3, 1, 2, 9)}),
        (Origin(9, no_export_to=frozenset({1})), {1: (1, 9), 2: (2, 9), 3: (), 8: (8, 2, 9)}),
        (Origin(9, claims=(1,)), {1: (), 2: (2, 9, 1), 3: (), 8: (8, 2, 9, 1)}),
        (Origin(9, claims=(77,)), {1: (1, 9, 77), 8: (8, 2, 9, 77)}),
        (Origin(9, invalid=True), {1: (1, 9), 2: (), 8: ()}),
    ],
)
def test_rules_by_hand(origin: Origin, paths: Mapping[int, tuple[int, ...]]) -> None:
    routes = propagate(NET, [[origin]], rov=(2,))
    assert {asn: routes.path(asn) for asn in paths} == paths


@pytest.mark.parametrize(
    ("origins", "text"),
    [
        ([Origin(7)], "AS7: announces, but is not in the graph (add it with its links)"),
        ([Origin(9), Origin(9, 1)], "AS9: announces the prefix twice (one announcement per AS)"),
        ([Origin(9, -1)], "AS9: prepends -1 times (0 to 16 times)"),
        ([Origin(9, 9, prepend_to={1: 8})], "AS9: prepends 17 times (0 to 16 times)"),
        ([Origin(9, 2, prepend_to={1: -1})], "AS9: prepends "),
        ([Origin(9, not_to=frozenset({3}))], "AS9: has no link with AS3"),
        ([Origin(9, only_to=frozenset({3, 8}))], "AS9: has no link with AS3, AS8"),
        ([Origin(9, prepend_to={3: 1})], "AS9: has no link with AS3"),
        ([Origin(9, claims=(1, 9))], "AS9: claims a path that cannot be"),
        ([Origin(9, claims=tuple(range(100, 165)))], "AS9: claims a path that cannot be"),
    ],
)
def test_announcements_that_cannot_be(origins: list[Origin], text: str) -> None:
    with pytest.raises(AtollError) as caught:
        propagate(NET, [origins])
    assert str(caught.value).startswith(text)


def test_what_cannot_be_asked() -> None:
    base = propagate(NET, [[Origin(9)]])
    for wrong, text in (
        (lambda: propagate(NET, []), "a plan without prefixes"),
        (lambda: propagate(NET, [[Origin(9)]] * 9_000_000), "9000000 prefixes over 5 ASes"),
        (lambda: propagate(NET, [[Origin(9)]], rov=(77,)), "AS77: is not in the graph"),
        (lambda: what_if(base, [[], []]), "2 prefixes (1, as it was)"),
        (lambda: leak(base, 9), "AS9: has no learned route to leak"),
        (lambda: leak(propagate(NET, [[]]), 3), "AS3: has no learned route to leak"),
        (lambda: base.path(77), "AS77: is not in the graph"),
    ):
        with pytest.raises(AtollError) as caught:
            wrong()
        assert str(caught.value).startswith(text)


def test_nothing_announced_is_nothing_chosen() -> None:
    routes = propagate(NET, [[], [Origin(9)]])
    assert choices(routes, 0) == {}
    assert len(choices(routes, 1)) == NET.size
    assert choices(what_if(routes, [[], []]), 1) == {}


def test_origins_are_values() -> None:
    origin: Any = msgspec.json.decode(msgspec.json.encode(Origin(9, prepend_to={1: 2})), type=Origin)
    assert origin == Origin(9, prepend_to={1: 2})
