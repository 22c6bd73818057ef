"""A route's rules in their order, asked one after the other. Pure: time is an argument.

The order is fixed, cheap and anonymous questions first:

    0  path                what could be read as a path with other rules (see `paths`)  400
    1  access              lists by prefix, AS, country                              403
    2  limit:NAME          rate limits by address, path, field, cookie               429
    3  cors                preflights end here, answered                             204, 403
    4  methods                                                                       405
    5  body                its announced length                                      413
    6  challenge           the proof of work                                         403
    7  signed-url                                                                    403
    8  token               JWT                                                       401, 503
    9  client-certificate                                                            403
    10 limit:NAME          rate limits by a token's claim                            429

The first that refuses ends it. Limits come before anything that costs cryptography, so that guessing is
limited; preflights bring no credentials (Fetch standard §3.2.2), so they come before whatever asks for some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from atoll.config.admission import AdmissionSpec, TokenSpec
from atoll.config.spec import RouteSpec, SiteSpec
from atoll.edge.admission.access import Access
from atoll.edge.admission.challenge import Challenge
from atoll.edge.admission.cors import Cors
from atoll.edge.admission.facts import Admitted, Amendment, Facts, Refuse, Rule, Wait
from atoll.edge.admission.limits import RateLimit
from atoll.edge.admission.request import ClientCertificate, MaxBody, Methods
from atoll.edge.admission.security import security_amendment
from atoll.edge.admission.signed_url import SignedUrl
from atoll.errors import AtollError
from atoll.http.fields import get

if TYPE_CHECKING:
    from atoll.edge.admission.tokens import Token

R = TypeVar("R")
S = TypeVar("S")

# What a rule is kept under from one snapshot to the next, with the spec that it was made of.
Kept = dict[str, tuple[object, object]]


class Rules:
    """The rules of one route. `repeatable`: what they say depends on the request's own bytes alone.

    Rules in `before` that are made of the same specs are taken over; those in use end up in `now`.

    Raises:
        AtollError: a rule cannot work as it is written.
    """

    __slots__ = ("_cors", "_security", "max_body", "repeatable", "route", "rules", "title", "tokens")

    def __init__(
        self, site: SiteSpec, route: RouteSpec, spec: AdmissionSpec, before: Kept, now: Kept
    ) -> None:
        self.route = route
        self.title = f"{site.host}{route.path}"
        where = f"sites.{site.name}.routes[{route.path}].admission"
        made = _Made(before, now, f"{site.name} {route.path}")
        self._cors = made.of("cors", spec.cors, lambda cors: Cors(cors, f"{where}.cors"))
        body = made.of("body", spec.max_body, lambda most: MaxBody(most, f"{where}.max_body"))
        self.max_body = body.limit if body is not None else None
        cached = route.cache and route.consistency != "critical" and not route.function
        token = made.of(f"token {cached}", spec.token, lambda it: _token(it, f"{where}.token", cached))
        self.tokens = [token] if token is not None else []
        limits = list(_limits(spec, made, where))
        plain: list[Rule | None] = [
            made.of("methods", spec.methods or None, lambda names: Methods(names, f"{where}.methods")),
            body,
        ]
        personal: list[Rule | None] = [
            made.of("challenge", spec.challenge, lambda it: Challenge(it, f"{where}.challenge", site.name)),
            made.of("signed_url", spec.signed_url, lambda it: SignedUrl(it, f"{where}.signed_url")),
            token,
            made.of(
                "client_certificate",
                spec.client_certificate,
                lambda it: ClientCertificate(it, f"{where}.client_certificate"),
            ),
            *(limit for limit in limits if limit.by_claim),
        ]
        access: list[Rule | None] = [
            made.of("access", spec.access, lambda it: Access(it, f"{where}.access")),
            *(limit for limit in limits if not limit.by_claim),
        ]
        asked = [*access, self._cors, *plain, *personal]
        self.rules: list[Rule] = [rule for rule in asked if rule is not None]
        self.repeatable = all(rule is None for rule in (*access, *personal))
        self._security = {
            scheme: security_amendment(spec.security, f"{where}.security", scheme)
            for scheme in (b"http", b"https")
            if spec.security is not None
        }

    def amendments(self, facts: Facts) -> list[Amendment]:
        """What every response to this request gets, refusals too."""
        found = []
        if self._cors is not None:
            found.append(self._cors.amendment(get(facts.headers, b"origin")))
        security = self._security.get(facts.scheme)
        if security is not None:
            found.append(security)
        return found


def decide(
    rules: Rules, facts: Facts, now_s: float, so_far: Admitted | None = None, at: int = 0
) -> Admitted | Refuse | Wait:
    """What becomes of a request. To go on after a `Wait`, give its `at` and what had been admitted so far."""
    admitted = Admitted(facts) if so_far is None else so_far
    for position in range(at, len(rules.rules)):
        verdict = rules.rules[position].judge(facts, admitted, now_s)
        if isinstance(verdict, Wait):
            return verdict._replace(at=position, so_far=admitted)
        if verdict is not None:
            return verdict
    return admitted


class _Made:
    """Rules made of the same spec as before are the same rules: what they have counted goes on counting."""

    def __init__(self, before: Kept, now: Kept, prefix: str) -> None:
        self._before = before
        self._now = now
        self._prefix = prefix

    def of(self, name: str, spec: S | None, make: Callable[[S], R]) -> R | None:
        """The rule of `spec`, made anew only if that has changed."""
        if spec is None:
            return None
        key = f"{self._prefix} {name}"
        known = self._before.get(key)
        if known is not None and known[0] == spec:
            self._now[key] = known
            return cast(R, known[1])
        rule = make(spec)
        self._now[key] = (spec, rule)
        return rule


def _limits(spec: AdmissionSpec, made: _Made, where: str) -> Iterator[RateLimit]:
    names: set[str] = set()
    for number, limit in enumerate(spec.limits):
        at = f"{where}.limits[{number}]"
        if limit.name in names:
            raise AtollError(f"two limits are called {limit.name!r}", "names are unique on a route", at)
        names.add(limit.name)
        if any(by.startswith("claim:") for by in limit.by) and spec.token is None:
            raise AtollError("a limit goes by a claim, but no token is asked for", "add a token", at)
        rule = made.of(f"limit {limit.name}", limit, partial(RateLimit, where=at))
        assert rule is not None
        yield rule


def _token(spec: TokenSpec, where: str, cached: bool) -> Token:
    from atoll.edge.admission.tokens import Token  # brings cryptography: only for those who check tokens

    return Token(spec, where, cached)
