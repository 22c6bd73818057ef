"""`Cache-Status`: RFC 9211's shapes, and values that stay structured fields whatever is in them."""

from __future__ import annotations

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.status import appended, forward, hit, quoted


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


def test_keys_are_strings_whatever_is_in_them() -> None:
    assert hit("lhr", 1, key=b"https://a.example/x?y=z") == (
        b'atoll-lhr; hit; ttl=1; key="https://a.example/x?y=z"'
    )
    assert forward("lhr", "miss", key=b'a"b\\c \r\n\xe9', detail="d") == (
        b'atoll-lhr; fwd=miss; key="a\\"b\\\\c%20%0D%0A%E9"; detail=d'
    )
    assert hit("lhr", 1, key=b"") == b'atoll-lhr; hit; ttl=1; key=""'


@pytest.mark.parametrize(
    ("existing", "behind"),
    [
        ([], b""),
        ([b""], b""),
        ([b" ", b"\t"], b""),
        ([b"Origin; hit"], b"Origin; hit, "),
        ([b"Origin; hit", b"", b'"Shield"; fwd=miss'], b'Origin; hit, "Shield"; fwd=miss, '),
        ([b"a, b;c=1"], b"a, b;c=1, "),
        # what is no list would take this cache's member with it
        ([b"hit from cache"], b""),
        ([b'"unterminated'], b""),
        ([b"Origin; hit,"], b""),
        ([b"\xff"], b""),
        ([b"a" * 4096], b"a" * 4096 + b", "),
        ([b"a" * 4097], b""),
    ],
)
def test_the_nearest_cache_comes_last(existing: list[bytes], behind: bytes) -> None:
    assert appended(existing, b"atoll-lhr; hit") == behind + b"atoll-lhr; hit"


def test_numbers_stay_within_what_a_field_can_hold() -> None:
    assert hit("lhr", 10**20) == b"atoll-lhr; hit; ttl=999999999999999"
    assert forward("lhr", "stale", ttl_s=-(10**20)) == b"atoll-lhr; fwd=stale; ttl=-999999999999999"


def test_details_are_bounded() -> None:
    assert hit("lhr", 1, "x" * 1000).endswith(b"detail=" + b"x" * 200)


@given(st.text(max_size=300), st.integers(), st.one_of(st.none(), st.binary(max_size=2000)))
def test_always_a_structured_field(detail: str, number: int, key: bytes | None) -> None:
    members = [
        hit("lhr", number, detail, key=key),
        forward("sin", "bypass", fwd_status=number, ttl_s=number, key=key, detail=detail),
    ]
    (cache, parameters), (_, forwarded) = parsed(b", ".join(members))
    assert cache == http_sf.Token("atoll-lhr")
    assert parameters["hit"] is True
    assert str(forwarded["fwd"]) == "bypass"
    for found in (parameters, forwarded):
        assert type(found["ttl"]) is int
        assert (type(found["key"]) is str) if key is not None else ("key" not in found)
        assert ("detail" in found) is bool(detail)


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_the_whole_field_is_a_list_whatever_came_before(existing: list[bytes]) -> None:
    assert parsed(appended(existing, hit("lhr", 1)))[-1][0] == http_sf.Token("atoll-lhr")


def parsed(field: bytes) -> list[tuple[object, dict[str, object]]]:
    members = http_sf.parse(field, tltype="list")
    assert isinstance(members, list)
    return members  # type: ignore[return-value]
