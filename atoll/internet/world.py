"""The default world: a small synthetic Internet that five PoPs and fourteen cities of users share.

Names and numbers of networks are borrowed from the real Internet so that paths read well; the links are a
plausible drawing, not a claim about those networks' contracts. Nothing here says which city goes where:
that follows from these links by the rules of `atoll.internet.routing`. What the drawing keeps of the real
one: tier-1 networks all peer, regional networks buy from two of them or so, users' networks buy from one to
three, and PoPs buy transit where they are and peer at an exchange.

PoPs' upstreams: `iad` Verizon, Level 3, Cogent; `lhr` BT, Telia, LINX; `nrt` NTT's domestic network (itself
the customer of its global one), KDDI, JPIX; `sjc` AT&T, Zayo, Hurricane Electric, an exchange; `sin` Singtel,
Tata, PCCW, an exchange. Users' addresses are lab space: 198.18.0.0/15 (RFC 2544) and 2001:db8::/32
(RFC 3849).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

import msgspec

from atoll.config.spec import EyeballSpec
from atoll.internet.geography import CITIES
from atoll.internet.graph import Graph, GraphBuilder
from atoll.internet.routing import Announcement

_NORTH_AMERICA: Final = (
    "ashburn", "new-york", "chicago", "dallas", "atlanta", "miami", "los-angeles", "san-jose", "seattle",
)  # fmt: skip
_EUROPE: Final = ("london", "amsterdam", "frankfurt", "paris", "madrid", "milan", "stockholm", "marseille")
_ASIA: Final = ("tokyo", "osaka", "hong-kong", "singapore")

POP_ASNS: Final[Mapping[str, int]] = {"sjc": 64515, "iad": 64512, "lhr": 64513, "sin": 64516, "nrt": 64514}
POP_CITIES: Final[Mapping[str, str]] = {
    "sjc": "san-jose",
    "iad": "ashburn",
    "lhr": "london",
    "sin": "singapore",
    "nrt": "tokyo",
}

_Row = tuple[int, str, str, tuple[str, ...], tuple[int, ...]]  # asn, name, home, presence, providers

_TIER_1: Final[tuple[_Row, ...]] = (
    (174, "Cogent", "ashburn", (*_NORTH_AMERICA, "toronto", *_EUROPE, "tokyo", "singapore"), ()),
    (701, "Verizon", "ashburn", (*_NORTH_AMERICA, "toronto", "london", "frankfurt"), ()),
    (1299, "Telia", "stockholm", (*_EUROPE, "ashburn", "new-york", "chicago", "los-angeles"), ()),
    (2914, "NTT Global", "tokyo", (*_ASIA, *_NORTH_AMERICA, "london", "frankfurt", "sydney"), ()),
    (3257, "GTT", "frankfurt", (*_EUROPE, "ashburn", "new-york", "san-jose", "hong-kong"), ()),
    (3356, "Level 3", "dallas", (*_NORTH_AMERICA, "toronto", *_EUROPE, "sao-paulo", "tokyo"), ()),
    (3491, "PCCW Global", "hong-kong", (*_ASIA, "seoul", "sydney", "los-angeles", "london"), ()),
    (5511, "Orange International", "paris", (*_EUROPE, "ashburn", "new-york", "singapore"), ()),
    (6453, "Tata", "mumbai", ("chennai", *_ASIA, *_EUROPE, "ashburn", "san-jose", "dubai"), ()),
    (6461, "Zayo", "dallas", (*_NORTH_AMERICA, "toronto", "london", "paris", "frankfurt"), ()),
    (6762, "Sparkle", "milan", (*_EUROPE, "ashburn", "miami", "sao-paulo", "singapore", "dubai"), ()),
    (7018, "AT&T", "dallas", _NORTH_AMERICA, ()),
)

_REGIONAL: Final[tuple[_Row, ...]] = (
    (577, "Bell Canada", "toronto", ("montreal", "new-york", "chicago"), (701, 3356)),
    (1221, "Telstra", "sydney", ("perth",), (4637,)),
    (1273, "Vodafone Carrier", "london", ("frankfurt", "amsterdam", "paris", "marseille"), (1299, 3356)),
    (2497, "IIJ", "tokyo", ("osaka", "san-jose"), (2914, 3491)),
    (2516, "KDDI", "tokyo", ("osaka", "los-angeles", "singapore"), (2914, 6453)),
    (2856, "BT", "london", ("amsterdam",), (1299, 3257)),
    (3320, "Deutsche Telekom", "frankfurt", ("london", "paris", "amsterdam", "ashburn"), (1299, 3356)),
    (3741, "Internet Solutions", "johannesburg", ("cape-town", "london"), (1299, 6453)),
    (3786, "LG Uplus", "seoul", ("tokyo",), (2914, 3491)),
    (4230, "Embratel", "sao-paulo", ("fortaleza", "miami"), (701, 3356)),
    (4637, "Telstra Global", "hong-kong", ("sydney", "tokyo", "singapore", "los-angeles"), (2914, 3491)),
    (4713, "NTT OCN", "tokyo", ("osaka",), (2914,)),
    (4755, "Tata India", "mumbai", ("chennai",), (6453,)),
    (4766, "Korea Telecom", "seoul", ("tokyo", "los-angeles"), (2914, 3491)),
    (4826, "Vocus", "sydney", ("perth", "los-angeles", "singapore"), (2914, 6461)),
    (6830, "Liberty Global", "amsterdam", ("london", "frankfurt", "paris"), (1299, 3257)),
    (6939, "Hurricane Electric", "san-jose", ("seattle", "chicago", "ashburn"), (6461, 7018)),
    (7473, "Singtel", "singapore", ("hong-kong", "tokyo", "sydney", "los-angeles"), (2914, 6461)),
    (8220, "Colt", "london", ("frankfurt", "paris", "amsterdam", "madrid"), (1299, 3356)),
    (8966, "Etisalat", "dubai", ("london", "frankfurt", "singapore", "marseille"), (6453, 6762)),
    (9498, "Bharti Airtel", "mumbai", ("chennai", "singapore", "marseille"), (1299, 6453)),
    (12956, "Telxius", "madrid", ("miami", "ashburn", "sao-paulo", "fortaleza"), (3356, 6762)),
    (16637, "MTN", "johannesburg", ("cape-town", "nairobi", "london"), (1299, 6453)),
    (17676, "SoftBank", "tokyo", ("osaka", "los-angeles"), (2914, 3257)),
    (37100, "SEACOM", "johannesburg", ("cape-town", "nairobi", "marseille", "london"), (1299, 6453)),
)

# The networks that `<city>.localhost` stands for; their order fixes the users' lab addresses
_EYEBALLS: Final[tuple[_Row, ...]] = (
    (6128, "Optimum", "new-york", (), (701, 3356)),
    (46375, "Sonic", "san-francisco", ("san-jose",), (174, 6461)),
    (5089, "Virgin Media", "london", (), (6830,)),
    (3209, "Vodafone Germany", "frankfurt", (), (1273, 1299)),
    (12322, "Free", "paris", (), (1299, 5511)),
    (27699, "Vivo", "sao-paulo", (), (4230, 12956)),
    (37611, "Afrihost", "johannesburg", (), (3741, 37100)),
    (17488, "Hathway", "mumbai", (), (4755, 9498)),
    (4657, "StarHub", "singapore", (), (2914, 7473)),
    (2527, "So-net", "tokyo", (), (2516, 4713)),
    (9318, "SK Broadband", "seoul", (), (3786, 4766)),
    (7545, "TPG", "sydney", (), (4826, 7473)),
    (5645, "TekSavvy", "toronto", (), (174, 577)),
    (5384, "Emirates Internet", "dubai", (), (8966,)),
)

_OTHER_EYEBALLS: Final[tuple[_Row, ...]] = (
    (7922, "Comcast", "chicago", (), (174, 3356, 7018)),
    (22773, "Cox", "atlanta", (), (701, 7018)),
    (5607, "Sky UK", "london", (), (2856, 3257)),
    (3303, "Swisscom", "milan", (), (3320, 6762)),
    (45609, "Airtel Mobile", "mumbai", (), (9498,)),
    (7522, "Biglobe Mobile", "osaka", (), (2497, 17676)),
    (9443, "Vocus Retail", "perth", (), (4826,)),
    (36874, "Cybersmart", "cape-town", (), (16637, 37100)),
)

_POP_PROVIDERS: Final[Mapping[str, tuple[int, ...]]] = {
    "iad": (174, 701, 3356),
    "lhr": (1299, 2856),
    "nrt": (2516, 4713),
    "sjc": (6461, 6939, 7018),
    "sin": (3491, 6453, 7473),
}

# name, city, members
_EXCHANGES: Final[tuple[tuple[str, str, tuple[int, ...]], ...]] = (
    ("LINX", "london", (64513, 1273, 2856, 3320, 5089, 5511, 5607, 6830, 8220, 8966, 16637, 37100)),
    ("JPIX", "tokyo", (64514, 2497, 2516, 2527, 3786, 4637, 4766, 17676)),
    ("Equinix San Jose", "san-jose", (64515, 2497, 6939, 46375)),
    ("Equinix Ashburn", "ashburn", (64512, 3320, 6939, 12956)),
    ("SGIX", "singapore", (64516, 4657, 4826, 8966, 9498)),
)


class World(msgspec.Struct, frozen=True):
    """A graph with its users and PoPs."""

    graph: Graph
    eyeballs: tuple[EyeballSpec, ...]  # in the order of the table; one for each city of users
    pops: Mapping[str, int]  # code -> ASN

    def announcements(self, *codes: str) -> tuple[Announcement, ...]:
        """Plain announcements of the PoPs `codes`, of all when none is given."""
        return tuple(Announcement(self.pops[code]) for code in codes or self.pops)


@cache
def default_world() -> World:
    """The world of the laptop network (built once: it is a constant)."""
    eyeballs = tuple(_eyeball(index, row[2], row[0]) for index, row in enumerate(_EYEBALLS, start=1))
    return World(graph=_graph(), eyeballs=eyeballs, pops=POP_ASNS)


def _graph() -> Graph:
    builder = GraphBuilder()
    for asn, name, home, presence, _ in _TIER_1:
        builder.add(asn, name, "transit", home, presence)
    for asn, name, home, presence, _ in _REGIONAL:
        builder.add(asn, name, "regional", home, presence)
    for asn, name, home, presence, _ in (*_EYEBALLS, *_OTHER_EYEBALLS):
        builder.add(asn, name, "eyeball", home, presence)
    for code, asn in POP_ASNS.items():
        builder.add(asn, code, "pop", POP_CITIES[code])
    builder.mesh(asn for asn, *_ in _TIER_1)
    for asn, _, _, _, providers in (*_REGIONAL, *_EYEBALLS, *_OTHER_EYEBALLS):
        builder.buys_from(asn, *providers)
    for code, providers in _POP_PROVIDERS.items():
        builder.buys_from(POP_ASNS[code], *providers)
    for name, city, members in _EXCHANGES:
        builder.exchange(name, city, members)
    return builder.build()


def _eyeball(index: int, city: str, asn: int) -> EyeballSpec:
    place = CITIES[city]
    return EyeballSpec(
        city=city,
        asn=asn,
        country=place.country,
        continent=place.continent,
        lat=place.lat,
        lon=place.lon,
        address4=f"198.18.{index}.10",
        address6=f"2001:db8:c17:{index:x}::10",
        label=place.label,
    )
