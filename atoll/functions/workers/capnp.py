"""workerd's configuration for one function, as text in Cap'n Proto's own syntax.

Services of a host: the function; `outbound` and `cache`, its only two ways out, which lead to the edge's
bindings socket under header fields that workerd sets and the function cannot; `ping`, which runs no code of
anyone but shares the process' one event loop, so that it answers only while the function lets go of it; and
`internet` allowing nothing, so that nothing reaches for the machine's network or its certificates. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Final

import msgspec

from atoll.config.spec import BundleManifest

MAIN_SOCKET: Final = "main"
PING_SOCKET: Final = "ping"
CF_HEADER: Final = "CF-Blob"
PROTO_HEADER: Final = "X-Forwarded-Proto"

_MODULE_KINDS: Final = {
    ".js": "esModule",
    ".mjs": "esModule",
    ".wasm": "wasm",
    ".bin": "data",
    ".txt": "text",
    ".html": "text",
    ".sql": "text",
    ".json": "json",
}


class HostConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration is made of. Paths are absolute, as the process will see them."""

    manifest: BundleManifest
    owner: str  # "<tenant>/<name>/<version>": what the edge is told of whom it serves
    bindings_socket: str
    script: str  # the service worker with the prelude, or the entry module
    prelude: str  # the prelude as a module; unused by service workers
    bundle: str  # the unpacked bundle's directory
    ping: str  # an empty directory
    heap_mb: int


def render(host: HostConfig) -> str:
    """The configuration's text."""
    services = ",\n    ".join((_internet(), _ping(host), *_outbound(host), _function(host)))
    name = _text(host.manifest.main)
    return f"""using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    {services}
  ],
  sockets = [
    (name = "{MAIN_SOCKET}", service = {name},
     http = (cfBlobHeader = "{CF_HEADER}", forwardedProtoHeader = "{PROTO_HEADER}")),
    (name = "{PING_SOCKET}", service = "atoll:ping", http = ())
  ],
  v8Flags = ["--max-heap-size={host.heap_mb}"]
);
"""


def _internet() -> str:
    return '(name = "internet", network = (allow = []))'


def _ping(host: HostConfig) -> str:
    return f'(name = "atoll:ping", disk = (path = {_text(host.ping)}))'


def _outbound(host: HostConfig) -> Iterable[str]:
    address = _text(f"unix:{host.bindings_socket}")
    for service in ("outbound", "cache"):
        injected = _headers({"Atoll-Service": service, "Atoll-Function": host.owner})
        http = f'(style = proxy, cfBlobHeader = "{CF_HEADER}", injectRequestHeaders = [{injected}])'
        yield f'(name = "atoll:{service}", external = (address = {address}, http = {http}))'


def _headers(fields: Mapping[str, str]) -> str:
    return ", ".join(f"(name = {_text(name)}, value = {_text(value)})" for name, value in fields.items())


def _function(host: HostConfig) -> str:
    manifest = host.manifest
    flags = ", ".join(_text(flag) for flag in _flags(manifest))
    bindings = ", ".join(_binding(name, value) for name, value in manifest.vars.items())
    return f"""(name = {_text(manifest.main)}, worker = (
      {_source(host)},
      compatibilityDate = {_text(manifest.compatibility_date)},
      compatibilityFlags = [{flags}],
      bindings = [{bindings}],
      globalOutbound = "atoll:outbound",
      cacheApiOutbound = "atoll:cache"))"""


def _flags(manifest: BundleManifest) -> tuple[str, ...]:
    """A service worker's console reaches the log only under the newer module registry."""
    flags = manifest.compatibility_flags
    own = manifest.syntax == "service-worker" and not any("module_registry" in flag for flag in flags)
    return (*flags, "new_module_registry") if own else flags


def _source(host: HostConfig) -> str:
    if host.manifest.syntax == "service-worker":
        return f"serviceWorkerScript = embed {_text(host.script)}"
    modules = [
        _module("atoll:main", "esModule", host.script),
        _module("atoll:prelude", "esModule", host.prelude),
        *(_module(name, _module_kind(name), f"{host.bundle}/{name}") for name in host.manifest.files),
    ]
    return f"modules = [{', '.join(modules)}]"


def _module(name: str, kind: str, path: str) -> str:
    return f"(name = {_text(name)}, {kind} = embed {_text(path)})"


def _module_kind(name: str) -> str:
    return _MODULE_KINDS.get(PurePath(name).suffix, "data")


def _binding(name: str, value: object) -> str:
    if isinstance(value, str):
        return f"(name = {_text(name)}, text = {_text(value)})"
    return f"(name = {_text(name)}, json = {_text(json.dumps(value, separators=(',', ':')))})"


def _text(value: str) -> str:
    """A Cap'n Proto text literal: what is not plain ASCII goes as bytes of its UTF-8."""
    plain = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in value.encode()
    )
    return f'"{"".join(plain)}"'
