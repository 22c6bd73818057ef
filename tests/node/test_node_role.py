from __future__ import annotations

import os
import socket

import msgspec
import pytest

from atoll.errors import AtollError
from atoll.node import role


def test_a_role_started_by_hand_says_what_to_do() -> None:
    with pytest.raises(AtollError, match="atoll up"):
        role.read_role({})


def test_a_role_reads_who_it_is() -> None:
    config = role.RoleConfig(
        role="agent", home="/home/net", run="/run/net", token="/token", options={"a": "b"}
    )
    text = msgspec.json.encode(config).decode()
    assert role.read_role({role.ROLE_VARIABLE: text}) == config
    assert str(config.paths.network_file) == "/home/net/network.json"


def test_inherited_sockets_have_names_and_are_not_passed_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        copy = os.dup(sock.fileno())
        os.set_inheritable(copy, True)
        found = role.inherited_sockets({role.FDS_VARIABLE: f'{{"http":{copy}}}'})
        with found["http"] as http:
            assert http.getsockname() == sock.getsockname()
            assert not http.get_inheritable()
            assert not http.getblocking()


def test_ready_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv(role.READY_VARIABLE, str(writing))
    role.notify_ready()
    role.notify_ready()
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"1"


def test_ready_reaches_nobody_when_the_supervisor_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setenv(role.READY_VARIABLE, str(writing))
    role.notify_ready()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writing)
