"""What one function host consists of: the files it needs, its configuration, its sandbox and its sockets.

A plan is a value made from a manifest and a few paths: no file is touched here. `process.py` carries it out.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from atoll.config.spec import BundleManifest
from atoll.errors import AtollError
from atoll.functions.sandbox.launch import Sandbox
from atoll.functions.workers import capnp

MEMORY_MB: Final = 128
BASE_DATA_MB: Final = (
    560  # private writable memory that workerd sets aside before it runs anything (measured)
)
OPEN_FILES: Final = 65536  # two for a request that waits for an answer of its own
LARGEST_FILE: Final = 16 * 1024 * 1024  # of its log, however fast it writes: what is beyond is lost
LONGEST_SOCKET_PATH: Final = 100

PRELUDE: Final = resources.files(__package__).joinpath("prelude.js").read_text(encoding="utf-8")
ENTRY: Final = resources.files(__package__).joinpath("entry.js").read_text(encoding="utf-8")

_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_STRICT: Final = re.compile(r"(?:\s|//[^\n]*\n|/\*.*?\*/)*(?:\"use strict\"|'use strict')", re.DOTALL)


class HostId(msgspec.Struct, frozen=True):
    """Which function, and which version of it, a host runs."""

    tenant: str
    function: str
    version: str

    @staticmethod
    def parse(text: str) -> HostId:
        """`<tenant>.<function>.<version>`, as in `EnsureHost`.

        Raises:
            AtollError: it is not of that form.
        """
        parts = text.split(".")
        if len(parts) != 3 or not all(parts):
            raise AtollError(f"{text!r} is no host's id", hint="<tenant>.<function>.<version>", where="id")
        return HostId(*parts)

    @property
    def owner(self) -> str:
        """What the edge reads in `Atoll-Function`."""
        return f"{self.tenant}/{self.function}/{self.version}"

    @property
    def short(self) -> str:
        """A name short enough for a socket's path."""
        return hashlib.sha256(self.owner.encode()).hexdigest()[:12]


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is needed to start a host, again and again."""

    id: HostId
    directory: Path  # made for the host: configuration, scripts, its root
    socket: Path  # where it serves
    ping_socket: Path
    folders: tuple[Path, ...]
    files: dict[Path, bytes]
    argv: tuple[str, ...]  # without the sockets' descriptors: see `command`
    env: dict[str, str]
    binds: tuple[str, ...]
    limits: dict[str, int]

    def command(self, main_fd: int, ping_fd: int) -> list[str]:
        """The argv of a host that inherits these listening sockets."""
        sockets = (f"{capnp.MAIN_SOCKET}={main_fd}", f"{capnp.PING_SOCKET}={ping_fd}")
        return [*self.argv, *(part for socket in sockets for part in ("--socket-fd", socket))]

    def sandbox(self, main_fd: int, ping_fd: int, *, namespaces: bool) -> Sandbox:
        """What the launcher is told."""
        return Sandbox(
            argv=self.command(main_fd, ping_fd),
            env=self.env,
            cwd=str(self.directory),
            root=str(self.directory / "root"),
            binds=list(self.binds),
            limits=self.limits,
            namespaces=namespaces,
        )


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Where hosts of a PoP live."""

    run_dir: Path  # for sockets and configurations: the PoP's `fn` folder
    bindings_socket: Path
    workerd: Path
    libraries: tuple[str, ...]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """An unpacked bundle, as far as a plan asks."""

    manifest: BundleManifest
    directory: Path
    main: str  # the text of its main file


def plan(host_id: HostId, bundle: Loaded, around: Surroundings, memory_mb: int = MEMORY_MB) -> HostPlan:
    """The plan of one host.

    Raises:
        AtollError: a socket's path would be too long for the kernel.
    """
    directory = around.run_dir / f"{host_id.short}.d"
    config = directory / "config.capnp"
    return HostPlan(
        id=host_id,
        directory=directory,
        socket=_socket(around.run_dir / f"{host_id.short}.sock"),
        ping_socket=_socket(ping_socket(around.run_dir / f"{host_id.short}.sock")),
        folders=(directory / "ping", directory / "root"),
        files=_files(host_id, bundle, directory, around, memory_mb),
        argv=(str(around.workerd), "serve", "--import-path", "/", str(config), "config"),
        env={},
        binds=_binds(bundle.directory, directory, around),
        limits={
            "NOFILE": OPEN_FILES,
            "FSIZE": LARGEST_FILE,
            "CORE": 0,
            "DATA": (BASE_DATA_MB + 2 * memory_mb) * 1024 * 1024,
        },
    )


def ping_socket(socket: Path) -> Path:
    """Where the host that serves on `socket` says that it lives."""
    return socket.with_suffix(".ping")


def _socket(path: Path) -> Path:
    if len(str(path)) > LONGEST_SOCKET_PATH:
        raise AtollError(
            "a socket's path is too long for the kernel", hint="use a shorter folder", where=str(path)
        )
    return path


def _binds(bundle_dir: Path, directory: Path, around: Surroundings) -> tuple[str, ...]:
    paths = (around.workerd, *around.libraries, bundle_dir, around.bindings_socket)
    inside = (directory / name for name in ("config.capnp", "script.js", "prelude.js", "ping"))
    return tuple(str(path) for path in (*paths, *inside))


def _files(
    host_id: HostId, bundle: Loaded, directory: Path, around: Surroundings, memory_mb: int
) -> dict[Path, bytes]:
    config = capnp.HostConfig(
        manifest=bundle.manifest,
        owner=host_id.owner,
        bindings_socket=str(around.bindings_socket),
        script=str(directory / "script.js"),
        prelude=str(directory / "prelude.js"),
        bundle=str(bundle.directory),
        ping=str(directory / "ping"),
        heap_mb=memory_mb,
    )
    texts = {
        "config.capnp": capnp.render(config),
        "script.js": script(bundle.manifest, bundle.main),
        "prelude.js": PRELUDE,
    }
    return {directory / name: text.encode() for name, text in texts.items()}


def script(manifest: BundleManifest, main: str) -> str:
    """The script that workerd starts with: `main` is the text of the bundle's main file.

    A service worker gets the prelude in front of its first line, so that every line keeps its number; a
    directive that has to come first still does. Modules get an entry module that imports both.
    """
    if manifest.syntax == "modules":
        return ENTRY.replace('"MAIN"', f'"{manifest.main}"')
    strict = '"use strict";' if _STRICT.match(main) else ""
    return f"{strict}{one_line(PRELUDE)}{main}"


def one_line(text: str) -> str:
    """JavaScript with closed statements and block comments only, without its line breaks."""
    return " ".join(_COMMENT.sub(" ", text).split()) + " "
