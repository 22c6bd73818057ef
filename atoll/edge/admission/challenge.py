"""A proof of work that a browser does by itself, and its check, without any state. Pure.

The page carries a ticket: expiry, difficulty, and an HMAC that binds both to the client (its address, of
IPv6 the /64) and to the site. Its script looks for a number with which SHA-256 of `ticket.number` begins
with as many zero bits as the difficulty says, and keeps both in a cookie. Whoever shows it from the same
address before it expires has done the work; each visit costs one HMAC and one hash to check.

It makes mass requests dear. It does not tell a person from a patient program.
"""

from __future__ import annotations

import base64
import hmac
import re
from hashlib import sha256
from typing import Final

from atoll.config.admission import ChallengeSpec
from atoll.edge.admission.addresses import Address, client_key
from atoll.edge.admission.challenge_page import CONTENT_POLICY, render
from atoll.edge.admission.facts import Admitted, Facts, Refuse, cookie, without_cookie
from atoll.errors import AtollError

COOKIE: Final = b"atoll-pass"
MIN_SECRET: Final = 16  # bytes
MAX_DIFFICULTY: Final = 24  # minutes of a telephone's time

_PASS: Final = re.compile(
    rb"((?P<expires>[0-9]{1,12})\.(?P<bits>[0-9]{1,2})\.[A-Za-z0-9_-]{22})\.[0-9]{1,12}"
)
_PAGE_FIELDS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", CONTENT_POLICY),
)


class Challenge:
    """A `ChallengeSpec` compiled for one site.

    Raises:
        AtollError: the secret is short, or a number not within its bounds.
    """

    __slots__ = ("_bits", "_secret", "_site", "_ttl_s", "name")

    def __init__(self, spec: ChallengeSpec, where: str, site: str) -> None:
        self.name = "challenge"
        if len(spec.secret.encode()) < MIN_SECRET:
            raise AtollError("the secret is too short", f"{MIN_SECRET} bytes or more", f"{where}.secret")
        if not 1 <= spec.difficulty <= MAX_DIFFICULTY or not 60 <= spec.ttl_s <= 604_800:
            hint = f"difficulty from 1 to {MAX_DIFFICULTY}, ttl_s from 60 to 604800"
            raise AtollError("a number is out of bounds", hint, where)
        self._secret = spec.secret.encode()
        self._bits = spec.difficulty
        self._ttl_s = spec.ttl_s
        self._site = site.encode()

    def ticket(self, client: Address | None, expires_s: int) -> bytes:
        """What a client has to work on."""
        head = b"%d.%d" % (expires_s, self._bits)
        message = b"\n".join((b"atoll-challenge-1", self._site, client_key(client).hex().encode(), head))
        mac = hmac.digest(self._secret, message, "sha256")[:16]
        return head + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")

    def passes(self, shown: bytes, client: Address | None, now_s: float) -> bool:
        """Whether `shown` is a ticket of this client's with the work done."""
        match = _PASS.fullmatch(shown)
        if match is None or int(match["bits"]) != self._bits:
            return False
        expires_s = int(match["expires"])
        if not now_s < expires_s <= now_s + self._ttl_s + 1:
            return False
        return worked(shown, self._bits) and hmac.compare_digest(match[1], self.ticket(client, expires_s))

    def judge(self, facts: Facts, so_far: Admitted, now_s: float) -> Refuse | None:
        """See `Rule`."""
        shown = cookie(facts.headers, COOKIE)
        if shown is not None and self.passes(shown, facts.client, now_s):
            so_far.headers = without_cookie(so_far.headers, COOKIE)
            return None
        page = render(self.ticket(facts.client, int(now_s) + self._ttl_s), self._bits, self._ttl_s)
        return Refuse(self.name, 403, "A short computation is asked of your browser.", _PAGE_FIELDS, page)


def worked(shown: bytes, bits: int) -> bool:
    """Whether the hash of `shown` begins with `bits` zero bits."""
    return int.from_bytes(sha256(shown).digest(), "big") >> (256 - bits) == 0
