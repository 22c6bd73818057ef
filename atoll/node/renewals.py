"""Keeps certificates from ending: looks every minute, and orders in a thread what is due.

Runs in the control API's process. Nothing that serves waits for it; what fails is logged, written into the
certificate's record and tried again later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, Never

from atoll.control import issuance
from atoll.control.certificate_store import CertificateStore, Record
from atoll.errors import AtollError

INTERVAL_S: Final = 60.0

_log = logging.getLogger("atoll.certificates")


class Renewals:
    """The certificates of one network."""

    def __init__(self, store: CertificateStore, interval_s: float = INTERVAL_S) -> None:
        self._store = store
        self._interval_s = interval_s

    async def run(self) -> Never:
        """Look after them for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def look(self) -> tuple[str, ...]:
        """One round; the ids of what was renewed."""
        now_s = time.time()
        records, troubles = await asyncio.to_thread(self._store.readable)
        for trouble in troubles:
            _log.error("%s", trouble)
        for record in issuance.to_ask(records, now_s):
            await asyncio.to_thread(self._ask, record)
        records, _ = await asyncio.to_thread(self._store.readable)
        renewed = []
        for record in issuance.due(records, now_s):
            if await asyncio.to_thread(self._renew, record):
                renewed.append(record.id)
        return tuple(renewed)

    def _ask(self, record: Record) -> None:
        try:
            issuance.ask_suggestion(self._store, record.id)
        except (AtollError, OSError) as error:  # of a disk, too: the others have their turn
            _log.warning("%s: no suggestion when to renew it: %s", record.id, error)

    def _renew(self, record: Record) -> bool:
        try:
            issuance.renew(self._store, record.id)
        except (AtollError, OSError) as error:
            days = (record.not_after_s - time.time()) / 86_400
            _log.error("%s was not renewed, it lasts %.1f days more: %s", record.id, days, error)
            return False
        _log.info("%s renewed", record.id)
        return True
