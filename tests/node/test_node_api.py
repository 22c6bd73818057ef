"""The API's process: it does not outlive its link to the store."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import msgspec
import pytest
from networks import network, pop

from atoll.control.link import Link
from atoll.node import api
from atoll.node.role import RoleConfig


async def test_it_ends_with_its_link_so_that_it_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: object) -> None:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(Link, "run", broken)
    (tmp_path / "network.json").write_bytes(msgspec.json.encode(network(pop("lhr", 0))))
    config = RoleConfig(role="api", home=str(tmp_path), run=str(tmp_path), token=str(tmp_path / "token"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.timeout(10):
            with pytest.raises(ValueError, match="a mistake of ours"):
                await api.serve(config, listener)
