"""Route choice: the rules one by one on small graphs, then properties on random ones."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internet_graphs import random_announcements, random_graph

from atoll.errors import AtollError
from atoll.internet.graph import Graph, GraphBuilder
from atoll.internet.routing import MAX_PREPEND, Announcement, Route, propagate


def graph(*links: str) -> Graph:
    """`"1>2"`: 1 buys from 2; `"1-2"`: they peer."""
    builder = GraphBuilder()
    pairs = {link: [int(asn) for asn in link.replace(">", "-").split("-")] for link in links}
    for asn in sorted({asn for both in pairs.values() for asn in both}):
        builder.add(asn, f"as{asn}", "regional", "london")
    for link, both in pairs.items():
        _ = builder.buys_from(*both) if ">" in link else builder.peer(*both)
    return builder.build()


def chosen(net: Graph, *announcements: Announcement) -> dict[int, tuple[int, ...]]:
    return {asn: route.as_path for asn, route in propagate(net, announcements).items()}


def only(asn: int, *neighbours: int) -> Announcement:
    return Announcement(asn, only_to=frozenset(neighbours))


@pytest.mark.parametrize(
    ("rule", "net", "announcements", "asn", "path"),
    [
        ("own first", graph("9>1"), (Announcement(9), Announcement(1, 3)), 1, (1, 1, 1, 1)),
        (
            "a long customer route before a short peer route",
            graph("9>5", "5>4", "4>1", "8-1"),
            (Announcement(9), Announcement(8)),
            1,
            (1, 4, 5, 9),
        ),
        (
            "a long peer route before a short provider route",
            graph("9>5", "5>4", "4-1", "1>8"),
            (Announcement(9), Announcement(8)),
            1,
            (1, 4, 5, 9),
        ),
        (
            "shortest of customers",
            graph("9>5", "5>1", "8>1"),
            (Announcement(9), Announcement(8)),
            1,
            (1, 8),
        ),
        (
            "shortest of peers",
            graph("9>2", "2-1", "8-1"),
            (Announcement(9), Announcement(8)),
            1,
            (1, 8),
        ),
        (
            "shortest of providers",
            graph("9>2", "1>2", "1>8"),
            (Announcement(9), Announcement(8)),
            1,
            (1, 8),
        ),
        ("prepending counts", graph("8>1", "9>1"), (Announcement(8, 1), Announcement(9)), 1, (1, 9)),
        ("prepends stay in the path", graph("8>1"), (Announcement(8, 2),), 1, (1, 8, 8, 8)),
        ("lowest customer", graph("9>1", "8>1"), (Announcement(9), Announcement(8)), 1, (1, 8)),
        ("lowest peer", graph("9-1", "8-1"), (Announcement(9), Announcement(8)), 1, (1, 8)),
        ("lowest provider", graph("1>9", "1>8"), (Announcement(9), Announcement(8)), 1, (1, 8)),
        (
            "the neighbour's number decides, not the origin's",
            graph("9>2", "8>3", "2>1", "3>1"),
            (Announcement(9), Announcement(8)),
            1,
            (1, 2, 9),
        ),
        ("only some neighbours hear", graph("9>1", "9>2", "1-2"), (only(9, 2),), 1, (1, 2, 9)),
        (
            "a neighbour that does not hear takes another's",
            graph("9>1", "8>1"),
            (Announcement(9), only(8)),
            1,
            (1, 9),
        ),
        (
            "who hears it from the origin tells all",
            graph("9>2", "2>1", "3>2"),
            (only(9, 2),),
            3,
            (3, 2, 9),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_rules(
    rule: str, net: Graph, announcements: tuple[Announcement, ...], asn: int, path: tuple[int, ...]
) -> None:
    assert chosen(net, *announcements)[asn] == path, rule


@pytest.mark.parametrize(
    ("net", "announcement", "reached"),
    [
        (graph("9-1", "1-2"), Announcement(9), {9, 1}),  # a peer's route does not go to a peer
        (graph("9-1", "1>2"), Announcement(9), {9, 1}),  # nor to a provider
        (graph("1>9", "1>2"), Announcement(9), {9, 1}),  # a provider's route does not go to a provider
        (graph("1>9", "1-2"), Announcement(9), {9, 1}),  # nor to a peer
        (graph("9-1", "2>1", "3>2"), Announcement(9), {9, 1, 2, 3}),  # customers hear everything
        (graph("1>9", "2>1"), Announcement(9), {9, 1, 2}),
        (graph("9>1", "1>2", "2-3", "4>3"), Announcement(9), {9, 1, 2, 3, 4}),  # up, across, down
        (graph("9>1", "9-2", "3>9"), only(9), {9}),
        (graph("9>1", "9-2", "3>9"), only(9, 1), {9, 1}),
        (graph("9>1", "9-2", "3>9"), only(9, 2), {9, 2}),
        (graph("9>1", "9-2", "3>9"), only(9, 3), {9, 3}),
    ],
)
def test_exports_are_valley_free(net: Graph, announcement: Announcement, reached: set[int]) -> None:
    assert set(propagate(net, (announcement,))) == reached


def test_a_route_says_where_it_came_from() -> None:
    routes = propagate(graph("9>1", "1-2", "3>2"), (Announcement(9, 1),))
    assert routes == {
        9: Route(9, (9, 9), "origin", 9),
        1: Route(1, (1, 9, 9), "customer", 9),
        2: Route(2, (2, 1, 9, 9), "peer", 1),
        3: Route(3, (3, 2, 1, 9, 9), "provider", 2),
    }
    assert routes[3].origin == 9
    assert routes[3].hops == (3, 2, 1, 9)


def test_nothing_announced_is_nothing_chosen() -> None:
    assert propagate(graph("1>2"), ()) == {}


@pytest.mark.parametrize(
    ("announcements", "where", "text"),
    [
        ((Announcement(7),), "AS7", "announces, but is not in the graph (add it with its links)"),
        (
            (Announcement(1), Announcement(1, 2)),
            "AS1",
            "announces the prefix twice (one announcement per AS)",
        ),
        ((Announcement(1, -1),), "AS1", "prepends -1 times (0 to 16 times)"),
        ((Announcement(1, MAX_PREPEND + 1),), "AS1", "prepends 17 times (0 to 16 times)"),
        ((only(1, 2, 3, 5),), "AS1", "has no link with AS3, AS5 (only_to names neighbours)"),
    ],
)
def test_announcements_that_cannot_be_made(
    announcements: tuple[Announcement, ...], where: str, text: str
) -> None:
    with pytest.raises(AtollError) as caught:
        propagate(graph("1>2", "2>3"), announcements)
    assert str(caught.value) == f"{where}: {text}"


def test_the_longest_prepend_is_allowed() -> None:
    assert len(chosen(graph("1>2"), Announcement(1, MAX_PREPEND))[2]) == MAX_PREPEND + 2


# --- properties

seeds = st.integers(0, 10_000)
sizes = st.integers(6, 60)
few = settings(max_examples=60, deadline=None)


def relation(net: Graph, one: int, other: int) -> str:
    """What `one` is to `other`."""
    if one in net.customers[other]:
        return "customer"
    return "peer" if one in net.peers[other] else "provider"


@few
@given(seeds, sizes, st.booleans())
def test_every_path_is_valley_free_and_without_loop(seed: int, size: int, connected: bool) -> None:
    net = random_graph(seed, size, connected)
    routes = propagate(net, random_announcements(seed, net, 3))
    for asn, route in routes.items():
        hops = route.hops
        assert route.as_path[: len(hops)] == hops
        assert set(route.as_path[len(hops) :]) <= {route.origin}
        assert route.asn == hops[0] == asn
        assert route.next_hop == hops[min(1, len(hops) - 1)]
        # seen from the origin: up, at most once across, then down
        steps = [relation(net, low, high) for high, low in pairwise(hops)][::-1]
        order = {"customer": 0, "peer": 1, "provider": 2}
        assert steps == sorted(steps, key=order.__getitem__)
        assert steps.count("peer") <= 1
        assert route.learned_from == (steps[-1] if steps else "origin")


@few
@given(seeds, sizes)
def test_a_chosen_path_goes_on_as_its_next_hop_chose(seed: int, size: int) -> None:
    net = random_graph(seed, size)
    routes = propagate(net, random_announcements(seed, net, 4))
    for route in routes.values():
        if route.learned_from != "origin":
            assert route.as_path[1:] == routes[route.next_hop].as_path


@few
@given(seeds, sizes)
def test_in_a_connected_graph_everybody_has_a_route(seed: int, size: int) -> None:
    net = random_graph(seed, size)
    assert set(propagate(net, random_announcements(seed, net, 2, partial=False))) == set(net.ases)


@few
@given(seeds, sizes)
def test_withdrawing_never_hurts_those_who_did_not_use_it(seed: int, size: int) -> None:
    """Customer and peer routes stay as they are; a provider route may only become better.

    Said of one who announced to all without prepending: otherwise its own network may have something
    better to tell once it no longer prefers its own announcement.
    """
    net = random_graph(seed, size)
    first, *others = random_announcements(seed, net, 4, partial=False)
    lost = first.asn
    before = propagate(net, (Announcement(lost), *others))
    after = propagate(net, others)
    for asn, route in before.items():
        if route.origin == lost:
            continue
        assert after[asn].learned_from == route.learned_from
        if route.learned_from == "provider":
            assert (len(after[asn].as_path), after[asn].next_hop) <= (len(route.as_path), route.next_hop)
        else:
            assert after[asn] == route


def test_withdrawing_can_shorten_the_path_of_one_who_did_not_use_it() -> None:
    """AS2 preferred its customer's long route to 9 and told AS1 so; without 9 it has a short one to tell."""
    net = graph("9>8", "8>7", "7>2", "2-5", "1>2", "1>3", "5>6", "6>3")
    assert chosen(net, Announcement(9), Announcement(5))[1] == (1, 3, 6, 5)
    assert chosen(net, Announcement(5))[1] == (1, 2, 5)


@few
@given(seeds, sizes, st.integers(1, 4))
def test_prepending_never_attracts(seed: int, size: int, more: int) -> None:
    net = random_graph(seed, size)
    announcements = random_announcements(seed, net, 3)
    first = announcements[0]
    longer = (Announcement(first.asn, first.prepend + more, first.only_to), *announcements[1:])
    before, after = propagate(net, announcements), propagate(net, longer)
    assert {asn for asn, route in after.items() if route.origin == first.asn} <= {
        asn for asn, route in before.items() if route.origin == first.asn
    }


@few
@given(seeds, sizes)
def test_the_order_of_announcements_does_not_matter(seed: int, size: int) -> None:
    net = random_graph(seed, size)
    announcements = random_announcements(seed, net, 4)
    assert propagate(net, announcements) == propagate(net, announcements[::-1])
