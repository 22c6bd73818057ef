"""Specs of a route's admission: who may ask, how often, with what proof, and what browsers are told.

Values only. What they mean, and in which order they are asked, is `atoll.edge.admission.decide`'s; what is
wrong with one is said when a PoP compiles it, with the field's path.
"""

from __future__ import annotations

from typing import Literal

import msgspec

HIDDEN = "(hidden)"


class AccessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Lists by address, network and country: the longest matching prefix decides, then the AS, then the
    country. `otherwise` is for a client that is on no list.
    """

    allow: tuple[str, ...] = ()  # "192.0.2.0/24", "2001:db8::1"
    deny: tuple[str, ...] = ()
    allow_asns: tuple[int, ...] = ()
    deny_asns: tuple[int, ...] = ()
    allow_countries: tuple[str, ...] = ()  # ISO 3166 alpha-2
    deny_countries: tuple[str, ...] = ()
    otherwise: Literal["allow", "deny"] = "allow"
    dry_run: bool = False  # count and log what would be refused


class RateLimitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`rate` requests each `per_s` seconds for each client on average, `burst` of them at once.

    `by` says what a client is; several together are one key: `address` (of IPv6 the /64), `path`,
    `header:NAME`, `cookie:NAME`, `claim:NAME` (of a verified token).
    """

    name: str
    rate: int
    per_s: float = 1.0
    burst: int = 0  # 0: as many as `rate`
    by: tuple[str, ...] = ("address",)
    advertise: bool = True  # say in `RateLimit` what is left
    dry_run: bool = False


class SigningKeySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of 16 bytes or more; `id` travels in the URL, so that keys can be changed one by one."""

    id: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret: specs end up in logs."""
        return f"SigningKeySpec(id={self.id!r}, secret={HIDDEN!r})"


class SignedUrlSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Only URLs signed with one of `keys` are answered; see `atoll sign-url`."""

    keys: tuple[SigningKeySpec, ...]
    require_address: bool = False  # only URLs that are bound to a client's address


class TokenKeySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A key that tokens are signed with, and the one algorithm it is for.

    HS256, HS384, HS512 take `secret`; all others the public key as `pem`.
    """

    alg: str
    id: str = ""  # the token's `kid`; "" matches tokens without one
    secret: str = ""
    pem: str = ""

    def __repr__(self) -> str:
        """Without the secret."""
        return f"TokenKeySpec(id={self.id!r}, alg={self.alg!r}, secret={HIDDEN!r})"


class TokenSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON Web Token (RFC 7519) that every request has to bring."""

    keys: tuple[TokenKeySpec, ...] = ()
    jwks_url: str = ""  # https, or http on loopback
    sources: tuple[str, ...] = ("header:authorization",)  # header:NAME, cookie:NAME, query:NAME; first found
    issuers: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    required: tuple[str, ...] = ("exp",)  # claims that must be there
    leeway_s: float = 30.0
    strip: bool = False  # origins do not see the token, so its bearers may share responses
    forward: dict[str, str] = {}  # claim to field for the origin; only where nothing is cached


class ClientCertificateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The client's verified certificate; with both lists empty any verified one will do."""

    fingerprints: tuple[str, ...] = ()  # SHA-256 of the certificate, hexadecimal
    subjects: tuple[str, ...] = ()  # e.g. "CN=reader,O=Example"


class CorsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which other origins' scripts may read responses (Fetch standard, CORS protocol).

    An origin is exact (`https://app.example`), all subdomains (`https://*.app.example`), or `*`.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    request_headers: tuple[str, ...] = ()  # `*`: any
    exposed: tuple[str, ...] = ()
    credentials: bool = False
    max_age_s: int = 600


class SecurityHeadersSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that tell browsers to be careful. "" and 0 leave a field to the preset, or out."""

    preset: Literal["", "strict"] = ""
    hsts_s: int = 0  # Strict-Transport-Security, on https only
    hsts_subdomains: bool = False
    hsts_preload: bool = False
    nosniff: bool = False
    content_security_policy: str = ""
    referrer_policy: str = ""
    permissions_policy: str = ""
    frame_options: Literal["", "DENY", "SAMEORIGIN"] = ""
    override: bool = False  # in place of the origin's own; otherwise that is kept


class ChallengeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A small proof of work that browsers do by themselves, once each `ttl_s`."""

    secret: str
    difficulty: int = 16  # leading zero bits: each one doubles the work
    ttl_s: int = 3600

    def __repr__(self) -> str:
        """Without the secret."""
        return f"ChallengeSpec(difficulty={self.difficulty}, ttl_s={self.ttl_s}, secret={HIDDEN!r})"


class AdmissionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one route. What is None or empty is not asked."""

    access: AccessSpec | None = None
    limits: tuple[RateLimitSpec, ...] = ()
    cors: CorsSpec | None = None
    methods: tuple[str, ...] = ()
    max_body: int | None = None  # bytes
    challenge: ChallengeSpec | None = None
    signed_url: SignedUrlSpec | None = None
    token: TokenSpec | None = None
    client_certificate: ClientCertificateSpec | None = None
    security: SecurityHeadersSpec | None = None
