"""What a function's host sends: absolute URLs, without a Host."""

from __future__ import annotations

import pytest

from atoll.http.h1_request import Refused, where


def test_a_trusted_client_says_the_host_in_its_target() -> None:
    said = where(b"GET", b"https://origin.example/health?a=1", None, False, trusted=True)
    assert said == (b"origin.example", b"/health?a=1", b"https")


@pytest.mark.parametrize("target", [b"/health", b"*"])
def test_it_has_to_say_it_somewhere(target: bytes) -> None:
    with pytest.raises(Refused, match="Host is missing"):
        where(b"OPTIONS", target, None, False, trusted=True)


def test_anybody_else_sends_a_host() -> None:
    with pytest.raises(Refused, match="Host is missing"):
        where(b"GET", b"https://origin.example/health", None, False)
