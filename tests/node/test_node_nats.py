from __future__ import annotations

import os
from pathlib import Path

import nats as nats_client
import pytest

from atoll.config.paths import Paths, resolve
from atoll.node import nats
from atoll.node.supervisor import Supervisor


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return resolve({"ATOLL_HOME": str(tmp_path)}, os.getuid())


def test_access_is_secret_and_remembered(paths: Paths) -> None:
    first, second = nats.prepare(paths), nats.prepare(paths)
    assert first == second
    assert len(first.password) == 64
    assert first.url == f"nats://atoll:{first.password}@127.0.0.1:{first.port}"
    for name in ("access.json", "nats.conf"):
        assert (paths.home / "nats" / name).stat().st_mode & 0o777 == 0o600


def test_damaged_access_is_made_anew(paths: Paths) -> None:
    first = nats.prepare(paths)
    (paths.home / "nats/access.json").write_text("{")
    assert nats.prepare(paths).password != first.password


def test_every_acknowledged_write_is_on_disk() -> None:
    text = nats.configuration(nats.NatsAccess(port=4222, password="p"), Path("/store"))
    assert "sync_interval: always" in text
    assert 'listen: "127.0.0.1:4222"' in text


@pytest.mark.real
async def test_a_killed_server_comes_back_with_its_data_and_its_port(paths: Paths) -> None:
    access = nats.prepare(paths)
    supervisor = Supervisor()
    server = supervisor.run(nats.launch(paths, access))
    await server.ready.wait()
    client = await nats_client.connect(access.url)
    store = await client.jetstream().create_key_value(bucket="kept")
    await store.put("key", b"value")

    server.kill()
    server.ready.clear()
    await server.ready.wait()
    again = await nats_client.connect(access.url)
    entry = await (await again.jetstream().key_value("kept")).get("key")
    assert entry.value == b"value"
    assert server.restarts == 1
    await client.close()
    await again.close()
    await supervisor.stop_all()
    assert not await nats.answers(access.port)
