"""What is settled before a request reaches the pipeline, by the connection it came on.

- ACME's http-01 challenges (RFC 8555 §8.3) are answered for every host: the authority may come to any PoP.
- A site with `redirect_port` answers plain HTTP with where it is to be found (308 keeps the method).
- A site that asks for client certificates is served on connections opened to its own name, because only their
  handshake was held to its wishes, and one that asks for TLS 1.3 on connections that speak it; others are
  told to open one (421, RFC 9110 §15.5.20). Nothing of it is remembered by bytes: the next request of the
  same bytes may come on a connection that is not good enough.

`h3_port` is where the same sites are to be had over HTTP/3, which responses over TLS then say (RFC 7838).
`Client-Cert` (RFC 9440) is the edge's to set: what a client sends under that name is dropped.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final

from atoll.config.spec import SiteSpec, Snapshot
from atoll.config.tls import USUAL, TlsSpec
from atoll.edge import pages
from atoll.edge.pipeline import Edge, PublicApp
from atoll.edge.routing import Site, Table
from atoll.http.exchange import ConnectionInfo, Exchange
from atoll.http.fields import Headers
from atoll.http.tls import Policies

_CHALLENGE: Final = b"/.well-known/acme-challenge/"
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]{1,128}")
_MAX_ANSWER: Final = 1024  # bytes; a token and a thumbprint take some 130
_ALT_SVC_S: Final = 86_400  # a client that finds nobody there goes back to what it had
_CLIENT_FIELDS: Final = frozenset((b"client-cert", b"client-cert-chain"))


class Door(PublicApp):
    """The `App` of a public listener. `challenges` has a file for each challenge that is to be answered."""

    def __init__(self, edge: Edge, challenges: Path, h3_port: int = 0) -> None:
        super().__init__(edge)
        self._challenges = challenges
        self._alt_svc: Headers = [(b"alt-svc", b'h3=":%d"; ma=%d' % (h3_port, _ALT_SVC_S))] if h3_port else []
        self._looked_at: Snapshot | None = None
        self._particular = False  # whether any site wants what the door sees to

    def opened(self, conn: ConnectionInfo) -> None:
        """See `App.opened`."""
        super().opened(conn)
        if self._alt_svc and conn.scheme == b"https":
            site = self.edge.table.site(conn.server_name.encode()) if conn.server_name else None
            wishes = site.spec.tls if site is not None else USUAL
            if wishes.http3 and wishes.clients == "off":
                conn.announced = self._alt_svc

    def handle(self, exchange: Exchange) -> None:
        """See `App.handle`."""
        try:
            if self._settled(exchange):
                self.edge.again()
                return
        except Exception as error:  # noqa: BLE001 - one request's end
            self.edge.fault(exchange, error)
            return
        super().handle(exchange)

    def _settled(self, exchange: Exchange) -> bool:
        if exchange.target.startswith(_CHALLENGE) and self._answer_challenge(exchange):
            return True
        exchange.headers = [field for field in exchange.headers if field[0] not in _CLIENT_FIELDS]
        if self._looked_at is not self.edge.snapshot:
            self._looked_at = self.edge.snapshot
            self._particular = any(_particular(site) for site in self._looked_at.network.sites)
        if not self._particular:
            return False
        site = self.edge.table.site(exchange.authority)
        return site is not None and _particular(site.spec) and self._meet(exchange, site)

    def _answer_challenge(self, exchange: Exchange) -> bool:
        """Whether there is such a challenge: one that we did not ask for may be an origin's own."""
        token = exchange.target[len(_CHALLENGE) :]
        if exchange.method not in (b"GET", b"HEAD") or not _TOKEN.fullmatch(token):
            return False
        try:
            with (self._challenges / token.decode()).open("rb") as file:
                answer = file.read(_MAX_ANSWER)
        except OSError:
            return False
        fields = [(b"content-type", b"application/octet-stream"), (b"cache-control", b"no-store")]
        self.edge.answer(exchange, 200, fields, answer, b"detail=acme-challenge")
        return True

    def _meet(self, exchange: Exchange, site: Site) -> bool:
        """A site's wishes; whether the request was answered because it does not meet them."""
        wishes, conn = site.spec.tls, exchange.conn
        if conn.scheme != b"https" and wishes.redirect_port:
            self._redirect(exchange, wishes.redirect_port)
            return True
        if wishes.clients == "off" and wishes.minimum == "1.2":
            return False
        exchange.raw = None
        if not self._good_enough(conn, site):
            page = pages.error_page(421, "This site wants a connection of its own.", self.edge.pop)
            self.edge.answer(exchange, 421, pages.HTML, page, b"detail=misdirected")
            return True
        if wishes.clients != "off" and conn.client_certificate is not None:
            encoded = base64.b64encode(conn.client_certificate.der)
            exchange.headers = [*exchange.headers, (b"client-cert", b":" + encoded + b":")]
        return False

    def _good_enough(self, conn: ConnectionInfo, site: Site) -> bool:
        wishes = site.spec.tls
        if wishes.minimum == "1.3" and conn.scheme == b"https" and conn.tls_version != "TLSv1.3":
            return False
        return wishes.clients == "off" or self._opened_for(conn, site)

    def _opened_for(self, conn: ConnectionInfo, site: Site) -> bool:
        if site.spec.tls.clients == "require" and conn.client_certificate is None:
            return False
        opened = self.edge.table.site(conn.server_name.encode())
        return opened is not None and opened.spec is site.spec

    def _redirect(self, exchange: Exchange, port: int) -> None:
        host = exchange.authority
        if not host.endswith(b"]"):
            host = host.rsplit(b":", 1)[0]
        place = host if port == 443 else b"%b:%d" % (host, port)
        path = exchange.target if exchange.target.startswith(b"/") else b"/"
        fields: Headers = [(b"location", b"https://%b%b" % (place, path))]
        self.edge.answer(exchange, 308, fields, b"", b"detail=https")


def _particular(site: SiteSpec) -> bool:
    wishes = site.tls
    return wishes.redirect_port != 0 or wishes.clients != "off" or wishes.minimum != "1.2"


def policies(table: Table) -> Policies | None:
    """What handshakes have to know of the sites; None while all are usual."""
    if all(site.spec.tls.usual for site in (*table.hosts.values(), *table.names.values())):
        return None

    def policy(name: str) -> TlsSpec:
        site = table.site(name.encode())
        return site.spec.tls if site is not None else USUAL

    return policy
