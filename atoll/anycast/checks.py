"""Checks of a service that is not Atoll's own edge: an HTTP request, a TCP connection, a command."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from atoll.anycast import probe
from atoll.anycast.config_file import CheckTable
from atoll.anycast.health import Verdict
from atoll.anycast.probe import Finding
from atoll.errors import AtollError

Look = Callable[[], Awaitable[Finding]]
MAX_WORDS: Final = 200  # of what a command says about its failure


class Checks:
    """One look after the other, as `[check]` says."""

    def __init__(self, check: CheckTable) -> None:
        self._timeout_s = check.timeout_ms / 1000
        self._check = check
        self._look: Look = self._http if check.http else self._tcp if check.tcp else self._command

    async def look(self) -> Finding:
        """What is so now, in at most the timeout."""
        return await self._look()

    async def _http(self) -> Finding:
        url = urlsplit(self._check.http)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        host = self._check.host or url.netloc
        return await probe.check(url.hostname or "", url.port or 80, self._timeout_s, host, target)

    async def _tcp(self) -> Finding:
        host, _, port = self._check.tcp.rpartition(":")
        try:
            async with asyncio.timeout(self._timeout_s):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except TimeoutError:
            return Finding(Verdict.SILENT, f"no connection within {self._timeout_s:g} s")
        except ConnectionRefusedError:
            return Finding(Verdict.REFUSED, "connection refused")
        except OSError as error:
            return Finding(Verdict.SILENT, error.strerror or str(error))
        writer.transport.abort()
        return Finding(Verdict.PASS, "connected")

    async def _command(self) -> Finding:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._check.command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True
            )
        except OSError as error:
            raise AtollError(
                f"the check cannot be run: {error.strerror}", where=self._check.command[0]
            ) from error
        try:
            async with asyncio.timeout(self._timeout_s):
                _, said = await process.communicate()
        except TimeoutError:
            return Finding(Verdict.SILENT, f"the check did not end within {self._timeout_s:g} s")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode == 0:
            return Finding(Verdict.PASS, "exit code 0")
        reason = said.decode(errors="replace").strip()[:MAX_WORDS]
        return Finding(Verdict.WRONG, f"exit code {process.returncode} {reason}".rstrip())
