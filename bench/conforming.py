"""Peers set up to cache as correctly as they can, for the conformance table: nginx and Varnish.

What a careful operator would turn on is on: nginx revalidates, collapses and refreshes behind; Varnish keeps
what is stale for revalidation and gives nothing a lifetime that its origin did not. The others are taken as
they are measured. Speed plays no part.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from atoll.lab.tools import Tool
from atoll.node.listeners import free_port
from bench import machine
from bench.machine import SERVER_CORE
from bench.targets import wait_listening
from bench.varnish import Varnish

_NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=objects:16m max_size=1g inactive=1d use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{http} backlog=1024;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_cache objects; proxy_cache_key $scheme$host$request_uri;
      proxy_cache_lock on; proxy_cache_revalidate on; proxy_cache_background_update on;
    }}
  }}
}}
"""
_VARNISH: Final = ("default_ttl=0", "default_grace=0", "default_keep=3600")


class ConformingNginx:
    """nginx with `proxy_cache` and all of its options that make it more correct."""

    name = "nginx"
    template = _NGINX

    def __init__(self, tool: Tool, folder: Path, origin_port: int) -> None:
        folder.mkdir()
        self.http_port = free_port(0)
        config, log = folder / "nginx.conf", folder / "nginx.log"
        config.write_text(self.template.format(folder=folder, origin=origin_port, http=self.http_port))
        argv = [str(tool.path), "-p", str(folder), "-e", str(folder / "nginx-start.log"), "-c", str(config)]
        if os.getuid() == 0:
            argv += ["-g", "user root;"]  # the folders are their owner's alone
        self._process = machine.start(SERVER_CORE, argv, log, tool.env)
        wait_listening(self.http_port, "nginx", self._process, log)

    def stop(self) -> None:
        """End it."""
        machine.stop(self._process, signal.SIGTERM)


class ConformingVarnish(Varnish):
    """Varnish with its built-in VCL, and times that are the origin's alone."""

    def _argv(self, tool: Tool, folder: Path, cache_bytes: int) -> list[str]:
        given: Sequence[str] = super()._argv(tool, folder, cache_bytes)
        return [*given, *(word for each in _VARNISH for word in ("-p", each))]


def start_varnish(tools: Mapping[str, Tool], folder: Path, origin_port: int) -> ConformingVarnish:
    """Varnish on a port of its own."""
    return ConformingVarnish(tools, folder, origin_port)
