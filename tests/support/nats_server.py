"""A real NATS server for tests: its own port and folder, killed and started again at will."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from atoll.node.listeners import free_port

_CONFIG = """
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{store}", sync_interval: always }}
authorization {{ user: atoll, password: secret }}
"""


class NatsServer:
    """A NATS server with JetStream in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port(0)
        self._config = folder / "nats.conf"
        self._log = folder / "nats.log"
        self._config.write_text(_CONFIG.format(port=self._port, store=folder / "jetstream"))
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"nats://atoll:secret@127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start it, or start it again on its port and data; returns when it answers."""
        binary = Path(sys.executable).with_name("nats-server")
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(binary), "-c", str(self._config), stdout=log, stderr=log
            )
        for _attempt in range(1000):
            if await self._answers():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(self._log.read_text())

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        greeting = await reader.read(4)
        writer.close()
        return greeting == b"INFO"


@pytest_asyncio.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A running server, gone when the test ends."""
    server = NatsServer(tmp_path)
    await server.start()
    yield server
    await server.kill()
