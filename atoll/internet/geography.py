"""Places, distances and what light needs between them.

Round trips along an AS path follow three stated rules:

1. **Hot potato.** A packet moves from the city where it is to the presence city of the path's next AS that
   is nearest to it: every network hands a packet over as early as it can. The first AS is left from the
   user's own city, a PoP's AS has one city, so the last leg ends at the PoP. Equal distances: the city
   named first in the AS's list.
2. **Fibre.** Light in glass covers 200 km per millisecond; cables are `PATH_INFLATION` times longer than the
   great circle they follow (landing points, ducts along roads and railways).
3. **Hand-over.** Each hand-over between two ASes costs `HANDOVER_MS` per round trip for routers and queues.

The way back is taken to be the way there. Pure values: nothing here reads a clock or a socket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from atoll.errors import AtollError

EARTH_RADIUS_KM: Final = 6371.0  # the mean radius; the ellipsoid differs by 0.3 %
FIBRE_KM_PER_MS: Final = 200.0  # 2/3 of the speed of light
PATH_INFLATION: Final = 1.4
HANDOVER_MS: Final = 0.5


class City(msgspec.Struct, frozen=True):
    """A place on the map. `key` is what names and specs call it, `label` what people read."""

    key: str
    label: str
    country: str  # ISO 3166 alpha-2
    continent: str  # NA, SA, EU, AF, AS, OC
    lat: float
    lon: float


_TABLE: Final = (
    City("amsterdam", "Amsterdam", "NL", "EU", 52.3676, 4.9041),
    City("ashburn", "Ashburn", "US", "NA", 39.0438, -77.4874),
    City("atlanta", "Atlanta", "US", "NA", 33.7490, -84.3880),
    City("cape-town", "Cape Town", "ZA", "AF", -33.9249, 18.4241),
    City("chennai", "Chennai", "IN", "AS", 13.0827, 80.2707),
    City("chicago", "Chicago", "US", "NA", 41.8781, -87.6298),
    City("dallas", "Dallas", "US", "NA", 32.7767, -96.7970),
    City("dubai", "Dubai", "AE", "AS", 25.2048, 55.2708),
    City("fortaleza", "Fortaleza", "BR", "SA", -3.7319, -38.5267),
    City("frankfurt", "Frankfurt", "DE", "EU", 50.1109, 8.6821),
    City("hong-kong", "Hong Kong", "HK", "AS", 22.3193, 114.1694),
    City("johannesburg", "Johannesburg", "ZA", "AF", -26.2041, 28.0473),
    City("london", "London", "GB", "EU", 51.5074, -0.1278),
    City("los-angeles", "Los Angeles", "US", "NA", 34.0522, -118.2437),
    City("madrid", "Madrid", "ES", "EU", 40.4168, -3.7038),
    City("marseille", "Marseille", "FR", "EU", 43.2965, 5.3698),
    City("miami", "Miami", "US", "NA", 25.7617, -80.1918),
    City("milan", "Milan", "IT", "EU", 45.4642, 9.1900),
    City("montreal", "Montréal", "CA", "NA", 45.5019, -73.5674),
    City("mumbai", "Mumbai", "IN", "AS", 19.0760, 72.8777),
    City("nairobi", "Nairobi", "KE", "AF", -1.2921, 36.8219),
    City("new-york", "New York", "US", "NA", 40.7128, -74.0060),
    City("osaka", "Osaka", "JP", "AS", 34.6937, 135.5023),
    City("paris", "Paris", "FR", "EU", 48.8566, 2.3522),
    City("perth", "Perth", "AU", "OC", -31.9523, 115.8613),
    City("san-francisco", "San Francisco", "US", "NA", 37.7749, -122.4194),
    City("san-jose", "San Jose", "US", "NA", 37.3382, -121.8863),
    City("sao-paulo", "São Paulo", "BR", "SA", -23.5505, -46.6333),
    City("seattle", "Seattle", "US", "NA", 47.6062, -122.3321),
    City("seoul", "Seoul", "KR", "AS", 37.5665, 126.9780),
    City("singapore", "Singapore", "SG", "AS", 1.3521, 103.8198),
    City("stockholm", "Stockholm", "SE", "EU", 59.3293, 18.0686),
    City("sydney", "Sydney", "AU", "OC", -33.8688, 151.2093),
    City("tokyo", "Tokyo", "JP", "AS", 35.6762, 139.6503),
    City("toronto", "Toronto", "CA", "NA", 43.6532, -79.3832),
)
CITIES: Final[Mapping[str, City]] = {city.key: city for city in _TABLE}


def city(key: str) -> City:
    """The city called `key`.

    Raises:
        AtollError: no such city.
    """
    found = CITIES.get(key)
    if found is None:
        raise AtollError(f"unknown city {key!r}", hint=f"one of {', '.join(sorted(CITIES))}")
    return found


def great_circle_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """The shortest way over the surface, by the haversine formula."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_phi = (phi2 - phi1) / 2
    half_lambda = math.radians(lon2 - lon1) / 2
    chord = math.sin(half_phi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord)))


@lru_cache(maxsize=4096)
def city_distance_km(one: str, other: str) -> float:
    """The great circle between two cities of the table (remembered: 35 cities are 1,225 pairs)."""
    here, there = city(one), city(other)
    return great_circle_km(here.lat, here.lon, there.lat, there.lon)


def fibre_rtt_ms(distance_km: float) -> float:
    """There and back through glass, by rule 2."""
    return 2 * distance_km * PATH_INFLATION / FIBRE_KM_PER_MS


def nearest(origin: str, cities: Sequence[str]) -> str:
    """The one of `cities` that is nearest to `origin`; the first of equals."""
    return min(cities, key=lambda key: city_distance_km(origin, key))


def path_rtt_ms(start: str, presences: Sequence[Sequence[str]]) -> float:
    """The round trip of a packet that starts in the city `start`, in milliseconds.

    Args:
        start: where the user is.
        presences: for each AS after the user's own, in path order, the cities where it is present.
    """
    here, total_km = start, 0.0
    for cities in presences:
        there = nearest(here, cities)
        total_km += city_distance_km(here, there)
        here = there
    return fibre_rtt_ms(total_km) + HANDOVER_MS * len(presences)
