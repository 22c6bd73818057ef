"""The WebSocket handshake's rules, by the RFC's own example and by what may go wrong."""

from __future__ import annotations

import pytest

from atoll.http.fields import Headers
from atoll.http.upgrade import accept_for, answer_fault, answer_for, request_fault, with_key

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GOOD: Headers = [(b"sec-websocket-version", b"13"), (b"sec-websocket-key", KEY)]


def test_the_example_of_rfc_6455() -> None:
    assert accept_for(KEY) == ACCEPT
    assert request_fault(GOOD, with_key=True) is None
    assert answer_fault(GOOD, [(b"sec-websocket-accept", ACCEPT)]) == ""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 426),
        ([(b"sec-websocket-key", KEY)], 426),
        ([(b"sec-websocket-version", b"8"), (b"sec-websocket-key", KEY)], 426),
        ([(b"sec-websocket-version", b"13"), (b"sec-websocket-version", b"8"), GOOD[1]], 426),
        ([(b"sec-websocket-version", b"13")], 400),
        ([*GOOD, (b"sec-websocket-key", KEY)], 400),
        ([GOOD[0], (b"sec-websocket-key", b"")], 400),
        ([GOOD[0], (b"sec-websocket-key", b"dGhlIHNhbXBsZQ==")], 400),
        ([GOOD[0], (b"sec-websocket-key", b"!GhlIHNhbXBsZSBub25jZQ==")], 400),
        ([*GOOD, (b"sec-websocket-protocol", b"chat, no token")], 400),
    ],
)
def test_a_handshake_that_is_none_is_refused(headers: Headers, status: int) -> None:
    fault = request_fault(headers, with_key=True)
    assert fault is not None
    assert fault.status == status
    if status == 426:
        assert fault.headers == [(b"sec-websocket-version", b"13")]


def test_over_http2_there_is_no_key() -> None:
    assert request_fault(GOOD[:1], with_key=False) is None


OFFER: Headers = [
    *GOOD,
    (b"sec-websocket-protocol", b"chat, superchat"),
    (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits, x-other"),
]
PROOF = (b"sec-websocket-accept", ACCEPT)


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        ([PROOF], True),
        ([PROOF, (b"sec-websocket-protocol", b"superchat")], True),
        ([PROOF, (b"sec-websocket-extensions", b"permessage-deflate; server_no_context_takeover")], True),
        ([], False),
        ([(b"sec-websocket-accept", b"")], False),
        ([(b"sec-websocket-accept", KEY)], False),
        ([PROOF, PROOF], False),
        ([PROOF, (b"sec-websocket-protocol", b"other")], False),
        ([PROOF, (b"sec-websocket-protocol", b"chat"), (b"sec-websocket-protocol", b"superchat")], False),
        ([PROOF, (b"sec-websocket-protocol", b"chat, superchat")], False),
        ([PROOF, (b"sec-websocket-extensions", b"x-surprise")], False),
    ],
)
def test_an_answer_has_to_fit_the_question(answer: Headers, good: bool) -> None:
    assert (answer_fault(OFFER, answer) == "") is good


def test_each_side_has_a_key_of_its_own() -> None:
    own = b"AAAAAAAAAAAAAAAAAAAAAA=="
    asked = with_key([*GOOD, (b"sec-websocket-accept", b"x")], own)
    assert asked == [GOOD[0], (b"sec-websocket-key", own)]
    answer: Headers = [(b"sec-websocket-accept", accept_for(own)), (b"x", b"y")]
    assert answer_fault(asked, answer) == ""
    assert answer_for(GOOD, answer) == [(b"x", b"y"), (b"sec-websocket-accept", ACCEPT)]
    assert answer_for([], answer) == [(b"x", b"y")]
