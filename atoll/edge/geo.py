"""Where a client is: the network's own eyeball prefixes, else the PoP's own place.

Pure. Gives `request.cf` as Cloudflare names its fields (colo, country, continent, city, asn, …).
"""

from __future__ import annotations

import msgspec

from atoll.config.spec import EyeballSpec, PopSpec, Snapshot


class Geo(msgspec.Struct, frozen=True):
    """A client's place, with the parts of `request.cf` that depend on nothing else."""

    city: str
    country: str
    continent: str
    cf: dict[str, str | int]


class GeoTable:
    """Addresses of the lab's eyeballs; anything else is taken to be beside the PoP."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._pop = snapshot.pop
        self._by_address: dict[str, EyeballSpec] = {}
        for eyeball in snapshot.network.eyeballs:
            self._by_address[eyeball.address4] = eyeball
            self._by_address[eyeball.address6] = eyeball

    def lookup(self, address: str) -> Geo:
        """The place of `address`."""
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


def cf_blob(geo: Geo, protocol: str, tls_version: str) -> bytes:
    """`request.cf` as JSON."""
    return msgspec.json.encode({**geo.cf, "httpProtocol": protocol, "tlsVersion": tls_version})
