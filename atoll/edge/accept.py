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
_FORWARDED: Final = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"))
_DROPPED: Final = _OURS | _FORWARDED | {b"expect"}
_FRAMING: Final = frozenset((b"content-length", b"content-type", b"host"))
_GRPC: Final = b"application/grpc"


def accept_headers(headers: Headers) -> Headers:
    """A client's fields without those only the edge may set, and without hop-by-hop ones.

    `TE: trailers` of a gRPC call is said again: its servers refuse calls without it. Any other ends here;
    trailers are taken unasked.
    """
    kept = [
        field
        for field in strip_hop_by_hop(headers)
        if field[0] not in _DROPPED
        and not field[0].startswith(b"atoll-")
        and not (b"_" in field[0] and _disguised(field[0]))
    ]
    if takes_trailers(headers) and (get(headers, b"content-type") or b"").startswith(_GRPC):
        kept.append((b"te", b"trailers"))
    return kept


def _disguised(name: bytes) -> bool:
    """Whether an origin might take a name for one that it trusts: for CGI and its heirs `_` is `-`."""
    plain = name.replace(b"_", b"-")
    return plain in _DROPPED or plain in HOP_BY_HOP or plain in _FRAMING or plain.startswith(b"atoll-")


def forwarded(conn: ConnectionInfo, host: bytes) -> Headers:
    """Who asked, for origins. `host` is the site's own: what a client calls it is not part of a cache key."""
    fields = [(b"x-forwarded-proto", conn.scheme), (b"x-forwarded-host", host), (b"via", b"1.1 atoll")]
    return [(b"x-forwarded-for", conn.client_ip.encode()), *fields] if conn.client_ip else fields
