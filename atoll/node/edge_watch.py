"""Does an edge worker's event loop still turn? Asked over its control socket, and killed when it does not.

A worker that hangs holds its connections and takes new ones; from outside it looks like one that is merely
overloaded, for which no route is withdrawn. Its control socket tells the two apart: a loop under load comes
round in milliseconds, so one that leaves two questions in a row unanswered for seconds will answer nothing.
Its successor gets the same listening sockets and with them everything that waits there.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final, Never

from atoll.errors import AtollError
from atoll.node.supervisor import Supervised
from atoll.wire import frames
from atoll.wire.messages import GetEdgeStats

INTERVAL_S: Final = 1.0
PATIENCE_S: Final = 1.5
MISSES: Final = 2

_log = logging.getLogger("atoll.pop")


async def watch(
    worker: Supervised, control: Path, interval_s: float = INTERVAL_S, patience_s: float = PATIENCE_S
) -> Never:
    """Look after one worker; a killed one is started again by whoever supervises it."""
    missed = 0
    while True:
        await asyncio.sleep(interval_s)
        pid = worker.pid
        if worker.state != "ready" or await turns(control, patience_s) or worker.pid != pid:
            missed = 0
            continue
        missed += 1
        if missed == MISSES:
            _log.warning("%s (pid %d) hangs: killed", worker.launch.name, pid)
            worker.kill()


async def turns(control: Path, patience_s: float) -> bool:
    """Whether the loop turns. Nobody there is no proof that it hangs: it may be on its way down or up."""
    try:
        async with asyncio.timeout(patience_s):
            await frames.ask(control, GetEdgeStats())
    except TimeoutError:
        return False
    except (OSError, AtollError):
        return True
    return True
