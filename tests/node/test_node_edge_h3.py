"""The HTTP/3 worker's secret and socket."""

from __future__ import annotations

import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.http.quic_endpoint import SECRET_BYTES
from atoll.node.edge_h3 import load_secret
from atoll.node.listeners import bind_udp, port_of


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "pop/quic.key"
    first = load_secret(path)
    assert len(first) == SECRET_BYTES
    assert load_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["quic.key"]


def test_workers_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: load_secret(tmp_path / "quic.key"), range(8)))) == 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quic.key").write_bytes(b"short")
    with pytest.raises(AtollError, match="not a secret of ours") as caught:
        load_secret(tmp_path / "quic.key")
    assert caught.value.where.endswith("quic.key")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_udp_socket_takes_its_port(address: str) -> None:
    with bind_udp(address, 0) as sock:
        assert sock.type & socket.SOCK_DGRAM
        with pytest.raises(OSError, match="in use"):
            bind_udp(address, port_of(sock))
