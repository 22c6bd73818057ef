"""Does this PoP serve? The probe of its own address, and what its supervisor knows when that is late.

An overloaded edge and a dead one look alike from outside: the supervisor holds the listening sockets, so a
connection is taken in either case and nobody answers. Only the supervisor can tell, so it decides what is
hard: no edge worker serves, twice in a row, because one that restarts is back in between. An answer that is
late while a worker runs is overload, which is soft. The supervisor is asked only when the probe is late: a
PoP that is well is never troubled.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from atoll.anycast import probe
from atoll.anycast.health import Verdict
from atoll.anycast.probe import Finding
from atoll.config.spec import PopSpec
from atoll.errors import AtollError
from atoll.wire import frames
from atoll.wire.messages import GetProcesses, Processes

LATE_S: Final = 0.1
"""An edge that answers later than this is looked into."""

ABSENT_LOOKS: Final = 2

_EDGE: Final = "edge-"
_H3: Final = "edge-h3"  # of no use to users of TCP


class Looks:
    """One look after the other at a PoP; counts those that found no edge worker."""

    def __init__(self, pop: PopSpec, supervisor: Path, timeout_s: float = probe.TIMEOUT_S) -> None:
        self._pop = pop
        self._supervisor = supervisor
        self._timeout_s = timeout_s
        self._absent = 0

    async def look(self) -> Finding:
        """What is so now, in at most the probe's timeout."""
        asked = asyncio.ensure_future(probe.check(self._pop.address, self._pop.http_port, self._timeout_s))
        try:
            await asyncio.wait({asked}, timeout=min(LATE_S, self._timeout_s))
            if asked.done() and asked.result().verdict is not Verdict.SILENT:
                self._absent = 0
                return asked.result()
            serving = await self._edge_serves()
            self._absent = self._absent + 1 if serving is False else 0
            if serving is False:
                return self._absence()
            return judged(await asked, serving)
        finally:
            asked.cancel()

    def _absence(self) -> Finding:
        if self._absent < ABSENT_LOOKS:
            return Finding(Verdict.WRONG, "no edge worker serves just now")
        return Finding(Verdict.REFUSED, "no edge worker serves")

    async def _edge_serves(self) -> bool | None:
        """Whether the supervisor has an edge worker that serves; None when it does not say."""
        try:
            reply = await frames.ask(self._supervisor, GetProcesses(), self._timeout_s)
        except (OSError, AtollError):
            return None
        assert isinstance(reply, Processes)
        return any(
            info.name.startswith(_EDGE) and info.name != _H3 and info.state == "ready"
            for info in reply.processes
        )


def judged(finding: Finding, serving: bool | None) -> Finding:
    """A late probe's `finding` in the light of what the supervisor said."""
    if serving and finding.verdict is Verdict.SILENT:
        return Finding(Verdict.WRONG, f"{finding.detail}, though an edge worker runs: overload")
    return finding
