"""Where the databases are that tell a client's country and network from its address."""

from __future__ import annotations

import msgspec


class GeoDatabaseSpec(msgspec.Struct, frozen=True, kw_only=True):
    """MaxMind DB files on each PoP's machine; "" for one that is not there. One file may be both."""

    country: str = ""  # path of a database of countries or cities
    asn: str = ""  # path of a database of autonomous systems
    reload_s: float = 60.0  # how often to look whether a file has changed
