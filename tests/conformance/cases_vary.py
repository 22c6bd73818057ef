"""Which stored response fits a request: RFC 9111 §4.1, and the target as the key (§2, RFC 9110 §4.2.3)."""

from __future__ import annotations

from typing import Final

from conformance_case import Chapter, ask, first, hit, miss, ok, stale, unchanged

T: Final = Chapter("9111")
URI: Final = Chapter("9110")
CHAPTERS: Final = (T, URI)
CC: Final = "Cache-Control: max-age=3600"


def same(name: str, title: str, vary: str, one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """A row: `other` is answered with what `one` brought."""
    T.good("4.1", name, title, ask(ok(CC, vary), *one), ask(hit(), *other))


def different(name: str, title: str, vary: str, one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """A row: `other` is not answered with what `one` brought."""
    T.must("4.1", name, title, ask(ok(CC, vary), *one), ask(ok(CC, vary), miss(), *other))


A1, A2, B1, B2 = "X-A: 1", "X-A: 2", "X-B: 1", "X-B: 2"
VARY_A: Final = "Vary: X-A"
VARY_AB: Final = "Vary: X-A, X-B"

same("vary-same", "the same value fits", VARY_A, (A1,), (A1,))
different("vary-different", "another value does not", VARY_A, (A1,), (A2,))
different("vary-then-absent", "nor does an absent field where there was one", VARY_A, (A1,), ())
different("vary-then-present", "nor a field where there was none", VARY_A, (), (A1,))
different("vary-then-empty", "nor one without a value where there was none", VARY_A, (), ("X-A:",))
same("vary-both-absent", "absent fits absent", VARY_A, (), ())
same("vary-name-case", "the field's name is in any case of letters", "vARY: x-a", ("X-A: 1",), ("x-A: 1",))
same("vary-two-same", "two fields that are the same fit", VARY_AB, (A1, B1), (B1, A1))
different("vary-two-first", "two fields: the first differs", VARY_AB, (A1, B1), (A2, B1))
different("vary-two-second", "two fields: the second differs", VARY_AB, (A1, B1), (A1, B2))
different("vary-two-absent", "two fields: one is missing", VARY_AB, (A1, B1), (A1,))
different("vary-two-swapped", "two fields: values have changed places", VARY_AB, (A1, B2), (A2, B1))
different("vary-three", "three fields: the last differs", "Vary: X-A, X-B, X-C", (A1, B1, "X-C: 1"), (A1, B1))
same("vary-others-free", "fields that are not named do not matter", VARY_A, (A1, B1), (A1, B2))
different(
    "vary-unknown-case", "values of unknown fields: letters' case counts", VARY_A, ("X-A: a",), ("X-A: A",)
)
different("vary-unknown-order", "and the order", VARY_A, ("X-A: a, b",), ("X-A: b, a",))
same("vary-outer-space", "space around a value does not count", VARY_A, ("X-A: a",), ("X-A:  \t a \t ",))
same("vary-lines-joined", "two lines are one list", VARY_A, ("X-A: a", "X-A: b"), ("X-A: a, b",))
different("vary-lines-and-one", "a second line counts", VARY_A, ("X-A: a",), ("X-A: a", "X-A: b"))
different("vary-cookie", "other cookies do not fit", "Vary: Cookie", ("Cookie: a=1",), ("Cookie: a=2",))
different("vary-user-agent", "another user agent", "Vary: User-Agent", ("User-Agent: a",), ("User-Agent: b",))
different("vary-origin", "another origin", "Vary: Origin", ("Origin: https://a.example",), ())
different(
    "vary-authorization", "other credentials", "Vary: Authorization", (), ("Authorization: Basic YTpi",)
)
different("vary-host-like", "a value that looks like another key", VARY_AB, ("X-A: 1;X-B: 1",), (A1, B1))
different("vary-star", "* never fits", "Vary: *", (A1,), (A1,))
different("vary-star-after", "* after a field never fits", "Vary: X-A, *", (A1,), (A1,))
different("vary-star-before", "* before a field never fits", "Vary: *, X-A", (A1,), (A1,))
same("vary-empty", "an empty Vary is none", "Vary:", (A1,), (A2,))
same("vary-commas", "empty members of Vary mean nothing", "Vary: ,X-A ,,", (A1,), (A1,))
T.must(
    "4.1",
    "vary-star-second-line",
    "* in a second line never fits",
    ask(ok(CC, VARY_A, "Vary: *"), A1),
    ask(ok(CC), A1, miss()),
)
T.must(
    "4.1",
    "vary-two-lines",
    "fields in a second line count",
    ask(ok(CC, VARY_A, "Vary: X-B"), A1, B1),
    ask(ok(CC), A1, B2, miss()),
)
T.good(
    "4.1",
    "vary-two-lines-same",
    "fields in two lines that are the same fit",
    ask(ok(CC, VARY_A, "Vary: X-B"), A1, B1),
    ask(A1, B1, hit()),
)
T.good(
    "4.1",
    "vary-several-kept",
    "several variants are kept side by side",
    ask(ok(CC, VARY_A), A1),
    ask(ok(CC, VARY_A), A2, miss()),
    ask(ok(CC, VARY_A), miss()),
    ask(A1, hit(1)),
    ask(A2, hit(2)),
    ask(hit(3)),
)
T.good(
    "4.1",
    "vary-many-kept",
    "eight variants are kept side by side",
    *[first(ok(CC, VARY_A), f"X-A: {number}") for number in range(8)],
    *[ask(hit(number + 1), f"X-A: {number}") for number in range(8)],
)
T.good(
    "4.1",
    "vary-changes",
    "when Vary changes, what fits the newer one is found",
    ask(ok(CC, VARY_A), A1, B1),
    ask(ok(CC, VARY_AB), A2, B1, miss()),
    ask(A2, B1, hit(2)),
)
T.must(
    "4.1",
    "vary-changes-narrower",
    "when Vary gets narrower, the newer response is not given to whom the new fields exclude",
    ask(ok(CC, VARY_A), A1, B1),
    ask(ok(CC, VARY_AB), A2, B1, miss()),
    ask(ok(CC, VARY_AB), A2, B2, miss()),
)
T.note(
    "4.1",
    "vary-newest-without",
    "a newer response without Vary is preferred to an older one with it",
    ask(ok(CC, VARY_A), A1),
    ask(ok(CC), A2, miss()),
    ask(A1, hit(2)),
)
T.must(
    "4.1",
    "vary-304-added",
    "a Vary that comes with a 304 counts from then on",
    stale('ETag: "a"', request=(A1,)),
    ask(ok(validated=unchanged(CC, VARY_A, 'ETag: "a"')), A1),
    ask(ok(CC, VARY_A), A2, miss()),
)

# --- lists of preferences (§4.1: normalised where the field's own rules allow it)


def normal(name: str, title: str, field: str, one: str, other: str) -> None:
    """A row: two ways to say the same preference share a response."""
    same(name, title, f"Vary: {field}", (f"{field}: {one}",), (f"{field}: {other}",))


def kept_apart(name: str, title: str, field: str, one: str, other: str) -> None:
    """A row: preferences that differ do not."""
    different(name, title, f"Vary: {field}", (f"{field}: {one}",), (f"{field}: {other}",))


AE, AL = "Accept-Encoding", "Accept-Language"
normal("normal-encoding-space", "codings: space means nothing", AE, "gzip, br", "gzip,br")
normal("normal-encoding-order", "codings: order means nothing", AE, "gzip, br", "br, gzip")
normal("normal-encoding-case", "codings: in any case of letters", AE, "gzip", "GZip")
normal("normal-encoding-q1", "codings: q=1 is what is meant without", AE, "gzip;q=1.0, br", "gzip, br;q=1")
normal("normal-encoding-q-space", "codings: space around weights", AE, "gzip;q=0.5, br", "gzip ; q=0.5 ,br")
normal("normal-language-space", "languages: space means nothing", AL, "en, de", "en,de")
normal("normal-language-order", "languages: order means nothing", AL, "en, de", "de, en")
normal("normal-language-case", "languages: in any case of letters", AL, "en-US", "EN-us")
normal("normal-language-weights", "languages: weights say the order", AL, "en, de;q=0.5", "de;q=0.5, en")
kept_apart("apart-encoding", "another coding", AE, "gzip", "br")
kept_apart("apart-encoding-more", "one coding more", AE, "gzip", "gzip, br")
kept_apart("apart-encoding-q0", "a coding that is refused", AE, "gzip;q=0", "gzip")
kept_apart(
    "apart-encoding-weights", "weights that turn the order", AE, "gzip;q=1, br;q=0.1", "gzip;q=0.1, br;q=1"
)
kept_apart("apart-language", "another language", AL, "en", "de")
kept_apart("apart-language-range", "a language and its region", AL, "en", "en-GB")
kept_apart(
    "apart-language-weights", "weights that turn the order", AL, "en;q=0.9, de;q=0.1", "en;q=0.1, de;q=0.9"
)
T.note(
    "4.1",
    "normal-language-served",
    "a response in the language that both want most is reused",
    ask(ok(CC, "Vary: Accept-Language", "Content-Language: en"), "Accept-Language: en, de;q=0.5"),
    ask(hit(), "Accept-Language: en, fr;q=0.5"),
)
T.note(
    "4.1",
    "normal-encoding-served",
    "a response in a coding that both take is reused",
    ask(ok(CC, "Vary: Accept-Encoding", "Content-Encoding: gzip"), "Accept-Encoding: gzip"),
    ask(hit(), "Accept-Encoding: gzip, br"),
)

# --- the target (§2, §4)


def apart(name: str, title: str, one: str, other: str) -> None:
    """A row: two targets are two resources."""
    T.must("4", name, title, ask(ok(CC), suffix=one), ask(ok(CC), miss(), suffix=other))


apart("target-query", "another query is another resource", "?a=1", "?a=2")
apart("target-query-none", "a query and none", "?a=1", "")
apart("target-query-empty", "an empty query and a parameter", "?", "?a")
apart("target-query-order", "parameters in another order", "?a=1&b=2", "?b=2&a=1")
apart("target-query-encoded", "an encoded separator", "?a=1%26b=2", "?a=1&b=2")
apart("target-path-case", "letters' case in the path", "/a", "/A")
apart("target-path-slash", "a slash at the end", "/a", "/a/")
apart("target-path-semicolon", "what follows a semicolon", "/a", "/a;b")
apart("target-path-encoded-slash", "an encoded slash", "/a%2Fb", "/a/b")
apart("target-path-encoded-question", "an encoded question mark", "/a%3Fb", "/a?b")
apart("target-path-dot", "an extension", "/a", "/a.css")
T.good(
    "4",
    "target-same-query",
    "the same query is the same resource",
    ask(ok(CC), suffix="?a=1&b"),
    ask(hit(), suffix="?a=1&b"),
)
URI.note(
    "4.2.3",
    "target-encoded-unreserved",
    "a letter and its encoding are the same resource",
    ask(ok(CC), suffix="/~a"),
    ask(hit(), suffix="/%7Ea"),
)
URI.note(
    "4.2.3",
    "target-hex-case",
    "hex digits in any case of letters",
    ask(ok(CC), suffix="/%c3%a9"),
    ask(hit(), suffix="/%C3%A9"),
)
URI.note(
    "4.2.3", "target-empty-query", "an empty query is the same as none", ask(ok(CC)), ask(hit(), suffix="?")
)
URI.good(
    "4.2.3",
    "target-absolute-form",
    "the absolute form names the same resource",
    ask(ok(CC)),
    ask(hit(), target="{url}"),
)
URI.good(
    "4.2.3",
    "target-host-case",
    "the host is in any case of letters",
    ask(ok(CC)),
    ask(hit(), host="{host|upper}"),
)
URI.good(
    "4.2.3",
    "target-default-port",
    "the default port is the same as none",
    ask(ok(CC)),
    ask(hit(), host="{host}:80"),
)
