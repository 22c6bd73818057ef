"""Cache keys: which requests ask for the same thing (RFC 9111 §2, §4.1).

The primary key is the canonical URL; a variant key says what the request held in the fields that `Vary`
names. Lists of preferences are written in one order, because their order means nothing (RFC 9110 §12.4.2);
every other field must match as it is. Both keys are unambiguous: no value can imitate another key. Keys never
say less than the request does: where fewer variants are wanted, the request itself is made simpler first
(`atoll.cache.preferences`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import urljoin, urlsplit

from atoll.http.fields import Headers, get

_DEFAULT_PORT: Final = {b"http": b"80", b"https": b"443"}
_PREFERENCES: Final = frozenset({b"accept-encoding", b"accept-language"})
_SHORT: Final = 128  # longer values are worked out each time: a client must not fill memory with them
_WEIGHT: Final = re.compile(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def primary_key(scheme: bytes, host: bytes | str, target: bytes) -> bytes:
    """`scheme://host/target`, the host in lowercase and without its default port, no fragment."""
    name = (host.encode("ascii") if isinstance(host, str) else host).lower()
    scheme = scheme.lower()
    bare, colon, port = name.rpartition(b":")
    if colon and (not port or port == _DEFAULT_PORT.get(scheme)):
        name = bare
    return b"%b://%b%b" % (scheme, name, _path(target))


def _path(target: bytes) -> bytes:
    """The target in origin form (RFC 9112 §3.2.1); a path is never empty."""
    path = target.partition(b"#")[0]
    return path if path.startswith(b"/") else b"/" + path


def related_keys(scheme: bytes, host: bytes | str, target: bytes, response: Headers) -> tuple[bytes, ...]:
    """The keys of `Location` and `Content-Location` that an unsafe request may invalidate as well (§4.4).

    Only URLs of the same origin: a site never invalidates what another one stored.
    """
    base = primary_key(scheme, host, target)
    references = [get(response, name) for name in (b"location", b"content-location")]
    found = {resolved(base, reference) for reference in references if reference}
    return tuple(sorted(key for key in found if key is not None and key != base))


def resolved(base: bytes, reference: bytes) -> bytes | None:
    """The key of a URL reference relative to `base`; None when it is no URL of the same origin."""
    try:
        joined = urlsplit(urljoin(base.decode("latin-1"), reference.decode("latin-1")))
    except ValueError:
        return None
    query = f"?{joined.query}" if joined.query else ""
    try:
        key = primary_key(joined.scheme.encode(), joined.netloc, f"{joined.path}{query}".encode("latin-1"))
    except UnicodeEncodeError:
        return None
    return key if _origin(key) == _origin(base) else None


def _origin(key: bytes) -> bytes:
    return key[: key.index(b"/", key.index(b"://") + 3)]


def vary_key(vary: tuple[bytes, ...], request: Headers) -> bytes:
    """What `request` holds in the fields that `vary` names; an absent field only equals an absent one."""
    if not vary:
        return b""
    return b"".join(_selecting(name, request) for name in vary)


def _selecting(name: bytes, request: Headers) -> bytes:
    values = [value.strip(b" \t") for field, value in request if field == name]
    if not values:
        return b"-;"
    value = b", ".join(values)
    if name in _PREFERENCES:
        value = _canonical_short(value) if len(value) <= _SHORT else _canonical_preferences(value)
    return b"%d:%b;" % (len(value), value)


def _canonical_preferences(value: bytes) -> bytes:
    """Members in lowercase and in one order, `q=1` left out, other weights in their shortest form."""
    members = {_canonical_member(member) for member in value.lower().split(b",")}
    return b",".join(sorted(members - {b""}))


_canonical_short = lru_cache(maxsize=1024)(_canonical_preferences)


def _canonical_member(member: bytes) -> bytes:
    choice, semicolon, parameter = (part.strip(b" \t") for part in member.partition(b";"))
    if not semicolon:
        return choice
    key, _, weight = (part.strip(b" \t") for part in parameter.partition(b"="))
    if key != b"q" or _WEIGHT.fullmatch(weight) is None:
        return choice + b";" + parameter
    if b"." in weight:
        weight = weight.rstrip(b"0").rstrip(b".")
    return choice if weight == b"1" else choice + b";q=" + weight
