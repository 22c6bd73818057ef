"""The shell around a route's rules: facts in, answers out, keys fetched, refusals logged and counted.

The pipeline calls `admit` once for a request whose route has rules, and nothing for others. What comes of it
depends on who asks and when, so such a request stays out of the hot table, unless its rules look at its own
bytes alone: CORS, methods, lengths, security fields.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from time import time
from typing import Final, Protocol

import msgspec

from atoll.config.spec import RouteSpec, Snapshot
from atoll.edge import pages
from atoll.edge.admission.addresses import address_of
from atoll.edge.admission.amended import amended
from atoll.edge.admission.decide import Kept, Rules, decide
from atoll.edge.admission.facts import Admitted, Amendment, Certificate, Facts, Refuse, Wait
from atoll.edge.admission.jwks import KeyFetcher
from atoll.edge.admission.paths import readings
from atoll.edge.finish import BYPASS
from atoll.edge.geo import Geo
from atoll.edge.log import LEFT
from atoll.edge.routing import Site
from atoll.http.exchange import ConnectionInfo, Exchange
from atoll.http.fields import Headers, get

AMBIGUOUS: Final = Refuse("path", 400, "This path can be read in more than one way; write it plainly.")
_TRIAL_LOG_S: Final = 10.0  # between two lines about a rule on trial

_log = logging.getLogger("atoll.edge.admission")


class Desk(Protocol):
    """What the gate needs of its worker."""

    pop_bytes: bytes

    def headers(
        self, exchange: Exchange, headers: Headers, verdict: bytes, cache_status: bytes, origin_ms: float
    ) -> Headers:
        """The response's fields with the edge's own."""

    def done(self, exchange: Exchange, code: int, size: int, verdict: bytes) -> None:
        """The response is complete."""

    def fault(self, exchange: Exchange, error: Exception) -> None:
        """Something of ours went wrong."""

    def geo_of(self, conn: ConnectionInfo) -> Geo:
        """Where the client is."""


class Compiled(msgspec.Struct, frozen=True):
    """The rules of a snapshot, by the identity of their route's spec, which they keep alive.

    `sites` are the names of sites with rules.
    """

    rules: dict[int, Rules]
    kept: Kept
    sites: frozenset[str]


class Gate:
    """The rules that one worker asks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._compiled = Compiled({}, {}, frozenset())
        self.sites: frozenset[str] = frozenset()  # those with rules; requests to others are not asked about
        self._keys = KeyFetcher()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trial_logged_s: dict[str, float] = {}
        self.refused: Counter[str] = Counter()

    def compile(self, snapshot: Snapshot) -> Compiled:
        """The rules of `snapshot`; those that are as before go on counting.

        Raises:
            AtollError: a rule cannot work as it is written.
        """
        rules: dict[int, Rules] = {}
        kept: Kept = {}
        for site in snapshot.network.sites:
            for route in site.routes:
                if route.admission is not None:
                    rules[id(route)] = Rules(site, route, route.admission, self._compiled.kept, kept)
        sites = {s.name for s in snapshot.network.sites if any(route.admission for route in s.routes)}
        return Compiled(rules, kept, frozenset(sites))

    def adopt(self, compiled: Compiled) -> None:
        """Ask these from now on."""
        self._compiled = compiled
        self.sites = compiled.sites

    def close(self) -> None:
        """Let go of what waits."""
        self._keys.close()
        for task in self._tasks:
            task.cancel()

    def admit(self, exchange: Exchange, site: Site, route: RouteSpec, go_on: Callable[[], None]) -> None:
        """Call `go_on` if the route's rules let the request pass, maybe later; answer it if they do not."""
        if self._goes_around(exchange, site, route):
            self._refuse(exchange, f"{site.spec.host}{route.path}", AMBIGUOUS, ())
            return
        rules = self._compiled.rules.get(id(route))
        if rules is None:
            go_on()
            return
        if not rules.repeatable or route.function:
            exchange.raw = None
        now_s = time()
        facts = self._facts(exchange, site)
        amendments = rules.amendments(facts)
        verdict = decide(rules, facts, now_s)
        for token in rules.tokens:
            if token.ring.due(now_s) and not token.ring.empty:
                self._keys.fetch(token.ring)  # behind: those there are go on being used
        if isinstance(verdict, Wait):
            task = asyncio.ensure_future(self._later(exchange, rules, facts, verdict, amendments, go_on))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._settle(exchange, rules, verdict, amendments, go_on)

    async def _later(
        self,
        exchange: Exchange,
        rules: Rules,
        facts: Facts,
        wait: Wait,
        amendments: list[Amendment],
        go_on: Callable[[], None],
    ) -> None:
        try:
            verdict: Admitted | Refuse | Wait = wait
            while isinstance(verdict, Wait):
                await asyncio.shield(self._keys.fetch(verdict.ring))
                verdict = decide(rules, facts, time(), verdict.so_far, verdict.at)
            if exchange.stream.gone:
                self._desk.done(exchange, LEFT, 0, BYPASS)
            else:
                self._settle(exchange, rules, verdict, amendments, go_on)
        except Exception as error:  # noqa: BLE001 - one request's end
            self._desk.fault(exchange, error)

    def _settle(
        self,
        exchange: Exchange,
        rules: Rules,
        verdict: Admitted | Refuse,
        amendments: list[Amendment],
        go_on: Callable[[], None],
    ) -> None:
        if isinstance(verdict, Refuse):
            self._refuse(exchange, rules.title, verdict, amendments)
            return
        for name in verdict.would_refuse:
            self._count_trial(f"{rules.title} {name} (dry run)")
        exchange.headers = verdict.headers
        exchange.target = verdict.target
        if exchange.body is not None and not exchange.upgrade:
            exchange.body.limit = rules.max_body
        limits = verdict.limits()
        added = [*amendments, Amendment(frozenset(), [], limits)] if limits else amendments
        exchange.stream = amended(exchange.stream, added)
        go_on()

    def _goes_around(self, exchange: Exchange, site: Site, route: RouteSpec) -> bool:
        """Whether an origin might read the path as one that other rules are for."""
        for path in readings(exchange.target.partition(b"?")[0]):
            other = site.route(path)
            if other is not None and other is not route and other.admission != route.admission:
                return True
        return False

    def _facts(self, exchange: Exchange, site: Site) -> Facts:
        conn = exchange.conn
        geo = self._desk.geo_of(conn)
        asn = geo.cf.get("asn", 0)
        # A site that asks nobody for a certificate has no authority that one could be believed from: what a
        # connection brings has been verified by the authority of the site that it was opened to.
        shown = conn.client_certificate if site.spec.tls.clients != "off" else None
        return Facts(
            client=address_of(conn.client_ip) if conn.client_ip else None,
            country=geo.country,
            asn=asn if isinstance(asn, int) else 0,
            scheme=conn.scheme,
            method=exchange.method,
            target=exchange.target,
            headers=exchange.headers,
            length=_length(exchange),
            certificate=Certificate(shown.fingerprint, shown.subject) if shown is not None else None,
        )

    def _refuse(
        self, exchange: Exchange, title: str, verdict: Refuse, amendments: Sequence[Amendment]
    ) -> None:
        status = verdict.status
        rule = verdict.rule.encode()
        fields, body = self._page(exchange, verdict)
        preflight = status == 204
        fields = [*fields, *verdict.headers]
        if not preflight:  # which has said all that there is to say
            for amendment in amendments:
                fields = amendment(fields)
            self.refused[f"{title} {verdict.rule}"] += 1
        detail = b"preflight" if preflight else b'"refused by %b"' % rule
        cache_status = b"atoll-%b; detail=%b" % (self._desk.pop_bytes, detail)
        fields = self._desk.headers(exchange, fields, BYPASS, cache_status, -1.0)
        exchange.trouble = b"" if preflight else b"refused by %b" % rule
        stream = exchange.stream
        if preflight:
            stream.start(204, fields, None)
        else:
            stream.start(status, fields, len(body))
            if exchange.method != b"HEAD":
                stream.write(body)
        stream.finish()
        self._desk.done(exchange, status, len(body) if exchange.method != b"HEAD" else 0, BYPASS)

    def _page(self, exchange: Exchange, verdict: Refuse) -> tuple[Headers, bytes]:
        """What a person or a program reads of a refusal."""
        if verdict.body is not None:
            return ([(b"cache-control", b"no-store")], verdict.body) if verdict.body else ([], b"")
        if b"text/html" in (get(exchange.headers, b"accept") or b""):
            pop = self._desk.pop_bytes.decode()
            return pages.HTML, pages.error_page(verdict.status, verdict.reason, pop)
        text = f"{verdict.status} {HTTPStatus(verdict.status).phrase}: {verdict.reason}\n"
        fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        return fields, text.encode()

    def _count_trial(self, name: str) -> None:
        self.refused[name] += 1
        now_s = time()
        if now_s - self._trial_logged_s.get(name, 0.0) >= _TRIAL_LOG_S:
            self._trial_logged_s[name] = now_s
            _log.info("%s: %d requests would have been refused", name, self.refused[name])


def _length(exchange: Exchange) -> int | None:
    """What is known of the body's length: announced, or come already."""
    if exchange.body is None:
        return 0
    value = get(exchange.headers, b"content-length")
    if value is not None and value.isdigit():
        return int(value)
    return exchange.body.received or None
