"""What one client says never decides what another one gets: poisoning, deception, errors kept for all.

Each case is an attack and an innocent user behind it, who must get what the attack did not touch. The origin
is as careless as the attack needs it: it believes fields, reflects them, and lets everything be stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest
from edge_world import (
    HOST,
    ROUTES,
    Asked,
    Response,
    World,
    get,
    page,
    post,
    read_response,
    reset,
    running,
    until,
    world,
)

from atoll.config.spec import SiteSpec
from atoll.http.limits import Limits

__all__ = ["world"]

GOOD: Final = b"good"
FRESH: Final = b"max-age=60"
Answer = Callable[[Asked], bytes]


class Case(NamedTuple):
    """`attack` is sent first, each part on a connection of its own; then `innocent` has to get `expected`."""

    name: str
    attack: tuple[bytes, ...]
    answer: Answer
    innocent: bytes = get(b"/a")
    expected: bytes = GOOD


def evil_if(
    condition: Callable[[Asked], bool], *fields: bytes, status: bytes = b"200 OK", cache: bytes = FRESH
) -> Answer:
    """An origin that answers an attack with something that is kept, and everybody else well."""

    def answer(asked: Asked) -> bytes:
        if condition(asked):
            return page(b"evil", cache, *fields, status=status)
        return page(GOOD, FRESH, *fields)

    return answer


def has(*names: bytes) -> Callable[[Asked], bool]:
    """Whether any of these fields has reached the origin."""
    return lambda asked: any(name in asked.fields for name in names)


def says(name: bytes, text: bytes) -> Callable[[Asked], bool]:
    """Whether a field holds `text`."""
    return lambda asked: text in asked.fields.get(name, b"")


# --- fields that an origin believes, and that are part of no key

BELIEVED: Final = (
    b"X-Forwarded-Host",
    b"X-Forwarded-Server",
    b"X-Forwarded-Port",
    b"X-Forwarded-Scheme",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Protocol",
    b"X-Forwarded-Ssl",
    b"X-Forwarded-Prefix",
    b"X-Forwarded-Path",
    b"X-Forwarded-For",
    b"X-Forwarded",
    b"Forwarded",
    b"Forwarded-For",
    b"X-Host",
    b"X-Original-Host",
    b"X-HTTP-Host-Override",
    b"X-Url-Scheme",
    b"Front-End-Https",
    b"X-Original-URL",
    b"X-Rewrite-URL",
    b"X-Original-URI",
    b"X-HTTP-Method-Override",
    b"X-HTTP-Method",
    b"X-Method-Override",
    b"X-Real-IP",
    b"X-Client-IP",
    b"True-Client-IP",
    b"CF-Connecting-IP",
    b"Client-IP",
    b"X-Cluster-Client-IP",
    b"X_Forwarded_Host",
    b"X_Original_URL",
    b"X_HTTP_Method_Override",
    b"Client_Cert",
    b"Proxy",
)

FIELDS: Final[list[Case]] = [
    Case(
        f"{name.decode()} of a client", (get(b"/a", name + b": evil"),), evil_if(says(name.lower(), b"evil"))
    )
    for name in BELIEVED
]
HIDDEN: Final = [
    Case(
        "a field hidden by Connection",
        (get(b"/a", b"Connection: x-key, accept-language", b"X-Key: 1", b"Accept-Language: de"),),
        lambda asked: page(asked.fields.get(b"accept-language", GOOD), FRESH, b"Vary: Accept-Language"),
    ),
    Case(
        "a field that Connection would strip from what is private",
        (get(b"/a", b"Connection: cookie, authorization", b"Cookie: id=1", b"Authorization: Basic x"),),
        lambda asked: page(b"evil" if b"authorization" in asked.fields else GOOD, FRESH),
    ),
    Case(
        "trailers of a request",
        (
            get(b"/a", b"Transfer-Encoding: chunked", b"Trailer: X-Forwarded-Host")
            + b"0\r\nX-Forwarded-Host: evil\r\n\r\n",
        ),
        evil_if(says(b"x-forwarded-host", b"evil")),
    ),
    Case(
        "a Via of a client's",
        (get(b"/a", b"Via: 1.0 evil"),),
        evil_if(lambda asked: asked.fields[b"via"] == b"1.0 evil"),
    ),
]

# --- bodies, methods and conditions

METHODS: Final = [
    Case(
        "GET with a body",
        (get(b"/a", b"Content-Length: 4") + b"evil",),
        evil_if(lambda asked: bool(asked.body)),
    ),
    Case(
        "GET with a chunked body",
        (get(b"/a", b"Transfer-Encoding: chunked") + b"4\r\nevil\r\n0\r\n\r\n",),
        evil_if(lambda asked: bool(asked.body)),
    ),
    Case(
        "GET with a form",
        (get(b"/a", b"Content-Length: 4", b"Content-Type: application/x-www-form-urlencoded") + b"a=ev",),
        evil_if(lambda asked: bool(asked.body)),
    ),
    Case("HEAD first", (get(b"/a", method=b"HEAD"),), lambda asked: page(GOOD, FRESH)),
    Case(
        "POST with a fresh answer",
        (post(b"/a", b"x"),),
        evil_if(lambda asked: asked.line.startswith(b"POST")),
    ),
    Case(
        "POST that names another URL as its content",
        (post(b"/evil", b"x"),),
        evil_if(lambda asked: asked.line.startswith(b"POST"), b"Content-Location: /a"),
    ),
    Case("PUT", (get(b"/a", method=b"PUT"),), evil_if(lambda asked: asked.line.startswith(b"PUT"))),
    Case(
        "OPTIONS", (get(b"/a", method=b"OPTIONS"),), evil_if(lambda asked: asked.line.startswith(b"OPTIONS"))
    ),
    Case(
        "DELETE that fails",
        (get(b"/a", method=b"DELETE"),),
        evil_if(lambda a: a.line.startswith(b"DELETE"), status=b"404 x"),
    ),
    Case(
        "TRACE",
        (get(b"/a", b"X-Evil: evil", method=b"TRACE"),),
        evil_if(lambda asked: asked.line.startswith(b"TRACE")),
    ),
    Case(
        "PROPFIND",
        (get(b"/a", method=b"PROPFIND"),),
        evil_if(lambda asked: asked.line.startswith(b"PROPFIND")),
    ),
    Case(
        "a range",
        (get(b"/a", b"Range: bytes=0-1"),),
        lambda asked: (
            page(b"go", FRESH, b"Content-Range: bytes 0-1/4", b'ETag: "a"', status=b"206 Partial Content")
            if asked.fields.get(b"range") == b"bytes=0-1"
            else page(
                b"od", FRESH, b"Content-Range: bytes 2-3/4", b'ETag: "a"', status=b"206 Partial Content"
            )
            if b"range" in asked.fields
            else page(GOOD, FRESH, b'ETag: "a"')
        ),
    ),
    Case(
        "a range of another length",
        (get(b"/a", b"Range: bytes=0-3"),),
        lambda asked: (
            page(b"evil", FRESH, b"Content-Range: bytes 0-3/9", status=b"206 Partial Content")
            if b"range" in asked.fields
            else page(GOOD, FRESH)
        ),
    ),
    Case(
        "a range that does not exist",
        (get(b"/a", b"Range: bytes=900-"),),
        evil_if(has(b"range"), b"Content-Range: bytes */4", status=b"416 x"),
    ),
    Case(
        "an answer of 206 without a range",
        (get(b"/b"),),
        lambda a: page(b"evil", FRESH, status=b"206 x") if a.target == b"/b" else page(GOOD, FRESH),
    ),
    Case("If-Match", (get(b"/a", b'If-Match: "evil"'),), evil_if(has(b"if-match"), status=b"412 x")),
    Case(
        "If-Unmodified-Since",
        (get(b"/a", b"If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),),
        evil_if(has(b"if-unmodified-since"), status=b"412 x"),
    ),
    Case(
        "If-None-Match",
        (get(b"/a", b'If-None-Match: "evil"'),),
        evil_if(has(b"if-none-match"), b'ETag: "evil"', status=b"304 x"),
    ),
    Case(
        "If-Modified-Since",
        (get(b"/a", b"If-Modified-Since: Sun, 06 Nov 2044 08:49:37 GMT"),),
        evil_if(has(b"if-modified-since"), status=b"304 x"),
    ),
    Case("Expect", (get(b"/a", b"Expect: evil"),), evil_if(has(b"expect"), status=b"417 x")),
    Case(
        "a protocol upgrade",
        (get(b"/a", b"Connection: Upgrade", b"Upgrade: evil"),),
        evil_if(has(b"upgrade")),
    ),
    Case(
        "an upgrade to HTTP/2",
        (get(b"/a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),),
        evil_if(has(b"upgrade", b"http2-settings")),
    ),
    Case("PURGE by anybody", (get(b"/a"), get(b"/a", method=b"PURGE")), lambda asked: page(GOOD, FRESH)),
]

# --- errors that one client can cause

ERRORS: Final = [
    Case("an oversized field", (get(b"/a", b"X: " + b"y" * 40_000),), evil_if(has(b"x"), status=b"431 x")),
    Case(
        "a field that the origin finds too large",
        (get(b"/a", b"X: " + b"y" * 20_000),),
        evil_if(has(b"x"), status=b"431 x"),
    ),
    Case(
        "a field that the origin finds bad",
        (get(b"/a", b"X-Evil: 1"),),
        evil_if(has(b"x-evil"), status=b"400 x", cache=b"public"),
    ),
    Case(
        "too many fields",
        (get(b"/a", *(b"X%d: y" % n for n in range(200))),),
        evil_if(has(b"x1"), status=b"400 x"),
    ),
    *(
        Case(
            f"a meta-character, {byte!r}",
            (get(b"/a", b"X: a" + byte + b"b"),),
            evil_if(has(b"x"), status=b"400 x"),
        )
        for byte in (b"\n", b"\r", b"\x07", b"\0", b"\x7f", b"\x1b")
    ),
    Case(
        "a cookie that the origin refuses",
        (get(b"/a", b"Cookie: " + b"e" * 9000),),
        evil_if(has(b"cookie"), status=b"400 x", cache=b"public"),
    ),
    Case(
        "a limited client",
        (get(b"/a", b"X-Evil: 1"),),
        evil_if(has(b"x-evil"), b"Retry-After: 9", status=b"429 x"),
    ),
    Case(
        "a login page instead",
        (get(b"/a", b"X-Evil: 1"),),
        evil_if(has(b"x-evil"), b"Location: /login", status=b"302 x", cache=b"no-store"),
    ),
    Case("a server error", (get(b"/a", b"X-Evil: 1"),), evil_if(has(b"x-evil"), status=b"500 x", cache=b"")),
    Case("a bad gateway", (get(b"/a", b"X-Evil: 1"),), evil_if(has(b"x-evil"), status=b"502 x", cache=b"")),
    Case(
        "an unavailable origin",
        (get(b"/a", b"X-Evil: 1"),),
        evil_if(has(b"x-evil"), status=b"503 x", cache=b""),
    ),
    Case(
        "not found, without a word of how long",
        (get(b"/a", b"X-Evil: 1"),),
        evil_if(has(b"x-evil"), status=b"404 x", cache=b""),
    ),
    Case(
        "not allowed, without a word of how long",
        (get(b"/a", b"X-Evil: 1"),),
        evil_if(has(b"x-evil"), status=b"405 x", cache=b""),
    ),
    Case(
        "a language that there is not",
        (get(b"/a", b"Accept-Language: xx"),),
        evil_if(says(b"accept-language", b"xx"), b"Vary: Accept-Language", status=b"406 x"),
    ),
    Case(
        "a type that there is not",
        (get(b"/a", b"Accept: evil/evil"),),
        evil_if(says(b"accept", b"evil"), b"Vary: Accept", status=b"406 x"),
    ),
]

# --- one user's own answer


def personal(*fields: bytes, cache: bytes) -> Answer:
    """An origin that knows its users by their cookie or credentials."""

    def answer(asked: Asked) -> bytes:
        if has(b"cookie", b"authorization")(asked):
            return page(b"evil: the victim's", cache, *fields)
        return page(GOOD, FRESH)

    return answer


VICTIM: Final = get(b"/a", b"Cookie: id=victim")
PRIVATE: Final = [
    Case("private", (VICTIM,), personal(cache=b"private, max-age=60")),
    Case("private by its name in capitals", (VICTIM,), personal(cache=b"PRIVATE, max-age=60")),
    Case("no-store", (VICTIM,), personal(cache=b"max-age=60, no-store")),
    Case("a cookie that is set", (VICTIM,), personal(b"Set-Cookie: id=victim", cache=FRESH)),
    Case(
        "two cookies that are set",
        (VICTIM,),
        personal(b"Set-Cookie: a=b", b"Set-Cookie: id=victim", cache=FRESH),
    ),
    Case("nothing said at all", (VICTIM,), personal(cache=b"")),
    Case("max-age=0", (VICTIM,), personal(cache=b"max-age=0")),
    Case("Expires in the past", (VICTIM,), personal(b"Expires: 0", cache=b"")),
    Case("Vary: *", (VICTIM,), personal(b"Vary: *", cache=FRESH)),
    Case("Vary: Cookie", (VICTIM,), personal(b"Vary: Cookie", cache=FRESH)),
    Case(
        "Vary: Authorization",
        (get(b"/a", b"Authorization: Basic x"),),
        personal(b"Vary: Authorization", cache=FRESH),
    ),
    Case("credentials", (get(b"/a", b"Authorization: Basic x"),), personal(cache=FRESH)),
    Case(
        "credentials that Connection names",
        (get(b"/a", b"Authorization: Basic x", b"Connection: authorization"),),
        personal(cache=FRESH),
    ),
    Case("CDN-Cache-Control: private", (VICTIM,), personal(b"CDN-Cache-Control: private", cache=FRESH)),
    Case("CDN-Cache-Control: no-store", (VICTIM,), personal(b"CDN-Cache-Control: no-store", cache=FRESH)),
    Case("contradicting directives", (VICTIM,), personal(b"Cache-Control: private", cache=FRESH)),
    Case(
        "a directive in another spelling",
        (VICTIM,),
        personal(b"Cache-Control: no-store ,", cache=b"max-age = 60"),
    ),
]

# --- spellings of a path: whoever may be meant, each is a resource of its own

PATHS: Final = [
    (b"/account/x.css", b"/account"),
    (b"/account;x.css", b"/account"),
    (b"/account%3Bx.css", b"/account"),
    (b"/account%2Fx.css", b"/account"),
    (b"/account%00.css", b"/account"),
    (b"/account%0a.css", b"/account"),
    (b"/account%23x.css", b"/account"),
    (b"/account%3fx.css", b"/account"),
    (b"/static/..%2faccount", b"/account"),
    (b"/static/../account", b"/account"),
    (b"/static/%2e%2e/account", b"/account"),
    (b"/static/.%2e/account", b"/account"),
    (b"/static/..\\account", b"/account"),
    (b"/static\\..\\account", b"/account"),
    (b"//account", b"/account"),
    (b"/./account", b"/account"),
    (b"/account/", b"/account"),
    (b"/account?", b"/account"),
    (b"/account?x", b"/account"),
    (b"/Account", b"/account"),
    (b"/%61ccount", b"/account"),
    (b"/a?b=1&c=2", b"/a?c=2&b=1"),
    (b"/a?b=%41", b"/a?b=A"),
    (b"/a%2fb", b"/a%2Fb"),
    (b"/a?b", b"/a%3fb"),
    (b"/a+b", b"/a%20b"),
    (b"/a?utm_source=x", b"/a"),
    (b"/a?b=1&b=2", b"/a?b=2"),
    (b"/a?b=1;c=2", b"/a?b=1"),
]

CASES: Final = [*FIELDS, *HIDDEN, *METHODS, *ERRORS, *PRIVATE]


async def attack(world: World, raw: bytes) -> None:
    """Send it and wait for whatever becomes of it."""
    reader, writer = await world.connect()
    writer.write(raw)
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await read_response(reader, head=raw.startswith(b"HEAD"))
    writer.close()


def test_there_are_many_cases_of_many_names() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) + len(PATHS) >= 60


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_an_attack_leaves_nothing_for_others(world: World, case: Case) -> None:
    world.origin.answer = case.answer
    for raw in case.attack:
        await attack(world, raw)
    for _ in range(2):
        answer = await world.ask(case.innocent)
        assert (answer.status, answer.body) == (200, case.expected)
        assert not answer.all("set-cookie")


@pytest.mark.parametrize(("spelled", "meant"), PATHS, ids=[f"{a!r} for {b!r}" for a, b in PATHS])
async def test_a_path_is_what_it_says(world: World, spelled: bytes, meant: bytes) -> None:
    """Origin and key see the same bytes: nobody gets under one spelling what was stored under another."""
    world.origin.answer = lambda asked: page(b"for " + asked.target, FRESH)
    first = await world.ask(get(spelled))
    second = await world.ask(get(meant))
    assert (first.status, second.status) == (200, 200)
    assert (first.body, second.body) == (b"for " + spelled, b"for " + meant)
    assert [asked.target for asked in world.origin.asked] == [spelled, meant]
    assert (await world.ask(get(spelled))).body == b"for " + spelled
    assert len(world.origin.asked) == 2


@pytest.mark.parametrize(
    "target", [b"/a#x", b"/a\xe9", b"/a b", b"/a\x7f", b"a", b"/a\tb", b"http://shop.test@evil/a", b"*"]
)
async def test_what_is_no_target_reaches_nobody(world: World, target: bytes) -> None:
    assert (await world.ask(get(target))).status in (400, 404)
    assert not world.origin.asked


# --- hosts

HOSTS: Final = [
    get(b"/a", host=b"SHOP.test"),
    get(b"/a", host=b"shop.test:80"),
    get(b"/a", host=b"shop.test:1234"),
    get(b"/a", host=b"shop.test:"),
    get(b"/a", host=b"shop.test."),
    get(b"http://shop.test/a", host=b"evil.test"),
    get(b"http://SHOP.test:80/a", host=b"evil.test"),
]


@pytest.mark.parametrize("raw", HOSTS, ids=repr)
async def test_every_spelling_of_a_host_is_the_site_for_the_origin(world: World, raw: bytes) -> None:
    """The origin builds links from the host that it is told: that is the site's own, whatever was asked."""
    world.origin.answer = lambda asked: page(
        asked.fields[b"host"] + b" " + asked.fields.get(b"x-forwarded-host", b""), FRESH
    )
    assert (await world.ask(raw)).body == b"shop.test shop.test"
    assert (await world.ask(get(b"/a"))).body == b"shop.test shop.test"


@pytest.mark.parametrize(
    "raw",
    [
        get(b"/a", host=b"evil.test"),
        get(b"http://evil.test/a"),
        get(b"/a", b"Host: evil.test"),
        get(b"/a", host=b"evil.test\r\nHost: shop.test"),
        get(b"/a", host=b"shop.test@evil.test"),
        get(b"/a", host=b"shop.test/evil"),
        get(b"/a", host=b"shop.test, evil.test"),
        get(b"/a", host=b"shop.test evil.test"),
        get(b"/a", host=b"shop.test:evil"),
        get(b"/a", host=b"shop.test:80@evil"),
        get(b"/a", host=b"shop.test.."),
        b"GET /a HTTP/1.1\r\nHost : evil.test\r\n\r\n",
        b"GET /a HTTP/1.1\r\n Host: evil.test\r\nHost: shop.test\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
    ],
    ids=repr,
)
async def test_another_host_never_reaches_the_site(world: World, raw: bytes) -> None:
    world.origin.answer = lambda asked: page(b"evil" if asked.fields[b"host"] != HOST else GOOD, FRESH)
    await attack(world, raw)
    assert not world.origin.asked
    answer = await world.ask(get(b"/a"))
    assert (answer.status, answer.body) == (200, GOOD)


async def test_a_site_for_every_host_stores_each_by_itself(world: World) -> None:
    world.edge.apply(world.snapshot(2, SiteSpec(name="all", host="*", routes=ROUTES)))
    world.origin.answer = lambda asked: page(asked.fields[b"host"], FRESH)
    assert (await world.ask(get(b"/a", host=b"evil.test"))).body == b"evil.test"
    assert (await world.ask(get(b"/a", host=b"other.test"))).body == b"other.test"
    assert (await world.ask(get(b"/a"))).body == b"shop.test"


# --- what an origin says


@pytest.mark.parametrize(
    "field",
    [
        b"X: a\rSet-Cookie: evil=1",
        b"X: a\nSet-Cookie: evil=1",
        b"X: a\r\n Set-Cookie: evil=1",
        b"X: \0",
        b"X : evil",
        b"X\0: evil",
        b"Content-Length: 4\r\nContent-Length: 9",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked",
        b": evil",
    ],
    ids=repr,
)
async def test_an_answer_that_could_be_two_is_none(world: World, field: bytes) -> None:
    evil = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n" + field + b"\r\n\r\nevil"
    world.origin.answer = lambda asked: evil if len(world.origin.asked) == 1 else page(GOOD, FRESH)
    first = await world.ask(get(b"/a"))
    assert first.status == 502
    assert not first.all("set-cookie")
    assert (await world.ask(get(b"/a"))).body == GOOD


CHUNKED: Final = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
SURPLUS: Final = [
    page(b"first", FRESH) + page(b"evil", FRESH),
    page(b"first", FRESH) + b"HTTP/1.1 200 OK\r\n",
    page(b"first", FRESH) + b"evil",
    page(b"first", FRESH, length=3) + page(b"evil", FRESH),
    CHUNKED + b"5\r\nfirst\r\n0\r\n\r\n" + page(b"evil", FRESH),
    page(b"", FRESH, status=b"204 No Content", length=4) + page(b"evil", FRESH),
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + page(b"first", FRESH) + page(b"evil", FRESH),
]


@pytest.mark.parametrize("sent", SURPLUS, ids=range(len(SURPLUS)))
async def test_more_than_was_asked_for_answers_nobody(world: World, sent: bytes) -> None:
    world.origin.answer = lambda asked: sent if asked.target == b"/first" else page(GOOD, FRESH)
    reader, writer = await world.connect()
    writer.write(get(b"/first"))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    for number in range(3):
        answer = await world.ask(get(b"/other/%d" % number))
        assert (answer.status, answer.body) == (200, GOOD)


HALF: Final = {
    "length": page(b"half of it", FRESH, length=100),
    "length, with a validator": page(b"half of it", FRESH, b'ETag: "a"', length=100),
    "chunks": CHUNKED + b"4\r\nhalf\r\n",
    "a chunk": CHUNKED + b"ff\r\nhalf",
    "trailers": CHUNKED + b"4\r\nhalf\r\n0\r\nX: y",
    "a bad chunk": CHUNKED + b"4\r\nhalf\r\nzz\r\n",
    "the head": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Le",
    "a part of a part": page(
        b"half",
        FRESH,
        b"Content-Range: bytes 0-99/200",
        b'ETag: "a"',
        status=b"206 Partial Content",
        length=100,
    ),
}


@pytest.mark.parametrize("sent", HALF.values(), ids=[*HALF])
async def test_half_an_answer_is_never_stored_as_a_whole(world: World, sent: bytes) -> None:
    async def break_off(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent if len(world.origin.asked) == 1 else page(GOOD, FRESH, b"Connection: close"))
        await writer.drain()

    world.origin.converse = break_off
    reader, writer = await world.connect()
    writer.write(get(b"/a"))
    data = await asyncio.wait_for(reader.read(), 5) if sent is not HALF["the head"] else b""
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    assert not body.endswith(b"0\r\n\r\n"), "the client must be able to tell"
    assert b"chunked" in head or b" 502 " in head or b"Content-Length: 100" in head or not head
    for _ in range(2):
        answer = await world.ask(get(b"/a"))
        assert (answer.status, answer.body) == (200, GOOD)


async def test_who_waits_for_half_an_answer_is_not_told_that_it_is_all(world: World) -> None:
    gate = asyncio.Event()

    async def break_off(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(page(b"half of it", FRESH, length=100))
        await writer.drain()
        await gate.wait()

    world.origin.converse = break_off
    clients = [await world.connect() for _ in range(3)]
    for _, writer in clients:
        writer.write(get(b"/a"))
    heads = [await reader.readuntil(b"half of it") for reader, _ in clients]
    gate.set()
    for reader, writer in clients:
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    assert all(b"Content-Length: 100" in head for head in heads)


# --- variants

VARY: Final = [
    (b"Accept-Encoding", b"gzip", b""),
    (b"Accept-Encoding", b"br;q=1", b"identity;q=1, *;q=0"),
    (b"Accept-Language", b"de", b"en"),
    (b"User-Agent", b"evil", b"good"),
    (b"Origin", b"https://evil.test", b"https://shop.test"),
    (b"Cookie", b"a=evil", b"a=good"),
    (b"X-Anything", b"evil", b""),
    (b"Accept", b"text/evil", b"text/html"),
    (b"Sec-Fetch-Dest", b"evil", b"document"),
    (b"X-Anything", b"a", b"a, a"),
    (b"X-Anything", b"A", b"a"),
]


@pytest.mark.parametrize(("name", "evil", "innocent"), VARY, ids=[f"{n!r} {e!r}" for n, e, _ in VARY])
async def test_what_varies_is_kept_apart(world: World, name: bytes, evil: bytes, innocent: bytes) -> None:
    world.origin.answer = lambda asked: page(
        b"for %b" % asked.fields.get(name.lower(), b"nobody"), FRESH, b"Vary: " + name
    )
    first = await world.ask(get(b"/a", b"%b: %b" % (name, evil)))
    second = await world.ask(get(b"/a", b"%b: %b" % (name, innocent)) if innocent else get(b"/a"))
    assert first.body != second.body
    assert len(world.origin.asked) == 2


async def test_a_vary_that_some_answers_leave_out_counts_for_them_alone(world: World) -> None:
    """What it answers to those who say nothing of a field is for them, and for nobody else."""
    world.origin.answer = lambda asked: (
        page(b"evil", FRESH, b"Vary: X-Flag")
        if b"x-flag" in asked.fields
        else page(GOOD, FRESH, b"Vary: X-Flag")
    )
    assert (await world.ask(get(b"/a", b"X-Flag: 1"))).body == b"evil"
    assert (await world.ask(get(b"/a"))).body == GOOD
    assert (await world.ask(get(b"/a", b"X-Flag: 1"))).body == b"evil"
    assert (await world.ask(get(b"/a"))).body == GOOD
    assert len(world.origin.asked) == 2


async def test_variants_without_end_do_not_push_others_out(world: World) -> None:
    """A client that makes up values of a varying field fills its own URL's place, not the cache."""
    world.origin.answer = lambda asked: page(GOOD * 100, FRESH, b"Vary: X-Anything")
    await world.ask(get(b"/other"))
    for number in range(300):
        await world.ask(get(b"/a", b"X-Anything: %d" % number))
    asked = len(world.origin.asked)
    assert (await world.ask(get(b"/other"))).body == GOOD * 100
    assert len(world.origin.asked) == asked


# --- at the same time


@pytest.mark.parametrize("cache", [b"private, max-age=60", b"no-store", b"max-age=60", b""])
async def test_who_waits_behind_a_victim_gets_an_answer_of_his_own(world: World, cache: bytes) -> None:
    """Requests for one key wait for the first: its answer is theirs only if it may be anybody's."""
    world.origin.hold = asyncio.Event()
    fields = (b"Set-Cookie: id=victim",) if cache == b"max-age=60" else ()
    world.origin.answer = personal(*fields, cache=cache)
    victim = asyncio.ensure_future(world.ask(VICTIM))
    await world.origin.until_asked()
    others = [asyncio.ensure_future(world.ask(get(b"/a"))) for _ in range(3)]
    await asyncio.sleep(0.02)
    world.origin.hold.set()
    assert (await victim).body == b"evil: the victim's"
    for other in others:
        answer: Response = await other
        assert answer.body == GOOD
        assert not answer.all("set-cookie")


async def test_an_attacker_who_leaves_takes_nobody_with_him(world: World) -> None:
    world.origin.hold = asyncio.Event()
    world.origin.answer = lambda asked: page(GOOD, FRESH)
    client = world.deaf_client()
    client.send(get(b"/a"))
    await world.origin.until_asked()
    waiting = asyncio.ensure_future(world.ask(get(b"/a")))
    await until(lambda: len(world.listener.connections) == 2)
    reset(client)
    await until(lambda: len(world.listener.connections) == 1)
    world.origin.hold.set()
    assert (await waiting).body == GOOD


async def test_only_if_cached_and_no_cache_of_a_client_change_nothing_for_others(world: World) -> None:
    world.origin.answer = lambda asked: page(b"%d" % len(world.origin.asked), FRESH)
    assert (await world.ask(get(b"/a", b"Cache-Control: only-if-cached"))).status == 504
    assert (await world.ask(get(b"/a"))).body == b"1"
    await world.ask(get(b"/a", b"Cache-Control: no-store"))
    await world.ask(get(b"/a", b"Cache-Control: max-age=0"))
    later = await world.ask(get(b"/a"))
    assert later.status == 200
    assert len(world.origin.asked) <= 3
    assert (await world.ask(get(b"/a"))).body == later.body


async def test_a_request_for_two_sites_is_for_the_one_it_names() -> None:
    """One connection, two hosts: what is stored belongs to the host of each request."""
    async with running(Limits()) as world:
        other = SiteSpec(name="other", host="other.test", routes=ROUTES)
        world.edge.apply(world.snapshot(2, other))
        world.origin.answer = lambda asked: page(asked.fields[b"host"], FRESH)
        reader, writer = await world.connect()
        writer.write(get(b"/a", host=b"other.test") + get(b"/a") + get(b"/a", host=b"other.test"))
        bodies = [(await read_response(reader)).body for _ in range(3)]
        writer.close()
        assert bodies == [b"other.test", b"shop.test", b"other.test"]
