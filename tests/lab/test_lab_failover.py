"""Failover: the arithmetic by table, and whole trials against a real lab that loses a PoP."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from emulated_lab import Lab, lab

from atoll.errors import AtollError
from atoll.lab import failover
from atoll.lab.failover import Losses, Target, Trial, choose_city, judge, longest_gap_s, losses, result
from atoll.lab.prober import Prober, Sample
from atoll.wire.messages import CatchmentRow

TARGET = Target(pop="lhr", city="london", expected="iad", rate=1000.0, address=("127.0.0.1", 1))


def answer(due_s: float, done_s: float, pop: str = "lhr", first_error: str = "") -> Sample:
    """A request that was answered."""
    return Sample(due_s, done_s, pop, first_error)


def loss(due_s: float, done_s: float) -> Sample:
    """A request that failed twice."""
    return Sample(due_s, done_s, "", "reset", "refused")


def row(city: str, pop: str, rtt_ms: float) -> CatchmentRow:
    """A city's row."""
    return CatchmentRow(city=city, asn=1, pop=pop, as_path=(), rtt_ms=rtt_ms)


@pytest.mark.parametrize(
    ("samples", "gap_s"),
    [
        ([], 10.0),
        ([answer(0, 1)], 19.0),
        ([answer(0, 9), answer(10, 12), answer(12, 13), answer(18, 19)], 6.0),
        ([answer(0, 5), answer(10, 12), answer(12, 19)], 7.0),
        ([answer(0, 9), answer(10, 11), answer(10, 30)], 9.0),
        ([answer(0, 9), loss(10, 13), answer(13, 17, first_error="reset"), answer(18, 20)], 8.0),
    ],
)
def test_the_longest_gap_overlaps_the_window(samples: list[Sample], gap_s: float) -> None:
    assert longest_gap_s(samples, 10.0, 20.0) == gap_s
    assert longest_gap_s(samples[::-1], 10.0, 20.0) == gap_s


def test_losses_count_first_tries_and_those_for_good() -> None:
    samples = [answer(0, 1), answer(0, 1, first_error="closed"), loss(0, 1), loss(0, 1)]
    assert losses(samples) == Losses(
        requests=4, failed_requests=3, failed_after_one_retry=2, errors={"closed": 1, "reset": 2}
    )


def test_a_trial_is_judged_by_what_was_asked_while_the_pop_was_away() -> None:
    samples = [
        answer(9.0, 9.1),
        loss(9.2, 9.3),  # before the kill: not its doing
        answer(9.9, 10.3, "iad", "reset"),  # under way when it came
        loss(10.1, 10.2),
        answer(10.5, 10.6, "iad"),
        answer(10.6, 10.7, "iad"),
        answer(10.7, 10.8, "sin"),
        answer(11.5, 11.9, "iad"),
        answer(12.5, 13.0, "lhr", "reset"),
        answer(13.2, 13.4, "lhr"),
    ]
    trial = judge(TARGET, samples, 10.0, 12.0, 13.0)
    assert trial == Trial(
        pop="lhr",
        city="london",
        outage_ms=1200.0,
        requests=6,
        failed_requests=2,
        failed_after_one_retry=1,
        errors={"reset": 2},
        taken_over_by="iad",
        expected="iad",
        back_ms=1000.0,
        on_return=Losses(requests=2, failed_requests=1, failed_after_one_retry=0, errors={"reset": 1}),
        return_gap_ms=1100.0,
    )
    assert judge(TARGET, samples[:1], 10.0, 12.0, None).back_ms is None
    assert judge(TARGET, samples[:1], 10.0, 12.0, None).taken_over_by == ""


def trial(outage_ms: float, taken_over_by: str = "iad", back_ms: float | None = 1.0) -> Trial:
    """A trial with 3 and 1 failures."""
    return Trial(
        pop="lhr",
        city="london",
        outage_ms=outage_ms,
        requests=10,
        failed_requests=3,
        failed_after_one_retry=1,
        errors={"reset": 3},
        taken_over_by=taken_over_by,
        expected="iad",
        back_ms=back_ms,
        on_return=losses([]),
        return_gap_ms=0.0,
    )


@pytest.mark.parametrize(
    ("trials", "ok"),
    [
        ([trial(10), trial(50)], True),
        ([trial(10), trial(50.1)], False),
        ([trial(10), trial(20, taken_over_by="sin")], False),
        ([trial(10, back_ms=None), trial(20)], False),
    ],
)
def test_a_result_is_ok_when_every_trial_is(trials: list[Trial], ok: bool) -> None:
    outcome = result(TARGET, trials, 50.0)
    assert outcome.ok is ok
    assert (outcome.scenario, outcome.failed_requests, outcome.failed_after_one_retry) == ("pop-kill", 6, 2)


def test_outages_are_summed_up_by_median_and_longest() -> None:
    outages = result(TARGET, [trial(40), trial(10), trial(20)], 50.0).outage_ms
    assert (outages.p50, outages.max) == (20.0, 40.0)
    with pytest.raises(AtollError, match="no trial"):
        result(TARGET, [], 50.0)


def test_the_city_is_the_pops_own_or_the_nearest_it_serves() -> None:
    rows = [row("paris", "lhr", 9), row("london", "lhr", 12), row("new-york", "iad", 5)]
    assert choose_city(rows, "lhr", "london") == "london"
    assert choose_city(rows, "lhr", "dublin") == "paris"
    with pytest.raises(AtollError, match="sin serves no city"):
        choose_city(rows, "sin", "singapore")


async def fall(net: Lab, action: str) -> None:
    """What the network does on `kill` and `start`."""
    if action == "kill":
        await net.speakers.pop("lhr").close()
        net.pops["lhr"].stop()
    else:
        await net.pops["lhr"].start()
        await net.announce("lhr")


async def test_a_trial_against_a_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "WARM_UP_S", 0.1)
    monkeypatch.setattr(failover, "WATCH_S", 0.3)
    loop = asyncio.get_running_loop()
    async with lab(tmp_path, "iad", "lhr") as net:

        def act(pop: str, action: str) -> None:
            assert pop == "lhr"
            asyncio.run_coroutine_threadsafe(fall(net, action), loop).result(5)

        target = Target(pop="lhr", city="london", expected="iad", rate=400.0, address=net.address)
        outcome = await failover.run_trial(target, act)
    assert outcome.taken_over_by == "iad"
    assert outcome.back_ms is not None
    assert outcome.outage_ms < 100
    assert outcome.requests >= 100
    assert outcome.failed_after_one_retry == 0
    assert outcome.failed_requests <= 5


async def test_a_trial_needs_the_pop_to_serve_the_city(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "WARM_UP_S", 0.05)
    async with lab(tmp_path, "iad") as net:
        target = Target(pop="lhr", city="london", expected="iad", rate=100.0, address=net.address)
        with pytest.raises(AtollError, match="london is answered by iad, not lhr"):
            await failover.run_trial(target, lambda _pop, _action: None)


async def test_the_prober_keeps_its_rate_and_counts_both_tries(tmp_path: Path) -> None:
    async with lab(tmp_path, "lhr") as net:
        prober = Prober(net.address, "london.localhost", "/", 200.0)
        prober.start()
        await prober.until_said("lhr")
        net.pops["lhr"].stop()
        stopped_s = asyncio.get_running_loop().time()
        await asyncio.sleep(0.2)
        await prober.stop()
        ended_s = asyncio.get_running_loop().time()
    after = [sample for sample in prober.samples if sample.due_s > stopped_s]
    assert abs(len(after) - (ended_s - stopped_s) * 200) < 12
    assert all(sample.first_error and sample.retry_error for sample in after)
    assert {round(b.due_s - a.due_s, 6) for a, b in pairwise(after)} == {0.005}


async def test_server_errors_and_silence_are_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer_badly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /error"):
            writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif head.startswith(b"GET /junk"):
            writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        await reader.read()

    monkeypatch.setattr("atoll.lab.prober.TIMEOUT_S", 0.05)
    monkeypatch.setattr("atoll.lab.prober._SWEEP_S", 0.01)
    server = await asyncio.start_server(answer_badly, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for path, error in (("/error", "status 503"), ("/junk", "not HTTP"), ("/silence", "no answer in time")):
        prober = Prober(address, "a", path, 10.0)
        prober.start()
        await prober.stop()
        assert [sample.answered for sample in prober.samples] == [False]
        assert prober.samples[0].first_error.startswith(error)
        assert prober.samples[0].retry_error.startswith(error)
    server.close()
