"""Tests of the lab run on uvloop, as its processes do."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """The loop of every test in this folder."""
    return {"uvloop": uvloop.new_event_loop}
