"""Apache Traffic Server as a peer: one event thread on one core, Debian's package and defaults.

It caches in a file and keeps what is asked for in memory, as much as the file holds; its log is binary and
in squid's format, as delivered. Changed are what a reverse proxy on one core needs: ports, one thread, the
map to the origin, a cached response's freshness from its fields, and keep-alive without an end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from atoll.errors import AtollError
from atoll.lab.tools import Tool
from atoll.node.listeners import free_port
from bench import machine
from bench.machine import SERVER_CORE
from bench.targets import CACHE_BYTES, wait_listening

_RUNROOT: Final = """prefix: {folder}
exec_prefix: {folder}
bindir: {root}/usr/bin
sbindir: {root}/usr/sbin
sysconfdir: {folder}/etc
datadir: {folder}/cache
includedir: {root}/usr/include
libdir: {root}/usr/lib/trafficserver
libexecdir: {root}/usr/lib/trafficserver/modules
localstatedir: {folder}/var
runtimedir: {folder}/var
logdir: {folder}/log
cachedir: {folder}/cache
"""
_RECORDS: Final = """
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.exec_thread.affinity INT 0
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.http.server_ports STRING {http}:ip-in=127.0.0.1 {https}:ip-in=127.0.0.1:ssl
CONFIG proxy.config.net.listen_backlog INT 4096
CONFIG proxy.config.url_remap.pristine_host_hdr INT 1
CONFIG proxy.config.cache.ram_cache.size INT {cache_bytes}
CONFIG proxy.config.cache.ram_cache_cutoff INT 16777216
CONFIG proxy.config.ssl.server.cert.path STRING {pem_folder}
CONFIG proxy.config.ssl.server.private_key.path STRING {pem_folder}
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.body_factory.template_sets_dir STRING {folder}/etc/body_factory
CONFIG proxy.config.http2.max_concurrent_streams_in INT 128
CONFIG proxy.config.http2.stream_error_rate_threshold FLOAT 1.0
"""
_DEFAULTS: Final = Path("/etc/trafficserver")


class TrafficServer:
    """`traffic_server` by itself, without the manager that restarts it."""

    name = "ats"
    h2c_port = 0
    lacks: Mapping[str, str] = {"h2c": "Traffic Server speaks HTTP/2 over TLS only"}

    def __init__(
        self, tool: Tool, folder: Path, origin_port: int, pem: Path, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.http_port, self.https_port = free_port(0), free_port(0)
        for name in ("etc", "var", "log", "cache"):
            (folder / name).mkdir(parents=True)
        root = tool.root or Path("/")
        self._configure(folder, root, origin_port, pem, cache_bytes)
        (folder / "runroot.yaml").write_text(_RUNROOT.format(folder=folder, root=root))
        log = folder / "traffic_server.log"
        env = {**tool.env, "TS_RUNROOT": str(folder / "runroot.yaml")}
        self._process = machine.start(SERVER_CORE, [str(tool.path)], log, env)
        wait_listening(self.http_port, "Traffic Server", self._process, log)

    def _configure(self, folder: Path, root: Path, origin: int, pem: Path, cache_bytes: int) -> None:
        etc = folder / "etc"
        delivered = root / str(_DEFAULTS).lstrip("/")
        if not delivered.is_dir():
            raise AtollError(f"Traffic Server's configuration is not in {delivered}")
        for file in delivered.iterdir():
            if file.is_file():
                (etc / file.name).write_bytes(file.read_bytes())
        (etc / "body_factory").symlink_to(delivered / "body_factory")
        records = _RECORDS.format(
            http=self.http_port,
            https=self.https_port,
            cache_bytes=cache_bytes,
            pem_folder=pem.parent,
            folder=folder,
        )
        with (etc / "records.config").open("a") as file_of_records:
            file_of_records.write(records)  # the last value of a name holds
        (etc / "remap.config").write_text(f"map / http://127.0.0.1:{origin}/\n")
        (etc / "storage.config").write_text(f"{folder / 'cache'} {cache_bytes}\n")
        names = f"ssl_cert_name={pem.name} ssl_key_name={pem.name}"
        (etc / "ssl_multicert.config").write_text(f"dest_ip=* {names}\n")

    def pids(self) -> Sequence[int]:
        """See `Target.pids`."""
        return [self._process.pid]

    def stop(self) -> None:
        """See `Target.stop`."""
        machine.stop(self._process)
