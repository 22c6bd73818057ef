"""The graph's builder: what it makes, and what it refuses."""

from collections.abc import Callable

import pytest

from atoll.errors import AtollError
from atoll.internet.graph import Graph, GraphBuilder, Link


def four() -> GraphBuilder:
    builder = GraphBuilder()
    for asn in (40, 10, 30, 20):
        builder.add(asn, f"as{asn}", "regional", "london")
    return builder


def test_neighbours_ascend_and_mirror_each_other() -> None:
    graph = four().buys_from(10, 40, 30, 20).peer(30, 20).buys_from(20, 40).build()
    assert graph.providers[10] == (20, 30, 40)
    assert graph.customers[40] == (10, 20)
    assert graph.peers[20] == (30,)
    assert graph.peers[30] == (20,)
    assert graph.neighbours(20) == {10, 30, 40}
    assert list(graph.ases) == [10, 20, 30, 40]
    assert Link(20, 30, "peer") in graph.links


def test_customers_come_before_their_providers() -> None:
    graph = four().buys_from(40, 30).buys_from(30, 20).buys_from(20, 10).buys_from(40, 10).build()
    assert graph.bottom_up == (40, 30, 20, 10)


def test_an_as_keeps_its_home_and_each_presence_once() -> None:
    graph = GraphBuilder().add(1, "one", "transit", "london", ("tokyo", "london", "paris")).build()
    assert graph.ases[1].cities == ("london", "tokyo", "paris")
    assert graph.ases[1].city == "london"


def test_a_mesh_peers_every_pair_once() -> None:
    graph = four().mesh((30, 10, 20)).build()
    assert [(link.a, link.b, link.exchange) for link in graph.links] == [
        (10, 20, ""),
        (10, 30, ""),
        (20, 30, ""),
    ]


def test_an_exchange_leaves_relations_that_exist() -> None:
    graph = four().buys_from(10, 30).exchange("LINX", "london", (30, 20, 10)).build()
    assert graph.providers[10] == (30,)
    assert graph.peers[20] == (10, 30)
    assert [link.exchange for link in graph.links] == ["LINX", "", "LINX"]


def cycle() -> Graph:
    return four().buys_from(10, 20).buys_from(20, 30).buys_from(30, 10).buys_from(40, 30).build()


@pytest.mark.parametrize(
    ("build", "where", "message"),
    [
        (lambda: four().buys_from(10, 20).buys_from(10, 20), "AS10 buys from AS20", "have a link already"),
        (lambda: four().buys_from(10, 20).peer(20, 10), "AS10 peers with AS20", "have a link already"),
        (lambda: four().buys_from(10, 20).buys_from(20, 10), "AS20 buys from AS10", "have a link already"),
        (lambda: four().peer(10, 10), "AS10 peers with AS10", "linked to itself"),
        (lambda: four().buys_from(10, 99), "AS10 buys from AS99", "AS99 is not in the graph"),
        (lambda: four().peer(99, 10), "AS10 peers with AS99", "AS99 is not in the graph"),
        (lambda: four().add(10, "again", "pop", "london"), "AS10", "there twice"),
        (lambda: four().add(0, "zero", "pop", "london"), "AS0", "not an AS number"),
        (lambda: four().add(4_294_967_296, "big", "pop", "london"), "AS4294967296", "not an AS number"),
        (lambda: four().add(50, "lost", "pop", "atlantis"), "", "unknown city 'atlantis'"),
        (lambda: four().exchange("JPIX", "tokyo", (10, 20)), "JPIX", "AS10 is not present in tokyo"),
        (lambda: four().exchange("LINX", "london", (10, 99)), "LINX", "AS99 is not in the graph"),
        (cycle, "AS30 buys from AS10", "AS10 sells to AS30 sells to AS20 sells to AS10"),
    ],
)
def test_faults_name_what_is_wrong(build: Callable[[], object], where: str, message: str) -> None:
    with pytest.raises(AtollError) as caught:
        build()
    assert caught.value.where == where
    assert message in caught.value.message


def test_a_cycle_is_named_without_the_ases_above_it() -> None:
    with pytest.raises(AtollError) as caught:
        (
            GraphBuilder()
            .add(1, "above", "transit", "london")
            .add(2, "two", "transit", "london")
            .add(3, "three", "transit", "london")
            .add(4, "four", "transit", "london")
            .buys_from(2, 3)
            .buys_from(3, 4)
            .buys_from(4, 2)
            .buys_from(2, 1)
            .build()
        )
    assert caught.value.message.endswith("AS2 sells to AS4 sells to AS3 sells to AS2")
    assert caught.value.where == "AS4 buys from AS2"


def test_the_largest_and_smallest_numbers_are_as_numbers() -> None:
    builder = GraphBuilder().add(1, "one", "transit", "london").add(4_294_967_295, "last", "pop", "paris")
    assert set(builder.build().ases) == {1, 4_294_967_295}
