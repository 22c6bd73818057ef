"""What unsafe requests do to what is stored: RFC 9111 §4.4; stored POST responses: RFC 9110 §9.3.3."""

from __future__ import annotations

from typing import Final

from conformance_case import Chapter, ask, body, count, first, hit, miss, ok, origin_method, status

T: Final = Chapter("9111")
POST: Final = Chapter("9110")
CHAPTERS: Final = (T, POST)
FRESH: Final = "Cache-Control: max-age=3600"
TAG: Final = 'ETag: "a"'
UNSAFE: Final = ("POST", "PUT", "DELETE", "PATCH", "MKCOL")

for method in UNSAFE:
    for code in (200, 204, 303):
        if code == 200 or method in ("POST", "DELETE"):
            T.must(
                "4.4",
                f"invalidate-{method.lower()}-{code}",
                f"{method} that is answered with {code} invalidates what is stored",
                first(ok(FRESH)),
                first(hit()),
                ask(ok(status=code), method=method, body=b"x"),
                ask(ok(FRESH), miss()),
            )
    T.good(
        "4.4",
        f"invalidate-not-{method.lower()}-error",
        f"{method} that fails invalidates nothing",
        first(ok(FRESH)),
        ask(ok(status=400), method=method, body=b"x"),
        ask(hit()),
    )
T.good(
    "4.4",
    "invalidate-not-500",
    "POST that is answered with 500 invalidates nothing",
    first(ok(FRESH)),
    ask(ok(status=500), method="POST", body=b"x"),
    ask(hit()),
)
for method in ("HEAD", "OPTIONS"):
    T.good(
        "4.4",
        f"invalidate-not-{method.lower()}",
        f"{method} is safe: it invalidates nothing",
        first(ok(FRESH, TAG)),
        ask(ok(FRESH, TAG), method=method),
        ask(hit()),
    )
T.must(
    "4.4",
    "invalidate-all-variants",
    "all variants are invalidated",
    first(ok(FRESH, "Vary: X-A"), "X-A: 1"),
    first(ok(FRESH, "Vary: X-A"), "X-A: 2"),
    ask(ok(), "X-A: 1", method="POST", body=b"x"),
    ask(ok(FRESH, "Vary: X-A"), "X-A: 1", miss()),
    ask(ok(FRESH, "Vary: X-A"), "X-A: 2", miss()),
)
T.good(
    "4.4",
    "invalidate-this-alone",
    "other resources are not",
    first(ok(FRESH), suffix="?a=1"),
    ask(ok(), suffix="?a=2", method="POST", body=b"x"),
    ask(hit(), suffix="?a=1"),
)
T.must(
    "4.4",
    "invalidate-stored-anew",
    "what is stored after that is served, and not what was before",
    first(ok(FRESH, body=b"old")),
    ask(ok(), method="POST", body=b"x"),
    ask(ok(FRESH, body=b"new"), body(b"new")),
    ask(ok(FRESH, body=b"new"), body(b"new")),
)
T.must(
    "4.4",
    "invalidate-while-fetching",
    "a fetch that began before an unsafe request stores nothing that outlives it",
    ask(ok(FRESH, delay_s=0.6), behind=True),
    ask(ok(), method="POST", body=b"x"),
    ask(ok(FRESH), miss(), wait_s=1.0),
)
for field in ("Location", "Content-Location"):
    for name, value in (("absolute", "{url}/other"), ("path", "{base}/other"), ("relative", "other")):
        T.good(
            "4.4",
            f"invalidate-{field.lower()}-{name}",
            f"{field} of a POST invalidates what it names ({name})",
            first(ok(FRESH), suffix="/other"),
            first(hit(), suffix="/other"),
            ask(ok(f"{field}: {value}", status=201), suffix="/one", method="POST", body=b"x"),
            ask(ok(FRESH), miss(), suffix="/other"),
        )
    T.must(
        "4.4",
        f"invalidate-{field.lower()}-elsewhere",
        f"{field} of a POST invalidates nothing of another host",
        first(ok(FRESH), suffix="/other"),
        first(hit(), suffix="/other"),
        ask(
            ok(f"{field}: http://elsewhere.example{{base}}/other", status=201),
            suffix="/one",
            method="POST",
            body=b"x",
        ),
        ask(hit(), suffix="/other"),
        firm=True,
    )
    T.good(
        "4.4",
        f"invalidate-{field.lower()}-get",
        f"{field} of a GET invalidates nothing",
        first(ok(FRESH), suffix="/other"),
        ask(ok(f"{field}: {{base}}/other"), suffix="/one"),
        ask(hit(), suffix="/other"),
    )
    T.good(
        "4.4",
        f"invalidate-{field.lower()}-error",
        f"{field} of a POST that fails invalidates nothing",
        first(ok(FRESH), suffix="/other"),
        ask(ok(f"{field}: {{base}}/other", status=400), suffix="/one", method="POST", body=b"x"),
        ask(hit(), suffix="/other"),
    )

# --- POST responses (RFC 9110 §9.3.3)

HERE: Final = "Content-Location: {base}"


for name, fields in (
    ("max-age", (FRESH, HERE)),
    ("absolute", (FRESH, "Content-Location: {url}")),
    ("expires", ("Expires: {now+3600}", HERE)),
    ("s-maxage", ("Cache-Control: s-maxage=60", HERE)),
):
    POST.good(
        "9.3.3",
        f"post-reused-{name}",
        f"a POST response with freshness and its own Content-Location answers GET ({name})",
        ask(ok(*fields), method="POST", body=b"x"),
        ask(hit()),
    )
for name, title, lines in (
    ("no-location", "without Content-Location", (FRESH,)),
    ("other-location", "with another Content-Location", (FRESH, "Content-Location: {base}/other")),
    ("other-host", "with a Content-Location elsewhere", (FRESH, "Content-Location: http://a.example{base}")),
    ("no-freshness", "without freshness", (HERE, "Last-Modified: {start-864000}")),
    ("stale", "that is stale at once", ("Cache-Control: max-age=0", HERE)),
    ("no-store", "with no-store", ("Cache-Control: no-store, max-age=3600", HERE)),
    ("private", "with private", ("Cache-Control: private, max-age=3600", HERE)),
):
    POST.must(
        "9.3.3",
        f"post-not-reused-{name}",
        f"a POST response {title} does not answer GET",
        ask(ok(*lines), method="POST", body=b"x"),
        ask(ok(FRESH), miss()),
    )
POST.must(
    "9.3.3",
    "post-not-for-post",
    "a stored POST response does not answer the next POST",
    ask(ok(FRESH, HERE), method="POST", body=b"x"),
    ask(ok(FRESH, HERE), miss(), origin_method("POST"), method="POST", body=b"x"),
)
POST.must(
    "9.3.3",
    "get-not-for-post",
    "a stored GET response does not answer POST",
    first(ok(FRESH)),
    ask(ok(FRESH), miss(), origin_method("POST"), method="POST", body=b"x"),
)
POST.good(
    "9.3.3",
    "post-for-head",
    "a stored POST response answers HEAD",
    ask(ok(FRESH, HERE), method="POST", body=b"x"),
    ask(ok(FRESH), status(200), count(0), method="HEAD"),
)
POST.must(
    "9.3.3",
    "post-replaces",
    "a POST response takes the place of an older GET's, or drops it",
    first(ok(FRESH, body=b"old")),
    ask(ok(FRESH, HERE, body=b"new"), method="POST", body=b"x"),
    ask(ok(FRESH, body=b"new"), body(b"new")),
)
