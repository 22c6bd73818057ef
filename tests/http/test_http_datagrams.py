"""Sending datagrams in runs: what arrives is what was sent, whoever cuts it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atoll.http.datagrams import DatagramSender, run_length

HERE, THERE = ("127.0.0.1", 1), ("127.0.0.1", 2)


@pytest.mark.parametrize(
    ("sizes", "length"),
    [
        ([10], 1),
        ([10, 10, 10], 3),
        ([10, 10, 4], 3),
        ([10, 4, 10], 2),
        ([4, 10], 1),
        ([1350] * 100, 45),
        ([10] * 100, 60),
    ],
)
def test_runs(sizes: list[int], length: int) -> None:
    assert run_length([(b"x" * size, HERE) for size in sizes], 0) == length


def test_a_run_goes_to_one_address() -> None:
    assert run_length([(b"xx", HERE), (b"xx", HERE), (b"xx", THERE)], 0) == 2


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker,
    ):
        taker.bind(("127.0.0.1", 0))
        taker.settimeout(5)
        yield sender, taker


@pytest.mark.parametrize("segments", [True, False])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.sampled_from([1, 7, 1200, 1350]), min_size=1, max_size=70))
def test_all_arrive_in_their_order(
    ends: tuple[socket.socket, socket.socket], segments: bool, sizes: list[int]
) -> None:
    sender, taker = ends
    out = DatagramSender(sender)
    out.segments = out.segments and segments
    sent = [bytes([number]) * size for number, size in enumerate(sizes)]
    for at in range(0, len(sent), 30):  # no more than a socket keeps
        out.send_all([(data, taker.getsockname()) for data in sent[at : at + 30]])
        for data in sent[at : at + 30]:
            assert taker.recv(2048) == data


def test_a_kernel_that_refuses_is_not_asked_again(ends: tuple[socket.socket, socket.socket]) -> None:
    sender, taker = ends

    class Refusing:
        def sendmsg(self, *_arguments: object) -> None:
            raise OSError(5, "no checksums here")

        def sendto(self, data: bytes, address: tuple[str, int]) -> None:
            sender.sendto(data, address)

        def setsockopt(self, *_arguments: object) -> None:
            """As if it could."""

    out = DatagramSender(Refusing())  # type: ignore[arg-type]
    assert out.segments
    out.send_all([(b"one", taker.getsockname()), (b"two", taker.getsockname())])
    assert [taker.recv(100), taker.recv(100)] == [b"one", b"two"]
    assert not out.segments


def test_what_cannot_be_sent_is_lost_without_a_word(ends: tuple[socket.socket, socket.socket]) -> None:
    sender, _ = ends
    DatagramSender(sender).send_all([(b"x" * 70_000, HERE), (b"x" * 70_000, HERE)])
