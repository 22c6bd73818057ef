"""The player itself: what it says of an origin with no cache before it, where nothing is ever stored."""

from __future__ import annotations

import pytest
from conformance_case import Case, Chapter, absent, ask, first, hit, miss, ok, origin_saw, parts, said, status
from conformance_client import Response
from conformance_origin import ScriptedOrigin
from conformance_play import Player, Result
from conformance_report import complaints, counts, sections, totals
from conformance_table import CASES, select
from conformance_time import Places, http_date

FRESH = "Cache-Control: max-age=3600"


async def play(*cases: Case) -> list[Result]:
    """Results of cases without a cache."""
    origin = ScriptedOrigin()
    await origin.start()
    try:
        return await Player(("127.0.0.1", origin.port), "table.test", origin).play_all(cases)
    finally:
        origin.stop()


async def test_without_a_cache_nothing_is_reused_and_nothing_wrong() -> None:
    chapter = Chapter("9111")
    chapter.good("1", "reused", "", ask(ok(FRESH)), ask(hit()))
    chapter.must("1", "not-reused", "", ask(ok(FRESH)), ask(ok(FRESH), miss()))
    chapter.must("1", "if-reused", "", first(ok(FRESH)), ask(hit(), absent("X-A")))
    chapter.must("1", "firmly-reused", "", first(ok(FRESH)), ask(hit()), firm=True)
    chapter.note("1", "noted", "", ask(ok(FRESH)), ask(hit()))
    results = await play(*chapter.cases)
    assert [result.outcome for result in results] == ["fail", "pass", "unmet", "fail", "no"]
    assert [counts(result) for result in results] == [True, True, False, True, True]
    assert totals(results) == {"required": (1, 2), "optimal": (0, 1), "check": (0, 1)}
    assert sections(results) == {("9111", "1"): (1, 3)}


async def test_a_complaint_says_what_was_expected_and_seen() -> None:
    chapter = Chapter("9110")
    chapter.must("2", "teapot", "a teapot", ask(ok("X-A: {start}", status=418), "X-B: 1", status(200)))
    chapter.must("2", "sent", "a field", ask("X-B: 1", origin_saw("X-B", "2")))
    text = "\n".join(complaints(await play(*chapter.cases)))
    assert "teapot  [required, RFC 9110 §2] a teapot" in text
    assert "step 1: status: expected (200,), seen 418" in text
    assert "step 1: asked x-b: expected 2, seen 1" in text


async def test_rows_of_several_requests_and_of_cut_responses_are_seen_for_what_they_are() -> None:
    chapter = Chapter("9111")
    chapter.good("4", "together", "", ask(ok(FRESH, delay_s=0.1), hit(1)[1], times=3))
    chapter.must("3.3", "cut", "", ask(ok(FRESH, body=b"x" * 100, cut=40), miss()))
    results = {result.case.id: result for result in await play(*chapter.cases)}
    assert results["together"].failures[0].seen == "3 requests at the origin"
    assert [failure.what for failure in results["cut"].failures] == ["from"]


async def test_the_words_of_a_cache_are_read_as_structured_fields() -> None:
    chapter = Chapter("9211")
    line = "Cache-Status: Behind; hit, ours; fwd=stale; fwd-status=200; ttl=-3"
    chapter.must("2", "right", "", ask(ok(line), said(hit=None, fwd="stale", fwd_status=200, ttl=(-5, -1))))
    chapter.must("2", "wrong", "", ask(ok(line), said(hit=True, fwd=..., detail=...)))
    right, wrong = await play(*chapter.cases)
    assert right.outcome == "pass"
    assert wrong.failures[0].seen.endswith("(detail, hit)")


async def test_parts_are_told_from_a_body_that_has_none() -> None:
    chapter = Chapter("9110")
    kind = "Content-Type: multipart/byteranges; boundary=B"
    one, two = (
        b"--B\r\nContent-Range: bytes %d-%d/9\r\n\r\n%b\r\n" % part for part in ((0, 0, b"a"), (2, 2, b"c"))
    )
    body = one + two + b"--B--\r\n"
    wanted = parts(("bytes 0-0/9", b"a"), ("bytes 2-2/9", b"c"))
    chapter.must("14.6", "in-parts", "", ask(ok(kind, body=body), wanted))
    chapter.must("14.6", "whole", "", ask(ok(body=body), wanted))
    assert [result.outcome for result in await play(*chapter.cases)] == ["pass", "fail"]


def test_dates_have_the_three_forms_of_http() -> None:
    assert http_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(784111777, "rfc850") == "Sunday, 06-Nov-94 08:49:37 GMT"
    assert http_date(784111777, "asctime") == "Sun Nov  6 08:49:37 1994"


def test_placeholders_are_filled_and_braces_left() -> None:
    places = Places(784111777.0, "/run.case", "table.test")
    assert places.fill("{start-7}|{now+1|asctime}", 784111777.0) == (
        "Sun, 06 Nov 1994 08:49:30 GMT|Sun Nov  6 08:49:38 1994"
    )
    assert places.fill("{url}/a {host|upper} {x}", 0.0) == "http://table.test/run.case/a TABLE.TEST {x}"


@pytest.mark.parametrize("only", ["9213", "9111 4.2", "swr"])
def test_rows_are_selected_by_rfc_section_or_id(only: str) -> None:
    chosen = select(only)
    assert chosen
    assert len(chosen) < len(CASES)


def test_a_response_joins_the_lines_of_a_field() -> None:
    response = Response(200, [("x-a", "1"), ("x-b", "0"), ("x-a", "2")])
    assert response.field("x-a") == "1, 2"
    assert response.field("x-c") is None
