"""The edge's own fields."""

from atoll.edge.finish import HIT, MISS, Stamp, finish_headers, stamped
from atoll.http.fields import Headers


def finished(headers: Headers) -> dict[bytes, bytes]:
    fields = finish_headers(headers, b"lhr", MISS, b"atoll-lhr; fwd=miss")
    return dict(stamped(fields, Stamp(b"now", b"edge", b"t-1")))


def test_a_plain_response_gets_them_all() -> None:
    assert finished([(b"a", b"b")]) == {
        b"a": b"b",
        b"date": b"now",
        b"x-cache": b"MISS",
        b"x-edge-location": b"lhr",
        b"cache-status": b"atoll-lhr; fwd=miss",
        b"server-timing": b"edge",
        b"atoll-trace": b"t-1",
    }


def test_what_a_function_says_of_its_cache_stays() -> None:
    assert finished([(b"x-cache", HIT)])[b"x-cache"] == b"HIT"


def test_the_edge_s_verdict_comes_after_those_behind_it() -> None:
    assert (
        finished([(b"cache-status", b"origin; hit")])[b"cache-status"] == b"origin; hit, atoll-lhr; fwd=miss"
    )


def test_only_the_edge_says_where_it_is() -> None:
    fields = finish_headers([(b"x-edge-location", b"nowhere"), (b"atoll-trace", b"t-0")], b"lhr", MISS, b"")
    assert [value for name, value in fields if name == b"x-edge-location"] == [b"lhr"]
    assert b"atoll-trace" not in dict(fields)


def test_a_date_that_is_there_stays() -> None:
    assert finished([(b"date", b"then")])[b"date"] == b"then"
