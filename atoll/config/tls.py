"""How a site wants to be spoken to over TLS. A value in its `SiteSpec`."""

from __future__ import annotations

from typing import Literal

import msgspec

MinimumVersion = Literal["1.2", "1.3"]
ClientCertificates = Literal["off", "request", "require"]


class TlsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A site's wishes for the connections on which it is asked.

    `client_ca` is a PEM file on each PoP with the authorities whose clients are believed. A site that asks
    for certificates is served on connections opened to its own name only, and not over HTTP/3.
    """

    minimum: MinimumVersion = "1.2"
    clients: ClientCertificates = "off"
    client_ca: str = ""  # needed unless `clients` is "off"
    redirect_port: int = 0  # plain HTTP is answered with a 308 to https on this port; 0: it is served
    http3: bool = True  # tell clients of HTTP/3 where the PoP has it

    @property
    def usual(self) -> bool:
        """Whether a connection may be used for any other site as well."""
        return self.minimum == "1.2" and self.clients == "off" and self.http3


USUAL = TlsSpec()
