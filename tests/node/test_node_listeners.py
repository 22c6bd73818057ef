from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.node import listeners


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_shared_sockets_listen_on_one_port() -> None:
    with listeners.listen_tcp("127.0.0.1", 0, shared=True) as first:
        port = port_of(first)
        with listeners.listen_tcp("127.0.0.1", port, shared=True) as second:
            assert port_of(second) == port
        with pytest.raises(OSError, match="in use"):
            listeners.listen_tcp("127.0.0.1", port)


def test_a_unix_socket_is_private_and_replaces_one_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "bindings.sock"
    listeners.listen_unix(path).close()
    assert path.exists()
    with listeners.listen_unix(path), socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client.connect(str(path))


def test_a_public_port_is_on_both_loopback_addresses() -> None:
    sockets = listeners.listen_public(0, "--http-port")
    assert len({port_of(sock) for sock in sockets.values()}) == 1
    assert "127.0.0.1" in sockets
    for sock in sockets.values():
        sock.close()


def test_a_taken_port_names_its_holder_and_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AtollError) as caught:
        listeners.listen_public(port_of(taken), "--http-port")
    assert f"port {port_of_text(caught.value)} is in use by " in caught.value.message
    assert f"(pid {os.getpid()})" in caught.value.message
    assert "--http-port PORT" in caught.value.hint


def port_of_text(error: AtollError) -> str:
    return error.message.split()[1]


def test_a_free_port_is_kept_and_a_taken_one_moves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        moved = listeners.free_port(port_of(taken))
        assert moved != port_of(taken)
    assert listeners.free_port(moved) == moved


def test_a_free_port_is_none_of_those_that_outgoing_connections_have() -> None:
    assert listeners.free_port(0) not in listeners.ephemeral_ports()
