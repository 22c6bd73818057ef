"""What rules are asked about, and what they answer. Pure values.

A rule sees `Facts`, adds to `Admitted` what its passing changes, and answers None to let the request go on,
or says how it ends: `Refuse`, or `Wait` for keys that the shell has to fetch first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from atoll.edge.admission.addresses import Address
from atoll.http.fields import Headers, get
from atoll.http.negotiate import with_vary

if TYPE_CHECKING:
    from atoll.edge.admission.keyring import Keyring

Claims = Mapping[str, object]


class Certificate(NamedTuple):
    """A client's certificate that the connection has verified."""

    fingerprint: str  # SHA-256 in lowercase hexadecimal
    subject: str


class Facts(NamedTuple):
    """One request as far as rules look. `length` is its body's: None when unknown, 0 when there is none."""

    client: Address | None
    country: str
    asn: int
    scheme: bytes
    method: bytes
    target: bytes
    headers: Headers
    length: int | None = 0
    certificate: Certificate | None = None


class Refuse(NamedTuple):
    """The request ends here. `body` replaces the usual sentence; `rule` names who says so."""

    rule: str
    status: int
    reason: str
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes | None = None


class Wait(NamedTuple):
    """Nobody can tell before keys are fetched; then go on with rule `at` and what was admitted so far."""

    ring: Keyring
    at: int = 0
    so_far: Admitted | None = None


class Amendment:
    """What a response's fields become: names dropped, set, given unless there, and `Vary` extended."""

    __slots__ = ("_given", "_set", "_unwanted", "_vary")

    def __init__(
        self, unwanted: frozenset[bytes], given: Headers, fields: Headers, vary: tuple[bytes, ...] = ()
    ) -> None:
        self._unwanted = unwanted | {name for name, _ in fields}
        self._given = given
        self._set = fields
        self._vary = vary

    def __bool__(self) -> bool:
        return bool(self._unwanted or self._given or self._vary)

    def __call__(self, headers: Headers) -> Headers:
        """`headers` amended; doing it twice changes nothing more."""
        kept = [field for field in headers if field[0] not in self._unwanted]
        present = {name for name, _ in kept}
        kept += [field for field in self._given if field[0] not in present]
        kept += self._set
        return with_vary(kept, self._vary) if self._vary else kept


class Admitted:
    """A request on its way through the rules: what origins will see of it, and what its response gets."""

    __slots__ = ("claims", "headers", "policy", "quota", "target", "would_refuse")

    def __init__(self, facts: Facts) -> None:
        self.headers = facts.headers
        self.target = facts.target
        self.claims: Claims = {}
        self.policy: list[bytes] = []  # members of RateLimit-Policy
        self.quota: list[bytes] = []  # members of RateLimit
        self.would_refuse: list[str] = []  # rules on trial

    def limits(self) -> Headers:
        """The fields that tell a client its limits."""
        if not self.policy:
            return []
        return [(b"ratelimit-policy", b", ".join(self.policy)), (b"ratelimit", b", ".join(self.quota))]


class Rule(Protocol):
    """One rule of a route."""

    name: str

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | Wait | None:
        """None: nothing against it."""


def cookie(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first cookie of that name (RFC 6265 §5.4), without quotes around it."""
    for field, value in headers:
        if field != b"cookie":
            continue
        for pair in value.split(b";"):
            key, equals, content = pair.strip(b" \t").partition(b"=")
            if equals and key == name:
                return content.strip(b'"')
    return None


def without_cookie(headers: Headers, name: bytes) -> Headers:
    """`headers` without the cookies of that name; a `Cookie` field left empty goes too."""
    kept: Headers = []
    for field in headers:
        if field[0] != b"cookie" or name not in field[1]:
            kept.append(field)
            continue
        pairs = [pair.strip(b" \t") for pair in field[1].split(b";")]
        others = b"; ".join(pair for pair in pairs if pair and pair.partition(b"=")[0] != name)
        if others:
            kept.append((b"cookie", others))
    return kept


def query_value(target: bytes, name: bytes) -> bytes | None:
    """The raw value of the first query parameter of that name."""
    for pair in target.partition(b"?")[2].split(b"&"):
        key, equals, content = pair.partition(b"=")
        if equals and key == name:
            return content
    return None


def without_query(target: bytes, names: frozenset[bytes]) -> bytes:
    """`target` without the query parameters of those names; the others keep order and spelling."""
    path, mark, query = target.partition(b"?")
    if not mark:
        return target
    pairs = query.split(b"&")
    kept = [pair for pair in pairs if pair.partition(b"=")[0] not in names]
    if len(kept) == len(pairs):
        return target
    return path + b"?" + b"&".join(kept) if kept else path


def value_of(headers: Headers, target: bytes, place: str, name: bytes) -> bytes | None:
    """What a request holds in a `header`, `cookie` or `query` parameter."""
    if place == "header":
        return get(headers, name)
    return cookie(headers, name) if place == "cookie" else query_value(target, name)
