"""JSON Web Tokens: RFC 7519 in the compact form of RFC 7515, checked as RFC 8725 advises. Pure.

A token names a key and an algorithm; the key decides which algorithm it is (see `keys`). Then the claims:
`exp`, `nbf`, `iss`, `aud`, and whatever the rule requires. What has been verified is remembered by the
token's bytes, so a token that comes again costs a look; its times are asked each time.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from atoll.config.admission import TokenSpec
from atoll.edge.admission.facts import (
    Admitted,
    Claims,
    Facts,
    Refuse,
    Wait,
    value_of,
    without_cookie,
    without_query,
)
from atoll.edge.admission.keyring import RETRY_S, Keyring
from atoll.errors import AtollError
from atoll.http.fields import Headers, is_token

MAX_TOKEN: Final = 8192  # bytes; fields as a whole are bounded by the engine
MAX_TRIES: Final = 8  # keys that a token without `kid` is checked with
REMEMBERED: Final = 8192  # tokens
REMEMBERED_BYTES: Final = 8 * 1024 * 1024
MAX_FORWARDED: Final = 1024  # bytes of a claim in a field

_COMPACT: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_SOURCES: Final = ("header", "cookie", "query")


class JoseHeader(msgspec.Struct, frozen=True):
    """What is looked at of a token's header. `crit` names what must be understood: nothing is (§4.1.11)."""

    alg: str
    kid: str = ""
    crit: object = None


class Verified(NamedTuple):
    """A token's claims; its signature, issuer and audience hold. Times in seconds since the epoch."""

    claims: Claims
    until_s: float
    from_s: float


class Invalid(NamedTuple):
    """Why a token is not accepted."""

    reason: str


class Unknown(NamedTuple):
    """Nobody here knows the key of this id."""

    kid: str


class Token:
    """A `TokenSpec` compiled. `cached`: the route's responses are kept for others.

    Raises:
        AtollError: the rule cannot work as it is written.
    """

    __slots__ = ("_forward", "_forwarded", "_known", "_sources", "_spec", "name", "ring")

    def __init__(self, spec: TokenSpec, where: str, cached: bool) -> None:
        self.name = "token"
        if spec.forward and cached:
            hint = "set cache = false on the route, or forward nothing"
            raise AtollError("what origins are told of a token is in no cache key", hint, f"{where}.forward")
        self._spec = spec
        self.ring = Keyring(spec, where)
        self._sources = [source_of(source, f"{where}.sources") for source in spec.sources]
        if not self._sources:
            raise AtollError("a token is looked for nowhere", 'sources = ["header:authorization"]', where)
        self._forward = {claim: _field(field, where) for claim, field in spec.forward.items()}
        self._forwarded = frozenset(self._forward.values())
        self._known = Remembered()

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | Wait | None:
        """See `Rule`."""
        found = self._find(facts)
        if found is None:
            return self._refuse("A token is required.", b"Bearer")
        place, name, token = found
        verdict = self._known.get(token, self.ring.version)
        if verdict is None:
            checked = verify(self.ring, self._spec, token)
            if isinstance(checked, Unknown) or (self.ring.empty and isinstance(checked, Invalid)):
                return self._unknown(now_s)
            if isinstance(checked, Invalid):
                return self._invalid(checked.reason)
            verdict = checked
            self._known.add(token, verdict)
        if not now_s < verdict.until_s + self._spec.leeway_s:
            return self._invalid("The token has expired.")
        if now_s < verdict.from_s - self._spec.leeway_s:
            return self._invalid("The token is not valid yet.")
        so_far.claims = verdict.claims
        self._pass_on(so_far, place, name)
        return None

    def _find(self, facts: Facts) -> tuple[str, bytes, bytes] | None:
        for place, name in self._sources:
            value = value_of(facts.headers, facts.target, place, name)
            if value is None:
                continue
            if name == b"authorization" and place == "header":
                scheme, _, value = value.partition(b" ")
                if scheme.lower() != b"bearer":
                    continue
            return place, name, value.strip(b" ")
        return None

    def _pass_on(self, so_far: Admitted, place: str, name: bytes) -> None:
        """Take the token off where it should not go further, and say what origins are told of it."""
        if place == "query":  # else it would be in cache keys and logs
            so_far.target = without_query(so_far.target, frozenset((name,)))
        elif self._spec.strip and place == "cookie":
            so_far.headers = without_cookie(so_far.headers, name)
        elif self._spec.strip:
            so_far.headers = [field for field in so_far.headers if field[0] != name]
        if self._forward:
            kept = [field for field in so_far.headers if field[0] not in self._forwarded]
            so_far.headers = kept + claim_fields(so_far.claims, self._forward)

    def _unknown(self, now_s: float) -> Refuse | Wait:
        if self.ring.may_fetch(now_s):
            return Wait(self.ring)
        if self.ring.empty:
            retry: Headers = [(b"retry-after", b"%d" % RETRY_S)]
            return Refuse(self.name, 503, "Keys to check tokens with cannot be had at the moment.", retry)
        return self._invalid("The token's key is not known.")

    def _invalid(self, reason: str) -> Refuse:
        challenge = b'Bearer error="invalid_token", error_description="%b"' % reason.encode()
        return self._refuse(reason, challenge)

    def _refuse(self, reason: str, challenge: bytes) -> Refuse:
        return Refuse(self.name, 401, reason, [(b"www-authenticate", challenge)])  # RFC 6750 §3


class Remembered:
    """Verified tokens, the least recently used of which goes first; of one version of the keys."""

    __slots__ = ("_bytes", "_tokens", "_version")

    def __init__(self) -> None:
        self._tokens: OrderedDict[bytes, Verified] = OrderedDict()
        self._bytes = 0
        self._version = 0

    def get(self, token: bytes, version: int) -> Verified | None:
        """What is known of these very bytes."""
        if version != self._version:
            self._tokens.clear()
            self._bytes, self._version = 0, version
        found = self._tokens.get(token)
        if found is not None:
            self._tokens.move_to_end(token)
        return found

    def add(self, token: bytes, verified: Verified) -> None:
        """Remember it."""
        self._tokens[token] = verified
        self._bytes += len(token)
        while len(self._tokens) > REMEMBERED or self._bytes > REMEMBERED_BYTES:
            gone, _ = self._tokens.popitem(last=False)
            self._bytes -= len(gone)


def verify(ring: Keyring, spec: TokenSpec, token: bytes) -> Verified | Invalid | Unknown:
    """Signature and claims of `token`, its times aside."""
    parts = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN else None
    if parts is None:
        return Invalid("The token is malformed.")
    header = _header(parts[1])
    if header is None or header.crit is not None:
        return Invalid("The token is malformed.")
    keys = ring.candidates(header.kid, header.alg)
    signature, message = _decoded(parts[3]), token[: parts.end(2)]
    if signature is None or not any(key.verifies(message, signature) for key in keys[:MAX_TRIES]):
        strange = header.kid and ring.url and not ring.knows(header.kid)
        return Unknown(header.kid) if strange else Invalid("The token's signature is not valid.")
    claims = _claims(parts[2])
    if claims is None:
        return Invalid("The token is malformed.")
    return judge_claims(claims, spec)


def judge_claims(claims: Claims, spec: TokenSpec) -> Verified | Invalid:
    """What the claims say, times aside (RFC 7519 §4.1)."""
    for name in spec.required:
        if name not in claims:
            return Invalid(f"The token has no {name}.")
    if spec.issuers and claims.get("iss") not in spec.issuers:
        return Invalid("The token's issuer is not trusted here.")
    if not _audience_fits(claims, spec.audiences):
        return Invalid("The token is for another audience.")
    until_s, from_s = claims.get("exp", float("inf")), claims.get("nbf", float("-inf"))
    if not _is_time(until_s) or not _is_time(from_s):
        return Invalid("The token is malformed.")
    assert isinstance(until_s, int | float)
    assert isinstance(from_s, int | float)
    return Verified(claims, float(until_s), float(from_s))


def _audience_fits(claims: Claims, audiences: tuple[str, ...]) -> bool:
    """§4.1.3: whoever is not named by an `aud` that is there refuses."""
    if "aud" not in claims:
        return not audiences
    named = claims["aud"]
    listed = named if isinstance(named, list) else [named]
    return any(audience in audiences for audience in listed if isinstance(audience, str))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _decoded(part: bytes) -> bytes | None:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return None


def _header(part: bytes) -> JoseHeader | None:
    try:
        return msgspec.json.decode(_decoded(part) or b"", type=JoseHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _claims(part: bytes) -> Claims | None:
    try:
        return msgspec.json.decode(_decoded(part) or b"", type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def claim_fields(claims: Claims, forward: Mapping[str, bytes]) -> Headers:
    """Claims as fields: plain text as it is, everything else as JSON in ASCII; none for what is not there."""
    fields: Headers = []
    for claim, name in forward.items():
        value = claims.get(claim)
        if value is None:
            continue
        text = value if isinstance(value, str) else ""
        if not (text and text.isascii() and text.isprintable() and text.strip() == text):
            text = _ascii_json(value)
        if len(text) <= MAX_FORWARDED:
            fields.append((name, text.encode()))
    return fields


def _ascii_json(value: object) -> str:
    encoded = msgspec.json.encode(value).decode()
    return "".join(char if " " <= char <= "~" else _escaped(char) for char in encoded)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def source_of(source: str, where: str) -> tuple[str, bytes]:
    """Where a token is looked for.

    Raises:
        AtollError: it is no place of a request.
    """
    place, _, name = source.partition(":")
    if place not in _SOURCES or not is_token(name.encode()):
        hint = "header:NAME, cookie:NAME or query:NAME"
        raise AtollError(f"a token is not looked for in {source!r}", hint, where)
    return place, name.lower().encode() if place == "header" else name.encode()


def _field(name: str, where: str) -> bytes:
    field = name.lower().encode()
    if not is_token(field) or field in (b"host", b"content-length", b"transfer-encoding", b"connection"):
        raise AtollError(f"{name!r} is no field for a claim", "such as X-User", f"{where}.forward")
    return field
