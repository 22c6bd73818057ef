"""What the load generators print, read; what is not a measurement is refused."""

import pytest

from atoll.errors import AtollError
from bench.load import parse_h2load, parse_wrk

WRK = """Running 2s test @ http://127.0.0.1:8080/o/1
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   732.45us  210.11us   9.40ms   93.40%
    Req/Sec    87.01k     3.21k   91.11k    80.00%
  Latency Distribution
     50%  732.00us
     75%    0.85ms
     90%    1.10ms
     99%    1.38ms
  174020 requests in 2.00s, 208.45MB read
Requests/sec:  87010.00
Transfer/sec:    104.22MB
"""
H2LOAD = """starting benchmark...
TLS Protocol: TLSv1.3
Cipher: TLS_AES_256_GCM_SHA384
Application protocol: h2
finished in 1.22s, 99999.00 req/s, 107.00MB/s
requests: 121600 total, 121600 started, 121600 done, 121600 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 121600 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 127.21MB (133400000) total, 1.25MB (1310720) headers, 118.75MB (124518400) data
"""


def test_wrk() -> None:
    found = parse_wrk(WRK)
    assert found.requests == 174_020
    assert found.per_s == pytest.approx(87_010)
    assert found.p50_us == pytest.approx(732)
    assert found.p99_us == pytest.approx(1380)
    assert found.read_bytes == int(208.45 * 1024**2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WRK + "  Socket errors: connect 0, read 3, write 0, timeout 0\n", "read 3"),
        (WRK + "  Non-2xx or 3xx responses: 7\n", "responses: 7"),
        (WRK.replace("174020 requests", "0 requests"), "no answer at all"),
        ("unable to connect to 127.0.0.1:8080", "unable to connect"),
    ],
)
def test_what_wrk_prints_of_a_failed_run_is_refused(text: str, says: str) -> None:
    with pytest.raises(AtollError, match=says):
        parse_wrk(text)


def test_h2load() -> None:
    found = parse_h2load(H2LOAD)
    assert (found.requests, found.duration_s, found.cipher) == (121_600, 1.22, "TLS_AES_256_GCM_SHA384")
    assert found.read_bytes == 133_400_000
    assert parse_h2load(H2LOAD.replace("protocol: h2", "protocol: h2c")).requests == 121_600


@pytest.mark.parametrize(
    "change",
    [
        ("121600 succeeded", "121599 succeeded"),
        ("121600 2xx, 0 3xx", "121599 2xx, 1 3xx"),
        ("protocol: h2", "protocol: http/1.1"),
        ("finished in", "gave up after"),
    ],
)
def test_what_h2load_prints_of_a_failed_run_is_refused(change: tuple[str, str]) -> None:
    with pytest.raises(AtollError, match="h2load"):
        parse_h2load(H2LOAD.replace(*change))
