"""BGPy on one graph, in a process of its own: `python catchment_bgpy.py JOB`, where JOB is a JSON file.

JOB has `links` (a file of `provider|customer|-1` and `peer|peer|0` lines) and `plans`: for each, the origins
as [AS, copies more]. Prints a line of JSON: seconds to build the graph and, for each plan, seconds to
propagate and every AS's choice as [AS, origin, length of the path, next hop, relation].
"""

from __future__ import annotations

import json
import sys
from time import perf_counter

from bgpy.as_graphs import ASGraph, ASGraphInfo, CustomerProviderLink, PeerLink
from bgpy.shared.enums import Relationships
from bgpy.simulation_engine import BGP, Announcement, SimulationEngine

PREFIX = "192.0.2.0/24"
NAMES = {
    Relationships.ORIGIN: "origin",
    Relationships.CUSTOMERS: "customer",
    Relationships.PEERS: "peer",
    Relationships.PROVIDERS: "provider",
}


class Scenario:
    """As much of one as the engine asks for."""

    def __init__(self, announcements: tuple[Announcement, ...]) -> None:
        self.announcements = announcements

    def get_policy_cls(self, _as: object) -> type:
        """Plain BGP everywhere."""
        return BGP


def graph(path: str) -> ASGraph:
    """The graph of a file."""
    sells, peers = [], []
    with open(path) as file:
        for line in file:
            one, other, kind = line.split("|")
            if int(kind) < 0:
                sells.append(CustomerProviderLink(customer_asn=int(other), provider_asn=int(one)))
            else:
                peers.append(PeerLink(int(one), int(other)))
    info = ASGraphInfo(customer_provider_links=frozenset(sells), peer_links=frozenset(peers))
    return ASGraph(info, store_customer_cone_size=False)


def propagated(engine: SimulationEngine, origins: list[list[int]]) -> tuple[float, list[list[object]]]:
    """Seconds, and choices."""
    scenario = Scenario(
        tuple(
            Announcement(prefix=PREFIX, as_path=(asn,) * (1 + more), next_hop_asn=asn, seed_asn=asn)
            for asn, more in origins
        )
    )
    engine.setup(scenario)  # type: ignore[arg-type] # it asks for no more
    began_s = perf_counter()
    engine.run(0, scenario)  # type: ignore[arg-type]
    took_s = perf_counter() - began_s
    found = []
    for each in engine.as_graph:
        route = each.policy.local_rib.get(PREFIX)
        if route is not None:
            path = route.as_path
            found.append([each.asn, path[-1], len(path), route.next_hop_asn, NAMES[route.recv_relationship]])
    return took_s, found


def main() -> None:
    """Do the job."""
    with open(sys.argv[1]) as file:
        job = json.load(file)
    began_s = perf_counter()
    engine = SimulationEngine(graph(job["links"]))
    build_s = perf_counter() - began_s
    plans = [propagated(engine, origins) for origins in job["plans"]]
    print(json.dumps({"build_s": build_s, "plans": plans}))


if __name__ == "__main__":
    main()
