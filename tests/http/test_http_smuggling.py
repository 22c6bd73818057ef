"""What an attacker sends on one connection never becomes part of what another user sends or gets.

The engines alone first; then through a whole edge with an origin that keeps its connections, which notes
every byte and is read by a parser of its own.
"""

from __future__ import annotations

import pytest
from test_http_h1 import FakeApp, listen, talk

from atoll.http.h3_request import Refusal, read_request
from atoll.http.limits import Limits

NEXT = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
FORMS = (b"GET  /a HTTP/1.1", b"GET /a  HTTP/1.1", b"GET /a RTSP/1.1", b"GET /a ICE/1.1", b"GET\t/a HTTP/1.1")


@pytest.mark.parametrize("line", FORMS)
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", NEXT),
        (b"", b"GET /x HTTP/1.1\r\nHost: h\r\nX: GET /a HTTP/1.1\r\n\r\n"),
        (NEXT, b""),
        (b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 17\r\n\r\nGET /a HTTP/1.1\r\n", b""),
        (b"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NEXT),
        (b"\r\n\r\n", NEXT),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 31, 4096])
async def test_a_line_is_judged_where_it_stands(line: bytes, before: bytes, behind: bytes, size: int) -> None:
    """A well-formed line in other requests, in bodies or in fields excuses none that is malformed."""
    app = FakeApp()
    listener, address = listen(app)
    sent = before + line + b"\r\nHost: h\r\n\r\n" + behind
    data = await talk(address, *(sent[at : at + size] for at in range(0, len(sent), size)))
    listener.close()
    assert [status for status, _ in app.refusals] == [400]
    assert len(app.seen) == (1 if before.strip() else 0)
    assert data.count(b"HTTP/1.1 400 ") == 1


@pytest.mark.parametrize("byte", [*range(0x09), *range(0x0A, 0x20), 0x7F])
def test_http3_has_no_control_characters_either(byte: int) -> None:
    """What HTTP/1.1 and HTTP/2 refuse would reach an origin that is asked over HTTP/1.1."""
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"h"), (b":path", b"/")]
    read = read_request([*fields, (b"x", b"a%cb" % byte)], Limits())
    assert isinstance(read, Refusal)
    assert read.status == 400
