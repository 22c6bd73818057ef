"""Where a client is: the network's own eyeball prefixes, else what a database says, else the PoP's own place.

Pure. Gives `request.cf` as Cloudflare names its fields (colo, country, continent, city, asn, …).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from atoll.config.spec import EyeballSpec, PopSpec, Snapshot


class Geo(msgspec.Struct, frozen=True):
    """A client's place, with the parts of `request.cf` that depend on nothing else."""

    city: str
    country: str
    continent: str
    cf: dict[str, str | int]


class Found(NamedTuple):
    """What a database knows of an address; "", 0 and None for what it does not."""

    country: str = ""
    continent: str = ""
    city: str = ""
    asn: int = 0
    lat: float | None = None
    lon: float | None = None


class GeoTable:
    """Addresses of the lab's eyeballs, then what `find` knows; without it all others are beside the PoP."""

    def __init__(self, snapshot: Snapshot, find: Callable[[str], Found | None] | None = None) -> None:
        self._pop = snapshot.pop
        self._find = find
        self._by_address: dict[str, EyeballSpec] = {}
        for eyeball in snapshot.network.eyeballs:
            self._by_address[eyeball.address4] = eyeball
            self._by_address[eyeball.address6] = eyeball

    def lookup(self, address: str) -> Geo:
        """The place of `address`."""
        if self._find is not None and address not in self._by_address:
            return self._found(self._find(address) or Found())
        place: EyeballSpec | PopSpec = self._by_address.get(address, self._pop)
        label = place.label if isinstance(place, EyeballSpec) else ""
        cf: dict[str, str | int] = {
            "colo": self._pop.code.upper(),
            "country": place.country,
            "continent": place.continent,
            "city": label or place.city.replace("-", " ").title(),
            "asn": place.asn,
            "latitude": f"{place.lat:.4f}",
            "longitude": f"{place.lon:.4f}",
        }
        return Geo(place.city, place.country, place.continent, cf)

    def _found(self, found: Found) -> Geo:
        """A place in the real world: what is not known is left out, so that no list is misled."""
        cf: dict[str, str | int] = {"colo": self._pop.code.upper()}
        known: dict[str, str | int] = {
            "country": found.country,
            "continent": found.continent,
            "city": found.city,
            "asn": found.asn,
        }
        cf.update({name: value for name, value in known.items() if value})
        if found.lat is not None and found.lon is not None:
            cf["latitude"], cf["longitude"] = f"{found.lat:.4f}", f"{found.lon:.4f}"
        return Geo(found.city.lower().replace(" ", "-"), found.country, found.continent, cf)


def cf_blob(geo: Geo, protocol: str, tls_version: str) -> bytes:
    """`request.cf` as JSON."""
    return msgspec.json.encode({**geo.cf, "httpProtocol": protocol, "tlsVersion": tls_version})
