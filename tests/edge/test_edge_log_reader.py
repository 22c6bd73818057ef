"""The access log when it is no file: readers behind pipes that are slow, gone, or many writers'."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from atoll.edge.clock import Clock
from atoll.edge.log import AccessLog, connection_prefix, record_head, record_tail
from atoll.http.exchange import ConnectionInfo


@pytest.fixture
def pipe() -> Iterator[tuple[int, Path]]:
    """The end that is read, and a path that leads to the other."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, Path(f"/proc/self/fd/{write}")
    for fd in (read, write):
        os.close(fd)


def open_log(path: Path) -> tuple[AccessLog, ConnectionInfo]:
    clock = Clock()
    clock.tick(1.0)
    conn = ConnectionInfo("192.0.2.1", 1, b"http")
    conn.log_prefix = connection_prefix(conn, "tokyo")
    return AccessLog(path, clock, rotates=False), conn


def record(number: int, length: int = 100) -> bytes:
    head = record_head(b"GET", b"shop.test", b"/%d/" % number + b"x" * length)
    return record_tail(head, 200, 1, b"HIT", 0.1)


def read_all(fd: int) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(fd, 1 << 20)
        except BlockingIOError:
            return found
        if not data:
            return found
        found += data


def numbers(text: bytes) -> list[int]:
    return [int(json.loads(line)["target"].split("/")[1]) for line in text.splitlines()]


async def test_a_reader_that_does_not_read_holds_up_nobody(pipe: tuple[int, Path]) -> None:
    read, path = pipe
    log, conn = open_log(path)
    began_s = monotonic()
    for number in range(3000):
        log.add(conn, record(number))
        if number % 100 == 0:
            log.flush()
    log.flush()
    assert monotonic() - began_s < 2
    seen = b""
    async with asyncio.timeout(5):
        while seen.count(b"\n") < 3000:
            seen += read_all(read)
            await asyncio.sleep(0.01)
    assert numbers(seen) == list(range(3000))
    log.close()


async def test_a_reader_that_never_reads_costs_records_and_no_memory(pipe: tuple[int, Path]) -> None:
    read, path = pipe
    log, conn = open_log(path)
    for number in range(12_000):
        log.add(conn, record(number, 1000))
        if number % 1000 == 0:
            log.flush()
    log.flush()
    assert len(log._waiting) < 3 * 1024 * 1024
    seen = read_all(read)
    while log._waiting:
        log.flush()
        seen += read_all(read)
    found = numbers(seen)  # what is there are whole lines, in order
    assert found == list(range(len(found)))
    assert 900 < len(found) < 12_000
    log.close()


async def test_lines_longer_than_a_pipe_takes_at_once_arrive_whole(pipe: tuple[int, Path]) -> None:
    read, path = pipe
    log, conn = open_log(path)
    for number in range(30):
        log.add(conn, record(number, 9000))
    log.flush()
    seen = read_all(read)
    while log._waiting:
        log.flush()
        seen += read_all(read)
    assert numbers(seen) == list(range(30))
    log.close()


async def test_two_writers_do_not_mix_their_lines(pipe: tuple[int, Path]) -> None:
    read, path = pipe
    logs = [open_log(path) for _ in range(2)]
    seen = b""
    for number in range(400):
        for log, conn in logs:
            log.add(conn, record(number, 700))
            log.flush()
        if number % 20 == 0:
            seen += read_all(read)
    while any(log._waiting for log, _ in logs):
        for log, _ in logs:
            log.flush()
        seen += read_all(read)
    seen += read_all(read)
    assert sorted(numbers(seen)) == sorted([*range(400)] * 2)
    for log, _ in logs:
        log.close()


async def test_a_reader_that_has_gone_is_none() -> None:
    read, write = os.pipe()
    log, conn = open_log(Path(f"/proc/self/fd/{write}"))
    os.close(read)
    log.add(conn, record(1))
    log.flush()
    assert log._waiting == b""
    log.close()
    os.close(write)


async def test_what_waits_at_the_end_is_given_a_moment(pipe: tuple[int, Path]) -> None:
    read, path = pipe
    log, conn = open_log(path)
    for number in range(1000):
        log.add(conn, record(number))
    reading = asyncio.get_running_loop().run_in_executor(None, _read_lines, read, 1000)
    log.close()
    assert numbers(await reading) == list(range(1000))


def _read_lines(fd: int, count: int) -> bytes:
    seen, until_s = b"", monotonic() + 5
    while seen.count(b"\n") < count and monotonic() < until_s:
        seen += read_all(fd)
    return seen
