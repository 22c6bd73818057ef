"""Rate limits: which client a request counts for, and what it is told. Pure.

Fields are those of draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy: "name";q=…;w=…` says that q
requests are there each w seconds, `RateLimit: "name";r=…;t=…` that r are left, and all again in t seconds
(of a refused request: when to come back, as `Retry-After`). A limit's quota is its burst, its window the
time in which a burst flows off.

A request without the field, cookie or claim that a limit goes by counts for its address: leaving it out must
not be a way around the limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from atoll.config.admission import RateLimitSpec
from atoll.edge.admission.addresses import client_key
from atoll.edge.admission.facts import Admitted, Facts, Refuse, cookie
from atoll.edge.admission.gcra import SECOND_NS, Counter, Quota, Table, Taken
from atoll.errors import AtollError
from atoll.http.fields import Headers, get, is_token

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LONG: Final = 64  # bytes: a longer key is kept as its hash, so that clients do not choose the table's size
_MOST: Final = 1_000_000

Part = Callable[[Facts, Admitted], bytes | None]


class RateLimit:
    """A `RateLimitSpec` compiled. `counter` makes what counts; one worker's table unless said otherwise.

    Raises:
        AtollError: a number or a key is not one.
    """

    __slots__ = ("_advertise", "_counter", "_member", "_parts", "_policy", "_trial", "by_claim", "name")

    def __init__(self, spec: RateLimitSpec, where: str, counter: Callable[[Quota], Counter] = Table) -> None:
        if _NAME.fullmatch(spec.name) is None:
            raise AtollError(f"{spec.name!r} is no name", "lowercase letters, digits, ., _ and -", where)
        self.name = f"limit:{spec.name}"
        quota = quota_of(spec, where)
        self._counter = counter(quota)
        self._parts = [part_of(by, where) for by in spec.by]
        if not self._parts:
            raise AtollError("the limit goes by nothing", 'by = ["address"]', f"{where}.by")
        self.by_claim = any(by.startswith("claim:") for by in spec.by)
        window_s = -(-quota.burst * quota.interval_ns // SECOND_NS)
        self._member = b'"%b"' % spec.name.encode()
        self._policy = b"%b;q=%d;w=%d" % (self._member, quota.burst, window_s)
        self._advertise = spec.advertise
        self._trial = spec.dry_run

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | None:
        """See `Rule`."""
        taken = self._counter.take(self._key(facts, so_far), int(now_s * SECOND_NS))
        if not taken.allowed and self._trial:
            so_far.would_refuse.append(self.name)
        elif not taken.allowed:
            return Refuse(self.name, 429, "Too many requests; come back later.", self._refusal(taken))
        if self._advertise and not self._trial:
            so_far.policy.append(self._policy)
            so_far.quota.append(b"%b;r=%d;t=%d" % (self._member, taken.remaining, _seconds(taken.full_ns)))
        return None

    def _refusal(self, taken: Taken) -> Headers:
        wait_s = _seconds(taken.retry_ns)
        fields: Headers = [(b"retry-after", b"%d" % wait_s)]
        if self._advertise:
            fields.append((b"ratelimit-policy", self._policy))
            fields.append((b"ratelimit", b"%b;r=0;t=%d" % (self._member, wait_s)))
        return fields

    def _key(self, facts: Facts, so_far: Admitted) -> bytes:
        parts: list[bytes] = []
        for part in self._parts:
            value = part(facts, so_far)
            # The mark keeps a client from naming another's address in a field.
            parts.append(b"-" + client_key(facts.client) if value is None else b"+" + value)
        key = b"\0".join(parts)
        return key if len(key) <= _LONG else blake2b(key, digest_size=16).digest()


def quota_of(spec: RateLimitSpec, where: str) -> Quota:
    """The limit as GCRA has it.

    Raises:
        AtollError: a number is not within its bounds.
    """
    if not 1 <= spec.rate <= _MOST or not 0.001 <= spec.per_s <= 86_400:
        hint = f"rate from 1 to {_MOST}, per_s from 0.001 to 86400"
        raise AtollError(f"{spec.rate} each {spec.per_s} s is no rate", hint, where)
    burst = spec.burst or spec.rate
    if not 1 <= burst <= _MOST:
        raise AtollError(f"a burst of {burst}", f"from 1 to {_MOST}", f"{where}.burst")
    return Quota(max(1, round(spec.per_s * SECOND_NS / spec.rate)), burst)


def part_of(by: str, where: str) -> Part:
    """How a part of the key is read; None when the request does not have it.

    Raises:
        AtollError: `by` is none that is known.
    """
    kind, colon, name = by.partition(":")
    if by == "address":
        return lambda facts, _: client_key(facts.client)
    if by == "path":
        return lambda facts, _: facts.target.partition(b"?")[0]
    if colon and name and (kind == "claim" or is_token(name.encode())):
        key = name.encode()
        if kind == "header":
            field = key.lower()
            return lambda facts, _: get(facts.headers, field)
        if kind == "cookie":
            return lambda facts, _: cookie(facts.headers, key)
        if kind == "claim":
            return lambda _, so_far: claim_of(so_far, name)
    hint = "address, path, header:NAME, cookie:NAME or claim:NAME"
    raise AtollError(f"a limit does not go by {by!r}", hint, f"{where}.by")


def claim_of(so_far: Admitted, name: str) -> bytes | None:
    """A claim as text, if it is text or a number."""
    value = so_far.claims.get(name)
    return str(value).encode() if isinstance(value, str | int | float) else None


def _seconds(time_ns: int) -> int:
    """Whole seconds, rounded up: coming back then is not too early."""
    return -(-time_ns // SECOND_NS)
