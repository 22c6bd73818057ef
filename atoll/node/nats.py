"""The embedded NATS server: its secret, its configuration, how it is started and how it shows that it serves.

JetStream with `sync_interval: always`: what has been acknowledged survives a crash of the machine. Loopback
only, behind a password that only the user can read; its port is nobody else's business and is remembered, so
that a client of the run before finds it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Final

import msgspec

from atoll.config.paths import Paths
from atoll.errors import AtollError
from atoll.node.listeners import free_port
from atoll.node.process import Launch, tethered

USER: Final = "atoll"
LARGEST_PAYLOAD: Final = 8 * 1024 * 1024
PROBE_TIMEOUT_S: Final = 1.0


class NatsAccess(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs."""

    port: int
    password: str

    @property
    def url(self) -> str:
        """With the credentials in it."""
        return f"nats://{USER}:{self.password}@127.0.0.1:{self.port}"


def prepare(paths: Paths) -> NatsAccess:
    """The access of the run before if its port is still free, otherwise a new one; kept on disk."""
    folder = paths.home / "nats"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / "access.json"
    before = _read(file)
    access = NatsAccess(
        port=free_port(before.port if before else 0),
        password=before.password if before else secrets.token_hex(32),
    )
    write_private(file, msgspec.json.encode(access))
    write_private(folder / "nats.conf", configuration(access, folder / "store").encode())
    return access


def current(paths: Paths) -> NatsAccess:
    """The access of the server that runs.

    Raises:
        AtollError: it is not on disk.
    """
    file = paths.home / "nats" / "access.json"
    access = _read(file)
    if access is None:
        raise AtollError("the access to NATS cannot be read", where=str(file))
    return access


def configuration(access: NatsAccess, store: Path) -> str:
    """The server's configuration file."""
    return f"""\
server_name: atoll
listen: "127.0.0.1:{access.port}"
max_payload: {LARGEST_PAYLOAD}
authorization {{ user: {USER}, password: "{access.password}" }}
jetstream {{ store_dir: "{store}", sync_interval: always, max_memory_store: 64MB, max_file_store: 4GB }}
"""


def launch(paths: Paths, access: NatsAccess) -> Launch:
    """How the server is started."""

    async def probe() -> bool:
        return await answers(access.port)

    return Launch(
        name="nats",
        argv=tethered(find_server(), "-c", str(paths.home / "nats/nats.conf")),
        log=paths.logs / "nats.log",
        probe=probe,
    )


def find_server() -> str:
    """The program: beside this Python (the wheel's), or on the path.

    Raises:
        AtollError: there is none.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise AtollError("nats-server is not installed", hint="run `make up` to set the checkout up")
    return found


async def answers(port: int) -> bool:
    """Whether a NATS server greets on `port`."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return (await reader.readline()).startswith(b"INFO ")
            finally:
                writer.close()
    return False


def write_private(path: Path, data: bytes) -> None:
    """Write by rename; only the owner may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    temporary.replace(path)


def _read(file: Path) -> NatsAccess | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=NatsAccess)
    except (OSError, msgspec.MsgspecError):
        return None
