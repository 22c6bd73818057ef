"""Atoll's propagation equals BGPy's (an independent engine) for every AS of 20 random graphs.

BGPy seeds an announcement where it starts; several origins of one prefix are several seeds. An origin's path
is seeded with its copies for prepending. Announcing to a part of the neighbours is no option of BGPy's, so
the origins' policy asks a table before it sends; choice, export and tie-break stay BGPy's own.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from bgpy.as_graphs import ASGraph, ASGraphInfo
from bgpy.as_graphs.base.links import CustomerProviderLink, PeerLink
from bgpy.shared.enums import Relationships
from bgpy.simulation_engine import BGP, SimulationEngine
from bgpy.simulation_engine.announcement import Announcement as Seed
from internet_graphs import random_announcements, random_graph

from atoll.internet.graph import Graph
from atoll.internet.routing import Announcement, propagate
from atoll.internet.world import default_world

PREFIX = "192.0.2.0/24"
SOURCES = {
    Relationships.ORIGIN: "origin",
    Relationships.CUSTOMERS: "customer",
    Relationships.PEERS: "peer",
    Relationships.PROVIDERS: "provider",
}


class SelectiveOrigin(BGP):
    """BGP whose own announcement goes only where `only_to` says."""

    name = "Selective origin"
    only_to: ClassVar[Mapping[int, frozenset[int]]] = {}

    def _policy_propagate(self, neighbor: Any, ann: Seed, *_: object) -> bool:
        """True: taken care of, do not send."""
        own = ann.recv_relationship is Relationships.ORIGIN
        allowed = self.only_to.get(self.as_.asn)
        return own and allowed is not None and neighbor.asn not in allowed


class Scenario:
    """The part of BGPy's scenario that its engine asks for."""

    def __init__(self, announcements: tuple[Announcement, ...]) -> None:
        self.announcements = tuple(
            Seed(PREFIX, (each.asn,) * (1 + each.prepend), next_hop_asn=each.asn, seed_asn=each.asn)
            for each in announcements
        )
        table = {each.asn: each.only_to for each in announcements if each.only_to is not None}
        self.policy = type("Policy", (SelectiveOrigin,), {"only_to": table})

    def get_policy_cls(self, _as: object) -> type[BGP]:
        return self.policy


def bgpy_choices(
    graph: Graph, announcements: tuple[Announcement, ...]
) -> dict[int, tuple[tuple[int, ...], str]]:
    """For each AS with a route: its path (itself first) and where it learned it."""
    info = ASGraphInfo(
        customer_provider_links=frozenset(
            CustomerProviderLink(customer_asn=link.a, provider_asn=link.b)
            for link in graph.links
            if link.relation == "customer-provider"
        ),
        peer_links=frozenset(PeerLink(link.a, link.b) for link in graph.links if link.relation == "peer"),
        unlinked_asns=frozenset(graph.ases),
    )
    scenario: Any = Scenario(announcements)
    engine = SimulationEngine(ASGraph(info, store_customer_cone_size=False))
    engine.setup(scenario)
    engine.run(scenario=scenario)
    chosen = {each.asn: each.policy.local_rib.get(PREFIX) for each in engine.as_graph}
    return {asn: (ann.as_path, SOURCES[ann.recv_relationship]) for asn, ann in chosen.items() if ann}


def atoll_choices(
    graph: Graph, announcements: tuple[Announcement, ...]
) -> dict[int, tuple[tuple[int, ...], str]]:
    routes = propagate(graph, announcements)
    return {asn: (route.as_path, route.learned_from) for asn, route in routes.items()}


@pytest.mark.parametrize("seed", range(20))
def test_every_as_chooses_as_in_bgpy(seed: int) -> None:
    size = 60 + seed * 240 // 19
    graph = random_graph(seed, size, connected=seed % 4 != 3)
    for origins in (1, 3, 7):
        for partial in (False, True):
            announcements = random_announcements(seed * 100 + origins, graph, origins, partial=partial)
            assert atoll_choices(graph, announcements) == bgpy_choices(graph, announcements)


def test_the_default_world_is_as_in_bgpy_whichever_pops_are_up() -> None:
    world = default_world()
    codes = sorted(world.pops)
    for mask in range(1, 2 ** len(codes)):
        up = [code for bit, code in enumerate(codes) if mask >> bit & 1]
        announcements = world.announcements(*up)
        assert atoll_choices(world.graph, announcements) == bgpy_choices(world.graph, announcements)
