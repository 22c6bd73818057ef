"""Fixtures that more than one part of the tests uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_network import LiveNetwork


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    """A whole network without functions, shared by the tests of a run; each leaves it as it found it."""
    live = LiveNetwork(tmp_path_factory.mktemp("network"))
    try:
        live.up("--no-deploy")
        yield live
    finally:
        assert live.ask("down")["killed"] == []
