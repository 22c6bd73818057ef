"""HAProxy as a peer: one thread on one core, its cache in memory, Debian's package.

It logs each request as Debian's configuration has it (`option httplog`), here to a file. Session tickets are
on as for the others, which Debian's configuration turns off. Its cache answers no ranges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from atoll.lab.tools import Tool
from atoll.node.listeners import free_port
from bench import machine
from bench.machine import SERVER_CORE
from bench.targets import CACHE_BYTES, wait_listening

_MIB: Final = 1024 * 1024
_MOST_MIB: Final = 4095  # HAProxy's own bound
_LARGEST: Final = 16 * _MIB
_CONFIG: Final = """
global
  nbthread 1
  maxconn 8192
  log stdout format raw local0
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  log global
  mode http
  option httplog
  option dontlognull
  timeout connect 5s
  timeout client 75s
  timeout server 50s
cache objects
  total-max-size {mib}
  max-object-size {largest}
  max-age 86400
frontend public
  bind 127.0.0.1:{http} backlog 4096
  bind 127.0.0.1:{h2c} proto h2 backlog 4096
  bind 127.0.0.1:{https} ssl crt {pem} alpn h2,http/1.1 backlog 4096
  http-request cache-use objects
  http-response cache-store objects
  default_backend origin
backend origin
  http-reuse always
  server origin 127.0.0.1:{origin}
"""


class HAProxy:
    """`haproxy` in the foreground."""

    name = "haproxy"
    lacks: Mapping[str, str] = {"range": "HAProxy's cache answers no ranges"}

    def __init__(
        self, tool: Tool, folder: Path, origin_port: int, pem: Path, cache_bytes: int = CACHE_BYTES
    ) -> None:
        folder.mkdir()
        self.http_port, self.https_port, self.h2c_port = free_port(0), free_port(0), free_port(0)
        config = folder / "haproxy.cfg"
        mib = min(_MOST_MIB, cache_bytes // _MIB)
        config.write_text(
            _CONFIG.format(
                mib=mib,
                largest=min(_LARGEST, mib * _MIB // 2),
                http=self.http_port,
                https=self.https_port,
                h2c=self.h2c_port,
                pem=pem,
                origin=origin_port,
            )
        )
        log = folder / "haproxy.log"
        argv = [str(tool.path), "-db", "-f", str(config)]
        self._process = machine.start(SERVER_CORE, argv, log, tool.env)
        wait_listening(self.http_port, "haproxy", self._process, log)

    def pids(self) -> Sequence[int]:
        """See `Target.pids`."""
        return [self._process.pid]

    def stop(self) -> None:
        """See `Target.stop`."""
        machine.stop(self._process)
