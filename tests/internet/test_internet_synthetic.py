"""The made-up Internet: the same for a seed, and shaped like the real one."""

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from atoll.errors import AtollError
from atoll.internet.csr import CsrGraph
from atoll.internet.propagate import RELATIONS, Origin, propagate
from atoll.internet.synthetic import MAX_ASES, Shape, synthetic

pytestmark = pytest.mark.timeout(120)  # numba's first call compiles


@pytest.fixture(scope="module")
def internet() -> CsrGraph:
    return synthetic(1)


def degrees(graph: CsrGraph) -> NDArray[np.int32]:
    kinds = (graph.providers, graph.customers, graph.peers)
    found: NDArray[np.int32] = np.diff(np.sum([kind.start for kind in kinds], axis=0))
    return found


def links(graph: CsrGraph) -> list[bytes]:
    return [graph.asns.tobytes(), graph.providers.nodes.tobytes(), graph.peers.nodes.tobytes()]


def test_a_seed_is_a_graph() -> None:
    shape = Shape(ases=2000)
    assert links(synthetic(7, shape)) == links(synthetic(7, shape))
    assert links(synthetic(7, shape)) != links(synthetic(8, shape))


def test_sizes_and_shares_are_the_internets(internet: CsrGraph) -> None:
    assert internet.size == 78_000
    assert internet.links == pytest.approx(508_000, rel=0.03)
    assert internet.peer_links / internet.links == pytest.approx(0.70, abs=0.02)
    assert (np.diff(internet.customers.start) == 0).mean() == pytest.approx(0.85, abs=0.01)


def test_degrees_follow_a_power_law(internet: CsrGraph) -> None:
    found = degrees(internet)
    tail = found[found >= 10]
    hill = 1 + len(tail) / np.log(tail / 9.5).sum()  # the exponent's maximum likelihood
    assert 2.0 < hill < 2.8
    assert 5000 < found.max() < 15_000
    assert np.median(found) < 10


def test_a_tenth_chooses_a_peers_route(internet: CsrGraph) -> None:
    rng = random.Random(5)
    asns = internet.asns.tolist()
    plan = [[Origin(asn) for asn in rng.sample(asns, 3)] for _ in range(20)]
    routes = propagate(internet, plan)
    assert (routes.origin >= 0).all()  # everybody reaches everybody
    assert 0.06 < (routes.relation == RELATIONS.index("peer")).mean() < 0.15
    assert 3 < routes.length.mean() - 1 < 5  # links, as measured on the Internet


@pytest.mark.parametrize("ases", [100, 1000, 20_000])
def test_other_sizes_keep_the_shares(ases: int) -> None:
    graph = synthetic(3, Shape(ases=ases))
    assert graph.size == ases
    assert graph.links / ases == pytest.approx(6.5, rel=0.1)
    assert graph.peer_links / graph.links == pytest.approx(0.70, abs=0.06)
    assert (np.diff(graph.customers.start) == 0).mean() == pytest.approx(0.85, abs=0.03)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(ases=99),
        Shape(ases=MAX_ASES + 1),
        Shape(stubs=1.0),
        Shape(peering=-0.1),
        Shape(links=1.0),
        Shape(links=21),
    ],
)
def test_shapes_that_cannot_be(shape: Shape) -> None:
    with pytest.raises(AtollError):
        synthetic(1, shape)
