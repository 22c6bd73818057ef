"""Before a PoP is announced its functions answer: a new edge worker passes no health check until they do.

A host that does not come up must not keep the PoP dark: after a while the worker is fit without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from atoll.functions.workers.heartbeat import Pulse
from atoll.functions.workers.host import ping_socket

PATIENCE_S: Final = 5.0
_ASK_S: Final = 0.1

_log = logging.getLogger("atoll.edge")


async def until_warm(sockets: Iterable[str], patience_s: float = PATIENCE_S) -> None:
    """Wait until a host answers behind each of these sockets, `patience_s` at most."""
    waiting = {asyncio.ensure_future(_until_answered(ping_socket(Path(path)))): path for path in sockets}
    if not waiting:
        return
    _, late = await asyncio.wait(waiting, timeout=patience_s)
    for task in late:
        task.cancel()
        _log.warning("fit without %s: its host has not answered within %g s", waiting[task], patience_s)
    await asyncio.gather(*late, return_exceptions=True)


async def _until_answered(path: Path) -> None:
    while True:
        pulse = Pulse(path)
        try:
            async with asyncio.timeout(_ASK_S):
                await pulse.first_answer()
                return
        except TimeoutError:
            continue
        finally:
            pulse.close()
