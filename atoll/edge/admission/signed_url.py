"""Signed URLs: made by whoever knows a key, checked here, good until they expire. Pure.

The signature is HMAC-SHA256 (RFC 2104) over everything that it grants, one item a line:

    atoll-url-1, key id, expiry (seconds since the epoch), client prefix or nothing, `exact` or `prefix`,
    the path (or the prefix of paths), and for `exact` the rest of the query

It travels as the last query parameters, `atoll-key`, `atoll-expires`, `atoll-for`, `atoll-path` and
`atoll-signature`. They are taken off before the request goes further: they are not part of what is cached,
and origins do not see them. The host is not signed, since a site has several names: use a key for one site
only.

A URL signed for a prefix of paths grants no path with dot segments in it, in whatever spelling: an origin
might resolve them to what was not granted.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from atoll.config.admission import SignedUrlSpec, SigningKeySpec
from atoll.edge.admission.addresses import Address, Range, prefix_of
from atoll.edge.admission.facts import Admitted, Facts, Refuse, without_query
from atoll.errors import AtollError

KEY: Final = b"atoll-key"
EXPIRES: Final = b"atoll-expires"
FOR: Final = b"atoll-for"
PATH: Final = b"atoll-path"
SIGNATURE: Final = b"atoll-signature"
PARAMETERS: Final = frozenset((KEY, EXPIRES, FOR, PATH, SIGNATURE))
MIN_SECRET: Final = 16  # bytes
MAX_KEYS: Final = 16

_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_EXPIRY: Final = re.compile(rb"[0-9]{1,12}")
_TARGET: Final = re.compile(r"/[!-~]*")
_DOTS: Final = re.compile(rb"(?:/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:/|\\|%2f|%5c|$)", re.IGNORECASE)


class SignedUrl:
    """A `SignedUrlSpec` compiled.

    Raises:
        AtollError: a key is not good enough.
    """

    __slots__ = ("_keys", "_require_address", "name")

    def __init__(self, spec: SignedUrlSpec, where: str) -> None:
        self.name = "signed-url"
        self._keys = signing_keys(spec.keys, f"{where}.keys")
        self._require_address = spec.require_address

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | None:
        """See `Rule`."""
        reason = verify(self._keys, facts.target, facts.client, now_s, self._require_address)
        if reason:
            return Refuse(self.name, 403, reason)
        so_far.target = without_query(so_far.target, PARAMETERS)
        return None


def signing_keys(specs: tuple[SigningKeySpec, ...], where: str) -> dict[bytes, bytes]:
    """Id to secret.

    Raises:
        AtollError: there are none or too many, two share an id, or one is malformed.
    """
    if not 1 <= len(specs) <= MAX_KEYS:
        raise AtollError(f"{len(specs)} signing keys", f"from 1 to {MAX_KEYS}", where)
    keys: dict[bytes, bytes] = {}
    for spec in specs:
        key_id, secret = spec.id.encode(), spec.secret.encode()
        if _KEY_ID.fullmatch(spec.id) is None or key_id in keys:
            raise AtollError(f"{spec.id!r} is no key id", "unique; letters, digits, ., _ and -", where)
        if len(secret) < MIN_SECRET:
            raise AtollError(f"the secret of {spec.id} is too short", f"{MIN_SECRET} bytes or more", where)
        keys[key_id] = secret
    return keys


def sign(target: str, key: SigningKeySpec, expires_s: int, client: str = "", prefix: str = "") -> str:
    """`target` (path and query) signed until `expires_s`.

    Args:
        target: as it is sent, everything unusual percent-encoded.
        key: what to sign with.
        expires_s: seconds since the epoch.
        client: only for this address or prefix.
        prefix: good for every path that begins so, with any query; it ends with a slash.

    Raises:
        AtollError: something is not as it has to be.
    """
    signing_keys((key,), "key")
    path = target.partition("?")[0]
    if _TARGET.fullmatch(target) is None or "#" in target:
        raise AtollError(f"{target!r} is no path", "begin with /, percent-encode what is unusual", "url")
    if without_query(target.encode(), PARAMETERS) != target.encode():
        raise AtollError("the URL is signed already", where="url")
    if client:
        prefix_of(client, "address")
    if prefix and not (prefix.endswith("/") and path.startswith(prefix) and _TARGET.fullmatch(prefix)):
        raise AtollError(f"{prefix!r} is no prefix of {path}", "a beginning of it that ends with /", "prefix")
    if prefix and _DOTS.search(path.encode()):
        raise AtollError("a path with dot segments is never granted by a prefix", where="url")
    fields = {KEY: key.id, EXPIRES: str(expires_s)}
    if client:
        fields[FOR] = quote(client, safe=":./")
    if prefix:
        fields[PATH] = quote(prefix, safe="/")
    granted = {name: value.encode() for name, value in fields.items()}
    fields[SIGNATURE] = _signature(key.secret.encode(), granted, target.encode()).decode()
    query = "&".join(f"{name.decode()}={value}" for name, value in fields.items())
    return f"{target}{'&' if '?' in target else '?'}{query}"


def verify(
    keys: Mapping[bytes, bytes],
    target: bytes,
    client: Address | None,
    now_s: float,
    require_address: bool = False,
) -> str:
    """Why `target` is not granted to `client` now; "" when it is."""
    signed = _parameters(target)
    if signed is None or SIGNATURE not in signed:
        return "This URL has to be signed."
    secret = keys.get(signed.get(KEY, b""))
    bare = without_query(target, PARAMETERS)
    expected = _signature(secret or b"", signed, bare)
    if secret is None or not hmac.compare_digest(expected, signed[SIGNATURE]):
        return "The signature of this URL is not valid."
    # Everything below was written by who knows the key.
    if _EXPIRY.fullmatch(signed.get(EXPIRES, b"")) is None or int(signed[EXPIRES]) <= now_s:
        return "This URL has expired."
    if PATH in signed and not _covers(unquote_to_bytes(signed[PATH]), bare.partition(b"?")[0]):
        return "This URL is not covered by its signature."
    if FOR in signed:
        return "" if _held(signed[FOR], client) else "This URL was given to another address."
    return "This URL has to be bound to an address." if require_address else ""


def _parameters(target: bytes) -> dict[bytes, bytes] | None:
    """The signature's parameters; None when one is there twice."""
    found: dict[bytes, bytes] = {}
    for pair in target.partition(b"?")[2].split(b"&"):
        name, _, value = pair.partition(b"=")
        if name in PARAMETERS:
            if name in found:
                return None
            found[name] = value
    return found


def _signature(secret: bytes, granted: Mapping[bytes, bytes], bare: bytes) -> bytes:
    path, _, query = bare.partition(b"?")
    whose = [b"atoll-url-1", *(granted.get(name, b"") for name in (KEY, EXPIRES, FOR))]
    what = [b"prefix", granted[PATH]] if PATH in granted else [b"exact", path, query]
    digest = hmac.digest(secret, b"\n".join([*whose, *what]), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _covers(prefix: bytes, path: bytes) -> bool:
    return path.startswith(prefix) and _DOTS.search(path) is None


def _held(prefix: bytes, client: Address | None) -> bool:
    found = _prefix(prefix)
    if found is None or client is None:
        return False
    version, (first, last) = found
    return client.version == version and first <= client.number <= last


@lru_cache(maxsize=4096)
def _prefix(text: bytes) -> tuple[int, Range] | None:
    try:
        return prefix_of(unquote_to_bytes(text).decode("latin-1"), FOR.decode())
    except AtollError:
        return None  # whoever signs elsewhere may be mistaken
