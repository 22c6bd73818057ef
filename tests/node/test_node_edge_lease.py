"""What a worker promises on strict routes before its agent has said what it may promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from networks import network, pop

from atoll.config.spec import Snapshot
from atoll.node.edge import Worker
from atoll.node.role import RoleConfig
from atoll.node.serve_worker import ServeWorker
from atoll.wire.messages import PurgeUpdate

HERE = pop("nrt", 0)


@pytest_asyncio.fixture(params=[Worker, ServeWorker])
async def worker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Worker]:
    config = RoleConfig(
        role="edge", home=str(tmp_path), run=str(tmp_path / "run"), token=str(tmp_path / "token"), pop=HERE
    )
    made = request.param(config, Snapshot(seq=1, pop=HERE, network=network(HERE)))
    yield made
    made.edge.origins.close()
    made.log.close()
    if made.disk is not None:
        made.disk.close()


async def test_a_worker_with_an_agent_waits_for_its_word(worker: Worker) -> None:
    """Its disk may be from before purges that were acknowledged while it was away."""
    alone = isinstance(worker, ServeWorker)
    assert worker.edge.lease.holds() is alone
    worker.edge.purge(PurgeUpdate(lease_until_s=float("inf")))
    assert worker.edge.lease.holds()
