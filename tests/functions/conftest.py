"""Fixtures of the functions' tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from function_hosts import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A place for hosts; its path is short, as those of unix sockets have to be."""
    home = Path(tempfile.mkdtemp(prefix="atoll-fn-"))
    try:
        async with Bench(home) as ready:
            yield ready
    finally:
        shutil.rmtree(home)
