"""The first step: what of a request's fields goes any further, and what the edge says in their place. Pure.

Fields that only the edge may set are dropped whoever sends them: `Atoll-*`, what tells a function where its
client is, what tells an origin who asked. Fields for the next hop alone end here (RFC 9110 §7.6.1).
"""

from __future__ import annotations

from typing import Final

from atoll.http.exchange import ConnectionInfo
from atoll.http.fields import HOP_BY_HOP, Headers, get, strip_hop_by_hop
from atoll.http.trailers import takes_trailers

_OURS: Final = frozenset((b"cf-blob", b"cf-connecting-ip", b"cf-ipcountry", b"x-real-ip"))
_FORWARDED: Final = frozenset(
    {
        b"client-ip",
        b"forwarded",
        b"forwarded-for",
        b"front-end-https",
        b"proxy",  # for CGI and its heirs it says where to send what they ask for
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-host",
        b"x-http-host-override",
        b"x-original-host",
        b"x-original-uri",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-url-scheme",
    }
)
"""What proxies say of a request, besides `X-Forwarded…`: who sent it, and what it was for.

No key holds them: an origin that believes one would have others served what it says to whoever made it up.
"""
_DROPPED: Final = _OURS | _FORWARDED | {b"expect"}
_PREFIXES: Final = (b"atoll-", b"x-forwarded")
_OVERRIDES: Final = frozenset((b"x-http-method", b"x-http-method-override", b"x-method-override"))
"""What makes another method of a POST. Nobody has to say so with a GET, whose answer is for others too."""
_READS: Final = (b"GET", b"HEAD")
_NO_DISGUISE: Final = frozenset(
    (b"client-cert", b"client-cert-chain", b"content-length", b"content-type", b"host")
)
_GRPC: Final = b"application/grpc"


def accept_headers(headers: Headers, method: bytes) -> Headers:
    """A client's fields without those only the edge may set, and without hop-by-hop ones.

    `TE: trailers` of a gRPC call is said again: its servers refuse calls without it. Any other ends here;
    trailers are taken unasked.
    """
    reads = method in _READS
    kept = [
        field
        for field in strip_hop_by_hop(headers)
        if field[0] not in _DROPPED
        and not field[0].startswith(_PREFIXES)
        and not (reads and field[0] in _OVERRIDES)
        and not (b"_" in field[0] and _disguised(field[0], reads))
    ]
    if takes_trailers(headers) and (get(headers, b"content-type") or b"").startswith(_GRPC):
        kept.append((b"te", b"trailers"))
    return kept


def _disguised(name: bytes, reads: bool) -> bool:
    """Whether an origin might take a name for one that it trusts: for CGI and its heirs `_` is `-`."""
    plain = name.replace(b"_", b"-")
    if plain in _DROPPED or plain in HOP_BY_HOP or plain in _NO_DISGUISE or plain.startswith(_PREFIXES):
        return True
    return reads and plain in _OVERRIDES


def forwarded(conn: ConnectionInfo, host: bytes) -> Headers:
    """Who asked, for origins. `host` is the site's own: what a client calls it is not part of a cache key."""
    fields = [(b"x-forwarded-proto", conn.scheme), (b"x-forwarded-host", host), (b"via", b"1.1 atoll")]
    return [(b"x-forwarded-for", conn.client_ip.encode()), *fields] if conn.client_ip else fields
