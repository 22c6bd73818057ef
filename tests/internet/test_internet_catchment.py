"""Catchments on a small graph: rows, what-ifs, second choices and differences."""

from itertools import pairwise

import pytest

from atoll.config.spec import EyeballSpec
from atoll.errors import AtollError
from atoll.internet.catchment import Shift, catchment, diff, pop_code, route_rtt_ms, second_choices
from atoll.internet.geography import HANDOVER_MS, city_distance_km, fibre_rtt_ms
from atoll.internet.graph import Graph, GraphBuilder
from atoll.internet.routing import Announcement, propagate
from atoll.wire.messages import CatchmentRow


def net() -> Graph:
    """Two transits that peer, a PoP behind each, a user of each, and a user of nobody."""
    return (
        GraphBuilder()
        .add(10, "west transit", "transit", "new-york", ("london",))
        .add(20, "east transit", "transit", "london")
        .add(64512, "iad", "pop", "ashburn")
        .add(64513, "lhr", "pop", "london")
        .add(1, "users west", "eyeball", "new-york")
        .add(2, "users east", "eyeball", "paris")
        .add(3, "users of nobody", "eyeball", "sydney")
        .peer(10, 20)
        .buys_from(64512, 10)
        .buys_from(64513, 20)
        .buys_from(1, 10)
        .buys_from(2, 20)
        .build()
    )


def eyeball(city: str, asn: int) -> EyeballSpec:
    return EyeballSpec(
        city=city, asn=asn, country="", continent="", lat=0, lon=0, address4="198.18.1.10", address6="::1"
    )


USERS = (eyeball("paris", 2), eyeball("new-york", 1), eyeball("sydney", 3))
BOTH = (Announcement(64512), Announcement(64513))


def row(city: str, asn: int, pop: str, path: tuple[int, ...], rtt_ms: float) -> CatchmentRow:
    return CatchmentRow(city=city, asn=asn, pop=pop, as_path=path, rtt_ms=round(rtt_ms, 3))


def fibre(*cities: str) -> float:
    return sum(fibre_rtt_ms(city_distance_km(a, b)) + HANDOVER_MS for a, b in pairwise(cities))


PARIS = row("paris", 2, "lhr", (2, 20, 64513), fibre("paris", "london", "london"))
NEW_YORK = row("new-york", 1, "iad", (1, 10, 64512), fibre("new-york", "new-york", "ashburn"))
SYDNEY = row("sydney", 3, "", (), 0)
NEW_YORK_BY_LONDON = row(
    "new-york", 1, "lhr", (1, 10, 20, 64513), fibre("new-york", "new-york", "london", "london")
)
PARIS_BY_ASHBURN = row("paris", 2, "iad", (2, 20, 10, 64512), fibre("paris", "london", "london", "ashburn"))


def test_each_city_goes_where_its_network_chose() -> None:
    assert catchment(net(), BOTH, USERS) == (PARIS, NEW_YORK, SYDNEY)


def test_prepended_copies_show_in_the_path_and_cost_no_time() -> None:
    longer = catchment(net(), (Announcement(64512, 2),), USERS)[1]
    assert longer.as_path == (1, 10, 64512, 64512, 64512)
    assert longer.rtt_ms == NEW_YORK.rtt_ms


def test_without_a_pop_its_users_go_to_another() -> None:
    assert catchment(net(), BOTH, USERS, without=("iad",)) == (PARIS, NEW_YORK_BY_LONDON, SYDNEY)
    assert catchment(net(), BOTH, USERS, without=("lhr", "nosuch")) == (PARIS_BY_ASHBURN, NEW_YORK, SYDNEY)
    lost = catchment(net(), BOTH, USERS, without=("lhr", "iad"))
    assert [(each.pop, each.as_path, each.rtt_ms) for each in lost] == [("", (), 0.0)] * 3


def test_second_choice_is_where_one_goes_when_the_own_pop_is_lost() -> None:
    assert second_choices(net(), iter(BOTH), USERS) == (PARIS_BY_ASHBURN, NEW_YORK_BY_LONDON, SYDNEY)
    alone = second_choices(net(), (Announcement(64513),), USERS)
    assert [each.pop for each in alone] == ["", "", ""]


def test_a_route_from_elsewhere_starts_elsewhere() -> None:
    graph = net()
    route = propagate(graph, BOTH)[1]
    assert route_rtt_ms(graph, route, "new-york") == pytest.approx(fibre("new-york", "new-york", "ashburn"))
    assert route_rtt_ms(graph, route, "paris") == pytest.approx(fibre("paris", "london", "ashburn"))


@pytest.mark.parametrize(("asn", "code"), [(64512, "iad"), (10, ""), (1, ""), (99, "")])
def test_only_pops_have_codes(asn: int, code: str) -> None:
    assert pop_code(net(), asn) == code


def test_an_origin_that_is_no_pop_counts_as_none() -> None:
    rows = catchment(net(), (Announcement(10),), USERS)
    assert [(each.pop, each.as_path) for each in rows] == [("", (2, 20, 10)), ("", (1, 10)), ("", ())]


def test_an_eyeball_outside_the_graph_is_refused() -> None:
    with pytest.raises(AtollError) as caught:
        catchment(net(), BOTH, (eyeball("tokyo", 77),))
    assert str(caught.value) == "tokyo: AS77 is not in the graph (add the eyeball's network)"


def test_diff_names_the_cities_that_moved() -> None:
    moved = diff((PARIS, NEW_YORK, SYDNEY), (PARIS, NEW_YORK_BY_LONDON, SYDNEY))
    assert moved == (
        Shift(
            city="new-york",
            before="iad",
            after="lhr",
            before_rtt_ms=NEW_YORK.rtt_ms,
            after_rtt_ms=NEW_YORK_BY_LONDON.rtt_ms,
        ),
    )
    assert diff((PARIS, NEW_YORK), (PARIS, NEW_YORK)) == ()


def test_diff_takes_a_missing_city_for_one_without_a_pop() -> None:
    assert diff((PARIS, SYDNEY), (NEW_YORK,)) == (
        Shift(city="new-york", before="", after="iad", before_rtt_ms=0.0, after_rtt_ms=NEW_YORK.rtt_ms),
        Shift(city="paris", before="lhr", after="", before_rtt_ms=PARIS.rtt_ms, after_rtt_ms=0.0),
    )
