"""The default world: its networks, where its cities go, and what the mission's figure says of New York."""

from ipaddress import ip_address, ip_network
from itertools import combinations

import pytest

from atoll.internet.catchment import catchment, second_choices
from atoll.internet.geography import CITIES
from atoll.internet.routing import propagate
from atoll.internet.world import POP_ASNS, POP_CITIES, World, default_world

CITY_KEYS = (
    *("new-york", "san-francisco", "london", "frankfurt", "paris", "sao-paulo", "johannesburg", "mumbai"),
    *("singapore", "tokyo", "seoul", "sydney", "toronto", "dubai"),
)


@pytest.fixture(scope="module")
def world() -> World:
    return default_world()


def pops_of(world: World, *codes: str) -> dict[str, str]:
    return {row.city: row.pop for row in catchment(world.graph, world.announcements(*codes), world.eyeballs)}


def names_around(world: World, asn: int) -> set[str]:
    """Names of upstreams, and of exchanges, of an AS."""
    providers = {world.graph.ases[provider].name for provider in world.graph.providers[asn]}
    return providers | {link.exchange for link in world.graph.links if asn in (link.a, link.b)} - {""}


def test_it_has_sixty_to_seventy_networks_of_every_kind(world: World) -> None:
    kinds = [each.kind for each in world.graph.ases.values()]
    assert 60 <= len(kinds) <= 70
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "transit": 12,
        "regional": 25,
        "eyeball": 22,
        "pop": 5,
    }


def test_tier_1_networks_buy_from_nobody_and_peer_with_each_other(world: World) -> None:
    tier1 = {asn for asn, each in world.graph.ases.items() if each.kind == "transit"}
    assert tier1 >= {701, 3356, 174, 1299, 2914}
    for asn in tier1:
        assert world.graph.providers[asn] == ()
        assert set(world.graph.peers[asn]) >= tier1 - {asn}


def test_users_and_pops_carry_nobodys_traffic(world: World) -> None:
    for asn, each in world.graph.ases.items():
        if each.kind in ("eyeball", "pop"):
            assert world.graph.customers[asn] == ()
            assert len(world.graph.providers[asn]) >= 1


@pytest.mark.parametrize(
    ("asn", "upstreams"),
    [
        (64512, {"Verizon", "Level 3", "Cogent", "Equinix Ashburn"}),
        (64513, {"BT", "Telia", "LINX"}),
        (64514, {"NTT OCN", "KDDI", "JPIX"}),
        (64515, {"AT&T", "Zayo", "Hurricane Electric", "Equinix San Jose"}),
        (64516, {"Singtel", "Tata", "PCCW Global", "SGIX"}),
    ],
)
def test_pops_are_behind_these(world: World, asn: int, upstreams: set[str]) -> None:
    assert names_around(world, asn) == upstreams


def test_pops_are_named_by_their_codes_and_stand_in_their_cities(world: World) -> None:
    assert world.pops == {"sjc": 64515, "iad": 64512, "lhr": 64513, "sin": 64516, "nrt": 64514}
    for code, asn in world.pops.items():
        assert world.graph.ases[asn].name == code
        assert world.graph.ases[asn].cities == (POP_CITIES[code],)


@pytest.mark.parametrize(
    ("city", "pops"),
    [
        ("new-york", "iad"),
        ("toronto", "iad"),
        ("san-francisco", "sjc"),
        ("london", "lhr"),
        ("frankfurt", "lhr"),
        ("paris", "lhr"),
        ("tokyo", "nrt"),
        ("seoul", "nrt"),
        ("singapore", "sin"),
        ("mumbai", "sin lhr"),
        ("sydney", "sin nrt"),
        ("sao-paulo", "iad"),
        ("johannesburg", "lhr"),
        ("dubai", "lhr sin"),
    ],
)
def test_with_all_pops_up_each_city_goes_to_a_near_one(world: World, city: str, pops: str) -> None:
    assert pops_of(world)[city] in pops.split()


def test_each_pop_has_users(world: World) -> None:
    assert set(pops_of(world).values()) == set(POP_ASNS)


def test_from_new_york_virginia_is_nearest_then_london_then_tokyo(world: World) -> None:
    hops = {
        code: len(propagate(world.graph, world.announcements(code))[6128].as_path) - 1
        for code in ("iad", "lhr", "nrt")
    }
    assert hops == {"iad": 2, "lhr": 3, "nrt": 4}
    row = catchment(world.graph, world.announcements(), world.eyeballs)[0]
    assert (row.city, row.as_path) == ("new-york", (6128, 701, 64512))  # by Verizon


def test_without_virginia_new_york_goes_to_london(world: World) -> None:
    assert pops_of(world, "lhr", "nrt")["new-york"] == "lhr"
    assert pops_of(world, "sjc", "lhr", "sin", "nrt")["new-york"] == "lhr"


def test_whichever_pops_are_up_every_network_reaches_one_of_them(world: World) -> None:
    for count in range(1, 6):
        for up in combinations(sorted(POP_ASNS), count):
            routes = propagate(world.graph, world.announcements(*up))
            assert set(routes) == set(world.graph.ases)
            assert {route.origin for route in routes.values()} == {POP_ASNS[code] for code in up}


def test_every_city_has_a_second_choice(world: World) -> None:
    first = pops_of(world)
    for row in second_choices(world.graph, world.announcements(), world.eyeballs):
        assert row.pop in set(POP_ASNS) - {first[row.city]}


def test_round_trips_are_those_of_a_continent(world: World) -> None:
    rtt = {row.city: row.rtt_ms for row in catchment(world.graph, world.announcements(), world.eyeballs)}
    assert max(rtt[city] for city in ("london", "tokyo", "singapore")) < 1
    assert 4 < rtt["new-york"] < 20
    assert 70 < rtt["sydney"] < 180
    assert 100 < rtt["johannesburg"] < 180


def test_users_live_in_fourteen_cities_at_home_in_their_networks(world: World) -> None:
    assert {each.city for each in world.eyeballs} == set(CITY_KEYS)
    assert len(world.eyeballs) == 14
    for each in world.eyeballs:
        place = CITIES[each.city]
        network = world.graph.ases[each.asn]
        assert (network.kind, network.city) == ("eyeball", each.city)
        assert (each.country, each.continent, each.label) == (place.country, place.continent, place.label)
        assert (each.lat, each.lon) == (place.lat, place.lon)


def test_users_addresses_are_lab_space_and_differ(world: World) -> None:
    fours = {ip_address(each.address4) for each in world.eyeballs}
    sixes = {ip_address(each.address6) for each in world.eyeballs}
    assert len(fours) == len(sixes) == 14
    assert all(address in ip_network("198.18.0.0/15") for address in fours)
    assert all(address in ip_network("2001:db8:c17::/48") for address in sixes)
    assert len({ip_network(f"{address}/64", strict=False) for address in sixes}) == 14
    assert (world.eyeballs[9].address4, world.eyeballs[9].address6) == (
        "198.18.10.10",
        "2001:db8:c17:a::10",
    )


def test_announcements_are_of_the_pops_asked_for(world: World) -> None:
    assert [each.asn for each in world.announcements("nrt", "iad")] == [64514, 64512]
    assert {each.asn for each in world.announcements()} == set(POP_ASNS.values())
