"""What an HTTP/1.1 request's head says, beyond what its parser refuses (RFC 9112 §3, §6). Pure.

Wherever two readers of the same bytes might disagree, a request is refused rather than understood: where it
ends, which host it is for, which version it speaks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import httptools

from atoll.http.fields import GOOD_TARGET, Headers, get_all, is_token, valid_host
from atoll.http.trailers import takes_trailers

# Upgrades that are never asked of the edge: to what it speaks by itself, or must not speak here.
_NO_UPGRADE: Final = (b"h2c", b"http/", b"tls/")
_SCHEMES: Final = (b"http", b"https")


class Refused(Exception):
    """A request that gets a status instead of an answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Framing(NamedTuple):
    """How a request's body ends, and what its client expects on the way."""

    length: int
    chunked: bool
    awaited: bool  # it waits for leave to send it
    takes_trailers: bool


NO_BODY: Final = Framing(0, False, False, False)
_OF_THIS_HOP: Final = frozenset((b"content-length", b"transfer-encoding", b"te", b"expect"))


def where(
    method: bytes, target: bytes, host: bytes | None, version10: bool, trusted: bool = False
) -> tuple[bytes, bytes, bytes]:
    """Whom the request is for (§3.2, §3.3): authority in lowercase, path and query, the scheme if it says.

    The absolute form counts more than `Host`. A `trusted` client (a function's host) may leave it out.

    Raises:
        Refused: it does not say so, or not clearly.
    """
    if target.translate(None, GOOD_TARGET):
        raise Refused(400, "invalid byte in the target")
    scheme = b""
    if not target.startswith(b"/"):
        if host is None and not (version10 or (trusted and target != b"*")):
            raise Refused(400, "Host is missing")
        if host is not None and not valid_host(host):
            raise Refused(400, "Host is invalid")
        if target != b"*":
            scheme, host, target = _absolute(target)
        elif method != b"OPTIONS":
            raise Refused(400, "only OPTIONS is for a server as a whole")
    if host is None:
        if not version10:
            raise Refused(400, "Host is missing")
        host = b""
    elif not valid_host(host):
        raise Refused(400, "Host is invalid")
    return host.lower(), target, scheme


def _absolute(target: bytes) -> tuple[bytes, bytes, bytes]:
    try:
        url = httptools.parse_url(target) if b"://" in target else None
    except httptools.HttpParserInvalidURLError:
        url = None
    if url is None or not url.host or not url.schema:
        raise Refused(400, "target is neither a path nor an absolute URI")
    if url.schema.lower() not in _SCHEMES:
        raise Refused(400, "target is of a scheme that is not served")
    if b"@" in target.split(b"/", 3)[2].partition(b"?")[0]:
        raise Refused(400, "target names a user")  # RFC 9110 §4.2.4
    host = b"[%b]" % url.host if b":" in url.host else url.host
    if url.port is not None:
        host = b"%b:%d" % (host, url.port)
    path = (url.path or b"/") + (b"?" + url.query if url.query is not None else b"")
    return url.schema.lower(), host, path


def framing(headers: Headers, version10: bool, most: int) -> Framing:
    """How the request's body ends (§6.3). The parser has seen to it that lengths are numbers, and one.

    Raises:
        Refused: nobody could tell, or it would be longer than `most` bytes.
    """
    if _OF_THIS_HOP.isdisjoint(dict(headers)):
        return NO_BODY
    length, chunked, awaited, takes = 0, False, False, False
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
            if length > most:
                raise Refused(413, "body too large")
        elif name == b"transfer-encoding":
            if version10:
                raise Refused(400, "Transfer-Encoding on HTTP/1.0")
            if value.lower() != b"chunked":
                raise Refused(501, "only the chunked transfer coding is understood")
            chunked = True
        elif name == b"te":
            takes = takes_trailers(headers)
        elif name == b"expect" and not version10:
            if value.lower() != b"100-continue":
                raise Refused(417, "an expectation that nobody here knows")
            awaited = True
    return Framing(length, chunked, awaited, takes)


def upgrade_token(headers: Headers) -> bytes:
    """The first protocol of `Upgrade` that could be gone on with, in lowercase; b"" if there is none."""
    for value in get_all(headers, b"upgrade"):
        for member in value.split(b","):
            token = member.strip(b" \t").lower()
            if token and not token.startswith(_NO_UPGRADE) and is_token(token.replace(b"/", b"", 1)):
                return token
    return b""
