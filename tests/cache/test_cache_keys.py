"""Cache keys: one spelling per URL, one per selection, and no value that imitates another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.keys import primary_key, related_keys, resolved, vary_key
from atoll.http.fields import Headers


@pytest.mark.parametrize(
    ("scheme", "host", "target", "key"),
    [
        (b"http", b"www.example.com", b"/", b"http://www.example.com/"),
        (b"HTTP", b"WWW.Example.com", b"/Path", b"http://www.example.com/Path"),
        (b"http", "www.example.com", b"/a?b=C", b"http://www.example.com/a?b=C"),
        (b"http", b"example.com:80", b"/", b"http://example.com/"),
        (b"https", b"example.com:443", b"/", b"https://example.com/"),
        (b"http", b"example.com:443", b"/", b"http://example.com:443/"),
        (b"https", b"example.com:8443", b"/", b"https://example.com:8443/"),
        (b"http", b"example.com:", b"/", b"http://example.com/"),
        (b"http", b"[2001:db8::1]:80", b"/", b"http://[2001:db8::1]/"),
        (b"http", b"[2001:db8::80]", b"/", b"http://[2001:db8::80]/"),
        (b"http", b"a", b"/x#part", b"http://a/x"),
        (b"http", b"a", b"", b"http://a/"),
        (b"http", b"a", b"?q", b"http://a/?q"),
        (b"http", b"a", b"/%7Ex//y", b"http://a/%7Ex//y"),
    ],
)
def test_primary_key(scheme: bytes, host: bytes | str, target: bytes, key: bytes) -> None:
    assert primary_key(scheme, host, target) == key


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ([], ()),
        ([(b"location", b"/b")], (b"http://a.example/b",)),
        ([(b"location", b"c?d#e")], (b"http://a.example/dir/c?d",)),
        ([(b"location", b"http://A.example:80/x")], (b"http://a.example/x",)),
        (
            [(b"content-location", b"../y"), (b"location", b"/b")],
            (b"http://a.example/b", b"http://a.example/y"),
        ),
        ([(b"content-location", b"/b"), (b"location", b"/b")], (b"http://a.example/b",)),
        ([(b"location", b"/dir/page")], ()),
        ([(b"location", b"https://a.example/b")], ()),
        ([(b"location", b"http://b.example/b")], ()),
        ([(b"location", b"http://a.example:8080/b")], ()),
        ([(b"location", b"//b.example/b")], ()),
        ([(b"location", b"http://[broken/b")], ()),
        ([(b"location", b"http://\xe9.example/")], ()),
        ([(b"location", b"mailto:me")], ()),
        ([(b"location", b"")], ()),
    ],
)
def test_related_keys(headers: Headers, keys: tuple[bytes, ...]) -> None:
    assert related_keys(b"http", b"a.example", b"/dir/page", headers) == keys


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        (b"/b", b"http://a.example/b"),
        (b"c?d#e", b"http://a.example/dir/c?d"),
        (b"page", b"http://a.example/dir/page"),
        (b"http://A.example:80/dir/page", b"http://a.example/dir/page"),
        (b"https://a.example/dir/page", None),
        (b"//b.example/", None),
        (b"http://[broken/b", None),
        (b"http://\xe9.example/", None),
        (b"mailto:me", None),
    ],
)
def test_resolved(reference: bytes, key: bytes | None) -> None:
    assert resolved(b"http://a.example/dir/page", reference) == key


@given(st.binary(max_size=40))
def test_related_keys_stay_at_home(reference: bytes) -> None:
    for key in related_keys(b"http", b"a.example", b"/dir/page", [(b"location", reference)]):
        assert key.startswith(b"http://a.example/")


# --- variants


def _key(name: bytes, *values: bytes) -> bytes:
    return vary_key((name,), [(name, value) for value in values])


def test_without_vary_everything_is_one() -> None:
    assert vary_key((), [(b"accept-encoding", b"br")]) == b""


@pytest.mark.parametrize(
    ("name", "same"),
    [
        (
            b"accept-encoding",
            [b"gzip, br", b"br,gzip", b" GZIP ,\tBr", b"br;q=1, gzip;q=1.000", b"br, gzip, br,"],
        ),
        (b"accept-encoding", [b"br;q=0.5", b"br; q=0.50", b"br ;Q=0.500"]),
        (b"accept-encoding", [b"gzip;q=0", b"gzip;q=0.000", b"gzip;q=0."]),
        (b"accept-language", [b"en-GB, de;q=0.7", b"de;q=0.70,en-gb"]),
        (b"x", [b"a, b"]),
    ],
)
def test_what_is_the_same(name: bytes, same: list[bytes]) -> None:
    assert len({_key(name, value) for value in same}) == 1


@pytest.mark.parametrize(
    ("name", "different"),
    [
        (b"accept-encoding", [b"gzip", b"br", b"gzip, br", b"gzip;q=0", b"gzip;q=0.1", b"gzip;q=0.01", b""]),
        (b"accept-encoding", [b"gzip;q=10", b"gzip;q=1", b"gzip;q=1.1", b"gzip;q=x", b"gzip;level=1"]),
        (b"accept-language", [b"en", b"en-gb", b"en;q=0.9", b"*"]),
        (b"user-agent", [b"A", b"a", b"a, b", b"b, a", b"a,b"]),
    ],
)
def test_what_differs(name: bytes, different: list[bytes]) -> None:
    keys = {_key(name, value) for value in different}
    assert len(keys | {vary_key((name,), [])}) == len(different) + 1


def test_long_values_are_told_apart_and_alike() -> None:
    codings = [b"coding-%02d" % number for number in range(20)]
    assert _key(b"accept-encoding", b", ".join(codings)) == _key(b"accept-encoding", b",".join(codings[::-1]))
    assert _key(b"accept-encoding", b", ".join(codings)) != _key(b"accept-encoding", b", ".join(codings[1:]))


def test_lines_are_one_list() -> None:
    assert _key(b"accept-encoding", b"gzip", b"br") == _key(b"accept-encoding", b"br, gzip")
    assert _key(b"x", b"a", b"b") == _key(b"x", b"a, b")
    assert _key(b"x", b" a\t") == _key(b"x", b"a")


def test_only_named_fields_count() -> None:
    assert vary_key((b"x",), [(b"x", b"1"), (b"y", b"2")]) == vary_key((b"x",), [(b"x", b"1")])


_values = st.one_of(st.none(), st.binary(max_size=12).map(bytes.strip))


@given(st.tuples(_values, _values), st.tuples(_values, _values))
def test_no_value_imitates_another(
    one: tuple[bytes | None, bytes | None], other: tuple[bytes | None, bytes | None]
) -> None:
    def key(values: tuple[bytes | None, bytes | None]) -> bytes:
        pairs = zip((b"x", b"y"), values, strict=True)
        return vary_key((b"x", b"y"), [(name, value) for name, value in pairs if value is not None])

    assert (key(one) == key(other)) is (one == other)


_codings = st.lists(
    st.tuples(
        st.sampled_from([b"gzip", b"br", b"zstd", b"*"]), st.sampled_from([b"", b";q=0.5", b";q=0", b"; q=1"])
    ),
    max_size=4,
)


@given(_codings)
def test_order_of_preferences_does_not_matter(codings: list[tuple[bytes, bytes]]) -> None:
    members = [coding + weight for coding, weight in codings]
    backwards = members[::-1]
    assert _key(b"accept-encoding", b", ".join(members)) == _key(b"accept-encoding", b",".join(backwards))
