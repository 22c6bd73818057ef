"""Attacks of one client on what others get from the cache, and origins as careless as each of them needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from edge_world import Asked, get, page, post

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
    Case(
        "nothing said but when it was changed",
        (VICTIM,),
        personal(b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", cache=b""),
    ),
    Case(
        "nothing said but its tag",
        (VICTIM,),
        personal(b'ETag: "a"', cache=b""),
    ),
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
