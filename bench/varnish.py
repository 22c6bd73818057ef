"""Varnish as a peer: one pool of threads on one core, objects in memory, Debian's package.

As Debian installs it: the built-in VCL, and varnishncsa writes the access log, on the same core and counted.
Left out: TLS, which Varnish leaves to others. It compiles its configuration and needs a C compiler for that.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from atoll.errors import AtollError
from atoll.lab.tools import Tool
from atoll.node.listeners import free_port
from bench import machine
from bench.machine import SERVER_CORE
from bench.targets import CACHE_BYTES, wait_listening

COMPILERS: Final = ("gcc", "cc")
_VCL: Final = """vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{origin}"; }}
"""
_PARAMETERS: Final = (
    "thread_pools=1",
    "thread_pool_min=100",
    "thread_pool_max=1000",
    "feature=+http2",
    "listen_depth=4096",
    "nuke_limit=1000",  # its default answers 503 where a large object needs the room of many small ones
    "h2_max_concurrent_streams=100",
)
_READY_S: Final = 15.0


class Varnish:
    """`varnishd` and `varnishncsa`."""

    name = "varnish"
    https_port = 0
    lacks: Mapping[str, str] = {"tls": "Varnish speaks no TLS"}

    def __init__(
        self,
        tools: Mapping[str, Tool],
        folder: Path,
        origin_port: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if not any(shutil.which(name) for name in COMPILERS):
            raise AtollError("Varnish needs a C compiler for its configuration", hint="apt-get install gcc")
        folder.mkdir()
        self.http_port = self.h2c_port = free_port(0)
        (folder / "bench.vcl").write_text(_VCL.format(origin=origin_port))
        daemon, log = tools["varnishd"], folder / "varnish.log"
        self._processes = [
            machine.start(SERVER_CORE, self._argv(daemon, folder, cache_bytes), log, daemon.env)
        ]
        wait_listening(self.http_port, "varnish", self._processes[0], log)
        argv = [str(tools["varnishncsa"].path), "-n", str(folder / "run"), "-w", str(folder / "access.log")]
        self._processes.append(
            machine.start(SERVER_CORE, argv, folder / "varnishncsa.log", tools["varnishncsa"].env)
        )
        self._pids = self._find(folder)

    def _argv(self, tool: Tool, folder: Path, cache_bytes: int) -> list[str]:
        settings = list(_PARAMETERS)
        if tool.root is not None:
            vmods = next(tool.root.glob("usr/lib/*/varnish/vmods"))
            settings += [f"vmod_path={vmods}", f"vcl_path={tool.root / 'etc/varnish'}"]
        jail = ["-j", "none"]  # it would change its user, which needs one of its own
        options = ["-F", *jail, "-n", str(folder / "run"), "-f", str(folder / "bench.vcl")]
        listening = ["-a", f"127.0.0.1:{self.http_port}", "-s", f"malloc,{cache_bytes}"]
        return [str(tool.path), *options, *listening, *(word for each in settings for word in ("-p", each))]

    def _find(self, folder: Path) -> list[int]:
        """The process that serves, which its parent starts, and the one that logs."""
        deadline_s = monotonic() + _READY_S
        daemon, logger = self._processes
        while monotonic() < deadline_s:
            serving = machine.children(daemon.pid, b"")
            if serving:
                return [*serving, logger.pid]
            sleep(0.02)
        raise AtollError("varnish did not start", hint=(folder / "varnish.log").read_text()[-400:])

    def pids(self) -> Sequence[int]:
        """See `Target.pids`."""
        return self._pids

    def stop(self) -> None:
        """See `Target.stop`."""
        for process in reversed(self._processes):
            machine.stop(process)
