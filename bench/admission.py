"""What a request's rules cost: `python -m bench.admission`, or `atoll bench admission`.

The deciders alone, in this process, without a socket: each line is the median of several rounds of one
decision, in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from atoll.config.admission import (
    AccessSpec,
    AdmissionSpec,
    ChallengeSpec,
    CorsSpec,
    RateLimitSpec,
    SecurityHeadersSpec,
    SignedUrlSpec,
    SigningKeySpec,
    TokenKeySpec,
    TokenSpec,
)
from atoll.config.spec import RouteSpec, SiteSpec
from atoll.edge.admission.addresses import address_of
from atoll.edge.admission.challenge import Challenge, worked
from atoll.edge.admission.decide import Rules, decide
from atoll.edge.admission.facts import Admitted, Facts, Wait
from atoll.edge.admission.gcra import Quota, Table
from atoll.edge.admission.signed_url import sign

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
ROUNDS: Final = 7
NOW_S: Final = 1_700_000_000.0
SECRET: Final = "s" * 64
CLIENT: Final = address_of("198.51.100.7")


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one decision takes, in microseconds."""

    decision: str
    p50: float
    min: float
    max: float


def run(seconds: float, say: Callable[[str], None]) -> tuple[Cost, ...]:
    """Measure every decision for about `seconds`."""
    costs = []
    for name, decision in decisions():
        say(f"measuring {name}")
        costs.append(measure(name, decision, seconds))
    return tuple(costs)


def table(costs: tuple[Cost, ...]) -> tuple[tuple[str, ...], list[tuple[str, str, str, str]]]:
    """Head and rows."""
    rows = [(cost.decision, f"{cost.p50:.2f}", f"{cost.min:.2f}", f"{cost.max:.2f}") for cost in costs]
    return ("decision", "µs", "min", "max"), rows


def measure(name: str, decision: Callable[[], object], seconds: float) -> Cost:
    """Rounds of as many decisions as fit."""
    decision()
    began_s = perf_counter()
    decision()
    once_s = max(perf_counter() - began_s, 1e-7)
    count = max(1, int(seconds / ROUNDS / once_s / 2))
    rounds = []
    for _ in range(ROUNDS):
        began_s = perf_counter()
        for _ in range(count):
            decision()
        rounds.append((perf_counter() - began_s) / count * 1e6)
    return Cost(decision=name, p50=median(rounds), min=min(rounds), max=max(rounds))


def decisions() -> list[tuple[str, Callable[[], object]]]:
    """Everything that is measured."""
    return [
        ("gcra, one client", gcra(1)),
        ("gcra, 50,000 clients", gcra(50_000)),
        ("gcra, 200,000 clients (evicting)", gcra(200_000)),
        ("access, 10,000 prefixes", access()),
        ("signed URL", signed_url()),
        *tokens(),
        ("proof of work", proof_of_work()),
        ("CORS and security fields", amendments()),
        ("rate limit, whole rule", asked(AdmissionSpec(limits=(LIMIT,)), facts())),
    ]


LIMIT: Final = RateLimitSpec(name="api", rate=1_000_000, burst=1_000_000)


def facts(target: bytes = b"/a", *headers: tuple[bytes, bytes]) -> Facts:
    """A request's."""
    return Facts(CLIENT, "DE", 64500, b"https", b"GET", target, [(b"accept", b"*/*"), *headers])


def gcra(clients: int) -> Callable[[], object]:
    """The counter alone."""
    counter = Table(Quota(1_000_000, 1000))
    keys = [number.to_bytes(4, "big") for number in range(clients)]
    at = 0

    def one() -> object:
        nonlocal at
        at += 1
        return counter.take(keys[at % clients], at * 1000)

    return one


def asked(spec: AdmissionSpec, request: Facts, now_s: float = NOW_S) -> Callable[[], object]:
    """A route's rules, asked about `request`, which passes."""
    route = RouteSpec(path="/*", admission=spec, cache=False)
    rules = Rules(SiteSpec(name="shop", host="shop.test", routes=(route,)), route, spec, {}, {})
    assert isinstance(decide(rules, request, now_s), Admitted)
    return lambda: decide(rules, request, now_s)


def access() -> Callable[[], object]:
    """A list that holds many prefixes, none of them the client's."""
    deny = tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_000))
    return asked(AdmissionSpec(access=AccessSpec(deny=deny)), facts())


def signed_url() -> Callable[[], object]:
    """A URL bound to a prefix of addresses."""
    key = SigningKeySpec(id="k", secret=SECRET)
    target = sign("/videos/7/a.mp4?x=1", key, int(NOW_S) + 60, client="198.51.100.0/24").encode()
    return asked(AdmissionSpec(signed_url=SignedUrlSpec(keys=(key,))), facts(target))


def tokens() -> list[tuple[str, Callable[[], object]]]:
    """Tokens of each kind, seen for the first time and again."""
    keys: dict[str, Private | None] = {
        "HS256": None,
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    found: list[tuple[str, Callable[[], object]]] = []
    for alg, key in keys.items():
        pem = "" if key is None else _pem(key)
        spec = TokenSpec(keys=(TokenKeySpec(alg=alg, secret="" if pem else SECRET, pem=pem),))
        claims = {"exp": NOW_S + 60, "sub": "ann", "iss": "https://id.example", "roles": ["a", "b"]}
        payload = json.dumps(claims).encode()
        signed = jwt.PyJWS().encode(payload, key if key is not None else SECRET, algorithm=alg)
        request = facts(b"/a", (b"authorization", b"Bearer " + signed.encode()))
        found.append((f"token {alg}, first", first(spec, request)))
        found.append((f"token {alg}, repeated", asked(AdmissionSpec(token=spec), request)))
    return found


def first(spec: TokenSpec, request: Facts) -> Callable[[], object]:
    """A token that is forgotten before it comes again."""
    from atoll.edge.admission.tokens import Token

    rule = Token(spec, "token", False)

    def one() -> object:
        rule.ring.version += 1
        verdict = rule.judge(request, Admitted(request), NOW_S)
        assert verdict is None or isinstance(verdict, Wait)
        return verdict

    return one


def _pem(key: Private) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def proof_of_work() -> Callable[[], object]:
    """A pass that is shown again."""
    spec = ChallengeSpec(secret=SECRET, difficulty=8)
    ticket = Challenge(spec, "challenge", "shop").ticket(CLIENT, int(NOW_S) + 600)
    shown = next(text for text in (b"%b.%d" % (ticket, n) for n in range(99_999)) if worked(text, 8))
    return asked(AdmissionSpec(challenge=spec), facts(b"/a", (b"cookie", b"atoll-pass=" + shown)))


def amendments() -> Callable[[], object]:
    """What is added as a response leaves."""
    spec = AdmissionSpec(
        cors=CorsSpec(origins=("https://app.example",), credentials=True),
        security=SecurityHeadersSpec(preset="strict"),
    )
    route = RouteSpec(path="/*", admission=spec)
    rules = Rules(SiteSpec(name="shop", host="shop.test", routes=(route,)), route, spec, {}, {})
    request = facts(b"/a", (b"origin", b"https://app.example"))
    response = [(b"content-type", b"text/html"), (b"cache-control", b"max-age=60"), (b"etag", b'"a"')]

    def one() -> object:
        fields = response
        for amendment in rules.amendments(request):
            fields = amendment(fields)
        return fields

    return one


if __name__ == "__main__":
    head, rows = table(run(0.5, lambda _: None))
    for row in (head, *rows):
        print(f"{row[0]:<36}" + "".join(f"{cell:>9}" for cell in row[1:]))
