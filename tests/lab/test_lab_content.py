"""Bodies that tell what they are: any byte that is not the right one is found out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.lab.content import MAX_SIZE, Claim, check, claim_of, content

PATHS = st.text("abc/-0", min_size=1, max_size=20).map(lambda text: f"/{text}")


@given(PATHS, st.integers(0, 10**6), st.integers(0, 5000))
def test_a_body_is_what_it_says(path: str, version: int, size: int) -> None:
    body = content(path, version, size)
    assert check(path, body) == version
    assert claim_of(body) == Claim(version, len(body), path)
    assert len(body) == max(size, len(body.partition(b"\n")[0]) + 1) or len(body) < size + 64


@given(PATHS, st.integers(0, 9), st.integers(200, 400), st.data())
def test_one_wrong_byte_is_found(path: str, version: int, size: int, data: st.DataObject) -> None:
    body = bytearray(content(path, version, size))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 0x01
    assert check(path, bytes(body)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no line",
        b"1 2\n",
        b"x 300 /a\n" + b"0" * 290,
        b"1 %d /a\n" % (MAX_SIZE + 1),
        content("/a", 1, 300)[:-1],
        content("/a", 1, 300) + b"0",
        content("/b", 1, 300),
        content("/a", 1, 300)[:150] + content("/a", 2, 300)[150:],
    ],
)
def test_other_bytes_are_no_version(body: bytes) -> None:
    assert check("/a", body) is None


def test_a_size_is_kept_to_the_byte() -> None:
    assert [len(content("/a", 0, size)) for size in (100, 101, 4096, 65537)] == [100, 101, 4096, 65537]
