"""Turns: what is left out and why, and how rounds become ratios. Peers are real where they run anywhere."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median

import pytest

from atoll.errors import AtollError
from bench import machine, objects, peers, prefill
from bench.load import Sample
from bench.machine import Machine
from bench.report import Report, ratios, results, table
from bench.scenarios import COMMANDS, SCENARIOS
from bench.targets import AtollEdge, Started, start_origin
from bench.turns import Options, origin_count

MACHINE = Machine(cpu="c", cores=2, kernel="k", python="3")


def sample(per_s: float, cpu_us: float, hit_ratio: float = 1.0) -> Sample:
    return Sample(per_s, cpu_us, 1.0, p50_us=500, p99_us=900, memory_bytes=10**7, hit_ratio=hit_ratio)


def test_every_metric_belongs_to_a_command_or_is_asked_for_by_name() -> None:
    assert {name for names in COMMANDS.values() for name in names} <= set(SCENARIOS)
    assert [each.name for each in Options(command="miss").scenarios()] == ["miss-h1"]
    assert [each.name for each in Options(metrics=("h2c",)).scenarios()] == ["h2c"]
    with pytest.raises(AtollError, match="'h9' is no metric"):
        Options(metrics=("h9",)).scenarios()


def test_what_a_metric_needs_follows_from_what_it_does() -> None:
    needs = {name: set(SCENARIOS[name].needs) for name in ("h1", "h2-tls", "h2c", "range-1m", "mix-h1")}
    assert needs == {
        "h1": set(),
        "h2-tls": {"tls", "h2"},
        "h2c": {"h2c"},
        "range-1m": {"range"},
        "mix-h1": {"store"},
    }


def test_a_missing_peer_is_left_out_with_a_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("atoll.lab.tools._SYSTEM_PATH", str(tmp_path))
    said: list[str] = []
    found = peers.find(["haproxy", "bare"], tmp_path, said.append)
    assert (found.tools, list(found.left_out)) == ({}, ["haproxy"])
    assert "Debian's package is haproxy" in said[0]
    with pytest.raises(AtollError, match="there are: nginx, varnish, ats, haproxy"):
        peers.find(["squid"], tmp_path, said.append)


@pytest.fixture
def origin(tmp_path: Path) -> Started:
    return start_origin(tmp_path)


def test_the_origin_answers_by_number_and_size_and_counts(origin: Started) -> None:
    port = origin.ports["http"]
    try:
        assert prefill.fetch_all(port, range(40)) == 40
        assert prefill.fetch_all(port, [7], size=100_000) == 1
        assert origin_count(origin) == 41
    finally:
        origin.stop()


def test_the_bare_loop_answers_what_the_origin_would(tmp_path: Path, origin: Started) -> None:
    found = peers.Found({}, {})
    with ExitStack() as stack:
        stack.callback(origin.stop)
        edge = AtollEdge(tmp_path, origin.ports["http"])
        stack.callback(edge.stop)
        place = peers.Place({}, tmp_path, origin.ports["http"], edge.pem)
        (bare,) = peers.start([peers.BARE], found, place, lambda _: None, stack)
        assert prefill.fetch_all(bare.http_port, range(10)) == 10
        assert prefill.fetch_all(bare.https_port, range(10), prefill.unchecked_tls()) == 10
        assert prefill.fetch_all(bare.http_port, [3], size=200_000) == 1
        assert origin_count(origin) == 0
        assert prefill.fetch_all(edge.http_port, [1, 1, 2, 2]) == 4
        assert origin_count(origin) == 2


def test_a_wrong_answer_is_noticed(origin: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "body", lambda number, size=1024: bytes(size))
    try:
        with pytest.raises(AtollError, match="object 5: a wrong body of 1024 bytes"):
            prefill.fetch_all(origin.ports["http"], [5])
    finally:
        origin.stop()


def test_ratios_are_taken_round_by_round() -> None:
    rounds = {"h1": {"atoll": [sample(200, 5), sample(100, 10)], "nginx": [sample(100, 10), sample(50, 20)]}}
    assert ratios(rounds) == {"nginx/h1": 2.0, "nginx/h1-cpu": 2.0}
    assert ratios({"h1": {"nginx": [sample(1, 1)]}}) == {}


def test_large_bodies_are_counted_in_megabytes() -> None:
    rounds = {"big-10m": {"atoll": [sample(10, 1000)]}}
    found = {each.unit: each.p50 for each in results(rounds)}
    megabytes = 10 * 1024**2 / 1e6
    assert found["MB/s"] == pytest.approx(10 * megabytes, abs=0.01)
    assert found["us CPU/MB"] == pytest.approx(1000 / megabytes, abs=0.01)
    assert found["MB"] == 10


def test_the_table_has_a_row_for_each_target() -> None:
    rounds = {"mix-h1": {"atoll": [sample(10, 5, 0.9)], "nginx": [sample(20, 10, 0.8)]}}
    columns, rows = table(rounds)
    assert [len(row) for row in rows] == [len(columns)] * 2
    assert [row[columns.index(">hits")] for row in rows] == ["90.0%", "80.0%"]
    assert rows[1][columns.index(">CPU ratio")] == "2.00×"


def test_a_run_in_which_atoll_failed_is_not_ok() -> None:
    def report(left_out: dict[str, str]) -> Report:
        return Report(name="hit", machine=MACHINE, rounds=1, results=(), ratios={}, left_out=left_out)

    assert report({"varnish/h1-tls": "no TLS", "ats": "missing"}).ok
    assert not report({"atoll/range-1m": "answers 200"}).ok


def test_sizes_of_a_mix_are_those_of_the_web_and_never_change() -> None:
    sizes = [objects.mixed_size(number) for number in range(20_000)]
    assert sizes == [objects.mixed_size(number) for number in range(20_000)]
    assert 64 <= min(sizes) <= max(sizes) <= objects.MIX_LARGEST
    assert median(sizes) == pytest.approx(3064, rel=0.05)
    assert mean(sizes) == pytest.approx(7900, rel=0.1)


def test_being_told_to_end_ends_what_was_started(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from bench import machine\n"
        "with machine.orderly_end():\n"
        "    child = machine.start(machine.LOAD_CORE, ['sleep', '60'], Path(sys.argv[1]))\n"
        "    try:\n"
        "        print(child.pid, flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        machine.stop(child)\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=machine.ROOT) as bench:
        assert bench.stdout is not None
        child = int(bench.stdout.readline())
        bench.terminate()
        assert bench.wait(10) == 143
    assert not Path(f"/proc/{child}").exists()
