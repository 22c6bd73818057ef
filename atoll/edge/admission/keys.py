"""Keys that tokens are checked with (RFC 7517), each for one algorithm. Pure.

The algorithm belongs to the key and is never the token's to choose: that closes `none`, and the confusion
of a public key with a shared secret. Keys that are too short for their algorithm are refused (RFC 7518
§3.2, §3.3). A key from a key set without `alg` is for its type's usual one.
"""

from __future__ import annotations

from typing import Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from atoll.config.admission import TokenKeySpec
from atoll.errors import AtollError, RemoteError

MAX_KEYS: Final = 64
MIN_RSA_BITS: Final = 2048
MIN_SECRET: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes: the hash's own length

_RSA: Final = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_USUAL: Final = {
    ("RSA", ""): "RS256",
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}
ALGORITHMS: Final = (*MIN_SECRET, *sorted(_RSA), *_CURVES, "EdDSA")
_CHECKS: Final = get_default_algorithms()


class Key:
    """One key and what it is for. `kid` may be empty."""

    __slots__ = ("_key", "alg", "kid")

    def __init__(self, kid: str, alg: str, key: object) -> None:
        self.kid = kid
        self.alg = alg
        self._key = key

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's for `message`; secrets are compared in constant time."""
        return bool(_CHECKS[self.alg].verify(message, self._key, signature))


class Jwk(msgspec.Struct, frozen=True):
    """What is looked at of a key in a key set before its numbers are."""

    kty: str
    kid: str = ""
    alg: str = ""
    crv: str = ""
    use: str = "sig"
    key_ops: tuple[str, ...] = ("verify",)


class JwkSet(msgspec.Struct, frozen=True):
    """A key set as it is published."""

    keys: tuple[msgspec.Raw, ...]


def static_key(spec: TokenKeySpec, where: str) -> Key:
    """A key from the configuration.

    Raises:
        AtollError: the algorithm is none of ours, or the key is not one for it.
    """
    if spec.alg not in ALGORITHMS:
        raise AtollError(f"{spec.alg!r} is no algorithm", ", ".join(ALGORITHMS), f"{where}.alg")
    if spec.alg in MIN_SECRET:
        secret = spec.secret.encode()
        if spec.pem or len(secret) < MIN_SECRET[spec.alg]:
            hint = f"a secret of {MIN_SECRET[spec.alg]} bytes or more, and no pem"
            raise AtollError(f"{spec.alg} takes a shared secret", hint, where)
        return Key(spec.id, spec.alg, secret)
    if spec.secret or not spec.pem:
        raise AtollError(f"{spec.alg} takes a public key", "give it as pem", where)
    try:
        key = _CHECKS[spec.alg].prepare_key(spec.pem)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise AtollError(f"the key is none for {spec.alg}", "a public key in PEM", f"{where}.pem") from None
    if not _fits(spec.alg, key):
        hint = f"a public key of the algorithm's type; RSA with {MIN_RSA_BITS} bits or more"
        raise AtollError(f"the key is none for {spec.alg}", hint, f"{where}.pem")
    return Key(spec.id, spec.alg, key)


def keys_of_set(document: bytes) -> tuple[Key, ...]:
    """The usable keys of a published set; others may be in it and are left out.

    Raises:
        RemoteError: it is no key set, or none of its keys can be used.
    """
    try:
        listed = msgspec.json.decode(document, type=JwkSet).keys[:MAX_KEYS]
    except msgspec.DecodeError as error:
        raise RemoteError(f"the answer is no key set: {error}", 503) from None
    found = tuple(key for key in map(_published_key, listed) if key is not None)
    if not found:
        raise RemoteError("no key of the set can be used", 503)
    return found


def _published_key(raw: msgspec.Raw) -> Key | None:
    try:
        jwk = msgspec.json.decode(raw, type=Jwk)
        alg = jwk.alg or _USUAL.get((jwk.kty, jwk.crv), "")
        # A shared secret in a public document is nobody's secret.
        if alg not in ALGORITHMS or alg in MIN_SECRET or jwk.use != "sig" or "verify" not in jwk.key_ops:
            return None
        key = jwt.PyJWK.from_dict(msgspec.json.decode(raw, type=dict[str, object]), algorithm=alg).key
    except (msgspec.DecodeError, jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return Key(jwk.kid, alg, key) if _fits(alg, key) else None


def _fits(alg: str, key: object) -> bool:
    """Whether `key` is a public key of the algorithm's type, curve and strength."""
    if alg in _RSA:
        return isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS
    if alg in _CURVES:
        return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _CURVES[alg]
    return isinstance(key, ed25519.Ed25519PublicKey)
