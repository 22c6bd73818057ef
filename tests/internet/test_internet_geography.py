"""Distances against published ones, round trips against the three stated rules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.errors import AtollError
from atoll.internet.geography import (
    CITIES,
    HANDOVER_MS,
    city,
    city_distance_km,
    fibre_rtt_ms,
    great_circle_km,
    nearest,
    path_rtt_ms,
)

NETWORK_CITIES = {
    *("new-york", "san-francisco", "london", "frankfurt", "paris", "sao-paulo", "johannesburg", "mumbai"),
    *("singapore", "tokyo", "seoul", "sydney", "toronto", "dubai", "san-jose", "ashburn"),
}
names = st.sampled_from(sorted(CITIES))


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        ("new-york", "london", 5570),
        ("london", "tokyo", 9559),
        ("singapore", "sydney", 6307),
        ("new-york", "sao-paulo", 7685),
        ("frankfurt", "paris", 478),
        ("san-francisco", "tokyo", 8270),
    ],
)
def test_distances_are_the_known_ones(one: str, other: str, km: float) -> None:
    assert city_distance_km(one, other) == pytest.approx(km, rel=0.005)


def test_antipodes_are_half_the_equator_away() -> None:
    assert great_circle_km(0, 0, 0, 180) == pytest.approx(math.pi * 6371.0)
    assert great_circle_km(90, 0, -90, 77) == pytest.approx(math.pi * 6371.0)


def test_every_city_of_the_network_is_on_the_map() -> None:
    assert set(CITIES) >= NETWORK_CITIES
    assert all(key == place.key for key, place in CITIES.items())
    assert all(-90 < place.lat < 90 and -180 < place.lon < 180 for place in CITIES.values())
    assert {place.continent for place in CITIES.values()} == {"NA", "SA", "EU", "AF", "AS", "OC"}


def test_an_unknown_city_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AtollError, match="unknown city 'atlantis'") as caught:
        city("atlantis")
    assert "tokyo" in caught.value.hint


def test_light_needs_a_hundredth_of_a_second_for_a_thousand_kilometres_and_back() -> None:
    assert fibre_rtt_ms(1000) == pytest.approx(10 * 1.4)


def test_equally_near_cities_give_the_first() -> None:
    assert nearest("london", ("paris", "london", "london")) == "london"
    assert nearest("seoul", ("new-york", "osaka", "london")) == "osaka"
    assert nearest("paris", ("tokyo",)) == "tokyo"


def test_a_packet_enters_each_network_where_that_is_nearest() -> None:
    """From Sydney by a network in Tokyo and London to Ashburn: Tokyo, though London is nearer to the end."""
    there = city_distance_km("sydney", "tokyo") + city_distance_km("tokyo", "ashburn")
    measured = path_rtt_ms("sydney", [("london", "tokyo"), ("ashburn",)])
    assert measured == pytest.approx(fibre_rtt_ms(there) + 2 * HANDOVER_MS)


def test_a_packet_that_does_not_leave_its_city_pays_the_hand_overs_only() -> None:
    assert path_rtt_ms("tokyo", [("osaka", "tokyo"), ("tokyo",), ("tokyo",)]) == pytest.approx(
        3 * HANDOVER_MS
    )
    assert path_rtt_ms("tokyo", []) == 0


@given(names, names, names)
def test_distance_is_a_metric(one: str, two: str, three: str) -> None:
    assert city_distance_km(one, one) == 0
    assert city_distance_km(one, two) == pytest.approx(city_distance_km(two, one))
    assert city_distance_km(one, three) <= city_distance_km(one, two) + city_distance_km(two, three) + 1e-6


@given(names, st.lists(st.lists(names, min_size=1, max_size=4), min_size=1, max_size=5))
def test_no_path_is_faster_than_the_straight_line_to_its_end(start: str, presences: list[list[str]]) -> None:
    end = min(city_distance_km(start, last) for last in presences[-1])
    assert path_rtt_ms(start, presences) >= fibre_rtt_ms(end)
