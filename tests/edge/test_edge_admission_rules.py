"""Lists, limits, methods, lengths, certificates, CORS and security fields as pure functions."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.admission import (
    AccessSpec,
    AdmissionSpec,
    ClientCertificateSpec,
    CorsSpec,
    RateLimitSpec,
    SecurityHeadersSpec,
    TokenKeySpec,
    TokenSpec,
)
from atoll.config.spec import RouteSpec, SiteSpec
from atoll.edge.admission.access import Access
from atoll.edge.admission.addresses import PrefixTable, address_of, client_key, prefix_of
from atoll.edge.admission.cors import Cors
from atoll.edge.admission.decide import Kept, Rules, decide
from atoll.edge.admission.facts import (
    Admitted,
    Amendment,
    Certificate,
    Facts,
    Refuse,
    cookie,
    query_value,
    without_cookie,
    without_query,
)
from atoll.edge.admission.gcra import SECOND_NS, Quota, Table, take
from atoll.edge.admission.limits import RateLimit
from atoll.edge.admission.paths import readings
from atoll.edge.admission.request import ClientCertificate, MaxBody, Methods
from atoll.edge.admission.security import STRICT, security_fields
from atoll.errors import AtollError
from atoll.http.fields import Headers, get
from atoll.http.negotiate import with_vary

BASE = Facts(address_of("198.51.100.7"), "DE", 64500, b"https", b"GET", b"/a?b=1", [])


def facts(**changes: object) -> Facts:
    return BASE._replace(**changes)  # type: ignore[arg-type]


def rules_of(spec: AdmissionSpec, before: Kept | None = None, now: Kept | None = None) -> Rules:
    route = RouteSpec(path="/*", admission=spec)
    site = SiteSpec(name="shop", host="shop.test", routes=(route,))
    return Rules(site, route, spec, before or {}, now if now is not None else {})


def refused(rule: object, asked: Facts, now_s: float = 0.0) -> Refuse | None:
    verdict = rule.judge(asked, Admitted(asked), now_s)  # type: ignore[attr-defined]
    assert verdict is None or isinstance(verdict, Refuse)
    return verdict


# --- addresses and lists


def test_an_address_inside_ipv6_is_that_address() -> None:
    assert address_of("::ffff:192.0.2.1") == address_of("192.0.2.1")
    assert address_of("fe80::1%eth0") == address_of("fe80::1")
    assert address_of("nonsense") is None


def test_an_ipv6_client_is_its_64() -> None:
    assert client_key(address_of("2001:db8::1")) == client_key(address_of("2001:db8::ffff:1"))
    assert client_key(address_of("2001:db8:0:1::1")) != client_key(address_of("2001:db8::1"))
    assert client_key(address_of("192.0.2.1")) != client_key(address_of("192.0.2.2"))


NETWORKS = st.builds(
    lambda number, bits: ipaddress.IPv4Network((number, bits), strict=False),
    st.integers(0, 2**32 - 1).map(lambda n: n & 0xFF00FFFF),
    st.integers(0, 32),
)


@given(st.dictionaries(NETWORKS, st.integers(0, 9), max_size=20), st.lists(st.integers(0, 2**32 - 1)))
def test_the_longest_prefix_is_found(table: dict[ipaddress.IPv4Network, int], extra: list[int]) -> None:
    compiled = PrefixTable([(*prefix_of(str(net), ""), value) for net, value in table.items()])
    edges = [int(net.network_address) + off for net in table for off in (-1, 0, net.num_addresses)]
    for number in (n for n in (*edges, *extra) if 0 <= n < 2**32):
        address = ipaddress.IPv4Address(number)
        holding = [net for net in table if address in net]
        longest = max(holding, key=lambda net: net.prefixlen, default=None)
        expected = table[longest] if longest is not None else None
        found = address_of(str(address))
        assert found is not None
        assert compiled.find(found) == expected


def test_lists_the_most_specific_knowledge_decides() -> None:
    access = Access(
        AccessSpec(
            allow=("10.1.0.0/16", "2001:db8:1::/48"),
            deny=("10.0.0.0/8", "10.1.2.0/24", "2001:db8::/32"),
            allow_asns=(64500,),
            deny_countries=("DE",),
        ),
        "access",
    )
    cases = [
        ("10.1.1.1", 64500, "DE", True),
        ("10.1.2.9", 64500, "FR", False),
        ("10.9.9.9", 64500, "FR", False),
        ("::ffff:10.9.9.9", 64500, "FR", False),
        ("2001:db8:1::5", 1, "DE", True),
        ("2001:db8:2::5", 64500, "FR", False),
        ("198.51.100.1", 64500, "DE", True),  # the AS before the country
        ("198.51.100.1", 1, "DE", False),
        ("198.51.100.1", 1, "FR", True),
    ]
    for text, asn, country, allowed in cases:
        asked = facts(client=address_of(text), asn=asn, country=country)
        assert (refused(access, asked) is None) == allowed, text


def test_lists_a_client_without_an_address_is_on_none() -> None:
    access = Access(AccessSpec(allow=("0.0.0.0/0", "::/0"), otherwise="deny"), "access")
    assert refused(access, facts()) is None
    verdict = refused(access, facts(client=None, asn=0, country=""))
    assert verdict is not None
    assert verdict.status == 403


@pytest.mark.parametrize(
    "spec",
    [
        AccessSpec(),
        AccessSpec(allow=("10.0.0.0/8",)),
        AccessSpec(deny=("10.0.0.1/8",)),
        AccessSpec(deny=("10.0.0.0/8",), allow=("10.0.0.0/8",)),
        AccessSpec(deny_countries=("de",)),
        AccessSpec(deny_asns=(1,), allow_asns=(1,)),
    ],
)
def test_lists_that_make_no_sense_are_refused(spec: AccessSpec) -> None:
    with pytest.raises(AtollError):
        Access(spec, "access")


def test_a_list_on_trial_lets_pass_and_says_so() -> None:
    access = Access(AccessSpec(deny_countries=("DE",), dry_run=True), "access")
    so_far = Admitted(BASE)
    assert access.judge(BASE, so_far, 0.0) is None
    assert so_far.would_refuse == ["access"]


# --- the generic cell rate algorithm


@given(
    st.integers(1, 10**9),
    st.integers(1, 50),
    st.lists(st.integers(0, 3 * 10**9), min_size=1, max_size=120),
)
def test_gcra_never_allows_more_than_burst_and_rate(interval_ns: int, burst: int, gaps: list[int]) -> None:
    quota = Quota(interval_ns, burst)
    arrival_ns = now_ns = 0
    allowed: list[int] = []
    for gap in gaps:
        now_ns += gap
        taken = take(quota, arrival_ns, now_ns)
        arrival_ns = taken.arrival_ns
        if taken.allowed:
            allowed.append(now_ns)
            assert taken.retry_ns == 0
            assert 0 <= taken.remaining < burst
        else:
            assert not take(quota, arrival_ns, now_ns + taken.retry_ns - 1).allowed
            assert take(quota, arrival_ns, now_ns + taken.retry_ns).allowed
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            span_ns = allowed[last] - allowed[first]
            assert last - first + 1 <= burst + span_ns // interval_ns


def test_gcra_a_clock_set_back_keeps_nobody_out_for_longer_than_a_burst() -> None:
    quota = Quota(SECOND_NS, 5)
    taken = take(quota, 10**6 * SECOND_NS, 0)
    assert not taken.allowed
    assert taken.retry_ns == SECOND_NS


def test_a_full_table_stays_bounded_and_forgives_nobody() -> None:
    table = Table(Quota(SECOND_NS, 3), capacity=100, cells=64)
    for _ in range(3):
        assert table.take(b"me", 0).allowed
    assert not table.take(b"me", 0).allowed
    for number in range(1000):  # push it out
        table.take(b"%d" % number, 1)
    assert len(table) == 100
    assert not table.take(b"me", 2).allowed
    assert table.take(b"me", SECOND_NS).allowed  # as its rate allows


def test_strangers_that_share_a_cell_are_free_again_after_a_burst() -> None:
    table = Table(Quota(SECOND_NS, 3), capacity=1, cells=1)
    for _ in range(3):
        table.take(b"heavy", 0)
    table.take(b"other", 0)
    table.take(b"third", 0)
    assert table.take(b"new", 3 * SECOND_NS).remaining == 2


# --- rate limits


def limit(**options: object) -> RateLimit:
    spec = RateLimitSpec(name="api", rate=2, per_s=10.0, **options)  # type: ignore[arg-type]
    return RateLimit(spec, "limits[0]")


def test_a_limit_answers_429_and_says_when_to_come_back() -> None:
    rule = limit()
    so_far = Admitted(BASE)
    assert rule.judge(BASE, so_far, 100.0) is None
    assert so_far.limits() == [
        (b"ratelimit-policy", b'"api";q=2;w=10'),
        (b"ratelimit", b'"api";r=1;t=5'),
    ]
    assert refused(rule, BASE, 100.0) is None
    verdict = refused(rule, BASE, 100.5)
    assert verdict is not None
    assert (verdict.status, verdict.rule) == (429, "limit:api")
    assert dict(verdict.headers) == {
        b"retry-after": b"5",
        b"ratelimit-policy": b'"api";q=2;w=10',
        b"ratelimit": b'"api";r=0;t=5',
    }
    assert refused(rule, BASE, 105.0) is None


@pytest.mark.parametrize(
    ("by", "other"),
    [
        ("address", {"client": address_of("198.51.100.8")}),
        ("path", {"target": b"/other"}),
        ("header:X-Key", {"headers": [(b"x-key", b"other")]}),
        ("cookie:id", {"headers": [(b"cookie", b"a=b; id=other")]}),
    ],
)
def test_a_limit_counts_by(by: str, other: dict[str, object]) -> None:
    rule = limit(by=(by,), burst=1)
    mine = facts(headers=[(b"x-key", b"mine"), (b"cookie", b"id=mine")])
    assert refused(rule, mine) is None
    assert refused(rule, mine) is not None
    assert refused(rule, facts(**other)) is None
    assert refused(rule, facts(**other)) is not None


def test_a_limit_is_not_escaped_by_leaving_its_field_out_or_naming_another() -> None:
    rule = limit(by=("header:x-key",), burst=1)
    assert refused(rule, facts()) is None
    assert refused(rule, facts()) is not None
    spoofed = facts(client=None, headers=[(b"x-key", client_key(BASE.client))])
    assert refused(rule, spoofed) is None  # one's own quota, not that of the address


def test_a_long_key_takes_no_more_room() -> None:
    rule = limit(by=("header:x-key",), burst=1)
    mine, other = (facts(headers=[(b"x-key", b"k" * 9000 + end)]) for end in (b"1", b"2"))
    assert refused(rule, mine) is None
    assert refused(rule, mine) is not None
    assert refused(rule, other) is None


def test_a_limit_goes_by_a_claim() -> None:
    rule = limit(by=("claim:sub",), burst=1)
    for subject, passes in (("ann", True), ("bob", True), ("ann", False)):
        so_far = Admitted(BASE)
        so_far.claims = {"sub": subject}
        assert (rule.judge(BASE, so_far, 0.0) is None) == passes


def test_a_limit_on_trial_refuses_nobody() -> None:
    rule = limit(burst=1, dry_run=True)
    so_far = Admitted(BASE)
    for _ in range(3):
        assert rule.judge(BASE, so_far, 0.0) is None
    assert so_far.would_refuse == ["limit:api", "limit:api"]
    assert so_far.limits() == []


@pytest.mark.parametrize(
    "changes",
    [{"rate": 0}, {"per_s": 0.0}, {"burst": -1}, {"name": 'a"b'}, {"by": ()}, {"by": ("colour",)}],
)
def test_a_limit_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    spec = msgspec.structs.replace(RateLimitSpec(name="api", rate=1), **changes)
    with pytest.raises(AtollError):
        RateLimit(spec, "limits[0]")


# --- methods, lengths, certificates


def test_methods_that_a_route_does_not_have_are_405_with_allow() -> None:
    rule = Methods(("GET", "POST"), "methods")
    assert refused(rule, facts(method=b"HEAD")) is None
    verdict = refused(rule, facts(method=b"DELETE"))
    assert verdict is not None
    assert (verdict.status, list(verdict.headers)) == (405, [(b"allow", b"GET, POST, HEAD")])


def test_a_body_is_as_long_as_the_route_takes() -> None:
    rule = MaxBody(10, "max_body")
    assert [refused(rule, facts(length=length)) is None for length in (0, 10, None, 11)] == [
        True,
        True,
        True,
        False,
    ]


def test_a_client_certificate_by_fingerprint_or_subject() -> None:
    rule = ClientCertificate(ClientCertificateSpec(fingerprints=("AA:" * 31 + "AA",), subjects=("CN=x",)), "")
    shown = {
        None: False,
        Certificate("aa" * 32, "CN=other"): True,
        Certificate("bb" * 32, "CN=x"): True,
        Certificate("bb" * 32, "CN=other"): False,
    }
    for certificate, passes in shown.items():
        assert (refused(rule, facts(certificate=certificate)) is None) == passes
    anyone = ClientCertificate(ClientCertificateSpec(), "")
    assert refused(anyone, facts(certificate=Certificate("cc" * 32, ""))) is None


# --- CORS


def preflight(origin: bytes, method: bytes = b"PUT", wanted: bytes = b"") -> Facts:
    headers = [(b"origin", origin), (b"access-control-request-method", method)]
    if wanted:
        headers.append((b"access-control-request-headers", wanted))
    return facts(method=b"OPTIONS", headers=headers)


CORS = Cors(
    CorsSpec(
        origins=("https://app.example", "https://*.wild.example:8443"),
        methods=("GET", "PUT"),
        request_headers=("Content-Type",),
        exposed=("X-Total",),
        credentials=True,
    ),
    "cors",
)


def test_a_preflight_is_answered() -> None:
    verdict = refused(CORS, preflight(b"https://app.example", wanted=b"content-type"))
    assert verdict is not None
    assert verdict.status == 204
    assert dict(verdict.headers) == {
        b"access-control-allow-origin": b"https://app.example",
        b"access-control-allow-credentials": b"true",
        b"access-control-allow-methods": b"GET, PUT",
        b"access-control-allow-headers": b"content-type",
        b"access-control-max-age": b"600",
        b"vary": b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


@pytest.mark.parametrize(
    "asked",
    [
        preflight(b"https://evil.example"),
        preflight(b"https://app.example", b"DELETE"),
        preflight(b"https://app.example", wanted=b"x-other"),
        preflight(b"https://app.example", wanted=b"content-type, bad name"),
    ],
)
def test_a_preflight_that_is_not_allowed_is_refused(asked: Facts) -> None:
    verdict = refused(CORS, asked)
    assert verdict is not None
    assert verdict.status == 403
    assert get(list(verdict.headers), b"access-control-allow-origin") is None


def test_options_that_are_no_preflight_go_on() -> None:
    assert refused(CORS, facts(method=b"OPTIONS", headers=[(b"origin", b"https://app.example")])) is None


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (b"https://app.example", True),
        (b"http://app.example", False),
        (b"https://app.example.evil.test", False),
        (b"https://evil-app.example", False),
        (b"https://a.wild.example:8443", True),
        (b"https://a.b.wild.example:8443", True),
        (b"https://wild.example:8443", False),
        (b"https://.wild.example:8443", False),
        (b"https://a.wild.example", False),
        (b"https://evil.test/.wild.example:8443", False),
        (b"https://evil.test#.wild.example:8443", False),
        (b"null", False),
    ],
)
def test_which_origins_are_allowed(origin: bytes, allowed: bool) -> None:
    assert CORS.allows(origin) == allowed


def test_a_response_says_vary_origin_whoever_asks() -> None:
    stored: Headers = [(b"vary", b"Accept"), (b"access-control-allow-origin", b"https://other.example")]
    for origin, granted in ((b"https://app.example", True), (b"https://evil.example", False), (None, False)):
        fields = CORS.amendment(origin)(stored)
        assert get(fields, b"vary") == b"Accept, Origin"
        assert (get(fields, b"access-control-allow-origin") == origin and origin is not None) == granted
        assert (get(fields, b"access-control-expose-headers") == b"X-Total") == granted


def test_any_origin_needs_no_vary() -> None:
    anyone = Cors(CorsSpec(origins=("*",)), "cors")
    assert anyone.amendment(None)([]) == []
    assert anyone.amendment(b"https://x.example")([]) == [(b"access-control-allow-origin", b"*")]


@pytest.mark.parametrize(
    "spec",
    [
        CorsSpec(origins=("*",), credentials=True),
        CorsSpec(origins=("*", "https://app.example")),
        CorsSpec(origins=("https://.*\\.example",)),
        CorsSpec(origins=("https://app.example/",)),
        CorsSpec(origins=("https://*",)),
        CorsSpec(origins=("null",)),
        CorsSpec(origins=("app.example",)),
    ],
)
def test_cors_that_makes_no_sense_is_refused(spec: CorsSpec) -> None:
    with pytest.raises(AtollError):
        Cors(spec, "cors")


# --- what responses get


def test_security_fields_hsts_on_https_only() -> None:
    spec = SecurityHeadersSpec(preset="strict", frame_options="SAMEORIGIN")
    https = dict(security_fields(spec, "", b"https"))
    assert https == {**{k.encode(): v.encode() for k, v in STRICT.items()}, b"x-frame-options": b"SAMEORIGIN"}
    assert b"strict-transport-security" not in dict(security_fields(spec, "", b"http"))
    with pytest.raises(AtollError):
        security_fields(SecurityHeadersSpec(referrer_policy="a\r\nSet-Cookie: b"), "", b"https")


@given(
    st.lists(st.sampled_from([(b"a", b"1"), (b"b", b"2"), (b"vary", b"X"), (b"vary", b"*"), (b"c", b"3")]))
)
def test_amending_twice_changes_nothing_more(headers: Headers) -> None:
    amend = Amendment(frozenset((b"a",)), [(b"b", b"given")], [(b"c", b"set")], (b"Origin",))
    once = amend(headers)
    assert sorted(amend(once)) == sorted(once)
    assert get(once, b"a") is None
    assert get(once, b"c") == b"set"
    assert get(once, b"b") == (get(headers, b"b") or b"given")


def test_vary_is_extended_once() -> None:
    assert with_vary([(b"vary", b"origin, Accept")], (b"Origin",)) == [(b"vary", b"origin, Accept")]
    assert with_vary([(b"vary", b"*")], (b"Origin",)) == [(b"vary", b"*")]
    assert with_vary([], (b"Origin",)) == [(b"vary", b"Origin")]


def test_cookies_and_parameters_are_found_and_taken_off() -> None:
    headers: Headers = [(b"cookie", b'a=1; token="x"; b=2'), (b"cookie", b"token=y")]
    assert cookie(headers, b"token") == b"x"
    assert without_cookie(headers, b"token") == [(b"cookie", b"a=1; b=2")]
    assert query_value(b"/p?a=1&t=2&t=3", b"t") == b"2"
    assert without_query(b"/p?a=1&t=2&t=3", frozenset((b"t",))) == b"/p?a=1"
    assert without_query(b"/p?t=2", frozenset((b"t",))) == b"/p"
    assert without_query(b"/p?", frozenset((b"t",))) == b"/p?"


# --- the order


def test_the_order_of_rules() -> None:
    spec = AdmissionSpec(
        access=AccessSpec(deny_countries=("DE",)),
        limits=(RateLimitSpec(name="all", rate=5), RateLimitSpec(name="user", rate=5, by=("claim:sub",))),
        cors=CorsSpec(origins=("*",)),
        methods=("GET",),
        max_body=1,
        token=TokenSpec(keys=(TokenKeySpec(alg="HS256", secret="s" * 32),)),
        client_certificate=ClientCertificateSpec(),
    )
    rules = rules_of(spec)
    order = ["access", "limit:all", "cors", "methods", "body", "token", "client-certificate", "limit:user"]
    assert [rule.name for rule in rules.rules] == order
    assert not rules.repeatable
    verdict = decide(rules, BASE, 0.0)
    assert isinstance(verdict, Refuse)
    assert verdict.rule == "access"
    verdict = decide(rules, facts(country="FR"), 0.0)
    assert isinstance(verdict, Refuse)
    assert (verdict.rule, verdict.status) == ("token", 401)


def test_rules_about_the_request_alone_may_be_repeated() -> None:
    spec = AdmissionSpec(
        cors=CorsSpec(origins=("*",)),
        methods=("GET",),
        max_body=1,
        security=SecurityHeadersSpec(nosniff=True),
    )
    assert rules_of(spec).repeatable
    assert not rules_of(AdmissionSpec(limits=(RateLimitSpec(name="a", rate=1),))).repeatable


def test_a_rule_that_stays_as_it_was_goes_on_counting() -> None:
    spec = AdmissionSpec(limits=(RateLimitSpec(name="a", rate=1, per_s=60.0),))
    kept: Kept = {}
    assert isinstance(decide(rules_of(spec, {}, kept), BASE, 0.0), Admitted)
    again: Kept = {}
    changed = msgspec.structs.replace(spec, methods=("GET",))
    assert isinstance(decide(rules_of(changed, kept, again), BASE, 0.0), Refuse)
    assert again.keys() > kept.keys()


@pytest.mark.parametrize(
    "spec",
    [
        AdmissionSpec(limits=(RateLimitSpec(name="a", rate=1), RateLimitSpec(name="a", rate=2))),
        AdmissionSpec(limits=(RateLimitSpec(name="a", rate=1, by=("claim:sub",)),)),
        AdmissionSpec(methods=("get",)),
        AdmissionSpec(max_body=-1),
        AdmissionSpec(
            token=TokenSpec(keys=(TokenKeySpec(alg="HS256", secret="s" * 32),), forward={"sub": "X-User"})
        ),
    ],
)
def test_rules_that_make_no_sense_say_where(spec: AdmissionSpec) -> None:
    with pytest.raises(AtollError) as caught:
        rules_of(spec)
    assert caught.value.where.startswith("sites.shop.routes[/*].admission")


# --- paths


@pytest.mark.parametrize("path", [b"/", b"/a/b.html", b"/.well-known", b"/a-b_c~d/", b"/a.b/c..d"])
def test_ordinary_paths_have_one_reading(path: bytes) -> None:
    assert readings(path) in ([], [path])


@pytest.mark.parametrize(
    "path",
    [
        b"/%61dmin/x",
        b"/admi%6E/x",
        b"/%2561dmin/x",
        b"//admin/x",
        b"/./admin/x",
        b"/a/../admin/x",
        b"/a/%2e%2E/admin/x",
        b"/a/..%2fadmin/x",
        b"/a/..%5cadmin/x",
        b"/a\\..\\admin/x",
        b"/admin;a=b/x",
        b"/;/admin/x",
        b"/../admin/x",
    ],
)
def test_what_an_origin_may_read_as_another_path(path: bytes) -> None:
    assert b"/admin/x" in readings(path)


@given(
    st.lists(st.sampled_from([b"/", b".", b"..", b"a", b"%2e", b"%2F", b"%25", b";x", b"\\"]), max_size=12)
)
def test_readings_are_plain_paths(parts: list[bytes]) -> None:
    for reading in readings(b"/" + b"".join(parts)):
        assert reading.startswith(b"/")
        assert b"//" not in reading
        assert not {b".", b".."} & set(reading.split(b"/"))
