"""`Cache-Status`: RFC 9211's shapes, and values that stay structured fields whatever is in them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.status import appended, forward, hit, quoted

_TOKEN = rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*"
_STRING = rb'"(?:[ !#-\[\]-~]|\\["\\])*"'
_VALUE = rb"(?:-?[0-9]{1,15}|" + _TOKEN + rb"|" + _STRING + rb")"
MEMBER = re.compile(_TOKEN + rb"(?:; [a-z*][a-z0-9_\-.*]*(?:=" + _VALUE + rb")?)*")
"""RFC 8941's grammar of an item with parameters."""


def test_hits() -> None:
    assert hit("lhr", 30) == b"atoll-lhr; hit; ttl=30"
    assert (
        hit("lhr", -5, "stale-while-revalidate") == b"atoll-lhr; hit; ttl=-5; detail=stale-while-revalidate"
    )


def test_forwarded() -> None:
    assert forward("lhr", "uri-miss") == b"atoll-lhr; fwd=uri-miss"
    assert forward("lhr", "uri-miss", fwd_status=200, stored=True) == (
        b"atoll-lhr; fwd=uri-miss; fwd-status=200; stored"
    )
    assert forward("nrt", "stale", fwd_status=304, ttl_s=60, stored=True, collapsed=True, detail="a b") == (
        b'atoll-nrt; fwd=stale; fwd-status=304; ttl=60; stored; collapsed; detail="a b"'
    )
    assert forward("lhr", "stale", fwd_status=0, ttl_s=0) == b"atoll-lhr; fwd=stale; fwd-status=0; ttl=0"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("no-store", "no-store"),
        ("a/b:c", "a/b:c"),
        ("*", "*"),
        ("9lives", '"9lives"'),
        ("a b", '"a b"'),
        ('say "hi" \\o/', '"say \\"hi\\" \\\\o/"'),
        ("", '""'),
        ("a\r\nx: y", '"a??x: y"'),
        ("grün", '"gr?n"'),
        ("a\x7f", '"a?"'),
        ("a\n", '"a?"'),
    ],
)
def test_quoting(value: str, expected: str) -> None:
    assert quoted(value) == expected


def test_the_nearest_cache_comes_last() -> None:
    assert appended(None, b"atoll-lhr; hit") == b"atoll-lhr; hit"
    assert appended(b"", b"atoll-lhr; hit") == b"atoll-lhr; hit"
    assert appended(b"Origin; hit", b"atoll-lhr; hit") == b"Origin; hit, atoll-lhr; hit"


def test_details_are_bounded() -> None:
    assert hit("lhr", 1, "x" * 1000).endswith(b"detail=" + b"x" * 200)


@given(st.text(max_size=300), st.integers(-(10**9), 10**9))
def test_always_a_structured_field(detail: str, ttl_s: int) -> None:
    assert MEMBER.fullmatch(hit("lhr", ttl_s, detail))
    assert MEMBER.fullmatch(forward("sin", "bypass", fwd_status=502, ttl_s=ttl_s, detail=detail))
